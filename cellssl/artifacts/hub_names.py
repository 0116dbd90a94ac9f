"""hub_names: `hf://OWNER/NAME[@REVISION]` in, its parts and the folder of a store that holds that model out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellssl.artifacts.card import NAME
from cellssl.bounded import read_json
from cellssl.errors import UsageError

PREFIX = "hf://"
FOLDER = "weights/huggingface"
"""Folder of a store for models of a hub: OWNER--NAME/COMMIT."""
SHARED = "weights/shared"
"""Folder of a store for the shared models that results of the store stand on: FINGERPRINT."""
PINS = "commits.json"
"""File beside the commits of a model: revision -> the commit that stands for it until it is downloaded anew."""
NEWEST = "main"
"""The revision of a name without one."""
COMMIT = re.compile(r"[0-9a-f]{40}")
PART = re.compile(r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
"""An owner or the name of a model, as hubs allow them."""
REVISION = re.compile(r"[\w][\w./+-]{0,199}", re.ASCII)


class NotDownloadedError(UsageError):
    """A model of a hub is named that is not in the store yet, so nothing that stands on it can be planned."""


@dataclass(frozen=True)
class HubName:
    """A model on a hub, and one of its versions."""

    owner: str
    name: str
    revision: str = NEWEST
    """A branch, a tag or a commit."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}" + ("" if self.revision == NEWEST else f"@{self.revision}")

    @property
    def id(self) -> str:
        """Owner and name, as a hub takes them."""
        return f"{self.owner}/{self.name}"

    @property
    def is_commit(self) -> bool:
        """Whether its revision is a commit, which never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> HubName:
        """Return the same model at a commit."""
        return HubName(self.owner, self.name, commit)

    def folder(self, root: Path) -> Path:
        """Return the folder of a store for all commits of the model."""
        return root / FOLDER / f"{self.owner}--{self.name}"


def is_hub_name(given: object) -> bool:
    """Return whether something is meant to name a model on a hub, rightly written or not."""
    return isinstance(given, str) and given.strip().lower().startswith("hf:")


def hub_name(text: str) -> HubName:
    """Return the parts of a name; ValueError where it is not of the form, because it becomes a folder and an address.

    The rules for owner and name are those of huggingface_hub's validate_repo_id.
    """
    place, at, revision = text.removeprefix(PREFIX).partition("@")
    parts = place.split("/")
    is_name = text.startswith(PREFIX) and len(parts) == 2 and all(map(_is_part, parts))
    if not is_name or (at and (not REVISION.fullmatch(revision) or ".." in revision)):
        raise ValueError(
            "a model of a hub is not of the form hf://OWNER/NAME or hf://OWNER/NAME@REVISION, such as "
            "hf://some-lab/nuclei-resnet50"
        )
    return HubName(parts[0], parts[1], revision or NEWEST)


def _is_part(part: str) -> bool:
    return bool(PART.fullmatch(part)) and "--" not in part and ".." not in part and not part.endswith(".git")


def pinned_commit(name: HubName, root: Path) -> str | None:
    """Return the commit that stands for a revision in a store; None where none was downloaded."""
    if name.is_commit:
        return name.revision
    commit = pins(name, root).get(name.revision)
    return commit if commit is not None and COMMIT.fullmatch(commit) else None


def pins(name: HubName, root: Path) -> dict[str, str]:
    """Return revision -> commit of a model in a store."""
    try:
        found = read_json(name.folder(root) / PINS)
    except (OSError, ValueError):
        return {}
    return {str(revision): str(commit) for revision, commit in found.items()} if isinstance(found, dict) else {}


def downloaded(name: HubName, roots: Sequence[Path]) -> Path | None:
    """Return the folder of a model in the first of the stores that has it; None where none has."""
    for root in roots:
        commit = pinned_commit(name, root)
        if commit is not None and (name.folder(root) / commit / NAME).is_file():
            return name.folder(root) / commit
    return None


def name_of_folder(folder: Path) -> HubName | None:
    """Return the model and commit of a folder as `downloaded` gives it; None for any other folder."""
    owner, two, name = folder.parent.name.partition("--")
    if folder.parts[-4:-2] != tuple(FOLDER.split("/")) or not two or not COMMIT.fullmatch(folder.name):
        return None
    return HubName(owner, name, folder.name)


def is_kept(folder: Path) -> bool:
    """Return whether a folder is the copy of a shared model that a store keeps."""
    return folder.parts[-3:-1] == tuple(SHARED.split("/"))


def folder_to_read(text: str, roots: Sequence[Path]) -> Path:
    """Return the folder of a model that a user names.

    Raises NotDownloadedError where no store has it, and UsageError where the text is no name.
    """
    try:
        name = hub_name(text)
    except ValueError as error:
        raise UsageError(f"{error}, got {text!r}", hint="correct the name") from error
    folder = downloaded(name, roots)
    if folder is None:
        raise NotDownloadedError(
            f"{name} is not downloaded to {roots[0]}",
            hint="cellssl doctor RECIPE --download downloads it; cellssl run RECIPE does so before it begins",
        )
    return folder
