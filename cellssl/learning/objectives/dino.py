"""dino: two whole and some small views of each cell in, how badly a student tells its slow twin's answers out.

DINO (Caron et al. 2021, arXiv:2104.14294), with a constant momentum and a constant temperature of the teacher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import MultiCropped

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(MultiCropped):
    """Tell what a slow twin says of other views, its answers centred and sharpened (DINO, arXiv:2104.14294)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(256, ge=2)
    """Numbers in a projection."""
    prototypes: int = Field(4096, ge=2)
    """Numbers in an answer."""
    temperature: float = Field(0.1, gt=0)
    """Of the student."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Of the teacher: sharper."""
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    """How slowly the mean answer, which is taken off, follows."""
    frozen_epochs: float = Field(1.0, ge=0)
    """Epochs at the beginning in which the student's prototypes stay as they are."""
    momentum: float = Field(0.9995, ge=0, lt=1)
    """How slowly the twin follows; a training of few thousand steps needs less, such as 0.99."""

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own heads."""
        from cellssl.learning.methods.prototypes import Dino

        return Dino(self, task)
