"""Sweeps: nothing is computed twice, the page's numbers follow from tables, and val chooses what test reports."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import RECIPE, Chain, start
from scipy import stats
from sklearn.metrics import adjusted_mutual_info_score, balanced_accuracy_score, recall_score

from cellssl.artifacts.card import read_card
from cellssl.files import write_text
from cellssl.stages.report import scores
from cellssl.stages.report.runs import Run
from cellssl.stages.report.sweep_results import Curve, ScoreRecord, SweepResults
from cellssl.stages.report.sweep_section import _most_changed, _not_shown
from cellssl.stages.report.sweep_text import words

QUICK = (
    RECIPE.partition("[arm.intensities.embed]")[0]
    .replace("epochs = 6", "epochs = 1")
    .replace("montage_cells = 4", 'montage_cells = 1\nagainst = ["label"]')
    .replace("neighbours = 5", 'label = "true_phenotype"\nbootstrap_draws = 100\nlabel_shuffles = 1\nleave_out = []')
)
VOTES = '\n[sweep.votes]\nknob = "evaluate.neighbours"\nvalues = [1, 3, 5, 9, 20]\n'
HEAT = '\n[sweep.heat]\nknob = "pretrain.branches.context.objective.temperature"\nvalues = [0.1, 0.5]\n'
GROUPS = '\n[sweep]\nchoose = "ami"\n[sweep.groups]\nknob = "cluster.k"\nvalues = [2, 4]\n'


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory, chain: Chain) -> Chain:
    """Five values of one setting, two seeds, one training per seed."""
    return made(tmp_path_factory.mktemp("votes"), VOTES, chain)


@pytest.fixture(scope="module")
def heat(tmp_path_factory: pytest.TempPathFactory, chain: Chain) -> Chain:
    """Two values of a setting of pretrain, two seeds: four trainings."""
    return made(tmp_path_factory.mktemp("heat"), HEAT, chain)


def made(folder: Path, sweep: str, cells_of: Chain) -> Chain:
    """Run a sweep on the cells of another chain."""
    recipe = folder / "swept.toml"
    write_text(recipe, f"seeds = [0, 1]\n{QUICK}{sweep}".replace('name = "tiny"', 'name = "swept"'))
    swept = Chain(recipe, cells_of.copy_cells(folder / "store"))
    assert swept.say("run").code == 0
    return swept


def report_of(chain: Chain, *words: object) -> Path:
    return Path(chain.say("report", *words).line)


def test_one_training_per_seed_is_enough_for_a_setting_of_a_later_stage(votes: Chain) -> None:
    assert {stage: len(list(votes.root.glob(f"{stage}/*/artifact.json"))) for stage in ("pretrain", "evaluate")} == {
        "pretrain": 2,
        "evaluate": 2 * 5,
    }


def test_every_accuracy_and_ami_of_the_sweep_equals_scikit_learns(votes: Chain) -> None:
    table = pd.read_csv(report_of(votes) / "sweep.csv", keep_default_na=False)
    values = table.set_index(["arm", "votes", "seed", "score", "class"])["value"].astype(float)
    for pointer in votes.root.glob("by-recipe/swept/main+votes=*/*/evaluate.json"):
        seed, point = int(pointer.parent.name), int(pointer.parent.parent.name.removeprefix("main+votes="))
        evaluated = votes.store.get("evaluate", json.loads(pointer.read_text())["fingerprint"])
        predictions = pd.read_parquet(evaluated.file("predictions.parquet"))
        for score in ("knn", "linear"):
            truth, predicted = predictions["label"], predictions[score]
            here = values["main", point, seed, score]
            assert here[""] == pytest.approx(balanced_accuracy_score(truth, predicted))
            names = sorted(set(truth))
            assert here[names].tolist() == pytest.approx(recall_score(truth, predicted, labels=names, average=None))
        clustered = votes.store.get("cluster", json.loads((pointer.parent / "cluster.json").read_text())["fingerprint"])
        cells = pd.read_parquet(clustered.file("assignments.parquet")).query("scored")
        split = pd.read_parquet(next(votes.root.glob("split/*/split.parquet")))
        cells = cells[["cell_id", "cluster"]].merge(split, on="cell_id")
        ami = adjusted_mutual_info_score(cells["label"], cells["cluster"])
        assert values["main", point, seed, "ami", ""] == pytest.approx(ami)


def test_opposites_are_scipys_correlations_of_the_means_over_seeds(votes: Chain) -> None:
    folder = report_of(votes)
    table = pd.read_csv(folder / "sweep.csv")
    pairs = pd.read_csv(folder / "opposites.csv")
    mine = table[(table["arm"] == "main") & (table["score"] == "knn")]
    means = mine.pivot_table(index="votes", columns="class", values="value").round(9)  # equal but for rounding is a tie
    compared = 0
    for row in pairs[(pairs["arm"] == "main") & (pairs["score"] == "knn")].to_dict("records"):
        one, other = means[row["first"]], means[row["second"]]
        if not np.ptp(one) or not np.ptp(other):
            assert np.isnan(row["pearson"]) and not row["opposite"]
            continue
        found = [stats.pearsonr(one, other), stats.kendalltau(one, other), stats.spearmanr(one, other)]
        assert [row["pearson"], row["kendall"], row["spearman"]] == pytest.approx([each.statistic for each in found])
        assert row["opposite"] == any(each.statistic < -0.3 and each.pvalue < 0.05 for each in found)
        compared += 1
    assert compared


def test_the_page_says_what_the_sweep_changes_and_shows_its_curves(votes: Chain) -> None:
    folder = report_of(votes)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "votes is evaluate.neighbours, 1, 3, 5, 9 or 20" in page
    assert "Changing votes from 1 to 20 in “main”" in page
    assert "2 seeds do not show which classes gain or lose" in page
    assert "pairs of classes change in opposite directions over votes in “main”" in page
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"sweep-main-votes.png", "sweep-main-votes-classes.png"} <= figures


@pytest.mark.soak
def test_values_that_were_added_later_are_sorted(votes: Chain) -> None:
    page = (report_of(votes, "--set", "sweep.votes.values=[3, 20, 9, 1, 5]") / "report.html").read_text(
        encoding="utf-8"
    )
    assert "Changing votes from 1 to 20 in “main”" in page


@pytest.mark.soak
def test_a_setting_of_a_grid_that_changes_nothing_adds_no_points(votes: Chain) -> None:
    strength = ("--set", "sweep.strength={knob='evaluate.C', values=[0.01, 1.0]}")
    assert votes.say("run", *strength).code == 0
    folder = report_of(votes, *strength)
    points = pd.read_csv(folder / "opposites.csv").groupby("score")["points"].unique().map(list)
    assert points.to_dict() == {"knn": [5], "linear": [2]}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        "2 points that differ, of 10, do not show whether classes change in opposite directions over votes x strength "
        "in “main”" in page
    )
    table = pd.read_csv(folder / "sweep.csv", keep_default_na=False)
    mine = table[(table["arm"] == "main") & (table["score"] == "linear") & (table["class"] == "")]
    ends = mine.groupby("strength")["value"].mean()
    sentence = page.partition("Changing strength from 0.01 to 1 in “main” averaged over votes")[2].partition("</")[0]
    assert f"from {ends[0.01]:.2f} to {ends[1.0]:.2f} (95 % interval" in sentence


@pytest.mark.soak
def test_a_page_of_many_curves_begins_with_a_summary(votes: Chain) -> None:
    knobs = {"normalise": ["none", "zscore"], "C": [0.01, 1.0], "label_shuffles": [1, 2], "bootstrap_draws": [100, 101]}
    many = [f"sweep.{name}={{knob='evaluate.{name}', values={values}}}" for name, values in knobs.items()]
    words = [word for each in [*many, "sweep.k={knob='cluster.k', values=[2, 3]}"] for word in ("--set", each)]
    said = votes.say("run", "--set", "sweep.together=false", *words)
    page = (Path(said.line) / "report.html").read_text(encoding="utf-8")
    head, _, rest = page.partition("<main>")
    assert (
        "6 settings are varied one at a time in “main”" in head
        and "Of 6 curves, each for one setting in one arm" in head
    )
    assert "Changing votes from 1 to 20" in rest and "Changing votes from 1 to 20" not in head


def test_status_shows_the_grid_filling(votes: Chain) -> None:
    said = votes.say("status", "--set", "sweep.votes.values=[1, 2, 7]").out
    assert "main+votes=1" in said and "2 of 2" in said
    [row] = [line.split("  ") for line in said.splitlines() if line.startswith("main+votes=7")]
    assert "0 of 2" in " ".join(row)


@pytest.mark.soak  # of one result test_cli shows it on every run, of a training test_state
def test_a_sweep_that_is_killed_and_run_again_gives_the_same_bytes(heat: Chain, tmp_path: Path) -> None:
    killed = Chain(heat.recipe, heat.copy_cells(tmp_path / "killed"))
    process = start("run", killed.recipe, "--store", killed.root)
    while not list(killed.root.glob("evaluate/*/artifact.json")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert killed.say("run").code == 0
    assert files_of(killed) == files_of(heat)


def files_of(chain: Chain) -> dict[Path, Any]:
    """Return every artifact of a store, with the hashes of its files."""
    return {path.parent.relative_to(chain.root): read_card(path).files for path in chain.root.glob("*/*/artifact.json")}


@pytest.mark.soak  # of one result test_cli and test_store show it on every run
def test_two_processes_at_once_make_one_sweep_with_the_same_bytes(heat: Chain, tmp_path: Path) -> None:
    both = Chain(heat.recipe, heat.copy_cells(tmp_path / "both"))
    processes = [start("run", both.recipe, "--store", both.root) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[0][0] == said[1][0], "the same page"
    assert files_of(both) == files_of(heat)
    assert not list(both.root.glob("*/*.partial"))


def test_a_sweep_that_is_extended_by_values_and_seeds_repeats_nothing(heat: Chain) -> None:
    before = {path: path.stat().st_mtime_ns for path in heat.root.glob("*/*/artifact.json")}
    for more in (["sweep.heat.values=[0.1, 0.2, 0.5]"], ["seeds=[0, 1, 2]", "--arm", "main+heat=0.1"]):
        assert heat.say("run", "--to", "evaluate", "--set", *more).code == 0
    after = {path: path.stat().st_mtime_ns for path in heat.root.glob("*/*/artifact.json")}
    assert {path: after[path] for path in before} == before
    assert sum(path.parent.parent.name == "pretrain" for path in after) == 2 * 2 + 2 + 1


def test_what_is_chosen_on_val_is_reported_on_test_with_both_numbers(chain: Chain, tmp_path: Path) -> None:
    swept = made(tmp_path, GROUPS, chain)
    folder = report_of(swept)
    table = pd.read_csv(folder / "sweep.csv", keep_default_na=False)
    means = table[table["score"] == "ami"].groupby(["part", "groups"])["value"].mean()
    best = means["val"].idxmax()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"Chosen on the val part in “main”: groups = {best}" in page
    assert f"{means['test', best]:.2f}" in page.partition("which is the number to report")[0].rpartition("Chosen on")[2]
    assert f"The highest on the test part is {means['test'].max():.2f}" in page


class RecordedSweep(SweepResults):
    """A sweep whose records are given."""

    def _records_of(self, run: Any) -> Iterator[ScoreRecord]:
        yield from run

    def of_test(self) -> list[Run]:
        return []


def test_of_a_hundred_classes_those_that_change_most_have_a_line() -> None:
    knobs = {"knobs": {"hue": {"values": [0, 1]}}, "together": False, "choose": None, "points": {}}
    records = [
        ScoreRecord("main", "test", (("hue", hue),), 0, "linear", f"class {number}", 0.5 + hue * (number - 50) / 100)
        for hue in (0, 1)
        for number in range(101)
    ]
    results = RecordedSweep(knobs, [records])  # type: ignore[list-item]
    shown = _most_changed(results, Curve("main", "hue", (0, 1)))
    assert shown == [f"class {number}" for number in (*range(8), *range(93, 101))]
    assert _not_shown(results, shown) == " The 16 of 101 classes that change most; sweep.csv has all."
    assert _not_shown(results, [str(number) for number in range(101)]) == ""


def test_the_words_name_the_classes_that_gain_and_lose_by_each_classifier() -> None:
    point = {"arm": "main", "part": "test"}
    points = {f"main+hue={hue}": point | {"values": {"hue": hue}} for hue in (0, 1)}
    knobs = {"knobs": {"hue": {"knob": "x.hue", "values": [0, 1]}}, "together": False, "choose": None, "points": points}
    rise = {("linear", "a"): 0.0, ("linear", "b"): 0.0, ("knn", "a"): 0.3, ("knn", "b"): -0.2}
    records = [
        ScoreRecord("main", "test", (("hue", hue),), seed, score, of, 0.5 + hue * by + seed / 1000)
        for hue in (0, 1)
        for seed in range(3)
        for (score, of), by in {**rise, ("linear", ""): 0.0, ("knn", ""): 0.05}.items()
    ]
    results = RecordedSweep(knobs, [records])  # type: ignore[list-item]
    sentence = next(each for each in words(results) if each.startswith("Per class"))
    assert "By the linear probe, no class clearly gains or loses. By kNN, gaining: a +0.30 (" in sentence
    assert "); losing: b -0.20 (" in sentence and "In brackets: the 95 % interval over 3 seeds." in sentence


def test_a_score_that_rises_and_falls_again_is_reported() -> None:
    points = {f"main+hue={hue}": {"arm": "main", "part": "test", "values": {"hue": hue}} for hue in (0, 1, 2)}
    knobs = {"knobs": {"hue": {"knob": "x.hue", "values": [0, 1, 2]}}, "together": False, "choose": None}
    records = [
        ScoreRecord("main", "test", (("hue", hue),), seed, "ami", "", ami + seed / 1000 * hue)
        for hue, ami in {0: 0.4, 1: 0.6, 2: 0.401}.items()
        for seed in range(3)
    ]
    text = " ".join(words(RecordedSweep(knobs | {"points": points}, [records])))  # type: ignore[list-item]
    assert "does not clearly change the AMI of clusters and label: from 0.40 to 0.40" in text
    assert "In between, the AMI of clusters and label at 1 (0.60) is above both ends (0.40 and 0.40), chosen" in text


def test_a_new_score_is_followed_by_the_sweep(votes: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = scores.InSweeps("a made-up score", lambda results: results.clusters.cells / 2, position=9)
    made_up = scores.Score("made_up", "made up", followed.compute, higher_is_better=True, sweep=followed)
    monkeypatch.setattr(scores, "SCORES", (*scores.SCORES, made_up))
    folder = report_of(votes, "--force")
    table = pd.read_csv(folder / "sweep.csv")
    assert table[table["score"] == "made_up"].groupby("votes")["value"].nunique().tolist() == [1] * 5
    assert "a made-up score" in (folder / "report.html").read_text(encoding="utf-8")
