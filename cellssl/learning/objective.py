"""objective: the base class of settings in `objectives`; settings and a BuildContext in, the objective's module out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from cellssl.config.settings import Plugin

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class ObjectiveSettings(Plugin):
    """Settings of an objective.

    An objective with a setting `momentum` uses the momentum encoder, which all branches share; `momentum` says how
    slowly that encoder follows the trained one.
    """

    NO_POSITIVES: ClassVar[str] = ""
    """Why no view can be of another cell, in words that follow "because"; empty where one can be."""
    HAS_NEGATIVES: ClassVar[bool] = False
    """Whether it pushes a cell away from other cells."""

    def metadata_columns(self) -> tuple[str, ...]:
        """Return the columns of the cell table that the loss needs; they arrive in `MethodInput.metadata`."""
        return ()

    def encoder_momentum(self) -> float | None:
        """Return the momentum of the momentum encoder, which all branches share; None where the objective has none."""
        return None

    def check(self, cells: int) -> None:
        """Raise UsageError where the objective cannot be trained on this number of training cells."""

    def fitted_queue(self, cells: int, batch: int) -> int | None:
        """Return the length of its queue for so many training cells; None for an objective without a queue."""
        return None

    @abstractmethod
    def build(self, context: BuildContext) -> Objective:
        """Build the objective's module with its own heads.

        Raises UsageError where the objective cannot train the encoder.
        """
