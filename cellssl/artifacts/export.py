"""export: an artifact in, real copies of its card or its files outside the store out; never links."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellssl.artifacts.card import NAME
from cellssl.artifacts.store import Artifact
from cellssl.errors import FailedError, UsageError
from cellssl.files import atomic_path, write_text


def copy_card(artifact: Artifact, target: Path) -> None:
    """The card with the path of its artifact; an unchanged result leaves the file untouched."""
    text = artifact.card.text(path=str(artifact.path)) + "\n"
    with _in_words(target):
        if target.is_file() and target.read_bytes() == text.encode():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)


def copy_files(artifact: Artifact, folder: Path) -> None:
    """Every file of the result, and the card last; files of the same size and time are left alone."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="give a folder, or a name that ends in .json for the card alone")
    with _in_words(folder):
        for name in (*artifact.card.files, NAME):
            source, target = artifact.path / NAME if name == NAME else artifact.file(name), folder / name
            if _same(source, target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as beside:
                shutil.copyfile(source, beside)
                shutil.copystat(source, beside)


@contextmanager
def _in_words(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FailedError(f"{target} cannot be written: {error.strerror}", hint="choose another --output") from error


def _same(source: Path, target: Path) -> bool:
    if not target.is_file() or target.is_symlink():
        return False
    here, there = source.stat(), target.stat()
    return (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
