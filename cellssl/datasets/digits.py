"""digits: nothing in -> the 1,797 handwritten digits that scikit-learn carries, 8 x 8 px, from 0 to 16."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cellssl.datasets.base import Field, Value
from cellssl.datasets.crops.class_images import Picture, Pictures, PictureSettings
from cellssl.events import Event, Progress


class Settings(PictureSettings):
    """The 1,797 real digits that scikit-learn carries (UCI, Alpaydin and Kaynak 1998): 8 x 8 px, ten classes, offline.

    They are not divided: let `split` draw its parts by `classes = "class"`.
    """

    def wells(self) -> Sequence[str]:
        """A well a digit."""
        return [str(digit) for digit in range(10)]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """The bytes of the library's file, so that another version cannot change them unseen."""
        library = find_spec("sklearn")
        assert library is not None and library.origin is not None
        return {"pictures": sha256(Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz")}

    def arrive(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """They lie in the library."""
        pixels, classes = _digits()
        yield Progress(0, len(pixels), "crops")
        rows = [Picture(f"digit_{row:04d}", str(digit), str(digit)) for row, digit in enumerate(classes)]
        return Pictures(rows, ("ink",), (1, 8, 8), 16, lambda some: pixels[some])


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, 8, 8) from 0 to 16, and the digits (n)."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images[:, None].astype("<u2"), loaded.target.astype("<i8")
