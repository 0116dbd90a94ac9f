"""bounded: a file that anyone may have written in; its bytes, JSON or arrays out, within bounds of memory and time.

Everything that artifacts and users' files have to say passes through here before it is used. All functions raise
OSError or ValueError with a reason; the caller says whose file it is, and the cure.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, NoReturn

if TYPE_CHECKING:
    import numpy as np

JSON_BYTES = 2**28
"""Size of the largest JSON file that is read: the card of a plate with a million images has about as much."""
DEEPEST = 64
"""How deep tables and lists may be nested; recipes and cards have fewer than ten levels."""
PACKED = 200
"""How many bytes one packed byte may stand for where the unpacked bytes are many; real images and tables pack less."""
TEXT_PACKED = 50
"""The same for text."""
SMALL = 2**28
"""Bytes that a packed file may always unpack to, however short it is: a blank image packs 1,000 to 1."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON may write a character that no file and no terminal can take."""


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a file to read it; ValueError where it is a folder, pipe or device, which could be waited for for ever.

    With `follow` false, a symbolic link is refused, too.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: to open a device may have an effect
        raise ValueError("it is a folder, a pipe or a device, and not a file")
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is a folder, a pipe or a device, and not a file")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, most: int, *, follow: bool = True) -> bytes:
    """Return the content of a file of at most `most` bytes; ValueError where it has more."""
    with open_regular(path, follow=follow) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def read_json(path: Path, *, follow: bool = True) -> Any:
    """Return the content of a JSON file; ValueError where it is not one that this tool could have written."""
    return parse_json(read_bytes(path, JSON_BYTES, follow=follow).decode("utf-8"))


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError for what JSON forbids or leaves open: keys that occur twice, numbers that are not finite or
    longer than 64 bits, nesting deeper than DEEPEST, and characters that cannot be written.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once_each,
            parse_float=_finite,
            parse_int=_of_64_bits,
            parse_constant=_no_number,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_depth(value)
    if SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # a UnicodeEncodeError is a ValueError
    return value


def check_depth(value: Any) -> None:
    """Raise ValueError where tables and lists are nested deeper than DEEPEST."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            below
            for above in level
            for below in (above.values() if isinstance(above, dict) else above if isinstance(above, list) else ())
            if isinstance(below, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return table


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is not finite")
    return number


def _of_64_bits(text: str) -> int:
    number = int(text) if len(text) <= 20 else 2**64
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"the number {text[:20]}… has more than 64 bits")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}")


def check_packed(unpacked: int, packed: int, ratio: int = PACKED, small: int = SMALL) -> None:
    """Raise ValueError where so few bytes claim to stand for so many that no real data would."""
    if unpacked > max(small, ratio * packed):
        raise ValueError(
            f"its {packed:,} bytes would unpack to {unpacked:,}, more than {ratio} times as many; save it unpacked"
        )


def unpack_gzip(packed: bytes) -> bytes:
    """Return the text in a gzip file; ValueError where it is damaged, or unpacks to more than real text would."""
    most = max(SMALL // 4, TEXT_PACKED * len(packed))
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            text: bytes = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it is not a whole gzip file: {error}") from error
    check_packed(len(text), len(packed), TEXT_PACKED, SMALL // 4)
    return text


class ArrayHeader(NamedTuple):
    """What the first bytes of an .npy file say, and how long they are."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers, which follow the header."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array_header(file: IO[bytes], size: int) -> ArrayHeader:
    """Return the header of an .npy file of `size` bytes; ValueError where these bytes cannot hold what it claims."""
    import numpy as np

    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"its version {version} is not known")
        shape, fortran_order, dtype = readers[version](file)
        header = ArrayHeader(shape, dtype, fortran_order, file.tell())
    except Exception as error:  # numpy evaluates the header as Python, and raises whatever comes of it
        raise ValueError(f"it does not begin as an .npy file: {_first_line(error)}") from error
    if dtype.hasobject or dtype.fields is not None or dtype.subdtype is not None or dtype.kind not in "biufUS":
        raise ValueError(f"it holds {dtype}, and not plain numbers")
    if any(isinstance(length, bool) or not 0 <= length < 2**48 for length in shape):
        raise ValueError(f"its header claims the shape {str(shape)[:200]}")
    if header.offset + header.nbytes > size:
        raise ValueError(f"its header claims {dtype} of the shape {shape}, more than its {size:,} bytes can hold")
    return header


def map_array(path: Path) -> np.ndarray:
    """Return the array of an .npy file as a memory map; ValueError where the file cannot hold what it claims."""
    import numpy as np

    with open_regular(path) as file:
        header = read_array_header(file, os.fstat(file.fileno()).st_size)
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    if not header.nbytes:  # nothing can be mapped
        return np.empty(header.shape, header.dtype, order=order)
    return np.memmap(path, header.dtype, "r", header.offset, header.shape, order)


class PackedArrays:
    """The arrays of an .npz file by name; each is read when it is asked for, after its size was found to be true."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._members = {
            info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")
        }
        check_packed(sum(info.file_size for info in self._members.values()), size)
        for name, info in self._members.items():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"its array {name!r} is packed in a way that numpy does not write")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self._members)

    def header(self, name: str) -> ArrayHeader:
        """Return shape and type of an array, without its numbers."""
        info = self._members[name]
        with self._archive.open(info) as file:
            return read_array_header(file, info.file_size)

    def read(self, name: str) -> np.ndarray:
        """Return an array."""
        import numpy as np

        info = self._members[name]
        with self._archive.open(info) as file:
            header = read_array_header(file, info.file_size)
            flat = np.empty(math.prod(header.shape), header.dtype)
            if flat.nbytes and file.readinto(flat.view(np.uint8)) != flat.nbytes:  # type: ignore[attr-defined]
                raise ValueError(f"its array {name!r} is cut short")
            file.read(1)  # at the end of a member, zipfile compares its checksum
        return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


@contextmanager
def open_arrays(path: Path) -> Iterator[PackedArrays]:
    """Open an .npz file; whatever is wrong with it, or with an array that is read from it, is a ValueError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                yield PackedArrays(archive, size)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, RuntimeError) as error:
            # zipfile raises RuntimeError for a member with a password, and NotImplementedError for rare compressions
            raise ValueError(f"it is not a whole .npz file: {_first_line(error)}") from error


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Return all arrays of an .npz file."""
    with open_arrays(path) as arrays:
        return {name: arrays.read(name) for name in arrays.names}


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
