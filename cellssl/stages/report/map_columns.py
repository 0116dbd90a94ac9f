"""map_columns: what is known about the cells of a map in; columns that colour it, as codes with a colour each, out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.profiling.clusterer import NOISE
from cellssl.reporting import theme
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.hits.design import treatment_name
from cellssl.stages.report.hit_tables import treatments_of

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "control": "control or treated",
    "label": "label",
    "treatment": "treatment (dose in µM)",
    "compound": "compound",
    "dose_micromolar": "dose (µM)",
    "moa": "mechanism",
    "true_phenotype": "true phenotype",
    "plate": "plate",
    "well": "well",
}
"""Columns of the cells that the page shows, and what it calls them, in its order."""
OF_TREATMENTS = ("control", "treatment", "compound", "dose_micromolar", "moa")
"""Columns that mean nothing where no cell was treated."""
MISSING = 0xFFFF
"""The code of a cell without a value."""


@dataclass(frozen=True)
class Column:
    """One value per cell, as codes of its distinct values, each with a colour and a marker."""

    key: str
    name: str
    values: Sequence[str | float]
    colours: Sequence[str]
    markers: str
    """One of `theme.MARKERS` per value."""
    codes: np.ndarray
    """(cells,): the place of the cell's value, or `MISSING`."""
    is_amount: bool = False
    """Whether the values are numbers, coloured by their size."""

    def as_data(self) -> dict[str, Any]:
        """Return it as a script reads it."""
        return {
            "key": self.key,
            "name": self.name,
            "values": self.values,
            "colours": self.colours,
            "markers": self.markers,
            "codes": packed(self.codes),
            "amount": self.is_amount,
        }


def packed(numbers: np.ndarray) -> str:
    """Return whole numbers from 0 to 65,535 as base64 of two bytes each, the lower byte first."""
    return base64.b64encode(numbers.astype("<u2").tobytes()).decode("ascii")


def columns_of(cells: pd.DataFrame) -> list[Column]:
    """Return the columns of a table of cells, in the order of `NAMES`; those without a value are left out."""
    is_control = cells["control"].to_numpy(bool)
    has_treatments = is_control.any() or cells["compound"].notna().any()
    unknown = () if has_treatments else OF_TREATMENTS
    named = cells.assign(
        control=np.where(is_control, "control", "treated"),
        treatment=_treatments(cells),
    )
    made = [_column(key, named[key], is_control) for key in NAMES if key in named and key not in unknown]
    known = {column.key: column for column in made if len(column.values)}
    if "label" in known and "control" in known and _are_alike(known["label"], known["control"]):
        del known["control"]
    return list(known.values())


def cluster_column(numbers: pd.Series[Any]) -> Column:
    """Return the clusters of an arm; cells that its map lacks have none."""
    known = sorted(set(numbers.dropna().astype(int)), key=lambda number: (number == NOISE, number))
    styles = [theme.cluster_style(number) for number in known]
    return Column(
        "cluster",
        "cluster",
        ["noise" if number == NOISE else str(number) for number in known],
        [theme.CONTROL if number == NOISE else style.colour for number, style in zip(known, styles, strict=True)],
        "".join(style.marker for style in styles),
        _codes(numbers.tolist(), known),
    )


def effect_column(hits: Artifact, cells: pd.DataFrame) -> Column | None:
    """Return the effect of the treatment of every treated cell; None where no effect is known."""
    table = treatments_of(hits)
    effects = dict(zip(_treatments(table), table["effect"].astype(float), strict=True))
    pairs = zip(_treatments(cells), cells["control"], strict=True)
    of_cells = [None if control else effects.get(name) for name, control in pairs]
    column = _amounts("effect", "effect of the treatment", of_cells, lambda effect: effect)
    return column if column.values else None


def _treatments(cells: pd.DataFrame) -> pd.Series[Any]:
    """Return the treatment of every row of a table."""
    import pandas as pd

    names = [_treatment(*pair) for pair in zip(cells["compound"], cells["dose_micromolar"], strict=True)]
    return pd.Series(names, index=cells.index, dtype=object)


def _treatment(compound: Any, dose: Any) -> str | None:
    import pandas as pd

    if pd.isna(compound):
        return None
    return treatment_name(str(compound), np.nan if pd.isna(dose) or dose == 0 else float(dose))


def _column(key: str, values: pd.Series[Any], is_control: np.ndarray) -> Column:
    if key == "dose_micromolar":
        return _amounts(key, NAMES[key], values.tolist(), lambda dose: np.log(dose) if dose > 0 else None)
    import pandas as pd

    texts = [None if pd.isna(value) or value == "" else str(value) for value in values]
    known = sorted({text for text in texts if text is not None}, key=natural_key)
    codes = _codes(texts, known)
    is_place = key in ("plate", "well")
    controls = set() if is_place else set(codes[is_control]) - set(codes[~is_control])
    styles = [theme.other_style(place) for place in range(len(known))]
    return Column(
        key,
        NAMES[key],
        known,
        [
            theme.CONTROL if place in controls else theme.label_colour(text) or style.colour
            for place, (text, style) in enumerate(zip(known, styles, strict=True))
        ],
        "".join(style.marker for style in styles),
        codes,
    )


def _amounts(key: str, name: str, values: Iterable[Any], placed: Callable[[float], float | None]) -> Column:
    """Return numbers coloured by their place on a scale; those without a place have the colour of controls."""
    import matplotlib
    import pandas as pd
    from matplotlib.colors import to_hex

    numbers = [None if pd.isna(value) or not np.isfinite(value) else float(value) for value in values]
    known = sorted({number for number in numbers if number is not None})
    places = [placed(number) for number in known]
    on_scale = [place for place in places if place is not None]
    low, high = (min(on_scale), max(on_scale)) if on_scale else (0.0, 0.0)
    scale = matplotlib.colormaps[theme.COLOUR_MAP]
    colours = [
        theme.CONTROL if place is None else to_hex(scale((place - low) / (high - low or 1.0))) for place in places
    ]
    return Column(key, name, known, colours, theme.MARKERS[0] * len(known), _codes(numbers, known), is_amount=True)


def _codes(values: Sequence[Any], known: Sequence[Any]) -> np.ndarray:
    """Return the place of every value among those that are known, or `MISSING`."""
    place = {value: number for number, value in enumerate(known)}
    return np.array([place.get(value, MISSING) for value in values], dtype=np.uint16)


def _are_alike(one: Column, other: Column) -> bool:
    return [str(value).lower() for value in one.values] == list(other.values) and bool((one.codes == other.codes).all())
