"""cluster: scores that scikit-learn gives too, an earlier clustering applied as it is, and a night without labels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import Chain, say
from sklearn import metrics

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_table
from cellssl.stages.embed import read_embeddings


def table_of(chain: Chain, arm: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The clustered cells of an arm with their cluster, and their embeddings."""
    cells, vectors = read_embeddings(chain.made("embed", arm))
    assigned = read_table(chain.made("cluster", arm).file("assignments.parquet"))
    rows = pd.Index(cells["cell_id"]).get_indexer(assigned["cell_id"])
    return cells.iloc[rows].assign(cluster=assigned["cluster"].to_numpy()), vectors[rows]


@pytest.mark.parametrize("arm", ["main", "intensities"])
def test_scores_are_those_of_scikit_learn_on_the_tables(chain: Chain, arm: str) -> None:
    cells, vectors = table_of(chain, arm)
    scores = json.loads(chain.made("cluster", arm).file("scores.json").read_text())
    assert set(cells["split"]) == {"test"}
    assert len(cells) == (read_embeddings(chain.made("embed", arm))[0]["split"] == "test").sum()
    for name in ("label", "well", "dose_micromolar"):
        found, words = scores["against"][name], cells[name].astype(str)
        for kind, method in (("ami", "arithmetic"), ("ami_max", "max")):
            ours = metrics.adjusted_mutual_info_score(words, cells["cluster"], average_method=method)
            assert found[kind] == pytest.approx(ours, abs=1e-9)
        assert found["ari"] == pytest.approx(metrics.adjusted_rand_score(words, cells["cluster"]), abs=1e-9)
    assert scores["silhouette"] == pytest.approx(metrics.silhouette_score(vectors, cells["cluster"]), abs=1e-5)


def test_density_is_whether_a_cell_has_more_neighbours_than_the_median(chain: Chain) -> None:
    cells, _ = table_of(chain, "main")
    dense = cells["neighbours"] > cells["neighbours"].median()
    scores = json.loads(chain.made("cluster").file("scores.json").read_text())
    assert scores["against"]["density"]["ami"] == pytest.approx(
        metrics.adjusted_mutual_info_score(dense, cells["cluster"]), abs=1e-9
    )


def test_the_ceiling_is_the_agreement_of_true_phenotype_and_label(chain: Chain) -> None:
    cells, _ = table_of(chain, "main")
    known = cells[cells["true_phenotype"].notna()]
    scores = json.loads(chain.made("cluster").file("scores.json").read_text())
    ours = metrics.adjusted_mutual_info_score(known["label"], known["true_phenotype"])
    assert scores["ceiling_ami"] == pytest.approx(ours, abs=1e-9)


def test_the_plate_is_no_answer_where_there_is_one_plate(chain: Chain) -> None:
    assert "plate" not in json.loads(chain.made("cluster").file("scores.json").read_text())["against"]


def test_centroids_are_the_means_of_their_cells_and_every_cell_is_nearest_its_own(chain: Chain) -> None:
    cells, vectors = table_of(chain, "intensities")
    with np.load(chain.made("cluster", "intensities").file("centroids.npz")) as arrays:
        centroids = arrays["centroids"]
    means = np.stack([vectors[cells["cluster"] == cluster].mean(axis=0) for cluster in range(len(centroids))])
    assert centroids == pytest.approx(means, rel=1e-3)
    far = np.linalg.norm(vectors[:, None] - centroids[None], axis=2)
    assert (far.argmin(axis=1) == cells["cluster"]).all()


def test_the_wells_table_counts_every_cell_once(chain: Chain) -> None:
    cells, _ = table_of(chain, "main")
    wells = pd.read_csv(chain.made("cluster").file("wells.csv"))
    assert wells["cells"].sum() == len(cells)
    shares = wells.filter(regex="^share_of_cluster_").sum(axis=1)
    assert np.allclose(shares, 1)
    expected = cells.groupby("well")["cluster"].apply(lambda column: (column == 0).mean())
    assert wells.set_index("well")["share_of_cluster_0"].to_dict() == pytest.approx(expected.to_dict())


@pytest.mark.parametrize("knob", ["none", "zscore", "pca_whiten"])
def test_the_same_cells_assigned_to_a_clustering_get_its_clusters(chain: Chain, knob: str, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "store", "--store", chain.root]
    arm = ["--arm", "intensities", "--set", f"cluster.normalise={knob}"]
    fitted = Path(say("cluster", chain.recipe, *store, *arm).line)
    again = Path(say("cluster", chain.recipe, *store, *arm, "--set", f"cluster.assign_to={fitted}").line)
    assert again != fitted
    one, two = (read_table(path / "assignments.parquet") for path in (fitted, again))
    assert one[["cell_id", "cluster"]].equals(two[["cell_id", "cluster"]])
    assert one["distance"].to_numpy() == pytest.approx(two["distance"].to_numpy(), rel=1e-4, abs=1e-4)


def test_an_assignment_is_named_by_the_clustering_and_not_by_how_it_was_called(chain: Chain, tmp_path: Path) -> None:
    earlier = chain.made("cluster", "intensities")
    store = ["--store", tmp_path / "store", "--store", chain.root, "--arm", "intensities"]
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


def test_a_model_is_not_applied_to_other_crops_than_it_knows(chain: Chain, tmp_path: Path) -> None:
    recipe = tonight(chain, tmp_path, chain.made("pretrain"), chain.made("cluster"))
    store = ["--store", tmp_path / "store", "--store", chain.root]
    said = say("run", recipe, *store, "--to", "embed", "--set", "segment.crop_px=40", "--set", "fetch.dataset.doses=1")
    assert said.code == 2
    assert "trained on crops of 48 px, but these are 40 px" in said.err
    assert "set segment.crop_px = 48" in said.err
