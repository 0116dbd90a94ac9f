"""swav: two whole and some small views of each cell in, how badly each view tells the codes of the others out.

SwAV (Caron et al. 2020, arXiv:2006.09882).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cellssl.learning.objectives._shared_settings import MultiCropped, check_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(MultiCropped):
    """Tell to which prototypes the other views belong, the cells being shared out evenly (SwAV, arXiv:2006.09882)."""

    RENAMED: ClassVar[Mapping[str, str]] = {**MultiCropped.RENAMED, "rounds": "n_iterations"}
    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Numbers in a projection."""
    prototypes: int = Field(300, ge=2)
    """The paper's 3,000 are for a thousand classes of photographs."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""
    epsilon: float = Field(0.05, gt=0)
    """How soft codes are."""
    n_iterations: int = Field(3, ge=0)
    """Of Sinkhorn-Knopp, which shares cells out evenly."""
    queue: int = Field(1024, ge=0)
    """Former projections that are shared out together with the batch, once there are so many; worth having where a
    batch has fewer cells than there are prototypes."""
    frozen_epochs: float = Field(1.0, ge=0)
    """Epochs at the beginning in which prototypes stay as they are."""

    def check(self, cells: int) -> None:
        """Raise UsageError where the queue would hold every training cell, most of them as they were epochs ago."""
        check_queue(self.queue, cells, holds="projections", cure=", or to 0,")

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector, prototypes and queues."""
        from cellssl.learning.methods.prototypes import SwAv

        return SwAv(self, task)
