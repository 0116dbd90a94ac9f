"""simulated: a few knobs in -> plates like BBBC021's, with the truth about every cell beside the images."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from pydantic import Field as Knob
from pydantic import field_validator, model_validator

from cellssl.config.settings import NOT_IN_FINGERPRINT, Plugin
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.errors import FailedError
from cellssl.events import Progress
from cellssl.randomness import generator

if TYPE_CHECKING:
    import numpy as np

    from cellssl.datasets.simulation.scene import Rendered, Scene

ALGORITHM = 2  # 2: drugs reach the cytoskeleton of every reacting cell, and lost filaments lower the stain
PIXEL_UM = 0.4963
CHANNELS = {"dna": "w1", "tubulin": "w2", "actin": "w4"}  # as BBBC021 numbers them
CONTROL = "DMSO"
CONTROL_WELLS = ("B02", "C02", "D02", "E11", "F11", "G11")
ROWS = "BCDEFG"
MOST_DOSES = 8  # one a column: they fall from column 03 to column 10; 02 and 11 are for controls
HIGHEST_DOSE_COLUMN = 3
PLATES_PER_WEEK = 3
FIRST_WEEK = date(2007, 6, 15)
TRUTH_COLUMNS = ("field_id", "label", "row_px", "column_px", "phenotype", "severity", "area_px")
IMAGE_COLUMNS = (
    'TableNumber,ImageNumber,"Image_FileName_DAPI","Image_PathName_DAPI","Image_FileName_Tubulin",'
    '"Image_PathName_Tubulin","Image_FileName_Actin","Image_PathName_Actin","Image_Metadata_Plate_DAPI",'
    '"Image_Metadata_Well_DAPI",Replicate,"Image_Metadata_Compound",Image_Metadata_Concentration'
)

CompoundName = Literal["sim-nocodazole", "sim-taxol", "sim-cytochalasin"]


class Settings(Plugin):
    """Make plates up: fields like BBBC021's, whose nuclei and phenotypes are known cell by cell."""

    seed: int = Knob(0, ge=0)
    """Another seed gives other cells on other plates; independent of the seeds of training."""
    plates: int = Knob(3, ge=1, le=99)
    """Number of plates, three a week; a plate does not depend on how many there are."""
    compounds: tuple[CompoundName, ...] = Knob(("sim-nocodazole", "sim-taxol", "sim-cytochalasin"), min_length=1)
    """Which simulated compounds the plates carry."""
    doses: int | tuple[float, ...] = 8
    """The doses in micromolar, or how many of each compound's own eight, from the highest down."""
    wells_per_treatment: int = Knob(1, ge=1, le=6)
    """Wells a plate for each dose of each compound; a plate has six rows for them."""
    control_wells: int = Knob(6, ge=1, le=6)
    """Wells a plate with DMSO only: the first of B02 C02 D02 E11 F11 G11."""
    sites_per_well: int = Knob(4, ge=1, le=9)
    """Fields a well."""
    height_px: int = Knob(1024, ge=128, le=4096)
    """Height of a field in pixels of 0.4963 um."""
    width_px: int = Knob(1280, ge=128, le=4096)
    """Width of a field in pixels of 0.4963 um."""
    cells_per_field: float = Knob(195.0, gt=0, le=400)
    """Mean number of nuclei with their centre on 1280 x 1024 px; a smaller field holds its share of them."""
    density_spread: float = Knob(0.35, ge=0, le=1)
    """Standard deviation of the log of the cell density between wells; within a well it is half of that."""
    brightness_spread: float = Knob(0.3, ge=0, le=1)
    """Standard deviation of the log of a channel's brightness between plates."""
    effect_max: float = Knob(0.85, ge=0, lt=1)
    """Share of cells that react at the very highest doses; the others look untreated."""
    workers: int | None = Knob(None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Processes that draw fields; all processors when not given."""

    @field_validator("compounds")
    @classmethod
    def _check_compounds(cls, compounds: tuple[CompoundName, ...]) -> tuple[CompoundName, ...]:
        if len(set(compounds)) < len(compounds):
            raise ValueError("must name each compound once")
        return compounds

    @field_validator("doses")
    @classmethod
    def _check_doses(cls, doses: int | tuple[float, ...]) -> int | tuple[float, ...]:
        listed = doses if isinstance(doses, tuple) else ()
        count = len(listed) if isinstance(doses, tuple) else doses
        twice = len(set(listed)) < len(listed)
        if twice or not 1 <= count <= MOST_DOSES or not all(0 < dose < math.inf for dose in listed):
            raise ValueError(f"must be a number from 1 to {MOST_DOSES}, or a list of as many different doses above 0")
        return doses

    @model_validator(mode="after")
    def _check_rows(self) -> Settings:
        rows = len(self.compounds) * self.wells_per_treatment
        if rows > len(ROWS):
            raise ValueError(
                f"{len(self.compounds)} compounds in {self.wells_per_treatment} wells each need {rows} rows, "
                f"and a plate has {len(ROWS)}; lower wells_per_treatment"
            )
        return self

    def external_files(self) -> Mapping[str, Path]:
        """None: everything follows from the knobs."""
        return {}

    def plan(self, cache: Path) -> list[Field]:
        """All fields of all plates, sorted by plate, well and site."""
        wells = sorted(self._wells().items())
        return [
            self._field(number, well, site, compound, dose)
            for number in range(1, self.plates + 1)
            for well, (compound, dose) in wells
            for site in range(1, self.sites_per_well + 1)
        ]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """The knobs that the pixels depend on; which wells hold which treatment is in the fields' rows."""
        size = {"height_px": self.height_px, "width_px": self.width_px}
        return {"algorithm": ALGORITHM, "seed": self.seed, **size, **self._biology()}

    def _biology(self) -> dict[str, float]:
        names = ("cells_per_field", "density_spread", "brightness_spread", "effect_max")
        return {name: getattr(self, name) for name in names}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Progress, None, dict[str, str]]:
        """Draw the fields that are not there yet, then gather the truth about their cells in `truth.csv`."""
        missing = [field for field in fields if not self._is_whole(field, folder)]
        done = len(fields) - len(missing)
        if done:
            yield Progress(done, len(fields), "fields", "already there")
        for field_id in self._draw(missing, folder):
            done += 1
            yield Progress(done, len(fields), "fields", field_id)
        _gather_truth(fields, folder)
        return {}

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """Everything is drawn here."""
        return Forecast(0, None, 0)

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """BBBC021's three tables, for these plates."""
        return {
            "BBBC021_v1_image.csv": _image_table(fields),
            "BBBC021_v1_moa.csv": _moa_table(fields),
            "BBBC021_v1_compound.csv": _compound_table(fields),
        }

    def _wells(self) -> dict[str, tuple[str, float]]:
        from cellssl.datasets.simulation.phenotypes import COMPOUNDS

        wells = dict.fromkeys(CONTROL_WELLS[: self.control_wells], (CONTROL, 0.0))
        for position, name in enumerate(self.compounds):
            own = COMPOUNDS[name].doses_micromolar
            doses = self.doses if isinstance(self.doses, tuple) else own[-self.doses :]
            for replicate in range(self.wells_per_treatment):
                row = ROWS[replicate * len(self.compounds) + position]
                for step, dose in enumerate(sorted(doses, reverse=True)):
                    wells[f"{row}{HIGHEST_DOSE_COLUMN + step:02d}"] = (name, dose)
        return wells

    def _field(self, number: int, well: str, site: int, compound: str, dose: float) -> Field:
        week = 1 + (number - 1) // PLATES_PER_WEEK
        plate = f"Sim{week}_{number:05d}"
        field_id = f"{plate}_{well}_s{site}"
        day = FIRST_WEEK + timedelta(weeks=week - 1)
        prefix = f"{plate}/Week{week}_{day:%d%m%y}_{well}_s{site}_"
        return Field(
            field_id=field_id,
            plate=plate,
            well=well,
            site=site,
            images={
                channel: f"{prefix}{wave}{self._uuid(field_id, channel)}.tif" for channel, wave in CHANNELS.items()
            },
            batch=f"Week{week}",
            compound=compound,
            dose_micromolar=dose,
            moa=_moa(compound),
            pixel_um=PIXEL_UM,
            extra={"truth_labels": f"truth/{field_id}_nuclei.tif"},
        )

    def _uuid(self, field_id: str, channel: str) -> str:
        return str(UUID(bytes=generator(self.seed, field_id, "uuid", channel).bytes(16), version=4)).upper()

    def _is_whole(self, field: Field, folder: Path) -> bool:
        """The truth is written last; a size tells images that a full disk or a crash of the machine cut short."""
        images = [folder / path for path in field.images.values()]
        rest = [folder / str(field.extra["truth_labels"]), _truth_file(field, folder)]
        least = 2 * self.height_px * self.width_px
        return all(path.is_file() for path in (*images, *rest)) and all(path.stat().st_size > least for path in images)

    def _draw(self, fields: Sequence[Field], folder: Path) -> Iterator[str]:
        workers = min(self.workers or os.cpu_count() or 1, len(fields))
        if workers <= 1:
            yield from (draw_field(field, self._scene(field), folder) for field in fields)
            return
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _stay_with_parent)
        try:
            drawing = [pool.submit(draw_field, field, self._scene(field), folder) for field in fields]
            yield from (future.result() for future in as_completed(drawing))
        except BrokenProcessPool as error:
            raise FailedError(
                f"one of {workers} processes that draw fields died, most likely for want of memory",
                hint="go on with fewer workers; the fields that are drawn are kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _scene(self, field: Field) -> Scene:
        from cellssl.datasets.simulation.scene import Scene

        return Scene(
            seed=self.seed,
            plate=field.plate,
            well=field.well,
            field_id=field.field_id,
            compound=None if field.compound == CONTROL else field.compound,
            dose_micromolar=field.dose_micromolar or 0.0,
            height_px=self.height_px,
            width_px=self.width_px,
            **self._biology(),
        )


def draw_field(field: Field, scene: Scene, folder: Path) -> str:
    """Render one field and put its files in place, the truth last; returns the field's id."""
    from cellssl.datasets.simulation.scene import render

    rendered = render(scene)
    for channel, path in field.images.items():
        _write_image(folder / path, rendered.images[channel], compressed=False)
    _write_image(folder / str(field.extra["truth_labels"]), rendered.labels, compressed=True)
    _write_text(_truth_file(field, folder), _truth_rows(field, rendered))
    return field.field_id


def _stay_with_parent() -> None:
    """For a worker: leave Ctrl-C to the parent, and do not outlive it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _write_image(path: Path, pixels: np.ndarray, *, compressed: bool) -> None:
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    compression = "zlib" if compressed else None
    tifffile.imwrite(beside, pixels, photometric="minisblack", metadata=None, compression=compression)
    beside.replace(path)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8", newline="\n")
    beside.replace(path)


def _truth_file(field: Field, folder: Path) -> Path:
    return folder / "truth" / f"{field.field_id}_cells.csv"


def _truth_rows(field: Field, rendered: Rendered) -> str:
    truth = rendered.truth
    columns = (truth.label, truth.row_px, truth.column_px, truth.phenotype, truth.severity, truth.area_px)
    lines = (
        f"{field.field_id},{label},{row:.2f},{column:.2f},{phenotype},{severity:.3f},{area}"
        for label, row, column, phenotype, severity, area in zip(*columns, strict=True)
    )
    return "\n".join((",".join(TRUTH_COLUMNS), *lines, ""))


def _gather_truth(fields: Sequence[Field], folder: Path) -> None:
    """One table for the plate: the header of the first field's, then the rows of all."""
    rows = [_truth_file(field, folder).read_text(encoding="utf-8").partition("\n")[2] for field in fields]
    _write_text(folder / "truth.csv", ",".join(TRUTH_COLUMNS) + "\n" + "".join(rows))


def _moa(compound: str) -> str:
    from cellssl.datasets.simulation.phenotypes import COMPOUNDS

    return CONTROL if compound == CONTROL else COMPOUNDS[compound].moa


def _image_table(fields: Sequence[Field]) -> str:
    lines = [IMAGE_COLUMNS]
    for number, field in enumerate(fields, start=1):
        week, plate = str(field.batch).removeprefix("Week"), int(field.plate.split("_")[1])
        files = (f'"{Path(field.images[channel]).name}","{field.batch}/{field.plate}"' for channel in CHANNELS)
        lines.append(
            f'{week},{number},{",".join(files)},"{field.plate}","{field.well}",{1 + (plate - 1) % PLATES_PER_WEEK},'
            f'"{field.compound}",{field.dose_micromolar:.6f}'
        )
    return "\n".join((*lines, ""))


def _moa_table(fields: Sequence[Field]) -> str:
    rows = sorted({(str(field.compound), field.dose_micromolar or 0.0, str(field.moa)) for field in fields})
    lines = (f'"{compound}",{dose:.6f},"{moa}"' for compound, dose, moa in rows)
    return "\n".join(('"compound",concentration,"moa"', *lines, ""))


def _compound_table(fields: Sequence[Field]) -> str:
    """Structures are empty: simulated compounds have none."""
    lines = (f'"{compound}",""' for compound in sorted({str(field.compound) for field in fields}))
    return "\n".join(('"compound","smiles"', *lines, ""))
