"""swav: two global views and some local crops of each cell in, the loss of predicting codes across views out.

SwAV (Caron et al. 2020, arXiv:2006.09882).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cellssl.learning.objectives._shared_settings import MultiCropSettings, check_queue, fitted_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(MultiCropSettings):
    """Predict the prototypes of a cell from its other views; cells are assigned evenly to prototypes (SwAV,
    arXiv:2006.09882)."""

    RENAMED: ClassVar[Mapping[str, str]] = {**MultiCropSettings.RENAMED, "rounds": "n_iterations"}
    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Size of a projection."""
    prototypes: int = Field(300, ge=2)
    """Number of prototypes. The paper's 3,000 are for a thousand classes of photographs."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""
    epsilon: float = Field(0.05, gt=0)
    """Softness of the codes."""
    n_iterations: int = Field(3, ge=0)
    """Iterations of Sinkhorn-Knopp, which assigns cells evenly to prototypes."""
    queue: int = Field(1024, ge=0)
    """Number of former projections that are assigned together with the batch, once the queue is full; useful where a
    batch has fewer cells than there are prototypes. Where the recipe does not name it, fewer training cells get
    a shorter one."""
    frozen_epochs: float = Field(1.0, ge=0)
    """Epochs at the start in which the prototypes are not trained."""

    def check(self, cells: int) -> None:
        """Raise UsageError where the queue would hold every training cell, mostly with projections of past epochs."""
        check_queue(self, self.queue, cells, holds="projections", cure=", or to 0,")

    def fitted_queue(self, cells: int, batch: int) -> int:
        """Return the length of the queue for so many training cells."""
        return fitted_queue(self.queue, cells, batch)

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector, prototypes and queues."""
        from cellssl.learning.methods.prototypes import SwAv

        return SwAv(
            context,
            local_crops=self.crops(),
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            prototypes=self.prototypes,
            temperature=self.temperature,
            epsilon=self.epsilon,
            n_iterations=self.n_iterations,
            queue_size=self.fitted_queue(len(context.cells), context.batch),
            frozen_epochs=self.frozen_epochs,
        )
