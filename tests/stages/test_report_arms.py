"""report: the arms compared: their rows, scores, differences and neighbours, against the files they come from."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel
from sklearn.neighbors import NearestNeighbors

from cellssl.artifacts import embeddings
from cellssl.artifacts.store import Artifact
from cellssl.reporting.html import Images, Strong
from cellssl.stages.cluster.normalised import normalised_as_before
from cellssl.stages.report.arm_differences import difference_table, differences_in_words
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.arm_tables import arm_blocks
from cellssl.stages.report.flat_settings import flat_settings
from cellssl.stages.report.normalised_sample import normalised_sample, read_cells_of
from cellssl.stages.report.runs import Run, collect, row_of
from cellssl.stages.report.score_tables import best_arms, score_blocks
from cellssl.stages.report.scores import score_named
from cellssl.stages.report.view_strips import ViewStrips
from cellssl.stages.shared.cell_tables import read_all_embeddings
from tests.chain import Chain
from tests.stages.test_report import table_with

ARMS = ("main", "intensities")
AMI = score_named("ami")


@pytest.fixture(scope="module")
def report(chain: Chain) -> Artifact:
    return chain.store.get("report", Path(chain.say("report").line).name)


@pytest.fixture(scope="module")
def runs(chain: Chain) -> list[Run]:
    made = {f"{arm}/0/{stage}": chain.made(stage, arm) for arm in ARMS for stage in ("cluster", "evaluate")}
    return collect(made, chain.store)


def of_seeds(values: Mapping[str, list[float]]) -> ScoresByArm:
    """Return arms with an AMI per seed; the others of the row are those of no run."""
    return ScoresByArm(
        [
            {"arm": arm, "seed": seed, "baseline": arm == "random", "cells": 100, "ami": value}
            for arm, each in values.items()
            for seed, value in enumerate(each)
        ]
    )


def with_branch(run: Run, arm: str, change: Mapping[str, Any]) -> Run:
    """Return another arm whose one branch has other settings, such as of its objective or its view."""
    assert run.model is not None
    section = json.loads(json.dumps(run.model.card.section))
    section["branches"]["context"] |= change
    return replace(run, arm=arm, model=Artifact(run.model.path, replace(run.model.card, section=section)))


def jitter(brightness: float) -> dict[str, Any]:
    settings = {"brightness": brightness, "contrast": 0.2, "hue": 0.05, "saturation": 0.2, "p": 1.0}
    return {"view": [{"name": "color_jitter", **settings}]}


def test_the_row_of_an_arm_has_the_numbers_of_scores_csv(report: Artifact) -> None:
    scores = pd.read_csv(report.file("scores.csv")).set_index("arm")
    rows = {row[0]: row for row in table_with(report.file("report.html").read_text(), "AMI with label")}
    for arm in ARMS:
        shown = [name for name in ("ami", "knn", "linear", "map_replicates") if name in scores]
        assert {f"{scores.loc[arm, name]:.2f}" for name in shown} <= set(rows[arm]) and len(shown) >= 3
        assert rows[arm][1] == ("trained" if arm == "main" else "baseline")


def test_mean_and_standard_deviation_are_those_over_seeds() -> None:
    values = {"sum": [0.30, 0.34, 0.41], "random": [0.10, 0.11, 0.15]}
    table, _ = score_blocks(of_seeds(values), {})
    rows = {row[0]: row[2] for row in table.rows}  # type: ignore[union-attr]
    for arm, each in values.items():
        text = rows[arm].text if isinstance(rows[arm], Strong) else rows[arm]  # type: ignore[union-attr]
        assert text == f"{np.mean(each):.2f} ± {np.std(each, ddof=1):.2f}"
    assert isinstance(rows["sum"], Strong) and not isinstance(rows["random"], Strong)


def test_what_shows_the_same_number_or_may_be_equal_is_as_bold_as_the_best() -> None:
    assert best_arms(of_seeds({"a": [0.301], "b": [0.304], "c": [0.28]}), AMI) == {"a", "b"}
    close = {"a": [0.30, 0.36, 0.33], "b": [0.31, 0.30, 0.35], "c": [0.10, 0.17, 0.12]}
    assert best_arms(of_seeds(close), AMI) == {"a", "b"}
    assert best_arms(of_seeds({"a": [0.2, 0.3], "b": [0.3, 0.2]}), AMI) == set(), "all may be equal"
    spread = {"a": [0.40, 0.41, 0.42], "b": [0.36, 0.37, 0.38], "c": [0.10, 0.45, 0.35]}
    assert best_arms(of_seeds(spread), AMI) == {"a"}, "c spreads far, and is below b, which is worse than a"
    assert best_arms(of_seeds({"a": [0.1], "random": [0.3]}), AMI) == {"random"}, "a baseline may be the best"
    assert best_arms(of_seeds({"a": [0.1]}), AMI) == set()


def test_an_arm_without_a_score_is_not_bold_and_columns_of_no_run_are_left_out() -> None:
    scores = of_seeds({"a": [0.4], "b": [0.3]})
    scores.rows[1]["ami"] = None
    table, _ = score_blocks(scores, {})
    assert list(table.header) == ["arm", "kind", "AMI with label", "seeds"]  # type: ignore[union-attr]
    assert [row[2] for row in table.rows] == ["0.40", "–"]  # type: ignore[union-attr]


def test_paired_differences_are_those_of_a_paired_t_test(runs: list[Run], tmp_path: Path) -> None:
    from types import SimpleNamespace

    from cellssl.stages.report.paired_differences import FILE, paired_blocks

    values = {"a": [0.50, 0.61, 0.56], "b": [0.40, 0.44, 0.47], "random": [0.10, 0.30, 0.14]}
    job: Any = SimpleNamespace(draft=SimpleNamespace(file=lambda name: tmp_path / name))
    *_, table = paired_blocks(job, runs, of_seeds(values))
    found = pd.read_csv(tmp_path / FILE).set_index("minus")
    for arm in ("b", "random"):
        expected = ttest_rel(values["a"], values[arm])
        interval = expected.confidence_interval(1 - 0.05 / 2)
        assert found.loc[arm, ["low", "high", "p_value"]].tolist() == pytest.approx([*interval, expected.pvalue])
        text = f"{np.subtract(values['a'], values[arm]).mean():+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
        (cell,) = (row[1] for row in table.rows if row[0] == arm)  # type: ignore[union-attr]
        assert (cell.text if isinstance(cell, Strong) else cell) == text
        assert isinstance(cell, Strong) == (interval.low > 0)
    assert "of the 2 comparisons of its column" in table.caption  # type: ignore[union-attr]


def test_bold_and_interval_of_a_difference_agree_on_which_side_of_0_it_lies() -> None:
    from cellssl.reporting.paired_tests import PairedTest
    from cellssl.stages.report.paired_differences import _cell

    tests = [PairedTest(0.06, 9, low, 0.12, 0.02, 0.04) for low in (-0.0022, 0.0031, 0.0)]
    assert _cell(tests[0]) == "+0.06 (-0.002 to +0.12)"
    assert _cell(tests[1]) == Strong("+0.06 (+0.003 to +0.12)")
    assert _cell(tests[2]) == "+0.06 (0.00 to +0.12)"


def with_pretrain(run: Run, arm: str, **changed: Any) -> Run:
    assert run.model is not None
    card = replace(run.model.card, section={**run.model.card.section, **changed})
    return replace(run, arm=arm, model=replace(run.model, card=card))


def test_arms_that_differ_in_their_branches_only_have_a_row_that_says_so(runs: list[Run]) -> None:
    branch = runs[0].trained[0].trained.card.section["branches"]["context"]
    other = with_pretrain(runs[0], "other", branches={"centre": branch})
    both = with_pretrain(runs[0], "both", branches={"context": branch, "centre": branch, "off": branch | {"weight": 0}})
    untrained = with_pretrain(runs[0], "untrained", epochs=0.0, batch=999)
    stopping = with_pretrain(runs[0], "stopping", early_stopping={"every_epochs": 1.0, "patience": 7})
    (folded,) = difference_table([runs[0], other, both, untrained, stopping])
    rows = {row[0]: row[1:] for row in folded.blocks[0].rows}  # type: ignore[union-attr]
    assert rows.pop("pretrain.branches") == ["context", "centre", "context, centre", "–", "context"]
    assert rows.pop("pretrain.early_stopping.patience") == ["–", "–", "–", "–", "7"]
    assert rows.pop("pretrain.epochs")[3] == "0" and set(rows) == {"pretrain.early_stopping.every_epochs"}


def test_blocks_are_called_by_what_they_are_of() -> None:
    blocks = {
        "blocks": [{"of": "pretrain", "name": None, "weight": 1.0}, {"of": "features", "name": "f", "weight": 2.0}]
    }
    found = dict(flat_settings(blocks, "embed"))
    assert found["embed.blocks"] == "pretrain, f" and found["embed.blocks.f.weight"] == "2"
    assert found["embed.blocks.f.of"] == "features"


def test_one_seed_has_no_interval_and_the_page_says_so(report: Artifact) -> None:
    page = report.file("report.html").read_text()
    assert "One seed does not show how much arms differ by chance" in page.partition("The arms compared</h2>")[2]


def test_arms_that_differ_in_jitter_or_in_their_loss_alone_read_differently(runs: list[Run]) -> None:
    arms = [with_branch(runs[0], f"jitter-{value}", jitter(value)) for value in (0.2, 0.6)]
    objective = runs[0].model.card.section["branches"]["context"]["objective"]  # type: ignore[union-attr]
    arms.append(with_branch(arms[0], "cooler", {"objective": {**objective, "temperature": 0.5}}))
    words = differences_in_words(arms, ["the same"] * 3)
    assert words[1] == "color_jitter brightness 0.2 → 0.6"
    assert words[2] == f"temperature {objective['temperature']} → 0.5"
    assert words[0] == f"temperature {objective['temperature']}; color_jitter brightness 0.2"
    assert differences_in_words(arms, ["one", "two", "three"]) == [""] * 3, "they read differently anyhow"


def test_a_transform_that_one_arm_lacks_is_one_difference(runs: list[Run]) -> None:
    flip = {"name": "horizontal_flip", "p": 0.5}
    both, alone = jitter(0.2)["view"] + [flip], [flip]
    arms = [with_branch(runs[0], name, {"view": view}) for name, view in (("both", both), ("alone", alone))]
    assert differences_in_words(arms, [0, 0])[1] == "view color_jitter, horizontal_flip → horizontal_flip"


def test_arms_with_the_same_views_share_their_strip_and_stronger_jitter_shows(chain: Chain, runs: list[Run]) -> None:
    arms = [with_branch(runs[0], name, jitter(value)) for name, value in (("a", 0.2), ("b", 0.2), ("c", 0.9))]
    strips = ViewStrips(chain.store)
    one, same, stronger = (strips.of(run).images for run in arms)
    assert one == same and one != stronger and len(one) == 1
    table = arm_blocks([*arms, runs[1]], ViewStrips(chain.store))[0]
    assert [type(row[1]) for row in table.rows] == [Images] * 3, "baselines have a table of their own"  # type: ignore[union-attr]


def test_vectors_of_some_rows_are_those_of_the_whole_table(runs: list[Run]) -> None:
    path = runs[0].embed.file("embeddings.parquet")
    rows = np.array([0, 3, 50])
    assert np.array_equal(embeddings.read_rows(path, rows), embeddings.read(path)[1][rows])


@pytest.mark.parametrize("arm", (0, 1))
def test_neighbours_are_the_nearest_cells_of_other_wells(runs: list[Run], report: Artifact, arm: int) -> None:
    run = runs[arm]
    cells, vectors = read_all_embeddings(run.embed)
    normal = normalised_as_before(run.cluster, run.embed, cells, vectors).x
    used = cells["cell_id"].isin(pd.read_parquet(run.cluster.file("map.parquet"))["cell_id"]).to_numpy()
    cells, normal = cells[used].reset_index(drop=True), normal[used]
    mine = normalised_sample(run, read_cells_of(run), cells["cell_id"].tolist())
    assert np.allclose(mine, normal, atol=1e-6)
    drawn = pd.read_csv(report.file("figures/neighbours.csv"))
    drawn = drawn[drawn["arm"] == run.arm]
    distances, near = NearestNeighbors(n_neighbors=len(cells), metric="cosine").fit(normal).kneighbors(normal)
    for cell_id, shown in drawn.groupby("cell_id"):
        row = int(cells.index[cells["cell_id"] == cell_id][0])
        elsewhere = (cells["well"] != cells["well"].iat[row]).to_numpy()[near[row]]
        expected = 1 - distances[row][elsewhere][: len(shown)]
        assert shown["similarity"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        assert not set(shown["neighbour"]) & set(cells["cell_id"][cells["well"] == cells["well"].iat[row]])


def test_every_arm_is_shown_the_same_cells_of_controls_and_treatments(report: Artifact) -> None:
    drawn = pd.read_csv(report.file("figures/neighbours.csv"))
    of_arms = {arm: list(dict.fromkeys(table["cell_id"])) for arm, table in drawn.groupby("arm")}
    assert of_arms["main"] == of_arms["intensities"] and len(of_arms["main"]) == 8
    first = drawn[(drawn["arm"] == "main") & (drawn["rank"] == 1)]
    assert first["control"].sum() == 4
    page = report.file("report.html").read_text()
    assert re.search(r"its 5 nearest cells of other wells, the nearest first \(.*\)\. Frame: grey, control", page)


def test_cells_without_treatments_are_chosen_from_every_label(runs: list[Run]) -> None:
    from cellssl.stages.report.arm_neighbours import Sample, chosen

    count = 60
    unit = np.random.default_rng(0).normal(size=(count, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cells = pd.DataFrame({"cell_id": [f"c{row:02d}" for row in range(count)], "control": False})
    cells = cells.assign(plate="p", well=None, label=[f"class {row % 10}" for row in range(count)])
    rows, names = chosen(Sample(runs[:1], cells, {"main": unit}, []))
    assert len(set(rows)) == 8 and len(set(names)) == 8
    assert cells["label"].iloc[rows].tolist() == names
    of_first = np.flatnonzero(cells["label"] == names[0])
    assert rows[0] == of_first[np.argmax(unit[of_first] @ unit[of_first].mean(axis=0))]


def test_the_table_for_a_terminal_fits_80_columns() -> None:
    from cellssl.stages.report.score_tables import result_table

    names = ("ami", "knn", "linear", "linear_leave_one_plate_out")
    row = dict.fromkeys(names, 0.51) | {"hits_active": 12, "hits_tested": 28, "baseline": False, "cells": 9}
    rows = [row | {"arm": "center-crop", "seed": seed, "ami": 0.5 + seed / 100} for seed in (0, 1, 2)]
    header, table = result_table(ScoresByArm(rows), {})
    widths = [max(map(len, column)) for column in zip(header, *table, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert table == [["center-crop", "0.51 ± 0.01", *["0.51 ± 0.00"] * 3, "12/28", "3"]]


def test_a_row_of_a_run_is_computed_from_its_artifacts(runs: list[Run]) -> None:
    rows = [row_of(run) for run in runs]
    table, _ = score_blocks(ScoresByArm(rows), {})
    cell = next(row for row in table.rows if row[0] == "main")[2]  # type: ignore[union-attr]
    assert (cell.text if isinstance(cell, Strong) else cell) == f"{rows[0]['ami']:.2f}"
