"""report: NSC, NSCB, mean average precision and intervals of a made-up screen, computed again from the vectors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from copairs.map import average_precision
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from cellssl.artifacts.store import Artifact, Store
from tests.chain import say
from tests.stages.test_report import table_rows

MECHANISMS = {"one": ("ana", "bob", "cat"), "two": ("dan", "eve", "fay"), "three": ("gus", "hal", "ida")}
COMPOUNDS = {"DMSO": None} | {compound: moa for moa, compounds in MECHANISMS.items() for compound in compounds}
RECIPE = """
name = "mechanisms"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "stack.csv"
axes = "ncyx"
channels = ["red", "green", "blue"]
pixel_um = 0.5
columns = { plate = "plate", well = "well", batch = "week", compound = "compound", moa = "moa" }
[embed]
model = "intensities"
cells = "segment"
[cluster]
k = 3
[evaluate]
label = "moa"
neighbours = 3
profiles.normalise = "none"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pd.DataFrame, Artifact]:
    """Return the page, the embeddings, and the evaluation."""
    folder = tmp_path_factory.mktemp("mechanisms")
    rng = np.random.default_rng(3)
    rows = [
        (f"P{plate}", f"W{well}{row:02}", f"week {plate // 2}", compound)
        for plate in range(4)
        for row, compound in enumerate(COMPOUNDS)
        for well in "AB"
        for _ in range(6)
    ]
    table = pd.DataFrame(rows, columns=["plate", "well", "week", "compound"])
    table["moa"] = table["compound"].map(COMPOUNDS)
    effect = table["moa"].map({"one": 0, "two": 1, "three": 2})
    own = table["compound"].map(dict(zip(COMPOUNDS, 25 * rng.normal(size=(len(COMPOUNDS), 3)), strict=True)))
    grey = 900 + np.stack(own) + 40 * np.eye(3)[effect.fillna(0).astype(int)] * effect.notna().to_numpy()[:, None]
    grey += rng.normal(0, 40, grey.shape) + 30 * rng.normal(size=(4, 3))[table["plate"].str[1].astype(int)]
    pixels = rng.normal(grey[:, :, None, None], 50, (len(table), 3, 12, 12))
    np.save(folder / "stack.npy", pixels.clip(0).astype(np.uint16))
    table.to_csv(folder / "stack.csv", index=False)
    (folder / "mechanisms.toml").write_text(RECIPE)
    page = Path(say("run", folder / "mechanisms.toml", "--store", folder / "store").line)
    store = Store(folder / "store")
    report = store.get("report", page.name)
    evaluation = store.get("evaluate", report.card.inputs["main/0/evaluate"])
    vectors = pd.read_parquet(store.get("embed", evaluation.card.inputs["embed"]).file("embeddings.parquet"))
    return (page / "report.html").read_text(encoding="utf-8"), vectors, evaluation


def profiles_of(cells: pd.DataFrame, keys: list[str], how: str) -> pd.DataFrame:
    """Return medians of wells, then of `keys`; plates are scaled by the 1st to 99th percentile of controls, or not."""
    names = list(cells.filter(like="emb_"))
    scaled = cells.astype(dict.fromkeys(names, float))
    for plate, of_plate in cells.groupby("Metadata_Plate"):
        low, high = np.percentile(of_plate.loc[of_plate["Metadata_control"], names].astype(float), [1, 99], axis=0)
        if how == "percentile":
            scaled.loc[cells["Metadata_Plate"] == plate, names] = (of_plate[names] - low) / (high - low)
    of_well = ["Metadata_Plate", "Metadata_Well", "Metadata_batch", "Metadata_compound", "Metadata_moa"]
    wells = scaled.groupby(of_well, dropna=False)[names].median().reset_index()
    if not keys:
        return wells
    treated = wells[wells["Metadata_compound"] != "DMSO"]
    return treated.groupby([*keys, "Metadata_moa"])[names].median().reset_index()


def scores(page: str, task: str) -> dict[str, list[str]]:
    """Return normalisation of profiles -> score, number correct or found, and total."""
    rows = table_rows(page.partition("Mechanisms and replicates</h2>")[2], "arm")
    return {row[5].partition(" (")[0]: row[2:5] for row in rows if task in row[1]}


@pytest.mark.parametrize("how", ["percentile", "none"])
@pytest.mark.parametrize(("task", "apart"), [("(NSC)", ["compound"]), ("(NSCB)", ["compound", "batch"])])
def test_mechanisms_on_the_page_follow_from_scikit_learns_cosines_of_medians(
    made: tuple[str, pd.DataFrame, Artifact], task: str, apart: list[str], how: str
) -> None:
    page, cells, _ = made
    treatments = profiles_of(cells, [f"Metadata_{name}" for name in apart], how)
    alike = cosine_similarity(treatments.filter(like="emb_"))
    for name in apart:
        value = treatments[f"Metadata_{name}"].to_numpy(str)
        alike[value[:, None] == value[None, :]] = -2
    moa = treatments["Metadata_moa"].to_numpy(str)
    right = (moa[alike.argmax(axis=1)] == moa).sum()
    score, shown, total = scores(page, task)[how]
    assert 0 < right < len(moa), "neither all nor none, or the test shows little"
    assert (score, total) == (f"{right / len(moa):.2f}", str(len(moa)))
    assert how == "percentile" or shown == str(right), "of a chain that is not chosen, the count is not shown"


def test_mean_average_precisions_on_the_page_equal_those_of_copairs(
    made: tuple[str, pd.DataFrame, Artifact],
) -> None:
    page, cells, _ = made
    wells = profiles_of(cells, [], "none").drop(columns="Metadata_moa")
    control = wells["Metadata_compound"] == "DMSO"
    wells = wells.assign(Metadata_control=control, Metadata_own=np.where(control, np.arange(len(wells)), -1))
    pairs = (["Metadata_compound", "Metadata_own"], [], ["Metadata_Plate"], ["Metadata_control"])
    replicates = precision(wells, pairs)[~control].groupby(wells["Metadata_compound"]).mean()
    treatments = profiles_of(cells, ["Metadata_compound"], "none")
    apart = ["Metadata_moa", "Metadata_compound"]
    mechanisms = precision(treatments, (["Metadata_moa"], ["Metadata_compound"], [], apart))
    mechanisms = mechanisms.groupby(treatments["Metadata_moa"]).mean()
    for task, found in {"replicates of a well": replicates, "treatments of the same mechanism": mechanisms}.items():
        score, _, groups = scores(page, task)["–"]
        assert 0.1 < found.mean() < 0.99, "neither nothing nor all, or the test shows little"
        assert (score, groups) == (f"{found.mean():.2f}", str(len(found))), task


def precision(profiles: pd.DataFrame, pairs: tuple[list[str], list[str], list[str], list[str]]) -> pd.Series:
    numbers = profiles.filter(like="emb_").to_numpy()
    return average_precision(profiles.filter(like="Metadata_"), numbers, *pairs, progress_bar=False)[
        "average_precision"
    ]


def test_accuracies_and_their_intervals_on_the_page_follow_from_a_bootstrap_of_whole_wells(
    made: tuple[str, pd.DataFrame, Artifact],
) -> None:
    page, _, evaluation = made
    predictions = pd.read_parquet(evaluation.file("predictions.parquet"))
    rows = table_rows(page.partition("Predictions of labels</h2>")[2], "arm")
    assert len(rows) == 4, "two schemes, two classifiers"
    schemes = {"leave-one-plate-out": "leave_one_plate_out", "leave-one-well-out": "leave_one_well_out"}
    for row in rows:
        here = predictions[predictions["scheme"] == schemes[row[1]]]
        by = "knn" if row[2] == "kNN" else "linear"
        assert row[3] == f"{balanced_accuracy_score(here['label'], here[by]):.2f}"
        low, high = map(float, row[4].split(" to "))
        assert [low, high] == pytest.approx(interval_of_wells(here, by), abs=0.03), row[:3]


def interval_of_wells(predictions: pd.DataFrame, by: str) -> list[float]:
    """Return the interval over 2,000 samples of the wells of each class, drawn with replacement."""
    rng = np.random.default_rng(1)
    keys = ["label", "Metadata_Plate", "Metadata_Well"]
    wells = (
        predictions.assign(right=predictions["label"] == predictions[by]).groupby(keys)["right"].agg(["sum", "size"])
    )
    recalls = []
    for _, of_class in wells.groupby("label"):
        right, cells = of_class.to_numpy().T
        drawn = rng.integers(0, len(right), (2000, len(right)))
        recalls.append(right[drawn].sum(axis=1) / cells[drawn].sum(axis=1))
    low, high = np.quantile(np.mean(recalls, axis=0), [0.025, 0.975])
    return [float(low), float(high)]
