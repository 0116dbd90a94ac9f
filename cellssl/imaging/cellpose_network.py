"""cellpose_network: images in -> the label image that a network of the installed cellpose, 3.1 or 4, finds, out.

The method that finds nuclei and the one that finds whole cells share it. The network is always loaded from a file that
exists, because cellpose itself would silently download another one into the home directory.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import Plugin
from cellssl.errors import UsageError
from cellssl.imaging.segmenter import PublishedFile

if TYPE_CHECKING:
    from jaxtyping import Int32, Real

FILES = {
    3: {"nuclei": "nucleitorch_0", "cyto": "cytotorch_0", "cyto2": "cyto2torch_0", "cyto3": "cyto3"},
    4: {"cpsam": "cpsam", "cpsam_v2": "cpsam_v2"},
}
"""By cellpose's major version: the name of every network and the file that holds it."""
SOURCES = {3: "https://www.cellpose.org/models/", 4: "https://huggingface.co/mouseland/cellpose-sam/resolve/main/"}
INSTALL = f'pip install "cellpose{">=3.1.1,<4" if sys.version_info < (3, 13) else ">=4,<5"}"'
"""The versions of pyproject.toml for this Python."""
FOLDER = "cellpose"
"""Folder below `weights` of a store."""


class CellposeSettings(Plugin):
    """Settings of a network of cellpose, whatever it finds."""

    place: ClassVar[str]
    """Where these settings stand in a recipe, such as "segment.method"."""
    model: str
    """Name of the network."""
    weights: InputPath | None = None
    """File with the weights of your own network; it is used instead of `model`."""
    diameter_um: float | None = Field(None, gt=0)
    """Typical diameter of what is found, in micrometres."""
    flow_threshold: float = Field(0.4, ge=0)
    """Largest allowed difference between the predicted flows and those of the found shape; lower values drop more
    shapes."""
    cellprob_threshold: float = Field(0.0, ge=-6, le=6)
    """Smallest logit at which a pixel counts as one of a shape; lower values widen shapes and find fainter ones."""
    batch: int = Field(8, ge=1)
    """Tiles that the network processes together; more of them use a GPU better."""

    def check(self) -> None:
        """Raise UsageError where cellpose is not installed, or the installed version has no such network."""
        names = FILES[installed()[0]]
        if self.weights is None and self.model not in names:
            raise UsageError(
                f"cellpose {installed()[1]} has no network {self.model!r}",
                hint=f"{did_you_mean(self.model, tuple(names))}; a file of your own goes into {self.place}.weights",
            )

    def external_files(self) -> Mapping[str, Path]:
        """Return the file of the user's own network, where one is given."""
        return {} if self.weights is None else {"weights": self.weights}

    def downloads(self) -> Sequence[PublishedFile]:
        """Return the file of the network that `model` names; nothing where the user gives a network."""
        if self.weights is not None:
            return ()
        self.check()
        major = installed()[0]
        file = FILES[major][self.model]
        return (
            PublishedFile(f"the weights of cellpose's {self.model!r}", f"{FOLDER}/{file}", f"{SOURCES[major]}{file}"),
        )

    def network_file(self, downloaded: Sequence[Path]) -> Path:
        """Return the file of the network: the user's own, or the only one that was downloaded."""
        return downloaded[0] if self.weights is None else self.weights


@dataclass(frozen=True)
class CellposeNetwork:
    """A network of cellpose on one device; it is loaded in the process that first uses it."""

    settings: CellposeSettings
    file: Path
    device: str

    def find(
        self,
        image: Real[np.ndarray, "..."],
        channels: list[int],
        diameter_px: float | None,
        channel_axis: int | None = None,
    ) -> Int32[np.ndarray, "y x"]:
        """Return labels 1..n, 0 for background; `channels` is how cellpose 3 names the channels of the image.

        Raises UsageError where the file is no network of the installed cellpose.
        """
        options: dict[str, Any] = {
            "flow_threshold": self.settings.flow_threshold,
            "cellprob_threshold": self.settings.cellprob_threshold,
            "batch_size": self.settings.batch,
            "diameter": diameter_px,
        }
        if installed()[0] == 3:
            options["channels"] = channels
        network = load_network(self.file, self.device)
        return np.asarray(network.eval(image.astype(np.float32), channel_axis=channel_axis, **options)[0], np.int32)

    def runs_on(self) -> str:
        """Return the device."""
        return self.device

    def ran(self) -> dict[str, Any]:
        """Return the version of cellpose, the name of the network, the sha256 of its file, and the device."""
        import hashlib

        with self.file.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = self.settings.model if self.settings.weights is None else self.file.name
        return {"cellpose": installed()[1], "model": name, "weights_sha256": sha256, "device": self.device}


@cache
def installed() -> tuple[int, str]:
    """Return the major version of cellpose and its full version.

    Raises UsageError where cellpose is not installed, or its version is not supported.
    """
    try:
        found = version("cellpose")
    except PackageNotFoundError:
        raise UsageError(
            "cellpose is not installed",
            hint=f'{INSTALL}, or use segment.method = "nuclei_net", which needs no other package',
        ) from None
    major = int(found.split(".")[0])
    if major not in FILES:
        raise UsageError(f"cellpose {found} is not supported", hint=INSTALL)
    return major, found


@cache
def load_network(file: Path, device: str) -> Any:
    """Return the network of a file on a device; UsageError where the file is none of the installed cellpose."""
    import importlib
    import pickle

    import torch

    models = importlib.import_module("cellpose.models")
    load_errors = (RuntimeError, KeyError, ValueError, EOFError, AttributeError, AssertionError, pickle.UnpicklingError)
    try:
        network = models.CellposeModel(pretrained_model=str(file), device=torch.device(device))
        in_file = {name.removeprefix("module.") for name in torch.load(file, map_location="cpu", weights_only=True)}
    except load_errors as error:
        raise _no_network(file, " ".join(str(error).split())[:200]) from error
    missing = sorted(set(network.net.state_dict()) - in_file)
    if missing:  # cellpose silently leaves these at their random initial values
        raise _no_network(file, f"it lacks {len(missing)} tensors, {missing[0]} among them")
    return network


def _no_network(file: Path, why: str) -> UsageError:
    return UsageError(
        f"{file} is not a network of cellpose {installed()[1]}: {why}",
        hint="networks of cellpose 3 and 4 differ; give a file that the installed version has made",
    )
