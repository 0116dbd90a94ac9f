"""first_recipe: what a folder holds and a plate map in, the text of a field table and of a commented recipe out."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median
from typing import TYPE_CHECKING, Any

from cellssl.config import recipe as recipes
from cellssl.config.paths import shipped_folder
from cellssl.datasets.base import Field
from cellssl.datasets.plates.layout import Plane, nucleus_channel
from cellssl.datasets.plates.recognise import FieldKey, Survey
from cellssl.datasets.tables.controls import is_control, usual_controls
from cellssl.errors import DataError
from cellssl.pipeline.training_size import TrainingSize, training_size

if TYPE_CHECKING:
    from cellssl.datasets.image_table import Settings

TABLE = "fields.csv"
INCOMPLETE = "incomplete.csv"
CELL_WITH_NEIGHBOURS_UM = 80.0
"""Side of a crop, so that it shows a cell with its neighbours: about five nuclei."""
AREA_OF_A_CELL_UM2 = 2500.0
"""What a cell takes up in cultures of usual density; only the length of a first look follows from it."""
USUAL_PIXEL_UM = 0.5
"""Assumed for the number of cells, where no file says the size of a pixel."""
FEWEST_CELLS, MOST_CELLS = 20, 400
"""Cells of a field that are counted on."""
LISTED_COMPOUNDS = 8
"""With more treated compounds, `treated or not` is no useful class, and the recipe leaves it out."""
OPENERS = ("=", "+", "-", "@", "'", " ")
"""First characters of a path that a spreadsheet may run, or that a table may lose."""


@dataclass(frozen=True)
class Written:
    """The files that `init` writes, and what it says."""

    files: dict[str, str]
    """Name -> text."""
    recipe: str
    """The name of the recipe among the files."""
    size: TrainingSize
    nucleus_channel: str
    remarks: list[str] = field(default_factory=list)
    """What the plate map says, and what cannot be answered without it."""


@dataclass(frozen=True)
class _Plan:
    """What the recipe is written from."""

    survey: Survey
    name: str
    platemap: Path | None
    nucleus: str
    nucleus_is_named: bool
    crop_px: int
    size: TrainingSize
    controls: list[str] | None
    """Compounds of control wells; None without a plate map, or where no well is a control by its compound."""
    has_controls: bool
    """Whether every plate has control wells."""
    compounds: list[str]
    """Treated compounds."""


def write_first_recipe(survey: Survey, name: str, platemap: Path | None) -> Written:
    """Return the field table and the recipe of a folder.

    The plate map is read by the data set that the recipe names, so that both see the same. Raises what it raises:
    DataError where the map is wrong, UsageError where it has no column for wells.
    """
    table = _table(survey, {key: planes for key, planes in survey.fields.items() if key not in survey.incomplete})
    compounds: list[tuple[str | None, Any]] = []
    remarks: list[str] = []
    controls: list[str] | None = None
    has_controls = False
    if platemap is not None:
        fields, remarks = _read_back(survey, table, platemap)
        controls, has_controls, said = _controls(fields)
        remarks += said
        compounds = [(one.compound, one.control_type) for one in fields]
    nucleus, is_named = nucleus_channel(survey.channels)
    crop_px = _crop_px(survey)
    size = training_size(
        len(survey.fields) - len(survey.incomplete),
        _cells_per_field(survey),
        crop_px,
        len(survey.channels),
        megapixels=_pixels(survey) / 1e6,
    )
    treated = sorted({c for c, kind in compounds if c and not is_control(c, kind, controls or ()) and kind != "empty"})
    plan = _Plan(survey, name, platemap, nucleus, is_named, crop_px, size, controls, has_controls, treated)
    recipe = f"{'first-look' if size.sample_fields else 'recipe'}.toml"
    schema = (shipped_folder("recipes") / recipes.SCHEMA).read_text(encoding="utf-8")
    files = {TABLE: table, recipe: _recipe(plan), recipes.SCHEMA: schema}
    if survey.incomplete:
        files[INCOMPLETE] = _incomplete(survey)
    return Written(files, recipe, size, nucleus, [*remarks, *_unanswered(plan)])


# --- the field table ------------------------------------------------------------------------------------------------


def _table(survey: Survey, fields: Mapping[FieldKey, Sequence[Plane]]) -> str:
    """Return the field table: one row per field, or per plane where planes are files of their own."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_header(survey))
    for row in _rows(survey, fields):
        writer.writerow(row)
    return written.getvalue()


def _header(survey: Survey) -> list[str]:
    optional = {
        "batch": _has_batches(survey),
        "t": survey.separate_t > 1,
        "z": survey.separate_z > 1,
        "series": _has_series(survey),
        "pixel_um": len(survey.pixel_um()) > 1,
    }
    files = ["file"] if _shares_files(survey) else [_column(channel) for channel in survey.channels]
    pages = [_page_column(channel) for channel in survey.channels if channel in _paged(survey)]
    return ["plate", "well", "site", *(name for name, is_needed in optional.items() if is_needed), *files, *pages]


def _page_column(channel: str) -> str:
    """Return the column with the page of a channel."""
    return f"{_column(channel)}_page"


def _paged(survey: Survey) -> set[str]:
    """Return the channels that are not the same page of every file."""
    pages: dict[str, set[int | None]] = defaultdict(set)
    for plane in survey.planes:
        if plane.is_page:
            pages[plane.channel].add(plane.in_file)
    return {channel for channel, numbers in pages.items() if len(numbers) > 1}


def _column(channel: str) -> str:
    """Return the column of a channel; one that is called like another column gets `channel_` before its name."""
    taken = ("plate", "well", "site", "batch", "t", "z", "series", "pixel_um", "file")
    return f"channel_{channel}" if channel in taken else channel


def _has_batches(survey: Survey) -> bool:
    return any(batch for _, batch, _, _ in survey.fields)


def _has_series(survey: Survey) -> bool:
    return any(plane.series for plane in survey.planes)


def _shares_files(survey: Survey) -> bool:
    """Return whether the channels lie in one file per field."""
    return len(survey.channels) > 1 and all(
        len({(plane.file, plane.series) for plane in planes if plane.channel in survey.channels and plane.file}) <= 1
        and all(plane.in_file is not None for plane in planes)
        for planes in survey.fields.values()
    )


def _rows(survey: Survey, fields: Mapping[FieldKey, Sequence[Plane]]) -> Iterator[list[object]]:
    header, paged = _header(survey), _paged(survey)
    pixel_um = _pixel_of_plate(survey)
    for key, planes in fields.items():
        by_plane: dict[tuple[int, int], dict[str, Plane]] = defaultdict(dict)
        for plane in planes:
            if plane.file:
                by_plane[plane.t, plane.z][plane.channel] = plane
        for (t, z), of_channel in sorted(by_plane.items()):
            if not any(channel in of_channel for channel in survey.channels):
                continue
            first = next(iter(of_channel.values()))
            values: dict[str, object] = {
                **dict(zip(("plate", "batch", "well", "site"), key, strict=True)),
                **{"t": t, "z": z, "series": first.series, "pixel_um": pixel_um.get(key[:2], "")},
            }
            if len({plane.series for plane in of_channel.values()}) > 1:
                raise DataError(
                    f"the channels of plate {key[0]}, well {key[2]}, site {key[3]} are different images (series) of "
                    f"their files, such as {first.file}",
                    hint="give the files one image each, or write the table by hand: docs/own-plates.md",
                )
            values["file"] = _path(first.file)
            for channel in survey.channels:
                values[_column(channel)] = _path(of_channel[channel].file) if channel in of_channel else ""
                if channel in paged:
                    values[_page_column(channel)] = of_channel[channel].in_file if channel in of_channel else 0
            yield [values[column] for column in header]


def _pixel_of_plate(survey: Survey) -> dict[tuple[str, str], float]:
    return {
        (plane.plate, plane.batch): round(one.optics.pixel_um, 6)
        for one in survey.found
        if one.optics.pixel_um
        for plane in one.planes
    }


def _path(file: str) -> str:
    """Return the path in a form that neither a spreadsheet runs nor a table cuts."""
    return f"./{file}" if file.startswith(OPENERS) else file


def _incomplete(survey: Survey) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["plate", "batch", "well", "site", "lacks"])
    writer.writerows([*key, lacks] for key, lacks in sorted(survey.incomplete.items()))
    return written.getvalue()


# --- the plate map --------------------------------------------------------------------------------------------------


def _read_back(survey: Survey, table: str, platemap: Path) -> tuple[list[Field], list[str]]:
    """Return the fields as the data set of the recipe gives them, and its remarks."""
    with tempfile.TemporaryDirectory(prefix="cellssl-init-") as folder:
        (Path(folder) / TABLE).write_text(table, encoding="utf-8", newline="")
        raw = {"name": "init", "fetch": {"dataset": _dataset(survey, platemap)}}
        dataset: Settings = recipes.from_table(raw, Path(folder), "the recipe").settings("fetch").dataset
        fields = dataset.plan(Path(folder))
        controls, _, _ = _controls(fields)
        remarks = [str(one) for one in dataset.remarks(controls or ())]
        return fields, [remark.replace(f"{folder}/", "") for remark in remarks]


def _controls(fields: Sequence[Field]) -> tuple[list[str] | None, bool, list[str]]:
    """Return the compounds of control wells, whether every plate has some, and what to say of them."""
    names = sorted({one.compound for one in fields if one.compound})
    by_type = any(one.control_type == "negative" for one in fields)
    controls = sorted(usual_controls(names))
    plates = {one.plate for one in fields}
    having = {one.plate for one in fields if is_control(one.compound, one.control_type, controls)}
    wells = {(one.plate, one.well) for one in fields if is_control(one.compound, one.control_type, controls)}
    empty = {(one.plate, one.well) for one in fields if not one.compound and one.control_type is None}
    said = []
    if wells:
        how = ", ".join([*controls, *(["the column of control types"] if by_type else [])])
        said.append(f"controls: {len(wells):,} wells on {len(having)} of {len(plates)} plates, by {how}; check them")
    else:
        said.append("no well is a control by its name; write the compounds of control wells: fetch.controls")
    if having and having != plates:
        said.append(f"plates without controls: {', '.join(sorted(plates - having)[:10])}")
    if empty:
        said.append(f'{len(empty):,} wells have no compound, and are no controls; controls = [""] would make them so')
    return controls or None, bool(having) and having == plates, said


def _unanswered(plan: _Plan) -> list[str]:
    if plan.platemap is None:
        return [
            "without a plate map nothing is known of compounds and controls: there are clusters, pictures and shares "
            "per well, but no agreement of clusters with a treatment (AMI), no distances from controls, no doses and "
            "no hits; cellssl init FOLDER --platemap FILE adds them"
        ]
    if not plan.has_controls:
        return [
            "without controls on every plate there are no distances from controls, and the scale is that of all wells"
        ]
    return []


# --- sizes ----------------------------------------------------------------------------------------------------------


def _pixel_um(survey: Survey) -> float | None:
    sizes = survey.pixel_um()
    return median(sizes) if sizes else None


def _pixels(survey: Survey) -> float:
    return median(header.rows * header.columns for header in survey.headers) if survey.headers else 1e6


def _crop_px(survey: Survey) -> int:
    """Return the side of a crop in pixels: about 80 um where the size of a pixel is known, at most half a field."""
    pixel_um = _pixel_um(survey)
    wanted = CELL_WITH_NEIGHBOURS_UM / pixel_um if pixel_um else 128.0
    shortest = min((min(header.rows, header.columns) for header in survey.headers), default=1024)
    return max(16, round(min(wanted, 320, shortest / 2) / 8) * 8)


def _cells_per_field(survey: Survey) -> int:
    area_um2 = _pixels(survey) * (_pixel_um(survey) or USUAL_PIXEL_UM) ** 2
    return round(min(max(area_um2 / AREA_OF_A_CELL_UM2, FEWEST_CELLS), MOST_CELLS))


# --- the recipe -----------------------------------------------------------------------------------------------------


def _dataset(survey: Survey, platemap: Path | None) -> dict[str, Any]:
    """Return the section [fetch.dataset] as values."""
    values: dict[str, Any] = {
        "name": "image_table",
        "table": TABLE,
        "root": str(survey.root.resolve()),
        "channels": _channels(survey),
        "columns": {name: name for name in _header(survey) if name in COLUMNS},
    }
    if len(survey.pixel_um()) == 1:
        values["pixel_um"] = survey.pixel_um()[0]
    if survey.z_planes > 1:
        values["z"] = "max"
    if survey.time_points > 1:
        values["t"] = "first" if survey.time_point is None else survey.time_point
    if platemap is not None:
        values["platemap"] = str(platemap.resolve())
    return values


COLUMNS = ("plate", "well", "site", "batch", "t", "z", "series", "pixel_um")


def _channels(survey: Survey) -> dict[str, Any]:
    """Return channel -> its column, with its name or number in the file where files hold several channels."""
    nucleus, _ = nucleus_channel(survey.channels)
    ordered = [nucleus, *(channel for channel in survey.channels if channel != nucleus)]
    shared, names = _shares_files(survey), {key: name for name, key in survey.keys.items()}
    in_file: dict[str, set[int]] = defaultdict(set)
    pages = {plane.channel for plane in survey.planes if plane.is_page}
    for plane in survey.planes:
        if plane.in_file is not None:
            in_file[plane.channel].add(plane.in_file)
    named = _names_in_files(survey)
    channels: dict[str, Any] = {}
    for channel in ordered:
        column = "file" if shared else _column(channel)
        if not in_file[channel]:
            channels[channel] = column
        elif channel in pages:
            page = _page_column(channel) if channel in _paged(survey) else min(in_file[channel])
            channels[channel] = {"column": column, "page": page}
        elif names[channel] in named or len(in_file[channel]) > 1:
            channels[channel] = {"column": column, "channel": names[channel]}
        else:
            channels[channel] = {"column": column, "channel": min(in_file[channel])}
    return channels


def _names_in_files(survey: Survey) -> set[str]:
    """Return the names of channels that every header of the sample gives once."""
    several = [header for header in survey.headers if header.channels > 1]
    return set.intersection(*(_once(header.channel_names) for header in several)) if several else set()


def _once(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) == 1}


def _text(value: object) -> str:
    """Return a value as TOML; tables stand on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_text(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _recipe(plan: _Plan) -> str:
    return (
        "\n".join([*_opening(plan), *_fetch(plan), *_segment(plan), *_split(plan), *_pretrain(plan), *_rest(plan)])
        + "\n"
    )


def _opening(plan: _Plan) -> list[str]:
    size = plan.size
    fields = len(plan.survey.fields) - len(plan.survey.incomplete)
    recipe = "first-look.toml" if size.sample_fields else "recipe.toml"
    cost = f"about {_minutes(size)} on this machine, up to the report"
    if size.sample_fields:
        title = (
            f"# {plan.name}: a FIRST LOOK at {size.sample_fields} of {fields:,} fields, and no result. By cellssl init."
        )
        whole = f"# All fields take about {_hours(size.hours_whole)}: remove the line `sample` below."
    else:
        title, whole = f"# {plan.name}: {fields:,} fields. By cellssl init.", ""
    return [
        recipes.SCHEMA_LINE,
        title,
        "#",
        f"# Cost: {cost}.",
        *([whole] if whole else []),
        f"# cellssl run {recipe} --to segment   # prints a folder: look at contact-sheet.png in it before you train",
        f"# cellssl run {recipe}                # everything, then the report",
        f"name = {_text(plan.name + ('-first-look' if size.sample_fields else ''))}",
        "seeds = [0]",
        "",
    ]


def _minutes(size: TrainingSize) -> str:
    return f"{max(1, round(size.minutes_first))} minutes"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours < 10 else f"{hours:.0f} hours"


def _fetch(plan: _Plan) -> list[str]:
    size, lines = plan.size, ["[fetch]"]
    fields = len(plan.survey.fields) - len(plan.survey.incomplete)
    if size.sample_fields:
        lines += [
            f"# A first look takes this many of {fields:,} fields, spread over wells and controls. For all of",
            f"# them, remove the next line and change the name: about {_hours(size.hours_whole)} on this machine.",
            f"sample = {size.sample_fields}",
        ]
    if plan.controls is not None:
        lines += [
            "# Compounds of the control wells, found by their names: check them.",
            f"controls = {_text(plan.controls)}",
        ]
    elif plan.platemap is not None:
        lines += ["# Name the compounds of the control wells, if there are any:", '# controls = ["DMSO"]']
    lines += ["", "[fetch.dataset]"]
    notes = {
        "table": "One row per field, or per plane, of the images of `root`; nothing is copied.",
        "channels": "The names on the left are yours to change, here and in nucleus_channel.",
        "pixel_um": "As the files say.",
        "z": '"max" is the brightest of all z planes; "mean", "focus" or the number of a plane, from 0, are others.',
        "t": 'One time point is taken; a number chooses another one, "all" makes every one a field of its own.',
        "platemap": "Joined by well, and by plate where the map names plates.",
    }
    dataset = _dataset(plan.survey, plan.platemap)
    for key, value in dataset.items():
        lines += [f"# {notes[key]}"] if key in notes else []
        lines.append(f"{key} = {_text(value)}")
    if not plan.survey.pixel_um():
        lines += ["# No file says the size of a pixel; with it, areas and crops are right:", "# pixel_um = 0.5"]
    if plan.platemap is None:
        lines += ['# platemap = "map.xlsx"        # compounds and doses by well: a list or a grid; CSV, TSV or Excel']
    return [*lines, ""]


def _segment(plan: _Plan) -> list[str]:
    certain = (
        "its name says that it shows nuclei"
        if plan.nucleus_is_named
        else "CHECK: no name says which channel shows nuclei"
    )
    lines = ["[segment]", f"# {certain}.", f"nucleus_channel = {_text(plan.nucleus)}"]
    pixel_um = _pixel_um(plan.survey)
    side = f", {plan.crop_px * pixel_um:.0f} um" if pixel_um else ""
    lines += [
        f"# The side of a crop{side}: a cell with its neighbours, about five nuclei.",
        f"crop_px = {plan.crop_px}",
    ]
    if not plan.has_controls:
        lines += [
            "# Without control wells on every plate, the brightness scale of a plate comes from all its wells.",
            'reference = "all"',
        ]
    return [*lines, ""]


def _split(plan: _Plan) -> list[str]:
    lines = ["[split]"]
    example = plan.compounds[0] if plan.compounds else "drug-a"
    if plan.has_controls and 0 < len(plan.compounds) <= LISTED_COMPOUNDS:
        lines += [
            "# Clusters are compared with `treated or not`.",
            f"treated = {{ compounds = {_text(plan.compounds)} }}",
        ]
    else:
        lines += [
            "# With controls, name treated compounds, so that clusters are compared with `treated or not`:",
            f"# treated = {{ compounds = [{_text(example)}] }}",
        ]
    return [*lines, 'group_by = "cell"', ""]


VIEWS = """
[pretrain.branches.context]   # shows the neighbours too
weight = 0.4
view = [
    { name = "channel_jitter", brightness = 0.4, contrast = 0.4 },
    "horizontal_flip",
    "vertical_flip",
    { name = "rotate", degrees = 180 },
    { name = "affine", degrees = 20, translate = 0.1, shear = 10 },
]
objective = { name = "moco", mask_same_cell = true }

[pretrain.branches.centre]    # shows only the cell in the middle
weight = 1.0
view = [
    { name = "channel_jitter", brightness = 0.4, contrast = 0.4 },
    "horizontal_flip",
    "vertical_flip",
    { name = "rotate", degrees = 180 },
    { name = "center_crop", side = 0.5 },
]
objective = { name = "moco", mask_same_cell = true }
"""


def _pretrain(plan: _Plan) -> list[str]:
    size = plan.size
    lines = [
        "# The views say what the network should ignore: here the rotation of a cell, its exact position, the",
        "# brightness of its stains. It can use everything else. `cellssl explain transforms` lists all transforms.",
        "[pretrain]",
        f"encoder = {_text(size.encoder)}",
        f"input_px = {size.input_px}",
        f"epochs = {size.epochs}",
        f"batch = {size.batch}",
    ]
    if not size.has_gpu:
        lines += [
            "# With a GPU, use these lines in place of the four above:",
            '# encoder = "vgg13"',
            f"# input_px = {plan.crop_px}",
            "# epochs = 100",
            "# batch = 128",
        ]
    return [*lines, *VIEWS.rstrip("\n").split("\n"), ""]


def _rest(plan: _Plan) -> list[str]:
    lines = ["[cluster]", "k = 4", 'part = "all"                  # every cell of the split, not only the test part']
    if not plan.has_controls:
        lines += [
            "# Without control wells on every plate, the vectors of all plates are scaled together. With them, remove",
            "# this line: then the controls of a plate set its location.",
            'normalise = ["zscore", "l2"]',
        ]
    return [
        *lines,
        "",
        *_hits(plan),
        "",
        "# Baselines: the same steps without any learning.",
        "[arm.random.embed]",
        'model = "random"',
        "",
        "[arm.intensities.embed]",
        'model = "intensities"',
        "",
        "[arm.features.embed]",
        'model = "features"',
    ]


def _hits(plan: _Plan) -> list[str]:
    lines = ["[hits]"]
    if not plan.has_controls:
        lines += [
            "# Without control wells on every plate, a well is compared with all others of its plate.",
            'reference = "all"',
        ]
    if not plan.compounds or plan.size.sample_fields:
        when = (
            "With all fields and the compounds of wells" if plan.size.sample_fields else "With the compounds of wells"
        )
        return [f"# {when}, this finds which treatments changed the cells:", *(f"# {line}" for line in lines)]
    return ["# Which treatments (a compound at a dose) changed the cells: hits.csv.", *lines]


def recipe_name(folder: Path) -> str:
    """Return a name for the recipe of a folder: its name with what a file name can hold."""
    name = re.sub(r"[^\w.+-]+", "-", PurePosixPath(folder.absolute().resolve().as_posix()).name).strip("-.")
    return name[:60] or "plate"
