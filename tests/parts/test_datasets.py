"""The contract of every file in cellssl/datasets: what `fetch` relies on, whatever the data set."""

import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from made_up_datasets import write_cifar, write_class_folders, write_crop_stack, write_image_table, write_mnist
from made_up_screen import PLATES, image_rows, write_archive, write_screen
from misbehaving_server import ServerBehaviour, serving
from pydantic import ValidationError

from cellssl.artifacts.hashing import sha256_of
from cellssl.config import plugins
from cellssl.config.settings import Plugin, first_fault
from cellssl.datasets.base import Dataset, Field, Forecast, Value
from cellssl.datasets.tables.columns import RESERVED_COLUMNS
from cellssl.events import Event
from cellssl.images.reading import image_fault
from cellssl.stages.fetch.settings import Settings as FetchSettings

PACKAGE = "cellssl.datasets"
NAMES = plugins.names(PACKAGE)
HEAVY = {"torch", "torchvision", "pandas", "skimage", "sklearn", "scipy", "matplotlib", "pyarrow", "requests"}

Write = Callable[[Path, pytest.MonkeyPatch], dict[str, Any]]
"""Writes made-up files into a folder and returns the settings that read them."""

TABLE_COLUMNS = {"plate": "plate", "well": "well", "site": "site", "compound": "drug", "dose_micromolar": "dose"}
STACK_COLUMNS = {"plate": "plate", "well": "well", "compound": "drug", "dose_micromolar": "dose"}


def bbbc021(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    screen = write_screen(folder / "screen")
    return {"source": str(screen / "there"), "manifest": str(screen / "manifest.toml"), "compounds": ["nocodazole"]}


def crop_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    write_crop_stack(folder)
    files = {"stack": str(folder / "stack.npy"), "table": str(folder / "cells.csv")}
    return {**files, "channels": ["dna", "actin"], "columns": STACK_COLUMNS, "keep": ["size"]}


def image_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    write_image_table(folder)
    channels = {"dna": ["dna"], "actin": ["actin"]}
    return {"table": str(folder / "plate.csv"), "channels": channels, "columns": TABLE_COLUMNS, "keep": ["drug"]}


def nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A data set without an entry below is tested with its defaults."""
    return {}


SMALL = {"plates": 2, "compounds": ["sim-taxol"], "doses": 1, "control_wells": 1, "sites_per_well": 1}
MADE_UP: dict[str, Write] = {
    "bbbc021": bbbc021,
    "cifar10": lambda folder, patch: {"folder": str(write_cifar("cifar10", folder / "files", patch))},
    "cifar100": lambda folder, patch: {"folder": str(write_cifar("cifar100", folder / "files", patch))},
    "crop_stack": crop_stack,
    "digits": lambda folder, patch: {},
    "image_folder": lambda folder, patch: {"folder": str(write_class_folders(folder / "pets"))},
    "image_table": image_table,
    "mnist": lambda folder, patch: {"folder": str(write_mnist(folder / "files", patch))},
    "simulated": lambda folder, patch: {**SMALL, "height_px": 128, "width_px": 160, "workers": 1},
}
WITH_CROPS = ("cifar10", "cifar100", "crop_stack", "digits", "image_folder", "mnist")
"""Data sets of crops that are already cut; all others give images of fields."""
WITH_SELECTION = ("bbbc021", "crop_stack", "image_table")
"""Data sets whose setting `plates` selects plates by name."""
every_data_set = pytest.mark.parametrize("name", NAMES)


def load(name: str, **values: Any) -> Dataset:
    """Return a data set as a recipe gives it."""
    return FetchSettings.model_validate({"dataset": {"name": name, **values}}).dataset


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Return a function that writes made-up files and returns the data set that reads them."""

    def write_files(name: str, folder: str = "files", **values: Any) -> Dataset:
        (tmp_path / folder).mkdir(exist_ok=True)
        return load(name, **{**MADE_UP.get(name, nothing)(tmp_path / folder, monkeypatch), **values})

    return write_files


def by_plate(fields: Sequence[Field]) -> dict[str, list[Field]]:
    plates: dict[str, list[Field]] = {}
    for field in fields:
        plates.setdefault(field.plate, []).append(field)
    return plates


def make(dataset: Dataset, fields: Sequence[Field], folder: Path) -> dict[str, str]:
    """Run `make` to its end, in a folder that exists; return the reasons, and assert that it yields events only."""
    folder.mkdir(parents=True, exist_ok=True)
    making = dataset.make(fields, folder)
    while True:
        try:
            assert isinstance(next(making), Event)
        except StopIteration as end:
            return dict(end.value)


def identities(dataset: Dataset, plates: dict[str, list[Field]]) -> dict[str, str]:
    """Return the identity of every plate as the JSON that goes into its fingerprint."""
    return {plate: json.dumps(dataset.identity(fields, sha256_of)) for plate, fields in plates.items()}


def own_images(fields: Sequence[Field], folder: Path) -> list[Path]:
    """Return the paths of the images that `make` writes."""
    return [folder / place for field in fields for place in field.images.values() if not Path(place).is_absolute()]


# ------------------------------------------------------------------------------------------------------------ settings


def test_what_is_made_up_is_for_data_sets_that_exist() -> None:
    assert set(MADE_UP) <= set(NAMES)


@every_data_set
def test_its_settings_are_documented(name: str) -> None:
    settings = plugins.load(PACKAGE, name).Settings
    assert issubclass(settings, Dataset) and issubclass(settings, Plugin)
    assert settings.plugin_name() == name
    assert settings.__doc__ and settings.__doc__ != Dataset.__doc__
    assert all(settings.descriptions().values())


def test_loading_settings_imports_nothing_heavy() -> None:
    code = f"from cellssl.config import plugins\nfor name in {NAMES!r}: plugins.load({PACKAGE!r}, name)"
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout)) == set()


@every_data_set
def test_an_unknown_setting_is_an_error_of_one_sentence(name: str, write: Callable[..., Dataset]) -> None:
    with pytest.raises(ValidationError) as caught:
        write(name, no_such_setting=1)
    fault = first_fault(caught.value)
    assert fault.message == "unknown key 'no_such_setting'"
    assert fault.path == ("dataset",)
    assert fault.hint and "\n" not in fault.hint


@every_data_set
def test_its_settings_survive_json(name: str, write: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = write(name)
    values = json.loads(json.dumps({**dataset.all_values(), **dataset.excluded()}))
    again = load(name, **values)
    assert again == dataset
    assert again.plan(tmp_path / "cache") == dataset.plan(tmp_path / "cache")


@every_data_set
def test_its_external_files_exist(name: str, write: Callable[..., Dataset]) -> None:
    files = write(name).external_files()
    assert all(isinstance(file, Path) and file.is_file() for file in files.values())
    assert len(set(files.values())) == len(files)


# ---------------------------------------------------------------------------------------------------------------- plan


@every_data_set
def test_it_plans_fields_with_unique_ids_and_valid_names(
    name: str, write: Callable[..., Dataset], tmp_path: Path
) -> None:
    fields = write(name).plan(tmp_path / "cache")
    assert fields
    assert len({field.field_id for field in fields}) == len(fields)
    assert len({(field.plate, field.well, field.site) for field in fields}) == len(fields)
    assert fields == sorted(fields, key=lambda field: (field.plate, field.well, field.site))
    for field in fields:
        for word in (field.field_id, field.plate, field.well):
            assert re.fullmatch(r"[^/\\.\x00-\x1f][^/\\\x00-\x1f]*", word)
        assert isinstance(field.site, int) and field.site >= 0
        assert field.dose_micromolar is None or 0 <= field.dose_micromolar < math.inf
        assert field.pixel_um is None or field.pixel_um > 0
        assert all(value is None or isinstance(value, str | int | float) for value in field.extra.values())
        assert not set(field.extra) & set(RESERVED_COLUMNS)


@every_data_set
def test_its_fields_have_the_same_channels_and_images_of_their_own(
    name: str, write: Callable[..., Dataset], tmp_path: Path
) -> None:
    fields = write(name).plan(tmp_path / "cache")
    places = [place for field in fields for place in field.images.values()]
    assert len({tuple(field.images) for field in fields}) == 1
    assert bool(places) == (name not in WITH_CROPS)
    assert len(set(places)) == len(places)
    assert not any(".." in Path(place).parts for place in places)


@every_data_set
def test_its_plan_and_identity_are_the_same_at_every_call_in_any_order(
    name: str, write: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = write(name)
    plates = by_plate(dataset.plan(tmp_path / "cache"))
    first = identities(dataset, plates)
    backwards = identities(dataset, dict(reversed(plates.items())))
    again = dataset.model_copy()
    assert identities(again, plates) == backwards == first
    assert by_plate(again.plan(tmp_path / "another cache")) == plates
    assert all(
        isinstance(value, Value) for fields in plates.values() for value in dataset.identity(fields, sha256_of).values()
    )


@every_data_set
def test_its_identity_does_not_depend_on_where_files_lie(
    name: str, write: Callable[..., Dataset], tmp_path: Path
) -> None:
    results = []
    for folder in ("here", "there"):
        dataset = write(name, folder)
        fields = dataset.plan(tmp_path / folder / "cache")
        inside = [
            replace(field, images={c: place for c, place in field.images.items() if not Path(place).is_absolute()})
            for field in fields
        ]
        results.append((inside, identities(dataset, by_plate(fields))))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", WITH_SELECTION)
def test_a_plate_does_not_depend_on_which_other_plates_are_selected(
    name: str, write: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = write(name)
    plates = by_plate(dataset.plan(tmp_path / "cache"))
    assert len(plates) == 2
    for plate, fields in plates.items():
        alone = dataset.model_copy(update={"plates": (plate,)})
        assert alone.plan(tmp_path / "cache") == fields
        assert identities(alone, {plate: fields}) == identities(dataset, {plate: fields})


# ---------------------------------------------------------------------------------------------------------------- make


@every_data_set
def test_it_makes_the_images_or_crops_of_its_plan(name: str, write: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = write(name)
    for plate, fields in by_plate(dataset.plan(tmp_path / "cache")).items():
        folder = tmp_path / "made" / plate
        assert make(dataset, fields, folder) == {}
        if name in WITH_CROPS:
            assert_crops(fields, folder)
        else:
            assert_images(fields, folder)
        assert not [place for place in contents(folder) if Path(place).name.startswith(".") or ".part" in place]


def assert_images(fields: Sequence[Field], folder: Path) -> None:
    """Assert that every image is one readable channel, as large as the field's other channels."""
    for field in fields:
        images = [tifffile.imread(folder / place) for place in field.images.values()]
        assert not any(image_fault(folder / place) for place in field.images.values())
        assert {image.dtype for image in images} <= {np.dtype(np.uint8), np.dtype(np.uint16)}
        assert len({image.shape for image in images}) == 1
        assert images[0].ndim == 2


def assert_crops(fields: Sequence[Field], folder: Path) -> None:
    """Assert that crops, cell table and channels agree with each other and with the plan."""
    crops = np.load(folder / "crops.npy", allow_pickle=False)
    cells = pd.read_csv(folder / "cells.csv", dtype=str, keep_default_na=False)
    channels = json.loads((folder / "channels.json").read_text())
    assert crops.dtype == np.uint16 and crops.ndim == 4 and crops.size
    assert crops.shape[:2] == (len(cells), len(channels))
    assert cells["cell_id"].is_unique
    assert set(cells["field_id"]) <= {field.field_id for field in fields}
    if (folder / "range.json").is_file():
        low, high = json.loads((folder / "range.json").read_text())
        assert low <= crops.min() and crops.max() <= high


def test_simulated_images_have_the_size_of_the_settings(write: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = write("simulated")
    fields = dataset.plan(tmp_path)[:1]
    make(dataset, fields, tmp_path / "made")
    assert {tifffile.imread(path).shape for path in own_images(fields, tmp_path / "made")} == {(128, 160)}


@every_data_set
def test_what_is_made_again_is_the_same_and_whole_images_are_kept(
    name: str, write: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = write(name)
    fields = next(iter(by_plate(dataset.plan(tmp_path / "cache")).values()))
    folder = tmp_path / "made"
    make(dataset, fields, folder)
    before, times = contents(folder), [path.stat().st_mtime_ns for path in own_images(fields, folder)]
    make(dataset, fields, folder)
    assert contents(folder) == before
    assert [path.stat().st_mtime_ns for path in own_images(fields, folder)] == times


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file that is part of the result."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != "scratch")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@every_data_set
def test_its_tables_are_the_same_at_every_call(name: str, write: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = write(name)
    fields = dataset.plan(tmp_path / "cache")
    tables = dataset.tables(fields, tmp_path / "cache")
    assert tables == dataset.tables(fields, tmp_path / "cache")
    assert all(Path(file).name == file and isinstance(text, str) for file, text in tables.items())


# ------------------------------------------------------------------------------------------------------------ forecast


@every_data_set
def test_its_forecast_agrees_with_what_it_makes(name: str, write: Callable[..., Dataset], tmp_path: Path) -> None:
    assert_forecast_is_true(write(name), tmp_path)


def test_the_forecast_of_images_on_a_server_agrees_with_what_is_fetched(
    write: Callable[..., Dataset], tmp_path: Path
) -> None:
    with on_a_server(write, tmp_path) as (dataset, behaviour):
        fields = dataset.plan(tmp_path / "cache")
        forecast = assert_forecast_is_true(dataset, tmp_path)
        images = sum(path.stat().st_size for path in (tmp_path / "files/images").glob("P1*"))
        assert forecast.moved_bytes == 2 * images  # plain http has no checksum, so the bytes are compared
        assert len(fields) == 8
        assert behaviour.sent_bytes == forecast.moved_bytes + 8  # and one byte per image, to learn its size


@contextmanager
def on_a_server(write: Callable[..., Dataset], tmp_path: Path) -> Iterator[tuple[Dataset, ServerBehaviour]]:
    """Give a data set image_table whose images lie on a server, and the server."""
    dataset, behaviour = write("image_table"), ServerBehaviour(tmp_path / "files")
    table = tmp_path / "files" / "plate.csv"
    with serving(behaviour) as address:
        table.write_text(table.read_text().replace("images/", f"{address}/images/"))
        yield dataset, behaviour


def assert_forecast_is_true(dataset: Dataset, tmp_path: Path) -> Forecast:
    """Make the first plate; assert that the forecast was right, and that finished images cost nothing."""
    fields = next(iter(by_plate(dataset.plan(tmp_path / "cache")).values()))
    folder = tmp_path / "forecast"
    forecast = dataset.forecast(fields, folder)
    assert not folder.exists()
    reasons = make(dataset, fields, folder)
    images = [path for path in own_images(fields, folder) if path.is_file()]
    assert forecast.absent == len(reasons) == 0
    assert forecast.moved_bytes is None or forecast.moved_bytes >= 0
    if images and forecast.disk_bytes is not None:
        assert forecast.disk_bytes == sum(path.stat().st_size for path in images)
    if images:
        assert dataset.forecast(fields, folder).moved_bytes == 0
    return forecast


def test_the_forecast_counts_the_images_that_an_archive_lacks(write: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = write("bbbc021")
    there = tmp_path / "files/screen/there"
    rows = [row for row in image_rows() if (row["Image_Metadata_Well_DAPI"], row["ImageNumber"]) != ("E03", 3)]
    write_archive(there / f"BBBC021_v1_images_{PLATES[0]}.zip", PLATES[0], rows)
    fields = by_plate(dataset.plan(tmp_path / "cache"))[PLATES[0]]
    assert dataset.forecast(fields, tmp_path / "made").absent == 3  # its three channels
    assert set(make(dataset, fields, tmp_path / "made")) == {f"{PLATES[0]}_E03_s1"}


def test_the_forecast_counts_the_images_that_a_server_lacks(write: Callable[..., Dataset], tmp_path: Path) -> None:
    with on_a_server(write, tmp_path) as (dataset, _):
        (tmp_path / "files/images/P1_C03_1_dna.tif").unlink()
        fields = by_plate(dataset.plan(tmp_path / "cache"))["P1"]
        assert dataset.forecast(fields, tmp_path / "made").absent == 1
        assert set(make(dataset, fields, tmp_path / "made")) == {"P1_C03_s1"}


# ------------------------------------------------------------------------------------------------------ the base class


class Minimal(Dataset):
    """A data set that writes the three methods that must be written."""

    def plan(self, cache: Path) -> list[Field]:
        """Return one field."""
        return [Field("P1_B02_s1", "P1", "B02", 1, {"dna": "P1/dna.tif"})]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return nothing: there is only one such image."""
        return {}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Make nothing."""
        yield from ()
        return {}


def test_a_new_data_set_needs_three_methods_only() -> None:
    dataset = Minimal()
    assert dataset.external_files() == {}
    assert dataset.tables(dataset.plan(Path()), Path()) == {}
    assert dataset.forecast(dataset.plan(Path()), Path()) == Forecast(0, None, 0)


@pytest.mark.parametrize("method", ["plan", "identity", "make"])
def test_a_data_set_without_one_of_them_cannot_be_used(method: str) -> None:
    methods = {"plan": Minimal.plan, "identity": Minimal.identity, "make": Minimal.make}
    methods.pop(method)
    incomplete = type("Incomplete", (Dataset,), {"__module__": __name__, **methods})
    with pytest.raises(TypeError, match=method):
        incomplete()
