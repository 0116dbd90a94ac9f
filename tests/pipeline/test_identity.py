"""What the name of a result counts: plugins, shipped files, external files by role, order; and edited defaults."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from chain import ENVIRONMENT, Chain, Said, run

from cellssl.config import recipe as recipes
from cellssl.config.settings import FROM_CARD
from cellssl.engine.cards import ChangedDefault, changed_defaults
from cellssl.images.reading import write_labels
from cellssl.stages.cluster.settings import Settings as ClusterSettings

PACKAGE = Path(recipes.__file__).resolve().parents[1]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package whose files a test may edit; the repository's recipes beside it."""
    shutil.copytree(PACKAGE, tmp_path / "lib" / "cellssl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("recipes", "data-manifests"):
        shutil.copytree(PACKAGE.parent / name, tmp_path / "lib" / name)
    return tmp_path / "lib" / "cellssl"


def edit(file: Path, old: str, new: str) -> None:
    """Replace one text of a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def with_package(package: Path, *words: object) -> Said:
    """One command of the edited package, in a process of its own."""
    return run(*words, env={**ENVIRONMENT, "PYTHONPATH": str(package.parent)}, cwd=package.parent)


def names(package: Path, chain: Chain) -> dict[str, str]:
    """Stage -> fingerprint of the tiny recipe's main arm."""
    said = with_package(package, "status", chain.recipe, "--store", chain.root, "--json")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["stages"]
    return {row["stage"]: row["fingerprint"] for row in rows if row["arm"] in ("main", "all")}


def test_an_edited_default_is_refused_with_the_setting_and_both_values(package: Path, chain: Chain) -> None:
    edit(package / "stages" / "cluster" / "settings.py", "n_init: int = Field(20,", "n_init: int = Field(30,")
    said = with_package(package, "cluster", chain.recipe, "--store", chain.root)
    assert said.code == 5, said.err
    assert "cluster.n_init = 20, and the default is now 30" in said.err and "--force" in said.err
    states = with_package(package, "status", chain.recipe, "--store", chain.root, "--json").out
    assert {row["state"] for row in json.loads(states)["stages"] if row["stage"] == "cluster"} == {"outdated (n_init)"}


def test_an_edited_default_of_a_plugin_is_refused_wherever_it_is_upstream(package: Path, chain: Chain) -> None:
    edit(package / "imaging" / "segmenters" / "nuclei_net.py", "Field(0.6, gt=0, lt=1)", "Field(0.7, gt=0, lt=1)")
    said = with_package(package, "split", chain.recipe, "--store", chain.root, "--set", "split.seed=5")
    assert said.code == 5 and "segment.method.threshold = 0.6, and the default is now 0.7" in said.err, said.err


def test_what_stands_on_an_outdated_result_is_outdated_too(package: Path, chain: Chain) -> None:
    """Its own settings are as before, but with today's defaults it would be made of something else."""
    edit(package / "learning" / "transforms" / "rotate.py", "fill: float = Field(0.0,", "fill: float = Field(0.1,")
    words = (chain.recipe, "--store", chain.root)
    states = json.loads(with_package(package, "status", *words, "--arm", "main", "--json").out)["stages"]
    assert {row["stage"]: row["state"] for row in states if row["state"].startswith("outdated")} == {
        "pretrain": "outdated (branches.context.view.1.fill)",
        "embed": "outdated (pretrain)",
        "cluster": "outdated (embed)",
        "evaluate": "outdated (embed)",
        "hits": "outdated (embed)",
    }
    for command in ("embed", "report"):
        said = with_package(package, command, *words)
        assert said.code == 5 and "branches.context.view.1.fill = 0.0, and the default is now 0.1" in said.err, said.err


@pytest.mark.soak
def test_what_was_made_before_its_input_was_made_again_is_outdated(package: Path, chain: Chain, tmp_path: Path) -> None:
    """The names stay when --force makes one stage with today's defaults; what stands on it is an old result."""
    edit(package / "stages" / "segment" / "settings.py", "Field(3.0, ge=1", "Field(3.5, ge=1")
    for stage in ("fetch", "segment", "split"):
        shutil.copytree(chain.root / stage, tmp_path / stage)
    words = (chain.recipe, "--store", tmp_path)
    for _ in range(2):  # made once more, it still differs from what split was made of
        assert with_package(package, "segment", *words, "--force").code == 0
        said = with_package(package, "split", *words)
        assert said.code == 5 and "was made before its segment was made again" in said.err, said.err
    rows = json.loads(with_package(package, "status", *words, "--json").out)["stages"]
    assert {row["stage"]: row["state"] for row in rows[:3]} == {
        "fetch": "done",
        "segment": "done",
        "split": "outdated (segment)",
    }
    assert with_package(package, "split", *words, "--force").code == 0
    assert with_package(package, "split", *words).code == 0


def test_the_part_of_a_plate_is_outdated_where_a_default_has_changed(package: Path, chain: Chain) -> None:
    edit(package / "stages" / "segment" / "settings.py", "Field(3.0, ge=1", "Field(3.5, ge=1")
    edit(package / "stages" / "fetch" / "settings.py", "Setting(0.01, ge=0", "Setting(0.02, ge=0")
    words = (chain.recipe, "--store", chain.root)
    rows = json.loads(with_package(package, "status", *words, "--plates", "--json").out)["plates"]
    states = {row["stage"]: row["state"] for row in rows}
    assert states == {"fetch": "outdated (max_failures)", "segment": "outdated (scale.headroom)"}
    said = with_package(package, "segment", *words, "--plate", "Sim1_00001", "--dry-run")
    assert said.code == 5 and "fetch.max_failures = 0.01, and the default is now 0.02" in said.err
    said = with_package(package, "fetch", *words, "--plate", "Sim1_00001", "--dry-run", "--json")
    listed = json.loads(said.out)
    assert listed["would_make"] == [] and listed["stops_at"]["state"] == "outdated (max_failures)"
    assert [plate["state"] for plate in listed["plates"]] == ["outdated (max_failures)"]
    said = with_package(package, "run", *words, "--dry-run")
    assert "0 of 12 stages would be made; then the command would stop: fetch" in said.out


def test_the_points_of_a_sweep_are_outdated_where_a_default_has_changed(package: Path, chain: Chain) -> None:
    edit(package / "stages" / "cluster" / "settings.py", "n_init: int = Field(20,", "n_init: int = Field(30,")
    sweep = 'sweep.k={ knob = "cluster.k", values = [2, 3] }'
    said = with_package(package, "status", chain.recipe, "--store", chain.root, "--set", sweep)
    assert said.code == 0 and "0 of 1, 1 outdated" in said.out, said.out


def test_force_makes_an_outdated_result_again(package: Path, chain: Chain, tmp_path: Path) -> None:
    edit(package / "stages" / "cluster" / "settings.py", "n_init: int = Field(20,", "n_init: int = Field(3,")
    shutil.copytree(chain.root, tmp_path / "store")
    words = ("cluster", chain.recipe, "--store", tmp_path / "store")
    assert with_package(package, *words, "--force").code == 0
    assert with_package(package, *words).code == 0


def test_a_default_plugin_with_a_higher_algorithm_gives_another_name(package: Path, chain: Chain) -> None:
    before = names(package, chain)
    file = package / "profiling" / "clusterers" / "kmeans.py"
    file.write_text(file.read_text(encoding="utf-8") + "\n\nALGORITHM = 2\n", encoding="utf-8")
    after = names(package, chain)
    assert {stage for stage in before if before[stage] != after[stage]} == {"cluster", "report"}


def test_another_weight_file_of_the_default_detector_gives_another_name(package: Path, chain: Chain) -> None:
    before = names(package, chain)
    weights = package / "imaging" / "segmenters" / "nuclei_net.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    after = names(package, chain)
    assert before["fetch"] == after["fetch"] and before["segment"] != after["segment"]


def test_a_setting_that_only_the_plan_has_counts_as_equal(chain: Chain) -> None:
    card = deepcopy(chain.made("cluster").card)
    del card.section["n_init"]
    assert changed_defaults(card, ClusterSettings(montage_cells=4)) == []


def test_a_former_name_of_a_setting_is_understood_in_a_card_and_refused_in_a_recipe(chain: Chain) -> None:
    card = deepcopy(chain.made("cluster").card)
    card.section["starts"] = card.section.pop("n_init") + 1
    assert changed_defaults(card, ClusterSettings(montage_cells=4)) == [ChangedDefault("n_init", 21, 20)]
    assert ClusterSettings.model_validate({"starts": 4}, context={FROM_CARD: True}).n_init == 4
    said = chain.say("cluster", "--set", "cluster.starts=4")
    assert said.code == 2 and "'starts' was renamed to 'n_init'" in said.err


def test_a_setting_without_effect_does_not_make_a_result_outdated(chain: Chain) -> None:
    """K does not count where an earlier clustering is assigned."""
    card = deepcopy(chain.made("cluster").card)
    card.section.update(k=7, assign_to="0123456789ab")
    assert changed_defaults(card, ClusterSettings(montage_cells=4, assign_to="0123456789ab")) == []


def test_a_default_that_has_become_a_table_or_a_list_is_shown_as_both(chain: Chain) -> None:
    card = deepcopy(chain.made("cluster").card)
    card.section["against"] = []
    assert changed_defaults(card, ClusterSettings(against=("moa",)))[0] == ChangedDefault("against", [], ["moa"])


def lab(folder: Path, channels: str) -> Path:
    """A recipe for two own fields of two channels, with a label image for each."""
    import tifffile

    folder.mkdir(exist_ok=True)
    rows = ["well,site,dna,actin"]
    for site in (1, 2):
        for channel in ("dna", "actin"):
            noise = np.random.default_rng([site, len(channel)]).integers(0, 999, (64, 64), dtype=np.uint16)
            tifffile.imwrite(folder / f"{channel}{site}.tif", noise)
        labels = np.zeros((64, 64), np.int32)
        labels[20 : 30 + site, 20:40] = 1
        write_labels(folder / f"dna{site}_cp_masks.tif", labels)
        rows.append(f"A01,{site},dna{site}.tif,actin{site}.tif")
    (folder / "plate.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    recipe = folder / "lab.toml"
    recipe.write_text(
        '[fetch.dataset]\nname = "image_table"\ntable = "plate.csv"\n'
        f"channels = {channels}\n"
        'columns = { well = "well", site = "site" }\n'
        '[segment.method]\nname = "label_images"\nfolder = "."\n',
        encoding="utf-8",
    )
    return recipe


def planned(recipe: Path, *words: object) -> dict[str, str]:
    said = run("segment", recipe, "--store", recipe.parent / "store", "--dry-run", *words)
    assert said.code == 0, said.err
    return {line.split()[0]: line.split()[-1] for line in said.err.splitlines() if " main: " in line}


def test_exchanged_channels_give_another_name_by_recipe_and_by_set(tmp_path: Path) -> None:
    one = planned(lab(tmp_path, '{ dna = "dna", actin = "actin" }'))
    exchanged = planned(lab(tmp_path, '{ actin = "actin", dna = "dna" }'))
    assert one["fetch"] != exchanged["fetch"] and one["segment"] != exchanged["segment"]
    by_set = planned(
        lab(tmp_path, '{ dna = "dna", actin = "actin" }'),
        "--set",
        'fetch.dataset.channels={ actin = "actin", dna = "dna" }',
    )
    assert by_set == exchanged


def test_label_images_with_exchanged_contents_give_another_name(tmp_path: Path) -> None:
    recipe = lab(tmp_path, '{ dna = "dna" }')
    before = planned(recipe)
    one, two = (tmp_path / f"dna{site}_cp_masks.tif" for site in (1, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    after = planned(recipe)
    assert before["fetch"] == after["fetch"] and before["segment"] != after["segment"]


def test_a_folder_that_moves_keeps_the_names(tmp_path: Path) -> None:
    before = planned(lab(tmp_path / "here", '{ dna = "dna" }'))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert planned(tmp_path / "there" / "lab.toml") == before


def test_what_is_made_of_own_files_is_found_again(tmp_path: Path) -> None:
    """The paths of tables and folders do not count and stand in no card, also where the settings require them."""
    sets = (
        "--set",
        'segment.reference="all"',
        "--set",
        "segment.crop_px=16",
        "--set",
        "segment.quality.field_min_focus=0",
    )
    words = (lab(tmp_path, '{ dna = "dna" }'), "--store", tmp_path / "store", *sets)
    for _ in range(2):
        said = run("run", *words, "--to", "segment")
        assert said.code == 0, said.err
    assert said.err.count("up to date") == 2


def test_a_value_that_is_no_longer_valid_is_named(chain: Chain) -> None:
    card = deepcopy(chain.made("cluster").card)
    card.section["map"] = "cube"
    [change] = changed_defaults(card, ClusterSettings())
    assert change.name == "map" and str(change).startswith("map = 'cube', which is no longer valid: must be 'pca'")
