"""looks: the folder of an artifact in, its card and the files that have gone from it out; looked at once per change.

A recipe of many arms asks for the same images, cells and models once per arm, and such a card may list tens of
thousands of files. What is kept counts only as long as the file system shows no change, and it lives as long as the
process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from cellssl.artifacts.card import NAME, Card, read_card
from cellssl.artifacts.hashing import COARSEST_CLOCK_NS, Identity, identity_of_link

_CARDS: dict[str, tuple[Identity, Card]] = {}
"""Folder -> the identity of its card when it was read, and the card."""
_COMPLETE: dict[str, tuple[frozenset[str], dict[str, Identity]]] = {}
"""Folder -> the files that were all there, and the identity that every folder in it then had."""


def card_in(folder: Path) -> Card:
    """Return the card in a folder, as `read_card` does; a card that has not changed since is not read again.

    What it holds is shared: do not change it.
    """
    key, began = str(folder), time.time_ns()
    try:
        identity = identity_of_link(folder / NAME)
    except OSError:
        return read_card(folder)  # which says what is wrong with it
    known = _CARDS.get(key)
    if known is not None and known[0] == identity:
        return known[1]
    card = read_card(folder)
    if _is_settled(identity, began) and identity_of_link(folder / NAME) == identity:
        _CARDS[key] = identity, card
    return card


def lost_in(folder: Path, names: Collection[str]) -> list[str]:
    """Return the names of files that are not in a folder.

    A file that is removed or added changes its folder, so the files are listed again only where a folder has changed.
    """
    key, wanted = str(folder), frozenset(names)
    known = _COMPLETE.get(key)
    if known is not None and known[0] == wanted and _are_unchanged(known[1]):
        return []
    began, start = time.time_ns(), len(key) + 1
    walked = list(os.walk(folder))
    there = {f"{below}/{name}"[start:] for below, _, files in walked for name in files}
    lost = [name for name in names if name not in there and not (folder / name).exists()]
    folders = {below: identity_of_link(Path(below)) for below, _, _ in walked} if not lost else {}
    if folders and wanted <= there and all(_is_settled(one, began) for one in folders.values()):
        _COMPLETE[key] = wanted, folders
    return lost


def _are_unchanged(folders: dict[str, Identity]) -> bool:
    try:
        return all(identity_of_link(Path(below)) == then for below, then in folders.items())
    except OSError:
        return False


def _is_settled(identity: Identity, began_ns: int) -> bool:
    """Return whether a later change must change the identity, on file systems with coarse clocks too."""
    return max(identity.mtime_ns, identity.ctime_ns) < began_ns - COARSEST_CLOCK_NS
