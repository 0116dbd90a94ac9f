"""embeddings: vectors written block by block are read back row by row; row groups do not depend on the blocks."""

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from anndata_process import printed

from cellssl.artifacts import embeddings
from cellssl.randomness import generator

ROWS, DIM = 50, 7


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set twelve rows per group, so that fifty rows make five groups."""
    monkeypatch.setattr(embeddings, "GROUP_BYTES", 12 * DIM * 4)


def metadata() -> pd.DataFrame:
    names = pd.Series([f"cell, {row}" for row in range(ROWS)], dtype="string")
    dose = pd.Series([None if row % 3 else row / 7 for row in range(ROWS)], dtype="float64")
    moa = pd.Series([None] * ROWS, dtype="string")
    return pd.DataFrame({"Metadata_cell_id": names, "Metadata_dose": dose, "Metadata_moa": moa, "control": names == ""})


def vectors() -> np.ndarray:
    return generator("embeddings file").standard_normal((ROWS, DIM), dtype=np.float32)


def written(path: Path, block: int) -> Path:
    with embeddings.writer(path, metadata()) as file:
        for start in range(0, ROWS, block):
            file.append(vectors()[start : start + block])
    return path


@pytest.mark.parametrize("block", [1, 12, 17, 50])
def test_rows_are_read_in_order_and_the_file_does_not_depend_on_the_blocks(tmp_path: Path, block: int) -> None:
    path = written(tmp_path / "e.parquet", block)
    table, numbers = embeddings.read(path)
    pd.testing.assert_frame_equal(table, metadata())
    assert np.array_equal(numbers, vectors())
    assert pq.ParquetFile(path).num_row_groups == 5
    assert path.read_bytes() == written(tmp_path / "again.parquet", 50).read_bytes()


def test_pandas_reads_the_same_table(tmp_path: Path) -> None:
    table = pd.read_parquet(written(tmp_path / "e.parquet", 9))
    assert list(table.columns) == [*metadata().columns, *(f"emb_{number:04d}" for number in range(DIM))]
    assert np.array_equal(table["emb_0003"].to_numpy(), vectors()[:, 3])


def test_named_measurements_are_read_back_and_positions_stay_metadata(tmp_path: Path) -> None:
    names = [f"Nuclei_Texture_{number}_dna" for number in range(DIM)]
    placed = metadata().assign(Nuclei_Location_Center_X=1.5)
    with embeddings.writer(tmp_path / "e.parquet", placed, names) as file:
        file.append(vectors())
    table, numbers = embeddings.read(tmp_path / "e.parquet")
    assert list(table.columns) == list(placed.columns)
    assert np.array_equal(numbers, vectors())
    assert embeddings.read_names(tmp_path / "e.parquet") == names


def test_a_table_with_a_cell_without_a_vector_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="20 vectors were written for 50 rows"),
        embeddings.writer(tmp_path / "e.parquet", metadata()) as file,
    ):
        file.append(vectors()[:20])
    assert list(tmp_path.iterdir()) == []


def test_the_csv_holds_the_same_floats_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    table = written(tmp_path / "e.parquet", 9)
    embeddings.write_csv(table, tmp_path / "one.csv.gz")
    embeddings.write_csv(table, tmp_path / "two.csv.gz")
    packed = (tmp_path / "one.csv.gz").read_bytes()
    assert packed == (tmp_path / "two.csv.gz").read_bytes()
    back = pd.read_csv(io.BytesIO(gzip.decompress(packed)))
    assert back["Metadata_cell_id"].tolist() == metadata()["Metadata_cell_id"].tolist()
    assert back["Metadata_dose"].isna().tolist() == metadata()["Metadata_dose"].isna().tolist()
    assert np.array_equal(back.filter(like="emb_").to_numpy(np.float32), vectors())


OPEN = """
import sys
import anndata, numpy as np
cells = anndata.read_h5ad(sys.argv[1])
np.save(sys.argv[2], cells.X)
cells.obs.to_json(sys.argv[3], orient="split", double_precision=15)
"""


def test_anndata_reads_the_h5ad_file(tmp_path: Path) -> None:
    table = written(tmp_path / "e.parquet", 9)
    embeddings.write_anndata(table, tmp_path / "one.h5ad")
    embeddings.write_anndata(table, tmp_path / "two.h5ad")
    assert (tmp_path / "one.h5ad").read_bytes() == (tmp_path / "two.h5ad").read_bytes()
    printed(OPEN, tmp_path / "one.h5ad", tmp_path / "x.npy", tmp_path / "obs.json")
    assert np.array_equal(np.load(tmp_path / "x.npy"), vectors())
    obs = pd.read_json(tmp_path / "obs.json", orient="split")
    assert obs.index.tolist() == obs["Metadata_cell_id"].tolist() == metadata()["Metadata_cell_id"].tolist()
    assert np.allclose(obs["Metadata_dose"], metadata()["Metadata_dose"], equal_nan=True)
    assert obs["Metadata_moa"].isna().all()
    assert obs["control"].tolist() == [False] * ROWS
