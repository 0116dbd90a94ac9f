"""looc: a query, and keys that share one transform's draw with it, in; a loss that keeps those transforms apart out.

Leave-one-out contrastive learning (Xiao et al. 2021, arXiv:2008.05659).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from cellssl.learning.objectives._shared_settings import Contrastive, check_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


ALGORITHM = 2  # 2: keys that a transform kept happens to treat as it does the query are no negatives


class Settings(Contrastive):
    """Ignore the whole view in one space, and all but one transform in each further one (LooC, arXiv:2008.05659);
    embed.layer = "projector" puts the spaces side by side (LooC++)."""

    RENAMED: ClassVar[Mapping[str, str]] = {"keep": "sensitive_to"}
    sensitive_to: tuple[str, ...] = Field(("color_jitter",), min_length=1)
    """Transforms of the view, by name, each of which gets a space that stays sensitive to it."""
    hidden_dim: int = Field(512, ge=1)
    """Width of each projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Numbers in a projection, in each space."""
    queue: int = Field(1024, ge=1)
    """Former keys that serve as negatives, in each space."""
    temperature: float = Field(0.2, gt=0)
    """Similarities are divided by it before the softmax."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """How slowly the key encoder follows the query encoder."""
    mask_same_cell: bool = False
    """A cell's own former keys are not its negatives."""

    @field_validator("sensitive_to")
    @classmethod
    def _each_once(cls, sensitive_to: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sensitive_to)) < len(sensitive_to):
            raise ValueError("must name each transform once")
        return sensitive_to

    def check(self, cells: int) -> None:
        """Raise UsageError where the queue would hold every training cell as its own negative."""
        if not self.mask_same_cell:
            check_queue(self.queue, cells, holds="keys", cure=", or mask_same_cell = true,")

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projectors and queues."""
        from cellssl.learning.methods.looc import LooC

        return LooC(self, task)
