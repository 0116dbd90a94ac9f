"""diff: what two results are, how their scores differ, and why, in words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from chain import Chain, say

from cellssl.artifacts.card import Card


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


def forged(root: Path, card: Card, number: int, **changes: Any) -> Card:
    """A card like another one, in the store of a test."""
    new = replace(card, fingerprint=f"{number:012x}", files={}, **changes)
    folder = root / new.kind / new.fingerprint
    folder.mkdir(parents=True)
    new.write(folder)
    return new


def test_an_input_that_differs_is_explained_by_the_settings_upstream(chain: Chain, tmp_path: Path) -> None:
    fetch, segment, split = (chain.made(stage).card for stage in ("fetch", "segment", "split"))
    for number, (seed, side_px) in enumerate(((0, 48), (1, 64)), start=1):
        dataset = {**fetch.section["dataset"], "seed": seed}
        images = forged(tmp_path, fetch, number, section={**fetch.section, "dataset": dataset})
        inputs = {"fetch": images.fingerprint}
        section = {**segment.section, "crop_px": side_px}
        cells = forged(tmp_path, segment, number, section=section, inputs=inputs)
        forged(tmp_path, split, number, inputs={"segment": cells.fingerprint})
    out = say("diff", *(tmp_path / "split" / f"{number:012x}" for number in (1, 2)), "--store", tmp_path).out
    assert f"made from other inputs: cells ({1:012x} against {2:012x}), because of" in " ".join(out.split())
    assert "  segment.crop_px: 48 against 64\n  fetch.dataset.seed: 0 against 1\n" in out


def test_what_each_is_and_only_the_settings_that_differ_are_named(chain: Chain) -> None:
    out = words_of(chain.made("embed").path, chain.made("embed", "intensities").path, chain=chain)
    assert "vectors of the encoder small, trained by moco (context)" in " ".join(out.split())
    assert "vectors of intensities" in out and "embed.model: pretrain against intensities" in out
    assert "cells_per_well" not in out and "sha256" not in out and "--files lists them" in out
    assert "sha256" in words_of(
        chain.made("embed").path, chain.made("embed", "intensities").path, chain=chain, more=("--files",)
    )


def test_two_reports_are_compared_arm_by_arm(chain: Chain, tmp_path: Path) -> None:
    report = chain.made("report", "all").card
    rows = [{"arm": arm, "seed": seed, "ami": 0.1 * seed, "knn": 0.5} for arm in ("sum", "random") for seed in (1, 2)]
    better = [{**row, "ami": row["ami"] + 0.25} if row["arm"] == "sum" else row for row in rows]
    inputs = {"sum/1/cluster": "0" * 12, "random/1/cluster": "1" * 12}
    forged(tmp_path, report, 1, metrics={"scores": rows}, inputs=inputs)
    forged(tmp_path, report, 2, metrics={"scores": better}, inputs={**inputs, "sum/2/cluster": "2" * 12})
    words = ("diff", *(f"{number:012x}" for number in (1, 2)), "--store", tmp_path)
    out = say(*words).out
    assert "the scores of 1 arm differ" in out and "  sum: AMI 0.15 against 0.40\n" in out
    assert "only in the second: sum/2" in out and "knn" not in out.lower()
    found = json.loads(say(*words, "--json").out)
    assert {"differences", "scores", "settings", "inputs", "versions", "files", "names", "kinds"} <= found.keys()


def test_a_result_is_the_same_as_itself(chain: Chain) -> None:
    split = chain.made("split")
    assert words_of(split.path, split.fingerprint, chain=chain).startswith("no differences in what determines")
