"""digits: nothing in -> the 1,797 handwritten digits that come with scikit-learn, 8 x 8 px, from 0 to 16."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cellssl.datasets.base import Field, Value
from cellssl.datasets.crops.class_images import ClassImageDataset, Picture, Pictures
from cellssl.events import Event, Progress


class Settings(ClassImageDataset):
    """The 1,797 real digits that scikit-learn contains (UCI, Alpaydin and Kaynak 1998): 8 x 8 px, ten classes, offline.

    They have no official train and test parts: let `split` draw the parts with `classes = "class"`.
    """

    def wells(self) -> Sequence[str]:
        """Return one well per digit."""
        return [str(digit) for digit in range(10)]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return the hash of the library's file, so that another version of it cannot change the digits unnoticed."""
        library = find_spec("sklearn")
        assert library is not None and library.origin is not None
        return {"pictures": sha256(Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz")}

    def load_pictures(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """Load them from the library."""
        pixels, classes = _digits()
        yield Progress(0, len(pixels), "crops")
        rows = [Picture(f"digit_{row:04d}", str(digit), str(digit)) for row, digit in enumerate(classes)]
        return Pictures(rows, ("ink",), (1, 8, 8), 16, lambda some: pixels[some])


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (n, 1, 8, 8) from 0 to 16, and the digits (n)."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images[:, None].astype("<u2"), loaded.target.astype("<i8")
