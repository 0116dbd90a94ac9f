"""anndata_cells: anndata and pycytominer open cells.h5ad; what stands in it is what the artifacts say."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata_process import printed
from chain import Chain, say
from conftest import REPOSITORY

from cellssl.artifacts import embeddings
from cellssl.artifacts.anndata_file import as_json
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_assignments
from cellssl.reporting.theme import COLOURS, NO_GROUP
from cellssl.sharing.anndata_cells import _normalised
from cellssl.sharing.cluster_colours import cluster_colour, repeats

PAGE = REPOSITORY / "docs" / "opening-results.md"
SCANPY, SQUIDPY, PYCYTOMINER, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
READ = PYCYTOMINER.replace("from pycytominer import aggregate, normalize\n", "").partition("features = ")[0]
AND_PRINT = """
import json
import numpy as np
assert cells.obs_names.is_unique and cells.X.dtype == np.float32
found = {
    "clusters": dict(zip(cells.obs["Metadata_cell_id"], cells.obs["cluster"].astype(int).tolist())),
    "wells": sorted(cells.obs["Metadata_Well"].cat.categories),
    "colours": list(cells.uns["cluster_colors"]),
    "x": cells.X[:, 3].tolist(),
    "spatial": cells.obsm["spatial"].tolist(),
    "on_map": int(np.isfinite(cells.obsm["X_map"]).all(1).sum()),
    "from": cells.uns["cellssl"]["fingerprint"],
}
print(json.dumps(found))
"""


def exported(artifact: Artifact, chain: Chain, folder: Path) -> Path:
    said = say("export", artifact.path, folder, "--store", chain.root)
    assert said.line == str(folder), said.err
    return folder / "cells.h5ad"


def test_anndata_reads_the_clusters_vectors_and_positions_of_the_artifacts(chain: Chain, tmp_path: Path) -> None:
    clusters, embed = chain.made("cluster"), chain.made("embed")
    found = json.loads(printed(READ + AND_PRINT, folder=exported(clusters, chain, tmp_path).parent))
    assigned = pd.read_parquet(clusters.file("assignments.parquet"))
    table = pd.read_parquet(embed.file("embeddings.parquet")).set_index("Metadata_cell_id").loc[list(found["clusters"])]
    assert found["clusters"] == dict(zip(assigned["cell_id"], assigned["cluster"], strict=True))
    assert np.array_equal(np.float32(found["x"]), table["emb_0003"])
    places = table[["Nuclei_Location_Center_X", "Nuclei_Location_Center_Y"]].mul(table["Metadata_pixel_um"], axis=0)
    assert np.allclose(found["spatial"], places, rtol=1e-6)
    assert found["colours"] == list(COLOURS[:2])
    assert found["on_map"] == len(pd.read_parquet(clusters.file("map.parquet")))
    assert found["from"] == clusters.fingerprint


@pytest.mark.soak  # 10 s, most of it to load pycytominer
def test_pycytominer_makes_profiles_of_wells_as_the_page_shows(chain: Chain, tmp_path: Path) -> None:
    embed, code = chain.made("embed"), PYCYTOMINER + "\nprint(len(profiles), len(features), profiles.shape[1])"
    rows, features, columns = map(int, printed(code, folder=exported(embed, chain, tmp_path).parent).split()[-3:])
    cells = embeddings.read_metadata(embed.file("embeddings.parquet"))
    assert (rows, columns) == (cells["Metadata_Well"].nunique(), 2 + features)


def test_the_normalised_vectors_lie_at_the_distances_that_the_clustering_has_written(
    chain: Chain, tmp_path: Path
) -> None:
    clusters = chain.made("cluster")
    with h5py.File(exported(clusters, chain, tmp_path)) as file:
        normal, numbers = file["obsm/X_normalised"][:], file["obs/Metadata_cluster"][:]
        distances = file["obs/Metadata_distance"][:]
    centroids = np.load(clusters.file("centroids.npz"))["centroids"]
    assert np.allclose(np.linalg.norm(normal - centroids[numbers], axis=1), distances, atol=1e-4)


def test_vectors_alone_are_exported_for_all_cells_and_the_same_bytes_each_time(chain: Chain, tmp_path: Path) -> None:
    embed = chain.made("embed")
    first = exported(embed, chain, tmp_path)
    before = first.read_bytes()
    assert exported(embed, chain, tmp_path).read_bytes() == before
    with h5py.File(first) as file:
        assert np.array_equal(file["X"][:], embeddings.read(embed.file("embeddings.parquet"))[1])
        assert "cluster" not in file["obs"]
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_nothing_in_the_file_says_on_which_machine_or_in_which_folder_it_was_made(chain: Chain, tmp_path: Path) -> None:
    with h5py.File(exported(chain.made("cluster"), chain, tmp_path)) as file:
        stands = {name: item[()].decode() for name, item in file["uns/cellssl"].items()}
    assert set(stands) == {"kind", "fingerprint", "embed", "version", "section", "spatial_unit"}
    assert as_json({"model": "/home/me/models/3f9a", "k": [2, "a/b"]}) == '{"k": [2, "b"], "model": "3f9a"}'


def test_a_file_of_someone_else_is_not_replaced(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "cells.h5ad").write_text("mine")
    said = say("export", chain.made("embed").path, tmp_path, "--store", chain.root)
    assert said.code == 2
    assert "was not written by cellssl export" in said.err
    assert (tmp_path / "cells.h5ad").read_text() == "mine"


def test_a_full_disk_is_one_sentence_and_leaves_no_file(chain: Chain, tmp_path: Path) -> None:
    words = ["export", str(chain.made("embed").path), str(tmp_path), "--store", str(chain.root), "-q"]
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    script += "from cellssl.cli import main; main()"
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # HDF5 by itself ends with a segmentation fault
    assert "is larger than files may be here" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_clusters_have_the_colours_of_the_page_and_differ_also_where_those_repeat() -> None:
    assert [cluster_colour(number) for number in range(8)] == list(COLOURS)
    assert cluster_colour(-1) == NO_GROUP
    assert len({cluster_colour(number) for number in range(-1, 24)}) == 25
    assert (cluster_colour(8), cluster_colour(24)) == ("#73B1D5", cluster_colour(0))
    assert repeats(range(-1, 24)) is None
    assert "from number 24 on" in (repeats([24]) or "")


def test_controls_that_the_method_left_out_still_centre_their_plate(chain: Chain) -> None:
    clusters, embed = chain.made("cluster"), chain.made("embed")
    names = embeddings.read_metadata(embed.file("embeddings.parquet"))["Metadata_cell_id"]
    assigned = read_assignments(clusters).set_index("cell_id").loc[names].reset_index()
    whole = _normalised(clusters, embed, np.ones(len(names), bool), assigned)
    kept = ~(assigned["drawn"] & ~assigned["scored"]).to_numpy()
    without = _normalised(clusters, embed, kept, assigned[kept].reset_index(drop=True))
    assert whole is not None and without is not None and not kept.all()
    assert np.array_equal(without, whole[kept])


@pytest.mark.soak  # 40 s
def test_scanpy_and_squidpy_draw_and_find_neighbours_as_the_page_shows(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("scanpy", "squidpy"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install scanpy squidpy")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(exported(chain.made("cluster"), chain, tmp_path).parent)
    read: dict[str, Any] = {}
    exec(SCANPY + SQUIDPY, read)
    cells = read["cells"]
    edges, fields = cells.obsp["spatial_connectivities"].tocoo(), cells.obs["library_id"].to_numpy()
    assert (fields[edges.row] == fields[edges.col]).all()
    assert np.isfinite(cells.uns["cluster_nhood_enrichment"]["zscore"]).all()
    assert list(cells.uns["cluster_colors"]) == list(COLOURS[:2])
