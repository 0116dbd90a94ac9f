"""Tests of simulated plates: the same bits again, ground truth that agrees with the pixels, and a realistic look."""

import csv
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from scipy import ndimage
from skimage.morphology import disk

import cellssl
from cellssl.artifacts.hashing import sha256_of
from cellssl.config.settings import first_fault
from cellssl.datasets.base import Field
from cellssl.datasets.simulated import PIXEL_UM, Settings
from cellssl.datasets.simulation import nuclei
from cellssl.datasets.simulation.compounds import COMPOUNDS, MEASURED
from cellssl.datasets.simulation.layout import scatter
from cellssl.datasets.simulation.phenotypes import PHENOTYPES
from cellssl.datasets.simulation.scene import Rendered, Scene, expected_cells, label, populate, render
from cellssl.files import remove_unfinished
from cellssl.imaging.labels import border
from cellssl.imaging.neighbours import distances_to_others
from cellssl.imaging.segmenters import nuclei_net
from cellssl.randomness import generator

NO_CACHE = Path("/not/there")
SMALL = {
    "plates": 1,
    "compounds": ["sim-nocodazole"],
    "doses": 1,
    "control_wells": 1,
    "sites_per_well": 2,
    "height_px": 192,
    "width_px": 256,
    "workers": 1,
}
UNTREATED = Scene(
    seed=3,
    plate="Sim1_00001",
    well="B02",
    field_id="Sim1_00001_B02_s1",
    compound=None,
    dose_micromolar=0.0,
    height_px=1024,
    width_px=1280,
    cells_per_field=195.0,
    density_spread=0.0,
    brightness_spread=0.0,
    effect_max=0.85,
)


def settings(**values: object) -> Settings:
    return Settings.model_validate({**SMALL, **values})


def make_all(dataset: Settings, folder: Path) -> dict[str, str]:
    """Make all fields; return the sha256 of every file by its path."""
    for _ in dataset.make(dataset.plan(NO_CACHE), folder):
        pass
    return hashes(folder)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def control() -> Rendered:
    return render(UNTREATED)


def test_a_plate_made_again_is_byte_identical_with_any_number_of_workers(tmp_path: Path) -> None:
    assert make_all(settings(), tmp_path / "one") == make_all(settings(workers=2), tmp_path / "two")


def test_a_field_does_not_depend_on_the_other_fields(tmp_path: Path) -> None:
    whole = make_all(settings(), tmp_path / "whole")
    list(settings().make(settings().plan(NO_CACHE)[-1:], tmp_path / "alone"))
    alone = {name: value for name, value in hashes(tmp_path / "alone").items() if name != "truth.csv"}
    assert len(alone) == 5 and alone.items() <= whole.items()


def test_a_plate_does_not_depend_on_the_number_of_plates() -> None:
    one, four = settings(plates=1), settings(plates=4)
    assert four.plan(NO_CACHE)[: len(one.plan(NO_CACHE))] == one.plan(NO_CACHE)
    assert four.identity(four.plan(NO_CACHE), sha256_of) == one.identity(one.plan(NO_CACHE), sha256_of)
    batches = [field.batch for field in four.plan(NO_CACHE) if field.field_id.endswith("B02_s1")]
    assert batches == ["Week1"] * 3 + ["Week2"]


def test_another_seed_gives_other_pixels_and_other_file_names(tmp_path: Path) -> None:
    first, second = make_all(settings(seed=0), tmp_path / "0"), make_all(settings(seed=1), tmp_path / "1")
    assert not {name for name in first if name.startswith("Sim")} & set(second)
    assert not set(first.values()) & set(second.values())


def test_label_image_and_truth_table_agree(tmp_path: Path) -> None:
    make_all(settings(), tmp_path)
    rows = truth_rows(tmp_path)
    for field in settings().plan(NO_CACHE):
        labels = tifffile.imread(tmp_path / str(field.extra["truth_labels"]))
        own = [row for row in rows if row["field_id"] == field.field_id]
        assert [int(row["label"]) for row in own] == list(range(1, int(labels.max()) + 1))
        for row in own:
            where = np.argwhere(labels == int(row["label"]))
            assert len(where) == int(row["area_px"])
            np.testing.assert_allclose(where.mean(axis=0), [float(row["row_px"]), float(row["column_px"])], atol=0.01)


def test_nuclei_lie_where_their_labels_are(control: Rendered) -> None:
    dna = control.images["dna"]
    assert np.median(dna[control.labels > 0]) > 2 * np.median(dna[control.labels == 0])


def test_images_are_single_channel_uint16_named_as_in_bbbc021(tmp_path: Path) -> None:
    make_all(settings(), tmp_path)
    field = settings().plan(NO_CACHE)[0]
    assert {channel: Path(name).name[:23] for channel, name in field.images.items()} == {
        "dna": "Week1_150607_B02_s1_w1" + Path(field.images["dna"]).name[22],
        "tubulin": "Week1_150607_B02_s1_w2" + Path(field.images["tubulin"]).name[22],
        "actin": "Week1_150607_B02_s1_w4" + Path(field.images["actin"]).name[22],
    }
    assert len({Path(name).stem[22:] for name in field.images.values()}) == 3
    for name in field.images.values():
        pixels = tifffile.imread(tmp_path / name)
        assert pixels.dtype == np.uint16 and pixels.shape == (192, 256)


def test_nuclei_of_untreated_cells_have_the_real_median_diameter(control: Rendered) -> None:
    normal = np.array([name == "normal" for name in control.truth.phenotype])
    diameters = 2 * np.sqrt(control.truth.area_px[normal] / np.pi)
    assert np.median(diameters) == pytest.approx(37, abs=3)


def test_fields_hold_the_expected_number_of_cells() -> None:
    inside = []
    for number in range(30):
        rows, columns = scatter(generator("test", number), 1024, 1280, 195, 0.8).T
        inside.append(np.sum((rows >= 0) & (rows < 1024) & (columns >= 0) & (columns < 1280)))
    assert np.mean(inside) == pytest.approx(195, rel=0.08)


@pytest.mark.parametrize("dose", [0.001, 0.05, 3.0])
def test_share_of_reacting_cells_follows_the_hill_curve(dose: float) -> None:
    scene = replace(UNTREATED, compound="sim-nocodazole", dose_micromolar=dose)
    found = [populate(replace(scene, field_id=f"Sim1_00001_E03_s{site}")).reaction.phenotype for site in range(25)]
    share = np.mean(np.concatenate(found) != PHENOTYPES.index("normal"))
    reacts = 0.85 / (1 + (0.05 / dose) ** 1.5)
    assert share == pytest.approx(reacts + (1 - reacts) * 0.075, abs=0.02)


def test_a_compound_causes_its_own_reactions_only() -> None:
    scene = replace(UNTREATED, compound="sim-cytochalasin", dose_micromolar=30.0, cells_per_field=400.0)
    found = Counter(PHENOTYPES[value] for value in populate(scene).reaction.phenotype)
    assert found["actin_clumps"] > 5 * found["multinucleate"]
    assert found["bundled_tubulin"] == found["depolymerised_tubulin"] == found["mitotic_arrest"] == 0


def test_a_treatment_does_not_change_density_and_positions() -> None:
    spread = replace(UNTREATED, density_spread=0.5)
    treated = replace(spread, compound="sim-taxol", dose_micromolar=3.0)
    assert expected_cells(treated) == expected_cells(spread)
    np.testing.assert_array_equal(populate(treated).row, populate(spread).row)


def test_density_differs_between_wells_more_than_within_them() -> None:
    scene = replace(UNTREATED, density_spread=0.35)
    logs = np.log(
        [
            [expected_cells(replace(scene, well=f"W{well}", field_id=f"W{well}_s{site}")) for site in range(4)]
            for well in range(400)
        ]
    )
    assert logs.mean(axis=1).std() == pytest.approx(np.hypot(0.35, 0.175 / 2), rel=0.1)
    assert logs.std(axis=1, ddof=1).mean() == pytest.approx(0.175 * 0.921, rel=0.1)


@pytest.mark.parametrize("compound", ["sim-nocodazole", "sim-taxol", "sim-cytochalasin"])
def test_treated_fields_are_not_simply_brighter(compound: str, control: Rendered) -> None:
    treated = render(replace(UNTREATED, compound=compound, dose_micromolar=30.0))
    for channel, pixels in treated.images.items():
        assert pixels.mean() == pytest.approx(control.images[channel].mean(), rel=0.3)


def test_plates_differ_in_brightness_and_fields_of_a_plate_do_not() -> None:
    small = replace(UNTREATED, height_px=256, width_px=256, brightness_spread=0.5, cells_per_field=300.0)
    plates = [np.median(render(replace(small, plate=f"Sim1_0000{n}")).images["actin"]) for n in range(6)]
    fields = [np.median(render(replace(small, field_id=f"f{n}")).images["actin"]) for n in range(6)]
    assert np.std(np.log(plates)) > 1.5 * np.std(np.log(fields))


def test_dna_looks_like_the_real_field(shared_data: Path, control: Rendered) -> None:
    real = tifffile.imread(next((shared_data / "fields").glob("Week1_150607_B02_s3_w1*.tif")))
    for quantile, tolerance in ((5, 0.25), (50, 0.25), (95, 0.35), (99.9, 0.6)):
        assert np.percentile(control.images["dna"], quantile) == pytest.approx(
            np.percentile(real, quantile), rel=tolerance
        )
    assert noise(control.images["dna"]) == pytest.approx(noise(real), rel=0.25)
    assert not np.any(control.images["dna"] % 16) and not np.any(real % 16)


def noise(pixels: np.ndarray) -> float:
    """Return the standard deviation of camera noise in the background, from differences of neighbouring pixels."""
    dark = pixels.astype(float)[:, : pixels.shape[1] // 2 * 2]
    left, right = dark[:, ::2], dark[:, 1::2]
    kept = (left + right) / 2 < np.median(dark) + 100
    return float((right - left)[kept].std() / np.sqrt(2))


def test_tables_have_the_columns_of_bbbc021(shared_data: Path) -> None:
    for name, text in settings().tables(settings().plan(NO_CACHE), NO_CACHE).items():
        with (shared_data / "meta" / name).open() as official:
            assert text.splitlines()[0] == official.readline().rstrip("\r\n")


def test_the_image_table_names_the_files_of_every_field() -> None:
    fields = settings(plates=2).plan(NO_CACHE)
    rows = list(csv.DictReader(io.StringIO(settings().tables(fields, NO_CACHE)["BBBC021_v1_image.csv"])))
    for field, row in zip(fields, rows, strict=True):
        assert row["Image_Metadata_Plate_DAPI"] == field.plate
        assert row["Image_Metadata_Well_DAPI"] == field.well
        assert row["Image_Metadata_Compound"] == field.compound
        assert float(row["Image_Metadata_Concentration"]) == field.dose_micromolar
        for stain, channel in (("DAPI", "dna"), ("Tubulin", "tubulin"), ("Actin", "actin")):
            assert f"{field.plate}/{row[f'Image_FileName_{stain}']}" == field.images[channel]


def test_a_plate_has_the_wells_and_doses_of_the_settings() -> None:
    values = {"compounds": ["sim-taxol", "sim-cytochalasin"], "doses": 4, "wells_per_treatment": 2, "control_wells": 6}
    plan = settings(**values).plan(NO_CACHE)
    doses = Counter((field.compound, field.dose_micromolar) for field in plan)
    assert doses.pop(("DMSO", 0.0)) == 12
    assert set(doses.values()) == {4}
    assert {dose for name, dose in doses if name == "sim-cytochalasin"} == {1.0, 3.0, 10.0, 30.0}
    assert len({field.field_id for field in plan}) == len(plan) == 12 + 2 * 4 * 2 * 2
    assert plan == sorted(plan, key=lambda field: (field.plate, field.well, field.site))


def test_whole_files_are_not_made_again_and_truncated_ones_are(tmp_path: Path) -> None:
    before = make_all(settings(), tmp_path)
    first, second = settings().plan(NO_CACHE)[:2]
    kept, short = tmp_path / first.images["dna"], tmp_path / second.images["dna"]
    short.write_bytes(short.read_bytes()[:1000])
    stamp = kept.stat().st_mtime_ns
    assert make_all(settings(), tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp


def test_progress_counts_every_field_once(tmp_path: Path) -> None:
    list(settings().make(settings().plan(NO_CACHE)[:1], tmp_path))
    seen = [(event.done, event.total) for event in settings().make(settings().plan(NO_CACHE), tmp_path)]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_kill_leaves_no_half_file_and_no_process(tmp_path: Path) -> None:
    dataset = settings(sites_per_well=5, workers=2)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom cellssl.datasets.simulated import Settings\nif __name__ == '__main__':\n"
        f"    dataset = Settings.model_validate({ {**dataset.all_values(), 'workers': 2}!r})\n"
        f"    for event in dataset.make(dataset.plan(Path()), Path({str(tmp_path / 'plate')!r})):\n"
        "        print(event.done, flush=True)\n"
    )
    found = {**os.environ, "PYTHONPATH": str(Path(cellssl.__file__).parents[1])}
    command = [sys.executable, str(script)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, env=found)
    assert running.stdout is not None and running.stdout.readline()
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    wait_until_gone(running.pid)
    for path in (tmp_path / "plate").rglob("*.tif"):
        assert tifffile.imread(path).shape == (192, 256)
    alone = settings(sites_per_well=5)
    remove_unfinished(tmp_path / "plate")  # as the holder of the lock does before it goes on
    assert make_all(alone, tmp_path / "plate") == make_all(alone, tmp_path / "unbroken")


def wait_until_gone(group: int) -> None:
    """Wait until no process of the group is left; fail after ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("workers outlived their parent")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"wells_per_treatment": 4, "compounds": ["sim-taxol", "sim-nocodazole"]}, "need 8 rows"),
        ({"compounds": ["taxol"]}, "sim-taxol"),
        ({"compounds": ["sim-taxol", "sim-taxol"]}, "each compound once"),
        ({"doses": 9}, "from 1 to 8"),
        ({"doses": 10**12}, "from 1 to 8"),
        ({"doses": 10**20}, "64 bits"),
        ({"doses": [0.1, 0.1]}, "different doses"),
        ({"doses": [0.1, -1.0]}, "above 0"),
        ({"effect_max": 1.0}, "less than 1"),
        ({"edge_effect": 0.5}, 'set layout = "fixed" or "shuffled"'),
        ({"inactive": 3}, "inactive"),
        ({"control_wells": 7}, "more than 6"),
        ({"layout": "fixed", "inactive": 99, "doses": 8}, "plate has 96"),
    ],
)
def test_impossible_plates_are_refused_with_a_reason(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**values)
    assert words in first_fault(caught.value).message


def test_the_identity_of_a_plate_does_not_depend_on_workers_and_plates() -> None:
    fields: list[Field] = settings().plan(NO_CACHE)
    assert settings(workers=2, plates=5).identity(fields, sha256_of) == settings().identity(fields, sha256_of)
    assert settings(effect_max=0.5).identity(fields, sha256_of) != settings().identity(fields, sha256_of)
    assert "workers" not in settings(workers=2).non_default()


SCREEN = {"layout": "shuffled", "doses": 4, "control_wells": 8, "sites_per_well": 1, "plates": 3}
WELLS = 8


def measured(scene: Scene, wells: int = WELLS) -> dict[str, float]:
    """Return the means over some wells of what CellProfiler measures of their label images, and the cells per well."""
    each = [_of_nuclei(replace(scene, well=f"W{number}", field_id=f"W{number}_s1")) for number in range(wells)]
    means = [(*np.nanmean(nuclei_of_well, axis=0), len(nuclei_of_well)) for nuclei_of_well in each]
    names = ("nearest", "second_nearest", "touching", "area", "count")
    return dict(zip(names, np.mean(means, axis=0).tolist(), strict=True))


def _of_nuclei(scene: Scene) -> np.ndarray:
    cells = populate(scene)
    owner = nuclei.paint(cells, generator("nuclei", scene.field_id), scene.height_px, scene.width_px).owner
    labels, truth = label(cells, owner)
    nearest = distances_to_others(np.stack([truth.row_px, truth.column_px], axis=1), 2)
    return np.column_stack([nearest, _touching(labels.astype(int)), truth.area_px])


def _touching(labels: np.ndarray) -> np.ndarray:
    """Return the share of each nucleus' border with another nucleus within 10 px, as CellProfiler's PercentTouching."""
    rows, columns = np.nonzero(border(labels))
    own, framed = labels[rows, columns], np.pad(labels, 10)
    others = (framed[rows + 10 + down, columns + 10 + across] for down, across in np.argwhere(disk(10)) - 10)
    touches = np.any([(other > 0) & (other != own) for other in others], axis=0)
    return np.bincount(own, touches)[1:] / np.bincount(own)[1:]


ANSWERING = replace(UNTREATED, density_spread=0.35, density_answer=1.0)


@pytest.fixture(scope="module")
def dmso() -> dict[str, float]:
    return measured(ANSWERING)


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_wells_answer_a_drug_by_the_factors_of_real_wells(name: str, dmso: dict[str, float]) -> None:
    dose = COMPOUNDS[name].doses_micromolar[-1]
    found, real = measured(replace(ANSWERING, compound=name, dose_micromolar=dose)), MEASURED[name]
    assert found["second_nearest"] / dmso["second_nearest"] == pytest.approx(real.second_nearest, rel=0.12)
    assert found["touching"] / dmso["touching"] == pytest.approx(real.touching, rel=0.25)
    assert found["area"] / dmso["area"] == pytest.approx(real.area, rel=0.08)
    assert found["count"] / dmso["count"] == pytest.approx(real.count, rel=0.12)


def test_what_segment_measures_of_damaged_cells_shows_the_answer_of_the_well() -> None:
    def found(scene: Scene) -> np.ndarray:
        fields = [render(replace(scene, field_id=f"F{n}", height_px=512, width_px=640)) for n in range(2)]
        labels = [nuclei_net.Settings().segment(field.images["dna"], PIXEL_UM).astype(np.int32) for field in fields]
        centres = [np.array(ndimage.center_of_mass(one > 0, one, np.unique(one[one > 0]))) for one in labels]
        nearest = np.concatenate([distances_to_others(one, 2) for one in centres])
        return np.array([*np.nanmean(nearest, axis=0), np.mean([(one > 0).sum() / one.max() for one in labels])])

    control = replace(ANSWERING, density_spread=0.0)
    ratio = found(replace(control, compound="sim-etoposide", dose_micromolar=100.0)) / found(control)
    real = MEASURED["sim-etoposide"]
    assert ratio == pytest.approx([real.nearest, real.second_nearest, real.area], rel=0.15)


def test_the_answer_of_a_well_grows_with_the_dose() -> None:
    doses = COMPOUNDS["sim-vincristine"].doses_micromolar
    scenes = [replace(ANSWERING, compound="sim-vincristine", dose_micromolar=dose) for dose in doses]
    assert [scene.answer.count for scene in scenes] == sorted((scene.answer.count for scene in scenes), reverse=True)
    assert scenes[0].answer.count > 0.9 and scenes[-1].answer.clumped > 0.4


def test_without_a_density_answer_a_treatment_leaves_every_nucleus_where_it_was() -> None:
    for name in COMPOUNDS.keys() - {"sim-cytostatic"}:
        treated = populate(replace(UNTREATED, compound=name, dose_micromolar=30.0))
        np.testing.assert_array_equal(treated.row, populate(UNTREATED).row)


def test_an_inactive_compound_gives_the_pixels_of_dmso() -> None:
    small = replace(ANSWERING, height_px=192, width_px=256)
    inactive = render(replace(small, compound="sim-inactive-07", dose_micromolar=30.0))
    for channel, pixels in render(small).images.items():
        np.testing.assert_array_equal(inactive.images[channel], pixels)


def test_a_cytostatic_compound_leaves_fewer_cells_that_look_untreated(dmso: dict[str, float]) -> None:
    scene = replace(ANSWERING, density_answer=0.0, compound="sim-cytostatic", dose_micromolar=30.0)
    found = measured(scene)
    assert found["count"] / dmso["count"] == pytest.approx(0.4, rel=0.12)
    assert found["area"] == pytest.approx(dmso["area"], rel=0.04)
    reaction = populate(scene).reaction
    assert not np.any(reaction.tubulin_lost + reaction.tubulin_bundled + reaction.enlarged + reaction.swollen)


def test_cells_with_damaged_dna_have_larger_nuclei_and_bodies() -> None:
    treated = populate(replace(UNTREATED, compound="sim-etoposide", dose_micromolar=30.0))
    control = populate(UNTREATED)
    assert treated.nucleus_radius.mean() > 1.07 * control.nucleus_radius.mean()
    assert treated.body_radius.mean() > 1.1 * control.body_radius.mean()


def test_a_fixed_layout_repeats_on_every_plate_and_a_shuffled_one_does_not() -> None:
    def wells(layout: str) -> list[dict[str, tuple[object, ...]]]:
        plan = settings(**{**SCREEN, "layout": layout}).plan(NO_CACHE)
        plates = sorted({field.plate for field in plan})
        return [{f.well: (f.compound, f.dose_micromolar) for f in plan if f.plate == plate} for plate in plates]

    fixed, shuffled = wells("fixed"), wells("shuffled")
    assert fixed[0] == fixed[1] == fixed[2]
    assert shuffled[0] != shuffled[1] != shuffled[2]
    assert all(Counter(plate.values()) == Counter(fixed[0].values()) for plate in (*fixed, *shuffled))


def test_a_screen_holds_every_treatment_as_often_as_asked() -> None:
    values = {**SCREEN, "compounds": ["sim-taxol", "sim-cytostatic"], "inactive": 2, "wells_per_treatment": 3}
    plan = settings(**values, plate_wells=384).plan(NO_CACHE)
    treatments = Counter((field.compound, field.dose_micromolar) for field in plan if field.plate == "Sim1_00002")
    assert treatments.pop(("DMSO", 0.0)) == 8
    assert len(treatments) == 4 * 4 and set(treatments.values()) == {3}
    assert {field.moa for field in plan} == {"DMSO", "Microtubule stabilizers", None}
    assert "inactive" not in settings(**values, plate_wells=384).tables(plan, NO_CACHE)["BBBC021_v1_moa.csv"]


def test_wells_at_the_border_differ_only_with_an_edge_effect() -> None:
    screen = settings(**SCREEN, edge_effect=1.0)
    plan = screen.plan(NO_CACHE)
    at_edge = [screen._scene(field).edge_effect for field in plan]
    assert at_edge == [float(field.well[0] in "AH" or field.well[1:] in ("01", "12")) for field in plan]
    assert 0 < sum(at_edge) < len(plan)
    assert not any(settings(**SCREEN)._scene(field).edge_effect for field in plan)


def test_wells_at_the_border_have_fewer_cells_less_light_and_smaller_nuclei(dmso: dict[str, float]) -> None:
    edge = replace(ANSWERING, edge_effect=1.0)
    found = measured(edge)
    assert found["count"] / dmso["count"] == pytest.approx(0.65, abs=0.06)
    assert found["area"] / dmso["area"] == pytest.approx(0.92**2, rel=0.04)
    bright, dim = (render(replace(scene, height_px=256, width_px=256)) for scene in (ANSWERING, edge))
    assert all(dim.images[channel].mean() < 0.9 * bright.images[channel].mean() for channel in dim.images)


def test_plates_of_before_keep_their_identity_and_new_settings_count_where_they_act() -> None:
    plan = settings().plan(NO_CACHE)
    assert sorted(settings().identity(plan, sha256_of)) == [
        "algorithm", "brightness_spread", "cells_per_field", "density_spread", "effect_max", "height_px", "seed",
        "width_px",
    ]  # fmt: skip
    changed = [settings(**SCREEN, **more) for more in ({}, {"density_answer": 0.5}, {"edge_effect": 0.5})]
    assert len({str(screen.identity(plan, sha256_of)) for screen in changed}) == 3
