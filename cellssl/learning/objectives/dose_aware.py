"""dose_aware: two views of each cell and the doses in, a loss that attracts cells of similar doses out.

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
    """Attract cells under similar doses of one compound (y-aware InfoNCE, arXiv:2106.08808). A control, or a cell of
    unknown dose, is attracted by its own other view only."""

    NO_POSITIVES: ClassVar[str] = "it weighs all pairs of cells by their doses already"
    RENAMED: ClassVar[Mapping[str, str]] = {"unrelated": "unrelated_weight"}
    form: Literal["y_aware", "threshold", "exponential"] = "y_aware"
    """`y_aware` weights InfoNCE by the similarity of doses; `threshold` compares each pair with pairs of less similar
    doses only; `exponential` repels two cells the less, the more similar their doses are (the last two:
    arXiv:2211.08326)."""
    sigma_decades: float = Field(0.5, gt=0)
    """Width of the Gaussian kernel in powers of ten of the dose: 0.5 is a factor of 3."""
    unrelated_weight: float = Field(0.0, ge=0, lt=1)
    """Weight of two cells whose doses cannot be compared: of two compounds, or where one is a control. The form
    `threshold` needs a small value above 0, such as 0.01, so that the two views of a control have something to be
    compared with."""
    hidden_dim: int = Field(512, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Size of a projection."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""

    @model_validator(mode="after")
    def _check_threshold(self) -> Settings:
        if self.form == "threshold" and self.unrelated_weight == 0:
            raise ValueError('the form "threshold" needs unrelated_weight above 0, such as 0.01')
        return self

    def metadata_columns(self) -> tuple[str, ...]:
        """Return the columns of compound and dose."""
        return ("compound", "dose_micromolar")

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector."""
        from cellssl.learning.methods.simclr import DoseAware

        return DoseAware(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            temperature=self.temperature,
            form=self.form,
            sigma_decades=self.sigma_decades,
            unrelated_weight=self.unrelated_weight,
        )
