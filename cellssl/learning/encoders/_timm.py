"""_timm: the name of a network of the library timm in; the network, its published weights and their licence out."""

from __future__ import annotations

import os
from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cellssl.config.plugins import did_you_mean
from cellssl.errors import NetworkError, UsageError
from cellssl.learning.encoder import TensorNames
from cellssl.learning.pretrained import NOT_KNOWN, Licence, PretrainedSettings
from cellssl.randomness import torch_seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

HUB_SWITCHES = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
"""Environment variables without which the hub's library keeps a cache in the home directory, sends telemetry, and shows
its own progress bars."""

LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC BY-NC 4.0 (not for commercial use)",
    "dinov3-license": "DINOv3 License",
}
"""timm's word for a licence -> its name."""
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmSettings(PretrainedSettings):
    """Settings of a network of timm without its classifier, whatever names the network."""

    draws_weights: ClassVar[bool] = True

    @abstractmethod
    def timm_name(self) -> str:
        """Return the name of the network in timm; with a tag, as in "resnet50.a1_in1k", it chooses the weights too."""

    @abstractmethod
    def timm_options(self) -> Mapping[str, Any]:
        """Return the arguments of timm.create_model besides those that follow from the crops and from `weights`."""

    def display_name(self) -> str:
        """Return the model's name and its library."""
        return f"{self.timm_name()} of timm"

    def check_installed(self) -> None:
        """Raise UsageError where timm is not installed; does not import it."""
        if find_spec("timm") is None:
            raise UsageError(
                f"the encoder {self.plugin_name()} needs the library timm", hint='pip install "cellssl[timm]"'
            )

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

        _check_known(self.timm_name())
        _check_published(self.timm_name())
        try:
            with torch_seeded("thrown away"):
                return dict(self._create(pretrained=True, cache_dir=folder).state_dict())
        except (OSError, HTTPError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # a full disk is not a network fault
            raise NetworkError(
                f"the weights of {self.timm_name()} cannot be downloaded: {_one_line(error)}",
                hint=f"try again, or download {_address(self.timm_name())} yourself, and set encoder.weights to the "
                "file",
            ) from error
        except RuntimeError as error:
            raise UsageError(
                f"the published weights of {self.timm_name()} do not fit it: {_one_line(error)}",
                hint="remove from encoder.options what changes the network's layers",
            ) from error

    def cached_file(self, folder: Path) -> Path | None:
        """Return the file of weights that the hub's library finds in `folder`, or None."""
        timm = _timm(self)
        from huggingface_hub import try_to_load_from_cache

        name = self.timm_name()
        _check_known(name)
        _check_published(name)
        hub_id = timm.get_pretrained_cfg(name).hf_hub_id
        found = (try_to_load_from_cache(hub_id, file, cache_dir=folder) for file in HUB_FILES) if hub_id else ()
        return next((Path(path) for path in found if isinstance(path, str)), None)

    def cache_folder(self) -> str:
        """Return "timm": all networks of timm share one folder of downloads."""
        return "timm"

    def published_licence(self) -> Licence:
        """Return the licence in timm's own description of the weights."""
        described = _timm(self).get_pretrained_cfg(self.timm_name())
        name = getattr(described, "license", None)
        return Licence(LICENCES.get(name, name), f"timm's description of {self.timm_name()}") if name else NOT_KNOWN

    def parts(self, network: nn.Module) -> list[tuple[str, ...]]:
        """Return the parts as timm groups them for rates that differ by layer: the stem, then stages or blocks."""
        from timm.models import group_parameters

        grouped = group_parameters(network, network.group_matcher(coarse=True))  # type: ignore[operator]
        return [tuple(names) for _, names in sorted(grouped.items())]

    def renamed(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return tensors of an EfficientNet under timm's names where they have those of other libraries."""
        from cellssl.learning.encoders._efficientnet_names import timm_names

        return timm_names(tensors)

    def _create(self, **arguments: Any) -> Any:
        timm = _timm(self)
        _check_known(self.timm_name())
        try:
            return timm.create_model(self.timm_name(), **self.timm_options(), **arguments)
        except (TypeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"timm cannot build {self.timm_name()} with these options: {_one_line(error)}",
                hint="correct encoder.options",
            ) from error


def _timm(settings: TimmSettings) -> Any:
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
