"""efficientnet_lite0: crops in, 1,280 features per cell out, computed by timm's tf_efficientnet_lite0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.learning.encoders._timm import TimmSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(TimmSettings):
    """EfficientNet-Lite0 (arXiv:1905.11946, without squeeze and excitation), with the global average of its last
    feature map as the representation: few multiply-adds, so that a CPU can embed thousands of cells. The weights that
    timm publishes have the licence Apache-2.0. Needs pip install "cellssl[timm]"."""

    def min_side_px(self) -> int:
        """Return the side that the network reduces to one pixel: it halves five times."""
        return 32

    def check_side(self, side_px: int) -> None:
        """Raise UsageError where crops are smaller than that."""
        super(TimmSettings, self).check_side(side_px)

    def timm_name(self) -> str:
        """Return the name in timm."""
        return "tf_efficientnet_lite0"

    def timm_options(self) -> Mapping[str, Any]:
        """Return no option."""
        return {}
