"""hashing: hashes of external files are cached, and computed again whenever the file may have changed."""

import hashlib
import os
from pathlib import Path

import pytest

from cellssl.artifacts.hashing import HashCache, sha256_of
from cellssl.errors import DataError


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "a") == digest(b"x" * 3_000_000)


def test_a_known_file_is_not_read_again(tmp_path: Path) -> None:
    file, cache = tmp_path / "a", HashCache(tmp_path / "hashes")
    file.write_bytes(b"one")
    stat = file.stat()
    cache.sha256(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only reading would show the change
    assert HashCache(tmp_path / "hashes").sha256(file) == digest(b"one")


@pytest.mark.parametrize("content", [b"two", b"longer"])
def test_a_file_with_another_time_or_size_is_read_again(tmp_path: Path, content: bytes) -> None:
    file, cache = tmp_path / "a", HashCache(tmp_path / "hashes")
    file.write_bytes(b"one")
    os.utime(file, ns=(0, 10**18))
    cache.sha256(file)
    file.write_bytes(content)
    assert cache.sha256(file) == digest(content)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"path": 3}'])
def test_a_broken_cache_entry_is_ignored(tmp_path: Path, content: bytes) -> None:
    file, cache = tmp_path / "a", HashCache(tmp_path / "hashes")
    file.write_bytes(b"one")
    cache.sha256(file)
    for entry in (tmp_path / "hashes").iterdir():
        entry.write_bytes(content)
    assert cache.sha256(file) == digest(b"one")


def test_without_a_writable_cache_the_hash_is_computed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "hashes").write_text("a file where the folder should be")
    assert HashCache(tmp_path / "hashes").sha256(tmp_path / "a") == digest(b"one")


@pytest.mark.parametrize("name", ["not-there", "folder", "folder/a/b"])
def test_an_unreadable_file_is_a_data_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        HashCache(tmp_path / "hashes").sha256(tmp_path / name)
