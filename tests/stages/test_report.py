"""report: the numbers of the page against the tables that they come from, its sentences, and how it opens."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_fields
from cellssl.reporting.html import Table
from cellssl.stages.evaluate.metrics import ClassifierAccuracy, SchemeMetrics
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check, not_made, summary, too_little
from cellssl.stages.report.checks import cautions, checks
from cellssl.stages.report.findings import answer, of_clusters
from cellssl.stages.report.label_free_checks import loss_below_chance, nuisance, seeds_agree, steps
from cellssl.stages.report.next_steps import next_steps
from cellssl.stages.report.plate_counts import mostly_dropped
from cellssl.stages.report.runs import Run, collect, row_of
from cellssl.stages.report.scores import Row
from tests.chain import Chain, say
from tests.reporting.test_html import ParsedPage

ARMS = ("main", "intensities")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def report(chain: Chain) -> Artifact:
    where = Path(chain.say("report").line)
    return chain.store.get("report", where.name)


@pytest.fixture(scope="module")
def page(report: Artifact) -> str:
    return report.file("report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(chain: Chain) -> list[Run]:
    made = {f"{arm}/0/{stage}": chain.made(stage, arm) for arm in ARMS for stage in ("cluster", "evaluate")}
    return collect(made, chain.store)


def csv_row(report: Artifact, arm: str) -> dict[str, str]:
    with report.file("scores.csv").open(encoding="utf-8") as file:
        return next(row for row in csv.DictReader(file) if row["arm"] == arm)


def answered(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return the first screen's answer, and how sure it is."""
    return answer(runs, scores, checks(runs, scores))


CHECKS = {
    "density": ("Do the clusters follow cell density?", "clusters follow cell density"),
    "constant": ("Do the vectors of different cells differ?", "cells have nearly the same vector"),
}


@pytest.mark.parametrize("what", CHECKS)
def test_vectors_of_a_known_nuisance_or_of_nothing_are_found_out_without_labels(
    chain: Chain, tmp_path: Path, what: str
) -> None:
    embed, store = chain.made("embed", "intensities"), Store(tmp_path)
    table = pd.read_parquet(embed.file("embeddings.parquet"))
    crowded = table["Metadata_neighbours"] > table["Metadata_neighbours"][table["Metadata_split"] == "test"].median()
    known = crowded if what == "density" else np.zeros(len(table))
    for name in table.filter(regex="^emb_"):
        table[name] = np.asarray(known, np.float32)
    table["Metadata_label"] = None
    with store.drafting("embed", "0" * 12) as draft:
        table.to_parquet(draft.file("embeddings.parquet"))
        made = draft.commit(replace(embed.card, fingerprint="0" * 12, files={}))
    said = say("cluster", chain.recipe, "--store", tmp_path, "--store", chain.root, "--input", made.path)
    cluster = Store(tmp_path).get("cluster", Path(said.line).name)
    run = collect({"x/0/cluster": cluster}, Store(tmp_path, (chain.root,)))[0]
    found = {one.question: one for one in checks([run], ScoresByArm([row_of(run)]))}
    question, doubt = CHECKS[what]
    assert (found[question].finding, found[question].doubt) == ("against", doubt)
    assert doubt in summary(list(found.values()))


def with_clusters(run: Run, store: Store, name: str, clusters: np.ndarray, seed: int) -> Run:
    """Return the run of another seed with other clusters."""
    table = pd.read_parquet(run.cluster.file("assignments.parquet")).assign(cluster=clusters)
    with store.drafting("cluster", name * 12) as draft:
        table.to_parquet(draft.file("assignments.parquet"))
        made = draft.commit(replace(run.cluster.card, fingerprint=name * 12, files={}))
    return replace(run, cluster=made, seed=seed)


def test_seeds_with_other_clusters_are_a_doubt_also_without_labels(runs: list[Run], tmp_path: Path) -> None:
    run, store = runs[0], Store(tmp_path)
    known = pd.read_parquet(run.cluster.file("assignments.parquet"))["cluster"].to_numpy()
    renamed = with_clusters(run, store, "a", 1 - known, 1)
    shuffled = with_clusters(run, store, "b", np.random.default_rng(0).permutation(known), 2)
    assert seeds_agree([run]).finding == "too little"
    assert seeds_agree([run, run]).numbers == "nothing in this arm depends on the seed"
    assert seeds_agree([run, renamed]).finding == "passed", "the numbers of clusters mean nothing"
    assert seeds_agree([run, shuffled])[3:5] == ("against", "the clusters depend on the seed")


def test_an_even_ami_is_no_reassurance_where_its_interval_is_wide(runs: list[Run]) -> None:
    run, row = runs[0], row_of(runs[0])
    over_seeds = ScoresByArm([row | {"ami": None, "ami_density": 0.0}]).over_seeds("main")
    for high, finding in ((0.05, "passed"), (0.3, "too little")):
        column = replace(run.clusters.scores.against["density"], ami_low=-0.01, ami_high=high)
        scores = replace(run.clusters.scores, against={"density": column})
        wide = replace(run)
        wide.__dict__["clusters"] = replace(run.clusters, scores=scores)
        assert nuisance("density", wide, over_seeds, plates=1).finding == finding


def test_few_steps_and_a_queue_of_random_keys_are_too_little_to_judge_a_training(runs: list[Run]) -> None:
    run = runs[0]
    assert run.model is not None
    assert steps(run)[1:4:2] == ("no", "too little") and loss_below_chance(run).finding in ("passed", "against")
    few, many = (replace(run, model=with_steps(run.model, number)) for number in (2, 10_000))
    queue = few.model.card.section["branches"]["context"]["objective"]["queue"]  # type: ignore[union-attr]
    assert 2 * few.model.card.section["batch"] >= queue, "16 keys are replaced in one step"  # type: ignore[union-attr]
    assert loss_below_chance(replace(run, model=with_steps(run.model, 0))).doubt == "a queue that was never full"
    assert steps(many).finding == "passed"


def with_steps(model: Artifact, number: int) -> Artifact:
    return replace(model, card=replace(model.card, metrics={**model.card.metrics, "steps": number}))


def test_the_summary_counts_checks_and_never_reassures_where_there_is_too_little() -> None:
    passed, against = Check("a", "yes", "", "passed"), Check("b", "no", "", "against", "clusters follow the plate")
    scarce, other = too_little("c", "only one seed was run", "one seed only"), not_made("d", "nothing was trained")
    assert summary([passed, passed]) == "2 of 2 checks passed."
    text = summary([passed, against, scarce, scarce, other])
    assert text.startswith("1 of 5 checks passed. 1 speaks against this result: clusters follow the plate. ")
    assert text.endswith("For 2 there is too little to judge: one seed only. 1 does not apply, or could not be made.")
    assert summary([scarce, other]).startswith("0 of 2 checks passed.")


def test_a_page_without_labels_says_how_little_was_checked(chain: Chain, tmp_path: Path) -> None:
    unlabelled = tmp_path / "tiny.toml"
    unlabelled.write_text(re.sub(r"treated = .*|\[evaluate\]\nneighbours = 5", "", chain.recipe.read_text()))
    words = ["--store", tmp_path, "--store", chain.root, "--set", "pretrain.epochs=1", "--arm", "main"]
    page = Path(say("run", unlabelled, *words, "--device", "cpu").line) / "report.html"
    text = " ".join(text for _, text in ParsedPage(page.read_text(encoding="utf-8")).texts)
    assert re.search(r"How sure\? \d of \d+ checks passed, .*, \d+ cannot be judged", text)
    scarce = text.partition("too little to judge: ")[2].partition(".")[0]
    assert all(word in scarce for word in ("training steps", "one seed only", "one plate only", "no labels"))


def answers_of(runs: list[Run], rows: list[Row]) -> dict[str, str]:
    """Return question -> answer of all checks."""
    return {question: answer for question, answer, *_ in checks(runs, ScoresByArm(rows))}


def clustered(chain: Chain, arm: str) -> pd.DataFrame:
    """Return the cells that were clustered, from the two parquet files only."""
    assigned = pd.read_parquet(chain.made("cluster", arm).file("assignments.parquet")).query("scored")
    cells = pd.read_parquet(chain.made("embed", arm).file("embeddings.parquet"))
    return assigned.merge(cells.rename(columns={"Metadata_cell_id": "cell_id"}), on="cell_id", how="left")


@pytest.mark.parametrize("arm", ARMS)
def test_scores_of_clusters_follow_from_the_parquet_files(chain: Chain, report: Artifact, arm: str) -> None:
    cells, row = clustered(chain, arm), csv_row(report, arm)
    label, found = cells["Metadata_label"].to_numpy(str), cells["cluster"].to_numpy()
    controls = cells[cells["Metadata_control"]]
    crowded = cells["Metadata_neighbours"] > cells["Metadata_neighbours"].median()
    phenotype = cells["Metadata_true_phenotype"].to_numpy(str)
    expected = {
        "cells": len(cells),
        "k": len(np.unique(found)),
        "ami": metrics.adjusted_mutual_info_score(label, found),
        "ami_max": metrics.adjusted_mutual_info_score(label, found, average_method="max"),
        "ami_density": metrics.adjusted_mutual_info_score(crowded, found),
        "ami_phenotype": metrics.adjusted_mutual_info_score(phenotype, found),
        "ami_well_in_controls": metrics.adjusted_mutual_info_score(controls["Metadata_Well"], controls["cluster"]),
        "ceiling": metrics.adjusted_mutual_info_score(label, phenotype),
    }
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert row["ami_plate"] == row["ami_plate_in_controls"] == "", "one plate has no AMI"


@pytest.mark.parametrize("arm", ARMS)
def test_shuffled_labels_and_the_interval_can_be_computed_again(chain: Chain, report: Artifact, arm: str) -> None:
    cells, row = clustered(chain, arm), csv_row(report, arm)
    label, found = cells["Metadata_label"].to_numpy(str), cells["cluster"].to_numpy()
    rng = np.random.default_rng(5)
    shuffled = [metrics.adjusted_mutual_info_score(rng.permutation(label), found) for _ in range(200)]
    drawn = np.array([_ami_of(label, found, rng.integers(0, len(label), len(label))) for _ in range(300)])
    moved = drawn - drawn.mean() + float(row["ami"])  # cells drawn twice agree with themselves
    assert float(row["shuffled"]) == pytest.approx(np.mean(shuffled), abs=0.01)
    assert float(row["shuffled_sd"]) == pytest.approx(np.std(shuffled, ddof=1), rel=0.5)
    assert [float(row["ami_low"]), float(row["ami_high"])] == pytest.approx(
        np.quantile(moved, [0.025, 0.975]), abs=0.05
    )


def _ami_of(label: np.ndarray, found: np.ndarray, rows: np.ndarray) -> float:
    return float(metrics.adjusted_mutual_info_score(label[rows], found[rows]))


@pytest.mark.parametrize("arm", ARMS)
def test_accuracies_and_confusions_follow_from_the_predictions(chain: Chain, report: Artifact, arm: str) -> None:
    made, row = chain.made("evaluate", arm), csv_row(report, arm)
    predictions = pd.read_parquet(made.file("predictions.parquet"))
    names = {"knn": "split", "linear": "split"}
    names |= {f"{one}_leave_one_well_out": "leave_one_well_out" for one in ("knn", "linear")}
    for name, scheme in names.items():
        here, classifier = predictions[predictions["scheme"] == scheme], name.partition("_")[0]
        expected = metrics.balanced_accuracy_score(here["label"], here[classifier])
        assert float(row[name]) == pytest.approx(expected), name
        confusion = metrics.confusion_matrix(here["label"], here[classifier])
        assert made.card.metrics[scheme][classifier]["confusion"] == confusion.tolist(), name


def test_counts_follow_from_the_tables_and_balance(chain: Chain, page: str) -> None:
    segment, split = chain.made("segment"), pd.read_parquet(chain.made("split").file("split.parquet"))
    kept, dropped = (len(pd.read_parquet(segment.file(f"{name}.parquet"))) for name in ("cells", "dropped"))
    rows = [row for row in table_rows(page, "stage") if row[0] in ("segment", "split", "cluster")]
    by_stage = {row[0]: row for row in rows}
    assert f"{kept + dropped:,} nuclei detected = {kept:,} kept" in by_stage["segment"][1]
    parts = split["split"].value_counts()
    left = kept - len(split)
    assert by_stage["split"][1] == (
        f"{kept:,} cells = {parts['train']:,} train + {parts['val']:,} val + {parts['test']:,} test + "
        f"{left:,} not used because of balancing"
    )
    assert by_stage["cluster"][1].startswith(f"{parts['test']:,} cells")
    assert {row[2] for row in by_stage.values()} == {"yes"}


def test_the_table_of_wells_shows_compounds_as_they_are_called(runs: list[Run], tmp_path: Path) -> None:
    from cellssl.stages.report.cell_counts import count_tables

    cluster = runs[0].cluster
    folder = shutil.copytree(cluster.path, tmp_path / "cluster")
    wells = pd.read_csv(folder / "wells.csv").assign(compound="NA")
    wells.loc[0, "compound"] = "'=1+1"  # as a table for spreadsheets has it
    wells.to_csv(folder / "wells.csv", index=False)
    written = replace(
        cluster.card.files["wells.csv"],
        bytes=(folder / "wells.csv").stat().st_size,
        sha256=sha256_of(folder / "wells.csv"),
    )
    card = replace(cluster.card, files={**cluster.card.files, "wells.csv": written})
    shown = count_tables(replace(runs[0], cluster=Artifact(folder, card)))[-1].blocks[0]  # type: ignore[union-attr]
    assert {row[2] for row in shown.rows} == {"=1+1", "NA"}  # type: ignore[union-attr]


def test_a_count_with_a_wrong_sum_is_reported(runs: list[Run]) -> None:
    from dataclasses import replace

    from cellssl.stages.report.cell_counts import count_tables

    run = runs[0]
    card = run.segment.card
    off = replace(card, metrics={**card.metrics, "detected": card.metrics["detected"] + 1})
    shown = count_tables(replace(run, segment=Artifact(run.segment.path, off)))[0]
    answers = [row[2] for row in shown.rows if row[0] == "segment" and "detected" in str(row[1])]  # type: ignore[union-attr]
    assert len(answers) == 1
    assert str(answers[0]).startswith("no: ")


def segment_of_plates(run: Run, folder: Path, counts: list[dict[str, int]], **limits: float) -> Run:
    """Return a run of so many plates with these counts; those that are not named are 0; `limits` stand in its card."""
    table = pd.read_csv(run.segment.file("counts.csv")).iloc[[0] * len(counts)] * 0
    table["plate"] = [f"P{number}" for number in range(1, len(counts) + 1)]
    for column in {name for one in counts for name in one}:
        table[column] = [one.get(column, 0) for one in counts]
    shutil.copytree(run.segment.path, folder)
    areas = dict.fromkeys(("min_area_px", "max_area_px", "min_area_um2", "max_area_um2"))
    card = replace(run.segment.card, section={**run.segment.card.section, **areas, **limits})
    copied = replace(run, segment=Artifact(folder, card))
    return with_file(copied, "counts.csv", lambda path: table.to_csv(path, index=False))


def with_file(run: Run, name: str, write: Callable[[Path], object]) -> Run:
    """Return the run with another file in its segment artifact."""
    folder, card = run.segment.path, run.segment.card
    write(folder / name)
    written = replace(card.files[name], bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
    return replace(run, segment=Artifact(folder, replace(card, files={**card.files, name: written})))


def test_every_plate_has_a_line_that_says_what_was_dropped(runs: list[Run], tmp_path: Path) -> None:
    from cellssl.stages.report.cell_counts import count_tables

    counts = [{"detected": 389, "kept": 1, "too_small": 354, "edge": 34}, {"detected": 7, "kept": 7}, {"detected": 0}]
    tables = [
        one for one in count_tables(segment_of_plates(runs[0], tmp_path / "segment", counts)) if isinstance(one, Table)
    ]
    (shown,) = [table for table in tables if table.header[0] == "plate"]
    assert shown.rows == [
        ["P1", 389, 1, "0 %", "354 too small, 34 at the edge"],
        ["P2", 7, 7, "100 %", ""],
        ["P3", 0, 0, "0 %", ""],
    ]


def test_merged_lobes_are_counted_on_the_page_where_lobes_are_merged(runs: list[Run], tmp_path: Path) -> None:
    from cellssl.stages.report.cell_counts import count_tables

    run = segment_of_plates(runs[0], tmp_path / "segment", [{"detected": 7, "kept": 7, "merged_lobes": 3}])
    card = replace(run.segment.card, metrics={**run.segment.card.metrics, "merged_lobes": 3})
    merging = replace(run, segment=Artifact(run.segment.path, card))
    stages, plates = (
        next(one for one in count_tables(merging) if isinstance(one, Table) and one.header[0] == head)
        for head in ("stage", "plate")
    )
    found = card.metrics["detected"] + 3
    assert f"{found:,} nuclei found; 3 of them became part of another one, as lobes" in [row[1] for row in stages.rows]
    assert dict(zip(plates.header, plates.rows[0], strict=True))["lobes merged"] == 3
    assert "lobes" not in str(count_tables(run))


def test_a_reason_that_drops_more_than_half_of_a_plate_is_a_doubt_that_names_the_limit(
    runs: list[Run], tmp_path: Path
) -> None:
    most, half = {"detected": 100, "kept": 49, "too_small": 51}, {"detected": 100, "kept": 50, "blurred": 50}
    capped = {"detected": 100, "kept": 10, "over_cap": 90}
    run = segment_of_plates(runs[0], tmp_path / "segment", [most, half, capped])
    (sentence,) = [one for one in cautions(run) if one.startswith("plate ")]
    assert sentence.startswith("plate P1: 51 of 100 nuclei were dropped, too small: the limit is segment.min_area_")
    found = next(one for one in checks([run], ScoresByArm([row_of(run)])) if one.question.startswith("Does every cell"))
    assert found.finding == "against"
    assert sentence in found.numbers


@pytest.mark.parametrize(
    ("pixel_um", "limits", "cure"),
    [
        (0.5, {}, "segment.min_area_um2 = 25; lower it, or correct fetch.dataset.pixel_um"),
        (np.nan, {}, "segment.min_area_px = 100; lower it, or set fetch.dataset.pixel_um, and the limit is in um2"),
        (0.5, {"min_area_px": 1200.0}, "segment.min_area_px = 1200; lower it"),
        (0.5, {"min_area_um2": 60.0}, "segment.min_area_um2 = 60; lower it, or correct fetch.dataset.pixel_um"),
    ],
)
def test_the_page_names_the_limit_that_was_applied(
    runs: list[Run], tmp_path: Path, pixel_um: float, limits: dict[str, float], cure: str
) -> None:
    lost = [{"detected": 100, "kept": 49, "too_small": 51}]
    run = segment_of_plates(runs[0], tmp_path / "segment", lost, **limits)
    fields = read_fields(run.segment).assign(plate="P1", pixel_um=pixel_um)
    (sentence,) = mostly_dropped(with_file(run, "fields.parquet", fields.to_parquet))
    assert sentence == f"plate P1: 51 of 100 nuclei were dropped, too small: the limit is {cure}"


def test_many_plates_that_lost_most_nuclei_are_counted(runs: list[Run], tmp_path: Path) -> None:
    lost = {"detected": 100, "kept": 40, "ragged": 60}
    sentences = cautions(segment_of_plates(runs[0], tmp_path / "segment", [lost] * 9))
    assert sum(one.startswith("plate ") for one in sentences) == 3
    assert "so it is on 6 further plates" in sentences


def table_rows(html: str, first_head: str) -> list[list[str]]:
    """Return the rows of the first table whose first column has this head."""
    for table in re.findall(r"<table>.*?</table>", html, re.DOTALL):
        heads = [_plain(head) for head in re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)]
        if heads[0] == first_head:
            rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
            return [[_plain(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]
    raise AssertionError(f"no table begins with {first_head}")


def table_with(html: str, head: str) -> list[list[str]]:
    """Return the rows of the first table that has a column of this head."""
    for table in re.findall(r"<table>.*?</table>", html, re.DOTALL):
        if head in [_plain(each) for each in re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)]:
            return table_rows(table, _plain(re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)[0]))
    raise AssertionError(f"no table has the column {head}")


def _plain(html: str) -> str:
    from html import unescape

    return unescape(re.sub(r"<[^>]*>", "", html))


def test_the_first_table_shows_the_scores_to_two_digits(report: Artifact, page: str) -> None:
    rows = {row[0]: row for row in table_with(page, "AMI with label")}
    for arm in ARMS:
        assert float(rows[arm][2]) == pytest.approx(float(csv_row(report, arm)["ami"]), abs=0.005)


def test_the_page_says_what_was_compared_and_how_reliable_it_is(page: str, runs: list[Run]) -> None:
    words = " ".join(text for _, text in ParsedPage(page).texts)
    for fact in (
        "Simulated cells",
        "1 plate, 8 wells (4 of them untreated controls)",
        "sim-nocodazole",
        "shuffled labels",
        "Baselines, which learn nothing: intensities",
        "only one seed was run",
        "8 wells",
        "too little to judge: 68 clustered cells, only 88 training steps, one seed only, clusters of one plate only",
        "Add a second plate",
        "How reliable is it?",
        "What to check next",
        "there is only one group, Sim1_00001; leave-one-out needs two or more",
        "dna blue, tubulin green, actin orange-red",
        "Each square is 23.8 µm wide",
        "on the plane in which their vectors differ most (first two principal components)",
    ):
        assert fact in words, fact
    for artifact in runs[0].chain().values():
        assert artifact.fingerprint in words, artifact.card.kind


def test_mechanisms_are_shown_by_normalisation_with_mean_and_standard_deviation_over_seeds(runs: list[Run]) -> None:
    from dataclasses import replace

    from cellssl.stages.report.profile_tables import profile_section

    def seed(number: int, percentile: float) -> Run:
        assert runs[0].evaluate is not None
        after = {"percentile": percentile, "none": 0.4}
        found = {
            "normalise": "percentile",
            "treatments": 103,
            "right": 81,
            "accuracy": percentile,
            "accuracy_after": after,
        }
        card = replace(runs[0].evaluate.card, metrics={"nsc": found, "not_computed": {"nscb": "one batch only"}})
        return replace(runs[0], seed=number, evaluate=Artifact(runs[0].evaluate.path, card))

    table, missing = profile_section([seed(0, 0.78), seed(1, 0.80)])[0].blocks
    nsc = "mechanism of the nearest treatment of another compound (NSC)"
    assert table.rows == [  # type: ignore[union-attr]
        ["main", nsc, "0.79 ± 0.01", 81, 103, "percentile"],
        ["main", nsc, "0.40 ± 0.00", None, 103, "none (not chosen)"],
    ]
    assert missing.items == [
        "mechanism of the nearest treatment of another compound and batch (NSCB): not computed, because one batch only"
    ]  # type: ignore[union-attr]


def test_the_papers_numbers_are_shown_also_for_arms_that_were_not_run(runs: list[Run]) -> None:
    from cellssl.stages.report.score_tables import paper_table

    rows = [row_of(runs[0]) | {"ami": ami, "seed": seed} for seed, ami in enumerate((0.5, 0.52))]
    beside = paper_table(ScoresByArm(rows), {"main": "0.51 ± 0.02", "imagenet": "0.39"})
    assert beside.rows == [["main", "0.51 ± 0.01", "0.51 ± 0.02", 2], ["imagenet", "not run", "0.39", 0]]


def test_clusters_that_follow_the_plate_are_reported(runs: list[Run]) -> None:
    row = row_of(runs[0]) | {"ami": 0.3, "ami_plate": 0.9, "ami_plate_in_controls": 0.95}
    answers = answers_of(runs[:1], [row])
    assert answers["Do the clusters follow the plate?"] == "yes, be careful"
    assert any("Clusters follow the plate" in step for step in next_steps(runs[:1], ScoresByArm([row])))
    assert "clusters follow plate at least as much" in " ".join(answered(runs[:1], ScoresByArm([row])))


def test_clusters_that_follow_the_label_with_every_seed_pass_the_checks(runs: list[Run]) -> None:
    clear = {"ami": 0.6, "ami_low": 0.55, "ami_high": 0.65, "ami_plate": 0.0, "ami_plate_in_controls": 0.0}
    rows = [row_of(runs[0]) | clear | {"ami_density": 0.0, "seed": seed} for seed in range(5)]
    answers = answers_of(runs[:1], rows)
    assert answers["Do the clusters agree with the label more than by chance?"] == "yes"
    assert answers["Do other seeds give the same agreement with the label?"] == "yes"
    assert answers["Do the clusters follow the plate?"] == answers["Do the clusters follow cell density?"] == "no"
    assert not any("more seeds" in step for step in next_steps(runs[:1], ScoresByArm(rows)))


def test_the_leading_arm_is_a_trained_one(runs: list[Run]) -> None:
    rows = [row_of(one) for one in runs]
    rows[1] |= {"ami": 0.9}
    assert ScoresByArm(rows).leading == "main"
    assert "The baselines are as good" in " ".join(next_steps(runs, ScoresByArm(rows)))
    assert "not clearly better than a baseline" in answered(runs, ScoresByArm(rows))[-1]


@pytest.mark.parametrize(
    ("main", "answer"), [((0.5, 0.52, 0.51), "yes"), ((0.2, 0.52, 0.3), "not clearly"), ((0.5,), "on one seed")]
)
def test_an_arm_is_better_than_a_baseline_where_its_seeds_agree_on_it(
    runs: list[Run], main: tuple[float, ...], answer: str
) -> None:
    base = [row_of(runs[1]) | {"ami": 0.25, "seed": seed} for seed in range(len(main))]
    rows = [*(row_of(runs[0]) | {"ami": ami, "seed": seed} for seed, ami in enumerate(main)), *base]
    answers = answers_of(runs, rows)
    assert answers["Is it better than the baselines, which learn nothing?"] == answer


def test_cells_without_labels_make_a_page_without_scores(runs: list[Run]) -> None:
    nothing = dict.fromkeys(("ami", "ami_low", "ami_high", "ami_max", "shuffled", "shuffled_sd", "ceiling"))
    rows = [row_of(runs[0]) | nothing]
    text = " ".join(answered(runs[:1], ScoresByArm(rows)))
    assert "no cell has a label to compare them with" in text
    assert "No cell is labelled, so how well clusters agree with a label is not known" in " ".join(
        of_clusters(runs[:1], ScoresByArm(rows))
    )
    assert "treated and untreated cells" not in text
    from cellssl.stages.report.score_tables import score_blocks

    assert "treated or not" not in str(score_blocks(ScoresByArm(rows), {}))
    found = {one.question: one for one in checks(runs[:1], ScoresByArm(rows))}
    above_chance = found["Do the clusters agree with the label more than by chance?"]
    assert above_chance[1:4] == ("not known", "no cell is labelled", "too little")
    assert "no labels" in summary(checks(runs[:1], ScoresByArm(rows))).partition("too little to judge: ")[2]


def test_the_page_is_small(report: Artifact, page: str) -> None:
    drawn = report.path.glob("figures/*.png")
    assert len(page) < 3_000_000
    assert page.count("data:image/jpeg") >= 3, "pictures of cells"
    assert {file.name for file in drawn} >= {"neighbours.png", "confusions.png", "views-main.png", "curves-main.png"}


def test_the_scores_are_on_stdout_where_csv_is_asked_for(chain: Chain, report: Artifact) -> None:
    said = chain.say("report", "--csv")
    assert said.code == 0
    assert said.out == report.file("scores.csv").read_text(encoding="utf-8")
    assert chain.say("report", "--csv", "--json").code == 2


def test_with_json_the_scores_are_in_the_object(chain: Chain, report: Artifact) -> None:
    found = json.loads(chain.say("report", "--json").line)["metrics"]["scores"]
    assert [row["arm"] for row in found] == list(ARMS)
    assert found[0]["ami"] == float(csv_row(report, "main")["ami"])


def by_hand(chain: Chain, *artifacts: Artifact) -> Any:
    return say("report", *(one.path for one in artifacts), "--store", chain.root, "--csv")


def test_clusters_and_evaluations_given_by_hand_have_the_same_numbers(chain: Chain, report: Artifact) -> None:
    artifacts = [chain.made(stage, arm) for stage in ("evaluate", "cluster") for arm in ARMS]
    rows = list(csv.DictReader(by_hand(chain, *artifacts).out.splitlines()))
    assert [row["arm"] for row in rows] == ["context", "intensities"]
    for row, arm in zip(rows, ARMS, strict=True):
        same = csv_row(report, arm)
        assert {**row, "arm": arm} == same


@pytest.mark.soak
def test_seeds_given_by_hand_are_one_arm_and_other_settings_another(chain: Chain) -> None:
    command = ["cluster", "--arm", "intensities", "--set"]
    other = Path(chain.say(*command, "cluster.k=3").line)
    seed = Path(chain.say("cluster", "--arm", "intensities", "--seed", "1").line)
    artifacts = [chain.made("cluster", "main"), *(chain.store.get("cluster", path.name) for path in (seed, other))]
    chain.say("run")  # points to the first seed again
    first = chain.store.get("cluster", scores_fingerprint(chain))
    rows = list(csv.DictReader(by_hand(chain, first, *artifacts, first).out.splitlines()))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("intensities", "0"),
        ("intensities", "1"),
        ("context", "0"),
        ("intensities-2", "0"),
    ]


def scores_fingerprint(chain: Chain) -> str:
    """Return the clustering of the arm `intensities` by the recipe, whatever tests point to."""
    found = json.loads(chain.say("run", "--to", "cluster", "--arm", "intensities", "--json").line)
    return str(found["fingerprint"])


def test_an_evaluation_without_its_clusters_is_an_error(chain: Chain) -> None:
    said = by_hand(chain, chain.made("evaluate", "main"), chain.made("cluster", "intensities"))
    assert said.code == 2
    assert "no cluster artifact of the same vectors" in said.err


SORTED = """
<script>
const heads = [...document.querySelectorAll("th")].filter(head => head.textContent.trim() === "AMI with label");
heads[0].querySelector("[role=button]").dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
const rows = [...heads[0].closest("table").tBodies[0].rows];
document.title = "sorted " + rows.map(row => row.cells[0].textContent).join(",");
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_chromium_opens_the_page_without_messages_and_sorts(page: str, report: Artifact, tmp_path: Path) -> None:
    pages = {"plain": page, "clicked": re.sub(r'<meta http-equiv="Content.*?>', "", page).replace("</body>", SORTED)}
    assert pages["clicked"] != page
    seen = {}
    for name, html in pages.items():
        (tmp_path / f"{name}.html").write_text(html, encoding="utf-8")
        seen[name] = chromium(tmp_path / f"{name}.html", tmp_path / "profile")
    assert "CONSOLE" not in seen["plain"].stderr
    lower, higher = sorted(ARMS, key=lambda arm: float(csv_row(report, arm)["ami"]))
    assert f"<title>sorted {lower},{higher}</title>" in seen["clicked"].stdout
    heads = re.findall(r"<thead>.*?</thead>", seen["plain"].stdout, re.DOTALL)
    assert heads and not any("<button" in head for head in heads), (
        "which Chromium leaves out where print repeats a table's head"
    )


WIDTH = """
<script>
document.querySelectorAll("details").forEach(each => each.open = true);
const wide = document.documentElement.clientWidth;
const out = [...document.querySelectorAll("body *")].filter(
  each => (each.tagName === "CAPTION" || !each.closest(".table")) && each.getBoundingClientRect().right > wide + 1);
parent.document.title = `${innerWidth} px, ${out.length} too wide: ${out.map(each => each.tagName)}`;
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width_px", [390, 1400])
def test_only_wide_tables_are_wider_than_the_screen(page: str, tmp_path: Path, width_px: int) -> None:
    html = re.sub(r'<meta http-equiv="Content.*?>', "", page).replace("</body>", f"{WIDTH}</body>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    frame = f'<!DOCTYPE html><iframe src="page.html" style="width:{width_px}px;height:800px;border:0"></iframe>'
    (tmp_path / "frame.html").write_text(f"<title>x</title>{frame}", encoding="utf-8")
    seen = chromium(tmp_path / "frame.html", tmp_path / "profile", "--allow-file-access-from-files").stdout
    assert f"<title>{width_px} px, 0 too wide:" in seen


def test_class_2_stands_before_class_10_in_tables_and_confusions() -> None:
    from cellssl.stages.report.classification_tables import _per_class
    from cellssl.stages.report.figures import _in_order

    found = ClassifierAccuracy(
        accuracy=0.5,
        accuracy_interval=None,
        balanced_accuracy=0.5,
        balanced_accuracy_interval=None,
        per_class={"c10": 0.5, "c2": 1.0, "c1": 0.0},
        per_class_interval={"c10": (0.4, 0.6)},
        resampled="wells",
        shuffled_mean=0.3,
        shuffled_sd=None,
        classes=(),
        confusion=(),
    )
    assert _per_class(SchemeMetrics(3, 1, {"knn": found, "linear": found})) == [
        ["c1", 0.0, "–", 0.0, "–"],
        ["c2", 1.0, "–", 1.0, "–"],
        ["c10", 0.5, "0.40 to 0.60", 0.5, "0.40 to 0.60"],
    ]
    classes, counts = _in_order(["c1", "c10", "c2"], np.arange(9).reshape(3, 3))
    assert classes == ["c1", "c2", "c10"]
    assert counts.tolist() == [[0, 2, 1], [6, 8, 7], [3, 5, 4]]


def test_a_scale_bar_needs_one_pixel_size_of_all_cells() -> None:
    from cellssl.stages.shared.scaled_crops import common_pixel_um

    nan = float("nan")
    sizes = {(0.5, 0.5): 0.5, (0.5, 0.25): None, (nan, nan): None, (0.5, nan): None}
    for each, common in sizes.items():
        assert common_pixel_um(pd.DataFrame({"pixel_um": each})) == common, each


def chromium(file: Path, profile: Path, *more: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *flags, *more, "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arm", ARMS)
def test_agreement_with_every_column_on_the_page_is_that_of_the_parquet_files(
    chain: Chain, page: str, arm: str
) -> None:
    from cellssl.stages.report.score_tables import COLUMNS

    cells = clustered(chain, arm)
    found = cells["cluster"].to_numpy()
    crowded = cells["Metadata_neighbours"] > cells["Metadata_neighbours"].median()
    known = {
        "label": cells["Metadata_label"].to_numpy(str),
        "well": cells["Metadata_Well"].to_numpy(str),
        "density": crowded.to_numpy(),
        "true_phenotype": cells["Metadata_true_phenotype"].to_numpy(str),
    }
    rows = {row[1]: row for row in agreement_rows(page) if row[0] == arm}
    known = {COLUMNS.get(column, column): labels for column, labels in known.items()}
    assert known.keys() <= rows.keys()
    for column, labels in known.items():
        expected = [
            metrics.adjusted_mutual_info_score(labels, found),
            metrics.adjusted_mutual_info_score(labels, found, average_method="max"),
            metrics.normalized_mutual_info_score(labels, found),
            metrics.adjusted_rand_score(labels, found),
            metrics.homogeneity_score(labels, found),
        ]
        assert [float(cell) for cell in rows[column][2:7]] == pytest.approx(expected, abs=0.0051), column
        assert rows[column][9:] == [str(len(set(labels))), str(len(labels))], column


def agreement_rows(page: str) -> list[list[str]]:
    """Return the rows of the table of agreements with every column."""
    return table_rows(page.partition("Agreement of clusters with all that is known of the cells")[2], "arm")


def test_few_cells_are_no_doubt_where_a_narrow_interval_lies_around_0(runs: list[Run]) -> None:
    questions = {}
    for reach in (0.015, 0.2):
        row = row_of(runs[0]) | {"ami": 0.001, "ami_low": -reach, "ami_high": reach}
        questions[reach] = answers_of(runs[:1], [row])
    assert (
        questions[0.015]["Are there enough cells to know how well clusters and label agree?"] == "yes, for these wells"
    )
    assert (
        questions[0.2]["Are there enough cells to know how well clusters and label agree?"]
        == "barely: the interval is wide"
    )


def test_the_lead_and_the_table_agree_on_whether_few_cells_are_more_than_chance(runs: list[Run]) -> None:
    row = row_of(runs[0]) | {"ami": 0.05, "shuffled": 0.0, "shuffled_sd": 0.03}
    answers = answers_of(runs[:1], [row])
    assert answers["Do the clusters agree with the label more than by chance?"] == "no"
    assert "do not separate (no better than shuffled labels" in answered(runs[:1], ScoresByArm([row]))[0]


def test_an_arm_that_is_clearly_worse_than_a_baseline_is_reported(runs: list[Run]) -> None:
    mine = [row_of(runs[0]) | {"ami": 0.1 + seed / 100, "seed": seed} for seed in range(3)]
    base = [row_of(runs[1]) | {"ami": 0.5, "seed": seed} for seed in range(3)]
    answers = answers_of(runs, [*mine, *base])
    assert answers["Is it better than the baselines, which learn nothing?"] == "no, it is worse"
    assert "worse than a baseline" in answered(runs, ScoresByArm([*mine, *base]))[-1]


def test_a_report_of_baselines_alone_says_whether_they_separate_and_that_nothing_was_trained(runs: list[Run]) -> None:
    rows = [row_of(runs[1]) | {"ami": 0.6}]
    assert "With “intensities”, treated and untreated cells separate (AMI of 0.5 or more): AMI 0.60" in " ".join(
        answered(runs[1:], ScoresByArm(rows))
    )
    numbers = {one.question: one.numbers for one in checks(runs[1:], ScoresByArm(rows))}
    assert numbers["Did the network see the test data in training?"] == "nothing was trained on these cells"
    assert not any("the network never saw" in step for step in next_steps(runs[1:], ScoresByArm(rows)))


@pytest.mark.parametrize(("base", "is_named"), [(0.9, True), (0.7, False)])
def test_a_baseline_whose_vectors_predict_the_label_as_well_is_named(
    runs: list[Run], base: float, *, is_named: bool
) -> None:
    rows = [row_of(runs[0]) | {"ami": 0.5, "linear": 0.8}, row_of(runs[1]) | {"ami": 0.1, "linear": base}]
    words = "A linear classifier of the vectors predicts the label at least as well from “intensities”"
    assert any(step.startswith(words) for step in next_steps(runs, ScoresByArm(rows))) == is_named


def test_a_collapsed_training_is_reported_at_the_top_of_the_page(chain: Chain, tmp_path: Path) -> None:
    shrink = ["--set", "pretrain.weight_decay=30", "--set", "pretrain.learning_rate=0.1", "--arm", "main"]
    folder = chain_with(chain, tmp_path, *shrink)
    texts = [text for _, text in ParsedPage((Path(folder) / "report.html").read_text(encoding="utf-8")).texts]
    words = " ".join(texts[:35])
    assert "The training of “main” ended close to a collapse (seed 0): the projections of its branch “context”" in words
    assert "speak against it (the network has collapsed" in words
    assert any(
        text.startswith("Look at the training curves and at the views: training collapses where") for text in texts
    )


def chain_with(chain: Chain, tmp_path: Path, *words: object) -> str:
    """Return the folder of the report with other settings; unchanged stages come from the store of the chain."""
    stores = ["--store", tmp_path / "store", "--store", chain.root]
    return say("run", chain.recipe, *stores, "--device", "cpu", *words).line


def test_cells_that_are_all_in_one_cluster_have_collapsed(runs: list[Run]) -> None:
    row = row_of(runs[0])
    assert row["clusters_filled"] == 2 and "collapsed" not in " ".join(answered(runs[:1], ScoresByArm([row])))
    flat = row | {"clusters_filled": 1}
    assert answered(runs[:1], ScoresByArm([flat]))[0].startswith(
        "“main” has collapsed (seed 0): all cells are in one cluster"
    )
    answers = {one.question: one for one in checks(runs[:1], ScoresByArm([flat]))}
    assert answers["Do the vectors of different cells differ?"].doubt == "the network has collapsed"


def test_one_control_well_per_plate_gives_no_score_of_wells() -> None:
    from cellssl.stages.report.scores import plate_ami_in_controls, well_ami_in_controls

    cells = pd.DataFrame({"plate": ["p", "p", "q", "q"] * 5, "well": "B02", "cluster": [0, 0, 1, 1] * 5})
    one = cells.assign(control=True)
    assert plate_ami_in_controls(one) == pytest.approx(1.0)
    assert well_ami_in_controls(one) is None
    two = cells.assign(control=True, well=["B02", "B03", "C02", "C03"] * 5, cluster=[0, 1, 0, 0] * 5)
    assert well_ami_in_controls(two) == pytest.approx(0.5), "one plate's clusters are its wells, the other's are not"


def test_plates_that_were_not_compared_are_not_called_one_plate(runs: list[Run]) -> None:
    row = row_of(runs[0]) | {"plates": 3, "ami_plate": None, "ami_plate_in_controls": None}
    found = next(
        one for one in checks(runs[:1], ScoresByArm([row])) if one.question == "Do the clusters follow the plate?"
    )
    assert found.answer == "not known" and "cluster.against leaves out the plate" in found.numbers


def test_the_upper_bound_is_stated_where_it_is_below_full_agreement(runs: list[Run]) -> None:
    row = row_of(runs[0])
    assert any(
        "Upper bound of the AMI given the labels: 0." in words for words in of_clusters(runs[:1], ScoresByArm([row]))
    )
    assert "Upper bound" not in " ".join(of_clusters(runs[:1], ScoresByArm([row | {"ceiling": 1.0}])))


def test_a_new_score_is_one_entry_and_stands_in_csv_table_and_page(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cellssl.stages.report import scores

    made_up = scores.Score(
        "cells_per_cluster",
        "cells per cluster",
        lambda results: results.clusters.cells / results.clusters.k,
        higher_is_better=True,
        caption="Cells per cluster: a made-up score.",
        per_arm=True,
        summary_head="cells per cluster",
        per_run=True,
    )
    monkeypatch.setattr(scores, "SCORES", (*scores.SCORES, made_up))
    folder = Path(say("report", chain.recipe, "--store", tmp_path, "--store", chain.root, "--force").line)
    with (folder / "scores.csv").open(encoding="utf-8") as file:
        values = {row["arm"]: float(row["cells_per_cluster"]) for row in csv.DictReader(file)}
    expected = {arm: chain.made("cluster", arm).card.metrics for arm in ARMS}
    assert values == {arm: found["cells"] / found["k"] for arm, found in expected.items()}
    table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    assert "cells per cluster" in table["header"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Cells per cluster: a made-up score." in page
    for row in table_with(page, "cells per cluster"):
        assert f"{values[row[0]]:.2f}" in row


def test_every_score_has_its_own_name_and_its_column_in_the_csv(report: Artifact) -> None:
    from cellssl.stages.report.scores import SCORES

    names = [score.name for score in SCORES]
    assert len(set(names)) == len(names)
    with report.file("scores.csv").open(encoding="utf-8") as file:
        columns = list(csv.DictReader(file).fieldnames or ())
    assert columns[:3] == ["arm", "seed", "baseline"]
    assert columns[3:] == [name for name in names if name in columns]
    assert {score.name for score in SCORES if not score.optional} <= set(columns)


def test_a_sweep_may_choose_by_the_scores_that_sweeps_follow() -> None:
    from typing import get_args

    from cellssl.config import sweep
    from cellssl.stages.report.scores import SCORES, followed_scores

    assert set(get_args(sweep.Score)) == set(followed_scores())
    assert all(score.higher_is_better is not None for score in SCORES if score.sweep is not None)


def test_chance_is_that_of_the_evaluated_label(chain: Chain, tmp_path: Path) -> None:
    """The label of the clusters has two classes, the doses five."""
    words = ["run", chain.recipe, "--store", tmp_path, "--store", chain.root, "--arm", "main"]
    folder = Path(say(*words, "--set", "evaluate.label=dose_micromolar").line)
    assert "chance with 5 classes is 0.20" in (folder / "report.html").read_text(encoding="utf-8")


def test_what_reads_scores_and_draws_figures_of_a_report_loads_no_torch() -> None:
    names = ("stage", "runs", "figures", "label_free_checks", "findings", "sweep_section", "score_tables")
    code = "import sys\n" + "".join(f"import cellssl.stages.report.{name}\n" for name in names)
    code += "import cellssl.stages.pretrain.curves\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # half a gigabyte; only views need it


def test_an_intensity_scale_that_few_control_cells_set_is_a_doubt(runs: list[Run]) -> None:
    found = {one.question: one for one in checks(runs[:1], ScoresByArm([row_of(runs[0])]))}
    scale = found["Is the intensity scale sure?"]
    assert scale.finding == "against" and "control cells set the intensity scale, fewer than 200" in scale.numbers
