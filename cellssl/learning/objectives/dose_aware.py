"""dose_aware: two views of each cell and the doses in, a loss that draws cells of nearby doses together out.

y-aware InfoNCE (Dufumier et al. 2021, arXiv:2106.08808) with the log dose as y, and the threshold and exponential
forms of Barbano et al. 2023 (arXiv:2211.08326).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Draw cells under nearby doses of one compound together (y-aware InfoNCE, arXiv:2106.08808); a control, or a
    cell of unknown dose, resembles only its own other view."""

    RENAMED: ClassVar[Mapping[str, str]] = {"unrelated": "unrelated_weight"}
    form: Literal["y_aware", "threshold", "exponential"] = "y_aware"
    """`y_aware` weights InfoNCE by nearness; `threshold` holds each pair against less near ones only; `exponential`
    repels the less, the nearer (both arXiv:2211.08326)."""
    sigma_decades: float = Field(0.5, gt=0)
    """Width of the Gaussian kernel in powers of ten of the dose: 0.5 is a factor of 3."""
    unrelated_weight: float = Field(0.0, ge=0, lt=1)
    """Weight of two cells that no dose relates: of two compounds, or a control. The form `threshold` needs a little,
    such as 0.01, to hold a control's own view against."""
    hidden_dim: int = Field(512, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Numbers in a projection."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""

    @model_validator(mode="after")
    def _threshold_has_something_below(self) -> Settings:
        if self.form == "threshold" and self.unrelated_weight == 0:
            raise ValueError('the form "threshold" needs unrelated_weight above 0, such as 0.01')
        return self

    def columns(self) -> tuple[str, ...]:
        """Compound and dose."""
        return ("compound", "dose_micromolar")

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector."""
        from cellssl.learning.methods.simclr import DoseAware

        return DoseAware(self, task)
