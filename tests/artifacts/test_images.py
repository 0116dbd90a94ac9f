"""images: which label images are read, and which are refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellssl.artifacts.images import read_labels, write_labels
from cellssl.errors import DataError

LABELS = np.kron(np.arange(6).reshape(2, 3), np.ones((4, 4), np.int32)).astype(np.int32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.float32])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "labels.tif", LABELS.astype(dtype))
    assert (read_labels(tmp_path / "labels.tif") == LABELS).all()


@pytest.mark.parametrize("highest", [5, 65_535, 65_536, 2_000_000])
def test_labels_that_were_written_are_read_again(tmp_path: Path, highest: int) -> None:
    labels = np.where(LABELS == 5, highest, LABELS)
    write_labels(tmp_path / "labels.tif", labels)
    assert (read_labels(tmp_path / "labels.tif") == labels).all()


WRONG = {
    "halves": LABELS / 2,
    "below 0": LABELS - 1,
    "nan": np.where(LABELS == 1, np.nan, LABELS),
    "a stack": np.stack([LABELS] * 5),
    "too high": LABELS.astype(np.uint64) * 2**31,
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_label_image_is_refused_by_its_name(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, WRONG[fault], photometric="minisblack")
    with pytest.raises(DataError, match=r"labels\.tif"):
        read_labels(path)


def test_a_label_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_labels(tmp_path / "none.tif")
