"""hashing: files are hashed one by one or many at once, as `sha256sum` does."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellssl.artifacts.hashing import Hashed, hash_files, sha256_of


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 2**18, 3_000_000])
def test_a_hash_is_that_of_the_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"x" * size)
    assert sha256_of(tmp_path / "a") == digest(b"x" * size)


def test_many_files_are_hashed_at_once_and_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(50)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * number * 1000)
    os.mkfifo(tmp_path / "pipe")
    odd = [tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "not-there"]
    read, found = 0, dict[Path, Hashed | OSError]()
    for size, finished in hash_files([*files, *odd], workers=3):
        read, found = read + size, {**found, **finished}
    assert read == sum(range(50)) * 1000
    assert [found[file].sha256 for file in files] == [digest(file.read_bytes()) for file in files]
    assert [found[path].filename for path in odd] == [str(path) for path in odd]


def test_threads_may_end_at_any_moment(tmp_path: Path) -> None:
    """With threads that take turns a thousand times as often as usual; short files end while others are looked at."""
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(b"short")
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(1000):
            found = {path: one for _, finished in hash_files(files, workers=2) for path, one in finished.items()}
            assert found.keys() == set(files)
    finally:
        sys.setswitchinterval(usual_s)


LEFT = """
import sys, pathlib
from cellssl.artifacts.hashing import hash_files
for _ in hash_files([pathlib.Path(name) for name in sys.argv[1:]], workers=1):
    break
print("left", flush=True)
"""


def test_a_reading_that_is_left_keeps_no_process_alive(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**36)
    assert subprocess.run([sys.executable, "-c", LEFT, tmp_path / "large"], timeout=60, check=True).returncode == 0
