"""label_images: label images made elsewhere in the place of finding nuclei: of cellpose, StarDist, CellProfiler.

A label image is one plane of whole numbers as large as its field: 0 is background, every other number one nucleus.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from pydantic import Field, field_validator

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT, Plugin


class Settings(Plugin):
    """Take the nuclei from label images that are there already."""

    folder: InputPath = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """Where the label images are; their bytes count, their place does not."""
    pattern: str = "{stem}_cp_masks.tif"
    """The name of a field's label image; {stem} is the name of its image of nuclei without the ending, and {folder}
    that of the folder in which that image lies, for images that are called alike in every folder."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        try:
            named = [name for _, name, form, turn in Formatter().parse(pattern) if name is not None or form or turn]
            pattern.format(stem="", folder="")
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise ValueError("may hold {stem} and {folder}, and no other braces") from error
        if "stem" not in named or set(named) - {"stem", "folder"} or len(named) > len(set(named)):
            raise ValueError(
                "must hold {stem} once, for the name of the field's image of nuclei, and may hold {folder}"
            )
        return pattern

    def label_image(self, image: Path) -> Path:
        """The label image that goes with an image of nuclei."""
        return self.folder / self.pattern.format(stem=image.stem, folder=image.parent.name)

    def external_files(self) -> Mapping[str, Path]:
        """All files of the folder that the pattern fits: what is found is decided by them."""
        fits = re.compile(
            "".join(
                re.escape(text) + ("" if name is None else "[^/]+")
                for text, name, _, _ in Formatter().parse(self.pattern)
            )
        )
        files = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        return {place: files[place] for place in sorted(files) if fits.fullmatch(place)}
