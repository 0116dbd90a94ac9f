"""nuclei_net: an image of stained nuclei in -> one label a nucleus out; by a small network that ships with the package.

The network (`_unet`) tells for every pixel whether it is nucleus and where its nucleus' centre lies; pixels that agree
on a centre are one nucleus (`_votes`). It was shown nuclei of 8 to 62 pixels across, so no size has to be told. What it
learned from and how well it does is in `nuclei_net.json`, beside its weights; `scripts/train_nuclei_net.py` made both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from cellssl.config.settings import Plugin
from cellssl.device import has_bfloat16
from cellssl.imaging.labels import fill_holes, label_areas, largest_components, select_labels

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float32, Int32, Real

    from cellssl.imaging.segmenters._nuclei_net_unet import UNet

WEIGHTS, CARD = Path(__file__).with_suffix(".safetensors"), Path(__file__).with_suffix(".json")
SMALL_PX = 18.0  # nuclei that are smaller at the first look are looked at again, twice as large
APART = 2.0  # standard deviations of the background; noise stays below 1.2, the dimmest of 541 real fields is at 3.9
TILE_PX, OVERLAP_PX = 1536, 128
"""Larger fields are looked at in tiles, so that memory stays flat; a pixel is told by the tile it lies deepest in."""


class Settings(Plugin):
    """Find nuclei by the network that comes with the package."""

    threshold: float = Field(0.6, gt=0, lt=1)
    """How sure a pixel must be to be nucleus; lower values widen nuclei and find fainter ones."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the network calculates in; `auto` is bfloat16 on processors that have instructions for it."""

    def shipped_files(self) -> Mapping[str, Path]:
        """Return the weights of the network."""
        return {"weights": WEIGHTS}

    def find(self, nucleus: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Label the nuclei 1..n, 0 is background; nuclei that touch the edge are among them.

        The number of threads changes nothing: every pixel is added up in one thread, in the same order.
        """
        return labelled(network(), nucleus, self.threshold, self._dtype())

    def ran(self) -> dict[str, Any]:
        """What a card should say of this machine."""
        return {"precision": str(self._dtype()).removeprefix("torch.")}

    def _dtype(self) -> torch.dtype:
        import torch

        wide = self.precision == "float32" or (self.precision == "auto" and not has_bfloat16(torch.device("cpu")))
        return torch.float32 if wide else torch.bfloat16


def labelled(
    network: UNet, image: Real[np.ndarray, "y x"], threshold: float, dtype: torch.dtype
) -> Int32[np.ndarray, "y x"]:
    """The nuclei of a field as a network sees them; small ones at a second look, enlarged."""
    from cellssl.imaging.segmenters._nuclei_net_input import seen

    if image.size == 0 or image.min() == image.max():
        return np.zeros(image.shape, np.int32)
    light = seen(image)
    labels = _labelled_at(network, light, threshold, dtype, zoom=1)
    if 0 < typical_diameter_px(labels) < SMALL_PX:
        labels = _labelled_at(network, light, threshold, dtype, zoom=2)
    return standing_apart(light[0], fill_holes(largest_components(labels)))


def standing_apart(light: Float32[np.ndarray, "y x"], labels: Int32[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """The nuclei that are brighter than the background by more than the waves of blurred noise are, numbered anew.

    None of them where the field's nuclei as a whole are not.
    """
    inside, outside = light[labels > 0], light[labels == 0]
    if not len(inside) or not len(outside):
        return labels
    middle = float(np.median(outside))
    least = APART * 1.4826 * float(np.median(np.abs(outside - middle)))
    apart = np.bincount(labels.ravel(), light.ravel() - middle)[1:] > least * label_areas(labels)
    return select_labels(labels, apart & (float(np.median(inside)) - middle > least))


def typical_diameter_px(labels: Int32[np.ndarray, "y x"]) -> float:
    """The diameter of a disc with the median area; 0 without nuclei."""
    area = label_areas(labels)
    return float(2 * np.sqrt(np.median(area) / np.pi)) if len(area) else 0.0


def _labelled_at(
    network: UNet, seen: Float32[np.ndarray, "2 y x"], threshold: float, dtype: torch.dtype, zoom: int
) -> Int32[np.ndarray, "y x"]:
    from cellssl.imaging.segmenters._nuclei_net_decoding import labels_from
    from cellssl.imaging.segmenters._nuclei_net_unet import CENTRE_UNIT_PX

    told = told_by(network, seen, dtype, zoom)
    return labels_from(told[0] > np.log(threshold / (1 - threshold)), told[1:] * np.float32(CENTRE_UNIT_PX / zoom))


def told_by(
    network: UNet, seen: Float32[np.ndarray, "2 y x"], dtype: torch.dtype, zoom: int = 1
) -> Float32[np.ndarray, "3 y x"]:
    """What the network tells of every pixel of a field of any size, when it is enlarged by `zoom`."""
    told = np.empty((3, *seen.shape[1:]), np.float32)
    for around, inner, into in tiles(seen.shape[1:], TILE_PX // zoom, OVERLAP_PX // zoom):
        told[:, *into] = _told_of_tile(network, seen[:, *around], dtype, zoom)[:, *inner]
    return told


Window = tuple[slice, slice]


def tiles(
    shape: tuple[int, ...], tile_px: int = TILE_PX, overlap_px: int = OVERLAP_PX
) -> Iterator[tuple[Window, Window, Window]]:
    """For every tile: what is looked at, which part of that is kept, and where in the field that part lies."""
    for rows in _spans(shape[0], tile_px, overlap_px):
        for columns in _spans(shape[1], tile_px, overlap_px):
            around, inner, into = zip(rows, columns, strict=True)
            yield around, inner, into


def _spans(length: int, tile_px: int, overlap_px: int) -> Iterator[tuple[slice, slice, slice]]:
    start = stop = 0
    while stop < length:
        stop = min(start + tile_px, length)
        first = start + overlap_px if start else 0
        last = length if stop == length else stop - overlap_px
        yield slice(start, stop), slice(first - start, last - start), slice(first, last)
        start = stop - 2 * overlap_px


def _told_of_tile(
    network: UNet, seen: Float32[np.ndarray, "2 y x"], dtype: torch.dtype, zoom: int = 1
) -> Float32[np.ndarray, "3 y x"]:
    """One pass of the network over an image; where it was enlarged, pixels are told the mean over their parts."""
    import torch
    import torch.nn.functional as F

    from cellssl.imaging.segmenters._nuclei_net_unet import STEP_PX

    rows, columns = seen.shape[1:]
    step = STEP_PX // zoom
    images = torch.from_numpy(np.pad(seen, ((0, 0), (0, -rows % step), (0, -columns % step)), mode="edge"))[None]
    if zoom > 1:
        images = F.interpolate(images, scale_factor=float(zoom), mode="bilinear")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = network(images.contiguous(memory_format=torch.channels_last)).float()
    told: np.ndarray = (F.avg_pool2d(out, zoom) if zoom > 1 else out)[0, :, :rows, :columns].numpy()
    return told


@cache
def network(weights: Path = WEIGHTS) -> UNet:
    """The network with the weights that come with the package, or others of its kind."""
    import torch
    from safetensors.torch import load_file

    from cellssl.imaging.segmenters._nuclei_net_unet import UNet, folded

    empty = folded(UNet())
    empty.load_state_dict(load_file(weights))
    return empty.to(memory_format=torch.channels_last)
