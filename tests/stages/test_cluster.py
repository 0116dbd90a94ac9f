"""cluster: the same scores as scikit-learn, an earlier clustering applied again, and a new plate without labels."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import Chain, say
from sklearn import metrics
from threadpoolctl import threadpool_limits

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_fields, read_table, write_table
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.normaliser import chain as chain_of
from cellssl.randomness import generator
from cellssl.stages.cluster.map import coordinates
from cellssl.stages.cluster.metrics import AGREEMENT_SCORES, ClusterMetrics, ClusterScores
from cellssl.stages.shared.cell_tables import read_embeddings

FEW_SCORES = ("--set", 'cluster.against=["well"]')
"""Flags for a clustering of which only the assignments matter: scores take a third of the time."""


def table_of(chain: Chain, arm: str, made: Path | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the clustered cells of an arm with their cluster, and their embeddings; `made` is another clustering."""
    cells, vectors = read_embeddings(chain.made("embed", arm))
    assigned = scored_of(made or chain.made("cluster", arm).path)
    rows = pd.Index(cells["cell_id"]).get_indexer(assigned["cell_id"])
    return cells.iloc[rows].assign(cluster=assigned["cluster"].to_numpy()), vectors[rows]


def scored_of(cluster: Path) -> pd.DataFrame:
    """Return the assignments of the cells that the clusters are fitted and scored on."""
    assigned = read_table(cluster / "assignments.parquet")
    return assigned[assigned["scored"]].reset_index(drop=True)


@pytest.mark.parametrize("arm", ["main", "intensities"])
def test_scores_equal_those_of_scikit_learn_for_the_tables(chain: Chain, arm: str) -> None:
    cells, _ = table_of(chain, arm)
    scores = json.loads(chain.made("cluster", arm).file("scores.json").read_text())
    assert set(cells["split"]) == {"test"}
    assert len(cells) == (read_embeddings(chain.made("embed", arm))[0]["split"] == "test").sum()
    cells["treatment"] = cells["compound"] + " " + cells["dose_micromolar"].astype(str)
    for name in ("label", "treatment", "compound", "well", "dose_micromolar"):
        found, words = scores["against"][name], cells[name].astype(str)
        for kind, method in (("ami", "arithmetic"), ("ami_max", "max")):
            ours = metrics.adjusted_mutual_info_score(words, cells["cluster"], average_method=method)
            assert found[kind] == pytest.approx(ours, abs=1e-9)
        assert found["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(words, cells["cluster"]), abs=1e-9)
        assert found["homogeneity"] == pytest.approx(metrics.homogeneity_score(words, cells["cluster"]), abs=1e-9)
        assert found["ami_interval"][0] <= found["ami"] <= found["ami_interval"][1]
        assert abs(found["shuffled_ami"]["mean"]) < 0.05
        assert (found["cells"], found["classes"]) == (len(cells), words.nunique())
        assert found["ari"] == pytest.approx(metrics.adjusted_rand_score(words, cells["cluster"]), abs=1e-9)


def test_density_is_whether_a_cell_has_more_neighbours_than_the_median(chain: Chain) -> None:
    cells, _ = table_of(chain, "main")
    dense = cells["neighbours"] > cells["neighbours"].median()
    scores = json.loads(chain.made("cluster").file("scores.json").read_text())
    assert scores["against"]["density"]["ami"] == pytest.approx(
        metrics.adjusted_mutual_info_score(dense, cells["cluster"]), abs=1e-9
    )


def test_the_upper_bound_is_the_agreement_of_true_phenotype_and_label(chain: Chain) -> None:
    cells, _ = table_of(chain, "main")
    known = cells[cells["true_phenotype"].notna()]
    scores = json.loads(chain.made("cluster").file("scores.json").read_text())
    ours = metrics.adjusted_mutual_info_score(known["label"], known["true_phenotype"])
    assert scores["ceiling_ami"] == pytest.approx(ours, abs=1e-9)


def test_the_plate_is_not_compared_where_there_is_one_plate(chain: Chain) -> None:
    assert "plate" not in json.loads(chain.made("cluster").file("scores.json").read_text())["against"]


def test_centroids_are_the_means_of_their_cells_and_every_cell_is_nearest_to_its_own(
    chain: Chain, tmp_path: Path
) -> None:
    path = made(chain, tmp_path, "cluster.normalise=none")
    cells, vectors = table_of(chain, "intensities", path)
    scores = json.loads((path / "scores.json").read_text())
    assert scores["silhouette"] == pytest.approx(metrics.silhouette_score(vectors, cells["cluster"]), abs=1e-5)
    with np.load(path / "centroids.npz") as arrays:
        centroids = arrays["centroids"]
    means = np.stack([vectors[cells["cluster"] == cluster].mean(axis=0) for cluster in range(len(centroids))])
    assert centroids == pytest.approx(means, rel=1e-3)
    far = np.linalg.norm(vectors[:, None] - centroids[None], axis=2)
    assert (far.argmin(axis=1) == cells["cluster"]).all()


def test_the_wells_table_has_the_counts_of_segment_and_shares_of_the_even_draw(chain: Chain) -> None:
    segment, wells = chain.made("segment"), pd.read_csv(chain.made("cluster").file("wells.csv")).set_index("well")
    cells, fields = read_cells(segment), read_fields(segment)
    assert wells["n"].to_dict() == cells["well"].value_counts().to_dict()
    assert wells["n"].sum() > len(read_embeddings(chain.made("embed"))[0]), "the split is balanced and smaller"
    dropped = read_table(segment.file("dropped.parquet"))
    assert wells["n_detected"].sum() == len(cells) + len(dropped)
    assert wells["n_fields"].to_dict() == fields["well"].value_counts().to_dict()
    assert (wells["n_drawn"] == wells["n"]).all(), "no well has more cells than are drawn"
    assigned = read_table(chain.made("cluster").file("assignments.parquet")).query("drawn").merge(cells, on="cell_id")
    expected = assigned.groupby("well")["cluster"].apply(lambda column: (column == 0).mean())
    assert wells["share_of_cluster_0"].to_dict() == pytest.approx(expected.to_dict())


def test_wells_are_described_alike_whichever_cells_the_split_has(chain: Chain, tmp_path: Path) -> None:
    """The share of an earlier clustering's clusters in a well follows from the draw, and the draw from the well."""
    earlier, store = chain.made("cluster", "intensities"), ["--store", tmp_path, "--store", chain.root]
    words = ["cluster", chain.recipe, *store, "--arm", "intensities", "--set", f"cluster.assign_to={earlier.path}"]
    words += FEW_SCORES
    tables = []
    for knobs in (["embed.cells=segment"], ["split.seed=3", "split.cells_per_class=40"]):
        flags = [word for knob in [*knobs, "embed.cells_per_well=20"] for word in ("--set", knob)]
        run = say("run", *words[1:], *flags, "--to", "cluster")
        tables.append(pd.read_csv(Path(run.line) / "wells.csv"))
    assert (tables[0]["n_drawn"] == 20).all()
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_assignments_say_which_cells_are_scored_and_which_only_describe_their_well(chain: Chain) -> None:
    assigned = read_table(chain.made("cluster").file("assignments.parquet"))
    split = read_table(chain.made("split").file("split.parquet")).set_index("cell_id")["split"]
    assert assigned["split"].astype(object).where(assigned["split"].notna(), None).tolist() == [
        split.get(cell_id) for cell_id in assigned["cell_id"]
    ]
    assert assigned["scored"].equals((assigned["split"] == "test").fillna(False).astype(bool).rename("scored"))
    assert assigned["split"].isna().any() and assigned["drawn"][assigned["split"].isna()].all()
    assert chain.made("cluster").card.metrics["cells"] == assigned["scored"].sum()


def test_embeddings_of_an_earlier_version_have_no_draw_and_are_an_error_with_the_cure(
    chain: Chain, tmp_path: Path
) -> None:
    old = without_draw(chain.made("embed", "intensities"), Store(tmp_path / "store"))
    said = say("cluster", chain.recipe, "--store", tmp_path / "store", "--store", chain.root, "--input", old.path)
    assert said.code == 2 and "lacks the draw of cells per well" in said.err and "cellssl embed" in said.err


def without_draw(embed: Artifact, store: Store) -> Artifact:
    table = read_table(embed.file("embeddings.parquet"))
    with store.drafting("embed", "0" * 12) as draft:
        kept = table[table["Metadata_split"].notna()].drop(columns="Metadata_drawn")
        write_table(kept, draft.file("embeddings.parquet"))
        return draft.commit(replace(embed.card, fingerprint="0" * 12, files={}))


@pytest.mark.parametrize("knob", ["none", "pca", '["center_plate", "scale_pooled", "l2"]', '["robust_z", "tvn"]'])
def test_the_same_cells_assigned_to_a_clustering_get_its_clusters(chain: Chain, knob: str, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "store", "--store", chain.root, *FEW_SCORES]
    arm = ["--arm", "intensities", "--set", f"cluster.normalise={knob}"]
    fitted = Path(say("cluster", chain.recipe, *store, *arm).line)
    again = Path(say("cluster", chain.recipe, *store, *arm, "--set", f"cluster.assign_to={fitted}").line)
    assert again != fitted
    one, two = (read_table(path / "assignments.parquet") for path in (fitted, again))
    assert one[["cell_id", "cluster"]].equals(two[["cell_id", "cluster"]])
    assert one["distance"].to_numpy() == pytest.approx(two["distance"].to_numpy(), rel=1e-4, abs=1e-4)


def made(chain: Chain, tmp_path: Path, *knobs: str) -> Path:
    """Return the cluster artifact of the arm `intensities` with these settings."""
    store = ["--store", tmp_path / "store", "--store", chain.root, "--arm", "intensities", *FEW_SCORES]
    return Path(say("cluster", chain.recipe, *store, *(word for knob in knobs for word in ("--set", knob))).line)


def test_the_number_of_clusters_is_that_of_the_highest_silhouette(chain: Chain, tmp_path: Path) -> None:
    path = made(chain, tmp_path, "cluster.k=[2, 5]")
    scores = json.loads((path / "scores.json").read_text())
    by_k = {int(k): value for k, value in scores["silhouette_of_k"].items()}
    assert sorted(by_k) == [2, 3, 4, 5]
    best = max(by_k, key=by_k.__getitem__)
    assert read_table(path / "assignments.parquet")["cluster"].nunique() == best
    assert scores["silhouette"] == pytest.approx(by_k[best])
    alone = made(chain, tmp_path, f"cluster.k={best}")
    one, two = (read_table(each / "assignments.parquet")["cluster"] for each in (path, alone))
    assert one.equals(two)


def test_noise_counts_as_a_group_in_every_score_and_share(chain: Chain, tmp_path: Path) -> None:
    method = 'cluster.method={ name = "hdbscan", min_cluster_size = 4, min_samples = 2 }'
    path = made(chain, tmp_path, method, "cluster.normalise=zscore", "cluster.part=all")
    assigned = read_table(path / "assignments.parquet")
    assert assigned["scored"].all(), "hdbscan has no rule for other cells"
    noise = assigned["cluster"] == -1
    assert noise.any() and assigned["distance"].isna().equals(noise)
    cells, _ = read_embeddings(chain.made("embed", "intensities"))
    scores = json.loads((path / "scores.json").read_text())
    expected = metrics.adjusted_mutual_info_score(cells["well"], assigned["cluster"])
    assert scores["against"]["well"]["ami"] == pytest.approx(expected, abs=1e-9)
    assert np.allclose(pd.read_csv(path / "wells.csv").filter(regex="^share_of_").sum(axis=1), 1)


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
def test_an_earlier_clustering_of_any_method_that_has_a_rule_is_applied(
    chain: Chain, tmp_path: Path, method: str
) -> None:
    fitted = made(chain, tmp_path, f"cluster.method={method}", "cluster.k=3", "cluster.normalise=zscore")
    again = made(chain, tmp_path, f"cluster.assign_to={fitted}")
    third = made(chain, tmp_path, f"cluster.assign_to={again}")
    one, two, three = (read_table(path / "assignments.parquet")["cluster"] for path in (fitted, again, third))
    assert one.equals(two) and one.equals(three)
    assert made(chain, tmp_path, f"cluster.assign_to={fitted}", "cluster.k=7", "cluster.method=leiden") == again


def test_a_clustering_without_a_rule_for_new_cells_is_an_error(chain: Chain, tmp_path: Path) -> None:
    fitted = made(chain, tmp_path, "cluster.method=leiden")
    assert "seed" in json.loads((fitted / "artifact.json").read_text())["section"]
    store = ["--store", tmp_path / "store", "--store", chain.root, "--arm", "intensities"]
    said = say("cluster", chain.recipe, *store, "--set", f"cluster.assign_to={fitted}")
    assert said.code == 2 and "the clustering method leiden cannot assign new cells to its clusters" in said.err


def test_an_unknown_column_is_named_with_the_nearest(chain: Chain, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "store", "--store", chain.root]
    said = say("cluster", chain.recipe, *store, "--set", 'cluster.against=["compund"]')
    assert said.code == 2 and "did you mean 'compound'?" in said.err


def test_only_the_columns_in_the_recipe_are_scored(chain: Chain, tmp_path: Path) -> None:
    path = made(chain, tmp_path, 'cluster.against=["plate", "density"]')
    against = json.loads((path / "scores.json").read_text())["against"]
    assert sorted(against) == ["density", "plate"]
    assert against["plate"]["ami"] is None, "there is one plate only"


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_the_map_has_every_cell_with_its_cluster_and_metadata(chain: Chain, tmp_path: Path, kind: str) -> None:
    path = made(chain, tmp_path, f"cluster.map={kind}")
    table, assigned = read_table(path / "map.parquet"), scored_of(path)
    assert table[["cell_id", "cluster"]].equals(assigned[["cell_id", "cluster"]])
    assert np.isfinite(table[["map_x", "map_y"]]).all(axis=None)
    assert {"compound", "dose_micromolar", "plate", "label", "true_phenotype"} <= set(table.columns)
    assert (path / "map.png").read_bytes()[:4] == b"\x89PNG"


def test_an_assignment_depends_on_the_clustering_and_not_on_how_it_was_named(chain: Chain, tmp_path: Path) -> None:
    earlier = chain.made("cluster", "intensities")
    store = ["--store", tmp_path / "store", "--store", chain.root, "--arm", "intensities", *FEW_SCORES]
    card = earlier.path / "artifact.json"
    paths = {
        say("cluster", chain.recipe, *store, "--set", f"cluster.assign_to={name}").line
        for name in (earlier.path, card, earlier.fingerprint)
    }
    assert len(paths) == 1


TONIGHT = """
name = "tonight"
[fetch.dataset]
name = "simulated"
seed = 7
plates = 1
height_px = 256
width_px = 320
sites_per_well = 1
control_wells = 3
compounds = ["sim-nocodazole"]
doses = 3
cells_per_field = 400
workers = 1
[segment]
crop_px = 48
workers = 1
[embed]
cells = "segment"
model = "MODEL"
[cluster]
assign_to = "CLUSTERS"
montage_cells = 4
"""


def tonight(chain: Chain, folder: Path, model: Artifact, clusters: Artifact) -> Path:
    path = folder / "tonight.toml"
    path.write_text(TONIGHT.replace("MODEL", model.fingerprint).replace("CLUSTERS", str(clusters.path)))
    return path


def test_a_new_plate_without_labels_goes_through_an_earlier_model_and_clustering(chain: Chain, tmp_path: Path) -> None:
    recipe = tonight(chain, tmp_path, chain.made("pretrain"), chain.made("cluster"))
    store = ["--store", tmp_path / "store", "--store", chain.root, "--device", "cpu"]
    said = say("run", recipe, *store, "--json")
    assert said.code == 0, said.err
    (path,) = tmp_path.glob("store/cluster/*")
    scores = json.loads((path / "scores.json").read_text())
    assert "label" not in scores["against"]
    wells = pd.read_csv(path / "wells.csv")
    assert len(wells) == 6
    assert sorted(wells["compound"].unique()) == ["DMSO", "sim-nocodazole"]
    assert not list((tmp_path / "store").glob("pretrain"))
    assert not list((tmp_path / "store").glob("split"))
    assert say("run", recipe, *store, "--json").out == said.out
    assert (path / "montage.png").read_bytes()[:4] == b"\x89PNG"


def test_a_model_is_not_applied_to_crops_of_another_size(chain: Chain, tmp_path: Path) -> None:
    recipe = tonight(chain, tmp_path, chain.made("pretrain"), chain.made("cluster"))
    store = ["--store", tmp_path / "store", "--store", chain.root]
    said = say("run", recipe, *store, "--to", "embed", "--set", "segment.crop_px=40", "--set", "fetch.dataset.doses=1")
    assert said.code == 2
    assert "trained on crops of 48 px, but these are 40 px" in said.err
    assert "set segment.crop_px = 48" in said.err
    assert not list((tmp_path / "store").glob("*/*/artifact.json"))  # said before any work


def test_a_collapsed_encoder_is_reported(chain: Chain, tmp_path: Path) -> None:
    embed, store = chain.made("embed"), Store(tmp_path / "store")
    table = read_table(embed.file("embeddings.parquet"))
    table[[name for name in table if name.startswith("emb_")]] = np.float32(1)
    with store.drafting("embed", "0" * 12) as draft:
        write_table(table, draft.file("embeddings.parquet"))
        same = draft.commit(replace(embed.card, fingerprint="0" * 12, files={}))
    said = say("cluster", chain.recipe, "--store", store.root, "--store", chain.root, "--input", same.path)
    assert said.code == 0 and "the encoder has collapsed" in said.err


def test_a_well_belongs_to_a_plate_and_control_wells_are_scored_separately(chain: Chain) -> None:
    scores = json.loads(chain.made("cluster").file("scores.json").read_text())["against"]
    cells, _ = read_embeddings(chain.made("embed"))
    cells = cells[cells["split"] == "test"]
    assert scores["well"]["classes"] == len(cells[["plate", "well"]].drop_duplicates())
    controls = cells[cells["control"].astype(bool)]
    assert scores["control_well"]["classes"] == controls["well"].nunique()
    assert scores["control_well"]["cells"] == len(controls)


@pytest.mark.parametrize("links", [(), ("pca",)])
@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_the_number_of_threads_does_not_change_the_map(links: tuple[str, ...], kind: str) -> None:
    chance = generator("tests", "threads")
    vectors = (chance.normal(size=(400, 256)) * np.linspace(3, 0.1, 256)).astype(np.float32)
    cells = np.ones(400, bool), ["P"] * 400, np.zeros(400, bool), None
    placed = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            _, normal = fit_chain(chain_of(*links), vectors, *cells)
            placed.append((normal, coordinates(kind, normal, 0)[0]))
    assert np.array_equal(placed[0][0], placed[1][0]) and np.array_equal(placed[0][1], placed[1][1])


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is here")
def test_a_umap_without_its_library_is_an_error_with_the_cure(chain: Chain, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "store", "--store", chain.root]
    said = say("cluster", chain.recipe, *store, "--arm", "intensities", "--set", "cluster.map=umap")
    assert said.code == 2
    assert 'pip install "cellssl[umap]"' in said.err
    assert not (tmp_path / "store" / "cluster").exists()


@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not here")
def test_a_umap_depends_only_on_its_seed() -> None:
    vectors = generator("tests", "umap").normal(size=(200, 16)).astype(np.float32)
    first, again, other = (coordinates("umap", vectors, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_columns_that_group_the_cells_alike_colour_the_map_once() -> None:
    from cellssl.stages.cluster.map import map_figure

    points, kinds = np.arange(12.0), ["a", "b", None] * 4
    renamed = [{"a": "DMSO", "b": "taxol"}.get(kind) for kind in kinds]
    known = {"label": kinds, "compound": renamed, "plate": ["1"] * 12, "moa": ["a", "b", "b"] * 4}
    table = pd.DataFrame({**known, "map_x": points, "map_y": points, "cluster": [0, 1] * 6})
    titles = [axis.get_title(loc="left") for axis in map_figure(table, ("1", "2")).axes if axis.get_visible()]
    assert titles == ["cluster", "label, and compound", "moa"]


@pytest.mark.parametrize("arm", ["main", "intensities"])
def test_metrics_are_read_from_the_card_and_written_back_unchanged(chain: Chain, arm: str) -> None:
    made = chain.made("cluster", arm)
    assert ClusterMetrics.from_json(made.card.metrics).to_json() == made.card.metrics
    scores = json.loads(made.file("scores.json").read_text())
    assert ClusterScores.from_json(scores).to_json() == scores


SCORES_JSON = {
    "silhouette": 0.5,
    "silhouette_of_k": {"2": 0.5, "3": None},
    "ceiling_ami": 0.36,
    "against": {
        "label": {
            "ami": 0.1,
            "ami_max": 0.2,
            "nmi": 0.3,
            "ari": 0.4,
            "homogeneity": 0.5,
            "shuffled_ami": {"mean": 0.0, "sd": 0.01},
            "ami_interval": [0.05, 0.15],
            "cells": 68,
            "classes": 2,
        },
        "plate": {
            **dict.fromkeys(("ami", "ami_max", "nmi", "ari", "homogeneity")),
            "shuffled_ami": {"mean": None, "sd": None},
            "ami_interval": [None, None],
            "cells": 68,
            "classes": 1,
        },
    },
    "shuffled_ami": {"mean": 0.0, "sd": 0.01},
    "ami_interval": [0.05, 0.15],
}
"""scores.json as artifacts of format 1 have it."""


def test_the_keys_of_scores_json_are_those_of_format_1() -> None:
    scores = ClusterScores.from_json(SCORES_JSON)
    assert scores.to_json() == SCORES_JSON
    label = scores.against["label"]
    assert [label.agreement[name] for name in AGREEMENT_SCORES] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert (label.shuffled_mean, label.shuffled_sd, label.ami_low, label.ami_high) == (0.0, 0.01, 0.05, 0.15)
    assert (label.ami, label.ami_max, label.cells, label.classes) == (0.1, 0.2, 68, 2)
    assert (scores.silhouette, scores.ceiling_ami) == (0.5, 0.36)
    assert np.isnan(scores.against["plate"].ami), "a score that is not defined"


@pytest.mark.parametrize("key", ["silhouette", "against"])
def test_a_missing_key_of_scores_json_is_an_error(key: str) -> None:
    with pytest.raises(KeyError, match=key):
        ClusterScores.from_json({name: value for name, value in SCORES_JSON.items() if name != key})
