"""dino: two global views and some local crops of each cell in, the loss of predicting the teacher's output out.

DINO (Caron et al. 2021, arXiv:2104.14294), with a constant momentum and a constant temperature of the teacher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import MultiCropSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(MultiCropSettings):
    """Predict the output of a momentum teacher for other views; the output is centred and sharpened (DINO,
    arXiv:2104.14294)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(256, ge=2)
    """Size of a projection."""
    prototypes: int = Field(4096, ge=2)
    """Size of the output: the number of prototypes."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the student's softmax."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Temperature of the teacher's softmax; a lower value gives sharper targets."""
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of the running mean of the teacher's outputs, which is subtracted from them."""
    frozen_epochs: float = Field(1.0, ge=0)
    """Epochs at the start in which the student's prototypes are not trained."""
    momentum: float = Field(0.9995, ge=0, lt=1)
    """Momentum of the teacher: the nearer to 1, the more slowly it follows. A training of a few thousand steps needs a
    lower value, such as 0.99."""

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own heads."""
        from cellssl.learning.methods.prototypes import Dino

        return Dino(
            context,
            local_crops=self.crops(),
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            prototypes=self.prototypes,
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
            centre_momentum=self.centre_momentum,
            frozen_epochs=self.frozen_epochs,
            momentum=self.momentum,
        )
