"""map_columns: what is known about the cells of a map in; columns that colour it, as codes with a colour each, out."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.profiling.clusterer import NOISE
from cellssl.reporting import theme
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.hit_tables import names_of, treatments_of

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "control": "control or treated",
    "label": "label",
    "treatment": "treatment",
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
SHADES = 16
"""Colours of a scale of amounts, at equal steps; a browser draws those between them."""


@dataclass(frozen=True)
class Scale:
    """The colours of amounts, from the lowest value to the highest one."""

    ends: tuple[float, float]
    middle: float
    """The value whose colour is halfway."""
    is_logarithmic: bool


@dataclass(frozen=True)
class Column:
    """One value per cell, as codes of its distinct values, each with a colour and a marker."""

    key: str
    name: str
    values: Sequence[str | float]
    colours: Sequence[str]
    markers: str
    """One of `theme.OTHER_MARKERS` per value."""
    codes: np.ndarray
    """(cells,): the place of the cell's value, or `MISSING`."""
    is_amount: bool = False
    """Whether the values are numbers, coloured by their size."""
    scale: Scale | None = None
    """The scale of amounts that differ."""
    others: frozenset[int] = frozenset()
    """The places of values for which no look was left: they have that of “others”, `OTHERS`."""

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
            "others": sorted(self.others),
            "scale": self.scale and _scale_data(self.scale),
        }


def _scale_data(scale: Scale) -> dict[str, Any]:
    import matplotlib
    from matplotlib.colors import to_hex

    shades = matplotlib.colormaps[theme.COLOUR_MAP](np.linspace(0, 1, SHADES))
    return {
        "values": [scale.ends[0], scale.middle, scale.ends[1]],
        "logarithmic": scale.is_logarithmic,
        "shades": [to_hex(shade) for shade in shades],
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
    looks = [
        Look(theme.CONTROL, "o") if number == NOISE else Look(style.colour, style.marker)
        for number, style in zip(known, styles, strict=True)
    ]
    colours, markers, others = _distinct(looks)
    names = ["noise" if number == NOISE else str(number) for number in known]
    return Column("cluster", "cluster", names, colours, markers, _codes(numbers.tolist(), known), others=others)


def effect_column(hits: Artifact, cells: pd.DataFrame) -> Column | None:
    """Return the effect of the treatment of every treated cell; None where no effect is known."""
    table = treatments_of(hits)
    effects = dict(zip(_treatments(table), table["effect"].astype(float), strict=True))
    pairs = zip(_treatments(cells), cells["control"], strict=True)
    of_cells = [None if control else effects.get(name) for name, control in pairs]
    column = _amounts("effect", "effect of the treatment", of_cells, is_logarithmic=False)
    return column if column.values else None


def _treatments(cells: pd.DataFrame) -> pd.Series[Any]:
    """Return the treatment of every row of a table, as the rest of the page calls it; a dose of 0 is left out."""
    import pandas as pd

    doses = cells["dose_micromolar"].astype(float)
    names = names_of(cells[["compound"]].assign(dose_micromolar=doses.where(doses != 0)))
    return pd.Series(names, index=cells.index, dtype=object).where(cells["compound"].notna(), None)


def _column(key: str, values: pd.Series[Any], is_control: np.ndarray) -> Column:
    if key == "dose_micromolar":
        return _amounts(key, NAMES[key], values.tolist(), is_logarithmic=True)
    import pandas as pd

    texts = [None if pd.isna(value) or value == "" else str(value) for value in values]
    known = sorted({text for text in texts if text is not None}, key=natural_key)
    codes = _codes(texts, known)
    is_place = key in ("plate", "well")
    controls = set() if is_place else set(codes[is_control]) - set(codes[~is_control])
    own = [theme.CONTROL if place in controls else theme.label_colour(text) for place, text in enumerate(known)]
    by_cells = np.argsort(-np.bincount(codes[codes != MISSING], minlength=len(known)), kind="stable")
    colours, markers, others = _distinct(_looks(own, by_cells.tolist()))
    return Column(key, NAMES[key], known, colours, markers, codes, others=others)


@dataclass(frozen=True)
class Look:
    """The colour and the marker of a value."""

    colour: str
    marker: str


OTHERS = Look("#B4BCC8", "o")
"""The look of all values for which none of their own is left."""


def _looks(own: Sequence[str | None], by_cells: Sequence[int]) -> list[Look]:
    """Return a look per value, with the colour of its `own` where it has one, such as that of controls.

    Looks are given in the order of the values. Where there are more values than looks, those with most cells get one.
    """
    rest = [place for place in by_cells if own[place] is None]
    styled = {place: theme.other_style(number) for number, place in enumerate(sorted(rest[: theme.OTHER_STYLES]))}
    looks = []
    for place, colour in enumerate(own):
        if colour is not None:
            number = sum(other == colour for other in own[:place])
            looks.append(Look(colour, theme.OTHER_MARKERS[number]) if number < len(theme.OTHER_MARKERS) else OTHERS)
        else:
            looks.append(Look(styled[place].colour, styled[place].marker) if place in styled else OTHERS)
    return looks


def _distinct(looks: Sequence[Look]) -> tuple[list[str], str, frozenset[int]]:
    """Return colours, markers and the places of others; of values with one look, the first keeps it."""
    seen: set[Look] = set()
    others = set()
    for place, look in enumerate(looks):
        if look == OTHERS or look in seen:
            others.add(place)
        seen.add(look)
    kept = [OTHERS if place in others else look for place, look in enumerate(looks)]
    return [look.colour for look in kept], "".join(look.marker for look in kept), frozenset(others)


def _amounts(key: str, name: str, values: Iterable[Any], *, is_logarithmic: bool) -> Column:
    """Return numbers coloured by their place on a scale; those without a place have the colour of controls."""
    import matplotlib
    import pandas as pd
    from matplotlib.colors import to_hex

    numbers = [None if pd.isna(value) or not np.isfinite(value) else float(value) for value in values]
    known = sorted({number for number in numbers if number is not None})
    places = [np.log(number) if number > 0 else None for number in known] if is_logarithmic else known
    on_scale = [place for place in places if place is not None]
    low, high = (min(on_scale), max(on_scale)) if on_scale else (0.0, 0.0)
    scale = matplotlib.colormaps[theme.COLOUR_MAP]
    colours = [
        theme.CONTROL if place is None else to_hex(scale((place - low) / (high - low or 1.0))) for place in places
    ]
    middle = (low + high) / 2
    ends = [number for number, place in zip(known, places, strict=True) if place is not None]
    centre = float(np.exp(middle)) if is_logarithmic else middle
    shown = Scale((ends[0], ends[-1]), centre, is_logarithmic) if low < high else None
    return Column(
        key,
        name,
        known,
        colours,
        theme.MARKERS[0] * len(known),
        _codes(numbers, known),
        is_amount=True,
        scale=shown,
    )


def _codes(values: Sequence[Any], known: Sequence[Any]) -> np.ndarray:
    """Return the place of every value among those that are known, or `MISSING`."""
    place = {value: number for number, value in enumerate(known)}
    return np.array([place.get(value, MISSING) for value in values], dtype=np.uint16)


def _are_alike(one: Column, other: Column) -> bool:
    return [str(value).lower() for value in one.values] == list(other.values) and bool((one.codes == other.codes).all())
