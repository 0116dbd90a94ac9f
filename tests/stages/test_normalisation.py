"""Chains in evaluate and cluster: they leak nothing, say who fitted, and stop early where a plate has no controls."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import Chain, Said, say

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_table, write_table
from cellssl.randomness import generator
from cellssl.stages.cluster.metrics import ClusterMetrics
from cellssl.stages.evaluate.metrics import EvaluationMetrics

CHAINS = [
    '["zscore", "l2", "center_plate"]',
    '["l2", "center_plate"]',
    '["center_plate", "scale_pooled", "l2"]',
    '["center_plate", "scale_pooled", "sphering"]',
    '["robust_z", "l2"]',
    '"percentile"',
    '["center_plate", "tvn"]',
    '"sphering"',
    '["zscore", "l2"]',
    '"pca"',
]


def noise(name: str, controls: int, plates: int = 3, wells: int = 8, cells: int = 20, dim: int = 256) -> pd.DataFrame:
    """Return cells of one distribution on plates of different location; some wells are called controls."""
    rng = generator("noise", name)
    rows = [(f"P{plate}", f"W{well}") for plate in range(plates) for well in range(wells) for _ in range(cells)]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well"])
    is_control = np.concatenate([rng.permutation(wells) < controls for _ in range(plates)])
    table["Metadata_compound"] = np.where(np.repeat(is_control, cells), "DMSO", "drug")
    halves = np.repeat(["one", "two"], wells * cells // 2)
    table["Metadata_shuffled"] = np.concatenate([rng.permutation(halves) for _ in range(plates)])
    table["Metadata_label"] = table["Metadata_compound"]
    table["Metadata_split"] = np.where(rng.random(len(table)) < 0.6, "train", "test")
    x = rng.normal(size=(len(table), dim)) + np.repeat(2 * rng.normal(size=(plates, dim)), wells * cells, axis=0)
    return table.join(pd.DataFrame(x, columns=[f"emb_{number:04}" for number in range(dim)]))


def evaluated(folder: Path, table: pd.DataFrame, *knobs: str) -> Said:
    table.to_parquet(folder / "cells.parquet")
    knobs = (f"evaluate.table.path={folder / 'cells.parquet'}", "evaluate.bootstrap_draws=200", *knobs)
    return say(
        "evaluate", "profiles", "--store", folder / "store", *(word for knob in knobs for word in ("--set", knob))
    )


@pytest.mark.parametrize("label", ["shuffled", "label"])
@pytest.mark.parametrize("links", CHAINS)
def test_labels_without_meaning_are_predicted_by_chance_after_every_chain(
    tmp_path: Path, links: str, label: str
) -> None:
    """Labels are shuffled within plates, or say who is a control while all cells are of one distribution."""
    knobs = [f"evaluate.normalise={links}", f"evaluate.label={label}", "evaluate.neighbours=10", "evaluate.C=0.01"]
    table = noise("classes", controls=4 if label == "label" else 2)
    found = json.loads((Path(evaluated(tmp_path, table, *knobs).line) / "evaluation.json").read_text())
    for scheme in ("split", "leave_one_plate_out", "leave_one_well_out"):
        for classifier in ("knn", "linear"):
            low, high = found[scheme][classifier]["balanced_accuracy_interval"]
            # a left-out well is of the class that has become rarer, so that chance may be below 0.5 there
            assert low < 0.53 and (scheme == "leave_one_well_out" or high > 0.47), (scheme, classifier, low, high)
            assert found[scheme][classifier]["balanced_accuracy"] < 0.57


def test_unlabelled_cells_of_a_tested_well_fit_nothing(tmp_path: Path) -> None:
    """What the cells of a well share would else be whitened away from those of its cells that are tested."""
    table = noise("well mates", controls=4)
    shared = np.repeat(generator("wells").normal(size=(3 * 8, 256)), 20, axis=0)
    names = [name for name in table if name.startswith("emb_")]
    table[names] += shared
    half = (table["Metadata_compound"] == "DMSO") & (np.arange(len(table)) % 2 == 0)
    table["Metadata_label"] = table["Metadata_label"].mask(half)
    knobs = ['evaluate.normalise=["center_plate", "sphering"]', "evaluate.neighbours=10", "evaluate.C=0.01"]
    found = json.loads((Path(evaluated(tmp_path, table, *knobs).line) / "evaluation.json").read_text())
    assert found["leave_one_well_out"]["linear"]["balanced_accuracy"] < 0.55


def test_clusters_of_cells_with_another_scale_are_refused_with_the_line_to_write(chain: Chain, tmp_path: Path) -> None:
    """A baseline takes cells of any scale, so that only the clustering can notice."""
    words = ["cluster", "--store", tmp_path / "store", "--store", chain.root, "--set", "embed.model=intensities"]
    before = ["--set", 'segment.scale={of="pixels"}']
    earlier = say("run", chain.recipe, "--to", *words, *before).line
    refused = say("run", chain.recipe, "--to", *words, "--set", f"cluster.assign_to={earlier}")
    assert refused.code == 2 and 'set segment.scale = { of = "pixels"' in refused.err
    assert say("run", chain.recipe, "--to", *words, *before, "--set", f"cluster.assign_to={earlier}").line


@pytest.mark.parametrize("links", CHAINS[:5])
def test_one_control_well_on_a_plate_gives_nothing_away(tmp_path: Path, links: str) -> None:
    table = noise("one well", controls=1, wells=4, cells=40)
    knobs = [f"evaluate.normalise={links}", "evaluate.label=label", "evaluate.neighbours=10", "evaluate.C=0.01"]
    said = evaluated(tmp_path, table, *knobs, "evaluate.profiles.normalise=none")
    found = json.loads((Path(said.line) / "evaluation.json").read_text())
    assert found["leave_one_well_out"]["plates_not_trained_on_where_tested"] == ["P0", "P1", "P2"]
    assert (
        "3 plates of which one control well fits, or its wells are not known (P0, P1, P2)" in said.err
        and "tested at once (P0, P1, P2)" in said.err
    )
    for scheme in ("leave_one_plate_out", "leave_one_well_out"):
        for classifier in ("knn", "linear"):
            assert abs(found[scheme][classifier]["balanced_accuracy"] - 0.5) < 0.08, (scheme, classifier)


@pytest.mark.parametrize("links", CHAINS)
def test_treatments_of_one_distribution_with_controls_are_not_found(tmp_path: Path, links: str) -> None:
    """The share of small p-values is at most their size, whatever a chain fits on controls."""
    names = ["DMSO"] * 8 + [f"drug {one:02}" for one in range(12) for _ in range(3)]
    knobs = f"evaluate.profiles.normalise={links}", "evaluate.retrieval.null_size=1000"
    values = []
    for number in range(8):  # screens, so that more than one draw of controls is tried
        folder = tmp_path / str(number)
        folder.mkdir()
        screen = noise(f"screen {number}", controls=0, plates=1, wells=len(names), cells=1, dim=40)
        table = screen.assign(Metadata_compound=names).drop(columns=["Metadata_label", "Metadata_split"])
        values += pd.read_csv(Path(evaluated(folder, table, *knobs).line) / "map.csv")["p_value"].tolist()
    p_values = np.array(values)
    assert len(p_values) == 8 * 12 and np.mean(p_values < 0.05) < 0.09 and np.mean(p_values < 0.2) < 0.3


def of_noise(chain: Chain, store: Store, shift: float = 0.0, dim: int = 8) -> Artifact:
    """Return the chain's embeddings with vectors of one distribution in place of its own."""
    embed = chain.made("embed")
    table = read_table(embed.file("embeddings.parquet"))
    x = generator("noise").normal(size=(len(table), dim)) + shift
    names = [f"emb_{number:04}" for number in range(dim)]
    known = table[[name for name in table if not name.startswith("emb_")]]
    table = known.join(pd.DataFrame(x.astype(np.float32), columns=names))
    with store.drafting("embed", f"{int(shift):012x}") as draft:
        write_table(table, draft.file("embeddings.parquet"))
        return draft.commit(replace(embed.card, fingerprint=f"{int(shift):012x}", files={}))


def clustered(chain: Chain, store: Store, embed: Artifact, *knobs: str) -> Said:
    words = ["--store", store.root, "--store", chain.root, "--input", embed.path]
    return say("cluster", chain.recipe, *words, *(word for knob in knobs for word in ("--set", knob)))


@pytest.mark.parametrize("links", CHAINS)
def test_clusters_of_noise_do_not_follow_who_is_a_control(chain: Chain, tmp_path: Path, links: str) -> None:
    """There are as many features as controls: who clusters the controls that whitened finds them, at an AMI of 0.3."""
    store = Store(tmp_path / "store")
    embed, knobs = of_noise(chain, store, dim=256), ["cluster.part=all", 'cluster.against=["compound"]']
    made = Path(clustered(chain, store, embed, f"cluster.normalise={links}", *knobs).line)
    against = json.loads((made / "scores.json").read_text())["against"]
    assert abs(against["compound"]["ami"]) < 0.05


def test_a_shift_of_tonights_plate_is_taken_off_by_its_own_controls(chain: Chain, tmp_path: Path) -> None:
    store, knobs = Store(tmp_path / "store"), ['cluster.against=["well"]', "cluster.part=all"]
    before, shifted = of_noise(chain, store), of_noise(chain, store, shift=7.0)
    tables = {}
    for links in ('["center_plate", "scale_pooled"]', '"zscore"'):
        fitted = Path(clustered(chain, store, before, f"cluster.normalise={links}", *knobs).line)
        again = Path(clustered(chain, store, shifted, f"cluster.assign_to={fitted}", *knobs).line)
        tables[links] = [read_table(path / "assignments.parquet")["cluster"] for path in (fitted, again)]
    same, other = ((one == two).mean() for one, two in tables.values())
    assert same > 0.99 and other < 0.8
    card = ClusterMetrics.from_json(json.loads((again / "artifact.json").read_text())["metrics"])
    assert card.normalise == ("zscore",) and card.fitted_by[0].on == "cells"


def test_the_card_and_the_page_say_who_fitted(chain: Chain, tmp_path: Path) -> None:
    cards = {kind: chain.made(kind).card.metrics for kind in ("cluster", "evaluate")}
    clusters = ClusterMetrics.from_json(cards["cluster"])
    cells = read_table(chain.made("embed").file("embeddings.parquet"))
    controls = int((cells["Metadata_control"] & cells["Metadata_drawn"]).sum())
    assert clusters.normalise == ("zscore", "l2", "center_plate")
    assert [(one.link, one.on, one.rows, one.folds, one.split_by) for one in clusters.fitted_by] == [
        ("zscore", "cells", clusters.cells, 1, None),
        ("center_plate", "controls of each plate", controls, 4, "well"),
    ]
    parts = EvaluationMetrics.from_json(cards["evaluate"]).fitted_by()
    assert {"split", "leave_one_well_out", "profiles"} <= set(parts)
    made = Path(say("report", chain.recipe, "--store", tmp_path, "--store", chain.root).line)
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "centred on the controls of every plate" in page
    assert "Which cells fitted the normalisation" in page


STACK = """
name = "stack"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "stack.csv"
axes = "ncyx"
channels = ["red", "green"]
columns = { plate = "plate", well = "well", compound = "compound" }
[segment]
reference = "all"
[embed]
model = "intensities"
cells = "segment"
[evaluate]
"""


@pytest.fixture
def without_controls(tmp_path: Path) -> Path:
    """Return a recipe for crops of two plates, of which one has controls."""
    compounds = {"P0": ["DMSO", "DMSO", "drug", "drug"], "P1": ["drug"] * 4}
    rows = [(plate, f"W{row}", name) for plate, names in compounds.items() for row, name in enumerate(names)]
    table = pd.DataFrame(rows * 6, columns=["plate", "well", "compound"])
    pixels = generator("pixels").normal(900, 50, (len(table), 2, 12, 12))
    np.save(tmp_path / "stack.npy", pixels.astype(np.uint16))
    table.to_csv(tmp_path / "stack.csv", index=False)
    (tmp_path / "stack.toml").write_text(STACK)
    return tmp_path / "stack.toml"


@pytest.mark.parametrize("command", [["check"], ["run"], ["run", "--dry-run"]])
def test_a_plate_without_controls_is_found_before_any_work(without_controls: Path, command: list[str]) -> None:
    store = without_controls.parent / "store"
    said = say(command[0], without_controls, *command[1:], "--store", store)
    assert said.code == 2 and "plate P1 has no control well" in said.err
    assert "fetch.controls" in said.err and 'cluster.normalise = ["zscore", "l2"]' in said.err
    assert not list(store.glob("*/*/artifact.json"))


def test_a_plate_without_controls_is_clustered_by_a_chain_that_needs_none(without_controls: Path) -> None:
    words = ["--store", without_controls.parent / "store", "--to", "cluster"]
    assert say("run", without_controls, *words[:2], "--to", "segment").code == 0
    refused = say("run", without_controls, *words)
    assert refused.code == 2 and "plate P1 has no control well" in refused.err
    made = Path(say("run", without_controls, *words, "--set", 'cluster.normalise=["zscore", "l2"]').line)
    assert ClusterMetrics.from_json(json.loads((made / "artifact.json").read_text())["metrics"]).normalise == (
        "zscore",
        "l2",
    )


def test_a_new_plate_without_controls_is_refused_with_the_cure(without_controls: Path) -> None:
    """The earlier clustering takes the location of a plate from its controls."""
    words = ["--store", without_controls.parent / "store", "--to", "cluster"]
    earlier = say("run", without_controls, *words, "--set", 'fetch.exclude_plates=["P1"]').line
    for knobs in (["fetch.controls=[]"], ['fetch.controls=["water"]']):
        flags: list[Any] = [word for knob in [*knobs, f"cluster.assign_to={earlier}"] for word in ("--set", knob)]
        said = say("run", without_controls, *words, *flags)
        assert said.code == 2 and "the earlier clustering is fitted on the controls of every plate" in said.err
        assert "fetch.controls" in said.err


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ('["center_plat"]', "did you mean 'center_plate'?"),
        ('"pca_whiten"', "was renamed to 'pca'"),
        ('["none", "l2"]', "cannot be a link among others"),
        ("3", "must be a list of links"),
        ('[{ name = "pca", varianc = 0.5 }]', "did you mean 'variance'?"),
    ],
)
def test_a_wrong_chain_is_an_error_of_one_sentence(tmp_path: Path, links: str, message: str) -> None:
    said = evaluated(tmp_path, noise("short", controls=2, cells=2, dim=4), f"evaluate.normalise={links}")
    assert said.code == 2 and message in said.err and "Traceback" not in said.err
