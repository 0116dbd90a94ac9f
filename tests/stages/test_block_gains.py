"""What each block adds: the numbers of scikit-learn from the predictions, paired intervals, blocks of columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from cellssl.randomness import generator
from cellssl.stages.evaluate.metrics import EvaluationMetrics
from cellssl.stages.shared.block_gains import BlockGain, BlockGains
from tests.chain import Said, say

BLOCKS = 'evaluate.table.blocks={ known = "Cells_*", half = ["Nuclei_a", "Nuclei_b"], noise = "Nuclei_n*" }'


def wells(plates: int = 6) -> pd.DataFrame:
    """Plates of eight wells of three cells: `known` tells all three classes apart, `half` one of them, `noise` none."""
    index = np.arange(plates * 24)
    rng = generator("wells of blocks", plates)
    kind = index // 3 % 4
    compound = np.array(["DMSO", "DMSO", "a", "b"])[kind]
    columns = {f"Nuclei_n{number}": rng.normal(size=len(index)) for number in range(3)}
    columns |= {
        "Nuclei_a": rng.normal(size=len(index)) + 4 * (compound == "a"),
        "Nuclei_b": rng.normal(size=len(index)),
    }
    columns |= {f"Cells_{name}": rng.normal(size=len(index)) + 3 * (compound == name) for name in "ab"}
    places = {"Plate": np.char.mod("P%d", index // 24), "Well": np.char.mod("W%d", index // 3 % 8)}
    known = {f"Metadata_{name}": value for name, value in {**places, "compound": compound}.items()}
    return pd.DataFrame(known | columns)


def evaluated(folder: Path, table: pd.DataFrame, *words: str) -> Said:
    """Evaluate a table with blocks."""
    table.to_csv(folder / "p.csv", index=False)
    knobs = (f"evaluate.table.path={folder / 'p.csv'}", "evaluate.label=compound", "evaluate.neighbours=5", *words)
    return say(
        "evaluate", "profiles", "--store", folder / "store", *(word for knob in knobs for word in ("--set", knob))
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(evaluated(tmp_path_factory.mktemp("blocks"), wells(), BLOCKS, "evaluate.normalise=zscore").line)


def gains(made: Path, scheme: str = "leave_one_plate_out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made / "evaluation.json").read_text())[scheme]["blocks"]
    return found


def test_accuracies_without_a_block_are_those_of_the_predictions_and_of_scikit_learn(made: Path) -> None:
    predictions = pd.read_parquet(made / "predictions.parquet").query("scheme == 'leave_one_plate_out'")
    table, found = wells(), gains(made)["linear"]
    x, y = table.drop(columns=table.filter(like="Metadata_")), table["Metadata_compound"]
    patterns = {"known": "^Cells", "half": "^Nuclei_[ab]", "noise": "^Nuclei_n"}
    inside = {block: x.columns.str.contains(pattern) for block, pattern in patterns.items()}

    def probe(kept: list[str]) -> Any:
        """Standardised features, of which the blocks have equal shares."""
        dims = [int(inside[block].sum()) for block in kept]
        share = np.concatenate([[(sum(dims) / len(dims) / dim) ** 0.5] * dim for dim in dims])
        return make_pipeline(
            StandardScaler(), FunctionTransformer(lambda z: z * share), LogisticRegression(max_iter=2000)
        )

    for block in inside:
        others = [other for other in inside if other != block]
        for how, key, kept in (("without", "without", others), ("only", "alone", [block])):
            columns = x[[name for one in kept for name in x.columns[inside[one]]]]
            score = balanced_accuracy_score(predictions["label"], predictions[f"linear_{how}:{block}"])
            assert found[block][key] == pytest.approx(score)
            ours = cross_val_predict(probe(kept), columns, y, groups=table["Metadata_Plate"], cv=LeaveOneGroupOut())
            assert score == pytest.approx(balanced_accuracy_score(y, ours), abs=0.01)
        whole = balanced_accuracy_score(predictions["label"], predictions["linear"])
        assert found[block]["difference"] == pytest.approx(whole - found[block]["without"])


def test_a_block_that_knows_something_adds_and_noise_does_not(made: Path) -> None:
    found = gains(made)
    assert (found["resampled"], found["plates"]) == ("plates", 6)
    assert {block: gain["finding"] for block, gain in found["linear"].items()}["known"] == "adds"
    assert found["knn"]["noise"]["finding"] != "adds" and found["knn"]["noise"]["alone"] < 0.5
    low, high = found["linear"]["known"]["interval"]
    assert 0 < low < found["linear"]["known"]["difference"] < high


def test_the_interval_is_that_of_a_loop_over_drawn_plates(made: Path) -> None:
    table = pd.read_parquet(made / "predictions.parquet").query("scheme == 'leave_one_plate_out'")
    of_plate, rng = [one for _, one in table.groupby("Metadata_Plate")], generator("loop over plates")
    naive = []
    for _ in range(200):
        drawn = pd.concat([of_plate[number] for number in rng.choice(6, 6)])
        scores = (balanced_accuracy_score(drawn["label"], drawn[f"linear{how}"]) for how in ("", "_without:known"))
        naive.append(float(np.subtract(*scores)))
    assert gains(made)["linear"]["known"]["interval"] == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.03)


@pytest.mark.parametrize(
    ("plates", "scheme", "resampled", "groups"),
    [(3, "leave_one_plate_out", "wells", 24), (1, "leave_one_well_out", "wells", 8)],
)
def test_of_few_plates_wells_are_resampled(
    tmp_path: Path, plates: int, scheme: str, resampled: str, groups: int
) -> None:
    found = gains(Path(evaluated(tmp_path, wells(plates), BLOCKS, "evaluate.normalise=zscore").line), scheme)
    assert (found["resampled"], found[resampled]) == (resampled, groups)


def test_dropping_can_be_switched_off_and_is_not_done_without_blocks(tmp_path: Path) -> None:
    for words in ((BLOCKS, "evaluate.drop_blocks=false"), ()):
        found = Path(evaluated(tmp_path, wells(2), *words).line)
        assert "blocks" not in json.loads((found / "evaluation.json").read_text())["leave_one_plate_out"]
        assert not pd.read_parquet(found / "predictions.parquet").filter(like="without").columns.any()


def test_profiles_have_blocks_and_list_the_rows_that_fitted_their_shares(made: Path) -> None:
    content = json.loads((made / "evaluation.json").read_text())
    last = content["profiles"]["fitted_by"][-1]
    assert (last["link"], last["on"], last["rows"]) == ("energy of blocks", "controls", 72)
    assert content["leave_one_plate_out"]["fitted_by"][-1]["rows"] == 120
    assert EvaluationMetrics.from_json(content).to_json() == content
    names = pd.read_parquet(made / "profiles.parquet").filter(regex="^(Cells|Nuclei)").columns
    assert names.tolist()[:4] == ["Cells_a", "Cells_b", "Nuclei_a", "Nuclei_b"], "block by block"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ('{ known = "Cells_*" }', "the column Nuclei_n0 of"),
        ('{ known = "Cells_*", nucleus = "Nuclei_*", more = "*_a" }', "is in the blocks nucleus and more"),
        ('{ nucleus = "Nuclei_*", known = "Cells_*", more = "Cyto*" }', "no feature column of"),
    ],
)
def test_a_column_in_no_block_or_in_two_is_refused_with_the_cure(tmp_path: Path, blocks: str, message: str) -> None:
    said = evaluated(tmp_path, wells(), f"evaluate.table.blocks={blocks}")
    assert said.code == 2 and message in said.err and "evaluate.table" in said.err


def test_a_block_without_variation_is_said(tmp_path: Path) -> None:
    said = evaluated(tmp_path, wells().assign(Cells_a=1.0, Cells_b=2.0), BLOCKS, "evaluate.normalise=zscore")
    assert "the block known is 0 for all cells" in said.err
    assert "embed.blocks" not in said.err, "the columns of this table are blocks of evaluate.table"
    assert json.loads((Path(said.line) / "evaluation.json").read_text())["leave_one_plate_out"]["empty_blocks"] == [
        "known"
    ]


@pytest.mark.parametrize(
    ("interval", "finding"),
    [((0.01, 0.2), "adds"), ((-0.2, -0.01), "takes away"), ((-0.1, 0.1), "unclear"), (None, "unclear")],
)
def test_a_finding_needs_an_interval_on_one_side_of_0(interval: tuple[float, float] | None, finding: str) -> None:
    gain = BlockGain(0.5, 0.4, np.mean(interval) if interval else 0.1, interval)
    assert gain.finding == finding
    content = BlockGains("wells", 8, {"knn": {"one": gain}, "linear": {"one": gain}})
    assert BlockGains.from_json(json.loads(json.dumps(content.to_json()))) == content
