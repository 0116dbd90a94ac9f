"""plugins: the name of a part in, its file (a module of the room's package) out; a room is a package of such files."""

import importlib
import importlib.resources
from difflib import get_close_matches
from functools import cache
from types import ModuleType

from cellssl.errors import UsageError


@cache
def names(room: str) -> tuple[str, ...]:
    """Names of the parts in a room, such as "cellssl.learning.transforms": its public modules with Settings, sorted."""
    files = (file for file in importlib.resources.files(room).iterdir() if file.name.endswith(".py"))
    public = (file for file in files if not file.name.startswith("_"))
    return tuple(sorted(file.name[:-3] for file in public if b"\nclass Settings(" in file.read_bytes()))


def did_you_mean(wrong: str, known: tuple[str, ...]) -> str:
    """The cure for a mistyped word: the nearest known one, or all of them."""
    near = get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def load(room: str, name: str) -> ModuleType:
    """The module of the part called `name`.

    Raises UsageError when the room has no such part.
    """
    if name not in names(room):
        kind = room.rsplit(".", 1)[-1]
        raise UsageError(f"there is no {name!r} in {kind}", hint=did_you_mean(name, names(room)))
    return importlib.import_module(f"{room}.{name}")
