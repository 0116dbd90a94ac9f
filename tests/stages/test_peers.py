"""embed: pycytominer and copairs read its table without changes."""

import numpy as np
import pandas as pd
import pycytominer
import pytest
from chain import Chain
from copairs.map import average_precision, mean_average_precision
from pycytominer.cyto_utils import infer_cp_features

from cellssl.stages.shared.cell_tables import read_all_embeddings


@pytest.fixture
def wells(chain: Chain) -> pd.DataFrame:
    """Return pycytominer's median profile of every well, read from the file."""
    path = str(chain.made("embed").file("embeddings.parquet"))
    table = pycytominer.cyto_utils.load_profiles(path)
    strata = ["Metadata_Plate", "Metadata_Well", "Metadata_compound", "Metadata_dose_micromolar", "Metadata_control"]
    numbers = [name for name in table.columns if name.startswith("emb_")]
    profiles: pd.DataFrame = pycytominer.aggregate(table, strata=strata, features=numbers, operation="median")
    return profiles


def test_pycytominer_finds_the_metadata_columns(chain: Chain) -> None:
    table = pd.read_parquet(chain.made("embed").file("embeddings.parquet"))
    found = infer_cp_features(table, metadata=True)
    assert {"Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_cell_id"} <= set(found)
    assert not [name for name in found if name.startswith("emb_")]


def test_pycytominer_aggregates_and_normalises_by_the_controls(chain: Chain, wells: pd.DataFrame) -> None:
    cells, vectors = read_all_embeddings(chain.made("embed"))
    numbers = [name for name in wells.columns if name.startswith("emb_")]
    for _, well in wells.iterrows():
        mine = vectors[(cells["well"] == well["Metadata_Well"]).to_numpy()]
        assert well[numbers].to_numpy(float) == pytest.approx(np.median(mine, axis=0), abs=1e-6)
    meta = [name for name in wells.columns if name.startswith("Metadata_")]
    normal = pycytominer.normalize(
        wells, features=numbers, meta_features=meta, samples="Metadata_control == True", method="standardize"
    )
    controls = normal.loc[normal["Metadata_control"], numbers]
    assert controls.mean().to_numpy() == pytest.approx(0, abs=1e-6)


def test_copairs_ranks_the_wells(wells: pd.DataFrame) -> None:
    meta = wells.filter(regex="^Metadata_").assign(treated=~wells["Metadata_control"].astype(bool))
    numbers = wells.filter(regex="^emb_").to_numpy()
    scores = average_precision(meta, numbers, ["Metadata_compound"], [], [], ["Metadata_compound"], progress_bar=False)
    precision = mean_average_precision(
        scores, ["Metadata_compound"], null_size=200, threshold=0.05, seed=0, progress_bar=False
    )
    assert set(precision["Metadata_compound"]) == set(wells["Metadata_compound"])
    assert precision["mean_average_precision"].between(0, 1).all()
