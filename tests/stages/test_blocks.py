"""Several models side by side: every block is an artifact of its own, and its columns bear its name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from chain import Chain, Said, say

from cellssl.artifacts import embeddings
from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.recipe import load
from cellssl.errors import UsageError
from cellssl.pipeline.plan import Planner
from cellssl.profiling.blocks import Block
from cellssl.randomness import generator
from cellssl.stages.cluster.earlier import check_same_scale
from cellssl.stages.embed.joined import JoinedBlock, join
from cellssl.stages.embed.settings import Settings
from cellssl.stages.shared.card_shapes import embed_blocks
from cellssl.stages.shared.cell_tables import read_embeddings


class Blocks:
    """A recipe of a test's own on top of the tiny one, and its store on top of the shared one."""

    def __init__(self, chain: Chain, folder: Path) -> None:
        self.chain, self.folder, self.root = chain, folder, folder / "store"

    def say(self, command: str, blocks: str, *words: object, more: str = "") -> Said:
        """A command on the recipe with an arm `both` of these blocks."""
        text = self.chain.recipe.read_text() + f"\n[arm.both.embed]\nblocks = {blocks}\n{more}\n"
        self.recipe = self.folder / "blocks.toml"
        self.recipe.write_text(text)
        stores = ["--store", self.root, "--store", self.chain.root]
        arm = [] if "--arm" in words else ["--arm", "both"]
        device = ["--device", "cpu"] if command in ("run", "embed", "pretrain") else []
        return say(command, self.recipe, *stores, *arm, *device, *words)

    def rows(self, blocks: str, *words: object, more: str = "") -> list[dict[str, Any]]:
        """What `status` says of every stage."""
        said = self.say("status", blocks, "--json", *words, more=more)
        assert said.code == 0, said.err
        rows: list[dict[str, Any]] = json.loads(said.out)["stages"]
        return rows

    def embedded(self, blocks: str, *words: object, more: str = "") -> Artifact:
        """The joined embeddings."""
        made = Path(self.say("embed", blocks, *words, more=more).line)
        return Artifact(made, read_card(made))


@pytest.fixture
def blocks(chain: Chain, tmp_path: Path) -> Blocks:
    return Blocks(chain, tmp_path)


def vectors_of(artifact: Artifact) -> np.ndarray:
    return read_embeddings(artifact)[1]


def test_blocks_are_the_vectors_of_their_models_side_by_side(blocks: Blocks, chain: Chain) -> None:
    both = '["pretrain", { of = "intensities", weight = 2.0 }]'
    assert blocks.say("run", both, "--to", "embed").code == 0
    joined = blocks.embedded(both)
    parts = [chain.made("embed"), chain.made("embed", "intensities")]
    np.testing.assert_array_equal(vectors_of(joined), np.hstack([vectors_of(part) for part in parts]))
    assert embed_blocks(joined) == (Block("pretrain", 16), Block("intensities", 3, 2.0))
    names = embeddings.read_names(joined.file("embeddings.parquet"))
    assert names[0] == "pretrain:0000" and names[-3:] == [f"intensities:000{number}" for number in range(3)]
    assert all(part.fingerprint in joined.card.inputs.values() for part in parts)  # made once, for all arms


@pytest.mark.parametrize("form", ["csv.gz", "h5ad"])
def test_one_command_embeds_every_block_and_other_formats_have_the_same_columns(blocks: Blocks, form: str) -> None:
    joined = blocks.embedded('["intensities", "neighbours"]', "--set", f'embed.formats=["{form}"]')
    names = embeddings.read_names(joined.file("embeddings.parquet"))
    assert names[2:5] == ["intensities:0002", "neighbours:nearest_log2_um", "neighbours:second_nearest_log2_um"]
    path = joined.file(f"embeddings.{form}")
    if form == "h5ad":
        with h5py.File(path) as file:
            assert [name.decode() for name in file["var/_index"]] == names
    else:
        assert list(pd.read_csv(path))[-len(names) :] == names


def test_weights_and_order_count_and_how_a_block_is_written_does_not(blocks: Blocks) -> None:
    def prints(text: str) -> tuple[str, list[str]]:
        rows = [row for row in blocks.rows(text) if row["stage"] == "embed"]
        return rows[-1]["fingerprint"], [row["fingerprint"] for row in rows[:-1]]

    one, of_one = prints('["features", "intensities"]')
    same, of_same = prints('[{ model = "features" }, { name = "intensities", arm = "intensities" }]')
    heavy, of_heavy = prints('["features", { of = "intensities", weight = 2.0 }]')
    turned, of_turned = prints('["intensities", "features"]')
    assert one == same and len({one, heavy, turned}) == 3
    assert sorted(of_one) == sorted(of_same) == sorted(of_heavy) == sorted(of_turned)


def test_a_recipe_without_blocks_keeps_its_fingerprints(blocks: Blocks, chain: Chain) -> None:
    rows = blocks.rows("[]", "--arm", "main")
    assert next(row for row in rows if row["stage"] == "embed")["fingerprint"] == chain.made("embed").fingerprint


def test_a_block_may_be_another_arm_a_projector_or_another_network(blocks: Blocks) -> None:
    more = '[arm.centre.pretrain.branches.context]\nview = [{ name = "center_crop", side = 0.5 }]'
    text = """["centre", { name = "loss", layer = "projector" },
    { name = "turned", arm = "centre", layer = "projector" },
    { name = "rand", model = "random", encoder = { name = "small", widths = [4] }, input_px = 24 }]"""
    rows = {(row["stage"], row["arm"]): row for row in blocks.rows(text, more=more)}
    assert ("pretrain", "centre") in rows and ("pretrain", "both") in rows and ("pretrain", "both@rand") in rows
    assert rows["embed", "centre"]["inputs"]["pretrain"] == rows["pretrain", "centre"]["fingerprint"]
    assert rows["embed", "both@turned"]["inputs"]["pretrain"] == rows["pretrain", "centre"]["fingerprint"]
    assert rows["embed", "both@loss"]["inputs"]["pretrain"] == rows["pretrain", "both"]["fingerprint"]
    joined = rows["embed", "both"]["inputs"]
    assert set(joined) == {"split", "pretrain", "centre/embed", "loss/embed", "turned/embed", "rand/embed"}
    alone = blocks.rows("[]", "--arm", "centre", more=more)
    assert rows["embed", "centre"]["fingerprint"] in [row["fingerprint"] for row in alone]


def test_the_section_gives_the_layer_of_trained_blocks_and_baselines_are_pooled(blocks: Blocks) -> None:
    blocks.rows('["pretrain", "random", "features"]', more='layer = "projector"\nbranch = "context"')
    planner = Planner(load(str(blocks.recipe)), "both", 0, Store(blocks.root))
    planner.plan("embed")
    layers = {name: planner.stages[f"both@{name}/embed"].settings.layer for name in ("pretrain", "random", "features")}
    assert layers == {"pretrain": "projector", "random": "pooled", "features": "pooled"}


WRONG = {
    '["feature"]': ("the block 'feature' is no model, no arm of the recipe and no artifact", "'features'"),
    '[{ arm = "centre" }]': ("there is no arm 'centre' to be a block", "there are: main"),
    '["both"]': ("the block 'both' is no model", "there are:"),
    '[{ arm = "both" }]': ("a block cannot be the arm itself", '"pretrain"'),
    '["features", "features"]': ("two blocks are called 'features'", "features-2"),
    '["features", { model = "features", layer = "pooled" }]': ("layer has no effect on 'features'", ""),
    '["features", { arm = "intensities", step = "last" }]': (
        "the block 'intensities': 'intensities' has no network",
        "out",
    ),
    '[{ arm = "intensities", layer = "projector" }]': ("layer has no effect on the block 'intensities'", "leave layer"),
    '[{ model = "random", network = "momentum" }]': ("the network of 'random' is not trained", "leave network out"),
    '[{ model = "pretrain", draws = 4 }]': ("no transforms of views are drawn", "leave draws out"),
    '[{ model = "features", weigth = 2.0 }]': ("unknown key 'weigth'", "'weight'"),
    '[{ name = "a:b", model = "features" }]': ("a block cannot be called 'a:b'", ""),
    '[{ model = "pretrain", input_px = 64 }]': ("input_px goes with model =", "make an arm"),
    '["imagenet"]': ("needs published weights, and small has none", "resnet50"),
    '[{ model = "there.pth" }]': ("is not a network of a library", "pretrain.encoder"),
}


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("command", ["status", "check"])
def test_a_block_that_cannot_be_made_is_an_error_before_any_work(blocks: Blocks, command: str, text: str) -> None:
    said = blocks.say(command, text)
    words, cure = WRONG[text]
    assert said.code == 2 and words in said.err and cure in said.err
    assert not list(blocks.root.glob("*/*"))


def test_a_model_beside_blocks_is_refused(blocks: Blocks) -> None:
    said = blocks.say("status", '["features"]', more='model = "random"')
    assert said.code == 2 and "model = 'random' and blocks both say what makes a vector" in said.err


def test_a_word_that_is_a_model_and_another_arm_is_refused_unless_both_are_the_same(blocks: Blocks) -> None:
    assert blocks.rows('["intensities"]')  # the arm of that name is just this model
    other = '[arm.features.embed]\nmodel = "random"'
    said = blocks.say("status", '["features"]', more=other)
    assert said.code == 2 and "'features' may be the model or the arm of that name" in said.err
    assert '{ name = "features", arm = "features" }' in said.err
    assert blocks.rows('[{ name = "features", model = "features" }]', more=other)


def test_arms_with_blocks_are_no_blocks(blocks: Blocks) -> None:
    more = '[arm.more.embed]\nblocks = ["both"]'
    said = blocks.say("status", '["features"]', "--arm", "more", more=more)
    assert said.code == 2 and "the arm 'both' joins blocks itself" in said.err


def test_an_earlier_artifact_is_a_block_as_it_is(blocks: Blocks, chain: Chain) -> None:
    joined = blocks.embedded(f'["intensities", {{ name = "earlier", model = "{chain.made("embed").path}" }}]')
    np.testing.assert_array_equal(vectors_of(joined)[:, 3:], vectors_of(chain.made("embed")))
    said = blocks.say("status", f'[{{ name = "earlier", model = "{chain.made("embed").path}", layer = "projector" }}]')
    assert said.code == 2 and "layer has no effect on the block 'earlier', whose vectors are there" in said.err


def test_a_block_has_a_vector_of_every_cell_whatever_the_order_and_of_no_other_nucleus(chain: Chain) -> None:
    source = chain.made("embed")
    table, vectors = embeddings.read(source.file("embeddings.parquet"))
    block = JoinedBlock(Block("earlier", 16), [f"emb_{number:04d}" for number in range(16)], source, is_learned=True)
    np.testing.assert_array_equal(np.vstack(list(join([block], table[::-2]))), vectors[::-2])
    with pytest.raises(UsageError, match=r"no vectors of 1 of 346 cells; first: 'other'"):
        list(join([block], table.assign(Metadata_cell_id=["other", *table["Metadata_cell_id"][1:]])))
    with pytest.raises(UsageError, match="nuclei of the same name lie elsewhere"):
        list(join([block], table.assign(Nuclei_Location_Center_X=table["Nuclei_Location_Center_X"] + 2)))


def test_a_block_that_has_learned_from_test_cells_is_refused(blocks: Blocks, chain: Chain) -> None:
    text = f'["intensities", {{ name = "earlier", model = "{chain.made("pretrain").path}" }}]'
    said = blocks.say("run", text, "--to", "embed", "--set", "split.seed=5")
    assert said.code == 2 and "the block 'earlier'" in said.err and "has learned from test cells" in said.err
    source = chain.made("embed")
    table, _ = embeddings.read(source.file("embeddings.parquet"))
    turned = table.assign(Metadata_split=table["Metadata_split"].replace({"train": "test", "test": "train"}))
    block = JoinedBlock(Block("earlier", 16), [], source, is_learned=True)
    with pytest.raises(UsageError, match=r"was trained on (\d+) of \1 test cells of this split"):
        next(join([block], turned))
    assert len(next(join([replace(block, is_learned=False)], turned))) == len(table)


def test_an_earlier_model_is_a_block_and_its_cells_are_compared(blocks: Blocks, chain: Chain) -> None:
    text = f'["intensities", {{ name = "earlier", model = "{chain.made("pretrain").path}" }}]'
    np.testing.assert_array_equal(vectors_of(blocks.embedded(text))[:, 3:], vectors_of(chain.made("embed")))
    said = blocks.say("status", text, "--set", 'segment.reference="all"')
    assert said.code == 2 and 'segment.reference = "controls", but these have "all"' in said.err


def test_a_given_model_takes_the_place_of_the_trained_one_in_its_block_alone(blocks: Blocks, chain: Chain) -> None:
    text = '["pretrain", { name = "rand", model = "random" }]'
    assert blocks.say("run", text, "--to", "embed").code == 0
    random = Path(blocks.say("pretrain", text, "--arm", "both@rand").line)
    given = blocks.embedded(text, "--input", random)
    halves = np.hsplit(vectors_of(given), 2)
    np.testing.assert_array_equal(*halves)
    np.testing.assert_array_equal(halves[1], np.hsplit(vectors_of(blocks.embedded(text)), 2)[1])


def test_blocks_are_made_once_and_found_by_their_name(blocks: Blocks) -> None:
    text = '["features", "neighbours"]'
    made = blocks.say("embed", text, "--arm", "both@features")
    joined = blocks.say("embed", text)
    assert made.code == joined.code == 0
    assert "both@features: up to date" in joined.err
    pointer = json.loads((blocks.root / "by-recipe/tiny/both@features/all/embed.json").read_text())
    assert pointer["fingerprint"] == Path(made.line).name
    assert [row["state"] for row in blocks.rows(text) if row["stage"] == "embed"] == ["done"] * 3
    assert blocks.say("embed", text, "--arm", "both@feature").code == 2


def test_what_a_joined_result_stands_on_is_kept_and_verified(blocks: Blocks) -> None:
    text = '["features", "neighbours"]'
    joined = Path(blocks.say("embed", text).line)
    for pointer in (blocks.root / "by-recipe").rglob("both@*/*/embed.json"):
        pointer.unlink()
    stores = ["--store", blocks.root, "--store", blocks.chain.root]
    assert say("gc", *stores[:2]).line.startswith("0 are not needed")
    block = next(path for path in joined.parent.glob("*") if path != joined and path.suffix == "")
    (block / "embeddings.parquet").write_bytes(b"damaged")
    assert say("verify", joined, *stores).code == 5


@pytest.fixture(scope="module")
def whole(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> tuple[Blocks, Path]:
    """A recipe with blocks that was run to its report, and that report."""
    blocks = Blocks(chain, tmp_path_factory.mktemp("whole"))
    said = blocks.say("run", '["neighbours", "features"]')
    assert said.code == 0, said.err
    return blocks, Path(said.line)


def test_a_clustering_with_blocks_takes_new_cells_with_the_same_blocks_only(whole: tuple[Blocks, Path]) -> None:
    blocks, _ = whole
    (clusters,) = (blocks.root / "cluster").glob("*[0-9a-f]")
    assigned = ["--set", f"cluster.assign_to={clusters}"]
    assert blocks.say("status", '["neighbours", "features"]', *assigned).code == 0  # the order of the names is any
    refused = blocks.say("status", '["features", "intensities"]', *assigned)
    assert refused.code == 2 and "embed the cells with the same blocks" in refused.err
    turned = blocks.say("run", '["features", "neighbours"]', "--to", "cluster", *assigned)
    assert turned.code == 2 and "in the same order" in turned.err


def test_the_scale_of_every_block_is_that_of_the_earlier_clustering(blocks: Blocks) -> None:
    words, wide = '["features", "wide"]', '[arm.wide.embed]\nmodel = "intensities"\n'
    of_all = f'{wide}[arm.wide.segment]\nreference = "all"'
    assert blocks.say("run", words, "--to", "embed", more=of_all).code == 0
    embed, other = blocks.embedded(words, more=wide), blocks.embedded(words, more=of_all)
    store = Store(blocks.root, (blocks.chain.root,))
    earlier = Artifact(embed.path, replace(embed.card, kind="cluster", inputs={"embed": embed.fingerprint}))
    check_same_scale(earlier, embed, store)
    with pytest.raises(UsageError, match=r"in the block 'wide' cells with segment\.reference = \"controls\"") as said:
        check_same_scale(earlier, other, store)
    assert said.value.hint == 'set segment.reference = "controls", for the cells of that block'


def test_the_page_says_that_blocks_that_learn_nothing_are_a_baseline(whole: tuple[Blocks, Path]) -> None:
    _, report = whole
    (row,) = json.loads((report / "scores.json").read_text())
    assert (row["arm"], row["baseline"]) == ("both", True)
    assert "neighbours (9 numbers)" in (report / "report.html").read_text()


def test_a_sweep_sees_what_only_a_block_depends_on(blocks: Blocks) -> None:
    swept = '[sweep.rate]\nknob = "pretrain.learning_rate"\nvalues = [0.1, 0.2]'
    rows = blocks.rows('["main", "features"]', "--arm", "both", more=swept)
    assert rows  # `main` is swept on its own, and the arm has one line: its block is the arm as it is written
    rows = blocks.rows('["pretrain", "features"]', "--arm", "both+rate=0.1", more=swept)
    assert {row["arm"] for row in rows if row["stage"] == "embed"} >= {"both+rate=0.1", "both+rate=0.1@pretrain"}


def test_settings_of_blocks_come_back_from_a_card() -> None:
    given = {"blocks": [{"of": "features", "weight": 2.0}, {"name": "ctx", "arm": "context"}]}
    settings = Settings.model_validate(given)
    assert Settings.model_validate(settings.all_values()) == settings
    assert settings.fingerprint_values()["blocks"] == [
        {"name": "features", "weight": 2.0},
        {"name": "ctx", "weight": 1.0},
    ]


def test_finished_crops_have_no_surroundings(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 48, 48, 1), np.uint16))
    (tmp_path / "a.csv").write_text("plate,well,nearest_px\nP,A01,1\nP,A02,2\n")
    text = """
[fetch.dataset]
name = "crop_stack"
stack = "a.npy"
table = "a.csv"
channels = ["dna"]
[embed]
blocks = ["features", "neighbours"]
"""
    (tmp_path / "stack.toml").write_text(text)
    for command in ("status", "check", "run"):
        said = say(command, tmp_path / "stack.toml", "--store", tmp_path / "store")
        assert said.code == 2 and "needs the column nearest_px of every cell" in said.err, said.err
    with pytest.raises(UsageError, match="nearest_px"):
        Planner(load(str(tmp_path / "stack.toml")), "main", 0, Store(tmp_path / "store")).plan("embed")


def test_crops_without_a_place_are_a_block_only_where_they_are_the_same_crops(tmp_path: Path) -> None:
    pixels = generator("crops").integers(0, 4000, (2, 24, 48, 48, 1)).astype(np.uint16)
    for name, stack in zip("ab", pixels, strict=True):
        np.save(tmp_path / f"{name}.npy", stack)
    wells = "".join(f"P,A{1 + number // 6:02},{number % 2}\n" for number in range(24))
    (tmp_path / "a.csv").write_text(f"plate,well,label\n{wells}")
    data = '[fetch.dataset]\nname = "crop_stack"\nstack = "a.npy"\ntable = "a.csv"\nchannels = ["dna"]\n'
    arms = '[segment]\nreference = "all"\n[embed]\ncells = "segment"\nblocks = ["features", "other"]\n'
    arms += '[arm.other.embed]\nmodel = "intensities"\nblocks = []\n'
    for stack, code in {"a.npy": 0, "b.npy": 2}.items():
        recipe = tmp_path / "stack.toml"
        recipe.write_text(f'{data}{arms}[arm.other.fetch.dataset]\nstack = "{stack}"\n')
        said = say("run", recipe, "--to", "embed", "--arm", "main", "--store", tmp_path / "store", "--device", "cpu")
        assert said.code == code, said.err
    assert "the block 'other'" in said.err and "24 of 24 cells have no place in a field" in said.err


def test_neighbours_are_what_segment_measures_and_the_nuclei_within_radii(blocks: Blocks, chain: Chain) -> None:
    made = Path(blocks.say("embed", '["neighbours"]', "--arm", "both@neighbours").line)
    artifact = Artifact(made, read_card(made))
    table, vectors = read_embeddings(artifact)
    columns = dict(zip(embeddings.read_names(artifact.file("embeddings.parquet")), vectors.T, strict=True))
    np.testing.assert_allclose(columns["emb_nearest_log2_um"], np.log2(table["nearest_px"] * table["pixel_um"]), 1e-5)
    nuclei = pd.concat(
        [pd.read_parquet(chain.made("segment").file(name)) for name in ("cells.parquet", "dropped.parquet")]
    )
    fields = nuclei[nuclei["field_id"] == table["field_id"][0]]
    place = table[["Nuclei_Location_Center_Y", "Nuclei_Location_Center_X"]].to_numpy()[0]
    others_um = np.hypot(*(fields[["row_px", "column_px"]].to_numpy() - place).T) * table["pixel_um"][0]
    within = 2 ** columns["emb_within_50um_log2"][0] - 1
    assert within >= (others_um <= 50).sum() - 1 > 0
    assert np.isfinite(vectors).all() and len(columns) == 9
