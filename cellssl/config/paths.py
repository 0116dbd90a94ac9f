"""paths: a path as a recipe or a shell gives it in, an absolute path out; and the folders of shipped files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

NAME = re.compile(r"[\w][\w.+-]{,99}")
"""Names that a folder can have."""
NO_LETTERS = r"\[-^`{-\xa9\u2000-\u206f\u2190-\u245f"
r"""Characters that `\w` leaves out, for patterns of the recipes' schema: `\w` itself is ASCII in regular expressions of
editors, and letters of all scripts in Python's. Above ASCII only blanks, dashes, quotes, arrows and signs."""
FolderName = Annotated[
    str,
    WithJsonSchema(
        {"type": "string", "pattern": rf"^[^\x00-/:-@{NO_LETTERS}][^\x00-*,/:-@{NO_LETTERS}]{{0,99}}$"},
    ),
]
"""A text that the schema of recipes holds to `NAME`; whoever reads it checks it."""


class ShellText(str):
    """Text from `--set`; a path in it is relative to the current folder, not to the recipe."""


def _input_path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    folder = Path() if isinstance(value, ShellText) else (info.context or {}).get("folder", Path())
    return (folder / Path(value).expanduser()).absolute()


InputPath = Annotated[Path, BeforeValidator(_input_path)]
"""A path of the user: relative to the folder of the recipe that names it."""


@cache
def shipped_folder(name: str) -> Path:
    """Return the folder `recipes` or `data-manifests`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_shipped" / name
    return packed if packed.is_dir() else package.parent / name
