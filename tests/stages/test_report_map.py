"""report: the columns and the small pictures of the map of cells, against the tables and crops they are made from."""

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cellssl.artifacts.store import Store
from cellssl.artifacts.tables import read_cells
from cellssl.reporting import theme
from cellssl.reporting.html import Interactive
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.cell_map import map_section
from cellssl.stages.report.map_columns import MISSING, Column, Scale, cluster_column, columns_of, effect_column
from cellssl.stages.report.runs import collect, row_of
from cellssl.stages.report.thumbnails import COLUMNS, shrunk, thumbnails, window_px
from tests.chain import Chain


class Crops:
    """Random crops in memory."""

    def __init__(self, cells: int, channels: int = 3, side: int = 24, smooth: bool = True) -> None:
        """Make crops whose pixels are alike in rows and columns, or else differ all."""
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (cells, channels, 4, 4) if smooth else (cells, channels, side, side))
        self.pixels = np.kron(coarse, np.ones((side // 4, side // 4), int)) if smooth else coarse
        self.shape = self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the crops of some cells."""
        return self.pixels[rows].astype(np.uint8)

    read_once = read


def cells_of(**columns: object) -> pd.DataFrame:
    known = {
        "cell_id": ["a", "b", "c", "d"],
        "control": False,
        "compound": None,
        "dose_micromolar": np.nan,
        "plate": "P",
    }
    return pd.DataFrame(known | columns)


def by_key(cells: pd.DataFrame) -> dict[str, Column]:
    return {column.key: column for column in columns_of(cells)}


def test_sheets_hold_every_cell_and_every_channel_in_its_place() -> None:
    crops = Crops(COLUMNS * COLUMNS + 3, channels=4)
    made = thumbnails(crops, 10_000_000)
    assert made is not None and made.side_px == 24
    assert [len(sheets) for sheets in made.sheets] == [2, 2]
    last = np.asarray(Image.open(io.BytesIO(made.sheets[0][1])))
    assert np.abs(last[:24, 48:72, 2].astype(float) - crops.pixels[-1, 2]).mean() < 8
    fourth = np.asarray(Image.open(io.BytesIO(made.sheets[1][1])))
    assert np.abs(fourth[:24, 24:48].astype(float) - crops.pixels[-2, 3]).mean() < 8


@pytest.mark.parametrize("limit_bytes", [100_000, 300_000])
def test_pictures_take_no_more_bytes_than_allowed_and_are_as_large_as_that_permits(limit_bytes: int) -> None:
    crops = Crops(150, side=64, smooth=False)
    made = thumbnails(crops, limit_bytes)
    assert made is not None and limit_bytes / 3 < made.page_bytes <= limit_bytes
    assert made == thumbnails(crops, limit_bytes)


def test_there_are_no_pictures_where_the_page_has_no_room_for_the_smallest() -> None:
    assert thumbnails(Crops(300, smooth=False), 10_000) is None


def test_a_large_crop_is_cut_to_its_middle_before_it_is_reduced() -> None:
    crops = np.zeros((1, 1, 200, 200), np.uint8)
    crops[..., 92:108, 92:108] = 200
    assert window_px(200, 16) == 48
    small = shrunk(crops, 16)
    assert small[0, 0, 8, 8] == 200 and small[0, 0, 0, 0] == 0
    assert pytest.approx(small.astype(float).sum(), rel=0.05) == 200 * 16**2 / 3**2


def test_controls_are_grey_in_every_column_but_those_of_places() -> None:
    control = [True, True, False, False]
    columns = by_key(cells_of(control=control, compound=["DMSO", "DMSO", "x", "y"], plate=["P", "P", "Q", "Q"]))
    assert columns["compound"].values == ["DMSO", "x", "y"]
    assert columns["compound"].colours[0] == theme.CONTROL != columns["compound"].colours[1]
    assert columns["control"].colours == [theme.CONTROL, theme.TREATED]
    assert theme.CONTROL not in columns["plate"].colours
    assert not {colour for column in columns.values() for colour in column.colours} & set(theme.COLOURS)


def test_where_nothing_was_treated_no_column_says_so() -> None:
    assert list(by_key(cells_of(label=["1", "2", "1", None]))) == ["label", "plate"]


def test_a_label_that_says_what_was_treated_is_not_shown_twice() -> None:
    control = [True, False, True, False]
    words = ["control", "treated", "control", "treated"]
    assert "control" not in by_key(cells_of(control=control, compound="x", label=words))
    assert "control" in by_key(cells_of(control=control, compound="x", label=[*words[:3], None]))


def test_doses_are_coloured_by_their_logarithm_and_named_with_their_compound() -> None:
    columns = by_key(
        cells_of(compound=["DMSO", "x", "x", "x"], dose_micromolar=[0, 1, 10, 100], control=[True, *[False] * 3])
    )
    dose = columns["dose_micromolar"]
    assert dose.values == [0, 1, 10, 100] and dose.is_amount
    assert dose.colours == [theme.CONTROL, "#440154", "#21918c", "#fde725"]
    assert columns["treatment"].values == ["DMSO", *(f"x {number}\N{NO-BREAK SPACE}µM" for number in (1, 10, 100))]
    assert dose.scale == Scale((1, 100), pytest.approx(10), is_logarithmic=True)


@pytest.mark.parametrize(("values", "others"), [(45, 0), (93, 93 - theme.OTHER_STYLES)])
def test_no_two_values_of_a_column_have_one_look_but_those_called_others(values: int, others: int) -> None:
    names = [f"compound {number}" for number in range(values)]
    cells = pd.DataFrame({"cell_id": range(2 * values + 2), "compound": ["water", "DMSO", *names, *reversed(names)]})
    cells["control"] = cells["compound"].isin(["water", "DMSO"])
    column = by_key(cells.assign(dose_micromolar=np.nan, plate="P"))["compound"]
    assert len(column.others) == others
    named = [place for place in range(len(column.values)) if place not in column.others]
    looks = {(column.colours[place], column.markers[place]) for place in named}
    assert len(looks) == len(named) == values + 2 - others
    assert [column.colours[column.values.index(name)] for name in ("water", "DMSO")] == [theme.CONTROL] * 2


def test_more_clusters_than_looks_have_others() -> None:
    column = cluster_column(pd.Series([-1, *range(40)]))
    looks = list(zip(column.colours, column.markers, strict=True))
    assert column.others == set(range(theme.GROUP_STYLES, 40))
    assert len(set(looks)) == theme.GROUP_STYLES + 2, "noise, and all others alike"


def test_noise_is_grey_and_a_cell_that_an_arm_lacks_has_no_cluster() -> None:
    column = cluster_column(pd.Series([0, -1, np.nan, 1]))
    assert column.values == ["0", "1", "noise"]
    assert column.colours == [theme.COLOURS[0], theme.COLOURS[1], theme.CONTROL]
    assert column.codes.tolist() == [0, 2, MISSING, 1]


def test_the_effect_of_a_cell_is_that_of_its_treatment(chain: Chain) -> None:
    cells, hits = read_cells(chain.made("segment")), chain.made("hits")
    column = effect_column(hits, cells)
    assert column is not None
    table = pd.read_parquet(hits.file("hits.parquet"))
    joined = cells.merge(
        table[["compound", "dose_micromolar", "effect"]], how="left", on=["compound", "dose_micromolar"]
    )
    effects = [None if code == MISSING else column.values[code] for code in column.codes]
    assert effects == [None if pd.isna(effect) else effect for effect in joined["effect"]]
    assert len(set(effects)) > 2


@dataclass(frozen=True)
class Context:
    """What a job offers: the store that crops are read from."""

    store: Store


@dataclass(frozen=True)
class Job:
    """A job that only reads."""

    context: Context


def test_arms_share_a_map_unless_their_cells_were_segmented_apart(chain: Chain) -> None:
    made = {f"{arm}/0/cluster": chain.made("cluster", arm) for arm in ("main", "intensities")}
    runs = collect(made, chain.store)
    segment = runs[0].segment
    apart = replace(segment, card=replace(segment.card, fingerprint="0" * 12))
    elsewhere = replace(runs[0], arm="elsewhere", segment=apart)
    scores = ScoresByArm([row_of(run) for run in (*runs, elsewhere)])
    job: Any = Job(Context(chain.store))
    [section] = map_section(job, runs, scores)
    [shared] = [block for block in section.blocks if isinstance(block, Interactive)]
    assert [arm["name"] for arm in shared.data["arms"]] == ["main", "intensities"] and shared.data["start"] == 0
    [section] = map_section(job, [*runs, elsewhere], scores)
    maps = [block.data for block in section.blocks if isinstance(block, Interactive)]
    assert [[arm["name"] for arm in each["arms"]] for each in maps] == [["main", "intensities"], ["elsewhere"]]
    assert maps[0]["ids"] == pd.read_parquet(chain.made("cluster").file("map.parquet"))["cell_id"].tolist()


def test_clusterings_without_a_map_have_no_section(chain: Chain) -> None:
    [run] = collect({"main/0/cluster": chain.made("cluster")}, chain.store)
    files = {name: entry for name, entry in run.cluster.card.files.items() if name != "map.parquet"}
    bare = replace(run, cluster=replace(run.cluster, card=replace(run.cluster.card, files=files)))
    job: Any = Job(Context(chain.store))
    assert map_section(job, [bare], ScoresByArm([row_of(run)])) == []
