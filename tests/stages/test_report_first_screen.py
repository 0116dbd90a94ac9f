"""report: the answer, its picture, its cells and its checks stand on the first screen, on a phone, and in print."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cellssl.artifacts.embeddings import read, read_rows
from cellssl.stages.hits.caution_words import FIXED_LAYOUT
from cellssl.stages.hits.metrics import HitsMetrics, RetrievalRule
from cellssl.stages.report import answer_cells
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check, Finding, in_short, keyed, not_made, summary, too_little
from cellssl.stages.report.checks import checks
from cellssl.stages.report.findings import answer
from cellssl.stages.report.hit_checks import apart, doubtful
from cellssl.stages.report.lights import RULES, in_words, lights
from cellssl.stages.report.runs import Run, collect, row_of
from tests.browser import needs_chromium, opened
from tests.chain import Chain

FIRST_HEIGHT_PX = 900
MOST_PAGES = 8


@pytest.fixture(scope="module")
def file(chain: Chain) -> Path:
    return Path(chain.say("report").line) / "report.html"


@pytest.fixture(scope="module")
def page(file: Path) -> Iterator[str]:
    yield file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(chain: Chain) -> Run:
    return collect({"main/0/cluster": chain.made("cluster", "main")}, chain.store)[0]


def found_hits(**found: Any) -> HitsMetrics:
    """Return what a search for hits has found."""
    known = {"wells": 40, "control_wells": 8, "plates": 2, "treatments": 9, "tested": 9, "active": 3, "alpha": 0.05}
    return HitsMetrics(**known | {"normalise": (), "aggregate": "mean", "dim": 8} | found)


def test_the_page_begins_with_the_answer_and_how_sure_it_is(page: str, chain: Chain) -> None:
    first, second = re.findall(r"<p>(.*?)</p>", page.partition('<div class="lead">')[2].partition("</div>")[0])
    hits = json.loads(chain.made("hits").file("hits.json").read_text())
    assert "changed the cells" in first and "1 plate" in first
    assert ("cannot be tested" in first) == (hits["tested"] == 0)
    assert re.match(r"How sure\? \d+ of \d+ checks passed, ", second)


def test_every_light_leads_to_the_row_of_its_check(page: str) -> None:
    row = page.partition('<ul class="lights"')[2].partition("</ul>")[0]
    anchors = re.findall(r'href="#(check-\w+)"', row)
    assert len(anchors) == len(RULES) == row.count("<li")
    table = page.partition('<section id="checks">')[2].partition("</section>")[0]
    assert all(table.count(f'<tr id="{anchor}"') == 1 for anchor in anchors)


def test_every_check_has_a_key_of_its_own(run: Run) -> None:
    keys = [one.key for one in checks([run], ScoresByArm([row_of(run)]))]
    assert all(keys) and len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("finding", "colour"), [("passed", "green"), ("against", "red"), ("too little", "amber"), ("not made", "grey")]
)
def test_a_light_has_the_colour_of_its_check_and_says_why(finding: Finding, colour: str) -> None:
    shown = lights(keyed({"plate": Check("Do the clusters follow the plate?", "no", "AMI 0.01", finding)}))
    lamp = next(lamp for lamp in shown.lamps if lamp.text == "not the plate")
    assert lamp.anchor == "check-plate" and "AMI 0.01" in lamp.title
    assert ["not the plate", colour] in in_words(shown)


def test_a_light_follows_the_first_check_that_applies_also_where_there_is_too_little_data() -> None:
    open_, passed = too_little("Is it?", "one plate", "one plate only"), Check("Is it?", "yes", "", "passed")
    found = dict(in_words(lights(keyed({"apart": open_, "well": passed}))))
    assert found["not the position"] == "amber", "clusters that do not follow wells say nothing about treatments"
    found = dict(in_words(lights(keyed({"apart": not_made("Is it?", "no hits"), "well": passed}))))
    assert found["not the position"] == "green"
    assert found["not the cell count"] == "grey", "no such check was asked for"


def test_a_nuisance_that_any_check_finds_is_not_hidden_by_one_that_passed() -> None:
    passed, against = Check("Is it?", "no", "", "passed"), Check("Is it?", "yes", "", "against")
    found = {"plate": passed, "apart": against, "field_position": against, "by_cell_number": passed, "density": against}
    colours = dict(in_words(lights(keyed(found))))
    assert {colours[f"not the {name}"] for name in ("plate", "position", "cell count")} == {"red"}


def test_replicates_on_one_plate_say_nothing_about_plates() -> None:
    one_plate = too_little("Plate?", "one plate", "one plate only")
    apart = Check("Apart?", "no", "", "against", about=("position",))
    colours = dict(in_words(lights(keyed({"plate": one_plate, "apart": apart}))))
    assert (colours["not the plate"], colours["not the position"]) == ("amber", "red")


def test_a_layout_where_position_can_be_the_effect_is_no_green_light() -> None:
    apart, well = too_little("Apart?", "one compound", "one"), Check("Well?", "no", "", "passed")
    moved, fixed = (found_hits(cautions=cautions) for cautions in ((), (f"{FIXED_LAYOUT}, so what these share",)))
    for found, colour in ((moved, "amber"), (fixed, "red")):
        shown = lights(keyed({"apart": apart, "well": well, "doubtful": doubtful(found)}))
        assert dict(in_words(shown))["not the position"] == colour


def test_replicates_that_are_alike_nowhere_are_not_said_to_be_alike_on_one_plate() -> None:
    def rule(recall: float) -> RetrievalRule:
        return RetrievalRule(40, 60, recall, 0.1, 0.2, 0.1)

    nowhere, here = ({"any": rule(of_any), "other_plate": rule(0.0)} for of_any in (0.03, 0.8))
    alone = apart(found_hits(retrieval=nowhere))
    assert (alone.doubt, alone.about) == ("replicates are not alike anywhere", ())
    assert apart(found_hits(retrieval=here)).doubt.endswith("on the same plate or position only")
    assert apart(found_hits(retrieval=here)).about == ("plate",)


def test_what_says_the_same_as_the_answer_does_not_speak_against_it() -> None:
    none = Check("Any?", "no", "", "against", "no treatment is active", is_answer=True)
    found = keyed({"active": none, "plate": Check("Plate?", "yes", "", "against", "clusters follow the plate")})
    assert in_short(found) == (
        "How sure? 0 of 2 checks passed, 1 speaks against it (clusters follow the plate), 1 says the same."
    )
    assert "1 speaks against this result: clusters follow the plate." in summary(found)


def test_the_accuracy_of_a_trained_network_is_not_said_to_hold_on_plates_that_it_never_saw(run: Run) -> None:
    found = {one.key: one for one in checks([run], ScoresByArm([row_of(run)]))}["left_out"]
    assert (run.trained and found.finding != "passed") or "unseen by the classifier" in found.light


def test_few_steps_of_training_are_not_outweighed_by_a_loss_below_chance() -> None:
    few, passed = too_little("Steps?", "40 steps", "only 40 training steps"), Check("Loss?", "yes", "", "passed")
    assert dict(in_words(lights(keyed({"steps": few, "loss": passed}))))["trained long enough"] == "amber"
    against = passed._replace(finding="against")
    assert dict(in_words(lights(keyed({"steps": few, "loss": against}))))["trained long enough"] == "red"


def test_how_sure_counts_every_check_once_and_names_the_heaviest_doubts_first() -> None:
    doubts = {key: Check("?", "no", "", "against", key) for key in ("cautions", "seeds", "plate", "chance")}
    found = keyed(doubts | {"cells": Check("?", "yes", "", "passed"), "leak": not_made("?", "no split")})
    text = in_short(found)
    assert text == (
        "How sure? 1 of 6 checks passed, 4 speak against it (chance, plate, cautions, and more), 1 cannot be judged."
    )


def test_changed_cells_lie_outside_the_controls_and_debris_is_not_typical_of_them() -> None:
    rng = np.random.default_rng(0)
    beside = rng.normal(size=(400, 5))
    unchanged, changed = rng.normal(size=(100, 5)), rng.normal(size=(60, 5)) + 6
    debris = np.full((2, 5), [40.0, -40, 40, -40, 40])
    x = answer_cells.standardised(np.concatenate([unchanged, changed, debris, beside]), 162)
    shown, usual = answer_cells.typical(x[:162], x[162:], 60 / 162)
    assert set(shown) <= set(range(100, 160)), "neither unchanged cells nor debris"
    of_all, _ = answer_cells.typical(x[:162], x[162:], 0.0)
    assert set(of_all) & set(range(100)), "without a share that changed, the typical of all cells"
    assert np.linalg.norm(x[162:][usual], axis=1).max() < np.median(np.linalg.norm(x[162:], axis=1))


@pytest.mark.parametrize(
    ("active", "share", "title"),
    [
        (True, 0.4, "x 1 µM: cells that changed most"),
        (True, 0.0, "x 1 µM: its typical cells"),
        (False, 0.4, "x 1 µM (not active): its typical cells"),
        (None, math.nan, "x 1 µM (not tested): its typical cells"),
    ],
)
def test_cells_are_said_to_have_changed_only_where_the_treatment_did_something(
    active: bool | None, share: float, title: str
) -> None:
    known = answer_cells.share_changed({"active": active, "changed_share": share})
    assert answer_cells.Shown("x 1 µM", "p1", "control well", active, known).title == title


def test_a_feature_without_spread_or_value_decides_nothing() -> None:
    vectors = np.array([[1.0, 5, np.nan], [3.0, 5, np.nan], [2.0, 5, np.nan], [2.5, 5, np.nan]])
    assert not answer_cells.standardised(vectors, 1)[:, 1:].any()


def test_the_strip_shows_one_treatment_above_and_controls_of_the_same_plate_below(file: Path, chain: Chain) -> None:
    drawn = pd.read_csv(file.parent / "figures" / "answer-cells.csv")
    cells = pd.read_parquet(chain.made("embed").file("embeddings.parquet")).set_index("Metadata_cell_id")
    above, below = (cells.loc[of["cell_id"]] for _, of in drawn.groupby("shown_as", sort=False))
    assert not above["Metadata_control"].any() and below["Metadata_control"].all()
    assert len(above[["Metadata_compound", "Metadata_dose_micromolar", "Metadata_Plate"]].drop_duplicates()) == 1
    assert set(above["Metadata_Plate"]) == set(below["Metadata_Plate"])


def test_without_hits_the_strip_shows_the_cluster_richest_in_treated_cells(run: Run) -> None:
    cells = answer_cells.clustered_cells(run)
    strip = answer_cells.strip_of_clusters(run, cells)
    assert strip is not None
    above, below = (cells.set_index("cell_id").loc[ids] for ids in strip.groups.values())
    assert not above["control"].any() and below["control"].all()
    share = (~cells["control"].astype(bool)).groupby(cells["cluster"]).mean()
    assert above["cluster"].nunique() == 1 and share[above["cluster"].iloc[0]] == share.max()


def test_cells_without_controls_or_treatments_are_shown_by_cluster(run: Run) -> None:
    cells = answer_cells.clustered_cells(run).drop(columns=["compound", "control"])
    strip = answer_cells.strip_of_clusters(run, cells)
    assert strip is not None and all(re.fullmatch(r"cluster \d", title) for title in strip.groups)


def test_chosen_rows_of_vectors_are_those_of_the_whole_table(run: Run) -> None:
    path, rows = run.embed.file("embeddings.parquet"), np.array([0, 3, 7])
    assert (read_rows(path, rows) == read(path)[1][rows]).all()
    assert read_rows(path, rows[:0]).shape == (0, read(path)[1].shape[1])


def test_a_sweep_begins_with_what_it_shows(run: Run) -> None:
    lead = answer([run], ScoresByArm([row_of(run)]), [], ["A sweep: one.", "Two.", "Three.", "Four."])
    assert lead[:3] == ["A sweep: one.", "Two.", "Three."] and lead[3].startswith("How sure?")


def test_a_narrow_table_names_the_column_of_every_number(page: str) -> None:
    table = page.partition('<section id="checks">')[2].partition("</table>")[0]
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', table)
    assert re.findall(r'data-head="(.*?)"', table)[: len(heads)] == heads


@needs_chromium
def test_picture_cells_and_lights_are_seen_without_scrolling(file: Path) -> None:
    with opened(file, 1300, FIRST_HEIGHT_PX) as shown:
        bottoms = shown.evaluate(
            "[...document.querySelectorAll('.first > *')].map(e => e.getBoundingClientRect().bottom)"
        )
        assert len(bottoms) == 3 and max(bottoms) <= FIRST_HEIGHT_PX
        assert shown.evaluate("document.documentElement.scrollWidth") <= 1300


@needs_chromium
@pytest.mark.parametrize("javascript", [True, False])
def test_nothing_is_wider_than_a_phone(file: Path, *, javascript: bool) -> None:
    with opened(file, 390, 844, javascript=javascript) as shown:
        assert shown.locator("body").evaluate("() => document.documentElement.scrollWidth") <= 390
        sides = shown.locator("main table, main figure").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().right)"
        )
        assert sides and max(sides) <= 390
        cell = shown.locator("#checks tbody td").first
        assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"question"'


@needs_chromium
def test_the_main_part_is_printed_on_eight_pages_at_most(file: Path) -> None:
    with opened(file) as shown:
        shown.evaluate("document.querySelectorAll('h2.appendix, section.further').forEach(e => e.remove())")
        pages = re.findall(rb"/Type\s*/Page\b", shown.pdf(format="A4"))
        assert 0 < len(pages) <= MOST_PAGES
