"""simulated: a few settings in -> plates like those of BBBC021, with the ground truth of every cell."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import Field as Setting
from pydantic import WithJsonSchema, field_validator, model_validator

from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Dataset, Field, Value
from cellssl.datasets.simulation.plate_layout import Treatment, at_random, is_outer
from cellssl.errors import FailedError
from cellssl.events import Progress
from cellssl.files import write_buffer, write_text
from cellssl.randomness import generator

if TYPE_CHECKING:
    import numpy as np

    from cellssl.datasets.simulation.scene import Rendered, Scene

ALGORITHM = 2  # 2: drugs reach the cytoskeleton of every reacting cell, and lost filaments lower the stain
PIXEL_UM = 0.4963
CHANNELS = {"dna": "w1", "tubulin": "w2", "actin": "w4"}  # the numbers that BBBC021 gives them
CONTROL = "DMSO"
CONTROL_WELLS = ("B02", "C02", "D02", "E11", "F11", "G11")
ROWS = "BCDEFG"
MOST_DOSES = 8  # one per column: they fall from column 03 to column 10; columns 02 and 11 are for controls
HIGHEST_DOSE_COLUMN = 3
DOSES = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MOST_DOSES},
        {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 1, "maxItems": MOST_DOSES},
    ]
}
"""What `doses` may be; `_check_doses` decides."""
PLATES_PER_WEEK = 3
FIRST_WEEK = date(2007, 6, 15)
TRUTH_COLUMNS = ("field_id", "label", "row_px", "column_px", "phenotype", "severity", "area_px")
IMAGE_COLUMNS = (
    'TableNumber,ImageNumber,"Image_FileName_DAPI","Image_PathName_DAPI","Image_FileName_Tubulin",'
    '"Image_PathName_Tubulin","Image_FileName_Actin","Image_PathName_Actin","Image_Metadata_Plate_DAPI",'
    '"Image_Metadata_Well_DAPI",Replicate,"Image_Metadata_Compound",Image_Metadata_Concentration'
)

CompoundName = Literal[
    "sim-nocodazole",
    "sim-vincristine",
    "sim-taxol",
    "sim-epothilone",
    "sim-cytochalasin",
    "sim-latrunculin",
    "sim-etoposide",
    "sim-mitomycin",
    "sim-cytostatic",
]


class Settings(Dataset):
    """Simulated plates: fields like those of BBBC021, with the nucleus and the phenotype of every cell known.

    Two compounds of each of four mechanisms disturb cells: microtubules lost (sim-nocodazole, sim-vincristine) or
    bundled (sim-taxol, sim-epothilone), actin disrupted (sim-cytochalasin, sim-latrunculin), DNA damaged
    (sim-etoposide, sim-mitomycin). sim-cytostatic leaves fewer cells and changes nothing in them; `inactive` adds
    compounds that do nothing. With `density_answer = 1`, wells answer as the real wells of these drugs in BBBC021 do:
    distances between nuclei, how many touch, nuclear area and cell count, relative to DMSO, are those of CellProfiler's
    profiles of Ljosa et al. 2013 (cellssl/datasets/simulation/compounds.py has the numbers and their source).
    """

    seed: int = Setting(0, ge=0)
    """Seed of the cells and plates; independent of the seeds of training."""
    plates: int = Setting(3, ge=1, le=99)
    """Number of plates, three per week; a plate does not depend on how many there are."""
    compounds: tuple[CompoundName, ...] = Setting(("sim-nocodazole", "sim-taxol", "sim-cytochalasin"), min_length=1)
    """Which simulated compounds the plates carry."""
    inactive: int = Setting(0, ge=0, le=99)
    """Number of compounds without any effect, sim-inactive-01 and so on, in as many doses and wells as the others."""
    doses: Annotated[int | tuple[float, ...], WithJsonSchema(DOSES)] = 8
    """The doses in micromolar, or the number of each compound's own eight doses, from the highest down."""
    wells_per_treatment: int = Setting(1, ge=1, le=6)
    """Wells per plate for each dose of each compound; in the layout `bbbc021` a plate has six rows for them."""
    control_wells: int = Setting(6, ge=1, le=96)
    """Wells per plate with DMSO only; in the layout `bbbc021` the first ones of B02 C02 D02 E11 F11 G11."""
    layout: Literal["bbbc021", "fixed", "shuffled"] = "bbbc021"
    """Where treatments lie. `bbbc021`: one compound per row, doses falling from column 03 on, the same on all plates.
    `fixed`: every treatment and control in a random well of the whole plate, the same on all plates. `shuffled`: drawn
    for every plate anew."""
    plate_wells: Literal[96, 384] = 96
    """Wells of a plate, of the layouts `fixed` and `shuffled`; wells without a treatment stay empty."""
    sites_per_well: int = Setting(4, ge=1, le=9)
    """Fields per well."""
    height_px: int = Setting(1024, ge=128, le=4096)
    """Height of a field in pixels of 0.4963 um."""
    width_px: int = Setting(1280, ge=128, le=4096)
    """Width of a field in pixels of 0.4963 um."""
    cells_per_field: float = Setting(195.0, gt=0, le=400)
    """Mean number of nuclei with their centre on 1280 x 1024 px; a smaller field holds proportionally fewer."""
    density_spread: float = Setting(0.35, ge=0, le=1)
    """Standard deviation of the log of the cell density between wells; within a well it is half of that."""
    brightness_spread: float = Setting(0.3, ge=0, le=1)
    """Standard deviation of the log of a channel's brightness between plates."""
    effect_max: float = Setting(0.85, ge=0, lt=1)
    """Share of cells that react at the highest doses; the others look untreated."""
    density_answer: float = Setting(0.0, ge=0, le=1)
    """How strongly the density of a well, its touching nuclei and their area answer the compound and its dose, beyond
    what happens inside the cells: 1 as in real wells, 0 not at all."""
    edge_effect: float = Setting(0.0, ge=0, le=1)
    """How strongly wells in the first and last rows and columns differ: at 1 they have 35 % fewer cells, 25 % less
    light in every channel, and nuclei of an 8 % smaller radius."""
    workers: int | None = Setting(None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Number of processes that draw fields; if not given, one per processor."""

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
        repeated = len(set(listed)) < len(listed)
        if repeated or not 1 <= count <= MOST_DOSES or not all(0 < dose < math.inf for dose in listed):
            raise ValueError(f"must be a number from 1 to {MOST_DOSES}, or a list of as many different doses above 0")
        return doses

    @model_validator(mode="after")
    def _check_layout(self) -> Settings:
        if self.layout == "bbbc021":
            self._check_rows()
            return self
        wells = len(self._treatments())
        if wells > self.plate_wells:
            raise ValueError(
                f"treatments and controls need {wells} wells, and a plate has {self.plate_wells}; lower "
                "wells_per_treatment, doses, inactive or control_wells, or set plate_wells = 384"
            )
        return self

    def _check_rows(self) -> None:
        """Raise ValueError where the rows of BBBC021 cannot hold the settings."""
        if self.inactive or self.edge_effect or self.control_wells > len(CONTROL_WELLS) or self.plate_wells != 96:
            raise ValueError(
                f"inactive, edge_effect, plate_wells and more than {len(CONTROL_WELLS)} control_wells need a layout "
                'over the whole plate; set layout = "fixed" or "shuffled"'
            )
        rows = len(self.compounds) * self.wells_per_treatment
        if rows > len(ROWS):
            raise ValueError(
                f"{len(self.compounds)} compounds in {self.wells_per_treatment} wells each need {rows} rows, "
                f'and a plate has {len(ROWS)}; lower wells_per_treatment, or set layout = "fixed" or "shuffled"'
            )

    def plan(self, cache: Path) -> list[Field]:
        """Return all fields of all plates, sorted by plate, well and site."""
        return [
            self._field(number, well, site, compound, dose)
            for number in range(1, self.plates + 1)
            for well, (compound, dose) in sorted(self._wells(number).items())
            for site in range(1, self.sites_per_well + 1)
        ]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return the settings that the pixels depend on; the treatments of the wells are in the rows of the fields.

        Settings that came later count where they act, so that plates of before keep their names.
        """
        later: dict[str, Value] = {"density_answer": self.density_answer}
        if self.edge_effect:
            later |= {"edge_effect": self.edge_effect, "plate_wells": self.plate_wells}
        return {
            "algorithm": ALGORITHM,
            "seed": self.seed,
            "height_px": self.height_px,
            "width_px": self.width_px,
            "cells_per_field": self.cells_per_field,
            "density_spread": self.density_spread,
            "brightness_spread": self.brightness_spread,
            "effect_max": self.effect_max,
            **{name: value for name, value in later.items() if value},
        }

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Progress, None, dict[str, str]]:
        """Draw the fields that are not there yet, then gather the ground truth of their cells in `truth.csv`."""
        missing = [field for field in fields if not self._is_whole(field, folder)]
        done = len(fields) - len(missing)
        if done:
            yield Progress(done, len(fields), "fields", "already there")
        for field_id in self._draw(missing, folder):
            done += 1
            yield Progress(done, len(fields), "fields", field_id)
        _gather_truth(fields, folder)
        return {}

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """Return the three tables of BBBC021, for these plates."""
        return {
            "BBBC021_v1_image.csv": _image_table(fields),
            "BBBC021_v1_moa.csv": _moa_table(fields),
            "BBBC021_v1_compound.csv": _compound_table(fields),
        }

    def _wells(self, number: int) -> dict[str, Treatment]:
        """Return well -> compound and dose of one plate."""
        if self.layout == "bbbc021":
            return self._wells_in_rows()
        plate = "all plates" if self.layout == "fixed" else plate_name(number)
        return at_random(self._treatments(), self.plate_wells, generator(self.seed, plate, "layout"))

    def _wells_in_rows(self) -> dict[str, Treatment]:
        """Return well -> compound and dose: controls in columns 02 and 11, one compound per row, doses falling."""
        wells: dict[str, Treatment] = dict.fromkeys(CONTROL_WELLS[: self.control_wells], (CONTROL, 0.0))
        for position, name in enumerate(self.compounds):
            for replicate in range(self.wells_per_treatment):
                row = ROWS[replicate * len(self.compounds) + position]
                for step, dose in enumerate(self._doses(name)):
                    wells[f"{row}{HIGHEST_DOSE_COLUMN + step:02d}"] = (name, dose)
        return wells

    def _treatments(self) -> list[Treatment]:
        """Return compound and dose of every well of a plate, controls first."""
        names = [*self.compounds, *(f"sim-inactive-{number:02d}" for number in range(1, self.inactive + 1))]
        treated = [(name, dose) for name in names for dose in self._doses(name)]
        return [(CONTROL, 0.0)] * self.control_wells + treated * self.wells_per_treatment

    def _doses(self, name: str) -> list[float]:
        """Return the doses of a compound in micromolar, falling."""
        from cellssl.datasets.simulation.compounds import compound_of

        doses = self.doses if isinstance(self.doses, tuple) else compound_of(name).doses_micromolar[-self.doses :]
        return sorted(doses, reverse=True)

    def _field(self, number: int, well: str, site: int, compound: str, dose: float) -> Field:
        week = 1 + (number - 1) // PLATES_PER_WEEK
        plate = plate_name(number)
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
        """Return whether all files of a field are there; an image cut short by a crash or a full disk is too small.

        The ground truth is written last.
        """
        images = [folder / path for path in field.images.values()]
        rest = [folder / str(field.extra["truth_labels"]), _truth_file(field, folder)]
        least = 2 * self.height_px * self.width_px
        return all(path.is_file() for path in (*images, *rest)) and all(path.stat().st_size > least for path in images)

    def _draw(self, fields: Sequence[Field], folder: Path) -> Iterator[str]:
        """Draw the fields, in several processes; yield the id of each when it is drawn."""
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
                f"one of {workers} processes that draw fields died, most likely because memory ran out",
                hint="set fewer workers and run the same command again; the fields that are drawn are kept",
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
            cells_per_field=self.cells_per_field,
            density_spread=self.density_spread,
            brightness_spread=self.brightness_spread,
            effect_max=self.effect_max,
            density_answer=self.density_answer,
            edge_effect=self.edge_effect if self.edge_effect and is_outer(field.well, self.plate_wells) else 0.0,
        )


def plate_name(number: int) -> str:
    """Return the name of a plate, which begins with its week."""
    return f"Sim{1 + (number - 1) // PLATES_PER_WEEK}_{number:05d}"


def draw_field(field: Field, scene: Scene, folder: Path) -> str:
    """Render one field and write its files, the ground truth last; return the field's id."""
    from cellssl.datasets.simulation.scene import render

    rendered = render(scene)
    for channel, path in field.images.items():
        _write_image(folder / path, rendered.images[channel], compressed=False)
    _write_image(folder / str(field.extra["truth_labels"]), rendered.labels, compressed=True)
    _write_text(_truth_file(field, folder), _truth_rows(field, rendered))
    return field.field_id


def _stay_with_parent() -> None:
    """Set up a worker process: leave Ctrl-C to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _write_image(path: Path, pixels: np.ndarray, *, compressed: bool) -> None:
    import tifffile

    how: dict[str, Any] = {"photometric": "minisblack", "metadata": None, "compression": "zlib" if compressed else None}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_buffer(path, lambda buffer: tifffile.imwrite(buffer, pixels, **how))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


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
    """Write one table for the plate: the header, then the rows of all fields."""
    rows = [_truth_file(field, folder).read_text(encoding="utf-8").partition("\n")[2] for field in fields]
    _write_text(folder / "truth.csv", ",".join(TRUTH_COLUMNS) + "\n" + "".join(rows))


def _moa(compound: str) -> str | None:
    from cellssl.datasets.simulation.compounds import compound_of

    return CONTROL if compound == CONTROL else compound_of(compound).moa


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
    known = [field for field in fields if field.moa is not None]
    rows = sorted({(str(field.compound), field.dose_micromolar or 0.0, str(field.moa)) for field in known})
    lines = (f'"{compound}",{dose:.6f},"{moa}"' for compound, dose, moa in rows)
    return "\n".join(('"compound",concentration,"moa"', *lines, ""))


def _compound_table(fields: Sequence[Field]) -> str:
    """Return the table of compounds; structures are empty, because simulated compounds have none."""
    lines = (f'"{compound}",""' for compound in sorted({str(field.compound) for field in fields}))
    return "\n".join(('"compound","smiles"', *lines, ""))
