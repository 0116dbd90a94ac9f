"""export: an artifact in, copies of its card or files outside the store out (--output); never links."""

from __future__ import annotations

import shutil
from pathlib import Path

from cellssl.artifacts.card import NAME
from cellssl.artifacts.store import Artifact
from cellssl.disk import faults_explained
from cellssl.errors import UsageError
from cellssl.files import atomic_path, write_text

OTHER_OUTPUT = "choose another --output"


def copy_card(artifact: Artifact, target: Path) -> None:
    """Copy the card, with the path of its artifact; the file is not written again where nothing changed."""
    text = artifact.card.text(path=str(artifact.path)) + "\n"
    with faults_explained(target, OTHER_OUTPUT):
        if target.is_file() and target.read_bytes() == text.encode():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)


def copy_files(artifact: Artifact, folder: Path) -> None:
    """Copy every file of the result, the card last; files of the same size and time are not copied again."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="give a folder, or a name that ends in .json for the card alone")
    with faults_explained(folder, OTHER_OUTPUT):
        for name in (*artifact.card.files, NAME):
            source, target = artifact.path / NAME if name == NAME else artifact.file(name), folder / name
            if _is_unchanged(source, target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as written:
                shutil.copyfile(source, written)
                shutil.copystat(source, written)


def _is_unchanged(source: Path, target: Path) -> bool:
    if not target.is_file() or target.is_symlink():
        return False
    source_stat, target_stat = source.stat(), target.stat()
    return (source_stat.st_size, source_stat.st_mtime_ns) == (target_stat.st_size, target_stat.st_mtime_ns)
