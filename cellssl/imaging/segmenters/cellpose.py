"""cellpose: an image of stained nuclei in -> one label per nucleus out, by the installed cellpose, 3.1 or 4.

Stringer et al. 2021, doi:10.1038/s41592-020-01018-x; Pachitariu et al. 2025 for cellpose 4. The network is always
loaded from a file that exists, because cellpose itself would silently download another one into the home directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.config.plugins import did_you_mean
from cellssl.device import device_for
from cellssl.errors import UsageError
from cellssl.imaging.segmenter import PublishedFile, Segmenter, SegmenterSettings

if TYPE_CHECKING:
    from jaxtyping import Int32, Real

ALGORITHM = 2  # 2: the size of nuclei, where it is left out, is measured above slopes and glows
FILES = {
    3: {"nuclei": "nucleitorch_0", "cyto": "cytotorch_0", "cyto2": "cyto2torch_0", "cyto3": "cyto3"},
    4: {"cpsam": "cpsam", "cpsam_v2": "cpsam_v2"},
}
"""By cellpose's major version: the name of every network and the file that holds it."""
SOURCES = {3: "https://www.cellpose.org/models/", 4: "https://huggingface.co/mouseland/cellpose-sam/resolve/main/"}
FOLDER = "cellpose"
"""Folder below `weights` of a store."""


class Settings(SegmenterSettings):
    """Find nuclei with a network of cellpose; `cellssl doctor RECIPE --download` downloads its weights."""

    model: str = "nuclei"
    """Name of the network: nuclei, cyto, cyto2 or cyto3 with cellpose 3; cpsam or cpsam_v2 with cellpose 4."""
    weights: InputPath | None = None
    """File with the weights of your own network; it is used instead of `model`."""
    diameter_um: float | None = Field(None, gt=0)
    """Typical diameter of a nucleus in micrometres; where it is left out, it is measured in every field (cellpose 4
    needs none)."""
    flow_threshold: float = Field(0.4, ge=0)
    """Largest allowed difference between the predicted flows and those of the found shape; lower values drop more
    shapes."""
    cellprob_threshold: float = Field(0.0, ge=-6, le=6)
    """Smallest logit at which a pixel counts as nucleus; lower values widen nuclei and find fainter ones."""
    batch: int = Field(8, ge=1)
    """Tiles that the network processes together; more of them use a GPU better."""

    def check(self) -> None:
        """Raise UsageError where cellpose is not installed, or the installed version has no such network."""
        names = FILES[installed()[0]]
        if self.weights is None and self.model not in names:
            raise UsageError(
                f"cellpose {installed()[1]} has no network {self.model!r}",
                hint=f"{did_you_mean(self.model, tuple(names))}; a file of your own goes into segment.method.weights",
            )

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the diameter where it is given, and the cure where the size of a pixel is not known."""
        if self.diameter_um is None:
            return {}
        return {"diameter_um": "leave out diameter_um, and it is measured in every field"}

    def external_files(self) -> Mapping[str, Path]:
        """Return the file of the user's own network, where one is given."""
        return {} if self.weights is None else {"weights": self.weights}

    def downloads(self) -> Sequence[PublishedFile]:
        """Return the file of the network that `model` names; nothing where the user gives a network."""
        if self.weights is not None:
            return ()
        self.check()
        return (published_file(self.model),)

    def prepare(self, downloaded: Sequence[Path], device: str) -> CellposeSegmenter:
        """Return the network's file and the device; UsageError where the GPU that the user chose is missing."""
        self.check()
        file = downloaded[0] if self.weights is None else self.weights
        return CellposeSegmenter(self, file, str(device_for(device)))


@dataclass(frozen=True)
class CellposeSegmenter(Segmenter):
    """A network of cellpose on one device; it is loaded in the process that first uses it."""

    settings: Settings
    file: Path
    device: str

    def segment(self, image: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Return labels 1..n, 0 for background; nuclei that touch the edge are included.

        Raises UsageError where the file is no network of the installed cellpose, or the pixel size is not known.
        """
        if image.size == 0 or image.min() == image.max():
            return np.zeros(image.shape, np.int32)
        options: dict[str, Any] = {
            "flow_threshold": self.settings.flow_threshold,
            "cellprob_threshold": self.settings.cellprob_threshold,
            "batch_size": self.settings.batch,
            "diameter": self._diameter_px(image, pixel_um),
        }
        if installed()[0] == 3:
            options["channels"] = [0, 0]  # one grey channel
        labels = load_network(self.file, self.device).eval(image.astype(np.float32), **options)[0]
        return np.asarray(labels, np.int32)

    def runs_on(self) -> str:
        """Return the device."""
        return self.device

    def ran(self) -> dict[str, Any]:
        """Return the version of cellpose, the name of the network, the sha256 of its file, and the device."""
        name = self.settings.model if self.settings.weights is None else self.file.name
        return what_ran(name, self.file, self.device)

    def _diameter_px(self, image: Real[np.ndarray, "y x"], pixel_um: float | None) -> float | None:
        if self.settings.diameter_um is not None:
            if pixel_um is None:
                raise UsageError(
                    "cellpose has a diameter in micrometres, but the size of a pixel is not known",
                    hint="set fetch.dataset.pixel_um, or leave out diameter_um so that it is measured in every field",
                )
            return self.settings.diameter_um / pixel_um
        if installed()[0] >= 4:
            return None
        from cellssl.imaging.segmenters.watershed import typical_diameter_px

        return typical_diameter_px(image.astype(np.float32))


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
            hint='pip install "cellpose>=3.1,<4", or use segment.method = "nuclei_net", which needs no other package',
        ) from None
    major = int(found.split(".")[0])
    if major not in FILES:
        raise UsageError(f"cellpose {found} is not supported", hint='pip install "cellpose>=3.1,<5"')
    return major, found


def published_file(model: str) -> PublishedFile:
    """Return the file with the weights of a network of the installed cellpose."""
    major = installed()[0]
    file = FILES[major][model]
    return PublishedFile(f"the weights of cellpose's {model!r}", f"{FOLDER}/{file}", f"{SOURCES[major]}{file}")


def what_ran(name: str, file: Path, device: str) -> dict[str, Any]:
    """Return the version of cellpose, the name of the network, the sha256 of its file, and the device."""
    import hashlib

    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"cellpose": installed()[1], "model": name, "weights_sha256": sha256, "device": device}


@cache
def load_network(file: Path, device: str) -> Any:
    """Return the network of a file on a device; UsageError where the file is none of the installed cellpose."""
    import importlib
    import pickle

    import torch

    load_errors = (RuntimeError, KeyError, ValueError, EOFError, AttributeError, AssertionError, pickle.UnpicklingError)
    try:
        network = importlib.import_module("cellpose.models").CellposeModel(
            pretrained_model=str(file), device=torch.device(device)
        )
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
