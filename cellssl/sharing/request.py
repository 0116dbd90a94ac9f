"""request: an artifact, a folder and formats in, checked, as one object for the files that other programs open, out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cellssl.artifacts.card import NAME
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.plugins import did_you_mean
from cellssl.errors import UsageError

FORMATS = {"pretrain": ("model", "onnx"), "embed": ("h5ad",), "cluster": ("h5ad", "ome-zarr")}
"""Kind of an artifact -> the formats in which it can be exported; the first is the default."""

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")
"""Identifiers of licences as hubs spell them."""


@dataclass(frozen=True)
class Export:
    """What to export, and where to."""

    artifact: Artifact
    store: Store
    folder: Path
    formats: tuple[str, ...]
    licence: str | None = None
    """Identifier of the licence of a model, as hubs spell it; None where none was chosen."""
    plate: str | None = None
    """The only plate to write; None for all."""


def checked(
    artifact: Artifact,
    store: Store,
    folder: Path,
    formats: tuple[str, ...],
    licence: str | None = None,
    plate: str | None = None,
) -> Export:
    """Return the export that a user asks for.

    Raises UsageError for a format that this kind of artifact does not have, for a folder in a store, and for a licence
    that is no identifier (in either case), or of anything but a model.
    """
    kind = artifact.card.kind
    known = FORMATS[kind]
    for name in formats:
        if name not in known:
            raise UsageError(
                f"an artifact of kind {kind} cannot be exported as {name!r}", hint=did_you_mean(name, known)
            )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="give a folder")
    inside = folder.absolute().resolve()
    if inside.is_relative_to(store.root.resolve()) or inside == artifact.path.resolve():
        raise UsageError(f"{folder} lies in the store {store.root}", hint=f"give a folder without {NAME}, outside it")
    if licence is not None and kind != "pretrain":
        raise UsageError("--license is that of a model", hint="leave it out")
    licence = licence and licence.lower()  # SPDX: the case of its identifiers does not count
    if licence is not None and not LICENCE.fullmatch(licence):
        raise UsageError(
            f"--license {licence!r} is no identifier of a licence", hint="give one such as mit, apache-2.0 or cc-by-4.0"
        )
    chosen = formats or known[:1]
    if plate is not None and set(chosen) - {"ome-zarr"}:
        raise UsageError("only OME-Zarr is written plate by plate", hint="leave --plate out, or set --format ome-zarr")
    return Export(artifact, store, folder, chosen, licence, plate)
