"""report --since: what changed against an earlier page, its numbers against both pages', and wrong uses."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from cellssl.artifacts.store import Artifact, Store
from cellssl.cli.summary import summary
from cellssl.reporting.html import Paragraph
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run, collect, row_of
from cellssl.stages.report.since import since_section
from cellssl.stages.report.since_arms import matched_arms
from cellssl.stages.report.since_scores import score_changes
from cellssl.stages.report.since_settings import setting_differences
from cellssl.stages.report.since_treatments import compared_treatments, treatment_sentences
from tests.chain import Chain, Said, say
from tests.reporting.test_html import ParsedPage

CHANGED = ("--set", "cluster.k=3", "--set", 'hits.normalise=["center_plate"]', "--arm", "main")

KINDS = ("cluster", "evaluate", "hits")


@pytest.fixture(scope="module")
def old(chain: Chain) -> Artifact:
    """The page of the chain."""
    return chain.store.get("report", Path(chain.say("report").line).name)


@pytest.fixture(scope="module")
def stores(chain: Chain, old: Artifact, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """A store with the clusters and hits of other settings, which reads that of the chain."""
    flags = ("--store", tmp_path_factory.mktemp("since"), "--store", chain.root)
    for stage in ("cluster", "evaluate", "hits"):
        assert say("run", chain.recipe, *flags, *CHANGED, "--to", stage).code == 0
    return flags


@pytest.fixture(scope="module")
def new(chain: Chain, old: Artifact, stores: tuple[object, ...]) -> Artifact:
    """The page of other settings, compared with that of the chain."""
    made = Path(say("report", chain.recipe, *stores, *CHANGED, "--since", old.fingerprint).line)
    return Store(made.parents[1]).get("report", made.name)


def section(report: Artifact) -> str:
    """Return the text of the section on what changed."""
    page = report.file("report.html").read_text(encoding="utf-8")
    return page.partition('id="since"')[2].partition("</section>")[0]


def words(report: Artifact) -> str:
    return " ".join(text for _, text in ParsedPage(section(report)).texts)


def scores(report: Artifact) -> dict[str, float]:
    with report.file("scores.csv").open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["arm"] == "main")
    return {name: float(row[name]) for name in ("ami", "silhouette")}


def test_the_words_and_the_table_have_the_scores_of_both_pages(old: Artifact, new: Artifact) -> None:
    then, now, shown = scores(old), scores(new), words(new)
    assert then["ami"] != now["ami"]
    assert f"“main” went from {then['ami']:.2f} to {now['ami']:.2f} (one seed)" in shown
    for name in ("ami", "silhouette"):
        assert f"{then[name]:.3f} {now[name]:.3f} {now[name] - then[name]:+.3f}" in shown


def test_the_page_lists_the_settings_that_differ_and_no_others(new: Artifact) -> None:
    shown = words(new)
    assert "cluster.k 2 → 3" in shown and "hits.normalise" in shown
    assert "pretrain" not in shown and "The data is the same" in shown
    assert "Arms of then that are not here: intensities." in shown


def test_the_agreement_of_clusters_is_scikit_learns(chain: Chain, old: Artifact, new: Artifact) -> None:
    store = Store(new.path.parents[1], (chain.root,))
    tables = [
        pd.read_parquet(store.get("cluster", one.card.inputs["main/0/cluster"]).file("assignments.parquet"))
        for one in (old, new)
    ]
    both = tables[0][tables[0]["scored"]].merge(tables[1][tables[1]["scored"]], on="cell_id")
    expected = adjusted_mutual_info_score(both["cluster_x"], both["cluster_y"])
    assert f"main 0 {expected:.3f} {len(both)}" in words(new)


def test_since_csv_has_the_effects_and_q_values_of_both(chain: Chain, old: Artifact, new: Artifact) -> None:
    table = pd.read_csv(new.file("since.csv")).set_index("dose_micromolar")
    store = Store(new.path.parents[1], (chain.root,))
    for when, report in (("then", old), ("now", new)):
        hits = pd.read_parquet(store.get("hits", report.card.inputs["main/0/hits"]).file("hits.parquet"))
        expected = hits.set_index("dose_micromolar").loc[table.index]
        for name in ("effect", "q_value"):
            assert table[f"{name}_{when}"].to_numpy() == pytest.approx(expected[name].to_numpy(), nan_ok=True)


def test_the_earlier_results_are_inputs_and_a_page_without_has_no_such_section(old: Artifact, new: Artifact) -> None:
    assert {f"since/{name}": one for name, one in old.card.inputs.items()}.items() <= new.card.inputs.items()
    assert 'id="since"' not in old.file("report.html").read_text(encoding="utf-8")


def test_gc_keeps_all_that_the_page_was_compared_with(chain: Chain, tmp_path: Path) -> None:
    root = shutil.copytree(chain.root, tmp_path / "store")
    plain = Path(say("report", chain.recipe, "--store", root).line)
    cluster = root / "cluster" / chain.made("cluster", "intensities").fingerprint
    shutil.rmtree(root / "by-recipe")
    compared = Path(say("report", chain.recipe, "--store", root, "--arm", "main", "--since", plain.name).line)
    assert say("gc", "--store", root, "--yes", "--older-than", "0").code == 0
    assert compared.is_dir() and cluster.is_dir() and plain.is_dir()
    again = say("report", chain.recipe, "--store", root, "--arm", "main", "--since", plain.name)
    assert again.line == str(compared)
    for name in ("report-since", "report-since-then"):
        (root / "by-recipe" / "tiny" / "main" / "all" / f"{name}.json").unlink()
    assert say("gc", "--store", root, "--yes", "--older-than", "0").code == 0
    assert not compared.is_dir() and not cluster.is_dir() and not plain.is_dir()


def test_nothing_changed_is_said_and_an_arm_may_be_called_since(chain: Chain) -> None:
    made = {f"since/0/{kind}": chain.made(kind) for kind in KINDS}
    inputs = {**made, **{f"since/{name}": one for name, one in made.items()}}
    job: Any = SimpleNamespace(
        inputs=inputs,
        context=SimpleNamespace(store=chain.store),
        card=SimpleNamespace(section={"since": {"named": ["0" * 12]}}),
    )
    runs = collect(inputs, chain.store)
    (found,) = since_section(job, runs, ScoresByArm([row_of(run) for run in runs]))
    assert [run.arm for run in runs] == ["since"]
    assert found.blocks == [Paragraph("Nothing changed since 000000000000: this page shows the very same results.")]


def wrong(chain: Chain, *named: object) -> Said:
    return chain.say("report", *(word for one in named for word in ("--since", one)))


def test_what_is_no_result_of_cells_is_refused_with_the_kinds_that_are(chain: Chain, old: Artifact) -> None:
    said = wrong(chain, chain.made("fetch").path)
    assert said.code == 2 and "artifact of fetch" in said.err and "report, cluster, evaluate, hits" in said.err
    assert wrong(chain, "0" * 12).code == 2
    for name in (chain.made("fetch").fingerprint, f"fetch/{chain.made('fetch').fingerprint}"):
        assert "is an artifact of fetch" in wrong(chain, name).err
    recipe = wrong(chain, chain.recipe)
    assert recipe.code == 2 and f"--since report/{old.fingerprint}" in recipe.err
    both = wrong(chain, old.fingerprint, chain.made("cluster").fingerprint)
    assert both.code == 2 and "is a report" in both.err
    alone = wrong(chain, chain.made("evaluate").fingerprint)
    assert alone.code == 2 and "no cluster artifact of the same vectors is given" in alone.err


def test_a_page_whose_results_are_gone_is_an_error_with_the_cure(chain: Chain, old: Artifact, tmp_path: Path) -> None:
    shutil.copytree(old.path, tmp_path / "store" / "report" / old.fingerprint)
    said = say("report", chain.recipe, "--store", tmp_path / "store", "--since", old.fingerprint)
    assert said.code == 2 and "are not in" in said.err and "one more --store" in said.err


def runs_of(chain: Chain, *arms: str) -> list[Run]:
    return collect({f"{arm}/0/{kind}": chain.made(kind, arm) for arm in arms for kind in KINDS}, chain.store)


def test_arms_named_by_hand_find_the_arm_of_the_same_branches(chain: Chain) -> None:
    now = runs_of(chain, "main", "intensities")
    then = [replace(one, arm=name) for one, name in zip(now, ("context", "intensities"), strict=True)]
    matched = matched_arms(then, now)
    assert {pair.then[0].arm: pair.arm for pair in matched.pairs} == {"context": "main", "intensities": "intensities"}
    assert matched.is_the_same and setting_differences(matched.pairs) == []


def test_one_trained_arm_is_compared_with_the_one_of_then_whatever_they_are_called(chain: Chain) -> None:
    now = runs_of(chain, "main", "intensities")
    then = [replace(now[0], arm="centre")]
    assert now[0].model is not None
    section = {**now[0].model.card.section, "branches": {"other": now[0].model.card.section["branches"]["context"]}}
    model = replace(now[0].model, card=replace(now[0].model.card, section=section))
    matched = matched_arms(then, [replace(now[0], model=model), now[1]])
    assert [(pair.then[0].arm, pair.arm) for pair in matched.pairs] == [("centre", "main")]
    assert matched.only_now == ("intensities",) and matched.only_then == ()


def test_the_terminal_says_what_changed(new: Artifact) -> None:
    said = " ".join(summary(new))
    assert new.card.metrics["since"].startswith("Since ") and new.card.metrics["since"] in said


def test_differences_are_paired_by_seed_with_students_interval() -> None:
    then = [{"arm": "a", "seed": seed, "ami": value} for seed, value in ((0, 0.1), (1, 0.3), (2, 0.9))]
    now = [{"arm": "b", "seed": seed, "ami": value} for seed, value in ((1, 0.4), (2, 1.2), (3, 0.0))]
    change = next(one for one in score_changes("b", then, now) if one.score.name == "ami")
    assert change.differences == pytest.approx((0.1, 0.3)) and change.difference == pytest.approx(0.2)
    assert "95 % interval of the difference" in change.sentence() and "2 seeds" in change.sentence()
    assert change.interval == pytest.approx((0.2 - 12.706 * 0.1, 0.2 + 12.706 * 0.1), abs=1e-3)


def test_a_difference_says_on_which_seeds_it_stands() -> None:
    then = [{"arm": "a", "seed": 0, "ami": 0.3}]
    for seeds, words in (((0,), "(one seed)"), ((0, 1), "(on the one seed that both have: +0.100)"), ((1,), "no seed")):
        now = [{"arm": "a", "seed": seed, "ami": 0.4 + seed} for seed in seeds]
        assert words in next(one.sentence() for one in score_changes("a", then, now) if one.score.name == "ami")


def test_a_treatment_that_changes_its_call_comes_first_and_is_named(chain: Chain, tmp_path: Path) -> None:
    run = runs_of(chain, "main")[0]
    table = pd.read_parquet(run.found_hits.file("hits.parquet"))
    flipped = table.assign(active=[i == 0 for i in range(len(table))], effect=table["effect"] + 1).iloc[:-1]
    store = Store(tmp_path)
    with store.drafting("hits", "0" * 12) as draft:
        flipped.to_parquet(draft.file("hits.parquet"))
        other = draft.commit(replace(run.found_hits.card, fingerprint="0" * 12, files={}))
    then = replace(run, hits_artifact=other)
    compared = compared_treatments(then, run)
    was = dict(zip(flipped["dose_micromolar"], flipped["active"], strict=True))
    for row in compared[compared["call_then"] != "not there"].to_dict("records"):
        assert (row["call_then"] == "active") == was[row["dose_micromolar"]]
        assert row["effect_change"] == pytest.approx(-1)
    assert compared["change"].iloc[-1] in ("", "came") and (compared["change"] == "came").sum() == 1
    assert "1 treatment more" in "; ".join(treatment_sentences(compared))


def test_the_metrics_of_the_page_stay_those_of_now(new: Artifact) -> None:
    rows = json.loads(new.file("scores.json").read_text(encoding="utf-8"))
    assert [row["arm"] for row in rows] == ["main"] and new.card.metrics["runs"] == 1
