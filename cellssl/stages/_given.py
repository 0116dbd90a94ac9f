"""_given: a table of somebody else's vectors, of cells or wells, in, the same as embeddings have it, out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cellssl.datasets._columns import RowColumns
from cellssl.errors import DataError, UsageError
from cellssl.recipe import InputPath
from cellssl.rooms import did_you_mean
from cellssl.settings import NOT_COUNTED, Strict
from cellssl.stages.embed import PLACE
from cellssl.stages.fetch import PlateSettings

if TYPE_CHECKING:
    import pandas as pd

OURS, CELLPROFILERS = ("emb_",), ("Cells_", "Cytoplasm_", "Nuclei_")
"""How the names of features begin: in embeddings of this tool, and in CellProfiler's and pycytominer's tables."""


class GivenTable(Strict):
    """Vectors from elsewhere: a CSV or parquet file with a row a cell or a row a well."""

    path: InputPath = Field(json_schema_extra=NOT_COUNTED)
    """The file, .csv, .csv.gz or .parquet; its content counts, its place does not."""
    columns: RowColumns = RowColumns()
    """Which column holds plate, well, batch, compound, dose_micromolar, moa and cell_id. A column that is not named
    here goes by the name that `embed` and pycytominer write: Metadata_Plate, Metadata_Well, Metadata_compound …"""
    features: tuple[str, ...] | None = None
    """How the names of features begin; `emb_` where there are such, else `Cells_`, `Cytoplasm_` and `Nuclei_`."""
    controls: tuple[str, ...] = PlateSettings.model_fields["controls"].default
    """Compounds of the control wells, where the table has no column Metadata_control."""


def read_given(given: GivenTable) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """The metadata, under the names of the cell table, the vectors (n, dim) float64, and the names of the features.

    Raises UsageError for a column that is not there, DataError for a file that is no table, and for gaps in features.
    """
    table = _read(given.path)
    features = _features(table, given)
    metadata = table.drop(columns=features).rename(columns=_meanings(list(table.columns), given))
    metadata.columns = metadata.columns.str.removeprefix("Metadata_")
    if twice := metadata.columns[metadata.columns.duplicated()].tolist():
        raise UsageError(f"{given.path} has two columns for {twice[0]}", hint="see evaluate.table.columns")
    if "control" in metadata:
        metadata["control"] = _yes_or_no(metadata["control"], given.path)
    elif "compound" in metadata:
        metadata["control"] = metadata["compound"].isin(given.controls)
    for name in ("plate", "well", "batch", "compound", "moa"):
        if name in metadata:
            metadata[name] = metadata[name].astype("string")
    return metadata, _numbers(table[features], given.path), features


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, low_memory=False)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's own are ValueErrors
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read: {reason}", hint="give a CSV or a parquet file") from error


def _features(table: pd.DataFrame, given: GivenTable) -> list[str]:
    """Every column whose name begins as asked."""
    for begins in [given.features] if given.features else [OURS, CELLPROFILERS]:
        found = [name for name in table.columns if name.startswith(begins)]
        if found:
            return found
    raise UsageError(
        f"no column of {given.path} begins with {' or '.join(given.features or (*OURS, *CELLPROFILERS))}",
        hint='say how features begin: --set evaluate.table.features=["x_"]',
    )


def _meanings(there: list[str], given: GivenTable) -> dict[str, str]:
    """Column of the file -> column of the cell table."""
    named = {meaning: name for meaning, name in given.columns if name is not None}
    for name in named.values():
        if name not in there:
            raise UsageError(f"{given.path} has no column {name!r}", hint=did_you_mean(name, tuple(there)))
    usual = {f"Metadata_{written}": meaning for meaning, written in PLACE.items() if meaning not in named}
    return {**usual, **{name: meaning for meaning, name in named.items()}}


def _yes_or_no(column: pd.Series[Any], path: Path) -> pd.Series[bool]:
    values = {str(value) for value in column.dropna().unique()}
    if not values <= {"True", "False", "0", "1", "0.0", "1.0"}:
        raise DataError(
            f"the column Metadata_control of {path} holds {sorted(values)[0]!r}",
            hint="write true and false, or take the column out and name evaluate.table.controls",
        )
    return column.astype(str).isin(["True", "1", "1.0"])


def _numbers(features: pd.DataFrame, path: Path) -> np.ndarray:
    words = features.columns.difference(features.select_dtypes("number").columns, sort=False)
    if len(words):
        raise DataError(f"the column {words[0]} of {path} holds text", hint="see evaluate.table.features")
    numbers = features.to_numpy(np.float64)
    broken = ~np.isfinite(numbers).all(axis=0)
    if broken.any():
        raise DataError(
            f"{broken.sum()} of {len(broken)} features of {path} have gaps or infinite numbers; "
            f"first: {features.columns[broken.argmax()]}",
            hint="leave these columns out of the table, as pycytominer's feature_select does",
        )
    return np.ascontiguousarray(numbers)
