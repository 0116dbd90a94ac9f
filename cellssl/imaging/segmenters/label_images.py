"""label_images: a field's image and name in -> the path of its label image, made by another tool, out.

The label images come from cellpose, StarDist, CellProfiler or any other tool. A label image is one plane of whole
numbers with the size of its field: 0 is background, every other number one nucleus.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import ClassVar

from pydantic import Field, field_validator

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.imaging.segmenter import SegmenterSettings

PLACEHOLDERS = frozenset({"stem", "folder", "field"})
"""What a pattern may hold in braces."""


class Settings(SegmenterSettings):
    """Take the nuclei from label images that exist already, such as those of cellpose, StarDist or CellProfiler."""

    reads_label_images: ClassVar[bool] = True

    folder: InputPath = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """Folder with the label images. The bytes of the images are part of the fingerprint; the folder's path is not."""
    pattern: str = "{stem}_cp_masks.tif"
    """Name of a field's label image: {stem} is the name of the field's nucleus image without its ending, {folder} the
    name of the folder that holds that image, for images that have the same name in every folder, and {field} the
    `field_id`, after which `keep_labels` names its label images."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        try:
            names = [name for _, name, form, turn in Formatter().parse(pattern) if name is not None or form or turn]
            pattern.format(stem="", folder="", field="")
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise ValueError("may hold {stem}, {field} and {folder}, and no other braces") from error
        if not {"stem", "field"} & set(names) or set(names) - PLACEHOLDERS or len(names) > len(set(names)):
            raise ValueError(
                "must hold {stem}, for the name of the field's nucleus image, or {field}, for the field_id, each at "
                "most once, and may hold {folder}"
            )
        return pattern

    def label_image(self, image: Path, field_id: str) -> Path:
        """Return the path of the label image that belongs to a field with this nucleus image."""
        return self.folder / self.pattern.format(stem=image.stem, folder=image.parent.name, field=field_id)

    def external_files(self) -> Mapping[str, Path]:
        """Return all files of the folder whose names fit the pattern, by their path in it."""
        name_pattern = re.compile(
            "".join(
                re.escape(text) + ("" if name is None else "[^/]+")
                for text, name, _, _ in Formatter().parse(self.pattern)
            )
        )
        files = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        return {place: files[place] for place in sorted(files) if name_pattern.fullmatch(place)}
