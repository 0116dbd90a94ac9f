"""segment: counts that balance, the same bytes however the work was divided, and quarantine of damaged fields."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from chain import Chain, Said, say, start
from PIL import Image
from scipy import ndimage

from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_fields, read_table
from cellssl.engine.plate_parts import allowed_failures
from cellssl.images.reading import write_labels
from cellssl.imaging.scaling import limits_of_cells, scaled
from cellssl.randomness import generator
from cellssl.stages.segment.brightness import levels_of, read_cell_brightness
from cellssl.stages.segment.counts import ALL_REASONS, read_counts_of_plates
from cellssl.stages.segment.nuclei import read_nuclei
from cellssl.stages.shared.preparation import of_cells
from cellssl.stages.shared.scaled_crops import common_pixel_um

PATHS = {channel: f"path_{channel}" for channel in ("dna", "tubulin", "actin")}
QUICK_TO_START = ("--set", "segment.method=watershed")
"""Flags for several workers where the segmenter does not matter: each would import torch for seconds."""
RECIPE = """
name = "own"
[fetch.dataset]
name = "image_table"
table = "fields.csv"
channels = { dna = "path_dna", tubulin = "path_tubulin", actin = "path_actin" }
columns = { plate = "plate", well = "well", site = "site", compound = "compound", dose_micromolar = "dose_micromolar" }
[segment]
crop_px = 48
workers = 1
"""


class Lab:
    """A lab's own folder of images with its field table, and a store."""

    def __init__(self, folder: Path, chain: Chain) -> None:
        self.folder, self.root = folder, folder / "store"
        part = chain.store.get(
            "fetch", next(iter(json.loads(chain.made("fetch").file("parts.json").read_text()).values()))
        )
        fields = read_fields(part)
        chosen = pd.concat([fields[fields["control"]].head(3), fields[~fields["control"]].head(3)])
        for column in PATHS.values():
            chosen[column] = [shutil.copy(part.path / place, folder) for place in chosen[column]]
        self.fields = chosen
        self.write(chosen)
        (folder / "own.toml").write_text(RECIPE)

    def write(self, fields: pd.DataFrame) -> None:
        """Replace the field table."""
        fields.to_csv(self.folder / "fields.csv", index=False)

    def image(self, row: int, channel: str = "actin") -> Path:
        """Return the file of one channel of one field."""
        return Path(self.fields[PATHS[channel]].iloc[row])

    def say(self, stage: str, *words: object) -> Said:
        """Run a command on this lab's recipe."""
        return say(stage, self.folder / "own.toml", "--store", self.root, *words)

    def segment(self, *words: object) -> Artifact:
        """Run fetch and segment; fetch checks what segment allows."""
        assert self.say("fetch", *words).code == 0
        return Store(self.root).resolve(self.say("segment", *words).line, ("segment",))

    def parts(self, of: str | None = None) -> dict[str, int]:
        """Return the cells of all plates in the store, or `of` them the nuclei: fingerprint -> time of the card."""
        sections = {card: json.loads(card.read_text())["section"] for card in self.root.glob("segment/*/artifact.json")}
        return {
            card.parent.name: card.stat().st_mtime_ns
            for card, section in sections.items()
            if "plate" in section and section.get("of") == of
        }


@pytest.fixture
def lab(chain: Chain, tmp_path: Path) -> Lab:
    return Lab(tmp_path, chain)


def files_of(artifact: Artifact) -> dict[str, str]:
    return {name: entry.sha256 for name, entry in artifact.card.files.items()}


def assert_balanced(segment: Artifact) -> None:
    """Check that detected = kept + the sum over all reasons, in the counts and in the tables."""
    counts, dropped = segment.card.metrics, read_table(segment.file("dropped.parquet"))
    rejected = {name: count for name, count in counts.items() if name not in OTHER_COUNTS}
    assert counts["detected"] == counts["kept"] + sum(rejected.values())
    assert counts["kept"] == len(read_cells(segment))
    assert {name: count for name, count in rejected.items() if count} == dropped["reason"].value_counts().to_dict()


OTHER_COUNTS = ("fields", "quarantined", "detected", "kept")


def test_counts_balance_and_agree_with_the_tables(chain: Chain) -> None:
    segment = chain.made("segment")
    counts = segment.card.metrics
    assert_balanced(segment)
    cells = read_cells(segment)
    assert len(cells) == counts["kept"] > 100
    assert cells["cell_id"].is_unique
    assert cells["area_px"].between(100, 20_000).all()
    assert json.loads(segment.file("counts.json").read_text()) == counts


def nuclei_of(segment: Artifact) -> Artifact:
    """Return the nuclei that the cells of the first plate were chosen from."""
    store = Store(segment.path.parents[1])
    part = store.get("segment", read_cells(segment)["part"].iloc[0])
    return store.get("segment", part.card.inputs["nuclei/segment"])


def test_the_card_records_the_precision_of_the_segmenter(chain: Chain) -> None:
    part = nuclei_of(chain.made("segment"))
    assert part.card.run["segmenter"]["precision"] in ("bfloat16", "float32")
    assert part.card.section["method"] == {"name": "nuclei_net", "threshold": 0.6, "precision": "auto"}


def test_a_crop_is_the_window_around_its_nucleus(chain: Chain) -> None:
    cells, fetch = read_cells(chain.made("segment")), chain.made("fetch")
    part = chain.store.get("segment", cells["part"].iloc[0])
    crops = open_crops(part.file("crops.npy"))
    fields = read_fields(fetch).set_index("field_id")
    assert crops.shape == (len(cells), 3, 48, 48)
    rows, columns = cells["row_px"].round().astype(int), cells["column_px"].round().astype(int)
    inside = rows.between(30, 225) & columns.between(30, 289)
    for number in np.flatnonzero(inside)[::25]:
        cell, field = cells.iloc[number], fields.loc[cells["field_id"].iloc[number]]
        for position, column in enumerate(PATHS.values()):
            plane = tifffile.imread(chain.store.get("fetch", field["part"]).path / field[column])
            windows = np.lib.stride_tricks.sliding_window_view(plane, (48, 48))
            around = windows[rows[number] - 26 : rows[number] - 21, columns[number] - 26 : columns[number] - 21]
            assert (around == crops[cell["crop_row"], position]).all(axis=(-1, -2)).any()


def test_every_kept_nucleus_is_one_label_of_the_written_label_image(chain: Chain) -> None:
    cells = read_cells(chain.made("segment"))
    part = chain.store.get("segment", cells["part"].iloc[0])
    for field_id, of_field in cells.groupby("field_id"):
        labels = tifffile.imread(part.file(f"labels/{field_id}_cp_masks.tif"))
        areas = np.bincount(labels.ravel())[1:]
        assert sorted(areas[areas > 0]) == sorted(of_field["area_px"])


def test_the_intensity_scale_is_that_of_the_cells_of_control_wells(chain: Chain) -> None:
    segment = chain.made("segment")
    scale, cells = read_table(segment.file("scale.parquet")), read_cells(segment)
    part = chain.store.get("segment", cells["part"].iloc[0])
    table = read_cell_brightness(part, list(PATHS))
    assert table["control"].tolist() == cells.set_index("cell_id")["control"][table["cell_id"]].tolist()
    limits = limits_of_cells(levels_of(table[table["control"]], list(PATHS)), headroom=3.0)
    assert scale["low"].tolist() == limits.low.tolist() and scale["high"].tolist() == limits.high.tolist()
    assert set(scale["cells"]) == {table["control"].sum()}
    crops = open_crops(chain.store.get("segment", scale["part"].iloc[0]).file("crops.npy"))
    in_8_bits = scaled(crops[:50], scale["low"].to_numpy(), scale["high"].to_numpy())
    assert in_8_bits.dtype == np.uint8
    assert in_8_bits.max() > 100
    assert "high_dna" not in cells, "how a cell is scaled is no measurement of it"


def test_percentiles_of_the_pixels_of_control_wells_set_the_scale_on_request(lab: Lab) -> None:
    segment = lab.segment("--set", 'segment.scale={of="pixels", high_percentile=99.5}', *QUICK_TO_START)
    controls = lab.fields[lab.fields["compound"] == "DMSO"]
    scale = read_table(segment.file("scale.parquet")).set_index("channel")
    for channel, column in PATHS.items():
        pixels = np.concatenate([tifffile.imread(place).ravel() for place in controls[column]])
        known = np.percentile(pixels, [0.1, 99.5], method="inverted_cdf")
        assert scale.loc[channel, ["low", "high"]].tolist() == known.tolist()
    assert scale["high_sd"].isna().all()


def test_the_number_of_workers_does_not_change_the_result(lab: Lab, tmp_path: Path) -> None:
    with_one = lab.segment()
    lab.root = tmp_path / "other store"
    assert files_of(lab.segment("--set", "segment.workers=2")) == files_of(with_one)


def test_a_killed_segmentation_resumes_with_the_same_result(lab: Lab, tmp_path: Path) -> None:
    whole = lab.segment()
    lab.root = tmp_path / "other store"
    assert lab.say("fetch").code == 0
    process = start("segment", lab.folder / "own.toml", "--store", lab.root)
    while not written(lab.root, ".npz"):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.communicate()
    done = list(lab.root.rglob("scratch/*.npz"))
    assert 0 < len(done) < 6
    first = {path.name: path.stat().st_mtime_ns for path in done}
    resumed = lab.segment()
    assert files_of(resumed) == files_of(whole)
    assert first


def test_a_killed_worker_costs_no_cells(lab: Lab, tmp_path: Path) -> None:
    undisturbed = lab.segment(*QUICK_TO_START)
    lab.root = tmp_path / "other store"
    assert lab.say("fetch").code == 0
    workers_of = ("--store", lab.root, *QUICK_TO_START, "--set", "segment.workers=2")
    process = start("segment", lab.folder / "own.toml", *workers_of)
    while not (workers := children(process.pid)):
        assert process.poll() is None, "it ended before a worker could be killed"
        time.sleep(0.01)
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert files_of(Store(lab.root).resolve(out.strip(), ("segment",))) == files_of(undisturbed)


def written(root: Path, suffix: str) -> list[str]:
    """Return the files of a kind that a command has written so far; folders may be renamed meanwhile."""
    return [name for _, _, names in os.walk(root) for name in names if name.endswith(suffix) and name[0] != "."]


def children(pid: int) -> list[int]:
    """Return the worker processes of a command, without the resource tracker of multiprocessing."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for one in found if "spawn_main" in Path(f"/proc/{one}/cmdline").read_text(errors="replace")]


def test_a_broken_image_stops_the_plate_and_the_error_names_it_and_the_cure(lab: Lab) -> None:
    content = lab.image(4).read_bytes()
    sabotage(lab.image(4), "damaged within its compressed pixels")
    assert lab.say("fetch").code == 0
    said = lab.say("segment")
    assert said.code == 3
    assert "1 of 6 fields" in said.err
    assert lab.image(4).name in said.err
    assert "raise segment.max_failures" in said.err and f"plate {lab.fields['plate'].iloc[0]}" in said.err
    listed = pd.read_csv(next(lab.root.glob("segment/*.partial/quarantine.csv")))
    assert listed["field_id"].tolist() == [lab.fields["field_id"].iloc[4]]
    assert not list(lab.root.glob("segment/*/artifact.json"))
    lab.image(4).write_bytes(content)
    assert lab.say("fetch").code == 0
    assert lab.say("segment").code == 0


def sabotage(path: Path, fault: str) -> None:
    """Damage an image, or replace it by one that is not valid as a field."""
    content = path.read_bytes()
    arrays = {
        "of another size": np.ones((100, 320), np.uint16) + np.arange(320, dtype=np.uint16),
        "black": np.zeros((256, 320), np.uint16),
        "white": np.full((256, 320), 65_535, np.uint16),
        "in colour": np.zeros((256, 320, 3), np.uint8),
        "of numbers that are none": np.full((256, 320), np.nan, np.float32),
        "a stack": np.zeros((5, 256, 320), np.uint16),
    }
    match fault:
        case "cut short":
            path.write_bytes(content[:5000])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"not a TIFF at all")
        case "torn within its compressed pixels":
            tifffile.imwrite(path, tifffile.imread(path), compression="zlib", rowsperstrip=8)
            path.write_bytes(path.read_bytes()[:-20_000])
        case "damaged within its compressed pixels":  # its header is whole
            tifffile.imwrite(path, tifffile.imread(path), compression="zlib", rowsperstrip=8)
            whole = path.read_bytes()
            path.write_bytes(whole[:2000] + bytes(2000) + whole[4000:])
        case "a stack compressed by LZW":
            plane = Image.fromarray(tifffile.imread(path))
            plane.save(path, compression="tiff_lzw", save_all=True, append_images=[plane])
        case "indices into a palette":
            Image.fromarray((tifffile.imread(path) // 16).astype(np.uint8)).convert("P").save(path)
        case "a header of noise":
            path.write_bytes(content[:8] + generator("tests", "noise").bytes(len(content) - 8))
        case _:
            tifffile.imwrite(path, arrays[fault], photometric="rgb" if fault == "in colour" else "minisblack")


FAULTS = (
    "cut short",
    "empty",
    "text",
    "torn within its compressed pixels",
    "damaged within its compressed pixels",
    "a header of noise",
    "of another size",
    "black",
    "white",
    "in colour",
    "of numbers that are none",
    "a stack",
    "a stack compressed by LZW",
    "indices into a palette",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_where_some_fields_may_fail_the_broken_one_is_quarantined_with_its_reason(lab: Lab, fault: str) -> None:
    sabotage(lab.image(4), fault)
    segment = lab.segment("--set", "segment.max_failures=0.2")
    part = Store(lab.root).get("segment", read_cells(segment)["part"].iloc[0])
    listed = pd.read_csv(part.file("quarantine.csv"))
    assert segment.file("quarantine.csv").read_bytes() == part.file("quarantine.csv").read_bytes()
    assert listed["field_id"].tolist() == [lab.fields["field_id"].iloc[4]]
    assert lab.image(4).name in listed["reason"].iloc[0] or "differ in size" in listed["reason"].iloc[0]
    assert segment.card.metrics["quarantined"] == 1
    assert listed["field_id"].iloc[0] not in set(read_cells(segment)["field_id"])
    assert read_cells(segment)["field_id"].nunique() == 5
    flags = read_fields(segment).set_index("field_id")["field_flags"]
    assert flags[flags == "quarantined"].index.tolist() == listed["field_id"].tolist()
    assert_balanced(segment)


KINDS = {
    "big": {"bigtiff": True},
    "tiled": {"tile": (64, 64)},
    "compressed": {"compression": "zlib", "predictor": True},
    "OME": {"ome": True, "metadata": {"axes": "YX"}},
    "big-endian": {"byteorder": ">"},
}


@pytest.fixture(scope="module")
def plain_cells(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The cells of a lab whose images are as they were copied."""
    return read_cells(Lab(tmp_path_factory.mktemp("plain"), chain).segment()).drop(columns="part")


@pytest.mark.parametrize("kind", [*KINDS, "LZW"])
def test_every_usual_kind_of_tiff_gives_the_same_cells(lab: Lab, plain_cells: pd.DataFrame, kind: str) -> None:
    for row in range(len(lab.fields)):
        for channel in PATHS:
            pixels = tifffile.imread(lab.image(row, channel))
            if kind == "LZW":
                Image.fromarray(pixels).save(lab.image(row, channel), compression="tiff_lzw")
            else:
                tifffile.imwrite(lab.image(row, channel), pixels, **KINDS[kind])
    pd.testing.assert_frame_equal(read_cells(lab.segment()).drop(columns="part"), plain_cells)


def test_when_every_control_field_is_broken_the_missing_scale_is_an_error(lab: Lab) -> None:
    for row in range(3):
        sabotage(lab.image(row), "damaged within its compressed pixels")
    assert lab.say("fetch").code == 0
    said = lab.say("segment", "--set", "segment.max_failures=1.0")
    assert said.code == 3
    assert "every control field" in said.err
    assert lab.say("segment", "--set", "segment.max_failures=1.0", "--set", "segment.reference=all").code == 0


def test_an_image_that_changed_after_fetch_is_not_read(lab: Lab) -> None:
    assert lab.say("fetch").code == 0
    fetched = Store(lab.root).root / "fetch"
    content = bytearray(lab.image(4).read_bytes())
    content[-1] ^= 1
    lab.image(4).write_bytes(bytes(content))
    gathered = next(path.parent for path in fetched.glob("*/parts.json"))
    said = lab.say("segment", "--input", gathered, "--set", "segment.max_failures=1.0")
    assert said.code == 5
    assert "is not the file that was fetched" in said.err


def test_an_added_plate_makes_only_its_own_part(lab: Lab) -> None:
    one = lab.segment()
    before = lab.parts()
    added = lab.fields.assign(plate="Tonight", field_id=lab.fields["field_id"] + "x")
    lab.write(pd.concat([lab.fields, added]))
    two = lab.segment()
    assert len(before) == 1
    assert {name: lab.parts()[name] for name in before} == before
    assert len(lab.parts()) == 2
    assert two.card.metrics["kept"] == 2 * one.card.metrics["kept"]
    assert sorted(read_cells(two)["plate"].unique()) == sorted(["Sim1_00001", "Tonight"])


def test_a_broken_plate_does_not_keep_the_later_ones_from_being_made(lab: Lab) -> None:
    plates = [lab.fields.assign(plate=name, field_id=name + lab.fields["field_id"]) for name in ("A", "B")]
    broken = str(shutil.copy(lab.image(4), lab.folder / "broken.tif"))
    plates[0].loc[plates[0].index[4], PATHS["actin"]] = broken
    sabotage(Path(broken), "damaged within its compressed pixels")
    lab.write(pd.concat(plates))
    assert lab.say("fetch").code == 0
    said = lab.say("segment")
    assert said.code == 3 and "1 of 6 fields of plate A are broken" in said.err and "other plates" in said.err
    (made,) = (json.loads((lab.root / "segment" / name / "artifact.json").read_text()) for name in lab.parts())
    assert made["section"]["plate"] == "B"


def test_the_gathered_artifact_has_the_same_bytes_whichever_command_made_the_parts(lab: Lab, tmp_path: Path) -> None:
    at_once = lab.segment(*QUICK_TO_START)
    lab.root = tmp_path / "fanned out"
    assert lab.say("fetch").code == 0
    plate = ("--plate", lab.fields["plate"].iloc[0], "--set", "segment.workers=2")
    assert lab.say("segment", *QUICK_TO_START, *plate).code == 0
    gathered = lab.segment(*QUICK_TO_START, "--set", "segment.workers=3")
    assert files_of(gathered) == files_of(at_once)
    cards = [json.loads((one.path / "artifact.json").read_text()) for one in (gathered, at_once)]
    assert cards[0]["run"].pop("uncounted") == {"workers": 3}
    assert {**cards[0], "run": 0, "sha256": 0} == {**cards[1], "run": 0, "sha256": 0}


def test_an_image_edited_in_place_with_its_time_set_back_makes_another_result(lab: Lab) -> None:
    first = lab.segment()
    image = lab.image(0)
    stat, content = image.stat(), image.read_bytes()
    with image.open("r+b") as file:
        file.write(content[:-1000] + content[-1000:][::-1])
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # some programs that restore files do so
    said = lab.say("segment", "--input", first.card.inputs["fetch"], "--set", "segment.min_area_px=101")
    assert said.code == 5 and "put the former file back" in said.err
    assert " missing " in lab.say("segment", "--dry-run").err
    assert lab.segment().fingerprint != first.fingerprint


def test_no_flat_field_is_made_of_an_image_that_is_not_the_one_fetched(lab: Lab) -> None:
    fetched = Path(lab.say("fetch").line).name
    image = lab.image(0)
    image.write_bytes(image.read_bytes()[:-1000] + bytes(1000))
    said = lab.say("segment", "--input", fetched, "--set", 'segment.illumination="mean"')
    assert said.code == 5 and str(image) in said.err
    assert not list(lab.root.rglob("flatfield*actin*"))


def test_gathering_takes_the_part_that_a_command_for_one_plate_made(lab: Lab) -> None:
    plate = lab.fields["plate"].iloc[0]
    said = lab.say("segment", "--plate", plate)
    assert said.code == 2
    assert f"own.toml --store {lab.root} --plate {plate}" in said.err
    assert lab.say("fetch", "--plate", plate).code == 0
    part = Path(lab.say("segment", "--plate", plate).line)
    before = lab.parts()
    segment = lab.segment()
    assert lab.parts() == before == {part.name: before[part.name]}
    assert list(json.loads(segment.file("parts.json").read_text()).values()) == [part.name]
    assert segment.path != part
    assert lab.say("segment", "--plate", plate).line == str(part)


def test_one_plate_of_a_gathered_fetch_can_be_given_as_input(lab: Lab) -> None:
    assert lab.say("fetch").code == 0
    plate = lab.fields["plate"].iloc[0]
    gathered = next(path.parent for path in lab.root.glob("fetch/*/parts.json"))
    assert lab.say("segment", "--plate", "x", "--input", gathered).code == 2
    given = lab.say("segment", "--plate", plate, "--input", gathered).line
    assert lab.say("segment", "--plate", plate).line == given


def test_gathering_copies_no_pixels(chain: Chain) -> None:
    assert "crops.npy" not in chain.made("segment").card.files
    assert not list(chain.made("fetch").path.rglob("*.tif"))


def test_a_killed_cropping_resumes_with_the_same_result(lab: Lab, tmp_path: Path) -> None:
    whole = lab.segment()
    lab.root = tmp_path / "other store"
    assert lab.say("fetch").code == 0
    process = start("segment", lab.folder / "own.toml", "--store", lab.root)
    while not written(lab.root, ".cropped"):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.communicate()
    detected = lab.parts("nuclei")
    assert len(detected) == 1
    assert files_of(lab.segment()) == files_of(whole)
    assert lab.parts("nuclei") == detected


CUT_ANEW = ("crop_px=32", "min_area_px=150", "scale.headroom=2", "cells_per_well=3", "keep_labels=true")


def test_other_crops_limits_and_scales_detect_no_nucleus_anew(lab: Lab) -> None:
    before = lab.segment()
    detected = lab.parts("nuclei")
    for setting in CUT_ANEW:
        assert lab.segment("--set", f"segment.{setting}").fingerprint != before.fingerprint
    assert lab.parts("nuclei") == detected and len(lab.parts()) == 1 + len(CUT_ANEW)
    lab.segment("--set", "segment.method=watershed")
    assert len(lab.parts("nuclei")) == 2


def test_forcing_segment_detects_the_nuclei_again(lab: Lab) -> None:
    whole = lab.segment(*QUICK_TO_START)
    ((name, before),) = lab.parts("nuclei").items()
    assert files_of(lab.segment(*QUICK_TO_START, "--force")) == files_of(whole)
    assert lab.parts("nuclei")[name] > before


def test_the_nuclei_are_all_those_that_were_detected_and_stay_as_long_as_their_cells_do(lab: Lab) -> None:
    segment = lab.segment(*QUICK_TO_START)
    nuclei = nuclei_of(segment)
    table = read_nuclei(nuclei)
    assert len(table) == segment.card.metrics["detected"] == nuclei.card.metrics["detected"]
    for field_id, of_field in table.groupby("field_id"):
        areas = np.bincount(tifffile.imread(nuclei.file(f"nuclei/{field_id}.tif")).ravel())[1:]
        assert areas.tolist() == of_field.sort_values("nucleus_label")["area_px"].tolist()
    assert say("gc", "--store", lab.root, "--yes").code == 0
    assert nuclei.fingerprint in lab.parts("nuclei")
    verified = say("verify", segment.path, "--store", lab.root)
    assert verified.code == 0 and str(nuclei.path) not in verified.err


def test_nuclei_detected_when_more_fields_could_fail_are_refused_later(lab: Lab) -> None:
    sabotage(lab.image(4), "damaged within its compressed pixels")
    lab.segment(*QUICK_TO_START, "--set", "segment.max_failures=0.2")
    said = lab.say("segment", *QUICK_TO_START)
    assert said.code == 3 and "1 of 6 fields" in said.err and "segment.max_failures" in said.err
    assert len(lab.parts("nuclei")) == 1


def test_a_window_in_micrometres_is_resampled_and_its_pixels_have_one_size(lab: Lab) -> None:
    known = (*QUICK_TO_START, "--set", "fetch.dataset.pixel_um=0.5")
    plain = crops_of(lab.segment(*known, "--set", "segment.crop_px=96"))
    segment = lab.segment(*known, "--set", "segment.crop_um=48")
    means = plain.reshape(len(plain), 3, 48, 2, 48, 2).mean(axis=(3, 5))
    assert (crops_of(segment) == np.floor(means + 0.5)).all()
    cells = read_cells(segment)
    assert set(cells["crop_pixel_um"]) == {1.0} and common_pixel_um(cells) == 1.0
    prepared = of_cells(segment, cells, list(PATHS), 48)
    assert prepared["pixel_um"] == [1.0] and prepared["crop_um"] == [48.0]
    assert len(lab.parts("nuclei")) == 1


def crops_of(segment: Artifact) -> np.ndarray:
    """Return the crops of the only plate."""
    (part,) = json.loads(segment.file("parts.json").read_text()).values()
    return open_crops(Store(segment.path.parents[1]).get("segment", part).file("crops.npy"))


@pytest.mark.parametrize("setting", ["crop_um=48", "min_area_um2=25"])
def test_micrometres_without_the_size_of_a_pixel_are_an_error_before_any_work(lab: Lab, setting: str) -> None:
    assert lab.say("fetch").code == 0
    said = lab.say("segment", "--set", f"segment.{setting}")
    assert said.code == 2 and "is not known for 6 of 6 fields" in said.err and "set fetch.dataset.pixel_um" in said.err
    assert not lab.parts("nuclei")


def test_every_plate_says_what_it_dropped_and_the_counts_per_plate_add_up(lab: Lab) -> None:
    tonight = lab.fields.assign(plate="Tonight", field_id=lab.fields["field_id"] + "x")
    lab.write(pd.concat([lab.fields, tonight]))
    assert lab.say("fetch").code == 0
    said = lab.say("segment", *QUICK_TO_START, "--set", "segment.min_area_px=1200")
    segment = Store(lab.root).resolve(said.line, ("segment",))
    counts = read_counts_of_plates(segment)
    assert counts is not None and counts["plate"].tolist() == ["Sim1_00001", "Tonight"]
    of_plate = counts.iloc[1]
    assert f"plate Tonight: {of_plate['detected']} found, {of_plate['kept']} kept: " in said.err
    assert f"{of_plate['too_small']} too small" in said.err
    assert "segment.min_area_px = 1200" in said.err and "the same for plate Tonight: " in said.err
    assert (counts["detected"] == counts["kept"] + counts[list(ALL_REASONS)].sum(axis=1)).all()
    assert {name: counts[name].sum() for name in ("detected", "kept")} == {
        name: segment.card.metrics[name] for name in ("detected", "kept")
    }
    assert " found, " not in lab.say("segment", *QUICK_TO_START, "--set", "segment.min_area_px=1200").err


def test_quality_limits_drop_nuclei_under_their_own_reasons(lab: Lab) -> None:
    every = lab.segment()
    strict = lab.segment("--set", "segment.quality.min_solidity=0.93", "--set", "segment.quality.min_focus=0.1")
    cells = read_cells(every)
    assert set(read_cells(strict)["focus"]) == set(
        cells["focus"][(cells["focus"] >= 0.1) & (cells["solidity"] >= 0.93)]
    )
    assert strict.card.metrics["ragged"] > 0
    assert_balanced(strict)


def test_no_well_has_more_cells_than_the_cap_and_the_draw_does_not_depend_on_order(lab: Lab, tmp_path: Path) -> None:
    every, cap = read_cells(lab.segment()), "segment.cells_per_well=7"
    few = lab.segment("--set", cap)
    cells = read_cells(few)
    assert set(cells["cell_id"]) < set(every["cell_id"])
    expected = every.groupby(["plate", "well"]).size().clip(upper=7)
    assert cells.groupby(["plate", "well"]).size().to_dict() == expected.to_dict()
    assert few.card.metrics["over_cap"] == len(every) - len(cells)
    assert_balanced(few)
    lab.root = tmp_path / "other store"
    assert files_of(lab.segment("--set", cap, "--set", "segment.workers=2")) == files_of(few)


def test_a_blurred_and_an_empty_field_are_flagged_and_dropped_on_request(lab: Lab) -> None:
    for channel in PATHS:
        blurred = ndimage.gaussian_filter(tifffile.imread(lab.image(4, channel)), 8.0)
        tifffile.imwrite(lab.image(4, channel), blurred)
        noise = generator("tests", channel).normal(500, 20, (256, 320)).astype(np.uint16)
        tifffile.imwrite(lab.image(5, channel), noise)
    sharper = ("--set", "segment.quality.field_min_focus=0.1")  # sharp fields have 0.14, the blurred one has 0.08
    flagged = lab.segment(*sharper)
    fields = read_fields(flagged)
    flags = dict(zip(fields["field_id"], fields["field_flags"], strict=True))
    blurred, empty = lab.fields["field_id"].iloc[4], lab.fields["field_id"].iloc[5]
    assert {field for field, flag in flags.items() if flag} == {blurred, empty}
    assert "blurred" in flags[blurred].split(",") and flags[empty] == "empty"
    dropped = lab.segment(*sharper, "--set", 'segment.quality.drop_fields=["blurred"]')
    assert dropped.card.metrics["flagged_field"] == (read_cells(flagged)["field_id"] == blurred).sum() > 0
    assert blurred not in set(read_cells(dropped)["field_id"])
    assert_balanced(dropped)


def test_given_label_images_give_the_cells_that_they_show(lab: Lab) -> None:
    own = lab.segment("--set", "segment.keep_labels=true")
    part = Store(lab.root).get("segment", read_cells(own)["part"].iloc[0])
    masks = lab.folder / "masks"
    masks.mkdir()
    for row, field_id in enumerate(lab.fields["field_id"]):
        name = f"{lab.image(row, 'dna').stem}_cp_masks.tif"
        shutil.copy(part.file(f"labels/{field_id}_cp_masks.tif"), masks / name)
    method = f'segment.method={{ name = "label_images", folder = "{masks}" }}'
    given = lab.segment("--set", method)
    columns = ["cell_id", "row_px", "column_px", "area_px", "solidity"]
    pd.testing.assert_frame_equal(read_cells(given)[columns], read_cells(own)[columns])
    (masks / f"{lab.image(4, 'dna').stem}_cp_masks.tif").unlink()
    fewer = lab.segment("--set", method, "--set", "segment.max_failures=0.2")
    assert fewer.card.metrics["quarantined"] == 1


def test_kept_labels_are_read_back_as_they_are_named(lab: Lab) -> None:
    own = lab.segment("--set", "segment.keep_labels=true", *QUICK_TO_START)
    labels = Store(lab.root).get("segment", read_cells(own)["part"].iloc[0]).path / "labels"
    method = f'{{ name = "label_images", folder = "{labels}", pattern = "{{field}}_cp_masks.tif" }}'
    given = lab.segment("--set", f"segment.method={method}")
    assert given.card.metrics["kept"] == given.card.metrics["detected"] == own.card.metrics["kept"] > 0
    columns = ["cell_id", "row_px", "column_px", "area_px", "solidity"]
    pd.testing.assert_frame_equal(read_cells(given)[columns], read_cells(own)[columns])


def test_two_fields_cannot_share_a_label_image(lab: Lab) -> None:
    fields = lab.fields.copy()
    masks = lab.folder / "masks"
    for row in range(len(fields)):
        folder = lab.folder / f"Pos{row}"
        folder.mkdir()
        fields.loc[fields.index[row], PATHS["dna"]] = str(shutil.copy(lab.image(row, "dna"), folder / "img_dna.tif"))
        (masks / f"Pos{row}").mkdir(parents=True)
        write_labels(masks / f"Pos{row}" / "img_dna_cp_masks.tif", np.zeros((256, 320), np.int32) + (row == 1) * BLOCK)
    lab.write(fields)
    assert lab.say("fetch").code == 0
    shared = lab.say("segment", "--set", f'segment.method={{ name = "label_images", folder = "{masks}" }}')
    assert shared.code == 2 and "would both take their nuclei from" in shared.err and "{folder}" in shared.err
    pattern = "{folder}/{stem}_cp_masks.tif"
    method = f'{{ name = "label_images", folder = "{masks}", pattern = "{pattern}" }}'
    separate = lab.segment("--set", f"segment.method={method}", "--set", "segment.reference=all")
    assert set(read_cells(separate)["field_id"]) == {fields["field_id"].iloc[1]}


BLOCK = np.pad(np.ones((20, 20), np.int32), ((100, 136), (100, 200)))
"""A label image with one nucleus."""


@pytest.mark.parametrize(
    "pattern", ["{stem}}_cp.tif", "{stem", "{}", "{stem}{stem}", "{field}{field}", "{other}", "{folder}.tif", "x.tif"]
)
def test_a_pattern_that_names_no_label_image_is_an_error(lab: Lab, pattern: str) -> None:
    said = lab.say(
        "segment", "--set", f'segment.method={{ name = "label_images", folder = ".", pattern = "{pattern}" }}'
    )
    assert said.code == 2 and "pattern" in said.err and "{stem}" in said.err


def test_a_length_in_micrometres_without_a_pixel_size_is_an_error_before_any_nucleus_is_detected(lab: Lab) -> None:
    lab.write(lab.fields.drop(columns="pixel_um"))
    assert lab.say("fetch").code == 0
    cells = '{ channel = "actin", method = { name = "propagate", max_distance_um = 30 } }'
    said = lab.say("segment", *QUICK_TO_START, "--set", f"segment.cells={cells}")
    assert said.code == 2 and "segment.cells.method.max_distance_um" in said.err, said.err
    assert "fetch.dataset.pixel_um" in said.err and not list(lab.root.glob("segment/*/nuclei.parquet"))
    assert not list(lab.root.rglob("field-*.npz"))


def test_crops_that_do_not_fit_on_the_disk_are_an_error_before_any_is_written(lab: Lab) -> None:
    assert lab.say("fetch").code == 0
    said = lab.say("segment", "--set", "segment.crop_px=60000")
    assert said.code == 1
    assert "GB are free" in said.err and "segment.cells_per_well" in said.err
    assert not list(lab.root.rglob("crops.npy"))


def test_a_plate_without_nuclei_is_an_error(lab: Lab) -> None:
    for row in range(len(lab.fields)):
        for channel in PATHS:
            noise = generator("tests", row, channel).normal(500, 20, (256, 320)).astype(np.uint16)
            tifffile.imwrite(lab.image(row, channel), noise)
    assert lab.say("fetch").code == 0
    said = lab.say("segment", "--set", "segment.cells_per_well=5")
    assert said.code == 3
    assert "no nucleus was found" in said.err


def test_a_plate_whose_nuclei_were_all_dropped_is_an_error_with_the_reasons(lab: Lab) -> None:
    assert lab.say("fetch").code == 0
    said = lab.say("segment", "--set", "segment.min_area_px=19000")
    assert said.code == 3 and "nuclei were found, and none was kept" in said.err and "too_small" in said.err
    assert lab.say("segment", "--set", "segment.min_area_px=300", "--set", "segment.max_area_px=200").code == 2


def test_the_allowed_failures_never_exceed_the_share() -> None:
    assert [allowed_failures(share, 100) for share in (0.0, 0.01, 0.29, 0.57, 1.0)] == [0, 1, 29, 57, 100]
    assert allowed_failures(0.01, 199) == 1


def test_any_channel_can_be_the_nucleus_channel(lab: Lab) -> None:
    for row in range(len(lab.fields)):
        dna, actin = lab.image(row, "dna"), lab.image(row, "actin")
        swapped = dna.read_bytes()
        dna.write_bytes(actin.read_bytes())
        actin.write_bytes(swapped)
    by_actin = read_cells(lab.segment("--set", "segment.nucleus_channel=actin"))
    assert len(by_actin) > 50 and by_actin["solidity"].median() > 0.9


def test_uneven_illumination_is_corrected_on_request(lab: Lab) -> None:
    lamp = np.linspace(0.4, 1.0, 320)
    for row in range(len(lab.fields)):
        pixels = tifffile.imread(lab.image(row)) * lamp
        tifffile.imwrite(lab.image(row), pixels.astype(np.uint16))
    scales = {}
    for setting in ("off", "mean"):
        segment = lab.segment("--set", f"segment.illumination={setting}")
        scales[setting] = read_table(segment.file("scale.parquet")).set_index("channel").loc["actin"]
    assert scales["mean"]["low"] > 1.05 * scales["off"]["low"]  # the dark side has the background of the bright side


def test_the_cells_are_also_written_with_cellprofilers_names(lab: Lab) -> None:
    segment = lab.segment("--set", "segment.cellprofiler_table=true")
    table, cells = pd.read_csv(segment.file("nuclei.csv.gz")), read_cells(segment)
    assert np.allclose(table["Nuclei_Location_Center_X"], cells["column_px"])
    assert np.allclose(table["Nuclei_Location_Center_Y"], cells["row_px"])
    assert (table["Metadata_Well"] == cells["well"]).all()


def test_a_missing_network_of_cellpose_is_an_error_with_its_cure(lab: Lab) -> None:
    assert lab.say("fetch").code == 0
    said = lab.say("segment", "--set", "segment.method=cellpose")
    assert said.code == 2
    assert "pip install" in said.err or "download" in said.err


def test_a_plate_may_have_more_fields_than_a_process_may_have_open_files(tmp_path: Path) -> None:
    import resource

    from cellssl.stages.segment.field import OF_NUCLEI, FieldTask
    from cellssl.stages.segment.nuclei import nuclei_table

    tasks = [FieldTask(f"f{i}", (), 0, None, tmp_path / f"{i}.npz", tmp_path / f"{i}.tif") for i in range(60)]
    for task in tasks:
        np.savez(task.result, **{f"{OF_NUCLEI}{name}": np.ones(2) for name in ("row_px", "column_px", "area_px")})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(handle.name) for handle in Path("/proc/self/fd").iterdir()) + 20, hard)
    )
    try:
        assert len(nuclei_table(tasks)) == 120
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="there is no file here that cannot be read")
def test_an_image_that_a_failing_disk_does_not_give_is_never_quarantined(lab: Lab) -> None:
    assert lab.say("fetch").code == 0
    lab.image(0).unlink()
    lab.image(0).symlink_to("/proc/self/mem")  # reading its first byte is an input/output error
    for stage in ("fetch", "segment"):
        said = lab.say(stage, "--set", f"{stage}.max_failures=1.0")
        assert said.code == 1
        assert "cannot be read" in said.err and "Input/output error" in said.err and "--force" not in said.err
    assert not list(lab.root.glob("segment/*/quarantine.csv"))


def without_nuclei(lab: Lab, fields: pd.DataFrame) -> None:
    """Replace the images of these fields by noise in which no nucleus is found."""
    for number, (_, field) in enumerate(fields.iterrows()):
        for column in PATHS.values():
            noise = generator("tests", "no nuclei", number, column).normal(400, 10, (256, 320))
            tifffile.imwrite(field[column], noise.astype(np.uint16))


def test_a_plate_without_cells_in_its_control_wells_is_an_error_with_the_cure(lab: Lab) -> None:
    without_nuclei(lab, lab.fields[lab.fields["compound"] == "DMSO"])
    assert lab.say("fetch").code == 0
    said = lab.say("segment", *QUICK_TO_START)
    assert said.code == 3 and "has no cell in its control wells" in said.err and 'segment.reference = "all"' in said.err
    assert lab.say("segment", *QUICK_TO_START, "--set", 'segment.reference="all"').code == 0


def test_a_plate_without_any_cell_has_no_scale_and_stops_no_other_plate(lab: Lab) -> None:
    empty = lab.fields.assign(plate="P2", field_id=["P2" + one for one in lab.fields["field_id"]])
    for column in PATHS.values():
        empty[column] = [shutil.copy(place, f"{place}.2.tif") for place in empty[column]]
    without_nuclei(lab, empty)
    lab.write(pd.concat([lab.fields, empty]))
    scale = read_table(lab.segment(*QUICK_TO_START).file("scale.parquet"))
    assert scale["plate"].unique().tolist() == [lab.fields["plate"].iloc[0]]


def test_the_scale_does_not_depend_on_how_many_cells_of_a_well_are_kept(lab: Lab) -> None:
    scales = []
    for words in ((), ("--set", "segment.cells_per_well=2")):
        scale = read_table(lab.segment(*QUICK_TO_START, *words).file("scale.parquet"))
        scales.append(scale[["low", "high", "cells"]].to_numpy().tolist())
    assert scales[0] == scales[1]
