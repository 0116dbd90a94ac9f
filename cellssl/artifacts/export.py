"""export: an artifact in, copies of its card or files outside the store out (--output); never links."""

from __future__ import annotations

import shutil
import tempfile
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


def check_writable(folder: Path, option: str) -> None:
    """Make a folder that an option names; UsageError where it cannot be made, or nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise UsageError(
            f"{option}: nothing can be written to {folder}: {reason}", hint=f"give another folder to {option}"
        ) from error


def copy_part(artifact: Artifact, part: str, folder: Path) -> list[Path]:
    """Copy the files of one folder of a result to another folder, in place of those of the same names there."""
    names = [name for name in artifact.card.files if name.startswith(f"{part}/")]
    copies = [folder / name.removeprefix(f"{part}/") for name in names]
    if in_the_way := next((copy for copy in copies if copy.is_dir()), None):
        raise UsageError(f"{in_the_way} is a folder, and a file of that name is to be written", hint="rename it")
    with faults_explained(folder, "choose another folder"):
        for name, copy in zip(names, copies, strict=True):
            with atomic_path(copy) as written:
                shutil.copyfile(artifact.file(name), written)
    return copies


def _is_unchanged(source: Path, target: Path) -> bool:
    if not target.is_file() or target.is_symlink():
        return False
    source_stat, target_stat = source.stat(), target.stat()
    return (source_stat.st_size, source_stat.st_mtime_ns) == (target_stat.st_size, target_stat.st_mtime_ns)
