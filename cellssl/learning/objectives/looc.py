"""looc: a query and keys that share the draw of one transform with it in, a loss with one space per transform out.

Leave-one-out contrastive learning (Xiao et al. 2021, arXiv:2008.05659).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from cellssl.learning.objectives._shared_settings import ContrastiveSettings, check_queue, fitted_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


ALGORITHM = 2
"""2: keys that a transform in `sensitive_to` happens to treat like the query are not negatives."""


class Settings(ContrastiveSettings):
    """Learn one space that is invariant to the whole view, and further spaces, each sensitive to one transform (LooC,
    arXiv:2008.05659). embed.layer = "projector" concatenates the spaces (LooC++)."""

    NO_POSITIVES: ClassVar[str] = (
        "a key shares the draw of one transform with the query, and another cell differs in more than that"
    )
    RENAMED: ClassVar[Mapping[str, str]] = {"keep": "sensitive_to"}
    sensitive_to: tuple[str, ...] = Field(("color_jitter",), min_length=1)
    """Transforms of the view, by name; for each there is a space that stays sensitive to it."""
    hidden_dim: int = Field(512, ge=1)
    """Width of the hidden layer of each projector."""
    dim: int = Field(128, ge=2)
    """Size of a projection in each space."""
    queue: int = Field(1024, ge=1)
    """Number of former keys that serve as negatives, in each space. Where the recipe does not name it, fewer training
    cells get a shorter one."""
    temperature: float = Field(0.2, gt=0)
    """Similarities are divided by it before the softmax."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum of the key encoder: the nearer to 1, the more slowly it follows the query encoder."""
    mask_same_cell: bool = False
    """Do not use former keys of a cell as negatives of the same cell."""

    @field_validator("sensitive_to")
    @classmethod
    def _each_once(cls, sensitive_to: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sensitive_to)) < len(sensitive_to):
            raise ValueError("must name each transform once")
        return sensitive_to

    def check(self, cells: int) -> None:
        """Raise UsageError where the queue would hold every training cell as its own negative."""
        if not self.mask_same_cell:
            check_queue(self, self.queue, cells, holds="keys", cure=", or mask_same_cell = true,")

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def fitted_queue(self, cells: int, batch: int) -> int:
        """Return the length of the queue for so many training cells."""
        return self.queue if self.mask_same_cell else fitted_queue(self.queue, cells, batch)

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projectors and queues."""
        from cellssl.learning.methods.looc import LooC

        return LooC(
            context,
            sensitive_to=self.sensitive_to,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            queue_size=self.fitted_queue(len(context.cells), context.batch),
            momentum=self.momentum,
            mask_same_cell=self.mask_same_cell,
            options=self.options(self.temperature),
        )
