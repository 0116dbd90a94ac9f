"""cellpose: an image of stained nuclei in -> one label a nucleus out; by a cellpose network, 3.1 or 4, as installed.

Stringer et al. 2021, doi:10.1038/s41592-020-01018-x; Pachitariu et al. 2025 for cellpose 4. The network is always given
as a file that is there, because cellpose itself would download another one, into the home directory, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import Plugin
from cellssl.device import device_for
from cellssl.errors import UsageError

if TYPE_CHECKING:
    from jaxtyping import Int32, Real

FILES = {
    3: {"nuclei": "nucleitorch_0", "cyto": "cytotorch_0", "cyto2": "cyto2torch_0", "cyto3": "cyto3"},
    4: {"cpsam": "cpsam", "cpsam_v2": "cpsam_v2"},
}
"""The names of networks by cellpose's major version, and the files that they are kept in."""
SOURCES = {3: "https://www.cellpose.org/models/", 4: "https://huggingface.co/mouseland/cellpose-sam/resolve/main/"}
FOLDER = "cellpose"
"""Of the store's weights/."""


class Settings(Plugin):
    """Find nuclei by a network of cellpose; its weights are brought by `cellssl doctor RECIPE --download`."""

    model: str = "nuclei"
    """A network by name: nuclei, cyto, cyto2 or cyto3 with cellpose 3; cpsam or cpsam_v2 with cellpose 4."""
    weights: InputPath | None = None
    """A file with the weights of a network of one's own, instead of a name."""
    diameter_um: float | None = Field(None, gt=0)
    """Typical diameter in micrometres; left out, it is measured in every field (cellpose 4 does without)."""
    flow_threshold: float = Field(0.4, ge=0)
    """How far flows may differ from those that the found shape would have; lower drops more shapes."""
    cellprob_threshold: float = Field(0.0, ge=-6, le=6)
    """How sure a pixel must be to be nucleus; lower values widen nuclei and find fainter ones."""
    batch: int = Field(8, ge=1)
    """Tiles that are looked at together; more fill a GPU better."""

    def check(self) -> None:
        """Raise UsageError where cellpose is not installed, or the installed one has no such network."""
        names = FILES[installed()[0]]
        if self.weights is None and self.model not in names:
            raise UsageError(
                f"cellpose {installed()[1]} has no network {self.model!r}",
                hint=f"{did_you_mean(self.model, tuple(names))}; a file of your own goes into segment.method.weights",
            )

    def external_files(self) -> Mapping[str, Path]:
        """The file of one's own network."""
        return {} if self.weights is None else {"weights": self.weights}

    def downloads(self) -> dict[str, str]:
        """The address of a network by name, by its place below the store's weights/; nothing for one's own network."""
        if self.weights is not None:
            return {}
        self.check()
        major = installed()[0]
        file = FILES[major][self.model]
        return {f"{FOLDER}/{file}": f"{SOURCES[major]}{file}"}

    def prepared(self, file: Path, device: str) -> Prepared:
        """The detector with its network's file; UsageError where a GPU was asked for that is not there."""
        self.check()
        return Prepared(self, file, str(device_for(device)))


@dataclass(frozen=True)
class Prepared:
    """A detector that can be sent to another process: which network, where it is, and on which device it runs."""

    settings: Settings
    file: Path
    device: str

    def find(self, nucleus: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Label the nuclei 1..n, 0 is background; nuclei that touch the edge are among them."""
        if nucleus.size == 0 or nucleus.min() == nucleus.max():
            return np.zeros(nucleus.shape, np.int32)
        knobs: dict[str, Any] = {
            "flow_threshold": self.settings.flow_threshold,
            "cellprob_threshold": self.settings.cellprob_threshold,
            "batch_size": self.settings.batch,
            "diameter": self._diameter_px(nucleus, pixel_um),
        }
        if installed()[0] == 3:
            knobs["channels"] = [0, 0]  # one grey channel
        labels = _network(self.file, self.device).eval(nucleus.astype(np.float32), **knobs)[0]
        return np.asarray(labels, np.int32)

    def ran(self) -> dict[str, Any]:
        """What a card should say: the network, its file's hash, cellpose's version, the device."""
        import hashlib

        with self.file.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = self.settings.model if self.settings.weights is None else self.file.name
        return {"cellpose": installed()[1], "model": name, "weights_sha256": sha256, "device": self.device}

    def _diameter_px(self, nucleus: Real[np.ndarray, "y x"], pixel_um: float | None) -> float | None:
        if self.settings.diameter_um is not None:
            if pixel_um is None:
                raise UsageError(
                    "cellpose is told a diameter in micrometres, but the size of a pixel is not known",
                    hint="give pixel_um in [fetch], or leave out diameter_um so that it is measured in every field",
                )
            return self.settings.diameter_um / pixel_um
        if installed()[0] >= 4:
            return None
        from cellssl.imaging.segmenters.watershed import typical_diameter_px

        return typical_diameter_px(nucleus.astype(np.float32))


@cache
def installed() -> tuple[int, str]:
    """Cellpose's major version and its version in full.

    Raises UsageError where it is not installed, or is one that is not known here.
    """
    try:
        found = version("cellpose")
    except PackageNotFoundError:
        raise UsageError(
            "cellpose is not installed",
            hint='pip install "cellpose>=3.1,<4", or use segment.method = "nuclei_net", which needs nothing',
        ) from None
    major = int(found.split(".")[0])
    if major not in FILES:
        raise UsageError(f"cellpose {found} is not supported", hint='pip install "cellpose>=3.1,<5"')
    return major, found


@cache
def _network(file: Path, device: str) -> Any:
    import importlib
    import pickle

    import torch

    faults = (RuntimeError, KeyError, ValueError, EOFError, AttributeError, AssertionError, pickle.UnpicklingError)
    try:
        network = importlib.import_module("cellpose.models").CellposeModel(
            pretrained_model=str(file), device=torch.device(device)
        )
        given = {name.removeprefix("module.") for name in torch.load(file, map_location="cpu", weights_only=True)}
    except faults as error:
        raise _no_network(file, " ".join(str(error).split())[:200]) from error
    left = sorted(set(network.net.state_dict()) - given)
    if left:  # cellpose leaves these as they were drawn by chance, without a word
        raise _no_network(file, f"it lacks {len(left)} tensors, {left[0]} among them")
    return network


def _no_network(file: Path, why: str) -> UsageError:
    return UsageError(
        f"{file} is no network of cellpose {installed()[1]}: {why}",
        hint="networks of cellpose 3 and 4 differ; give a file that was made by the installed one",
    )
