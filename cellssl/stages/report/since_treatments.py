"""since_treatments: the hits of then and of now in; effect and call of each treatment, then and now, out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cellssl.counting import counted
from cellssl.reporting.html import Block, Paragraph, Table, Value
from cellssl.stages.report.hit_tables import names_of, treatments_of
from cellssl.stages.report.runs import Run
from cellssl.stages.report.since_arms import ArmPair

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["compound", "dose_micromolar"]
NUMBERS = ("effect", "effect_low", "effect_high", "q_value")
BECAME, ENDED, CAME, WENT, OTHER = "became active", "is not active any more", "came", "went", ""
CHANGES = (BECAME, ENDED, CAME, WENT)
"""What happens to a call, in the order of the rows; `came` and `went` are treatments that only one of both has."""
NAMED = 5
"""Treatments named in a sentence."""
ROWS_SHOWN = 60
"""Rows of the table on the page; since.csv has all."""


def compared_treatments(then: Run, now: Run) -> pd.DataFrame:
    """Return one row per treatment of either run: `change`, `call_then`, `call_now`, and the numbers of both.

    Calls that changed come first, then the treatments whose effect changed most.
    """
    before, after = (_treatments(run) for run in (then, now))
    table = before.merge(after, on=KEYS, how="outer", suffixes=("_then", "_now"), indicator="side")
    calls = {
        f"call_{when}": [
            _call(active, side == missing) for active, side in zip(table[f"active_{when}"], table["side"], strict=True)
        ]
        for when, missing in (("then", "right_only"), ("now", "left_only"))
    }
    table = table.assign(**calls, treatment=names_of(table), effect_change=table["effect_now"] - table["effect_then"])
    table["change"] = [_change(*each) for each in zip(table["call_then"], table["call_now"], strict=True)]
    order = table["change"].map({name: place for place, name in enumerate((*CHANGES, OTHER))})
    table = table.assign(order=order, size=-table["effect_change"].abs())
    kept = [*KEYS, "treatment", "change", "call_then", "call_now", "effect_change"]
    kept += [f"{name}_{when}" for name in NUMBERS for when in ("then", "now")]
    return table.sort_values(["order", "size", "treatment"], kind="stable")[kept].reset_index(drop=True)


def _treatments(run: Run) -> pd.DataFrame:
    table = treatments_of(run.found_hits)
    doses = table["dose_micromolar"].astype(float)  # a column without any dose is of another type
    return table.assign(dose_micromolar=doses).drop_duplicates(KEYS)


def _call(active: bool | None, is_missing: bool) -> str:
    if is_missing:
        return "not there"
    return {True: "active", False: "not active"}.get(active, "not tested") if active is not None else "not tested"


def _change(then: str, now: str) -> str:
    if "not there" in (then, now):
        return CAME if then == "not there" else WENT
    if (then == "active") == (now == "active"):
        return OTHER
    return BECAME if now == "active" else ENDED


def treatment_sentences(table: pd.DataFrame) -> list[str]:
    """Return how many calls changed, with the names of treatments, as parts of a sentence."""
    names = {change: table["treatment"][table["change"] == change].tolist() for change in CHANGES}
    found = [
        f"{counted(len(names[BECAME]), 'treatment')} became active{_listed(names[BECAME])}" if names[BECAME] else "",
        f"{len(names[ENDED])} {'is' if len(names[ENDED]) == 1 else 'are'} not active any more{_listed(names[ENDED])}"
        if names[ENDED]
        else "",
        f"{counted(len(names[CAME]), 'treatment')} more{_listed(names[CAME])}" if names[CAME] else "",
        f"{counted(len(names[WENT]), 'treatment')} fewer{_listed(names[WENT])}" if names[WENT] else "",
    ]
    active = int((table["call_now"] == "active").sum())
    unchanged = f"no treatment changed its call: {active:,} of {len(table):,} active, as then"
    return [words for words in found if words] or [unchanged]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f": {shown}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"


def treatment_blocks(pair: ArmPair, table: pd.DataFrame) -> list[Block]:
    """Return the table of the treatments whose call or effect changed."""
    then, now = pair.first
    differs = table[(table["change"] != OTHER) | (table["effect_change"] != 0)]
    if differs.empty:
        return [Paragraph(f"Every treatment has the same effect and the same call as then (“{pair.arm}”).")]
    rows: list[list[Value]] = [
        [
            row["treatment"],
            row["change"] or "as it was",
            row["call_then"],
            row["call_now"],
            *(_number(row[name]) for name in ("effect_then", "effect_now", "effect_change")),
            _intervals(row),
            *(_number(row[name]) for name in ("q_value_then", "q_value_now")),
        ]
        for row in differs.head(ROWS_SHOWN).to_dict("records")
    ]
    head = ["treatment", "call", "then", "now", "effect then", "effect now", "difference", "95 % intervals"]
    head += ["q then", "q now"]
    cut = f"The first {ROWS_SHOWN} of {len(differs):,} rows. " if len(differs) > ROWS_SHOWN else ""
    seeds = f"seed {now.seed}" if then.seed == now.seed else f"seed {then.seed} then, {now.seed} now"
    caption = (
        f"Treatments of “{pair.arm}” ({seeds}) whose call or effect changed: changed calls first, then by how much the "
        f"effect changed; {len(table) - len(differs):,} of {len(table):,} did not change. {cut}Effect: how far the "
        "wells of a treatment lie from the control wells: 0 for none, 1 as far as a typical control well lies from the "
        "others. Intervals: whether the 95 % intervals of both effects (bootstrap over wells) overlap. q: the p-value "
        "of the permutation test, corrected for the number of treatments. since.csv has every treatment of every arm "
        "and seed that both have."
    )
    return [Table(head, rows, caption)]


def _intervals(row: Mapping[Hashable, Any]) -> str:
    """Return whether the intervals of the effects of then and of now overlap; a dash where one is not known."""
    ends = [_number(row[f"effect_{end}_{when}"]) for when in ("then", "now") for end in ("low", "high")]
    if None in ends:
        return "–"
    low_then, high_then, low_now, high_now = (float(end or 0.0) for end in ends)
    return "overlap" if low_now <= high_then and low_then <= high_now else "apart"


def _number(value: float | None) -> float | None:
    import pandas as pd

    return None if value is None or pd.isna(value) else float(value)


def all_compared(pairs: Iterable[ArmPair]) -> pd.DataFrame | None:
    """Return the treatments of all arms and common seeds that have hits then and now, in one table."""
    import pandas as pd

    tables = [
        compared_treatments(then, now).assign(arm=pair.arm, seed=now.seed)
        for pair in pairs
        for then, now in pair.of_seeds
        if then.hits_artifact is not None and now.hits_artifact is not None
    ]
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True)
    first = ["arm", "seed"]
    return table[[*first, *(name for name in table.columns if name not in (*first, "treatment"))]]
