"""Joined vectors on one plate: their clusters, the table of what each block adds, and later cells with other blocks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells
from cellssl.profiling.blocks import Block, Blocks
from cellssl.profiling.chain import FittedChain
from cellssl.reporting.html import Paragraph, Table
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.block_tables import block_section, csv_rows
from cellssl.stages.report.checks import checks
from cellssl.stages.report.provenance import provenance
from cellssl.stages.report.runs import Run, collect, row_of
from cellssl.stages.report.training_leaks import training_leaks, unknown_trainings
from tests.chain import Chain, say

ZSCORE = ("--set", "cluster.normalise=zscore", "--set", "evaluate.normalise=zscore")
BLOCKS = (Block("context", 16), Block("bright", 3, 2.0))


def joined(chain: Chain, root: Path, name: str, blocks: Blocks = BLOCKS) -> Artifact:
    """Write embeddings that join those of two arms."""
    embed, other = chain.made("embed"), chain.made("embed", "intensities")
    table, more = (pd.read_parquet(one.file("embeddings.parquet")) for one in (embed, other))
    vectors = np.hstack([table.filter(regex="^emb_"), 1000 * more.filter(regex="^emb_")])
    table = table[table.filter(regex="^Metadata_").columns]
    table = table.join(pd.DataFrame(vectors, columns=[f"emb_{number}" for number in range(vectors.shape[1])]))
    metrics = {**embed.card.metrics, "blocks": [vars(block) for block in blocks]}
    made = {"context/embed": embed.fingerprint, "bright/embed": other.fingerprint}
    metrics["blocks"] = [{**one, "learned": one["name"] != "bright"} for one in metrics["blocks"]]
    inputs = {"split": embed.card.inputs["split"], **made}
    with Store(root).drafting("embed", name * 12) as draft:
        table.to_parquet(draft.file("embeddings.parquet"))
        return draft.commit(replace(embed.card, fingerprint=name * 12, files={}, metrics=metrics, inputs=inputs))


@pytest.fixture(scope="module")
def root(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("joined")


@pytest.fixture(scope="module")
def run(chain: Chain, root: Path) -> Run:
    embed, store = joined(chain, root, "a"), Store(root, (chain.root,))
    words = (chain.recipe, "--store", root, "--store", chain.root, "--input", embed.path, *ZSCORE)
    made = {f"x/0/{stage}": store.get(stage, Path(say(stage, *words).line).name) for stage in ("cluster", "evaluate")}
    return collect(made, store)[0]


def test_clusters_give_every_block_its_share_and_keep_the_chain(run: Run) -> None:
    chain = FittedChain.from_arrays(dict(np.load(run.cluster.file("centroids.npz"))))
    assert chain.blocks == BLOCKS and run.clusters.fitted_by[-1].link == "energy of blocks"
    table = pd.read_parquet(run.embed.file("embeddings.parquet")).query("Metadata_split == 'test'")
    x = chain.apply(table.filter(regex="^emb_").to_numpy(np.float32))
    energy = [float(np.square(part).sum(axis=1).mean()) for part in np.split(x, [16], axis=1)]
    assert energy == pytest.approx([1 / 3, 2 / 3], rel=1e-4)


def test_later_cells_are_assigned_only_with_the_same_blocks(chain: Chain, root: Path, run: Run) -> None:
    words = (chain.recipe, "--store", root, "--store", chain.root, "--set", f"cluster.assign_to={run.cluster.path}")
    again = Path(say("cluster", *words, "--input", run.embed.path).line)
    tables = [pd.read_parquet(folder / "assignments.parquet") for folder in (again, run.cluster.path)]
    assert tables[0]["cluster"].equals(tables[1]["cluster"])
    for name, blocks in {"b": (BLOCKS[0], Block("bright", 3)), "c": (), "d": (Block("both", 19),)}.items():
        said = say("cluster", *words, "--input", joined(chain, root, name, blocks).path)
        assert said.code == 2 and "bright (3 columns, weight 2)" in said.err and "embed.blocks" in said.err


def test_the_page_says_what_each_block_adds_in_a_table_and_in_words(run: Run) -> None:
    assert run.evaluation is not None
    (section,) = block_section([run])
    *sentences, table = section.blocks
    assert isinstance(table, Table) and isinstance(sentences[0], Paragraph)
    assert [row[1:4] for row in table.rows[:2]] == [["train/test split", "kNN", name] for name in ("context", "bright")]
    gains = run.evaluation.schemes["split"].block_gains
    assert gains is not None and gains.resampled == "wells"
    bright = gains.gains["linear"]["bright"]
    assert f"Without bright it is {bright.without:.3f}" in sentences[0].text
    assert "Wells of test cells may have cells in training" in sentences[0].text
    assert bright.alone == gains.gains["linear"]["context"].without, "of two blocks, one is what the other leaves"
    row = row_of(run)
    assert row["linear_without_bright"] == bright.without and row["linear_only_bright"] == bright.alone
    assert row["linear_added_by_bright"] == row["linear"] - bright.without


def test_the_page_calls_a_difference_whose_interval_includes_0_unknown(run: Run) -> None:
    assert run.evaluation is not None
    (section,) = block_section([run])
    for row in csv_rows([run]):
        low, high, finding = row[8], row[9], row[-1]
        assert (finding == "unclear") == (low is None or low <= 0 <= high)
    text = " ".join(one.text for one in section.blocks if isinstance(one, Paragraph))
    assert ("unclear" in text) == any(row[3] in ("linear", "ami") and row[-1] == "unclear" for row in csv_rows([run]))


def test_the_report_writes_the_table_as_csv_and_pages_without_blocks_have_none(
    chain: Chain, root: Path, run: Run
) -> None:
    assert run.evaluate is not None
    words = ("--store", root, "--store", chain.root)
    folder = Path(say("report", run.cluster.path, run.evaluate.path, *words).line)
    table = pd.read_csv(folder / "blocks.csv")
    assert table[["scheme", "score", "block"]].drop_duplicates().shape == (10, 3)
    assert "What each block adds" in (folder / "report.html").read_text()
    assert (folder / "figures" / "curves-context+bright-context.png").exists(), "losses of the block that was trained"
    scores = pd.read_csv(folder / "scores.csv").loc[0]
    first = table.query("scheme == 'split' and score == 'linear' and block == 'bright'").iloc[0]
    assert scores["linear_added_by_bright"] == pytest.approx(first["difference"])
    of_clusters = table.query("score == 'ami' and block == 'bright'").iloc[0]
    assert of_clusters["all_blocks"] == pytest.approx(scores["ami"]) and of_clusters["resampled"] == "wells"
    plain = collect({f"m/0/{stage}": chain.made(stage) for stage in ("cluster", "evaluate")}, chain.store)
    assert block_section(plain) == [] and csv_rows(plain) == []


def test_a_block_that_was_trained_is_checked_as_a_training(run: Run) -> None:
    assert run.model is None and [part.block for part in run.trained] == ["context"]
    found = {one.question: one for one in checks([run], ScoresByArm([row_of(run)]))}
    leak = found["Did the network see the test data in training?"]
    assert (leak.answer, leak.doubt) == ("not the cells, but their wells", "train and test share wells")
    assert "context: 88 steps" in found["Was the network trained for long enough?"].numbers
    assert "“context: context”" in found["Did the loss fall below chance?"].numbers
    assert list(run.projection_spreads) == ["context: context"]


def test_wells_that_trained_a_block_of_another_split_are_counted(chain: Chain, run: Run, tmp_path: Path) -> None:
    learned, measured = run.blocks
    assert learned.trained_on is not None
    other = chain.store.get("split", learned.trained_on[0].fingerprint)
    table = pd.read_parquet(other.file("split.parquet"))
    cells = read_cells(run.segment)
    one_well = cells[cells["well"] == cells["well"].iloc[0]]["cell_id"]
    table["split"] = np.where(table["cell_id"].isin(one_well), "train", "val")
    with Store(tmp_path).drafting("split", "5" * 12) as draft:
        table.to_parquet(draft.file("split.parquet"))
        split = draft.commit(replace(other.card, fingerprint="5" * 12, files={}))
    changed = replace(run, blocks=(replace(learned, trained_on=(split, run.segment)), measured))
    assert training_leaks(changed).wells_in_train_and_test == 1
    assert unknown_trainings(replace(run, blocks=(replace(learned, trained_on=None), measured))) == ["context"]


def test_provenance_lists_the_artifacts_of_blocks_and_the_licence_of_their_weights(run: Run) -> None:
    learned, measured = run.blocks
    weights = {"source": "lite0.pth", "sha256": "0" * 64, "licence": "CC BY-NC 4.0", "licence_source": ""}
    model = learned.trained
    model = replace(model, card=replace(model.card, metrics={**model.card.metrics, "weights": weights}))
    (section,) = provenance([replace(run, blocks=(replace(learned, model=model), measured))])
    artifacts, of_weights = (one for one in section.blocks if isinstance(one, Table))
    assert [row[0] for row in artifacts.rows] == ["x", "x, context", "x, bright"]
    assert {model.fingerprint, learned.embed.fingerprint} <= set(artifacts.rows[1])
    assert of_weights.rows == [["x, context", "lite0.pth", "0" * 64, "CC BY-NC 4.0"]]
