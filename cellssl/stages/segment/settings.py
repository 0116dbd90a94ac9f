"""settings: the section [segment] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from cellssl.config import plugins
from cellssl.config.settings import NOT_IN_FINGERPRINT, Plugin, PluginField, SettingsModel
from cellssl.engine.weights_cache import Download, file_download
from cellssl.imaging.cropping import Border

if TYPE_CHECKING:
    from cellssl.imaging.selection import Limits


from cellssl.engine.stage import StageSettings

ALGORITHM = (
    3  # 2: nuclei_net is the default, a constant image is a fault; 3: sums in another order, nuclei are one piece
)


Flag = Literal["empty", "blurred", "saturated", "artefact"]


class Quality(SettingsModel):
    """What good nuclei and good fields are; everything is measured and written down, whatever stands here."""

    RENAMED: ClassVar[Mapping[str, str]] = {"field_max_stray": "field_max_outside_nuclei"}
    min_solidity: float = Field(0.0, ge=0, le=1)
    """Nuclei with less of their convex hull filled are counted as ragged and dropped; 0.9 parts lobed from round."""
    max_saturated: float = Field(1.0, ge=0, le=1)
    """Nuclei with a larger share of pixels at the camera's highest value are counted as saturated and dropped."""
    min_focus: float = Field(0.0, ge=0)
    """Nuclei with a flatter rim are counted as blurred and dropped; in focus it is about 0.2 a pixel."""
    field_min_nuclei: int = Field(1, ge=0)
    """Fields in which fewer nuclei are found are flagged as empty."""
    field_min_focus: float = Field(0.08, ge=0)
    """Fields whose typical nucleus has a flatter rim are flagged as blurred."""
    field_max_saturated: float = Field(0.01, ge=0, le=1)
    """Fields with a larger share of pixels at the camera's highest value are flagged as saturated."""
    field_max_outside_nuclei: float = Field(0.02, ge=0, le=1)
    """Fields with a larger share of bright pixels outside nuclei are flagged as artefact."""
    drop_fields: tuple[Flag, ...] = ()
    """Flags whose fields give no cells; such nuclei are counted under flagged_field."""


class Settings(StageSettings):
    """Find every nucleus, and cut one window around it."""

    method: Annotated[Plugin, PluginField("cellssl.imaging.segmenters")] = Field(
        default_factory=lambda: plugins.load("cellssl.imaging.segmenters", "nuclei_net").Settings()
    )
    """The detector: a name, or a table with a name and its knobs."""
    nucleus_channel: str | None = None
    """The channel that shows nuclei; the first one where nothing is given."""
    illumination: Literal["off", "mean"] = "off"
    """Whether uneven light is taken off first: `mean` divides by the blurred mean of each plate, site and channel."""
    illumination_blur_px: float = Field(500.0, gt=0)
    """How widely that mean is blurred; 500 as pybbbc does, which takes off only what changes over more than a field.
    Darker corners call for about a tenth of the field's side, and enough fields that no cell shows in their mean."""
    crop_px: int = Field(196, ge=8)
    """Side of the window; 196 is about five nuclei across at 0.5 um a pixel."""
    border: Border = "reflect"
    """What happens where the window leaves the field."""
    cells_per_well: int | None = Field(None, ge=1)
    """Most cells that are cut of one well, drawn by lot from all that are good; all of them where nothing is given."""
    min_area_px: float = Field(100.0, ge=0)
    """Smaller nuclei are counted as too small and dropped."""
    max_area_px: float = Field(20_000.0, gt=0)
    """Larger nuclei are counted as too large and dropped."""
    quality: Quality = Quality()
    """What good nuclei and good fields are."""
    reference: Literal["controls", "all", "range"] = "controls"
    """Which wells of a plate set its intensity scale; `range` takes no percentiles, but the lowest and the highest
    value that pixels can have, for pictures of a data set that knows it."""
    low_percentile: float = Field(0.1, ge=0, lt=50)
    """Percentile of the reference pixels that becomes 0."""
    high_percentile: float = Field(99.9, gt=50, le=100)
    """Percentile of the reference pixels that becomes 255."""
    keep_labels: bool = False
    """Whether label images of the nuclei within the limits are written, as labels/FIELD_cp_masks.tif."""
    cellprofiler_table: bool = False
    """Whether nuclei.csv.gz is written too: the cells under CellProfiler's column names."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Share of a plate's fields that may be broken; they are listed in quarantine.csv with the reason."""
    workers: int | None = Field(None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Processes at work; as many as cores where nothing is given."""

    @model_validator(mode="after")
    def _check_areas(self) -> Settings:
        if self.min_area_px > self.max_area_px:
            raise ValueError("min_area_px is above max_area_px, so that no nucleus could be kept")
        return self

    def limits(self) -> Limits:
        """Which nuclei are kept."""
        from cellssl.imaging.selection import Limits

        quality = self.quality
        return Limits(
            self.min_area_px,
            self.max_area_px,
            self.crop_px if self.border == "drop" else None,
            quality.min_solidity,
            quality.max_saturated,
            quality.min_focus,
        )

    def inputs(self) -> tuple[str, ...]:
        """Fields."""
        return ("fetch",)

    def external_files(self) -> dict[str, Path]:
        """What the detector reads besides images: weights of one's own, label images."""
        found = getattr(self.method, "external_files", None)
        return {f"method.{role}": path for role, path in found().items()} if found else {}

    def check(self) -> None:
        """Raise UsageError where this machine has not what the detector needs."""
        needs = getattr(self.method, "check", None)
        if needs:
            needs()

    def downloads(self) -> list[Download]:
        """The published weights of the detector, where it has any."""
        method: Any = self.method
        files = method.downloads() if hasattr(method, "downloads") else {}
        return [
            file_download(f"the weights of {method.plugin_name()}'s {method.model!r}", url, place)
            for place, url in files.items()
        ]


EXPLAINED = {"quality": Quality}
