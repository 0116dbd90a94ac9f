"""external_table: a table of somebody else's vectors, of cells or wells, in, the same as embeddings have it, out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import NOT_IN_FINGERPRINT, SettingsModel
from cellssl.datasets.tables.columns import RowColumns
from cellssl.errors import DataError, UsageError
from cellssl.stages.fetch.settings import PlateSettings
from cellssl.stages.shared.cell_tables import PYCYTOMINER_NAMES

if TYPE_CHECKING:
    import pandas as pd

OURS, CELLPROFILERS = ("emb_",), ("Cells_", "Cytoplasm_", "Nuclei_")
"""How the names of features begin: in embeddings of this tool, and in CellProfiler's and pycytominer's tables."""


class GivenTable(SettingsModel):
    """Vectors from elsewhere: a CSV or parquet file with a row a cell or a row a well."""

    path: InputPath = Field(json_schema_extra=NOT_IN_FINGERPRINT)
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

    Rows in messages are counted from 1, the first below the header.
    Raises UsageError for a column that is not there, DataError for a file that is no table or holds no row, for gaps in
    features or Metadata_control, and for a feature or dose that is no number.
    """
    there = _names(given.path)
    features, meanings = _features(there, given), _meanings(there, given)
    doses = [name for name in there if meanings.get(name, name).removeprefix("Metadata_") == "dose_micromolar"]
    table = _read(given.path, [name for name in there if name not in {*features, *doses}])
    if table.empty:
        raise DataError(f"{given.path} holds no row", hint="give a table with a row a cell or a row a well")
    table = table.assign(**{name: _as_numbers(table[name], given.path) for name in doses})
    metadata = table.drop(columns=features).rename(columns=meanings)
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


def cure_column(given: GivenTable | None, name: str) -> str:
    """What to set where the column of that meaning is not found."""
    return f"name its column: {'evaluate.table' if given else 'fetch.dataset'}.columns.{name}"


def controls_key(given: GivenTable | None) -> str:
    """The setting that names the controls."""
    return "evaluate.table.controls" if given else "fetch.controls"


def _names(path: Path) -> list[str]:
    import pandas as pd
    import pyarrow.parquet

    with _readable(path):
        if path.suffix == ".parquet":
            return list(pyarrow.parquet.read_schema(path).names)
        return list(pd.read_csv(path, nrows=0).columns)


def _read(path: Path, texts: list[str]) -> pd.DataFrame:
    """The table; `texts` are columns of text, in which nothing but an empty cell is missing."""
    import pandas as pd

    with _readable(path):
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table.assign(**{name: table[name].mask(table[name].astype("string") == "") for name in texts})
        # a plate "01", a compound "NA" and a barcode "1E5" are no numbers
        return pd.read_csv(
            path,
            low_memory=False,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values=[""],
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # pandas' and pyarrow's own are ValueErrors
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read: {reason}", hint="give a CSV or a parquet file") from error


def _features(there: list[str], given: GivenTable) -> list[str]:
    """Every column whose name begins as asked."""
    for begins in [given.features] if given.features else [OURS, CELLPROFILERS]:
        found = [name for name in there if name.startswith(begins)]
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
    usual = {f"Metadata_{written}": meaning for meaning, written in PYCYTOMINER_NAMES.items() if meaning not in named}
    return {**usual, **{name: meaning for meaning, name in named.items()}}


def _yes_or_no(column: pd.Series[Any], path: Path) -> pd.Series[bool]:
    cure = "write true and false, or take the column out and name evaluate.table.controls"
    if column.isna().any():  # nobody said that this well is no control
        row = int(column.isna().to_numpy().argmax()) + 1
        raise DataError(f"the column Metadata_control of {path} is empty in row {row}", hint=cure)
    said = column.astype(str).str.lower()
    strange = ~said.isin(["true", "false", "0", "1", "0.0", "1.0"])
    if strange.any():
        first = column[strange].iloc[0]
        raise DataError(f"the column Metadata_control of {path} holds {str(first)!r}", hint=cure)
    return said.isin(["true", "1", "1.0"])


def _as_numbers(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """The column, whose cells are numbers or missing."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return column
    words = column.astype("string")
    words = words.mask(words == "")
    numbers = pd.to_numeric(words, errors="coerce").astype("Float64")
    strange = (numbers.isna() & words.notna()).to_numpy(bool)
    if strange.any():
        row = int(strange.argmax())
        raise DataError(
            f"the column {column.name} of {path} holds text in row {row + 1}: {words.iloc[row]!r} is no number",
            hint="write a number or leave the cell empty; see evaluate.table.features and evaluate.table.columns",
        )
    exact: pd.Series[Any] = words.astype(object).map(float, na_action="ignore").astype(np.float64)
    return exact


def _numbers(features: pd.DataFrame, path: Path) -> np.ndarray:
    words = features.columns.difference(features.select_dtypes("number").columns, sort=False)
    features = features.assign(**{name: _as_numbers(features[name], path) for name in words})
    numbers = features.to_numpy(np.float64)
    broken = ~np.isfinite(numbers).all(axis=0)
    if broken.any():
        raise DataError(
            f"{broken.sum()} of {len(broken)} features of {path} have gaps or infinite numbers; "
            f"first: {features.columns[broken.argmax()]}",
            hint="leave these columns out of the table, as pycytominer's feature_select does",
        )
    return np.ascontiguousarray(numbers)
