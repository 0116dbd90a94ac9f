"""Hits of real profiles, CellProfiler's of BBBC021, have the numbers that pycytominer and copairs give."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import say
from conftest import REPOSITORY
from copairs.map import average_precision
from pycytominer import normalize

from cellssl.artifacts.tables import read_table

sys.path.insert(0, str(REPOSITORY / "scripts"))
from page_numbers import real_cells

CHEAP = ("hits.null_size=100", "hits.bootstrap_draws=100", "hits.controls=plate")
IS_CONTROL = "Metadata_control == True"
CHAINS = {
    "robust_z": {"method": "mad_robustize"},
    "zscore": {"method": "standardize"},
    "sphering": {"method": "spherize", "spherize_method": "ZCA"},
}
"""Link -> the same in pycytominer; robust_z is fitted plate by plate there too."""


@pytest.fixture(scope="module")
def profiles(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Return wells with Metadata_ columns and the features that vary among the controls of every plate.

    pycytominer divides by 1e-18 where they do not, so those are left out.
    """
    for name in ("profiles", "meta"):
        if not (shared_data / name).is_dir():
            pytest.skip(f"no {shared_data / name}")
    path = tmp_path_factory.mktemp("real") / "profiles.csv"
    columns = real_cells.write_profiles(path)
    table = pd.read_csv(path).rename(columns={column: f"Metadata_{name}" for name, column in columns.items()})
    table = table.rename(columns={"Metadata_plate": "Metadata_Plate", "Metadata_well": "Metadata_Well"})
    table["Metadata_control"] = table["Metadata_compound"] == "DMSO"
    features = [name for name in table if name.startswith(("Cells_", "Cytoplasm_", "Nuclei_"))]
    controls = table[table["Metadata_control"]].groupby("Metadata_Plate")[features]
    spread = (table[features] - controls.median().loc[table["Metadata_Plate"]].to_numpy()).abs()
    mad = spread[table["Metadata_control"]].groupby(table["Metadata_Plate"]).median()
    kept = [name for name in features if (mad[name] > 1e-9).all()]
    table = table[[*table.filter(like="Metadata_").columns, *kept]]
    return table.sort_values(["Metadata_Plate", "Metadata_Well"], ignore_index=True)


def by_pycytominer(table: pd.DataFrame, link: str) -> pd.DataFrame:
    """Return the profiles that pycytominer normalises, centred on the control wells of their plate."""
    features = [name for name in table if not name.startswith("Metadata_")]
    meta = [name for name in table if name.startswith("Metadata_")]
    parts = [part for _, part in table.groupby("Metadata_Plate")] if link == "robust_z" else [table]
    normal = pd.concat(
        [normalize(part, features, meta_features=meta, samples=IS_CONTROL, **CHAINS[link]) for part in parts]
    )
    normal = normal.loc[table.index]
    centre = normal[normal["Metadata_control"]].groupby("Metadata_Plate")[features].mean()
    return normal.assign(**(normal[features] - centre.loc[normal["Metadata_Plate"]].to_numpy()))


def precision_by_copairs(folder: Path) -> pd.Series:
    """Return mean average precision of every treatment, against the controls of each well's plate."""
    profiles = read_table(folder / "pycytominer.parquet")
    meta = profiles.filter(like="Metadata_")
    meta = meta.assign(own=np.where(meta["Metadata_control"], np.arange(len(meta)), -1))  # controls are no replicates
    keys = ["Metadata_compound", "Metadata_dose_micromolar"]
    found = average_precision(
        meta.drop(columns="Metadata_moa"),
        profiles.drop(columns=profiles.filter(like="Metadata_").columns).to_numpy(),
        pos_sameby=[*keys, "own"],
        pos_diffby=[],
        neg_sameby=["Metadata_Plate"],
        neg_diffby=["Metadata_control"],
        progress_bar=False,
    )
    return found[~found["Metadata_control"]].groupby(keys)["average_precision"].mean()


@pytest.mark.parametrize("link", ["robust_z", "sphering", pytest.param("zscore", marks=pytest.mark.soak)])
def test_profiles_and_precision_equal_those_of_pycytominer_and_copairs(
    profiles: pd.DataFrame, link: str, tmp_path: Path
) -> None:
    profiles.to_parquet(tmp_path / "table.parquet")
    knobs = (f"hits.table.path={tmp_path / 'table.parquet'}", f"hits.normalise={link}", *CHEAP)
    made = Path(say("hits", "profiles", "--store", tmp_path, *(w for knob in knobs for w in ("--set", knob))).line)
    theirs, ours = by_pycytominer(profiles, link), read_table(made / "profiles.parquet")
    features = [name for name in theirs if not name.startswith("Metadata_")]
    scale = np.abs(theirs[features].to_numpy()).max()
    np.testing.assert_allclose(ours[features] / scale, theirs[features] / scale, atol=1e-6)
    theirs.to_parquet(tmp_path / "pycytominer.parquet")
    found = read_table(made / "hits.parquet").set_index(["compound", "dose_micromolar"])["mean_average_precision"]
    expected = precision_by_copairs(tmp_path)
    np.testing.assert_allclose(found.loc[expected.index], expected, atol=1e-6)
