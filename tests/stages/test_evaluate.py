"""evaluate: the same numbers as scikit-learn from the files, reasons for missing scores, and external tables."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import Chain, Said, say
from conftest import REPOSITORY
from copairs.map import average_precision
from pycytominer import consensus
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_table
from cellssl.errors import DataError
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.frames import halves
from cellssl.profiling.normaliser import chain as links
from cellssl.randomness import generator
from cellssl.stages.evaluate.metrics import CLASSIFIERS, EvaluationMetrics
from cellssl.stages.shared.cell_tables import read_all_embeddings, read_embeddings
from cellssl.stages.shared.external_table import ExternalTable, read_external_table


def numbers_of(folder: Path) -> dict[str, Any]:
    """Return all numbers of an evaluation."""
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return found


@pytest.fixture
def made(chain: Chain) -> Artifact:
    return chain.made("evaluate")


@pytest.mark.parametrize("classifier", ["knn", "linear"])
@pytest.mark.parametrize("scheme", ["split", "leave_one_well_out"])
def test_every_accuracy_equals_scikit_learns_for_the_predictions(made: Artifact, scheme: str, classifier: str) -> None:
    table = read_table(made.file("predictions.parquet")).query("scheme == @scheme")
    found = numbers_of(made.path)[scheme][classifier]
    truth, predicted = table["label"], table[classifier]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert found["confusion"] == confusion_matrix(truth, predicted).tolist()
    recalls = recall_score(truth, predicted, average=None, labels=found["classes"])
    assert list(found["per_class"].values()) == pytest.approx(recalls.tolist())
    low, high = found["balanced_accuracy_interval"]
    assert low < found["balanced_accuracy"] < high
    assert found["resampled"] == "wells"
    shuffled = table.filter(like="_shuffled_").dropna(axis=1)
    chance = [
        balanced_accuracy_score(shuffled[f"label_shuffled_{number}"], shuffled[f"{classifier}_shuffled_{number}"])
        for number in range(5 if scheme == "split" else 1)
    ]
    assert found["shuffled_balanced_accuracy"]["mean"] == pytest.approx(np.mean(chance))


def again(chain: Chain, folder: Path, *knobs: str) -> Path:
    """Return the evaluation of the chain's embeddings with these settings."""
    store = ["--store", folder / "store", "--store", chain.root]
    return Path(say("evaluate", chain.recipe, *store, *(word for knob in knobs for word in ("--set", knob))).line)


def test_the_predictions_are_those_of_scikit_learn_from_the_embeddings(chain: Chain, tmp_path: Path) -> None:
    cells, vectors = read_embeddings(chain.made("embed"))
    made = again(chain, tmp_path, "evaluate.normalise=zscore")
    table = read_table(made / "predictions.parquet").query("scheme == 'split'")
    train, test = ((cells["split"] == part).to_numpy() for part in ("train", "test"))
    assert table["Metadata_cell_id"].tolist() == cells["cell_id"][test].tolist()
    scaler = StandardScaler().fit(vectors[train])
    x_train, x_test = scaler.transform(vectors[train]), scaler.transform(vectors[test])
    labels = cells["label"][train].to_numpy(str)
    nearest = KNeighborsClassifier(5).fit(x_train, labels).predict(x_test)
    probe = LogisticRegression(max_iter=2000).fit(x_train, labels).predict(x_test)
    assert (table["knn"] == nearest).mean() > 0.99
    assert (table["linear"] == probe).mean() > 0.99


def test_no_well_is_in_the_training_set_of_its_own_classifier(made: Artifact) -> None:
    table = read_table(made.file("predictions.parquet")).query("scheme == 'leave_one_well_out'")
    assert (table.groupby(["Metadata_Plate", "Metadata_Well"])["fold"].nunique() == 1).all()
    assert table["Metadata_cell_id"].is_unique
    assert numbers_of(made.path)["leave_one_well_out"]["folds"] == table["Metadata_Well"].nunique()


def test_of_too_many_cells_a_sample_is_predicted(chain: Chain, tmp_path: Path) -> None:
    made = again(chain, tmp_path, "evaluate.max_cells=30")
    predictions = pd.read_parquet(made / "predictions.parquet")
    assert predictions["scheme"].value_counts().to_dict() == {"split": 30, "leave_one_well_out": 30}


def test_well_profiles_are_medians_of_cells_scaled_by_the_plate_s_controls(chain: Chain, made: Artifact) -> None:
    everything, all_vectors = read_all_embeddings(chain.made("embed"))
    controls = all_vectors[everything["control"]].astype(float)  # also those that only describe their well
    cells, vectors = read_embeddings(chain.made("embed"))
    profiles = read_table(made.file("profiles.parquet"))
    mad = 1.4826 * np.median(np.abs(controls - np.median(controls, axis=0)), axis=0)
    scaled = pd.DataFrame((vectors - controls.mean(axis=0)) / mad).groupby(cells["well"].to_numpy()).median()
    assert profiles["Metadata_Well"].tolist() == scaled.index.tolist()
    np.testing.assert_allclose(profiles.filter(like="emb_"), scaled, rtol=1e-4, atol=1e-4)
    assert profiles["Metadata_cells"].sum() == len(cells)


def test_scores_that_need_more_plates_or_compounds_are_missing_with_reason_and_cure(made: Artifact) -> None:
    missing = numbers_of(made.path)["not_computed"]
    assert set(missing) == {"leave_one_plate_out", "nsc", "nscb", "map_replicates", "map_mechanism"}
    assert missing["leave_one_plate_out"] == "there is only one group, Sim1_00001; leave-one-out needs two or more"
    assert "two compounds" in missing["nsc"] and "a replicate and a control" in missing["map_replicates"]
    assert made.card.metrics["not_computed"] == missing
    assert made.card.metrics["knn"] == numbers_of(made.path)["split"]["knn"]


def test_cells_without_labels_or_split_still_have_profiles(chain: Chain, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "store", "--store", chain.root]
    knobs = ["--arm", "intensities", "--set", "embed.cells=segment", "--set", "split={}"]
    say("embed", chain.recipe, *store, *knobs)
    made = Path(say("evaluate", chain.recipe, *store, *knobs).line)
    found = numbers_of(made)
    assert set(found) == {"profiles", "not_computed"}
    assert "no cell has a label in the column 'label'" in found["not_computed"]["split"]
    assert not (made / "predictions.parquet").exists()


CHOSEN = "center_plate, scale_pooled"
"""The chain of profiles by default, as tables name it."""
COMPOUNDS = {"DMSO": "", "a": "one", "b": "one", "c": "two", "d": "two"}


def screen(wells: int = 4) -> pd.DataFrame:
    """Return profiles of three plates in three weeks, with two very different mechanisms of two compounds each."""
    rows = [(f"P{plate}", name) for plate in range(3) for name in COMPOUNDS for _ in range(wells)]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_compound"])
    table["Metadata_Well"] = [f"W{number:02}" for number in table.groupby("Metadata_Plate").cumcount()]
    table["Metadata_moa"] = table["Metadata_compound"].map(COMPOUNDS).replace("", None)
    table["Metadata_batch"] = table["Metadata_Plate"].str.replace("P", "week ")
    where = table["Metadata_moa"].map({"one": 0, "two": 1})
    effect = np.eye(2, 5)[where.fillna(0).astype(int)] * where.notna().to_numpy()[:, None]
    numbers = 20 * effect + generator("screen").normal(size=(len(table), 5))
    return table.join(pd.DataFrame(numbers, columns=[f"Cells_{name}" for name in "abcde"]))


def evaluated(folder: Path, table: pd.DataFrame, *words: object, name: str = "profiles.csv") -> Said:
    """Return the output of `cellssl evaluate` for an external table."""
    path = folder / name
    table.to_parquet(path) if name.endswith(".parquet") else table.to_csv(path, index=False)
    option = ["--set", f"evaluate.table.path={path}"]
    return say("evaluate", "profiles", "--store", folder / "store", *option, *words)


def test_a_table_of_profiles_needs_no_recipe_of_its_own(tmp_path: Path) -> None:
    found = numbers_of(Path(evaluated(tmp_path, screen()).line))
    for rule in ("nsc", "map_mechanism", "map_replicates", "profiles"):
        assert rule in found
    assert found["nsc"]["treatments"] == 4 and found["nsc"]["accuracy"] == 1.0
    assert set(found["nsc"]["accuracy_after"]) == {CHOSEN, "none", "robust_z", "percentile", f"{CHOSEN}, sphering"}
    assert found["map_mechanism"]["mean_average_precision"] == 1.0
    assert found["map_replicates"]["groups"] == 4
    assert found["nscb"]["treatments"] == 12 and found["nscb"]["accuracy"] == 1.0


def test_a_recipe_that_only_evaluates_an_external_table_has_one_stage_and_no_report(tmp_path: Path) -> None:
    made = Path(evaluated(tmp_path, screen()).line)
    words = ["profiles", "--store", tmp_path / "store", "--set", f"evaluate.table.path={tmp_path / 'profiles.csv'}"]
    rows = json.loads(say("status", *words, "--plates", "--json").line)["stages"]
    assert [(row["stage"], row["state"], row["fingerprint"]) for row in rows] == [("evaluate", "done", made.name)]
    assert re.search(rf"evaluate/{made.name} +main", say("status", *words).out)
    assert say("run", *words).line == str(made)
    for command in (["report", *words], ["run", *words, "--to", "report", "--force"]):
        refused = say(*command)
        assert refused.code == 2 and "makes no clusters" in refused.err and "cellssl run profiles" in refused.err
        assert "begins" not in refused.err


def test_nsc_equals_a_search_by_scikit_learn_in_treatments_parquet(tmp_path: Path) -> None:
    made = Path(evaluated(tmp_path, screen()).line)
    treatments = pd.read_parquet(made / "treatments.parquet")
    alike = cosine_similarity(treatments.filter(like="Cells_"))
    compound, moa = (treatments[f"Metadata_{name}"].to_numpy(str) for name in ("compound", "moa"))
    alike[compound[:, None] == compound[None, :]] = -2
    nsc = pd.read_csv(made / "nsc.csv").query(f"rule == 'nsc' and normalise == '{CHOSEN}'").set_index("moa")
    assert nsc.loc["all", "right"] == (moa[alike.argmax(axis=1)] == moa).sum()
    nearest = pd.read_csv(made / "neighbours.csv").query(f"rule == 'nsc' and normalise == '{CHOSEN}'")
    assert nearest["nearest_compound"].tolist() == compound[alike.argmax(axis=1)].tolist()


def test_a_label_column_of_a_table_is_predicted_with_plates_and_wells_left_out(tmp_path: Path) -> None:
    words = ["--set", "evaluate.label=moa", "--set", "evaluate.neighbours=3"]
    found = numbers_of(Path(evaluated(tmp_path, screen(), *words, name="profiles.parquet").line))
    assert found["leave_one_plate_out"]["linear"]["balanced_accuracy"] == 1.0
    assert set(found["leave_one_plate_out"]["plates"]) == {"P0", "P1", "P2"}
    assert found["leave_one_plate_out"]["classes_in_one_plate_only"] == []
    assert found["leave_one_well_out"]["knn"]["confusion"] == [[24, 0], [0, 24]]
    assert "no split" in found["not_computed"]["split"]


def test_a_wrong_name_of_the_label_column_is_an_error_and_not_a_missing_score(tmp_path: Path) -> None:
    said = evaluated(tmp_path, screen(), "--set", "evaluate.label=mao")
    assert said.code == 2 and "there is no column 'mao'" in said.err and "did you mean 'moa'?" in said.err


def test_a_csv_and_a_parquet_of_the_same_rows_give_the_same_numbers_and_a_changed_byte_counts(tmp_path: Path) -> None:
    one, two = (Path(evaluated(tmp_path, screen(), name=name).line) for name in ("p.csv", "p.parquet"))
    assert one != two
    assert numbers_of(one) == numbers_of(two)
    assert evaluated(tmp_path, screen().iloc[:-1], name="p.csv").line != str(one)


def test_an_embeddings_table_of_this_tool_can_be_evaluated_unchanged(
    chain: Chain, made: Artifact, tmp_path: Path
) -> None:
    embeddings = chain.made("embed").file("embeddings.parquet")
    words = ["--set", f"evaluate.table.path={embeddings}", "--set", "evaluate.neighbours=5"]
    found = numbers_of(Path(say("evaluate", "profiles", "--store", tmp_path, *words).line))
    ours = numbers_of(made.path)
    assert set(found) == set(ours) and found["profiles"] == ours["profiles"]
    assert found["leave_one_well_out"]["cells"] == ours["leave_one_well_out"]["cells"]
    assert found["split"]["knn"]["accuracy"] == pytest.approx(ours["split"]["knn"]["accuracy"], abs=0.02)


def test_columns_with_other_names_can_be_named(tmp_path: Path) -> None:
    other = screen().rename(columns={"Metadata_compound": "drug", "Metadata_Plate": "Image_Plate"})
    names = ["--set", "evaluate.table.columns.compound=drug", "--set", "evaluate.table.columns.plate=Image_Plate"]
    assert numbers_of(Path(evaluated(tmp_path, other, *names).line))["nsc"]["accuracy"] == 1.0
    wrong = evaluated(tmp_path, other, "--set", "evaluate.table.columns.compound=drugs")
    assert wrong.code == 2 and "has no column 'drugs'" in wrong.err and "did you mean 'drug'?" in wrong.err


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (lambda table: table.drop(columns=table.filter(like="Cells_")), 2, "begins with emb_ or Cells_"),
        (lambda table: table.assign(Cells_a=np.nan), 3, "1 of 5 features"),
        (lambda table: table.assign(Cells_a="big"), 3, "holds text"),
        (lambda table: table.assign(Cells_b=["1"] * 2 + ["NA"] + ["1"] * (len(table) - 3)), 3, "Cells_b of"),
        (lambda table: table.assign(Cells_b=["1"] * 2 + ["NA"] + ["1"] * (len(table) - 3)), 3, "in row 3: 'NA'"),
        (lambda table: table.assign(Metadata_dose_micromolar="1 uM"), 3, "in row 1: '1 uM' is not a number"),
        (lambda table: table.assign(Metadata_control=["true", None] * (len(table) // 2)), 3, "is empty in row 2"),
        (lambda table: table.iloc[:0], 3, "has no row"),
        (lambda table: table.assign(Metadata_control="negcon"), 3, "Metadata_control of"),
        (lambda table: table.filter(like="Cells_"), 2, "nothing can be evaluated"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_of_one_sentence(
    tmp_path: Path, spoil: Any, code: int, message: str
) -> None:
    said = evaluated(tmp_path, spoil(screen()))
    assert said.code == code and message in said.err and "Traceback" not in said.err


def test_a_file_that_is_not_a_table_or_is_missing_is_reported(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 no")
    options = ["--store", tmp_path / "store", "--set"]
    broken = say("evaluate", "profiles", *options, f"evaluate.table.path={tmp_path / 'p.parquet'}")
    assert broken.code == 3 and "p.parquet cannot be read" in broken.err
    gone = say("evaluate", "profiles", *options, f"evaluate.table.path={tmp_path / 'gone.csv'}")
    assert gone.code in (2, 3) and "gone.csv" in gone.err and "Traceback" not in gone.err


def test_controls_are_missing_only_where_they_are_needed(tmp_path: Path) -> None:
    table = screen().query("Metadata_compound != 'DMSO'")
    found = numbers_of(Path(evaluated(tmp_path, table, "--set", "evaluate.profiles.normalise=none").line))
    assert found["nsc"]["accuracy"] == 1.0 and set(found["nsc"]["accuracy_after"]) == {"none"}
    assert "no well is a control" in found["not_computed"]["map_replicates"]
    scaled = evaluated(tmp_path, table)
    assert scaled.code == 2 and "nothing can be evaluated: plate P0 has 0 controls" in scaled.err
    assert "evaluate.table.controls" in scaled.err and "fetch.controls" not in scaled.err


def test_plates_wells_and_compounds_are_text_in_a_csv_as_in_a_parquet(tmp_path: Path) -> None:
    names = {"P0": "1", "P1": "01", "P2": "1E5"}
    table = screen().replace({"Metadata_Plate": names, "Metadata_compound": {"a": "NA", "b": "None"}})
    table["Metadata_Well"] = table["Metadata_Well"].str.removeprefix("W")
    made = [Path(evaluated(tmp_path, table, name=name).line) for name in ("p.csv", "p.parquet")]
    assert numbers_of(made[0]) == numbers_of(made[1])
    wells = pd.read_parquet(made[0] / "profiles.parquet")
    assert set(wells["Metadata_Plate"]) == set(names.values()) and "01" in set(wells["Metadata_Well"])
    assert set(wells["Metadata_compound"]) == set(table["Metadata_compound"])


def external(folder: Path, name: str, content: bytes | str) -> ExternalTable:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ExternalTable(path=str(path))


CSV = (
    "Metadata_Plate,Metadata_Well,Metadata_compound,Metadata_dose_micromolar,Cells_a\n01,A01, NA ,0.5,1.5\n1,A02,,,2\n"
)


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace("\n", "\r\n"),
        CSV.replace("\n", "\r"),
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV.encode("utf-16"),
        CSV.replace("\n", ",,\n"),
        "sep=;\n" + CSV.replace(",", ";"),
        "," + CSV.replace("\n01", "\n0,01").replace("\n1,", "\n1,1,"),
        CSV.replace(",", '","').replace("\n", '"\n"')[:-1].join(['"', ""]),
    ],
)
def test_a_csv_is_read_whatever_spreadsheet_wrote_it(tmp_path: Path, content: bytes | str) -> None:
    cells, vectors, names = read_external_table(external(tmp_path, "p.csv", content), "evaluate")
    assert cells["plate"].tolist() == ["01", "1"] and names == ["Cells_a"]
    assert cells["compound"].fillna("–").tolist() == ["NA", "–"]
    assert cells["dose_micromolar"].fillna(-1).tolist() == [0.5, -1] and vectors.ravel().tolist() == [1.5, 2]


@pytest.mark.parametrize(
    ("content", "message", "cure"),
    [
        (CSV.replace(",", ";").replace("1.5", "1,5"), "'1,5' is not a number", "write 1.5"),
        (CSV.replace(",2\n", ",2,3\n"), "rows with more cells than its header", "quotes"),
        (CSV.replace("Metadata_Well", "Metadata_Plate"), "several columns called 'Metadata_Plate'", "rename"),
        (CSV.replace("NA", "5 µM").encode("cp1252"), "byte 0xb5 in line 2; it may be Windows-1252", "CSV UTF-8"),
        (b"PK\x03\x04 a workbook", "is an Excel or other zipped file", "CSV UTF-8"),
        (CSV.encode("utf-16-le"), "or UTF-16 without a byte-order mark", "CSV UTF-8"),
    ],
)
def test_a_csv_that_would_be_misread_is_refused_with_the_cure(
    tmp_path: Path, content: bytes | str, message: str, cure: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_external_table(external(tmp_path, "p.csv", content), "evaluate")
    assert message in caught.value.message and cure in caught.value.hint


def test_typed_and_indexed_columns_of_a_parquet_are_the_text_of_their_labels(tmp_path: Path) -> None:
    table = screen().iloc[:3].assign(Metadata_batch=[1.0, None, 2.0], Metadata_moa=pd.Categorical([7, None, 7]))
    table["Metadata_compound"] = [True, False, True]
    table.set_index(["Metadata_Plate", "Metadata_Well"]).to_parquet(tmp_path / "p.parquet")
    cells, _, _ = read_external_table(ExternalTable(path=str(tmp_path / "p.parquet")), "evaluate")
    assert cells["plate"].tolist() == ["P0"] * 3 and cells["compound"].tolist() == ["True", "False", "True"]
    assert cells["batch"].fillna("–").tolist() == ["1", "–", "2"]
    assert cells["moa"].fillna("–").tolist() == ["7", "–", "7"]


def test_copies_small_classes_and_constant_features_are_counted_and_said(tmp_path: Path) -> None:
    table = screen().assign(Metadata_split="train", Metadata_label=lambda each: each["Metadata_compound"])
    table.loc[table["Metadata_compound"] == "DMSO", "Cells_c"] = 5.0
    test = table.iloc[[5, 6, 20, 21]].assign(Metadata_split="test", Metadata_Well=["X1", "X2", "X3", "X4"])
    test.loc[test.index[:1], "Cells_d"] += 0.5
    words = ["--set", "evaluate.leave_out=[]", "--set", "evaluate.retrieval.null_size=100"]
    said = evaluated(tmp_path, pd.concat([table, test]), *words)
    found = numbers_of(Path(said.line))
    assert found["split"]["copies_of_training_cells"] == 3
    one = pd.read_parquet(Path(said.line) / "predictions.parquet").query("~copy_of_training_cell").iloc[0]
    assert found["split"]["balanced_accuracy_without_copies"]["knn"] == float(one["label"] == one["knn"])
    assert found["split"]["classes_below_neighbours"] == dict.fromkeys("abcd", 12) | {"DMSO": 12}
    assert found["profiles"]["constant_examples"] == {"Cells_c": 3} and found["profiles"]["without_scale"] == 0
    for sentence in ("3 of 4 test cells are copies", "5 classes have fewer training cells", "1 of 5 features varies"):
        assert sentence in said.err
    assert EvaluationMetrics.from_json(found).to_json() == found


def test_a_row_without_plate_is_reported_with_the_setting(tmp_path: Path) -> None:
    table = screen()
    table.loc[3, "Metadata_Plate"] = None
    said = evaluated(tmp_path, table)
    assert said.code == 2 and "row 4 has none" in said.err and "evaluate.table.columns.plate" in said.err


def test_vectors_that_are_all_the_same_are_reported_as_a_collapse(tmp_path: Path) -> None:
    table = screen().assign(**{f"Cells_{name}": 1.5 for name in "abcde"})
    said = evaluated(tmp_path, table)
    assert said.code == 0 and "the encoder has collapsed" in said.err
    assert "the encoder has collapsed" in numbers_of(Path(said.line))["not_computed"]["embeddings"]
    healthy = evaluated(tmp_path, screen(), name="healthy.csv")
    assert "collapsed" not in healthy.err and "embeddings" not in numbers_of(Path(healthy.line))["not_computed"]


REAL = """
name = "real"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "stack.csv"
axes = "nyxc"
channels = ["dna", "actin", "tubulin"]
columns = { plate = "plate", well = "well", site = "site", compound = "compound", dose_micromolar = "concentration" }
[split]
treated = { compounds = ["cyclohexamide"] }
[embed]
model = "features"
[evaluate]
normalise = "zscore"
neighbours = 21
"""


@pytest.fixture(scope="module")
def three_plates(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a recipe for real cells of three plates, DMSO and cycloheximide (as the official table misspells it)."""
    folder = tmp_path_factory.mktemp("three-plates")
    tables, stacks = [], []
    for name in ("2plates", "small"):
        files = [shared_data / "crops" / f"bbbc021_crops_{name}.{kind}" for kind in ("csv", "npz")]
        if not all(file.is_file() for file in files):
            pytest.skip(f"no {files[0]}")
        tables.append(pd.read_csv(files[0]))
        stacks.append(np.load(files[1])["images_div16"])
    cells = pd.concat(tables, ignore_index=True)
    plates = ["Week4_27801", "Week4_27821", "Week4_27861"]
    here = cells["plate"].isin(plates) & cells["compound"].isin(["DMSO", "cyclohexamide"])
    here &= ~cells["sha256_pixels"].duplicated()
    cells[here].to_csv(folder / "stack.csv", index=False)
    np.save(folder / "stack.npy", np.concatenate(stacks)[here] << 4)
    (folder / "real.toml").write_text(REAL)
    return folder / "real.toml"


def test_leave_one_plate_out_on_real_plates_equals_scikit_learn_on_the_embeddings(
    three_plates: Path,
) -> None:
    made = Path(say("run", three_plates, "--store", three_plates.parent / "store", "--to", "evaluate").line)
    found = numbers_of(made)["leave_one_plate_out"]
    table = pd.read_parquet(next(three_plates.parent.glob("store/embed/*/embeddings.parquet")))
    table = table[table["Metadata_label"].notna()]  # the others only describe their well
    x, label, plate = (
        table.filter(like="emb_"),
        table["Metadata_label"].astype(str),
        table["Metadata_Plate"].astype(str),
    )
    classifiers = {"knn": KNeighborsClassifier(21), "linear": LogisticRegression(max_iter=2000)}
    for name, classifier in classifiers.items():
        ours = cross_val_predict(
            make_pipeline(StandardScaler(), classifier), x, label, groups=plate, cv=LeaveOneGroupOut()
        )
        assert found[name]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, ours), abs=0.003)
        assert 0.9 < found[name]["balanced_accuracy"] < 1.0
        low, high = found[name]["balanced_accuracy_interval"]
        assert low < found[name]["balanced_accuracy"] < high
        assert found[name]["shuffled_balanced_accuracy"]["mean"] == pytest.approx(0.5, abs=0.06)
    assert set(found["plates"]) == set(plate) and len(set(plate)) == 3


@pytest.fixture(scope="module")
def ljosa(shared_data: Path) -> pd.DataFrame:
    """Return CellProfiler's mean well profiles of BBBC021 with metadata of the official tables."""
    profiles = shared_data / "profiles" / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
    images, mechanisms = (shared_data / "meta" / f"BBBC021_v1_{name}.csv" for name in ("image", "moa"))
    for file in (profiles, images, mechanisms):
        if not file.is_file():
            pytest.skip(f"no {file}")
    names = {"Plate_DAPI": "Plate", "Well_DAPI": "Well", "Compound": "compound", "Concentration": "concentration"}
    wells = pd.read_csv(images).rename(columns={f"Image_Metadata_{old}": new for old, new in names.items()})
    wells = wells[[*names.values()]].drop_duplicates()
    table = pd.read_csv(profiles).rename(columns=lambda name: name.removeprefix("Image_Metadata_"))
    table = table.merge(wells, on=["Plate", "Well"]).merge(pd.read_csv(mechanisms), on=["compound", "concentration"])
    return table.join(table["Plate"].str.partition("_")[0].rename("batch"))


def of_bbbc021(table: pd.DataFrame, folder: Path, *words: object) -> Path:
    columns = {"plate": "Plate", "well": "Well", "dose_micromolar": "concentration"}
    columns |= {name: name for name in ("batch", "compound", "moa")}
    named = [word for name in columns for word in ("--set", f"evaluate.table.columns.{name}={columns[name]}")]
    return Path(evaluated(folder, table, *named, *words).line)


@pytest.fixture(scope="module")
def bbbc021(ljosa: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evaluation of these profiles with the default chain."""
    return of_bbbc021(ljosa, tmp_path_factory.mktemp("bbbc021"))


def test_published_profiles_of_bbbc021_give_their_known_numbers(bbbc021: Path) -> None:
    nsc = pd.read_csv(bbbc021 / "nsc.csv").query("moa == 'all'").set_index(["rule", "normalise"])
    known = {
        ("nsc", "none"): (47, 103),
        ("nscb", "none"): (30, 92),
        ("nsc", "robust_z"): (78, 103),
        ("nscb", "robust_z"): (71, 92),
        ("nsc", "percentile"): (81, 103),
        ("nscb", "percentile"): (66, 92),
        ("nsc", CHOSEN): (90, 103),
        ("nscb", CHOSEN): (64, 92),
        ("nsc", f"{CHOSEN}, sphering"): (92, 103),
        ("nscb", f"{CHOSEN}, sphering"): (67, 92),
    }
    assert {key: (nsc.loc[key, "right"], nsc.loc[key, "treatments"]) for key in known} == known


def test_nsc_of_the_default_chain_is_that_of_profiles_made_with_pycytominer(ljosa: pd.DataFrame, bbbc021: Path) -> None:
    features = [name for name in ljosa if name.startswith(("Cells_", "Cytoplasm_", "Nuclei_"))]
    controls = ljosa[ljosa["compound"] == "DMSO"].groupby("Plate")[features]
    x = ljosa[features] - controls.mean().loc[ljosa["Plate"]].to_numpy()
    from_own_median = ljosa.loc[ljosa["compound"] == "DMSO", features] - controls.transform("median")
    mad = 1.4826 * from_own_median.abs().median()
    x = (x / mad.where(mad > 0, from_own_median.std(ddof=0))).fillna(0)  # a feature that varies nowhere is 0 / 0
    treated = x.add_prefix("Cells_").join(ljosa[["compound", "concentration", "moa"]].add_prefix("Metadata_"))
    treated = treated[treated["Metadata_compound"] != "DMSO"]
    keys = ["Metadata_compound", "Metadata_concentration", "Metadata_moa"]
    profiles = consensus(treated, keys, "median", [f"Cells_{name}" for name in features])
    alike = cosine_similarity(profiles.filter(like="Cells_"))
    compound, moa = (profiles[f"Metadata_{name}"].to_numpy(str) for name in ("compound", "moa"))
    alike[compound[:, None] == compound[None, :]] = -2
    right = int((moa[alike.argmax(axis=1)] == moa).sum())
    assert right == numbers_of(bbbc021)["nsc"]["right"] >= 89


def test_average_precision_of_bbbc021_s_profiles_equals_copairs(ljosa: pd.DataFrame, tmp_path: Path) -> None:
    bbbc021 = of_bbbc021(ljosa, tmp_path, "--set", "evaluate.profiles.normalise=none")
    found = pd.read_csv(bbbc021 / "average_precision.csv").set_index("task")["average_precision"]
    wells = pd.read_parquet(bbbc021 / "profiles.parquet").drop(columns="Metadata_moa")
    np.testing.assert_allclose(found["replicates"], replicates_by_copairs(wells), atol=1e-6)
    treatments = pd.read_parquet(bbbc021 / "treatments.parquet")
    apart = ["Metadata_moa", "Metadata_compound"]
    mechanisms = precisions(treatments, (["Metadata_moa"], ["Metadata_compound"], [], apart))
    np.testing.assert_allclose(found["mechanism"], mechanisms, atol=1e-6)


def test_replicates_are_ranked_among_the_half_of_the_controls_that_did_not_fit(
    ljosa: pd.DataFrame, bbbc021: Path
) -> None:
    """The mean over both halves is that of copairs on profiles that the other half has normalised."""
    features = [name for name in ljosa if name.startswith(("Cells_", "Cytoplasm_", "Nuclei_"))]
    control = (ljosa["compound"] == "DMSO").to_numpy()
    x, names = ljosa[features].to_numpy(), {"Plate": "Plate", "compound": "compound"}
    meta = ljosa[[*names, "concentration"]].rename(columns={"concentration": "dose_micromolar"}).add_prefix("Metadata_")
    meta["Metadata_control"] = control
    of_halves = []
    for frames, scored in halves(ljosa["Plate"], ljosa["Well"], control):
        fitting = control & ~scored
        _, normal = fit_chain(
            links("center_plate", "scale_pooled"), x, ~control, ljosa["Plate"], control, frames, fitting
        )
        wells = meta.join(pd.DataFrame(normal, columns=features))
        of_halves.append(replicates_by_copairs(wells[scored]).to_numpy())
    order = np.lexsort((ljosa["Well"][~control], ljosa["Plate"][~control]))
    found = pd.read_csv(bbbc021 / "average_precision.csv").query("task == 'replicates'")
    np.testing.assert_allclose(found["average_precision"], np.mean(of_halves, axis=0)[order], atol=1e-6)
    assert (found["pairs"] - found["positives"]).unique().tolist() == [3], "each half has three of six controls"


def replicates_by_copairs(wells: pd.DataFrame) -> pd.Series:
    """Return the average precision of every treated well among the controls of its plate."""
    wells = wells.reset_index(drop=True)
    own = np.where(wells["Metadata_control"], np.arange(len(wells)), -1)  # controls are not replicates
    wells = wells.assign(Metadata_own=own)
    alike = ["Metadata_compound", "Metadata_dose_micromolar", "Metadata_own"]
    found = precisions(wells, (alike, [], ["Metadata_Plate"], ["Metadata_control"]))
    return found[~wells["Metadata_control"]]


def precisions(profiles: pd.DataFrame, pairs: tuple[list[str], list[str], list[str], list[str]]) -> pd.Series:
    """Return average precision by copairs; `pairs`: positives share, positives differ, negatives share, differ."""
    meta = profiles.filter(like="Metadata_")
    numbers = profiles.drop(columns=meta.columns).to_numpy()
    return average_precision(meta, numbers, *pairs, progress_bar=False)["average_precision"]


def test_parts_that_miss_the_same_thing_share_a_sentence(tmp_path: Path) -> None:
    said = evaluated(tmp_path, screen().drop(columns="Metadata_moa")).err
    assert said.count("no treatment has a mechanism") == 1
    assert "no nsc, nscb, map mechanism: no treatment has a mechanism" in said


def test_metrics_are_read_from_the_card_and_written_back_unchanged(made: Artifact, tmp_path: Path) -> None:
    metrics = EvaluationMetrics.from_json(made.card.metrics)
    assert metrics.card_json() == made.card.metrics
    assert metrics.to_json() == numbers_of(made.path)
    external = numbers_of(Path(evaluated(tmp_path, screen(), "--set", "evaluate.label=moa").line))
    assert {"nsc", "nscb", "map_replicates", "map_mechanism", "profiles", "leave_one_plate_out"} <= set(external)
    assert EvaluationMetrics.from_json(external).to_json() == external


def archived(name: str) -> dict[str, Any]:
    """Return a JSON file of the evaluation that an earlier version left in tests/archive."""
    with tarfile.open(REPOSITORY / "tests" / "archive" / "format-1.tar.gz") as archive:
        (member,) = (one for one in archive.getnames() if one.startswith("evaluate/") and one.endswith(name))
        file = archive.extractfile(member)
        assert file is not None
        content: dict[str, Any] = json.load(file)
    return content


def test_the_archived_evaluation_is_read_and_written_back_unchanged() -> None:
    content = archived("evaluation.json")
    metrics = EvaluationMetrics.from_json(content)
    assert metrics.to_json() == content
    assert metrics.card_json() == archived("artifact.json")["metrics"]
    split, wells = metrics.schemes["split"], metrics.schemes["leave_one_well_out"]
    assert set(split.classifiers) == set(CLASSIFIERS)
    knn = split.classifiers["knn"]
    assert (split.cells, split.folds, knn.resampled, knn.classes) == (68, 1, "wells", ("control", "treated"))
    assert knn.balanced_accuracy == pytest.approx(57 / 68) and knn.confusion == ((31, 3), (8, 26))
    assert (wells.cells, wells.folds, wells.left_out, wells.classes_in_one_group_only) == (342, 8, "well", ())
    assert metrics.profiles is not None and metrics.profiles.wells == 8
    assert set(metrics.not_computed) == {"leave_one_plate_out", "nsc", "nscb", "map_replicates", "map_mechanism"}


@pytest.mark.parametrize("key", ["balanced_accuracy", "shuffled_balanced_accuracy", "confusion"])
def test_a_missing_key_of_the_evaluation_is_an_error(key: str) -> None:
    content = archived("evaluation.json")
    del content["split"]["knn"][key]
    with pytest.raises(KeyError, match=key):
        EvaluationMetrics.from_json(content)
