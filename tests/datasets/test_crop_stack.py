"""Tests of crop_stack: the same crops from any layout, in the order of the table; errors of one sentence."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_datasets import write_crop_stack
from pydantic import ValidationError

from cellssl.artifacts.hashing import sha256_of
from cellssl.config.settings import first_fault
from cellssl.datasets.crop_stack import Settings
from cellssl.errors import CellsslError, DataError, UsageError

COLUMNS = {"plate": "plate", "well": "well", "compound": "drug", "dose_micromolar": "dose"}
RECIPE = """
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "cells.csv"
channels = ["dna", "actin"]
columns = { plate = "plate", well = "well", compound = "drug", dose_micromolar = "dose" }
keep = ["size"]
"""
NO_CACHE = Path("/not/there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write twelve cells of two plates in mixed order, and a recipe: stack.npy is (n, y, x, c)."""
    write_crop_stack(tmp_path)
    (tmp_path / "crops.toml").write_text(RECIPE)
    return tmp_path


def settings(folder: Path, **values: Any) -> Settings:
    given = {"stack": "stack.npy", "table": "cells.csv", "channels": ["dna", "actin"], "columns": COLUMNS, **values}
    given.update({name: str(folder / given[name]) for name in ("stack", "table")})
    return Settings.model_validate(given)


def crops_of(dataset: Settings, plate: str, out: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the crops and the cell table that `make` writes for one plate."""
    for _ in dataset.make([field for field in dataset.plan(NO_CACHE) if field.plate == plate], out):
        pass
    return np.load(out / "crops.npy", allow_pickle=False), pd.read_csv(out / "cells.csv")


def fault_of(dataset: Settings) -> CellsslError:
    with pytest.raises((DataError, UsageError)) as caught:
        dataset.plan(NO_CACHE)
    assert caught.value.hint
    return caught.value


def test_the_crops_of_a_plate_are_its_rows_of_the_stack(folder: Path) -> None:
    crops, cells = crops_of(settings(folder, keep=["size"]), "P2", folder / "out")
    assert list(cells["stack_row"]) == [1, 3, 5, 7, 9, 11]
    assert list(cells["size"]) == [10, 30, 50, 70, 90, 110]
    assert list(cells["cell_id"])[:2] == ["P2_B02_s1_0001", "P2_B02_s1_0002"]
    assert np.array_equal(crops, np.load(folder / "stack.npy")[1::2].transpose(0, 3, 1, 2))
    assert crops.dtype == np.uint16


LAYOUTS: dict[str, Callable[[Path, np.ndarray], dict[str, Any]]] = {
    "ncyx": lambda folder, pixels: {"stack": save_npy(folder, pixels.transpose(0, 3, 1, 2)), "axes": "ncyx"},
    "big-endian": lambda folder, pixels: {"stack": save_npy(folder, pixels.astype(">u2"))},
    "npz": lambda folder, pixels: {"stack": save_npz(folder, crops=pixels)},
    "one of several": lambda folder, pixels: {
        "stack": save_npz(folder, crops=pixels, masks=pixels[:2]),
        "array": "crops",
    },
}


def save_npy(folder: Path, pixels: np.ndarray) -> str:
    np.save(folder / "other.npy", pixels)
    return "other.npy"


def save_npz(folder: Path, **arrays: np.ndarray) -> str:
    np.savez_compressed(folder / "other.npz", **arrays)  # type: ignore[arg-type]
    return "other.npz"


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_gives_the_same_crops(layout: str, folder: Path) -> None:
    expected, _ = crops_of(settings(folder), "P1", folder / "out")
    values = LAYOUTS[layout](folder, np.load(folder / "stack.npy"))
    assert np.array_equal(crops_of(settings(folder, **values), "P1", folder / "again")[0], expected)


def test_a_grey_8_bit_stack_gets_a_channel_axis(folder: Path) -> None:
    grey = (np.load(folder / "stack.npy")[..., 0] >> 4).astype(np.uint8)
    dataset = settings(folder, stack=save_npy(folder, grey), axes="nyx", channels=["dna"])
    assert np.array_equal(crops_of(dataset, "P1", folder / "out")[0], grey[::2, None].astype(np.uint16))


BROKEN: dict[str, tuple[Callable[[Path, np.ndarray], dict[str, Any]], str]] = {
    "count": (lambda f, p: {"stack": save_npy(f, p[:11])}, "holds 11 crops and"),
    "channels": (lambda f, p: {"channels": ["dna"]}, "has 2 channels, and 1 are named: dna"),
    "float": (lambda f, p: {"stack": save_npy(f, p.astype(float))}, "holds float64"),
    "signed": (lambda f, p: {"stack": save_npy(f, p.astype(np.int16))}, "holds int16"),
    "axes": (lambda f, p: {"axes": "nyx"}, "has the shape (12, 16, 16, 2), which is not nyx"),
    "objects": (lambda f, p: {"stack": save_npy(f, np.array([{}] * 12))}, "cannot be read as an array"),
    "pickle": (lambda f, p: {"stack": save_pickle(f, p)}, "cannot be read as an array"),
    "cut short": (lambda f, p: {"stack": cut_short(f)}, "cannot be read as an array"),
    "not there": (lambda f, p: {"stack": "no.npy"}, "cannot be read as an array"),
    "no array of that name": (lambda f, p: {"stack": save_npz(f, crops=p), "array": "crop"}, "has no array 'crop'"),
    "which array": (lambda f, p: {"stack": save_npz(f, a=p, b=p)}, "holds 2 arrays"),
    "no such column": (lambda f, p: {"columns": {**COLUMNS, "cell_id": "id"}}, "has no column 'id'"),
    "ids twice": (lambda f, p: {"columns": {**COLUMNS, "cell_id": "well"}}, "is empty, or also in line 2"),
    "differing treatments": (lambda f, p: {"columns": {**COLUMNS, "well": "plate"}}, "belong to one field"),
}


def save_pickle(folder: Path, pixels: np.ndarray) -> str:
    (folder / "other.npy").write_bytes(pickle.dumps(pixels))
    return "other.npy"


def cut_short(folder: Path) -> str:
    (folder / "other.npy").write_bytes((folder / "stack.npy").read_bytes()[:-100])
    return "other.npy"


@pytest.mark.parametrize("fault", sorted(BROKEN))
def test_a_wrong_stack_or_table_is_an_error_of_one_sentence(fault: str, folder: Path) -> None:
    values, sentence = BROKEN[fault]
    message = fault_of(settings(folder, **values(folder, np.load(folder / "stack.npy")))).message
    assert sentence in message
    assert "\n" not in message


def test_a_kept_column_must_not_have_a_reserved_name(folder: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(folder, keep=["well"])
    assert "would hide" in first_fault(caught.value).message


def test_the_identity_of_a_plate_depends_on_the_stack_and_its_own_rows_only(folder: Path) -> None:
    def identities() -> dict[str, Any]:
        dataset = settings(folder, keep=["size"])
        fields = dataset.plan(NO_CACHE)
        return {p: dataset.identity([field for field in fields if field.plate == p], sha256_of) for p in ("P1", "P2")}

    before = identities()
    (folder / "cells.csv").write_text((folder / "cells.csv").read_text().replace(",110\n", ",1100\n"))
    after = identities()
    assert after["P1"] == before["P1"]
    assert after["P2"] != before["P2"]
    np.save(folder / "stack.npy", np.load(folder / "stack.npy") + np.uint16(1))
    assert identities()["P1"] != before["P1"]


def test_crops_pass_through_fetch_and_segment(folder: Path, cellssl: Any) -> None:
    assert cellssl("fetch", str(folder / "crops.toml"))[0] == 0
    code, segmented, card = cellssl("segment", str(folder / "crops.toml"))
    assert code == 0
    cells = pd.read_parquet(segmented / "cells.parquet")
    stack = np.load(folder / "stack.npy").transpose(0, 3, 1, 2)
    parts = {part: np.load(folder / f"store/segment/{part}/crops.npy") for part in set(cells["part"])}
    for cell in cells.itertuples():
        assert np.array_equal(parts[cell.part][cell.crop_row], stack[cell.stack_row])
        assert cell.size == str(10 * cell.stack_row), "a kept column is text"
    assert len(cells) == card["metrics"]["kept"] == 12
    assert set(pd.read_parquet(segmented / "scale.parquet")["channel"]) == {"dna", "actin"}


def test_kept_columns_stay_the_text_of_the_table(folder: Path, cellssl: Any) -> None:
    labels = ["01", "1", "NA", "None", "nan", "1e3", "1.0", "True", "", "=x", "007", "Inf"]
    lines = (folder / "cells.csv").read_text().splitlines()
    text = "\n".join(f"{line};{label}".replace(",", ";") for line, label in zip(lines, ["cls", *labels], strict=True))
    (folder / "cells.csv").write_text(text)
    code, segmented, _ = cellssl(
        "run", str(folder / "crops.toml"), "--set", 'fetch.dataset.keep=["cls"]', "--to", "segment"
    )
    assert code == 0
    cells = pd.read_parquet(segmented / "cells.parquet").sort_values("stack_row")
    assert cells["cls"].fillna("").tolist() == labels


def test_dead_channels_empty_crops_and_copies_are_counted(folder: Path, cellssl: Any) -> None:
    pixels = np.load(folder / "stack.npy")
    pixels[..., 1] = 7
    pixels[4] = pixels[2]
    pixels[[1, 3, 5]] = 0
    np.save(folder / "stack.npy", pixels)
    code, segmented, card = cellssl(
        "run", str(folder / "crops.toml"), "--set", "segment.reference=all", "--to", "segment"
    )
    assert code == 0
    found = json.loads((segmented / "counts.json").read_text())
    assert found == card["metrics"]
    assert (found["empty_crops"], found["copied_crops"], found["constant_channels"]) == (3, 3, 2)


def test_settings_that_need_images_of_fields_are_refused(folder: Path, cellssl: Any) -> None:
    recipe = str(folder / "crops.toml")
    assert cellssl("fetch", recipe)[0] == 0
    for setting in (
        "crop_px=100",
        "cells_per_well=3",
        "keep_labels=true",
        "cellprofiler_table=true",
        "nucleus_channel=dna",
    ):
        assert cellssl("segment", recipe, "--set", f"segment.{setting}")[0] == 2
    side = np.load(folder / "stack.npy").shape[1]
    assert cellssl("segment", recipe, "--set", f"segment.crop_px={side}")[0] == 0


def test_a_changed_stack_gives_another_result(folder: Path, cellssl: Any) -> None:
    _, first, before = cellssl("fetch", str(folder / "crops.toml"))
    pixels = np.load(folder / "stack.npy")
    pixels[0] += 1
    np.save(folder / "stack.npy", pixels)
    _, second, after = cellssl("fetch", str(folder / "crops.toml"))
    assert before["fingerprint"] != after["fingerprint"]
    parts = [json.loads((path / "parts.json").read_text()) for path in (first, second)]
    assert parts[0]["P1"] != parts[1]["P1"]


def test_real_crops_are_read_as_numpy_reads_them(shared_data: Path, tmp_path: Path) -> None:
    columns = {"plate": "plate", "well": "well", "site": "site", "compound": "compound"}
    values = {"columns": {**columns, "dose_micromolar": "concentration", "moa": "moa"}, "keep": ["crop_index"]}
    dataset = settings(
        shared_data / "crops",
        stack="bbbc021_crops_2plates.npz",
        table="bbbc021_crops_2plates.csv",
        channels=["dna", "actin", "tubulin"],
        **values,
    )
    crops, cells = crops_of(dataset, "Week4_27821", tmp_path)
    table = pd.read_csv(shared_data / "crops" / "bbbc021_crops_2plates.csv")
    rows = table.index[table["plate"] == "Week4_27821"]
    with np.load(shared_data / "crops" / "bbbc021_crops_2plates.npz") as arrays:
        assert np.array_equal(crops, arrays["images_div16"][rows].transpose(0, 3, 1, 2))
    assert list(cells["crop_index"]) == list(table["crop_index"][rows])
    assert len(cells) == 714
