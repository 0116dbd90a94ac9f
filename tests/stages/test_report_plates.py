"""The plates of the page: their numbers against the tables of wells, where wells are drawn, and use in a browser."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cellssl.artifacts.card import FileEntry
from cellssl.errors import DataError
from cellssl.profiling.well_positions import FORMATS
from cellssl.reporting.html import Interactive, Page, Section, render
from cellssl.stages.report.plate_views import PLATES_DRAWN, Arm, plate_data
from cellssl.stages.report.plate_wells import DISTANCE, edge_means, placed, scale_of, scores_of, wells_of_run
from cellssl.stages.report.runs import collect
from tests.browser import needs_chromium, opened
from tests.chain import Chain

HOSTILE = "</script><script>alert(1)</script>"


def made_up(wells: list[str], plates: int = 1, **scores: list[float]) -> pd.DataFrame:
    """The wells of some plates, the first one a control, with a number of cells each."""
    one = pd.DataFrame({"well": wells, "treatment": ["DMSO", *[f"drug {n}" for n in range(1, len(wells))]]})
    one = one.assign(control=one["treatment"] == "DMSO", n=np.arange(len(wells)) * 10.0, **scores)
    return pd.concat([one.assign(plate=f"P{number}") for number in range(1, plates + 1)], ignore_index=True)


@pytest.mark.parametrize("arm", ["main", "intensities"])
def test_wells_have_the_numbers_of_the_tables_of_clusters_and_hits(chain: Chain, arm: str) -> None:
    made = {stage: chain.made(stage, arm) for stage in ("cluster", "hits")}
    found = wells_of_run(collect({f"{arm}/0/{stage}": one for stage, one in made.items()}, chain.store)[0])
    found = found.set_index("well")
    of_clusters = pd.read_csv(made["cluster"].path / "wells.csv").set_index("well")
    of_hits = pd.read_csv(made["hits"].path / "wells.csv").set_index("well").reindex(found.index)
    fields = pd.read_parquet(chain.made("segment", arm).path / "fields.parquet").groupby("well")["field_focus"].mean()
    same = {
        DISTANCE: of_hits[DISTANCE],
        "average_precision": of_hits["average_precision"],
    }
    same |= {"cell_count_ratio": of_hits["cell_count_ratio"], "n": of_clusters["n"], "focus": fields}
    same |= {name: of_clusters[name] for name in of_clusters if name.startswith("share_of_cluster_")}
    same["dropped"] = 1 - of_clusters["n"] / of_clusters["n_detected"]
    for name, expected in same.items():
        np.testing.assert_allclose(found[name].to_numpy(float), expected.reindex(found.index), err_msg=name)
    assert (found["control"] == of_clusters["control"]).all()


def test_without_hits_the_distance_is_that_of_the_clustering(chain: Chain) -> None:
    cluster = chain.made("cluster")
    found = wells_of_run(collect({"main/0/cluster": cluster}, chain.store)[0])
    expected = pd.read_csv(cluster.path / "wells.csv")[DISTANCE]
    np.testing.assert_allclose(found[DISTANCE].to_numpy(float), expected)
    assert "average_precision" not in found


@pytest.mark.parametrize(("plate_wells", "last"), [(6, "B3"), (96, "h12"), (384, "P24"), (1536, "AF48")])
def test_wells_stand_where_their_names_say(plate_wells: int, last: str) -> None:
    wells, layout = placed(made_up(["A01", last]))
    assert (layout.plate_wells, (layout.rows, layout.columns)) == (plate_wells, FORMATS[plate_wells])
    assert wells[["row", "column", "edge", "is_placed"]].to_numpy().tolist() == [
        [1, 1, True, True],
        [*FORMATS[plate_wells], True, True],
    ]


def test_wells_without_a_place_of_their_own_stand_below_the_plate() -> None:
    wells, layout = placed(made_up(["A01", "A1", HOSTILE, "B03"]))
    places = wells.set_index("well")[["row", "column", "is_placed"]].to_numpy().tolist()
    below = [[3, 1, False], [3, 2, False]]
    assert sorted(places) == sorted([[1, 1, True], [2, 3, True], *below])
    assert (layout.rows, layout.plate_wells) == (3, 6)


def test_wells_whose_names_say_no_position_stand_in_their_order() -> None:
    wells, layout = placed(made_up([f"class {number}" for number in range(10)]))
    assert layout.plate_wells is None
    assert (layout.rows, layout.columns) == (3, 4)
    assert not wells.duplicated(["plate", "row", "column"]).any()


def test_one_scale_holds_for_all_plates_and_far_effects_do_not_hide_the_others() -> None:
    wells = made_up(["A01", "A02"], plates=60, distance_from_controls=[1.0, 2.0])
    wells.loc[0, DISTANCE] = 100.0
    effect, cells = scores_of(wells, "control well")
    assert scale_of(wells[DISTANCE].to_numpy(), effect).high == pytest.approx(2.0)
    assert scale_of(wells[DISTANCE].to_numpy(), effect).is_cut
    assert (scale_of(wells["n"].to_numpy(), cells).low, scale_of(wells["n"].to_numpy(), cells).high) == (0, 10)


def test_the_means_at_the_edge_are_those_of_controls_alone() -> None:
    wells, _ = placed(made_up(["A01", "B02", "C03", "H12"], distance_from_controls=[3.0, 1.0, 2.0, 50.0]))
    assert edge_means(wells, DISTANCE) == {}
    wells["control"] = [True, True, True, False]
    assert edge_means(wells, DISTANCE) == {"P1": (3.0, 1, 1.5, 2)}


def test_equal_columns_are_on_the_page_once_and_arms_beyond_its_size_are_left_out() -> None:
    many = made_up(["A01", "A02", "B01"], plates=4)
    wells, layout = placed(many)
    arms = [
        Arm(f"arm {number}", many.assign(distance_from_controls=np.arange(12.0) + number), "control well")
        for number in range(40)
    ]
    data = plate_data(arms, wells, layout, most_values=10 * len(wells))
    assert len(data["arms"]) == 9, "the tenth would bring one column more than allowed"
    assert len(data["values"]) == 10, "the number of cells is the same in all arms"


def test_where_no_plate_has_two_control_wells_1_is_not_said_to_be_a_control_well() -> None:
    wells = made_up(["A01", "A02", "A03"], plates=2, distance_from_controls=[np.nan, 1.0, 2.0])
    assert "typical" not in scores_of(wells, "control well")[0].explained
    assert "median of all wells" in scores_of(wells, "control well")[0].explained
    known = wells.assign(distance_from_controls=1.0)
    assert "as far as a typical control well" in scores_of(known, "control well")[0].explained


def test_a_flag_of_controls_that_is_no_flag_is_an_error(chain: Chain, tmp_path: Path) -> None:
    [run] = collect({"main/0/cluster": chain.made("cluster")}, chain.store)
    folder = tmp_path / run.cluster.path.name
    shutil.copytree(run.cluster.path, folder)
    table = pd.read_csv(folder / "wells.csv", dtype=str).assign(control="perhaps")
    table.to_csv(folder / "wells.csv", index=False)
    content = (folder / "wells.csv").read_bytes()
    entry = FileEntry(len(content), hashlib.sha256(content).hexdigest())
    card = replace(run.cluster.card, files={**run.cluster.card.files, "wells.csv": entry})
    damaged = replace(run.cluster, path=folder, card=card)
    with pytest.raises(DataError, match=r"wells\.csv"):
        wells_of_run(replace(run, cluster=damaged))


@pytest.fixture(scope="module")
def page(chain: Chain) -> Path:
    return Path(chain.say("report").line) / "report.html"


def test_the_report_has_the_figure_with_its_table(page: Path) -> None:
    drawn = pd.read_csv(page.parent / "figures" / "plates.csv")
    assert (page.parent / "figures" / "plates.svg").exists()
    assert list(drawn.columns) == ["plate", "well", "row", "column", "control", "treatment", DISTANCE, "n"]
    assert drawn[DISTANCE].notna().any()


@needs_chromium
def test_a_reader_changes_score_and_arm_and_clicks_a_well(page: Path, chain: Chain) -> None:
    wells = pd.read_csv(chain.made("cluster").path / "wells.csv").set_index("well")
    with opened(page) as browser:
        section = browser.locator("#plates")
        assert not section.locator(".fallback").is_visible()
        section.get_by_label("colour by").select_option("cells per well")
        name = wells.index[0]
        section.locator("rect.well").first.hover()
        said = section.locator(".plates-said").inner_text()
        assert f"{name} " in said
        assert said.endswith(f"cells per well {wells['n'].iloc[0]}")
        section.get_by_label("arm").select_option("intensities, seed 0")
        assert section.get_by_label("colour by").locator("option:checked").inner_text() == "cells per well"
        browser.evaluate("void (cellssl.cellsOfWell = (plate, well) => [plate, well])")
        browser.evaluate("void (cellssl.showCells = (title, cells) => { document.title = cells.join(' ') })")
        section.locator("rect.well").nth(1).click()
        assert browser.title().endswith(f" {wells.index[1]}")
        section.locator("rect.well").nth(1).focus()
        browser.keyboard.press("ArrowLeft")
        browser.keyboard.press("Enter")
        assert browser.title().endswith(f" {name}")


@needs_chromium
def test_a_plate_has_one_tab_stop_and_the_explanation_of_its_score_stays(page: Path) -> None:
    with opened(page) as browser:
        plates = browser.locator("#plates")
        explained = plates.locator(".plates-explained").inner_text()
        plates.locator("rect.well").nth(1).hover()
        plates.locator("rect.well").nth(1).focus()
        browser.keyboard.press("ArrowLeft")
        assert plates.locator("rect.well[tabindex='0']").count() == plates.locator("svg[role=group]").count()
        assert plates.locator(".plates-explained").inner_text() == explained
        assert "control wells have a black outline" in explained


@needs_chromium
def test_the_cells_of_a_well_have_the_focus_until_closing_them_leads_back(page: Path) -> None:
    with opened(page) as browser:
        well = browser.locator("#plates rect.well").nth(1)
        well.focus()
        browser.keyboard.press("Enter")
        assert browser.evaluate("document.activeElement.closest('.map-selection') !== null")
        browser.get_by_role("button", name="Close and go back").click()
        assert browser.evaluate("document.activeElement.dataset.well") == well.get_attribute("data-well")


@needs_chromium
def test_a_score_that_an_arm_lacks_is_shown_again_with_the_arm_that_has_it(tmp_path: Path) -> None:
    many = made_up(["A01", "A02"], distance_from_controls=[1.0, 3.0])
    wells, layout = placed(many)
    arms = [Arm("one", many, "control well"), Arm("other", many.drop(columns="n"), "control well")]
    with opened(page_of(tmp_path, plate_data(arms, wells, layout))) as browser:
        score = browser.get_by_label("colour by")
        score.select_option("cells per well")
        browser.get_by_label("arm").select_option("other")
        assert "This arm has no “cells per well”" in browser.inner_text(".plates-explained")
        browser.get_by_label("arm").select_option("one")
        assert score.locator("option:checked").inner_text() == "cells per well"


def page_of(folder: Path, data: dict[str, Any]) -> Path:
    """Write a page with nothing but these plates."""
    file, block = folder / "page.html", Interactive("plates", data, [])
    file.write_text("".join(render(Page("x", [], [Section("Plates", [block], "plates")]))), encoding="utf-8")
    return file


@needs_chromium
def test_without_javascript_there_is_a_figure(page: Path) -> None:
    with opened(page, javascript=False) as browser:
        assert browser.locator("#plates .fallback figure img").first.is_visible()
        assert "cells per well" in browser.locator("#plates figcaption").first.inner_text()


@needs_chromium
def test_hostile_names_are_text_and_many_plates_are_chosen_from(tmp_path: Path) -> None:
    many = made_up(["A01", HOSTILE, "B02"], plates=2 * PLATES_DRAWN + 1, distance_from_controls=[1.0, np.nan, 3.0])
    many["treatment"] = many["treatment"].str.replace("drug 2", HOSTILE)
    wells, layout = placed(many)
    file = page_of(tmp_path, plate_data([Arm(HOSTILE, many, "control well")], wells, layout))
    with opened(file, 390) as browser:
        assert browser.locator(".plates-all svg").count() == PLATES_DRAWN
        browser.get_by_label("plates").select_option(index=2)
        assert browser.locator(".plates-all svg").count() == 1
        browser.locator("rect.well").last.hover()
        assert HOSTILE in browser.locator(".plates-said").inner_text()
        assert browser.locator('rect[fill="url(#no-value)"]').count() == 1
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
