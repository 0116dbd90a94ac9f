"""external_table: an external table of vectors of cells or wells in; metadata and vectors as embeddings have out."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import numpy as np
from pydantic import BeforeValidator, Field

from cellssl.artifacts.tables import label_text, open_parquet, read_arrow
from cellssl.bounded import open_regular, read_bytes, unpack_gzip
from cellssl.config.paths import InputPath
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import NOT_IN_FINGERPRINT, ORDERED, SettingsModel
from cellssl.datasets.tables.columns import RowColumns
from cellssl.datasets.tables.controls import DEFAULT_CONTROLS, control_type_of
from cellssl.datasets.tables.csv_table import TABLE_BYTES, header_of, layout_of, not_utf8, number_hint
from cellssl.errors import DataError, UsageError
from cellssl.profiling.blocks import Block, Blocks
from cellssl.spreadsheets import readable
from cellssl.stages.shared.cell_tables import PYCYTOMINER_NAMES

if TYPE_CHECKING:
    import pandas as pd

UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
"""How pandas calls an index without a name in a parquet file; such a column numbers the rows and says nothing."""
OWN_PREFIXES, CELLPROFILER_PREFIXES = ("emb_",), ("Cells_", "Cytoplasm_", "Nuclei_")
"""Prefixes of the names of features: in embeddings of this tool, and in tables of CellProfiler and pycytominer."""


def _one_or_several(given: Any) -> Any:
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_several, json_schema_input_type=str | tuple[str, ...])]
"""Patterns of the names of columns, such as Cells_*; one alone needs no list."""


class ExternalTable(SettingsModel):
    """An external table of vectors: a CSV or parquet file with one row per cell or one row per well."""

    path: InputPath = Field(json_schema_extra=NOT_IN_FINGERPRINT)
    """The file, .csv (comma, tab or semicolon), .csv.gz or .parquet. Its content counts in the fingerprint, its
    path does not."""
    columns: RowColumns = RowColumns()
    """Names of the columns with plate, well, batch, compound, dose_micromolar, moa and cell_id. A column that is not
    named here must have the name that `embed` and pycytominer write: Metadata_Plate, Metadata_Well,
    Metadata_compound …"""
    features: tuple[str, ...] | None = None
    """Prefixes of the feature columns; by default `emb_` where there are such columns, else `Cells_`, `Cytoplasm_` and
    `Nuclei_`."""
    blocks: dict[str, Patterns] = Field(default_factory=dict, json_schema_extra=ORDERED)
    """Blocks of feature columns, which are normalised each by itself and get equal shares, as in embed.blocks: the name
    of a block = a pattern of its columns, or several, such as { nucleus = "Nuclei_*", cell = ["Cells_*", "Cyto*"] }.
    Every feature column must be in one block."""
    controls: tuple[str, ...] = DEFAULT_CONTROLS
    """Compounds of the control wells; used where the table has no column Metadata_control."""


def read_external_table(
    external: ExternalTable, section: str, type_of: Callable[[pd.DataFrame], type] = lambda metadata: np.float64
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return the metadata, under the names of the cell table, the vectors (n, dim), and the names of features.

    `section` is the section of the recipe that names the table; messages name settings of it. Rows in messages are
    counted from 1, the first below the header. `type_of` says of the metadata which type the vectors have.
    Raises UsageError for a column that does not exist, DataError for a file that is not a table or has no row, for gaps
    in features or Metadata_control, and for a feature or dose that is not a number.
    """
    names = _column_names(external.path)
    features, meanings = _feature_columns(names, external, section), _column_meanings(names, external)
    doses = [name for name in names if meanings.get(name, name).removeprefix("Metadata_") == "dose_micromolar"]
    numbers = [*features, *doses]
    table = _read(external.path, [name for name in names if name not in set(numbers)], numbers)
    if table.empty:
        raise DataError(f"{external.path} has no row", hint="give a table with one row per cell or one row per well")
    table = table.assign(**{name: _as_numbers(table[name], external.path, section) for name in doses})
    metadata = table.drop(columns=features)
    metadata = metadata.assign(**{name: label_text(metadata[name]) for name in metadata.columns if name not in doses})
    metadata = metadata.rename(columns=meanings)
    metadata.columns = metadata.columns.str.removeprefix("Metadata_")
    if duplicated := metadata.columns[metadata.columns.duplicated()].tolist():
        raise UsageError(
            f"{external.path} has two columns for {duplicated[0]}", hint=f"name one of them in {section}.table.columns"
        )
    if "control" in metadata:
        metadata["control"] = _as_booleans(metadata["control"], external.path, section)
    elif "compound" in metadata:
        metadata["control"] = metadata["compound"].isin(external.controls)
    return metadata, _feature_matrix(table, features, external.path, section, type_of(metadata)), features


def with_control_types(metadata: pd.DataFrame) -> pd.DataFrame:
    """Return the metadata with the column `control_type` in the words of field tables: `negcon` becomes negative.

    A well of a known type is a control where it is a negative one, whatever its compound is called and whatever the
    column `control` says: that may mean positive controls, too. Words that are not known, and empty cells, say nothing.
    """
    if "control_type" not in metadata:
        return metadata
    types = metadata["control_type"].map(control_type_of, na_action="ignore").astype(object)
    is_typed = types.notna().to_numpy(bool)
    control = metadata["control"].to_numpy(bool) if "control" in metadata else np.zeros(len(metadata), bool)
    is_negative = np.array([one == "negative" for one in types.where(is_typed, "")], bool)
    return metadata.assign(control_type=types, control=np.where(is_typed, is_negative, control))


def table_blocks(external: ExternalTable, features: list[str], section: str) -> Blocks:
    """Return the blocks of the features of `read_external_table`."""
    if not external.blocks:
        return ()
    return tuple(Block(name, len(names)) for name, names in _names_of_blocks(features, external, section).items())


def _names_of_blocks(features: list[str], external: ExternalTable, section: str) -> dict[str, list[str]]:
    """Return block -> its columns; raise UsageError for a column in no block or in two, and for a block without one.

    Without blocks, all are one block without a name.
    """
    if not external.blocks:
        return {"": features}
    found: dict[str, list[str]] = {name: [] for name in external.blocks}
    for feature in features:
        inside = [name for name, given in external.blocks.items() if _matches(feature, given)]
        if len(inside) != 1:
            raise UsageError(
                f"the column {feature} of {external.path} is in "
                + (f"the blocks {' and '.join(inside)}" if inside else "no block"),
                hint=f"make the patterns of {section}.table.blocks narrower, such as Nuclei_[!N]*"
                if inside
                else f"add a pattern for it to {section}.table.blocks, or leave it out by the prefixes in "
                f"{section}.table.features",
            )
        found[inside[0]].append(feature)
    for name, names in found.items():
        if not names:
            raise UsageError(
                f"no feature column of {external.path} is in the block {name!r}",
                hint=f"see its pattern {' '.join(external.blocks[name])} in {section}.table.blocks; the first column "
                f"is {features[0]}",
            )
    return found


def _matches(feature: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(feature, pattern) for pattern in patterns)


def column_hint(external: ExternalTable | None, name: str, section: str) -> str:
    """Return what to set where the column of that meaning is not found."""
    return f"name its column: {f'{section}.table' if external else 'fetch.dataset'}.columns.{name}"


def controls_key(external: ExternalTable | None, section: str) -> str:
    """Return the name of the setting that lists the compounds of control wells."""
    return f"{section}.table.controls" if external else "fetch.controls"


def _column_names(path: Path) -> list[str]:
    """Return the columns of the file without reading its rows; columns without a name are left out."""
    with _readable(path):
        if path.suffix == ".parquet":
            with open_parquet(path) as file:
                names = [name for name in file.schema_arrow.names if not UNNAMED_INDEX.fullmatch(name)]
            return list(header_of(names, str(path)))
        return [name for name in layout_of(path).columns if name]


def _read(path: Path, texts: list[str], others: list[str]) -> pd.DataFrame:
    """Return the columns `texts`, in which only an empty cell is a missing value, and the columns `others`."""
    with _readable(path):
        table = _read_parquet(path, [*texts, *others]) if path.suffix == ".parquet" else _read_csv(path, texts)
    return table[[*texts, *others]]


def _read_parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return columns of a parquet file, also those that pandas has written as its index."""
    table: pd.DataFrame = read_arrow(path, columns).to_pandas(ignore_metadata=True)
    return table


def _read_csv(path: Path, texts: list[str]) -> pd.DataFrame:
    """Return the table; a plate "01", a compound "NA" and a barcode "1E5" are text."""
    import pandas as pd

    layout = layout_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        try:
            table = pd.read_csv(
                _text_of(path),
                sep=layout.delimiter,
                encoding=layout.encoding,
                skiprows=layout.skipped_lines,
                header=0,
                names=[name or f"\0{place}" for place, name in enumerate(layout.columns)],
                index_col=False,  # a row with a cell too many must not make the first column the index
                low_memory=False,
                dtype=dict.fromkeys(texts, str),
                keep_default_na=False,
                na_values=[""],
            )
        except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
            raise DataError(
                f"{path} has rows with more cells than its header, which has {len(layout.columns)} "
                f"({str(error).rpartition(': ')[2].strip()})",
                hint="put cells that hold a delimiter into quotes, or name the further columns",
            ) from error
        except UnicodeDecodeError as error:
            raise not_utf8(error.object, error, str(path)) from error
    return table.assign(**{name: table[name].map(readable, na_action="ignore") for name in texts})


def _text_of(path: Path) -> BinaryIO:
    """Return the text of a CSV file, unpacked where its name ends in .gz."""
    if path.suffix == ".gz":
        return io.BytesIO(unpack_gzip(read_bytes(path, TABLE_BYTES)))
    return open_regular(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise DataError where the file cannot be read as a table."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError) as error:  # those of pandas and pyarrow are ValueErrors
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read: {reason}", hint="give a CSV or a parquet file") from error


def _feature_columns(names: list[str], external: ExternalTable, section: str) -> list[str]:
    """Return every column with one of the prefixes, block by block; raise UsageError where there is none."""
    for prefixes in [external.features] if external.features else [OWN_PREFIXES, CELLPROFILER_PREFIXES]:
        found = [name for name in names if name.startswith(prefixes)]
        if found:
            return [name for names_of in _names_of_blocks(found, external, section).values() for name in names_of]
    raise UsageError(
        f"no column of {external.path} begins with "
        f"{' or '.join(external.features or (*OWN_PREFIXES, *CELLPROFILER_PREFIXES))}",
        hint=f'set the prefixes of the feature columns: --set {section}.table.features=["x_"]',
    )


def _column_meanings(names: list[str], external: ExternalTable) -> dict[str, str]:
    """Return column of the file -> column of the cell table; raise UsageError for a column that does not exist."""
    named = {meaning: name for meaning, name in external.columns if name is not None}
    for name in named.values():
        if name not in names:
            raise UsageError(f"{external.path} has no column {name!r}", hint=did_you_mean(name, tuple(names)))
    usual = {f"Metadata_{written}": meaning for meaning, written in PYCYTOMINER_NAMES.items() if meaning not in named}
    return {**usual, **{name: meaning for meaning, name in named.items()}}


def _as_booleans(column: pd.Series[Any], path: Path, section: str) -> pd.Series[bool]:
    """Return the column Metadata_control; raise DataError for a gap or another word than true, false, 0 and 1."""
    hint = f"write true or false, or remove the column and set {section}.table.controls"
    if column.isna().any():  # a gap does not say that the well is no control
        row = int(column.isna().to_numpy().argmax()) + 1
        raise DataError(f"the column Metadata_control of {path} is empty in row {row}", hint=hint)
    text = column.astype(str).str.lower()
    invalid = ~text.isin(["true", "false", "0", "1", "0.0", "1.0"])
    if invalid.any():
        first = column[invalid].iloc[0]
        raise DataError(f"the column Metadata_control of {path} holds {str(first)!r}", hint=hint)
    return text.isin(["true", "1", "1.0"])


def _as_numbers(column: pd.Series[Any], path: Path, section: str) -> pd.Series[Any]:
    """Return the column as numbers or missing values; raise DataError for text that is not a number."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return column
    text = column.astype("string")
    text = text.mask(text == "")
    numbers = pd.to_numeric(text, errors="coerce").astype("Float64")
    invalid = (numbers.isna() & text.notna()).to_numpy(bool)
    if invalid.any():
        row = int(invalid.argmax())
        raise DataError(
            f"the column {column.name} of {path} holds text in row {row + 1}: {text.iloc[row]!r} is not a number",
            hint=f"{number_hint(text.iloc[row])}; see {section}.table.features and {section}.table.columns",
        )
    exact: pd.Series[Any] = text.astype(object).map(float, na_action="ignore").astype(np.float64)
    return exact


def _feature_matrix(table: pd.DataFrame, names: list[str], path: Path, section: str, dtype: type) -> np.ndarray:
    """Return the features (n, dim); raise DataError for gaps, infinite numbers and text.

    They are taken column by column: a table of many cells in a second type would take as much memory again.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numbers: np.ndarray = np.empty((len(table), len(names)), dtype)
    broken = []
    for place, name in enumerate(names):
        column = table[name]
        is_number = is_numeric_dtype(column) and not is_bool_dtype(column)
        values = (column if is_number else _as_numbers(column, path, section)).to_numpy(np.float64, na_value=np.nan)
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > np.finfo(dtype).max:
            broken.append(name)
        numbers[:, place] = np.nan if name in broken[-1:] else values
    if broken:
        raise DataError(
            f"{len(broken):,} of {len(names):,} features of {path} have gaps or infinite numbers; first: {broken[0]}",
            hint="remove these columns from the table, as pycytominer's feature_select does",
        )
    return numbers
