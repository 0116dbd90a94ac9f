"""nuclei_net: an image of stained nuclei in -> one label per nucleus out, by a small network in the package.

The network (`_nuclei_net_unet`) predicts for every pixel whether it belongs to a nucleus and where the centre of that
nucleus lies; pixels that predict the same centre are one nucleus (`_nuclei_net_decoding`). It sees every field without
its smooth background, and at a size at which nuclei are some 26 pixels across: a coarse look measures them first, and
what the network finds corrects it. Its training data and its scores are in `nuclei_net.json`, beside its
weights; `scripts/train_nuclei_net.py` made both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from cellssl.device import has_bfloat16
from cellssl.imaging.background import background_surface
from cellssl.imaging.labels import fill_holes, largest_components, select_labels, typical_diameter_px
from cellssl.imaging.segmenter import SegmenterSettings
from cellssl.imaging.segmenters._nuclei_net_background import Background, local_background

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float32, Int32, Real

    from cellssl.imaging.segmenters._nuclei_net_unet import UNet

ALGORITHM = 2  # 2: every field is shown at the size for which the network was trained, and noise is judged locally
WEIGHTS, CARD = Path(__file__).with_suffix(".safetensors"), Path(__file__).with_suffix(".json")
WORKING_PX = 26.0
"""Diameter to which the network sees large nuclei shrunk, which saves time."""
ENLARGED_PX = 20.0
"""Diameter to which it sees small nuclei enlarged; more would cost more and find no more."""
KEPT_PX = (18.0, 30.0)
"""Nuclei of such a diameter are shown as they are."""
SHRINKING, ENLARGING = tuple(step / 16 for step in range(1, 15)), (2.0, 3.0, 4.0)
"""Factors of the size at which a field is shown; squares of 16 pixels are whole pixels under each of them."""
FITTING_PX = (18.0, 36.0)
"""Where the nuclei that the network found would have another diameter at the size shown, they are shown again."""
NUCLEUS_UM = (3.0, 45.0)
"""Diameters of nuclei from which a search starts where the size of a pixel is known."""
VISIBLE = 5.0  # standard deviations; 1 of 1,000 pixels of noise is brighter than 3.1
SMALLEST_SIDE_PX, SMALLEST_AREA_PX = 8, 10  # of a field and of a nucleus; a disc of 6 px has 28
MIN_CONTRAST = 2.0  # in SDs of the background: noise stays below 1.2, the dimmest of 541 real fields is at 3.9
MOST_LOOKS = 3  # the size at which a field is shown is corrected at most twice
UNEVEN = 0.5  # a background that varies by more than this share of the nuclei's brightness is taken off once more
WHOLE_PX = 16  # so many pixels of a field are whole pixels at every zoom
TILE_PX, OVERLAP_PX = 1536, 128
"""Larger fields are processed in tiles, so that memory stays bounded; a pixel is predicted by the tile in which it lies
deepest. Both are sides at the size that the network sees."""


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
        return segment_with(load_network(), image, self.threshold, self._dtype(), pixel_um)

    def ran(self) -> dict[str, Any]:
        """Return the number format that this machine used."""
        return {"precision": str(self._dtype()).removeprefix("torch.")}

    def _dtype(self) -> torch.dtype:
        import torch

        wide = self.precision == "float32" or (self.precision == "auto" and not has_bfloat16(torch.device("cpu")))
        return torch.float32 if wide else torch.bfloat16


def segment_with(
    network: UNet,
    image: Real[np.ndarray, "y x"],
    threshold: float,
    dtype: torch.dtype,
    pixel_um: float | None = None,
) -> Int32[np.ndarray, "y x"]:
    """Return the labels of a field; the network sees it at a size at which its nuclei are about WORKING_PX wide."""
    from cellssl.imaging.segmenters._nuclei_net_input import normalised_light

    if min(image.shape) < SMALLEST_SIDE_PX or image.min() == image.max():
        return np.zeros(image.shape, np.int32)
    light = np.asarray(image - background_surface(image), np.float32)
    expected = first_diameter_px(light, pixel_um)
    # the first look measures nuclei that are perhaps too small to be shown as they are: enlarging takes far longer
    zoom = min(zoom_for(expected), 1.0)
    for look in range(1, MOST_LOOKS + 1):
        labels = _segment_at_zoom(network, normalised_light(light), threshold, dtype, zoom)
        background = local_background(light, labels)
        even = is_even(background, light, labels)
        if labels.any():
            fitting = fitting_zoom(labels, zoom)
        else:
            fitting = zoom_for(expected) if zoom == 1 and rises_above_noise(light) else zoom
        if look == MOST_LOOKS or (fitting == zoom and even):
            break
        light, zoom = light if even else light - background.level, fitting
    return drop_faint(light, fill_holes(largest_components(labels)), background)


def fitting_zoom(labels: Int32[np.ndarray, "y x"], zoom: float) -> float:
    """Return the factor at which nuclei of the size of the found ones are shown; `zoom` where that fits them too."""
    found = typical_diameter_px(labels)
    return zoom if not found or FITTING_PX[0] <= found * zoom <= FITTING_PX[1] else zoom_for(found)


def is_even(background: Background, light: Float32[np.ndarray, "y x"], labels: Int32[np.ndarray, "y x"]) -> bool:
    """Return whether the background varies by less than the nuclei, or, where there are none, than its noise."""
    low, high = np.percentile(background.level[::8, ::8], (1, 99))
    inside = labels > 0
    contrast = float(np.median((light - background.level)[inside])) if inside.any() else 0.0
    return bool(high - low <= max(UNEVEN * contrast, 5 * float(np.median(background.noise))))


def rises_above_noise(light: Float32[np.ndarray, "y x"]) -> bool:
    """Return whether anything in a field is brighter than noise would be: an empty well is not searched enlarged."""
    dark, middle, bright = np.percentile(light, (16, 50, 99.9))
    return bool(bright - middle > VISIBLE * (middle - dark))


def zoom_for(diameter_px: float) -> float:
    """Return the factor of the size at which nuclei of this diameter are shown."""
    if KEPT_PX[0] <= diameter_px <= KEPT_PX[1]:
        return 1.0
    factors, shown_px = (SHRINKING, WORKING_PX) if diameter_px > KEPT_PX[1] else (ENLARGING, ENLARGED_PX)
    return min(factors, key=lambda zoom: abs(np.log(zoom * diameter_px / shown_px)))


def first_diameter_px(light: Float32[np.ndarray, "y x"], pixel_um: float | None) -> float:
    """Return the diameter of the blobs with most contrast; where the size of a pixel is known, that of a nucleus.

    Where a single blob has most of it, bright parts are compressed first: it may be dust.
    """
    from cellssl.imaging.segmenters.watershed import one_blob_decides
    from cellssl.imaging.segmenters.watershed import typical_diameter_px as blob_diameter_px

    if min(light.shape) >= 4 * SMALLEST_SIDE_PX and one_blob_decides(light):
        dark, bright = np.percentile(light, (1, 90))
        light = np.arcsinh((light - np.float32(dark)) / np.float32(max(bright - dark, 1e-6)))
    diameter = blob_diameter_px(light)
    return diameter if pixel_um is None else float(np.clip(diameter * pixel_um, *NUCLEUS_UM) / pixel_um)


def drop_faint(
    light: Float32[np.ndarray, "y x"], labels: Int32[np.ndarray, "y x"], background: Background
) -> Int32[np.ndarray, "y x"]:
    """Drop nuclei that exceed the background around them by no more than blurred noise does; number the others from 1.

    Where all nuclei of the field together do not exceed it, all are dropped.
    """
    where = np.flatnonzero(labels)
    if not len(where) or len(where) == labels.size:
        return labels
    which = labels.ravel()[where] - 1
    excess = light.ravel()[where] - background.level.ravel()[where]
    noise = background.noise.ravel()[where]
    clear = np.bincount(which, excess) > MIN_CONTRAST * np.bincount(which, noise)
    clear &= np.bincount(which) >= SMALLEST_AREA_PX
    whole = float(np.median(excess)) > MIN_CONTRAST * float(np.median(noise))
    return select_labels(labels, clear & whole)


def _segment_at_zoom(
    network: UNet, light: Float32[np.ndarray, "y x"], threshold: float, dtype: torch.dtype, zoom: float
) -> Int32[np.ndarray, "y x"]:
    """Return the labels that the network gives where the field is shown at `zoom` times its size."""
    from cellssl.imaging.segmenters._nuclei_net_decoding import decode_labels
    from cellssl.imaging.segmenters._nuclei_net_unet import OFFSET_UNIT_PX

    predicted = predict(network, light, dtype, zoom)
    level = np.float32(np.log(threshold / (1 - threshold)))
    unit = np.float32(OFFSET_UNIT_PX / max(zoom, 1.0))
    labels = decode_labels(predicted[0] > level, predicted[1:] * unit)
    return labels if zoom >= 1 else _at_full_size(labels, predicted[0], float(level), zoom, light.shape)


def _at_full_size(
    labels: Int32[np.ndarray, "small_y small_x"],
    logit: Float32[np.ndarray, "small_y small_x"],
    level: float,
    zoom: float,
    shape: tuple[int, ...],
) -> Int32[np.ndarray, "y x"]:
    """Enlarge labels: outlines follow the interpolated logit, so that they are finer than the pixels of the labels."""
    import torch
    import torch.nn.functional as F
    from scipy import ndimage

    # the interpolated outline may lie up to two small pixels beyond the labels
    filled = np.where(labels > 0, labels, ndimage.maximum_filter(labels, 5))
    enlarged = F.interpolate(
        torch.from_numpy(logit)[None, None], scale_factor=1 / zoom, mode="bilinear", recompute_scale_factor=False
    )
    inside = enlarged[0, 0, : shape[0], : shape[1]].numpy() > level
    rows, columns = (
        np.minimum(((np.arange(full) + 0.5) * zoom).astype(int), small - 1)
        for small, full in zip(labels.shape, shape, strict=True)
    )
    return np.where(inside, filled[rows[:, None], columns], 0).astype(np.int32)


def predict(
    network: UNet, light: Float32[np.ndarray, "y x"], dtype: torch.dtype, zoom: float = 1.0
) -> Float32[np.ndarray, "3 shown_y shown_x"]:
    """Return the network's output for the normalised light of a field of any size, shown at `zoom` times its size.

    Where it is enlarged, a pixel of the field gets the mean over its parts, and the output has the size of the field.
    Where it is shrunk, the output has the size that is shown.
    """
    shape, scale = light.shape, min(zoom, 1.0)
    predicted = np.empty((3, *(math.ceil(side * scale) for side in shape)), np.float32)
    tile_px, overlap_px = (max(int(side / zoom) // WHOLE_PX, 1) * WHOLE_PX for side in (TILE_PX, OVERLAP_PX))
    for tile, inner, target in tiles(shape, tile_px, overlap_px):
        of_tile = _predict_tile(network, light[tile], dtype, zoom)
        predicted[:, *(_scaled(one, scale) for one in target)] = of_tile[:, *(_scaled(one, scale) for one in inner)]
    return predicted


def _scaled(place: slice, scale: float) -> slice:
    return slice(int(place.start * scale), math.ceil(place.stop * scale))


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
    network: UNet, light: Float32[np.ndarray, "y x"], dtype: torch.dtype, zoom: float = 1.0
) -> Float32[np.ndarray, "3 shown_y shown_x"]:
    """Apply the network once; see `predict`."""
    import torch
    import torch.nn.functional as F

    from cellssl.imaging.segmenters._nuclei_net_input import with_compressed

    rows, columns = light.shape
    padding = ((0, -rows % WHOLE_PX), (0, -columns % WHOLE_PX))
    images = torch.from_numpy(np.pad(light, padding, mode="edge"))[None, None]
    full = images.shape[2:]
    if zoom != 1:
        images = F.interpolate(images, size=[round(side * zoom) for side in full], mode="bilinear", antialias=zoom < 1)
    images = torch.from_numpy(with_compressed(images[0, 0].numpy()))[None]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = _whole_multiples(network, images)
    if zoom > 1:
        out = F.interpolate(out, size=full, mode="bilinear", antialias=True)
    scale = min(zoom, 1.0)
    predicted: np.ndarray = out[0, :, : math.ceil(rows * scale), : math.ceil(columns * scale)].numpy()
    return predicted


def _whole_multiples(network: UNet, images: torch.Tensor) -> torch.Tensor:
    """Apply the network to images of any size."""
    import torch
    import torch.nn.functional as F

    from cellssl.imaging.segmenters._nuclei_net_unet import SIZE_MULTIPLE_PX

    rows, columns = images.shape[2:]
    images = F.pad(images, (0, -columns % SIZE_MULTIPLE_PX, 0, -rows % SIZE_MULTIPLE_PX), mode="replicate")
    out: torch.Tensor = network(images.contiguous(memory_format=torch.channels_last))
    return out.float()[:, :, :rows, :columns]


@cache
def load_network() -> UNet:
    """Return the network with the weights that ship with the package; every process reads them once."""
    return read_network(WEIGHTS)


def read_network(weights: Path) -> UNet:
    """Return a network with the weights of a file."""
    import torch
    from safetensors.torch import load_file

    from cellssl.imaging.segmenters._nuclei_net_unet import UNet, fuse_batch_norm

    network = fuse_batch_norm(UNet())
    network.load_state_dict(load_file(weights))
    return network.to(memory_format=torch.channels_last)
