"""moco: two views of each cell as two encoders represent them in, InfoNCE against a queue of former keys out.

MoCo v2 (Chen et al. 2020, arXiv:2003.04297), and with `symmetric` what is called MoCo v2+: each view is query once and
key once, and each kind of key has a queue of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import Contrastive

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(Contrastive):
    """Recognise the other view of the same cell among former cells (MoCo v2, arXiv:2003.04297)."""

    hidden_dim: int = Field(512, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Numbers in a projection."""
    queue: int = Field(1024, ge=1)
    """Former keys that serve as negatives, in each queue."""
    temperature: float = Field(0.07, gt=0)
    """Similarities are divided by it before the softmax."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """How slowly the key encoder follows the query encoder."""
    symmetric: bool = True
    """Each view is query once and key once (MoCo v2+); otherwise the first is the query (MoCo v2)."""
    mask_same_cell: bool = False
    """A cell's own former keys are not its negatives."""

    def check(self, cells: int) -> None:
        """Raise UsageError where the queue would hold every training cell as its own negative."""
        from cellssl.errors import UsageError

        if self.queue >= cells and not self.mask_same_cell:
            raise UsageError(
                f"a queue of {self.queue:,} keys is not smaller than the {cells:,} training cells, "
                "so every cell would be its own negative",
                hint=f"set queue below {cells:,}, or mask_same_cell = true, in the branch's objective",
            )

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector and queues."""
        from cellssl.learning.methods.moco import Moco

        return Moco(self, task.in_dim, task.seed, task.branch)
