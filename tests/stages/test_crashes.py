"""Crashes in segment: a field that crashes every process costs itself only, and counts as a broken field."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import RECIPE, say

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_fields, read_table
from cellssl.engine.build import RunContext
from cellssl.engine.plate_parts import parts_of
from cellssl.errors import DataError
from cellssl.events import Event
from cellssl.images.reading import read_channel
from cellssl.imaging.segmenter import SegmenterSettings
from cellssl.stages.segment.settings import Settings
from cellssl.stages.segment.stage import make_plate

SMALL = [f"fetch.dataset.{value}" for value in ("doses=1", "control_wells=1", "sites_per_well=4", "cells_per_field=30")]


class Crashing(SegmenterSettings):
    """Find one square nucleus per field; end the process with a segmentation fault at fields of certain sums."""

    sums: tuple[int, ...] = ()

    def segment(self, image: np.ndarray, pixel_um: float | None = None) -> np.ndarray:
        if int(image.sum()) in self.sums:
            os.kill(os.getpid(), signal.SIGSEGV)
        labels = np.zeros(image.shape, np.int32)
        labels[100:120, 100:120] = 1
        return labels


def fetched_plate(folder: Path) -> tuple[Store, Artifact]:
    """Return a store and the part of a fetched plate of 8 fields."""
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    words = [word for value in SMALL for word in ("--set", value)]
    fetch = artifact_at(say("fetch", recipe, "--store", folder / "store", *words).line)
    store = Store(folder / "store")
    ((_, part),) = parts_of(fetch)
    return store, store.get("fetch", part)


def artifact_at(line: str) -> Artifact:
    return Store(Path(line).parents[1]).resolve(line, ("fetch",))


def settings_for(part: Artifact, crashing: list[int], max_failures: float) -> Settings:
    """Return settings under which the fields of these rows crash."""
    images = read_fields(part)["path_dna"]
    sums = tuple(int(read_channel(part.path / images.iloc[row]).sum()) for row in crashing)
    return Settings(method=Crashing(sums=sums), nucleus_channel="dna", crop_px=48, workers=2, max_failures=max_failures)


def finished(work: Iterator[Event]) -> Artifact:
    """Run a build to its end and return its artifact."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            artifact: Artifact = end.value
            return artifact


def test_two_fields_that_crash_are_quarantined_and_all_others_are_done(tmp_path: Path) -> None:
    store, part = fetched_plate(tmp_path)
    fields = read_fields(part)
    assert len(fields) == 8
    made = finished(make_plate(settings_for(part, [2, 5], 0.25), RunContext(store, "cpu"), part))
    listed = pd.read_csv(made.file("quarantine.csv"))
    assert listed["field_id"].tolist() == fields["field_id"].iloc[[2, 5]].tolist()
    for row, reason in zip([2, 5], listed["reason"], strict=True):
        name = Path(fields["path_dna"].iloc[row]).name
        assert f"the process that read {name}" in reason and "died (signal 11, SIGSEGV)" in reason
    assert set(read_table(made.file("cells.parquet"))["field_id"]) == set(fields["field_id"].drop([2, 5]))
    assert made.card.metrics["quarantined"] == 2 and made.card.metrics["fields"] == 8


def test_more_crashes_than_max_failures_stop_the_plate_and_name_the_first(tmp_path: Path) -> None:
    store, part = fetched_plate(tmp_path)
    with pytest.raises(DataError, match=r"2 of 8 fields .* are broken; first: the process that read .* died") as caught:
        finished(make_plate(settings_for(part, [2, 5], 0.2), RunContext(store, "cpu"), part))
    assert "segment.max_failures" in caught.value.hint
    listed = pd.read_csv(next((tmp_path / "store").glob("segment/*.partial/quarantine.csv")))
    assert listed["field_id"].tolist() == read_fields(part)["field_id"].iloc[[2, 5]].tolist()
    assert len(list((tmp_path / "store").rglob("scratch/*.npz"))) == 6
