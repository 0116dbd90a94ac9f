"""settings: the section [segment] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cellssl.config import plugins
from cellssl.config.settings import FROM_CARD, NOT_IN_FINGERPRINT, PluginField, SettingsModel
from cellssl.engine.stage import StageSettings
from cellssl.engine.weights_cache import Download, file_download
from cellssl.imaging.cell_segmenter import CellSegmenterSettings
from cellssl.imaging.cropping import Border
from cellssl.imaging.segmenter import SegmenterSettings

if TYPE_CHECKING:
    from cellssl.imaging.lobes import LobeLimits

# A number that leaves the pixels of a crop as they were goes into SAME_PIXELS of imaging/scaling.py.
# 2: nuclei_net is the default, a constant image is an error; 3: sums in another order, every nucleus is connected;
# 4: the nuclei of a plate are an artifact of their own; 5: the intensity scale is that of control cells, not pixels
ALGORITHM = 5
DETECTION_ALGORITHM = 5
"""The ALGORITHM under which nuclei were last found or measured otherwise; a change of limits or crops leaves it."""

Flag = Literal["empty", "blurred", "saturated", "artefact"]


@dataclass(frozen=True)
class AreaLimit:
    """A limit of the area of nuclei; where both units are there, square micrometres count wherever they can."""

    px: float | None = None
    um2: float | None = None


DEFAULT_AREAS = {"min_area": AreaLimit(100.0, 25.0), "max_area": AreaLimit(20_000.0, 5_000.0)}
"""The limits where none is given; 100 pixels of 0.5 um are 25 um2, a disc of 5.6 um. No card holds them, so ALGORITHM
must rise where they change."""


class Quality(SettingsModel):
    """Limits of the quality of nuclei and fields. All measures are written into the tables, whatever the limits are."""

    RENAMED: ClassVar[Mapping[str, str]] = {"field_max_stray": "field_max_outside_nuclei"}
    min_solidity: float = Field(0.0, ge=0, le=1)
    """Nuclei with a smaller solidity (area / area of the convex hull, every pixel a square) are dropped as ragged; 0.9
    separates lobed from round nuclei."""
    max_saturated: float = Field(1.0, ge=0, le=1)
    """Nuclei with a larger share of pixels at the camera's highest grey value are dropped as saturated."""
    min_focus: float = Field(0.0, ge=0)
    """Nuclei with a less steep rim are dropped as blurred. Steepness is the share of its brightness that a nucleus
    gains over half a micrometre (where the size of a pixel is not known, over a 35th of the diameter of the field's
    median nucleus); in focus it is about 0.2."""
    field_min_nuclei: int = Field(1, ge=0)
    """Fields with fewer detected nuclei are flagged as empty."""
    field_min_focus: float = Field(0.08, ge=0)
    """Fields whose median nucleus has a less steep rim (see `min_focus`) are flagged as blurred."""
    field_max_saturated: float = Field(0.01, ge=0, le=1)
    """Fields with a larger share of pixels at the camera's highest grey value are flagged as saturated."""
    field_max_outside_nuclei: float = Field(0.02, ge=0, le=1)
    """Fields with a larger share of bright pixels outside nuclei (`field_stray`: fibres, dust, smears) are flagged as
    artefact."""
    drop_fields: tuple[Flag, ...] = ()
    """Fields with one of these flags give no cells; their nuclei are dropped as flagged_field. None by default."""


class Lobes(SettingsModel):
    """Merge nuclei that are lobes of one cell, found one by one.

    They are close together, no larger than one nucleus, and a channel that shows the body of the cell has no dark
    border between them.
    """

    channel: str
    """Channel that shows the bodies of the cells, such as tubulin."""
    max_gap: float = Field(0.3, ge=0, le=2)
    """Widest gap between two lobes, in diameters of a whole nucleus."""
    max_area: float = Field(1.5, gt=0)
    """Largest area of all merged lobes, in areas of a whole nucleus."""
    min_bridge: float = Field(0.8, ge=0)
    """Lowest brightness of the channel between two lobes, as a share of its brightness over the two; both above the
    background. 0 merges whatever is close and small enough."""
    diameter_um: float | None = Field(None, gt=0)
    """Diameter of a whole nucleus in micrometres; where it is left out, it is measured in every field. Give it where
    most cells have lobes."""

    def limits(self) -> LobeLimits:
        """Return what two nuclei must fulfil to be merged."""
        from cellssl.imaging.lobes import LobeLimits

        return LobeLimits(self.max_gap, self.max_area, self.min_bridge)


class Cells(SettingsModel):
    """Find the whole cell around every nucleus, and measure nucleus, cytoplasm and cell in every channel."""

    method: Annotated[CellSegmenterSettings, PluginField("cellssl.imaging.cell_segmenters")] = Field(
        default_factory=lambda: plugins.load("cellssl.imaging.cell_segmenters", "propagate").Settings()
    )
    """How cells are found: a name, or a table with a name and its settings (`cellssl explain cell_segmenters`)."""
    channel: str
    """Channel that shows the bodies of the cells, such as actin."""


OF_CELLS, OF_PIXELS = frozenset({"headroom", "pool"}), frozenset({"low_percentile", "high_percentile"})
"""Settings of a scale that cells set, and of one that pixels set."""


class Scale(SettingsModel):
    """Choose the grey values of every plate and channel that become black and white in 8 bits."""

    of: Literal["cells", "pixels"] = "cells"
    """`cells`: white is taken from how bright the reference cells are, and black from what lies between cells, so that
    neither the number of cells nor a few bright ones change it. `pixels`: percentiles of all pixels of the reference
    wells, as in the paper and in earlier versions."""
    headroom: float = Field(3.0, ge=1, le=100)
    """How many times as far above black as a typical reference cell is bright white lies; a treatment may make cells
    so much brighter before their pixels are cut off. Only with `of = "cells"`."""
    pool: Literal["none", "batch"] = "none"
    """`batch`: all plates of a batch have one scale, from the reference cells of all of them, where single plates have
    too few. Only with `of = "cells"`."""
    low_percentile: float = Field(0.1, ge=0, lt=50)
    """Percentile of the reference pixels that becomes 0 in 8 bits. Only with `of = "pixels"`."""
    high_percentile: float = Field(99.9, gt=50, le=100)
    """Percentile of the reference pixels that becomes 255 in 8 bits. Only with `of = "pixels"`."""

    @model_validator(mode="before")
    @classmethod
    def _drop_silent(cls, given: Any, info: ValidationInfo) -> Any:
        """Leave out of a card what had no effect, so that a later default of it does not count."""
        if not (isinstance(given, dict) and info.context and info.context.get(FROM_CARD)):
            return given
        silent = OF_PIXELS if given.get("of", "cells") == "cells" else OF_CELLS
        return {name: value for name, value in given.items() if name not in silent}

    @model_validator(mode="after")
    def _check_effect(self) -> Scale:
        wrong = [name for name in sorted(self.silent()) if getattr(self, name) != type(self).model_fields[name].default]
        if wrong:
            other = "pixels" if self.of == "cells" else "cells"
            raise ValueError(f'{wrong[0]} has no effect with of = "{self.of}": leave it out, or set of = "{other}"')
        return self

    def silent(self) -> frozenset[str]:
        """Return the settings of the other kind of scale."""
        return OF_PIXELS if self.of == "cells" else OF_CELLS


class Detection(StageSettings):
    """The settings that decide which nuclei are found and what is measured of them.

    They alone count in the nuclei of a plate, so that all nuclei are detected once for any limits and any crops.
    """

    method: Annotated[SegmenterSettings, PluginField("cellssl.imaging.segmenters")] = Field(
        default_factory=lambda: plugins.load("cellssl.imaging.segmenters", "nuclei_net").Settings()
    )
    """The segmenter: a name, or a table with a name and its settings (`cellssl explain segmenters`)."""
    nucleus_channel: str | None = None
    """Channel that shows the nuclei; the first channel by default."""
    illumination: Literal["off", "mean"] = "off"
    """Illumination correction before segmentation: `mean` divides by a flat field, the blurred mean image of each
    plate, site and channel."""
    illumination_blur_px: float = Field(500.0, gt=0)
    """Standard deviation of the blur of the flat field. 500 is the value of pybbbc, which corrects only what changes
    over more than a field. Dark corners need about a tenth of the field's side, and so many fields that no single cell
    is visible in their mean."""
    lobes: Lobes | None = None
    """How nuclei that are lobes of one cell are merged, such as `{ channel = "tubulin" }`; by default they are not."""
    cells: Cells | None = None
    """The whole cells around the nuclei: `{ method = "propagate", channel = "actin" }`; none by default."""
    max_failures: float = Field(0.01, ge=0, le=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Largest share of the fields of a plate that may fail; quarantine.csv lists them with the reason. Of 20 or more
    fields, one may fail, unless the share is 0."""
    workers: int | None = Field(None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Number of processes; the number of cores by default."""

    def silent(self) -> frozenset[str]:
        """Return the blur of a flat field that is not made."""
        return frozenset({"illumination_blur_px"}) if self.illumination == "off" else frozenset()

    @classmethod
    def algorithm(cls) -> int:
        """Return the ALGORITHM under which the nuclei were last found or measured otherwise."""
        return DETECTION_ALGORITHM

    def external_files(self) -> dict[str, Path]:
        """Return the files of the user that segmenters read: weights, or label images of another tool."""
        return {f"{part}.{role}": path for part, one in self._methods() for role, path in one.external_files().items()}

    def check(self) -> None:
        """Raise UsageError where this machine lacks what a segmenter needs."""
        for _, method in self._methods():
            method.check()

    def downloads(self) -> list[Download]:
        """Return the published files of the segmenters."""
        files = [file for _, method in self._methods() for file in method.downloads()]
        return [file_download(file.what, file.url, file.place) for file in dict.fromkeys(files)]

    def _methods(self) -> Iterator[tuple[str, SegmenterSettings | CellSegmenterSettings]]:
        """Yield where each segmenter stands in the section, and its settings."""
        yield "method", self.method
        if self.cells is not None:
            yield "cells.method", self.cells.method


class Settings(Detection):
    """Segment every nucleus, and crop one window around it."""

    crop_px: int = Field(196, ge=8)
    """Side of a crop in pixels; 196 is about five nuclei across at 0.5 um per pixel."""
    crop_um: float | None = Field(None, gt=0)
    """Side of the window in micrometres, which is resampled to `crop_px` pixels: means of areas where that shrinks it,
    bilinear where it enlarges it. So plates of other magnifications show as much as each other. By default, the window
    is `crop_px` pixels of the field."""
    border: Border = "reflect"
    """Pixels beyond the field: `reflect` mirrors the field, `pad` fills with zeros, `drop` drops the nucleus."""
    crop_mask: Literal["none", "cell", "nucleus"] = "none"
    """Which pixels of a crop are left: all of them, those of its own cell, or those of its own nucleus; the others
    become 0. `cell` needs `cells`."""
    cells_per_well: int | None = Field(None, ge=1)
    """Largest number of cells per well, drawn at random from the nuclei within the limits; all of them by default."""
    min_area_um2: float | None = Field(None, ge=0)
    """Smaller nuclei are dropped as too_small; 25 um2 by default, a disc of 5.6 um, where the size of a pixel is
    known."""
    max_area_um2: float | None = Field(None, gt=0)
    """Larger nuclei are dropped as too_large; 5,000 um2 by default where the size of a pixel is known."""
    min_area_px: float | None = Field(None, ge=0)
    """The same as `min_area_um2` in pixels; 100 by default where the size of a pixel is not known."""
    max_area_px: float | None = Field(None, gt=0)
    """The same as `max_area_um2` in pixels; 20,000 by default where the size of a pixel is not known."""
    quality: Quality = Quality()
    """Limits of the quality of nuclei and fields."""
    reference: Literal["controls", "all", "range"] = "controls"
    """Wells of a plate that set its intensity scale. `range` uses neither cells nor percentiles, but the lowest and the
    highest value that pixels can have, for photographs of a data set that gives these values."""
    scale: Scale = Scale()
    """How the reference wells set the intensity scale."""
    keep_labels: bool = False
    """Whether the label images of the nuclei within the limits are written, as labels/FIELD_cp_masks.tif, and those of
    their cells as labels/FIELD_cells.ome.tif."""
    cellprofiler_table: bool = False
    """Whether nuclei.csv.gz is written too: the cells with CellProfiler's column names."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Largest share of the fields of a plate that may fail; quarantine.csv lists them with the reason. Of 20 or more
    fields, one may fail, unless the share is 0."""

    @classmethod
    def algorithm(cls) -> int:
        """Return the ALGORITHM of the stage."""
        return ALGORITHM

    @model_validator(mode="before")
    @classmethod
    def _check_moved(cls, given: Any, info: ValidationInfo) -> Any:
        is_card = bool(info.context and info.context.get(FROM_CARD))
        moved = [name for name in ("low_percentile", "high_percentile") if isinstance(given, dict) and name in given]
        if moved and not is_card:
            values = ", ".join(f"{name} = {given[name]}" for name in moved)
            raise ValueError(
                f'{moved[0]} has moved into [segment.scale]: write scale = {{ of = "pixels", {values} }}, or leave it '
                "out, and cells set the scale"
            )
        return given

    @field_validator("scale", mode="before")
    @classmethod
    def _check_table(cls, given: Any) -> Any:
        if isinstance(given, str):
            raise ValueError(f'is a table, not a name: write scale = {{ of = "{given}" }}')
        return given

    @model_validator(mode="after")
    def _check_range(self) -> Settings:
        if self.reference == "range" and (given := self.scale.non_default()):
            raise ValueError(
                f'scale.{next(iter(given))} has no effect with reference = "range": leave it out, or set reference = '
                '"controls" or "all"'
            )
        return self

    @model_validator(mode="after")
    def _check_areas(self) -> Settings:
        for limit in ("min_area", "max_area"):
            if getattr(self, f"{limit}_px") is not None and getattr(self, f"{limit}_um2") is not None:
                raise ValueError(f"{limit}_px and {limit}_um2 are both given: leave one of them out")
        # a limit in pixels meets a default in um2 where the size of a pixel is known: plates are compared one by one
        pairs = {"px": (self.min_area_px, self.max_area_px), "um2": self._limits_um2()}
        for unit, (smallest, largest) in pairs.items():
            if smallest is not None and largest is not None and smallest > largest:
                raise ValueError("; ".join(self.area_contradiction(unit, unit)))
        return self

    def _limits_um2(self) -> tuple[float | None, float | None]:
        return self.area_limit("min_area").um2, self.area_limit("max_area").um2

    def area_contradiction(self, unit_of_min: str, unit_of_max: str) -> tuple[str, str]:
        """Return in words that the smallest area is above the largest one, each in the unit that counts, and the cure.

        Where one of the two is a default, it is to be given too.
        """
        smallest, largest = f"min_area_{unit_of_min}", f"max_area_{unit_of_max}"
        missing = [name for name in (smallest, largest) if getattr(self, name) is None]
        values = getattr(self.area_limit("min_area"), unit_of_min), getattr(self.area_limit("max_area"), unit_of_max)
        words = [
            f"{name} = {value:g}{' (the default)' if name in missing else ''}"
            for name, value in zip((smallest, largest), values, strict=True)
        ]
        cure = f"set segment.{missing[0]} too" if missing else "correct one of them"
        return f"{words[0]} is above {words[1]}, so that no nucleus could be kept", cure

    @model_validator(mode="after")
    def _check_mask(self) -> Settings:
        if self.crop_mask == "cell" and self.cells is None:
            raise ValueError(
                'crop_mask = "cell" needs cells, such as cells = { method = "propagate", channel = "actin" }'
            )
        return self

    def area_limit(self, name: Literal["min_area", "max_area"]) -> AreaLimit:
        """Return a limit of the area of nuclei: in the unit in which it is given, or the default in both."""
        given = AreaLimit(getattr(self, f"{name}_px"), getattr(self, f"{name}_um2"))
        return DEFAULT_AREAS[name] if given == AreaLimit() else given

    def needing_pixel_um(self) -> dict[str, str]:
        """Return the settings that need the size of a pixel, each with what to give where it is not known."""
        in_pixels = {"min_area_um2": "min_area_px", "max_area_um2": "max_area_px", "crop_um": "crop_px alone"}
        found = {name: f"use segment.{other}" for name, other in in_pixels.items() if getattr(self, name) is not None}
        if self.lobes is not None and self.lobes.diameter_um is not None:
            found["lobes.diameter_um"] = "leave out lobes.diameter_um, and it is measured in every field"
        for place, method in self._methods():
            found |= {f"{place}.{name}": cure for name, cure in method.needing_pixel_um().items()}
        return found

    def detection(self) -> Detection:
        """Return the settings that decide which nuclei are found."""
        return Detection(**{name: getattr(self, name) for name in Detection.model_fields})

    def of_plate(self) -> Settings:
        """Return the settings of the part of one plate, which does not depend on what other plates share its scale."""
        return self.model_copy(update={"scale": self.scale.model_copy(update={"pool": "none"})})

    def inputs(self) -> tuple[str, ...]:
        """Return the stage whose fields are read."""
        return ("fetch",)


EXPLAINED = {"lobes": Lobes, "cells": Cells, "quality": Quality, "scale": Scale}
"""Tables within the section that `explain` lists too."""
