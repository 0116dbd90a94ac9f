"""hash_cache: a file that has not changed is not read again, and no state of the cache gives a wrong hash."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellssl.artifacts.hash_cache import MANY, HashCache
from cellssl.artifacts.hashing import Hashed, identity_of
from cellssl.errors import DataError

WRONG = "f" * 64
"""A hash that no file has: what is found with it has not been read."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def noted(tmp_path: Path, sha256: str = WRONG, name: str = "a") -> Path:
    """A file of which a process has noted this hash."""
    file = tmp_path / name
    file.write_bytes(b"one")
    HashCache(tmp_path / "hashes").note({file: Hashed(sha256, identity_of(file), settled=True)})
    return file


def test_a_known_file_is_not_read_again(tmp_path: Path) -> None:
    file = noted(tmp_path)
    assert HashCache(tmp_path / "hashes").sha256(file) == WRONG
    assert HashCache(tmp_path / "hashes").sha256_of_all([file]) == {file: WRONG}
    assert HashCache(tmp_path / "hashes", trusted=False).sha256(file) == digest(b"one")


def test_an_edit_in_place_with_the_time_set_back_is_seen(tmp_path: Path) -> None:
    file = noted(tmp_path)
    before = file.stat()
    time.sleep(0.02)
    with file.open("r+b") as opened:
        opened.write(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert HashCache(tmp_path / "hashes").sha256(file) == digest(b"two")


def test_a_file_that_takes_the_place_of_another_is_read(tmp_path: Path) -> None:
    file = noted(tmp_path)
    (tmp_path / "new").write_bytes(b"two")
    os.utime(tmp_path / "new", ns=(0, file.stat().st_mtime_ns))
    (tmp_path / "new").replace(file)
    assert HashCache(tmp_path / "hashes").sha256(file) == digest(b"two")


def test_a_file_that_was_changed_just_before_is_read_again(tmp_path: Path) -> None:
    file, cache = tmp_path / "a", HashCache(tmp_path / "hashes")
    for content in (b"one", b"two", b"six"):  # faster than the clock of the file system may tick
        file.write_bytes(content)
        assert cache.sha256(file) == digest(content)


@pytest.mark.parametrize("damage", ["torn", "flipped", "garbage", "binary", "digits", "other"])
def test_a_damaged_line_is_ignored_and_the_others_are_not(tmp_path: Path, damage: str) -> None:
    file, other = noted(tmp_path, digest(b"one")), noted(tmp_path, WRONG, "b")
    (line,) = [path for path in (tmp_path / "hashes").iterdir() if '/a"' in path.read_text()]
    text = line.read_text()
    place = text.index('"sha256": "') + 20
    flipped = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
    damaged = {
        "torn": text[: len(text) // 2].encode(),
        "flipped": flipped.encode(),
        "garbage": b"[{}\n",
        "binary": b"\xff\0\n" * 9,
        "digits": text.replace('"inode": ', '"inode": ' + "9" * 5000).encode(),
        "other": text.replace("/a", "/c").encode(),
    }[damage]
    line.write_bytes(damaged)
    cache = HashCache(tmp_path / "hashes")
    assert cache.sha256(file) == digest(b"one")
    assert cache.sha256(other) == WRONG


@pytest.mark.parametrize("folder", ["a file", "not allowed"])
def test_without_a_writable_cache_the_hash_is_computed(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a").write_bytes(b"one")
    os.utime(tmp_path / "a", ns=(0, 0))
    if folder == "a file":
        (tmp_path / "hashes").write_text("a file where the folder should be")
    cache = HashCache(Path("/proc/nowhere") if folder == "not allowed" else tmp_path / "hashes")
    assert cache.sha256(tmp_path / "a") == digest(b"one")


def test_the_files_of_many_processes_become_one_that_knows_it_all(tmp_path: Path) -> None:
    files = [noted(tmp_path, f"{number:064d}", f"file {number}") for number in range(MANY + 1)]
    former = tmp_path / "hashes" / f"{'a' * 24}.json"
    former.write_text("{}")
    for _ in range(2):
        cache = HashCache(tmp_path / "hashes")
        assert [cache.sha256(file) for file in files] == [f"{number:064d}" for number in range(MANY + 1)]
        assert len(list((tmp_path / "hashes").iterdir())) == 1


AT_ONCE = """
import sys, pathlib
from cellssl.artifacts.hash_cache import HashCache
from cellssl.artifacts.hashing import Hashed, identity_of
root = pathlib.Path(sys.argv[1])
for file in 6 * list((root / "files").iterdir()):
    cache = HashCache(root / "hashes")
    assert cache.sha256(file) == file.name
    cache.note({file: Hashed(file.name, identity_of(file), settled=True)})
"""


def test_processes_that_note_and_merge_at_once_read_right_hashes(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number in range(8):
        content = str(number).encode()
        (tmp_path / "files" / digest(content)).write_bytes(content)
    processes = [subprocess.Popen([sys.executable, "-c", AT_ONCE, tmp_path]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert not list((tmp_path / "hashes").glob("*.tmp"))


@pytest.mark.parametrize("name", ["not-there", "folder", "folder/a/b", "pipe"])
def test_an_unreadable_file_is_a_data_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for look_up in (lambda cache, file: cache.sha256(file), lambda cache, file: cache.sha256_of_all([file])):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            look_up(HashCache(tmp_path / "hashes"), tmp_path / name)
