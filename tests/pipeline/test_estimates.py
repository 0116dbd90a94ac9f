"""Estimates: what a recipe will take is said before it runs, from steps that are timed on this machine."""

import json
from pathlib import Path

import pytest
from chain import Chain, say

from cellssl.pipeline.estimates import Estimate, Estimates, _too_much


def dry_run(chain: Chain, store: Path, *words: object) -> dict[str, object]:
    """Return what a dry run prints as JSON."""
    said = say("run", chain.recipe, "--store", store, "--dry-run", "--json", "--device", "cpu", *words)
    found: dict[str, object] = json.loads(said.line)
    return found


def test_a_dry_run_estimates_every_stage_and_keeps_what_it_measured(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    found = dry_run(chain, tmp_path / "store")
    estimates = {(one["stage"], one["arm"]): one for one in found["estimates"]}  # type: ignore[attr-defined]
    assert [stage for stage, arm in estimates if arm == "main"] == [
        "fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits",
    ]  # fmt: skip
    assert ("report", "all") in estimates and estimates["pretrain", "main"]["basis"] == "measured"
    assert all(one["seconds"] > 0 and one["memory_mb"] > 0 for one in estimates.values())
    assert "cells per field" in found["guessed"][0] and found["warnings"] == []  # type: ignore[index]
    (kept,) = (tmp_path / "store/speeds").glob("*.json")
    kept.write_text(json.dumps({"step_s": 1000.0, "memory_mb": 9e9, "embed_s": 1.0, "weights_mb": 1.0}))
    again = dry_run(chain, tmp_path / "store")
    assert again["seconds"] > 1000 * 80  # type: ignore[operator]
    assert "12 hours" in again["warnings"][0] and "of memory" in again["warnings"][1]  # type: ignore[index]
    kept.write_text("{")
    assert dry_run(chain, tmp_path / "store")["warnings"] == []


def test_finished_artifacts_are_counted_and_a_recipe_that_is_done_costs_nothing(chain: Chain) -> None:
    assert "estimates" not in dry_run(chain, chain.root)
    other_seed = dry_run(chain, chain.root, "--seed", 7, "--arm", "main")
    by_stage = {one["stage"]: one for one in other_seed["estimates"]}  # type: ignore[attr-defined]
    assert by_stage["pretrain"]["basis"] == "artifacts" and other_seed["guessed"] == []


def test_doctor_says_the_cost_of_every_kind_of_stage(chain: Chain, tmp_path: Path) -> None:
    said = say("doctor", chain.recipe, "--store", tmp_path / "store", "--json", "--device", "cpu")
    found = {one["subject"]: one["words"] for one in json.loads(said.out)["findings"]}
    assert "of memory" in found["cost of pretrain"] and "(measured)" in found["cost of pretrain"]
    assert found["cost"].startswith("in all ")


def test_a_dry_run_in_a_store_that_cannot_be_written_estimates_all_the_same(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert dry_run(chain, tmp_path / "file" / "store", "--to", "segment")["seconds"] > 0  # type: ignore[operator]


def test_a_dry_run_on_a_gpu_that_is_missing_is_refused(chain: Chain, tmp_path: Path) -> None:
    said = say("run", chain.recipe, "--store", tmp_path / "store", "--dry-run", "--device", "cuda:7")
    assert said.code == 2 and "the GPU 'cuda:7' was asked for" in said.err


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate("pretrain", "main", 0, 13 * 3600, 1, 1, "measured"), "more than 12 hours"),
        (Estimate("pretrain", "main", 0, 1, 1e9, 1, "measured"), "lower pretrain.batch"),
        (Estimate("segment", "main", None, 1, 1e9, 1, "rough"), "segment.workers"),
        (Estimate("segment", "main", None, 1, 1, 1e18, "rough"), "are free; choose another --store"),
        (Estimate("cluster", "main", None, 13 * 3600, 1, 1, "rough"), "all stages together take about 13.0 h"),
    ],
)
def test_what_is_too_much_is_warned_of_with_its_cure(estimate: Estimate, words: str, tmp_path: Path) -> None:
    (warning,) = _too_much(Estimates([estimate]), tmp_path / "store")
    assert words in warning
