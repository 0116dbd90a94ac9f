"""crops: rows that several processes write, in any order, into one stack whose disk space was reserved first."""

from pathlib import Path

import numpy as np
import pytest

from cellssl.artifacts.crops import in_blocks, open_crops, release_pages, reserve_crops, write_crops, write_rows
from cellssl.randomness import generator

SHAPE = (10, 2, 5, 5)


def crops() -> np.ndarray:
    return generator("tests", "crops").integers(0, 65_536, SHAPE).astype(np.uint16)


def test_rows_written_in_any_order_are_the_bytes_of_a_stack_written_at_once(tmp_path: Path) -> None:
    write_crops(tmp_path / "at once.npy", [crops()], SHAPE)
    assert reserve_crops(tmp_path / "by rows.npy", SHAPE)
    for first in (7, 0, 3):
        write_rows(tmp_path / "by rows.npy", first, crops()[first : first + (4 if first == 3 else 3)])
    assert (tmp_path / "by rows.npy").read_bytes() == (tmp_path / "at once.npy").read_bytes()
    assert (open_crops(tmp_path / "by rows.npy") == crops()).all()


def test_an_existing_stack_keeps_its_rows_and_one_of_another_shape_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "crops.npy"
    assert reserve_crops(path, SHAPE)
    write_rows(path, 0, crops())
    assert not reserve_crops(path, SHAPE)
    assert (open_crops(path) == crops()).all()
    assert reserve_crops(path, (11, *SHAPE[1:]))
    assert open_crops(path).shape[0] == 11 and open_crops(path).max() == 0


def test_the_disk_space_of_a_stack_is_reserved_at_once(tmp_path: Path) -> None:
    reserve_crops(tmp_path / "crops.npy", (100, 3, 64, 64))
    assert (tmp_path / "crops.npy").stat().st_blocks * 512 >= 2 * 100 * 3 * 64 * 64


@pytest.mark.parametrize("first", [-1, 8])
def test_rows_beyond_the_stack_are_refused(tmp_path: Path, first: int) -> None:
    reserve_crops(tmp_path / "crops.npy", SHAPE)
    with pytest.raises(ValueError, match="do not fit"):
        write_rows(tmp_path / "crops.npy", first, crops()[:3])


def test_a_stack_may_hold_no_crops(tmp_path: Path) -> None:
    assert reserve_crops(tmp_path / "crops.npy", (0, 2, 5, 5))
    assert open_crops(tmp_path / "crops.npy").shape == (0, 2, 5, 5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what is mapped")
def test_a_stack_that_is_read_once_through_takes_the_memory_of_a_block(tmp_path: Path) -> None:
    reserve_crops(tmp_path / "crops.npy", (1000, 2, 128, 128))  # 66 MB
    stack, before = open_crops(tmp_path / "crops.npy"), mapped_mb()
    for rows in in_blocks(np.arange(len(stack)), 50):
        assert not stack[rows].any()
        release_pages(stack)
    assert mapped_mb() - before < 16


def mapped_mb() -> float:
    """Return the memory of this process that is pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1e3
