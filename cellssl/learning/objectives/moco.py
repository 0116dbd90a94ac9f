"""moco: features of two views of each cell from two encoders in, InfoNCE against a queue of former keys out.

MoCo v2 (Chen et al. 2020, arXiv:2003.04297). With `symmetric` it is what is called MoCo v2+: each view is once the
query and once the key, and each kind of key has its own queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import ContrastiveSettings, check_queue, fitted_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ContrastiveSettings):
    """Recognise the other view of the same cell among former cells (MoCo v2, arXiv:2003.04297)."""

    hidden_dim: int = Field(512, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Size of a projection."""
    queue: int = Field(1024, ge=1)
    """Number of former keys that serve as negatives, in each queue. Where the recipe does not name it, fewer training
    cells get a shorter one."""
    temperature: float = Field(0.07, gt=0)
    """Similarities are divided by it before the softmax."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum of the key encoder: the nearer to 1, the more slowly it follows the query encoder."""
    symmetric: bool = True
    """Use each view once as query and once as key (MoCo v2+); if false, the first view is the query (MoCo v2)."""
    mask_same_cell: bool = False
    """Do not use former keys of a cell as negatives of the same cell."""

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
        """Build the objective with its own projector and queues."""
        from cellssl.learning.methods.moco import Moco

        return Moco(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            queue_size=self.fitted_queue(len(context.cells), context.batch),
            momentum=self.momentum,
            symmetric=self.symmetric,
            mask_same_cell=self.mask_same_cell,
            options=self.options(self.temperature),
        )
