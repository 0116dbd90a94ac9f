"""report: hits of a screen whose numbers are known, on the page, in hits.csv and scores.csv, and in the checks."""

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import write_csv, write_table
from cellssl.errors import UsageError
from cellssl.stages.hits.metrics import HitsMetrics, RetrievalRule
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check
from cellssl.stages.report.checks import checks
from cellssl.stages.report.hit_checks import APART, BY_CELL_NUMBER, DOUBTFUL, apart
from cellssl.stages.report.runs import Run, by_hand, collect, row_of
from tests.chain import Chain, say
from tests.stages.test_report import table_rows, table_with

ANYWHERE = RetrievalRule(96, 144, 0.8, 0.03, 0.6, 0.05, 0.1)
ELSEWHERE = RetrievalRule(96, 120, 0.6, 0.03, 0.5, 0.04, 0.06)
FOUND = HitsMetrics(
    wells=200,
    control_wells=64,
    plates=2,
    treatments=30,
    tested=28,
    active=12,
    alpha=0.05,
    normalise=("center_plate", "scale_pooled"),
    aggregate="median",
    dim=8,
    mean_average_precision=0.55,
    active_by_cell_count=5,
    retrieval={"any": ANYWHERE, "other_plate": ELSEWHERE, "other_batch_and_position": ELSEWHERE},
    not_computed={"other_source": "no column source"},
    is_it_real="Where batch and position must differ, 60 % of the wells still find a replicate.",
    cautions=("plate P3 has no control wells, and its 12 wells are left out",),
)
CURVES = """compound,ec50_micromolar,ec50_low,ec50_high,slope,bottom,top
compound-0,0.5,0.2,2,1,1,9
compound-1,,,,,,
"""
EVIL = "<script>alert(1)</script> =1+1"


def treatments() -> pd.DataFrame:
    """Return the treatments of `FOUND`: 12 active ones, 16 others, and two that could not be tested."""
    number = np.arange(30)
    active = [True] * 12 + [False] * 16 + [None] * 2
    effect = np.where(number < 12, 9 - 0.5 * number, 1 + 0.01 * number)
    compound = [EVIL if row == 3 else f"compound-{row // 4 if row < 12 else row}" for row in number]
    ratio = np.where(number < 4, 0.3 + 0.1 * number, 1.0 + 0.01 * (number % 7))
    ec50 = np.where(number < 3, 0.5, np.nan)
    return pd.DataFrame(
        {
            "compound": compound,
            "dose_micromolar": np.where(number < 12, [0.1, 1, 3, 10][::-1] * 7 + [1, 1], 1.0),
            "moa": None,
            "wells": 4,
            "plates": 2,
            "profiled_cells": 400,
            "active": pd.array(active, dtype="boolean"),
            "q_value": np.where(number < 12, 0.001 * (number + 1), np.where(number < 28, 0.5, np.nan)),
            "p_value": 0.5,
            "mean_average_precision": 0.5,
            **{"effect": effect, "effect_low": effect - 0.5, "effect_high": effect + 0.5, "effect_rank": number + 1},
            **{"changed_share": 0.4, "changed_share_low": 0.3, "changed_share_high": 0.5},
            **{"cell_count_ratio": ratio, "cell_count_ratio_low": ratio - 0.1, "cell_count_ratio_high": ratio + 0.1},
            "cell_count_q_value": np.where(number < 4, 0.01, 0.9),
            "nearest_treatment": np.where(number < 12, "compound-12 1", None),
            "nearest_similarity": np.where(number < 12, 0.91, np.nan),
            "nearest_moa": np.where(number < 12, "tubulin", None),
            **{"ec50_micromolar": ec50, "ec50_low": ec50 / 2, "ec50_high": ec50 * 3, "dose_trend_p_value": 0.01},
            "remark": None,
        }
    )


def wells_of_treatments(table: pd.DataFrame) -> pd.DataFrame:
    """Return four wells of every treatment, and eight control wells."""
    treated = table.loc[table.index.repeat(4), ["compound", "dose_micromolar", "effect"]].assign(control=False)
    controls = pd.DataFrame({"compound": "DMSO", "dose_micromolar": np.nan, "effect": 1.0, "control": [True] * 8})
    wells = pd.concat([treated, controls], ignore_index=True).rename(columns={"effect": "distance_from_controls"})
    return wells.assign(plate="P1", well=[f"W{row}" for row in wells.index], cell_count=100, cell_count_ratio=1.0)


def hits_of(run: Run, store: Store, found: HitsMetrics, table: pd.DataFrame, **section: Any) -> Artifact:
    """Return a hits artifact of the vectors of a run."""
    fingerprint = f"{len(list(store.root.glob('hits/*'))):012x}"
    with store.drafting("hits", fingerprint) as draft:
        write_table(table, draft.file("hits.parquet"))
        write_csv(wells_of_treatments(table), draft.file("wells.csv"))
        draft.file("dose_response.csv").write_text(CURVES)
        card = replace(run.embed.card, kind="hits", fingerprint=fingerprint, files={}, metrics=found.to_json())
        settings = {"normalise": ["center_plate", "scale_pooled"], "aggregate": "median", **section}
        return draft.commit(replace(card, section=settings, inputs={"embed": run.embed.fingerprint}))


@pytest.fixture(scope="module")
def stores(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("hits"), (chain.root,))


@pytest.fixture(scope="module")
def runs(chain: Chain, stores: Store) -> list[Run]:
    """Return the runs of two arms; that of intensities finds fewer treatments."""
    made = {f"{arm}/0/cluster": chain.made("cluster", arm) for arm in ("main", "intensities")}
    few = replace(FOUND, active=7, mean_average_precision=0.3)
    for run, found in zip(collect(made, chain.store), (FOUND, few), strict=True):
        made[f"{run.arm}/0/hits"] = hits_of(run, stores, found, treatments())
    return collect(made, stores)


@pytest.fixture(scope="module")
def folder(chain: Chain, runs: list[Run], stores: Store) -> Iterator[Path]:
    given = [one.path for run in runs for one in (run.cluster, run.hits_artifact) if one is not None]
    yield Path(say("report", *given, "--store", stores.root, "--store", chain.root).line)


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def found_checks(runs: list[Run]) -> dict[str, Check]:
    return {one.question: one for one in checks(runs, ScoresByArm([row_of(run) for run in runs]))}


def test_the_page_begins_with_how_many_treatments_are_active_and_what_could_explain_them(page: str) -> None:
    section = page.partition("Which treatments changed the cells</h2>")[2].partition("<h2")[0]
    assert "12 of 28 tested treatments are active" in section and "q &lt; 0.05" in section
    assert "A test of the number of cells alone finds 5." in section
    assert "2 further treatments could not be tested." in section
    assert "Baselines, which learn nothing, find: intensities 7." in section
    assert FOUND.is_it_real in section and FOUND.cautions[0] in section
    assert "12 of 28 tested treatments changed the cells" in page.partition("<h2")[0], "the box at the top says it, too"
    assert page.index("Which treatments changed the cells</h2>") < page.index("The arms compared</h2>")


def test_the_table_shows_twenty_treatments_and_folds_the_others(page: str) -> None:
    first, rest = (table_rows(part, "treatment") for part in page.split("further treatments</summary>"))
    assert (len(first), len(rest)) == (20, 10)
    assert first[0][:7] == ["compound-0 10\N{NO-BREAK SPACE}µM", "4", "yes", "0.001", "9.00", "8.50 to 9.50", "40 %"]
    assert first[0][-1] == "compound-12 1\N{NO-BREAK SPACE}µM (0.91; not active)", "and its mechanism says nothing"
    assert first[12][-1] == "", "what a treatment that is not active is most like is chance"
    assert rest[-1][2:4] == ["–", "–"], "not tested"


def test_names_of_compounds_are_text_on_the_page_and_in_spreadsheets(page: str, folder: Path) -> None:
    assert EVIL not in page and "&lt;script&gt;alert(1)&lt;/script&gt; =1+1" in page
    with (folder / "hits.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["arm", "seed", "compound"]
    assert [row["arm"] for row in rows] == ["context"] * 30 + ["intensities"] * 30
    assert float(rows[0]["effect"]) == 9.0 and rows[29]["q_value"] == ""


def test_all_arms_are_compared_by_hits_beside_the_number_of_cells(page: str) -> None:
    rows = table_with(page, "active treatments")
    assert [row[0] for row in rows] == ["context", "intensities", "cell count"]
    assert "12 of 28" in rows[0] and "0.55" in rows[0] and "5 of 28" in rows[2]
    replicates = table_rows(page, "arm or baseline")
    assert [row[0] for row in replicates] == ["cell count", "intensities", "context"]
    assert [replicates[0][1:], replicates[2][1:]] == [["0.10", "0.06", "0.06"], ["0.80", "0.60", "0.60"]]
    assert "All arms were searched alike: vectors centred on the controls of every plate" in page


def test_arms_that_were_searched_otherwise_are_not_to_be_compared(runs: list[Run], stores: Store) -> None:
    from cellssl.stages.report.hit_arms import arms_by_hits

    other = hits_of(runs[1], stores, FOUND, treatments(), normalise=["robust_z"])
    both = [runs[0], replace(runs[1], hits_artifact=other)]
    text = str(arms_by_hits(both, ScoresByArm([row_of(run) for run in both]), both[0]))
    assert (
        "their rows cannot be compared. Normalise (hits.normalise): center_plate, scale_pooled (main); robust_z ("
        in text
    )


def test_scores_of_hits_stand_in_scores_csv(folder: Path) -> None:
    with (folder / "scores.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    names = ("hits_active", "hits_map", "hits_recall_at_1", "hits_recall_other_batch_and_position")
    assert [row[name] for name in names] == ["12", "0.55", "0.8", "0.6"]


def test_the_figures_are_files_of_the_artifact_and_pictures_of_the_page(page: str, folder: Path) -> None:
    assert {"hits.png", "hits-doses.png"} <= {file.name for file in folder.glob("figures/*.png")}
    section = page.partition('<section id="treatments">')[2].partition("</section>")[0]
    assert len(re.findall(r"<figure>.{,200}?<img", section, re.DOTALL)) == 2


@pytest.mark.parametrize(("by_count", "finding"), [(4, "passed"), (12, "against"), (0, "passed")])
def test_hits_that_cell_number_finds_too_are_a_doubt(
    runs: list[Run], stores: Store, by_count: int, finding: str
) -> None:
    table = treatments().assign(cell_count_q_value=np.where(np.arange(30) < by_count, 0.01, 0.9))
    made = hits_of(runs[0], stores, replace(FOUND, active_by_cell_count=by_count), table)
    found = found_checks([replace(runs[0], hits_artifact=made)])[BY_CELL_NUMBER]
    assert found.finding == finding
    assert f"the number of cells alone finds {by_count}, of which {by_count} are among them" in found.numbers


def test_where_cells_are_not_counted_the_check_is_not_made(runs: list[Run], stores: Store) -> None:
    made = hits_of(runs[0], stores, replace(FOUND, active_by_cell_count=None), treatments())
    assert found_checks([replace(runs[0], hits_artifact=made)])[BY_CELL_NUMBER].finding == "not made"


@pytest.mark.parametrize(
    ("strict", "finding", "doubt"),
    [
        (ELSEWHERE, "passed", ""),
        (replace(ELSEWHERE, recall_at_1=0.2), "against", "plate or position makes replicates alike"),
        (replace(ELSEWHERE, recall_at_1=0.06), "against", "replicates are alike on the same plate or position only"),
        (replace(ELSEWHERE, queries=6), "too little", "few replicates apart from each other"),
    ],
)
def test_replicates_that_are_alike_only_beside_each_other_are_a_doubt(
    strict: RetrievalRule, finding: str, doubt: str
) -> None:
    found = apart(replace(FOUND, retrieval={"any": ANYWHERE, "other_position": strict}))
    assert (found.finding, found.doubt) == (finding, doubt)
    assert "another well position" in found.numbers


def test_one_plate_is_too_little_to_tell_replicates_from_positions() -> None:
    found = apart(
        replace(FOUND, retrieval={"any": ANYWHERE}, not_computed={"other_plate": "all wells are on one plate"})
    )
    assert (found.finding, found.numbers) == ("too little", "all wells are on one plate")


def test_without_replicates_the_page_says_that_there_are_effects_and_no_q_values(
    runs: list[Run], stores: Store
) -> None:
    from cellssl.stages.report.hit_sentences import activity_sentence

    alone = replace(FOUND, tested=0, active=0, mean_average_precision=None, active_by_cell_count=None, retrieval={})
    run = replace(
        runs[0], hits_artifact=hits_of(runs[0], stores, alone, treatments().assign(active=None, q_value=None))
    )
    assert run.hits is not None
    assert "there are effects and ranks, and no q-values" in activity_sentence(run, run.hits)
    assert "hits_active" not in row_of(run)
    assert found_checks([run])[BY_CELL_NUMBER].finding == found_checks([run])[APART].finding == "too little"


def test_the_hits_of_the_tiny_screen_are_on_its_page(chain: Chain) -> None:
    folder = Path(chain.say("report").line)
    rows = table_rows((folder / "report.html").read_text(encoding="utf-8"), "treatment")
    written = pd.read_csv(chain.made("hits").file("hits.csv"))
    assert [row[0].partition("\N{NO-BREAK SPACE}")[0] for row in rows] == [
        f"{row.compound} {row.dose_micromolar:g}" for row in written.itertuples()
    ]
    assert len(pd.read_csv(folder / "hits.csv")) == 2 * len(written)
    assert (folder / "figures" / "hits.png").is_file()


def test_seeds_of_an_arm_are_compared_by_their_active_treatments(runs: list[Run], stores: Store) -> None:
    from cellssl.stages.report.hit_sentences import over_seeds

    fewer = treatments().assign(active=pd.array([True] * 4 + [False] * 26, dtype="boolean"))
    other = replace(runs[0], seed=1, hits_artifact=hits_of(runs[0], stores, replace(FOUND, active=4), fewer))
    assert over_seeds([runs[0]], runs[0]) == ""
    assert "The 2 seeds of “main” find 12, 4; 4 are active with all of them." in over_seeds([*runs, other], runs[0])


def test_what_the_search_for_hits_noticed_stands_among_the_checks(runs: list[Run]) -> None:
    found = found_checks(runs)[DOUBTFUL]
    assert found.numbers == FOUND.cautions[0] and found.finding == "against"


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (replace(FOUND, tested=0, active=0), ["Give treatments more wells"]),
        (replace(FOUND, active=0), ["No treatment is active"]),
        (FOUND, []),
        (replace(FOUND, active_by_cell_count=12, retrieval={"any": ANYWHERE}), ["Put replicates on several plates"]),
    ],
)
def test_advice_on_hits_is_what_is_missing(
    runs: list[Run], stores: Store, found: HitsMetrics, advice: list[str]
) -> None:
    from cellssl.stages.report.next_steps import next_steps

    run = replace(runs[0], hits_artifact=hits_of(runs[0], stores, found, treatments()))
    without = next_steps([replace(run, hits_artifact=None)], ScoresByArm([row_of(run)]))
    steps = [step for step in next_steps([run], ScoresByArm([row_of(run)])) if step not in without]
    assert len(steps) == len(advice) and all(map(str.startswith, steps, advice))


def test_hits_given_by_hand_belong_to_the_clusters_of_the_same_vectors(runs: list[Run], stores: Store) -> None:
    given = [one for run in runs for one in (run.hits_artifact, run.cluster) if one is not None]
    assert set(by_hand(given, stores)) == {
        f"{arm}/0/{kind}" for arm in ("context", "intensities") for kind in ("cluster", "hits")
    }


def test_hits_of_an_external_table_have_no_page(runs: list[Run], stores: Store) -> None:
    made = runs[0].found_hits
    external = replace(made, card=replace(made.card, inputs={}))
    with pytest.raises(UsageError, match="a search for hits of an external table"):
        by_hand([external], stores)


def test_a_page_of_runs_without_hits_does_not_speak_of_them(runs: list[Run]) -> None:
    from cellssl.stages.report.hit_sentences import leading_run
    from cellssl.stages.report.hit_tables import all_treatments

    without = [replace(run, hits_artifact=None) for run in runs]
    scores = ScoresByArm([row_of(run) for run in without])
    assert leading_run(without, scores) is None and all_treatments([]) is None
    assert BY_CELL_NUMBER not in found_checks(without) and not any("hits" in name for name in scores.rows[0])
