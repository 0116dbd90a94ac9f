"""_shared_settings: the knobs that several objectives share; nothing in, settings to inherit from out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from cellssl.errors import UsageError
from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.contrastive_loss import Options


class Modified(ObjectiveSettings):
    """Implicit feature modification, which every loss on similarities can have beside itself."""

    ifm_epsilon: float = Field(0.0, ge=0, le=2)
    """Implicit feature modification (arXiv:2106.11230): beside the loss stands its twin whose positive is that much
    less similar and whose negatives are that much more so; 0.1 is usual, and 2 takes the most similar to the least."""
    ifm_alpha: float = Field(1.0, ge=0)
    """Weight of the twin: the loss is (L + alpha L_epsilon) / (1 + alpha)."""


class Contrastive(Modified):
    """What every loss of the InfoNCE family can do besides; all of it is off unless it is asked for."""

    margin: float = Field(0.0, ge=0)
    """The positive counts that much less in the denominator, in units of similarity / temperature (ε-InfoNCE,
    arXiv:2211.05568)."""
    decoupled: bool = False
    """The positive is not in the denominator at all (DCL, arXiv:2110.06848)."""
    class_prior: float = Field(0.0, ge=0, lt=1)
    """How likely a negative is of the same kind after all; its share is taken out of the negatives (debiased
    contrastive loss, arXiv:2007.00224)."""
    hardness: float = Field(0.0, ge=0)
    """Negatives weigh exp(hardness * similarity / temperature) (hard negative sampling, arXiv:2010.04592)."""

    @model_validator(mode="after")
    def _margin_has_a_use(self) -> Self:
        if self.decoupled and self.margin > 0:
            raise ValueError("decoupled leaves no positive in the denominator that could have a margin")
        return self

    def options(self, temperature: float) -> Options:
        """The knobs as the losses take them."""
        from cellssl.learning.methods.contrastive_loss import Options

        return Options(
            temperature,
            self.margin,
            self.decoupled,
            self.class_prior,
            self.hardness,
            self.ifm_epsilon,
            self.ifm_alpha,
        )


def check_queue(queue: int, cells: int, *, holds: str, cure: str = "") -> None:
    """Raise UsageError where a queue would hold every training cell; `cure` is what may be done besides."""
    if queue >= cells:
        raise UsageError(
            f"a queue of {queue:,} {holds} is not smaller than the {cells:,} training cells",
            hint=f"set queue below {cells:,}{cure} in the branch's objective",
        )


class MultiCropped(ObjectiveSettings):
    """Small views beside the two whole ones (SwAV, arXiv:2006.09882): cheap, and only the trained encoder sees them."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "small_views": "local_crops",
        "small_side": "local_side",
        "small_scale": "local_scale",
    }
    local_crops: int = Field(4, ge=0)
    """How many, for each cell."""
    local_side: float = Field(0.5, ge=0.05, le=1)
    """Their side, as a share of input_px."""
    local_scale: tuple[float, float] = (0.1, 0.4)
    """Smallest and largest area that they show, as a share of a key view's."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 < self.local_scale[0] <= self.local_scale[1]:
            raise ValueError(f"local_scale must be [low, high] above 0, got {list(self.local_scale)}")
        return self
