"""label_images: label images made elsewhere in the place of finding nuclei: of cellpose, StarDist, CellProfiler.

A label image is one plane of whole numbers as large as its field: 0 is background, every other number one nucleus.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from cellssl.recipe import InputPath
from cellssl.settings import NOT_COUNTED, Part


class Settings(Part):
    """Take the nuclei from label images that are there already."""

    folder: InputPath = Field(json_schema_extra=NOT_COUNTED)
    """Where the label images are; their bytes count, their place does not."""
    pattern: str = "{stem}_cp_masks.tif"
    """The name of a field's label image; {stem} is the name of its image of nuclei without the ending."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        if pattern.count("{stem}") != 1 or "{" in pattern.replace("{stem}", ""):
            raise ValueError("must hold {stem} once, for the name of the field's image of nuclei")
        return pattern

    def label_image(self, image: Path) -> Path:
        """The label image that goes with an image of nuclei."""
        return self.folder / self.pattern.format(stem=image.stem)

    def outside_files(self) -> Sequence[Path]:
        """All files of the folder that the pattern fits: what is found is decided by them."""
        before, _, after = self.pattern.partition("{stem}")
        return sorted(
            path
            for path in self.folder.rglob("*")
            if path.is_file() and _fits(path.relative_to(self.folder).as_posix(), before, after)
        )


def _fits(name: str, before: str, after: str) -> bool:
    """Whether a name is `before`, a stem without a slash, and `after`."""
    stem = name[len(before) : len(name) - len(after)]
    return name == f"{before}{stem}{after}" and bool(stem) and "/" not in stem
