"""timm: crops in, one vector per cell out, computed by any network of the library timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from cellssl.learning.encoders._timm import TimmSettings

RESERVED = (
    *("num_classes", "in_chans", "features_only", "scriptable", "exportable", "no_jit"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
)
"""Arguments of timm.create_model that follow from the crops and from `weights`, so that users cannot set them."""


class Settings(TimmSettings):
    """Any network of timm without its classifier. Dropout and stochastic depth are off: their random numbers would come
    from torch's own generator, whose state is not part of a checkpoint. Needs pip install "cellssl[timm]"."""

    model: str
    """Name of the network in timm, such as "tf_efficientnet_lite0"; "resnet50.a1_in1k" also chooses the weights."""
    options: dict[str, bool | int | float | str | list[int] | list[float]] = Field(default_factory=dict)
    """Further arguments of timm.create_model, such as { dynamic_img_size = true } for a ViT on crops of any size."""

    @field_validator("options")
    @classmethod
    def _not_reserved(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in RESERVED:
                raise ValueError(f"{name} cannot be set: it follows from the crops and from weights")
            if "drop" in name:
                raise ValueError(
                    f"{name} cannot be set: randomness within the network is off, so that a resumed training is exact"
                )
        return options

    def timm_name(self) -> str:
        """Return `model`."""
        return self.model

    def timm_options(self) -> Mapping[str, Any]:
        """Return `options`."""
        return self.options
