"""hits_design: the planned or fetched fields of an arm in; what hits cannot find with so many wells, in sentences, out.

It is said before any work, because a design cannot be changed afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact
from cellssl.config.recipe import Recipe
from cellssl.datasets.base import Field
from cellssl.datasets.tables.controls import is_control
from cellssl.pipeline.plate_controls import in_use

if TYPE_CHECKING:
    from cellssl.stages.hits.settings import Settings


@dataclass(frozen=True)
class PlannedWell:
    """One well: where it lies, and its treatment."""

    plate: str
    well: str
    treatment: tuple[str, float | None] | None
    """Compound and dose in micromolar; None for controls, and where the compound is not known."""
    control: bool


def planned_wells(recipe: Recipe, arm: str, plates: Mapping[str, Sequence[Field]]) -> list[PlannedWell]:
    """Return the wells of planned fields, as far as their cells are embedded; wells without cells are left out."""
    controls = recipe.settings("fetch", arm).controls
    return _wells(
        (one.plate, one.well, one.compound, one.dose_micromolar, is_control(one.compound, one.control_type, controls))
        for plate in in_use(recipe, arm, plates)
        for one in plates[plate]
        if one.control_type != "empty"
    )


def fetched_wells(recipe: Recipe, arm: str, fetched: Artifact) -> list[PlannedWell]:
    """Return the same of fetched fields."""
    from cellssl.artifacts.tables import read_fields

    fields = read_fields(fetched)
    kept = fields[fields["plate"].isin(in_use(recipe, arm, list(fields["plate"].unique())))]
    if "control_type" in kept:
        kept = kept[kept["control_type"] != "empty"]
    columns = [kept[name] for name in ("plate", "well", "compound", "dose_micromolar", "control")]
    return _wells(zip(*(column.astype(object).where(column.notna(), None) for column in columns), strict=True))


def _wells(rows: Iterable[tuple[str, str, str | None, float | None, Any]]) -> list[PlannedWell]:
    """Return one well for all its fields."""
    found: dict[tuple[str, str], PlannedWell] = {}
    for plate, well, compound, dose, control in rows:
        treatment = None if control or compound is None else (compound, dose)
        found.setdefault((plate, well), PlannedWell(plate, well, treatment, bool(control)))
    return list(found.values())


def design_sentences(wells: Sequence[PlannedWell], settings: Settings) -> list[str]:
    """Return what this design does not allow hits to find; nothing where every treatment alone can be active.

    Raises UsageError where labels change within rows, columns or edges, and a well has no position.
    """
    import pandas as pd

    from cellssl.profiling.well_positions import well_positions
    from cellssl.stages.hits.design_warnings import design_warnings
    from cellssl.stages.hits.positions import blocks_of

    table = pd.DataFrame([(one.plate, one.well) for one in wells], columns=["plate", "well"])
    return design_warnings(
        [None if one.treatment is None else str(one.treatment) for one in wells],
        pd.Series([one.control for one in wells], dtype=bool).to_numpy(),
        table["plate"],
        blocks_of(table, well_positions(table["well"]), settings),
        settings,
    )
