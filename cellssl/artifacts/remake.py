"""remake: the folder and the card of an artifact in, the command that makes it again out."""

from __future__ import annotations

import shlex
from pathlib import Path

from cellssl.artifacts.card import BY_RECIPE, Card
from cellssl.bounded import read_json


def command_again(folder: Path, card: Card) -> str:
    """Return the command that makes an artifact again under the same name, as a shell takes it.

    Pointers do not say where a recipe lies, so the command says RECIPE, and the name of the recipe follows.
    """
    root = folder.absolute().parents[1]
    plate = card.section.get("plate")
    words = [] if plate is None else ["--plate", str(plate)]
    since = card.section.get("since")
    named = since.get("named", []) if isinstance(since, dict) else []
    words += [word for name in named for word in ("--since", str(name))]
    recipe, arm, seed = _asked_for_by(root, card)
    if arm and plate is None:
        words += ["--arm", arm] if arm != "all" else []
        words += ["--seed", seed] if seed != "all" else []
    flags = shlex.join([*words, "--store", str(root), "--force"])
    return f"cellssl {card.kind} RECIPE {flags}" + (f" (RECIPE is {recipe!r})" if recipe else "")


def _asked_for_by(root: Path, card: Card) -> tuple[str, str, str]:
    """Return the recipe, arm and seed of the first pointer to an artifact; three empty words where there is none."""
    for pointer in sorted(root.glob(f"{BY_RECIPE}/*/*/*/*.json")):
        try:
            names = read_json(pointer)["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if names == card.fingerprint:
            recipe, arm, seed, _ = pointer.relative_to(root / BY_RECIPE).parts
            return recipe, arm, seed
    return "", "", ""
