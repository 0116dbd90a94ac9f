"""diff: what two results are, how their scores differ, and why, in words."""

import json
from pathlib import Path

from chain import Chain, say


def words_of(*artifacts: object, chain: Chain, more: tuple[str, ...] = ()) -> str:
    said = say("diff", *artifacts, "--store", chain.root, *more)
    assert said.code == 0, said.err
    return said.out


def test_the_first_line_names_the_arms_and_their_scores(chain: Chain) -> None:
    pair = [chain.made("cluster", arm) for arm in ("main", "intensities")]
    out = words_of(*(one.path for one in pair), chain=chain)
    first = " ".join(line.strip() for line in out.split("  cluster/")[0].splitlines())
    scores = [f"{one.card.metrics['against']['label']['ami']:.2f}" for one in pair]
    assert first.startswith("main against intensities: AMI ")
    assert scores[0] == scores[1] or f"AMI {scores[0]} against {scores[1]}" in first
    assert max(map(len, out.splitlines())) <= 80


def test_an_input_that_differs_is_explained_by_the_settings_upstream(chain: Chain, tmp_path: Path) -> None:
    other = tmp_path / "other"
    words = ("--set", "fetch.dataset.seed=1", "--set", "fetch.dataset.cells_per_field=300", "--to", "split")
    assert say("run", chain.recipe, "--store", other, *words).code == 0
    out = words_of(chain.made("split").path, next((other / "split").glob("????????????")), chain=chain)
    assert "made from other inputs: cells" in out
    assert "fetch.dataset.seed: 0 against 1" in out and "fetch.dataset.cells_per_field: 400 against 300" in out
    assert "segment.crop_px" not in out


def test_what_each_is_and_only_the_settings_that_differ_are_named(chain: Chain) -> None:
    out = words_of(chain.made("embed").path, chain.made("embed", "intensities").path, chain=chain)
    assert "vectors of the encoder small, trained by moco (context)" in " ".join(out.split())
    assert "vectors of intensities" in out and "embed.model: pretrain against intensities" in out
    assert "cells_per_well" not in out and "sha256" not in out and "--files lists them" in out
    assert "sha256" in words_of(
        chain.made("embed").path, chain.made("embed", "intensities").path, chain=chain, more=("--files",)
    )


def test_two_reports_are_compared_arm_by_arm(chain: Chain) -> None:
    clusters = [chain.made("cluster", arm).path for arm in ("main", "intensities")]
    reports = [say("report", *some, "--store", chain.root).line for some in (clusters, clusters[1:])]
    out = words_of(*reports, chain=chain)
    assert "only in the first: " in out and "embeds" not in out
    found = json.loads(words_of(*reports, chain=chain, more=("--json",)))
    assert {"differences", "scores", "settings", "inputs", "versions", "files", "names", "kinds"} <= found.keys()


def test_a_result_is_the_same_as_itself(chain: Chain) -> None:
    split = chain.made("split")
    assert words_of(split.path, split.fingerprint, chain=chain).startswith("no differences in what determines")
