"""The rows of clusters: their numbers against the parquet files, noise, many clusters, and where they stand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cellssl.errors import IntegrityError
from cellssl.profiling.clusterer import NOISE
from cellssl.reporting.html import Bar, Folded, Page, Section, Table, render
from cellssl.reporting.theme import CONTROL, TREATED
from cellssl.stages.report.cluster_contents import contents_of, described
from cellssl.stages.report.cluster_rows import CELLS_SHOWN, FIRST_ROWS, nearest_cells, row_blocks, swatch
from cellssl.stages.report.runs import Run, collect
from tests.chain import Chain


def run_of(chain: Chain, arm: str) -> Run:
    return collect({f"{arm}/0/cluster": chain.made("cluster", arm)}, chain.store)[0]


def cells_of(chain: Chain, arm: str) -> pd.DataFrame:
    """The drawn cells of an arm with cluster and treatment, read from the parquet files alone."""
    assigned = pd.read_parquet(chain.made("cluster", arm).path / "assignments.parquet")
    known = pd.read_parquet(chain.made("embed", arm).path / "embeddings.parquet")
    known = known.rename(columns=lambda name: name.removeprefix("Metadata_"))
    names = ["cell_id", "Plate", "Well", "control", "compound", "dose_micromolar"]
    return assigned[assigned["drawn"]].merge(known[names], on="cell_id")


@pytest.mark.parametrize("arm", ["main", "intensities"])
def test_what_clusters_hold_follows_from_the_parquet_files(chain: Chain, arm: str) -> None:
    cells, found = cells_of(chain, arm), contents_of(run_of(chain, arm))
    assert (found.cells, found.controls) == (len(cells), cells["control"].sum())
    for cluster in found.clusters:
        inside = cells[cells["cluster"] == cluster.number]
        assert (cluster.cells, cluster.controls) == (len(inside), inside["control"].sum())
        for held in cluster.groups:
            compound, _, dose = held.name.partition(" ")
            is_it = cells["compound"] == compound
            if dose:
                is_it &= np.isclose(cells["dose_micromolar"], float(dose.split("\N{NO-BREAK SPACE}")[0]), rtol=1e-3)
            n, of = (is_it & (cells["cluster"] == cluster.number)).sum(), is_it.sum()
            assert (held.cells, held.of) == (n, of)
            assert held.enrichment == pytest.approx((n / of) / (len(inside) / len(cells)))
        for held in cluster.wells:
            assert (held.cells, held.of) == ((inside["Well"] == held.name).sum(), (cells["Well"] == held.name).sum())
    assert sum(cluster.cells for cluster in found.clusters) == len(cells)


def made_up(clusters: list[int], groups: list[str]) -> pd.DataFrame:
    plain = {"cluster": clusters, "group": groups, "plate": "P", "well": groups}
    return pd.DataFrame({**plain, "control": [name == "DMSO" for name in groups]})


def test_a_cluster_names_what_it_holds_more_of_than_expected_and_not_what_is_frequent() -> None:
    cells = made_up([0] * 60 + [1] * 60, ["DMSO"] * 50 + ["taxol"] * 10 + ["DMSO"] * 54 + ["rare"] * 6)
    zero, one = described(cells, "cells", "treatments").clusters
    assert [(held.name, held.cells, held.of, held.enrichment) for held in zero.groups] == [("taxol", 10, 10, 2.0)]
    assert [held.name for held in one.groups] == ["rare", "DMSO"]


def test_cells_of_no_cluster_are_the_last_row_and_have_no_pictures() -> None:
    found = described(made_up([NOISE, 1, 0, NOISE], ["DMSO", "a", "a", "a"]), "cells", "treatments")
    (table,) = row_blocks(found, {0: [swatch(0)], 1: [swatch(1)]}, "", "cluster-0")
    assert isinstance(table, Table)
    assert table.anchors == ["cluster-0-0", "cluster-0-1", "cluster-0-noise"]
    assert [row[1] for row in table.rows] == ["0", "1", "noise"]
    assert table.rows[2][-1] == ""


def test_the_bar_of_a_row_is_the_share_of_controls() -> None:
    found = described(made_up([0, 0, 0, 1], ["DMSO", "a", "a", "a"]), "cells", "treatments")
    (table,) = row_blocks(found, {}, "", "cluster-0")
    assert isinstance(table, Table)
    bars = [cell for row in table.rows for cell in row if isinstance(cell, Bar)]
    shares = [[(part.share, part.colour) for part in bar.parts] for bar in bars]
    assert shares == [[(pytest.approx(1 / 3), CONTROL), (pytest.approx(2 / 3), TREATED)], [(0, CONTROL), (1, TREATED)]]


def test_of_many_clusters_the_first_rows_are_open_and_the_others_folded() -> None:
    found = described(made_up(list(range(30)), ["a"] * 30), "cells", "treatments")
    table, folded = row_blocks(found, {}, "", "cluster-0")
    assert isinstance(table, Table)
    assert isinstance(folded, Folded)
    assert len(table.rows) == FIRST_ROWS
    assert folded.summary == "18 further clusters"


def test_without_treatments_there_are_classes_and_without_both_only_cells() -> None:
    cells = made_up([0, 1], ["cat", "dog"]).assign(control=False)
    (classes,) = row_blocks(described(cells, "cells", "classes"), {}, "", "c")
    (plain,) = row_blocks(described(cells.drop(columns="group"), "cells", ""), {}, "", "c")
    assert isinstance(classes, Table)
    assert isinstance(plain, Table)
    assert classes.header == ["colour", "cluster", "cells", "classes it holds most of"]
    assert plain.header == ["colour", "cluster", "cells"]


def test_swatches_differ_where_figures_have_the_same_colour() -> None:
    assert len({swatch(number) for number in (*range(32), NOISE)}) == 33


@pytest.fixture(scope="module")
def page(chain: Chain) -> str:
    return (Path(chain.say("report").line) / "report.html").read_text(encoding="utf-8")


def test_the_leading_arm_is_shown_first_and_baselines_are_in_the_appendix(page: str) -> None:
    main, _, appendix = page.partition('<h2 class="appendix">')
    assert main.count('id="cluster-0-0"') == 1
    assert "“intensities”, seed 0: one row per cluster" not in main
    assert "Baseline “intensities”, seed 0" in appendix
    assert '<tr id="cluster-1-0">' in appendix


def test_every_row_shows_the_cells_nearest_to_its_centroid(chain: Chain) -> None:
    nearest = pd.read_csv(chain.made("cluster").path / "nearest.csv")
    found = nearest_cells(run_of(chain, "main"), chain.store)
    assert {number: len(cells) for number, cells in found.items()} == {
        number: min(len(cells), CELLS_SHOWN) for number, cells in nearest.groupby("cluster")
    }
    assert all(cell.startswith(b"\xff\xd8") for cells in found.values() for cell in cells)


def test_names_from_outside_are_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    found = described(made_up([0, 1], [hostile, "DMSO"]), "cells", "treatments")
    html = "".join(render(Page("x", [], [Section("Clusters", row_blocks(found, {}, hostile, "c"))])))
    assert hostile not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_table_of_nearest_cells_without_their_clusters_is_an_error_with_a_cure(chain: Chain, tmp_path: Path) -> None:
    run = run_of(chain, "main")
    (tmp_path / "nearest.csv").write_text("cell_id,rank\na,0\n")
    cluster: Any = SimpleNamespace(card=run.cluster.card, file=lambda name: tmp_path / name)
    with pytest.raises(IntegrityError, match="not the table") as error:
        nearest_cells(replace(run, cluster=cluster), chain.store)
    assert error.value.hint is not None and "--force" in error.value.hint
