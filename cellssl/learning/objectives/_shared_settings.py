"""_shared_settings: settings that several objectives have in common; nothing in, settings to inherit from out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from cellssl.errors import UsageError
from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.contrastive_loss import ContrastiveOptions
    from cellssl.learning.methods.prototypes import LocalCrops


class IfmSettings(ObjectiveSettings):
    """Settings of implicit feature modification, which can be added to every loss on similarities."""

    ifm_epsilon: float = Field(0.0, ge=0, le=2)
    """Implicit feature modification (arXiv:2106.11230): the loss is averaged with a second one, in which the similarity
    of the positive is lower by this value and that of every negative is higher by it. 0.1 is usual, 0 is off; 2 is the
    difference between the largest and the smallest cosine similarity."""
    ifm_alpha: float = Field(1.0, ge=0)
    """Weight of the second loss in implicit feature modification: (L + alpha L_epsilon) / (1 + alpha)."""


class ContrastiveSettings(IfmSettings):
    """Options of all losses of the InfoNCE family; all are off by default."""

    HAS_NEGATIVES: ClassVar[bool] = True
    margin: float = Field(0.0, ge=0)
    """Margin that is subtracted from the score of the positive in the denominator, in units of similarity / temperature
    (ε-InfoNCE, arXiv:2211.05568)."""
    decoupled: bool = False
    """Leave the positive out of the denominator (DCL, arXiv:2110.06848)."""
    class_prior: float = Field(0.0, ge=0, lt=1)
    """Probability that a negative is of the same class after all; the expected share of such negatives is subtracted
    from the denominator (debiased contrastive loss, arXiv:2007.00224)."""
    hardness: float = Field(0.0, ge=0)
    """Weight negatives by exp(hardness * similarity / temperature) (hard negative sampling, arXiv:2010.04592)."""

    @model_validator(mode="after")
    def _check_margin(self) -> Self:
        if self.decoupled and self.margin > 0:
            raise ValueError("margin has no effect with decoupled, which leaves the positive out of the denominator")
        return self

    def options(self, temperature: float) -> ContrastiveOptions:
        """Return these settings in the form that the losses take."""
        from cellssl.learning.methods.contrastive_loss import ContrastiveOptions

        return ContrastiveOptions(
            temperature,
            self.margin,
            self.decoupled,
            self.class_prior,
            self.hardness,
            self.ifm_epsilon,
            self.ifm_alpha,
        )


def fitted_queue(queue: int, cells: int, batch: int) -> int:
    """Return the length of a queue that does not hold every training cell: as given, or the largest that fits.

    A queue that the recipe names and that does not fit never comes here: `check_queue` has refused it. A card names
    every queue with its default, so what a recipe names is not asked for.

    The largest is a multiple of the batch; a batch of more than half of the cells leaves half of them.
    """
    if queue < cells:
        return queue
    return (cells - 1) // batch * batch or max(1, cells // 2)


def check_queue(settings: ObjectiveSettings, queue: int, cells: int, *, holds: str, cure: str = "") -> None:
    """Raise UsageError where the recipe names a queue that would hold every training cell.

    A queue that the recipe does not name is fitted instead. `cure` names an alternative to a shorter queue.
    """
    if queue >= cells and "queue" in settings.model_fields_set:
        raise UsageError(
            f"a queue of {queue:,} {holds} is not smaller than the {cells:,} training cells",
            hint=f"set queue below {cells:,}{cure} in the branch's objective, or leave queue out",
        )


class MultiCropSettings(ObjectiveSettings):
    """Settings of local crops beside the two global views (multi-crop, SwAV, arXiv:2006.09882).

    Local crops cost little, because they are small and only the trained encoder gets them.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "small_views": "local_crops",
        "small_side": "local_side",
        "small_scale": "local_scale",
    }
    local_crops: int = Field(4, ge=0)
    """Number of local crops per cell."""
    local_side: float = Field(0.5, ge=0.05, le=1)
    """Side of a local crop, as a fraction of input_px."""
    local_scale: tuple[float, float] = (0.1, 0.4)
    """Smallest and largest area that a local crop covers, as a fraction of the area of a key view."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 < self.local_scale[0] <= self.local_scale[1]:
            raise ValueError(f"local_scale must be [low, high] above 0, got {list(self.local_scale)}")
        return self

    def crops(self) -> LocalCrops:
        """Return these settings in the form that the modules take."""
        from cellssl.learning.methods.prototypes import LocalCrops

        return LocalCrops(self.local_crops, self.local_side, self.local_scale)
