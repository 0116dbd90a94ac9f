"""The plates of the page: their numbers against the tables of wells, where wells are drawn, and use in a browser."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellssl.profiling.well_positions import FORMATS
from cellssl.reporting.html import Interactive, Page, Section, render
from cellssl.stages.report.plate_views import PLATES_DRAWN, Arm, plate_data
from cellssl.stages.report.plate_wells import EFFECT, edge_means, placed, scale_of, scores_of, wells_of_run
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
    same = {"effect": of_hits["distance_from_controls"], "average_precision": of_hits["average_precision"]}
    same |= {"cell_count_ratio": of_hits["cell_count_ratio"], "n": of_clusters["n"], "focus": fields}
    same |= {name: of_clusters[name] for name in of_clusters if name.startswith("share_of_cluster_")}
    same["dropped"] = 1 - of_clusters["n"] / of_clusters["n_detected"]
    for name, expected in same.items():
        np.testing.assert_allclose(found[name].to_numpy(float), expected.reindex(found.index), err_msg=name)
    assert (found["control"] == of_clusters["control"]).all()


def test_without_hits_the_effect_is_the_distance_of_the_clustering(chain: Chain) -> None:
    cluster = chain.made("cluster")
    found = wells_of_run(collect({"main/0/cluster": cluster}, chain.store)[0])
    expected = pd.read_csv(cluster.path / "wells.csv")["distance_from_controls"]
    np.testing.assert_allclose(found["effect"].to_numpy(float), expected)
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
    wells = made_up(["A01", "A02"], plates=60, effect=[1.0, 2.0])
    wells.loc[0, "effect"] = 100.0
    effect, cells = scores_of(wells, "control well")
    assert scale_of(wells["effect"].to_numpy(), effect).high == pytest.approx(2.0)
    assert scale_of(wells["effect"].to_numpy(), effect).is_cut
    assert (scale_of(wells["n"].to_numpy(), cells).low, scale_of(wells["n"].to_numpy(), cells).high) == (0, 10)


def test_the_means_at_the_edge_are_those_of_controls_alone() -> None:
    wells, _ = placed(made_up(["A01", "B02", "C03", "H12"], effect=[3.0, 1.0, 2.0, 50.0]))
    assert edge_means(wells, EFFECT) == {}
    wells["control"] = [True, True, True, False]
    assert edge_means(wells, EFFECT) == {"P1": (3.0, 1, 1.5, 2)}


def test_equal_columns_are_on_the_page_once_and_arms_beyond_its_size_are_left_out() -> None:
    many = made_up(["A01", "A02", "B01"], plates=4)
    wells, layout = placed(many)
    arms = [Arm(f"arm {number}", many.assign(effect=np.arange(12.0) + number), "control well") for number in range(40)]
    data = plate_data(arms, wells, layout, most_values=10 * len(wells))
    assert len(data["arms"]) == 10
    assert len(data["values"]) == 11, "the number of cells is the same in all arms"


@pytest.fixture(scope="module")
def page(chain: Chain) -> Path:
    return Path(chain.say("report").line) / "report.html"


def test_the_report_has_the_figure_with_its_table(page: Path) -> None:
    drawn = pd.read_csv(page.with_name("plates.csv"))
    assert page.with_name("plates.png").exists()
    assert list(drawn.columns) == ["plate", "well", "row", "column", "control", "treatment", "effect", "n"]
    assert drawn["effect"].notna().any()


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
def test_without_javascript_there_is_a_figure(page: Path) -> None:
    with opened(page, javascript=False) as browser:
        assert browser.locator("#plates .fallback figure img").first.is_visible()
        assert "cells per well" in browser.locator("#plates figcaption").first.inner_text()


@needs_chromium
def test_hostile_names_are_text_and_many_plates_are_chosen_from(tmp_path: Path) -> None:
    many = made_up(["A01", HOSTILE, "B02"], plates=2 * PLATES_DRAWN + 1, effect=[1.0, np.nan, 3.0])
    many["treatment"] = many["treatment"].str.replace("drug 2", HOSTILE)
    wells, layout = placed(many)
    block = Interactive("plates", plate_data([Arm(HOSTILE, many, "control well")], wells, layout), [])
    file = tmp_path / "page.html"
    file.write_text("".join(render(Page("x", [], [Section("Plates", [block], "plates")]))), encoding="utf-8")
    with opened(file, 390) as browser:
        assert browser.locator("#plates svg").count() == PLATES_DRAWN
        browser.get_by_label("plates").select_option(index=2)
        assert browser.locator("#plates svg").count() == 1
        browser.locator("rect.well").last.hover()
        assert HOSTILE in browser.locator(".plates-said").inner_text()
        assert browser.locator('rect[fill="url(#no-value)"]').count() == 1
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
