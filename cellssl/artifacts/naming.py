"""naming: what a user names in place of an artifact in, what it is and what is expected there out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import NAME, is_identity
from cellssl.bounded import read_json
from cellssl.errors import UsageError


def kind_and_fingerprint(text: str) -> tuple[str, str] | None:
    """Return the two of KIND/FINGERPRINT, which is how results are printed; None for anything else."""
    kind, _, print_ = text.partition("/")
    return (kind, print_) if is_identity(kind, print_) else None


def what_to_give(kinds: Sequence[str]) -> str:
    """Return the cure for something that names no artifact."""
    if len(kinds) > 1:
        return f"give a folder, a card file or a fingerprint of: {', '.join(kinds)}"
    return f"give a folder, a card file or a fingerprint of {kinds[0]}, such as {kinds[0]}/3f9a2c71d0e4"


def no_artifact(path: Path, kinds: Sequence[str]) -> UsageError:
    """Return what is wrong with a file or folder that is no artifact: what it is, and what is expected."""
    if path.name.endswith(".partial"):
        return UsageError(
            f"{path} is unfinished work: it has no card yet that it could be compared with",
            hint="run the command that makes it again; it goes on from there",
        )
    if next(path.glob(f"*/*/{NAME}"), None):
        return UsageError(
            f"{path} is a store, not an artifact", hint=f"cellssl status --store {path} lists those that it holds"
        )
    if first := next(path.glob(f"*/{NAME}"), None):
        return UsageError(f"{path} is a folder of artifacts, not one of them", hint=f"give one, such as {first.parent}")
    if path.is_file():
        whole = (path.parent / NAME).is_file()
        return UsageError(
            f"{path} is a file, and not the card of an artifact",
            hint=f"give {path.parent}" if whole else what_to_give(kinds),
        )
    if (path / "config.json").is_file() and "pretrain" in kinds:
        return of_another_program(str(path))
    return UsageError(f"{path} is no artifact: it holds no {NAME}", hint=what_to_give(kinds))


def of_another_program(where: str) -> UsageError:
    """Return what is wrong with a model that no `cellssl export` has made."""
    return UsageError(
        f"{where} is a model of another program: it holds no {NAME}",
        hint="cellssl export MODEL DIR makes what can be named here; of a network of torchvision or timm, give the "
        "file with its weights, and set pretrain.encoder to that network",
    )


def is_like_a_card(file: Path) -> bool:
    """Return whether a file has the outer form of a card, whole or damaged."""
    try:
        content: Any = read_json(file)
    except (OSError, ValueError):
        return file.name == NAME
    return file.name == NAME or (isinstance(content, dict) and {"kind", "fingerprint"} <= content.keys())
