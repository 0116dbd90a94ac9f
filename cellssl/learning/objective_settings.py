"""objective_settings: what the settings of every file in the room `objectives` can do; knobs in, an objective out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellssl.settings import Part

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings
    from cellssl.learning.objective import Objective


@dataclass(frozen=True)
class Task:
    """What an objective is built for: the representations it is shown, and the training around it."""

    in_dim: int
    """Numbers in a representation."""
    seed: int
    branch: str
    """First weights follow from the seed and from names that begin with the branch's."""
    cells: Int64[Tensor, "n"]
    """The keys of all training cells."""
    batch: int
    """Cells a step."""
    channels: int
    side_px: int
    encoder: EncoderSettings | None = None

    @property
    def epoch_steps(self) -> int:
        """Steps after which every training cell has been seen once more."""
        return -(-len(self.cells) // self.batch)


class ObjectiveSettings(Part):
    """The settings of an objective. One that has a knob `momentum` says with it how slowly the momentum encoder,
    of which there is one for all branches, follows."""

    def columns(self) -> tuple[str, ...]:
        """Columns of the cell table that the loss looks at: they come in `Seen.known`."""
        return ()

    def check(self, cells: int) -> None:
        """Raise UsageError for what so many training cells cannot teach."""

    @abstractmethod
    def build(self, task: Task) -> Objective:
        """The objective with its own heads.

        Raises UsageError where the encoder is none that it can teach.
        """
