"""nuclei_net: an image of stained nuclei in -> one label per nucleus out, by a small network in the package.

The network (`_nuclei_net_unet`) predicts for every pixel whether it belongs to a nucleus and where the centre of that
nucleus lies; pixels that predict the same centre are one nucleus (`_nuclei_net_decoding`). It was trained on nuclei of
8 to 62 pixels across, so it needs no size. Its training data and its scores are in `nuclei_net.json`, beside its
weights; `scripts/train_nuclei_net.py` made both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from cellssl.device import has_bfloat16
from cellssl.imaging.labels import fill_holes, label_areas, largest_components, select_labels
from cellssl.imaging.segmenter import SegmenterSettings

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float32, Int32, Real

    from cellssl.imaging.segmenters._nuclei_net_unet import UNet

WEIGHTS, CARD = Path(__file__).with_suffix(".safetensors"), Path(__file__).with_suffix(".json")
ENLARGE_BELOW_PX = 18.0  # where nuclei are smaller than this, the image is segmented again at twice its size
MIN_CONTRAST = 2.0  # in SDs of the background: noise stays below 1.2, the dimmest of 541 real fields is at 3.9
TILE_PX, OVERLAP_PX = 1536, 128
"""Larger fields are processed in tiles, so that memory stays bounded; a pixel is predicted by the tile in which it lies
deepest."""


class Settings(SegmenterSettings):
    """Find nuclei with the network that ships with the package."""

    threshold: float = Field(0.6, gt=0, lt=1)
    """Smallest probability at which a pixel counts as nucleus; lower values widen nuclei and find fainter ones."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format in which the network computes; `auto` takes bfloat16 on processors with instructions for it."""

    def shipped_files(self) -> Mapping[str, Path]:
        """Return the weights of the network."""
        return {"weights": WEIGHTS}

    def segment(self, image: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Return labels 1..n, 0 for background; nuclei that touch the edge are included.

        The number of threads does not change the result: every pixel is summed in one thread, in the same order.
        """
        return segment_with(load_network(), image, self.threshold, self._dtype())

    def ran(self) -> dict[str, Any]:
        """Return the number format that this machine used."""
        return {"precision": str(self._dtype()).removeprefix("torch.")}

    def _dtype(self) -> torch.dtype:
        import torch

        wide = self.precision == "float32" or (self.precision == "auto" and not has_bfloat16(torch.device("cpu")))
        return torch.float32 if wide else torch.bfloat16


def segment_with(
    network: UNet, image: Real[np.ndarray, "y x"], threshold: float, dtype: torch.dtype
) -> Int32[np.ndarray, "y x"]:
    """Return the labels of a field; where its nuclei are small, those of the field at twice its size."""
    from cellssl.imaging.segmenters._nuclei_net_input import normalised_input

    if image.size == 0 or image.min() == image.max():
        return np.zeros(image.shape, np.int32)
    inputs = normalised_input(image)
    labels = _segment_at_zoom(network, inputs, threshold, dtype, zoom=1)
    if 0 < typical_diameter_px(labels) < ENLARGE_BELOW_PX:
        labels = _segment_at_zoom(network, inputs, threshold, dtype, zoom=2)
    return drop_faint(inputs[0], fill_holes(largest_components(labels)))


def drop_faint(light: Float32[np.ndarray, "y x"], labels: Int32[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """Drop nuclei that exceed the background by no more than blurred noise does, and number the others from 1.

    Where all nuclei of the field together do not exceed it, all are dropped.
    """
    inside, outside = light[labels > 0], light[labels == 0]
    if not len(inside) or not len(outside):
        return labels
    background = float(np.median(outside))
    min_contrast = MIN_CONTRAST * 1.4826 * float(np.median(np.abs(outside - background)))
    bright = np.bincount(labels.ravel(), light.ravel() - background)[1:] > min_contrast * label_areas(labels)
    return select_labels(labels, bright & (float(np.median(inside)) - background > min_contrast))


def typical_diameter_px(labels: Int32[np.ndarray, "y x"]) -> float:
    """Return the diameter of a disc with the median area; 0 without nuclei."""
    area = label_areas(labels)
    return float(2 * np.sqrt(np.median(area) / np.pi)) if len(area) else 0.0


def _segment_at_zoom(
    network: UNet, inputs: Float32[np.ndarray, "2 y x"], threshold: float, dtype: torch.dtype, zoom: int
) -> Int32[np.ndarray, "y x"]:
    from cellssl.imaging.segmenters._nuclei_net_decoding import decode_labels
    from cellssl.imaging.segmenters._nuclei_net_unet import OFFSET_UNIT_PX

    predicted = predict(network, inputs, dtype, zoom)
    is_nucleus = predicted[0] > np.log(threshold / (1 - threshold))
    return decode_labels(is_nucleus, predicted[1:] * np.float32(OFFSET_UNIT_PX / zoom))


def predict(
    network: UNet, inputs: Float32[np.ndarray, "2 y x"], dtype: torch.dtype, zoom: int = 1
) -> Float32[np.ndarray, "3 y x"]:
    """Return the network's output for every pixel of a field of any size, which is enlarged by `zoom` first."""
    predicted = np.empty((3, *inputs.shape[1:]), np.float32)
    for tile, inner, target in tiles(inputs.shape[1:], TILE_PX // zoom, OVERLAP_PX // zoom):
        predicted[:, *target] = _predict_tile(network, inputs[:, *tile], dtype, zoom)[:, *inner]
    return predicted


Window = tuple[slice, slice]


def tiles(
    shape: tuple[int, ...], tile_px: int = TILE_PX, overlap_px: int = OVERLAP_PX
) -> Iterator[tuple[Window, Window, Window]]:
    """Yield for every tile: its place in the field, the part of it that is used, and that part's place in the field."""
    for rows in _spans(shape[0], tile_px, overlap_px):
        for columns in _spans(shape[1], tile_px, overlap_px):
            tile, inner, target = zip(rows, columns, strict=True)
            yield tile, inner, target


def _spans(length: int, tile_px: int, overlap_px: int) -> Iterator[tuple[slice, slice, slice]]:
    start = stop = 0
    while stop < length:
        stop = min(start + tile_px, length)
        first = start + overlap_px if start else 0
        last = length if stop == length else stop - overlap_px
        yield slice(start, stop), slice(first - start, last - start), slice(first, last)
        start = stop - 2 * overlap_px


def _predict_tile(
    network: UNet, inputs: Float32[np.ndarray, "2 y x"], dtype: torch.dtype, zoom: int = 1
) -> Float32[np.ndarray, "3 y x"]:
    """Apply the network once; where the image was enlarged, a pixel gets the mean over its parts."""
    import torch
    import torch.nn.functional as F

    from cellssl.imaging.segmenters._nuclei_net_unet import SIZE_MULTIPLE_PX

    rows, columns = inputs.shape[1:]
    step = SIZE_MULTIPLE_PX // zoom
    images = torch.from_numpy(np.pad(inputs, ((0, 0), (0, -rows % step), (0, -columns % step)), mode="edge"))[None]
    if zoom > 1:
        images = F.interpolate(images, scale_factor=float(zoom), mode="bilinear")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = network(images.contiguous(memory_format=torch.channels_last)).float()
    predicted: np.ndarray = (F.avg_pool2d(out, zoom) if zoom > 1 else out)[0, :, :rows, :columns].numpy()
    return predicted


@cache
def load_network(weights: Path = WEIGHTS) -> UNet:
    """Return the network with the weights that ship with the package, or with others of the same shapes."""
    import torch
    from safetensors.torch import load_file

    from cellssl.imaging.segmenters._nuclei_net_unet import UNet, fuse_batch_norm

    network = fuse_batch_norm(UNet())
    network.load_state_dict(load_file(weights))
    return network.to(memory_format=torch.channels_last)
