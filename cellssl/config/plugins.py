"""plugins: a plugin folder and a name in, the module of that name out.

A plugin folder is a package such as `cellssl.learning.transforms`; every public file in it that has a class `Settings`
is a plugin, and the file's name is the plugin's name. There is no registry.
"""

import importlib
import importlib.resources
from difflib import get_close_matches
from functools import cache
from types import ModuleType

from cellssl.errors import UsageError


@cache
def names(folder: str) -> tuple[str, ...]:
    """Return the names of the plugins in a folder, sorted."""
    files = (file for file in importlib.resources.files(folder).iterdir() if file.name.endswith(".py"))
    public = (file for file in files if not file.name.startswith("_"))
    return tuple(sorted(file.name[:-3] for file in public if b"\nclass Settings(" in file.read_bytes()))


def did_you_mean(wrong: str, known: tuple[str, ...]) -> str:
    """Return the hint for a mistyped word: the nearest known one, or all of them."""
    near = get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def load(folder: str, name: str) -> ModuleType:
    """Return the module of the plugin called `name`.

    Raises UsageError where the folder has no such plugin.
    """
    if name not in names(folder):
        kind = folder.rsplit(".", 1)[-1]
        raise UsageError(f"there is no {name!r} in {kind}", hint=did_you_mean(name, names(folder)))
    return importlib.import_module(f"{folder}.{name}")
