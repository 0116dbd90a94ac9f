"""_dino: settings of a vision transformer of the DINO family in; timm's network, for crops of any side, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cellssl.learning.encoder import TensorNames
from cellssl.learning.encoders._timm import TimmSettings
from cellssl.learning.pretrained import fill_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn


class DinoSettings(TimmSettings):
    """Settings of a small vision transformer that was trained by self-distillation.

    Crops whose side is not a multiple of the patch are resized to the next larger multiple, bilinearly.
    """

    patch_px: ClassVar[int]

    pool: Literal["class", "mean"] = "class"
    """The representation: the class token, as the authors use it, or the mean over the tokens of all patches."""

    def min_side_px(self) -> int:
        """Return the side of two patches."""
        return 2 * self.patch_px

    def check_side(self, side_px: int) -> None:
        """Raise UsageError where crops are smaller than two patches."""
        super(TimmSettings, self).check_side(side_px)

    def timm_options(self) -> Mapping[str, Any]:
        """Return what lets the network take any multiple of the patch, and what chooses the representation."""
        return {"dynamic_img_size": True, "global_pool": "token" if self.pool == "class" else "avg"}

    def trunk(self, channels: int) -> nn.Module:
        """Build the network; it resizes crops first where patches do not fill them."""
        network = super().trunk(channels)
        fill_patches(network, self.patch_px)
        return network

    def tensor_names(self, network: nn.Module) -> TensorNames:
        """Return timm's names; the authors' own files also hold the token that stands for a masked patch."""
        names = super().tensor_names(network)
        return TensorNames((*names.classifier, "mask_token"), names.first)

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the function that computes the tokens of the patches, each at the position of its patch.

        Their average is the representation where `pool` is "mean"; the class token is not among them.
        """

        def tokens(crops: Tensor) -> Tensor:
            side = crops.shape[-1] // self.patch_px
            flat = network.forward_features(crops)[:, network.num_prefix_tokens :]  # type: ignore[operator]
            square: Tensor = flat.transpose(1, 2).unflatten(2, (side, side))
            return square

        return tokens
