"""selection: which nuclei are rejected, and for which reason."""

import numpy as np
import pytest
from skimage.measure import label

from cellssl.imaging.labels import measure, select_labels, touches_edge
from cellssl.imaging.selection import REASONS, Limits, rejection_reasons
from cellssl.randomness import generator


def columns_of(labels: np.ndarray, **quality: object) -> dict[str, np.ndarray]:
    """The columns of the table of nuclei; perfect quality by default."""
    measured, n = measure(labels), int(labels.max())
    sides = dict(zip(("field_height_px", "field_width_px"), (np.full(n, side) for side in labels.shape), strict=True))
    perfect = {"solidity": np.ones(n), "saturated": np.zeros(n), "focus": np.ones(n)}
    return {**vars(measured), **sides, "at_edge": touches_edge(labels), **perfect, **quality}


def reasons_of(labels: np.ndarray, limits: Limits, **quality: object) -> list[str]:
    """The reason of every nucleus, in words; "kept" for those without one."""
    numbers = rejection_reasons(columns_of(labels, **quality), limits)
    return [("kept", *REASONS)[number] for number in numbers]


def blobs(name: str, rows: int = 80, columns: int = 70) -> np.ndarray:
    """A random label image with objects of many sizes and shapes."""
    noise = generator("tests", "blobs", name).random((rows // 5, columns // 5))
    return label(np.kron(noise, np.ones((5, 5))) > 0.6, connectivity=1).astype(np.int32)


def test_a_nucleus_on_the_border_is_rejected() -> None:
    labels = np.pad(np.ones((3, 3), int), ((0, 5), (2, 2)))  # touches the top edge only
    assert reasons_of(labels, Limits()) == ["edge"]


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_nucleus_one_pixel_from_the_border_is_kept(turn: int) -> None:
    labels = np.rot90(np.pad(np.ones((3, 3), int), ((1, 5), (2, 2))), turn)
    assert reasons_of(labels, Limits()) == ["kept"]


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
@pytest.mark.parametrize("window_px", [None, 20.0, 60.0])
def test_every_detected_nucleus_is_kept_or_counted_under_one_reason(name: str, window_px: float | None) -> None:
    labels = blobs(name)
    limits = Limits(min_area_px=40.0, max_area_px=400.0, window_px=window_px)
    rejected = rejection_reasons(columns_of(labels), limits)
    kept = select_labels(labels, rejected == 0)
    assert len(rejected) == labels.max()
    assert len(rejected) == (rejected == 0).sum() + sum((rejected == n).sum() for n in range(1, len(REASONS) + 1))
    assert (rejected == 0).sum() == kept.max() == len(np.unique(kept)) - 1


def test_the_first_reason_that_applies_is_taken() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[0, 0] = 1  # on the edge, and too small, and without a whole window
    labels[5, 5] = 2  # too small, and without a whole window
    labels[2:5, 10:13] = 3  # without a whole window
    labels[10:13, 10:13] = 4
    limits = Limits(min_area_px=9.0, max_area_px=9.0, window_px=8.0)
    assert reasons_of(labels, limits) == ["edge", "too_small", "window_outside", "kept"]


def test_ragged_saturated_and_blurred_nuclei_are_rejected_where_limits_are_set() -> None:
    labels = np.pad(np.kron(np.arange(1, 5), np.ones((3, 3), int)), 2)
    quality = {
        "solidity": np.array([0.5, 1, 1, 1]),
        "saturated": np.array([0, 0.5, 0, 0]),
        "focus": np.array([1, 1, 0.1, 1.0]),
    }
    limits = Limits(min_solidity=0.9, max_saturated=0.4, min_focus=0.2)
    assert reasons_of(labels, limits, **quality) == ["ragged", "saturated", "blurred", "kept"]
    assert reasons_of(labels, Limits(), **quality) == ["kept"] * 4


def test_a_field_without_nuclei_has_no_reasons() -> None:
    nothing = np.zeros((9, 9), np.int32)
    assert reasons_of(nothing, Limits(min_area_px=5.0, window_px=4.0)) == []
