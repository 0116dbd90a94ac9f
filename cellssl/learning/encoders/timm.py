"""timm: crops in, one vector a cell out, by any network of the library timm."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from cellssl.config.plugins import did_you_mean
from cellssl.errors import NetworkError, UsageError
from cellssl.learning.encoder import Names
from cellssl.learning.pretrained import PublishedSettings
from cellssl.randomness import torch_seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

OURS = (
    *("num_classes", "in_chans", "features_only", "scriptable", "exportable", "no_jit"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
)
"""Arguments of timm.create_model that follow from the crops and from `weights`."""
QUIET = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
"""The hub's library else keeps a cache in the home directory, says who it is, and draws bars of its own."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class Settings(PublishedSettings):
    """A network of timm without its classifier. Its dropout and stochastic depth are off: their chance would come from
    torch's own generator, which no checkpoint keeps. Needs pip install "cellssl[timm]"."""

    model: str
    """The network's name in timm, such as "tf_efficientnet_lite0", or "resnet50.a1_in1k" with one of its weights."""
    options: dict[str, bool | int | float | str | list[int] | list[float]] = Field(default_factory=dict)
    """More arguments for timm.create_model, such as { dynamic_img_size = true } for a ViT on crops of any size."""
    draws_weights: ClassVar[bool] = True

    @field_validator("options")
    @classmethod
    def _not_ours(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in OURS:
                raise ValueError(f"{name} cannot be chosen, it follows from the crops and from weights")
            if "drop" in name:
                raise ValueError(f"{name} cannot be chosen, chance within the network is off so that resuming is exact")
        return options

    def called(self) -> str:
        """One of many."""
        return f"{self.model} of timm"

    def check_installed(self) -> None:
        """Said before anything is made for it."""
        if find_spec("timm") is None:
            raise UsageError("the encoder timm needs the library timm", hint='pip install "cellssl[timm]"')

    def shortest_side_px(self) -> int:
        """Every network of timm has its own, which `check_side` finds out."""
        return 1

    def check_side(self, side_px: int) -> None:
        """Let the network look at one black crop: timm's networks have rules of many kinds for what they take."""
        import torch

        with torch_seeded("black crop"), torch.no_grad():
            network = self.trunk(3).eval()
            try:
                seen = network(torch.zeros(1, 3, side_px, side_px))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise UsageError(
                    f"{self.called()} cannot see crops of {side_px} px: {_line(error)}",
                    hint="set pretrain.input_px to a side that it takes; a ViT takes more of them with "
                    "encoder.options = { dynamic_img_size = true }",
                ) from error
        if tuple(seen.shape) != (1, network.out_dim):
            raise UsageError(
                f"{self.called()} gives {tuple(seen.shape)} for one crop, not one vector",
                hint="leave global_pool out of encoder.options, or choose another model",
            )

    def last_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """What timm calls the network's features; of a transformer, its tokens."""
        return network.forward_features  # type: ignore[return-value]

    def trunk(self, channels: int) -> nn.Module:
        """As timm builds it, with weights as timm draws them."""
        network: nn.Module = self._created(num_classes=0, in_chans=channels)
        network.out_dim = getattr(network, "head_hidden_size", None) or network.num_features
        _without_chance(network)
        return network

    def names(self, network: nn.Module) -> Names:
        """As timm's own description of the network has them."""
        described: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        return Names(*(_several(described.get(what)) for what in ("classifier", "first_conv")))

    def photographs(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """As timm's own description of the network's weights has them; ImageNet's in some, a half in others."""
        described: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        return tuple(described["mean"]), tuple(described["std"])

    def published(self, folder: Path) -> dict[str, Tensor]:
        """The tensors that timm publishes for the network; timm brings them, and keeps them below `folder`.

        They come by way of timm's whole network, classifier and all, since only that one is loaded strictly.
        """
        _timm(self)  # before the hub's library, which reads its environment once
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        _check_known(self.model)
        _check_published(self.model)
        try:
            with torch_seeded("thrown away"):
                return dict(self._created(pretrained=True, cache_dir=folder).state_dict())
        except (OSError, HTTPError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # a full disk is no fault of the network
            raise NetworkError(
                f"the weights of {self.model} cannot be downloaded: {_line(error)}",
                hint=f"try again, or bring {_address(self.model)} here and set encoder.weights to its path",
            ) from error
        except RuntimeError as error:
            raise UsageError(
                f"the published weights of {self.model} do not fit it: {_line(error)}",
                hint="leave out what changes the network in encoder.options",
            ) from error

    def has_published(self, folder: Path) -> bool:
        """Whether the hub's library finds one of the files that timm publishes weights in."""
        timm = _timm(self)
        from huggingface_hub import try_to_load_from_cache

        _check_known(self.model)
        _check_published(self.model)
        where = timm.get_pretrained_cfg(self.model).hf_hub_id
        found = (try_to_load_from_cache(where, name, cache_dir=folder) for name in HUB_FILES) if where else ()
        return any(isinstance(path, str) for path in found)

    def _created(self, **more: Any) -> Any:
        timm = _timm(self)
        _check_known(self.model)
        try:
            return timm.create_model(self.model, **self.options, **more)
        except (TypeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"timm cannot build {self.model} with these options: {_line(error)}", hint="correct encoder.options"
            ) from error


def _timm(settings: Settings) -> Any:
    settings.check_installed()
    for name in QUIET:
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


def _without_chance(network: nn.Module) -> None:
    """Set every rate of dropout and of stochastic depth to nought."""
    for module in network.modules():
        if "Drop" in type(module).__name__:
            for knob in ("p", "drop_prob", "prob"):
                if hasattr(module, knob):
                    setattr(module, knob, 0.0)
        if isinstance(getattr(module, "drop_rate", None), float):
            module.drop_rate = 0.0  # type: ignore[assignment]


def _several(names: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """timm writes one name, several or none."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def _line(error: Exception) -> str:
    """What an error of another library says, in one line that a person still reads."""
    return " ".join(str(error).split())[:300]
