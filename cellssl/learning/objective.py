"""objective: what the settings of every file in the room `objectives` can do; knobs in, an objective out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from cellssl.config.settings import Plugin

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
from cellssl.learning.methods.build_context import BuildContext


class ObjectiveSettings(Plugin):
    """The settings of an objective."""

    def columns(self) -> tuple[str, ...]:
        """Columns of the cell table that the loss looks at: they come in `Seen.known`."""
        return ()

    def encoder_momentum(self) -> float | None:
        """Return the momentum of the momentum encoder, which all branches share; None where the objective has none."""
        return None

    def check(self, cells: int) -> None:
        """Raise UsageError for what so many training cells cannot teach."""

    @abstractmethod
    def build(self, task: BuildContext) -> Objective:
        """The objective with its own heads.

        Raises UsageError where the encoder is none that it can teach.
        """
