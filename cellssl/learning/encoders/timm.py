"""timm: crops in, one vector per cell out, computed by any network of the library timm."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from cellssl.config.plugins import did_you_mean
from cellssl.errors import NetworkError, UsageError
from cellssl.learning.encoder import TensorNames
from cellssl.learning.pretrained import PretrainedSettings
from cellssl.randomness import torch_seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

RESERVED = (
    *("num_classes", "in_chans", "features_only", "scriptable", "exportable", "no_jit"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
)
"""Arguments of timm.create_model that follow from the crops and from `weights`, so that users cannot set them."""
HUB_SWITCHES = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
"""Environment variables without which the hub's library keeps a cache in the home directory, sends telemetry, and shows
its own progress bars."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class Settings(PretrainedSettings):
    """Any network of timm without its classifier. Dropout and stochastic depth are off: their random numbers would come
    from torch's own generator, whose state is not part of a checkpoint. Needs pip install "cellssl[timm]"."""

    model: str
    """Name of the network in timm, such as "tf_efficientnet_lite0"; "resnet50.a1_in1k" also chooses the weights."""
    options: dict[str, bool | int | float | str | list[int] | list[float]] = Field(default_factory=dict)
    """Further arguments of timm.create_model, such as { dynamic_img_size = true } for a ViT on crops of any size."""
    draws_weights: ClassVar[bool] = True

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

    def display_name(self) -> str:
        """Return the model's name and its library."""
        return f"{self.model} of timm"

    def check_installed(self) -> None:
        """Raise UsageError where timm is not installed; does not import it."""
        if find_spec("timm") is None:
            raise UsageError("the encoder timm needs the library timm", hint='pip install "cellssl[timm]"')

    def min_side_px(self) -> int:
        """Return 1: every network of timm has its own minimum, which `check_side` finds by trying."""
        return 1

    def check_side(self, side_px: int) -> None:
        """Raise UsageError where the network fails on one black crop: timm's networks have many kinds of size rules."""
        import torch

        with torch_seeded("black crop"), torch.no_grad():
            network = self.trunk(3).eval()
            try:
                output = network(torch.zeros(1, 3, side_px, side_px))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise UsageError(
                    f"{self.display_name()} cannot take crops of {side_px} px: {_one_line(error)}",
                    hint="set pretrain.input_px to a side that it can take; a ViT can take more sides with "
                    "encoder.options = { dynamic_img_size = true }",
                ) from error
        if tuple(output.shape) != (1, network.out_dim):
            raise UsageError(
                f"{self.display_name()} returns an array of shape {tuple(output.shape)} for one crop, not one vector",
                hint="leave global_pool out of encoder.options, or choose another model",
            )

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return timm's `forward_features`; for a transformer it gives the tokens."""
        return network.forward_features  # type: ignore[return-value]

    def trunk(self, channels: int) -> nn.Module:
        """Build the network as timm does, with initial weights drawn by timm."""
        network: nn.Module = self._create(num_classes=0, in_chans=channels)
        network.out_dim = getattr(network, "head_hidden_size", None) or network.num_features
        _disable_dropout(network)
        return network

    def tensor_names(self, network: nn.Module) -> TensorNames:
        """Return the names from timm's own description of the network."""
        described: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        return TensorNames(*(_as_tuple(described.get(key)) for key in ("classifier", "first_conv")))

    def pixel_statistics(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the values from timm's own description of the weights: those of ImageNet for some, 0.5 for others."""
        described: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        return tuple(described["mean"]), tuple(described["std"])

    def download_weights(self, folder: Path) -> dict[str, Tensor]:
        """Return the published tensors, which timm downloads to `folder`.

        They are read from timm's whole network with its classifier, because timm checks that one strictly.
        """
        _timm(self)  # before the hub's library, which reads its environment once
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        _check_known(self.model)
        _check_published(self.model)
        try:
            with torch_seeded("thrown away"):
                return dict(self._create(pretrained=True, cache_dir=folder).state_dict())
        except (OSError, HTTPError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # a full disk is not a network fault
            raise NetworkError(
                f"the weights of {self.model} cannot be downloaded: {_one_line(error)}",
                hint=f"try again, or download {_address(self.model)} yourself and set encoder.weights to the file",
            ) from error
        except RuntimeError as error:
            raise UsageError(
                f"the published weights of {self.model} do not fit it: {_one_line(error)}",
                hint="remove from encoder.options what changes the network's layers",
            ) from error

    def is_cached(self, folder: Path) -> bool:
        """Return whether the hub's library finds a cached file of weights in `folder`."""
        timm = _timm(self)
        from huggingface_hub import try_to_load_from_cache

        _check_known(self.model)
        _check_published(self.model)
        hub_id = timm.get_pretrained_cfg(self.model).hf_hub_id
        found = (try_to_load_from_cache(hub_id, name, cache_dir=folder) for name in HUB_FILES) if hub_id else ()
        return any(isinstance(path, str) for path in found)

    def _create(self, **arguments: Any) -> Any:
        timm = _timm(self)
        _check_known(self.model)
        try:
            return timm.create_model(self.model, **self.options, **arguments)
        except (TypeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"timm cannot build {self.model} with these options: {_one_line(error)}", hint="correct encoder.options"
            ) from error


def _timm(settings: Settings) -> Any:
    settings.check_installed()
    for name in HUB_SWITCHES:
        os.environ.setdefault(name, "1")
    import timm

    return timm


def _check_known(model: str) -> None:
    import timm

    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}", hint=did_you_mean(name, tuple(timm.list_models())))
    tags = tuple(timm.list_pretrained(f"{name}.*")) if tag else ()
    if tag and model not in tags:
        raise UsageError(f"timm has no weights {model!r}", hint=did_you_mean(model, (name, *tags)))


def _check_published(model: str) -> None:
    import timm

    if not timm.models.is_model_pretrained(model):
        raise UsageError(
            f"timm publishes no weights for {model}", hint="set encoder.weights to a file, or leave it out"
        )


def _address(model: str) -> str:
    import timm

    described = timm.get_pretrained_cfg(model)
    assert described is not None
    return f"https://huggingface.co/{described.hf_hub_id}" if described.hf_hub_id else str(described.url)


def _disable_dropout(network: nn.Module) -> None:
    """Set all rates of dropout and stochastic depth to 0."""
    for module in network.modules():
        if "Drop" in type(module).__name__:
            for rate in ("p", "drop_prob", "prob"):
                if hasattr(module, rate):
                    setattr(module, rate, 0.0)
        if isinstance(getattr(module, "drop_rate", None), float):
            module.drop_rate = 0.0  # type: ignore[assignment]


def _as_tuple(names: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """Return names as a tuple: timm gives one name, several or none."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def _one_line(error: Exception) -> str:
    """Return the message of another library's error as one line of readable length."""
    return " ".join(str(error).split())[:300]
