"""segment: lobes of one cell are merged on request, before anything is measured, and their number is said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import Said, say

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_fields
from cellssl.engine.plate_parts import parts_of
from cellssl.images.reading import read_labels
from cellssl.stages.segment.nuclei import read_nuclei
from cellssl.stages.segment.tasks import labels_name

RECIPE = """
name = "lobed"
[fetch.dataset]
name = "simulated"
plates = 1
height_px = 256
width_px = 320
sites_per_well = 1
control_wells = 1
compounds = ["sim-nocodazole"]
doses = [3.0]
cells_per_field = 400
workers = 1
[segment]
method = "watershed"
crop_px = 32
workers = 1
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the recipe of a plate with a control well and one in which many cells have several nuclei."""
    path = tmp_path_factory.mktemp("lobed") / "lobed.toml"
    path.write_text(RECIPE)
    assert say("fetch", path, "--store", path.parent / "store").code == 0
    return path


def segment(recipe: Path, *lobes: str) -> Said:
    return say(
        "segment", recipe, "--store", recipe.parent / "store", *(word for one in lobes for word in ("--set", one))
    )


def nuclei_of(recipe: Path, said: Said) -> tuple[Artifact, Artifact]:
    """Return the segment artifact that a command made, and the nuclei of its plate."""
    store = Store(recipe.parent / "store")
    gathered = store.resolve(said.line, ("segment",))
    part = store.get("segment", next(fingerprint for _, fingerprint in parts_of(gathered)))
    return gathered, store.get("segment", part.card.inputs["nuclei/segment"])


def test_merged_lobes_are_counted_and_every_nucleus_is_one_row(recipe: Path) -> None:
    plain, _ = nuclei_of(recipe, segment(recipe))
    said = segment(recipe, 'segment.lobes={channel="tubulin"}')
    gathered, detected = nuclei_of(recipe, said)
    merged = gathered.card.metrics["merged_lobes"]
    assert "merged_lobes" not in plain.card.metrics
    assert merged > 0
    assert [pd.read_csv(one.file("counts.csv"))["merged_lobes"].tolist() for one in (plain, gathered)] == [
        [0],
        [merged],
    ]
    assert gathered.card.metrics["detected"] + merged == plain.card.metrics["detected"]
    assert f"{plain.card.metrics['detected']} nuclei were found; merging lobes" in said.err
    fields, nuclei = read_fields(detected), read_nuclei(detected)
    assert fields["field_merged_lobes"].sum() == merged
    for field_id, of_field in nuclei.groupby("field_id"):
        areas = np.bincount(read_labels(detected.file(labels_name(str(field_id)))).ravel())[1:]
        pd.testing.assert_series_equal(of_field["area_px"], pd.Series(areas, of_field.index), check_names=False)


def test_a_diameter_in_micrometres_is_taken_for_the_size_of_a_whole_nucleus(recipe: Path) -> None:
    small, large = (
        nuclei_of(recipe, segment(recipe, f'segment.lobes={{channel="tubulin", diameter_um={um}}}'))[0]
        for um in (2.0, 17.0)
    )
    assert small.card.metrics["merged_lobes"] == 0, "no two are together as small as such a nucleus"
    assert large.card.metrics["merged_lobes"] > 0


def test_an_unknown_channel_is_an_error_that_names_the_channels(recipe: Path) -> None:
    said = segment(recipe, 'segment.lobes={channel="tubuline"}')
    assert said.code == 2
    assert "tubulin" in said.err
    assert "segment.lobes.channel is 'tubuline', which is no channel" in said.err
