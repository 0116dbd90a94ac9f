"""ressl: a view for the student and one for the teacher in, how differently they relate a cell to former cells out.

ReSSL (Zheng et al. 2021, arXiv:2107.09282). The paper gives the teacher the weaker views: `views.key` of the branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings
from cellssl.learning.objectives._shared_settings import check_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Relate a cell to former cells as a slow twin does from another view (ReSSL, arXiv:2107.09282); the twin sees
    views.key, which should change less."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(256, ge=2)
    """Numbers in a projection."""
    queue: int = Field(1024, ge=1)
    """Former keys that cells are related to."""
    temperature: float = Field(0.1, gt=0)
    """Of the student."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Of the teacher: sharper."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """How slowly the teacher follows."""

    def check(self, cells: int) -> None:
        """Raise UsageError where every cell would be related to itself."""
        check_queue(self.queue, cells, holds="keys")

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector and queue."""
        from cellssl.learning.methods.ressl import ReSsl

        return ReSsl(self, task)
