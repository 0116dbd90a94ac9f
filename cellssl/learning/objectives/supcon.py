"""supcon: two views of each cell and the cells' labels in, a loss that attracts cells with the same label out.

Supervised contrastive learning (Khosla et al. 2020, arXiv:2004.11362), and ε-SupInfoNCE (Barbano et al. 2023,
arXiv:2211.05568). Labels belong to wells, not to cells: under a compound that changes half of the cells, the other half
is mislabelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from cellssl.learning.objectives._shared_settings import IfmSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(IfmSettings):
    """Attract cells with the same label (SupCon, arXiv:2004.11362); a cell without a label is a class of its own."""

    NO_POSITIVES: ClassVar[str] = "it takes all cells of its `label` as positives already"
    label: str = "label"
    """Column of the cell table: `label` (treated or control, from [split]), `compound`, `moa`, `well` …"""
    form: Literal["sup_con", "epsilon_sup_info_nce"] = "sup_con"
    """`sup_con` averages over positives and has all of them in the denominator; `epsilon_sup_info_nce` sums over
    positives, and compares each of them with the negatives only (arXiv:2211.05568)."""
    margin: float = Field(0.0, ge=0)
    """The ε of epsilon_sup_info_nce, in units of similarity / temperature."""
    hidden_dim: int = Field(512, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Size of a projection."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""

    @model_validator(mode="after")
    def _check_margin(self) -> Settings:
        if self.margin > 0 and self.form == "sup_con":
            raise ValueError('margin belongs to the form "epsilon_sup_info_nce"; "sup_con" has none')
        return self

    def metadata_columns(self) -> tuple[str, ...]:
        """Return the column of the label."""
        return (self.label,)

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector."""
        from cellssl.learning.methods.simclr import SupCon

        return SupCon(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            temperature=self.temperature,
            label=self.label,
            form=self.form,
            margin=self.margin,
            ifm_epsilon=self.ifm_epsilon,
            ifm_alpha=self.ifm_alpha,
        )
