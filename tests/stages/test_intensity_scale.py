"""The intensity scale of plates: what is said about it, what shares it, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import Said, say

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_scale
from cellssl.randomness import generator
from cellssl.stages.segment.brightness import OF_CELLS_FILE
from cellssl.stages.shared.scaled_crops import scaled_crops

RECIPE = """
name = "scale"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
axes = "ncyx"
table = "cells.csv"
channels = ["dna", "marker"]
columns = { plate = "plate", well = "well", compound = "drug", batch = "batch" }
"""
BATCHES = {"P1": "first", "P2": "first", "P3": "second"}


class Lab:
    """Finished crops of three plates, their recipe, and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "store"
        (folder / "own.toml").write_text(RECIPE)

    def write(self, controls: int = 30, *, brightness: dict[str, float] | None = None, marker: float = 1.0) -> None:
        """Write as many treated cells as controls; only treated cells are brighter in the channel `marker`."""
        rng, rows, crops = generator("tests", "scale"), [], []
        for plate, batch in BATCHES.items():
            for number in range(2 * controls):
                drug = "DMSO" if number < controls else "drug"
                light = (brightness or {}).get(plate, 1.0) * np.exp(0.2 * rng.standard_normal())
                crop = rng.normal(300, 10, (2, 32, 32))
                crop[:, 8:24, 8:24] += 1_000 * light * np.array([1.0, marker if drug == "drug" else 1.0])[:, None, None]
                crops.append(crop)
                rows.append({"plate": plate, "well": f"A{1 + number % 4:02d}", "drug": drug, "batch": batch})
        self.table = pd.DataFrame(rows)
        self.table["well"] = np.where(self.table["drug"] == "DMSO", self.table["well"], self.table["well"] + "5")
        np.save(self.folder / "stack.npy", np.stack(crops).astype(np.uint16))
        self.save()

    def save(self) -> None:
        self.table.to_csv(self.folder / "cells.csv", index=False)

    def say(self, stage: str, *words: str) -> Said:
        flags = [flag for word in words for flag in ("--set", f"segment.{word}")]
        return say(stage, self.folder / "own.toml", "--store", self.root, *flags)

    def segment(self, *words: str) -> tuple[Artifact, str]:
        """Return the cells of all plates, and what was said."""
        assert self.say("fetch").code == 0
        said = self.say("segment", *words)
        return Store(self.root).resolve(said.line, ("segment",)), said.err


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path)
    lab.write()
    return lab


def white_of(segment: Artifact) -> dict[str, float]:
    scale = read_scale(segment)
    return dict(scale[scale["channel"] == "dna"].set_index("plate")["high"])


def parts_of(lab: Lab) -> dict[str, Any]:
    files = lab.root.glob(f"segment/*/{OF_CELLS_FILE}")
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_the_plates_of_a_batch_share_a_scale_and_their_parts_stay(lab: Lab) -> None:
    lab.write(brightness={"P2": 1.3, "P3": 2.0})
    alone, _ = lab.segment()
    before = parts_of(lab)
    pooled, _ = lab.segment('scale.pool="batch"')
    assert parts_of(lab) == before and len(before) == 3
    white, shared = white_of(alone), white_of(pooled)
    assert shared["P1"] == shared["P2"] and white["P1"] < shared["P1"] < white["P2"]
    assert shared["P3"] == white["P3"]
    scale = read_scale(pooled).set_index(["plate", "channel"])
    assert scale["cells"].tolist() == [60, 60, 60, 60, 30, 30]
    cells = read_cells(pooled)
    seen = [scaled_crops(one, Store(lab.root), cells).read(np.arange(5)) for one in (alone, pooled)]
    assert seen[0].mean() > seen[1].mean()


def test_the_part_of_a_plate_does_not_depend_on_other_plates(lab: Lab) -> None:
    lab.segment()
    before = parts_of(lab)
    lab.table = lab.table.assign(batch="other")
    of_others = lab.table["plate"] != "P1"
    stack = np.load(lab.folder / "stack.npy")
    stack[of_others] *= 2
    np.save(lab.folder / "stack.npy", stack)
    lab.save()
    lab.segment('scale.pool="batch"')
    contents = [content for _, content in before.values()]
    assert sum(content in contents for _, content in parts_of(lab).values()) >= 3


def test_few_control_cells_are_said_with_the_uncertainty_of_white_and_the_cure(lab: Lab) -> None:
    segment, said = lab.segment()
    assert said.count("30 control cells set the intensity scale, fewer than 200: white is known to") == 1
    assert "the same for 2 more plates: 30 control cells set the intensity" in said
    assert 'set segment.scale.pool = "batch"' in said
    assert (read_scale(segment)["high_sd"] > 0).all()
    lab.write(controls=200)
    assert "control cells set the intensity scale" not in lab.segment()[1]


def test_a_marker_that_only_treated_cells_have_is_said(lab: Lab) -> None:
    lab.write(marker=6.0)
    segment, said = lab.segment()
    assert (
        "many cells of a treated field are brighter than white (up to 100 % in marker)" in said
        and "headroom, which is 3" in said
    )
    scale = read_scale(segment).set_index("channel")
    assert scale.loc["dna", "treated_above_white"].max() == 0
    said = lab.segment("scale.headroom=30")[1]
    assert "brighter than white" not in said


def test_a_marker_that_one_drug_of_ten_lights_up_is_said_but_not_a_few_cells(lab: Lab) -> None:
    lab.write(controls=60)
    stack, treated = np.load(lab.folder / "stack.npy"), np.flatnonzero(lab.table["drug"] != "DMSO")
    lab.table["well"] = lab.table["well"].where(
        lab.table["drug"] == "DMSO", [f"B{1 + n % 10:02d}" for n in lab.table.index]
    )
    bright = lab.table["well"] == "B03"
    stack[bright, 1] *= 6
    np.save(lab.folder / "stack.npy", stack)
    lab.save()
    segment, said = lab.segment()
    assert bright.sum() < 0.11 * len(treated) and said.count("(up to 100 % in marker)") == 1
    assert set(read_scale(segment).set_index("channel").loc["marker", "treated_above_white"]) == {1}
    lab.table.loc[bright, "well"] = [f"C{1 + n // 2:02d}" for n in range(bright.sum())]  # two cells in each
    lab.save()
    assert "brighter than white" not in lab.segment()[1]


def test_all_wells_may_set_the_scale(lab: Lab) -> None:
    lab.write(marker=6.0)
    alone, both = (read_scale(lab.segment(f'reference="{one}"')[0]) for one in ("controls", "all"))
    assert (both["cells"] == 2 * alone["cells"]).all()
    of_marker = both["channel"] == "marker"
    assert (both["high"][of_marker] > 1.5 * alone["high"][of_marker]).all()


def test_a_plate_without_a_batch_keeps_its_scale_and_one_of_two_batches_is_refused(lab: Lab) -> None:
    lab.table.loc[lab.table["plate"] == "P3", "batch"] = None
    lab.save()
    pooled, said = lab.segment('scale.pool="batch"')
    assert "no batch is known of P3" in said and len(set(white_of(pooled).values())) == 2
    lab.table.loc[lab.table["well"] == "A02", "batch"] = "third"
    lab.save()
    assert lab.say("fetch").code == 0
    said = lab.say("segment", 'scale.pool="batch"')
    assert said.code == 2 and "are of several batches" in said.err


REFUSED = {
    "high_percentile=99": 'write scale = { of = "pixels", high_percentile = 99 }',
    "scale.high_percentile=99": 'high_percentile has no effect with of = "cells"',
    "scale.headrom=2": "unknown key 'headrom'",
    "scale.headroom=0.5": "must be greater than or equal to 1",
    'scale={of="pixels", pool="batch"}': 'pool has no effect with of = "pixels"',
    'scale="pixels"': 'write scale = { of = "pixels" }',
    'scale.of="nuclei"': "must be 'cells' or 'pixels'",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_settings_without_effect_and_those_that_have_moved_are_refused(lab: Lab, setting: str) -> None:
    said = lab.say("status", setting)
    assert said.code == 2 and REFUSED[setting] in said.err


def test_a_whole_range_goes_with_no_other_scale(lab: Lab) -> None:
    said = lab.say("status", 'reference="range"', "scale.headroom=2")
    assert said.code == 2 and 'scale.headroom has no effect with reference = "range"' in said.err


def test_a_plate_whose_controls_are_all_empty_crops_is_refused(lab: Lab) -> None:
    stack = np.load(lab.folder / "stack.npy")
    stack[(lab.table["plate"] == "P1") & (lab.table["drug"] == "DMSO")] = 0
    np.save(lab.folder / "stack.npy", stack)
    assert lab.say("fetch").code == 0
    said = lab.say("segment")
    assert said.code == 3 and "all crops of its control cells (30) are empty" in said.err
    assert white_of(lab.segment('reference="all"')[0])["P1"] > 0


def test_a_single_control_cell_sets_a_scale_of_which_nothing_more_is_known(lab: Lab) -> None:
    lab.write(controls=1)
    said = lab.segment()[1]
    assert "1 control cell sets the intensity scale" in said and "how well white is known cannot be estimated" in said


def test_percentiles_of_pixels_have_no_uncertainty_and_nothing_to_say(lab: Lab) -> None:
    segment, said = lab.segment('scale={of="pixels", high_percentile=99}')
    controls = np.load(lab.folder / "stack.npy")[(lab.table["plate"] == "P1") & (lab.table["drug"] == "DMSO")]
    assert white_of(segment)["P1"] == np.percentile(controls[:, 0], 99, method="inverted_cdf")
    assert read_scale(segment)["high_sd"].isna().all() and "intensity scale" not in said
