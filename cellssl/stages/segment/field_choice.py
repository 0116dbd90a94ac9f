"""field_choice: the field table with numbers of nuclei in; a few fields that tell what segmentation did out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING

from cellssl.reporting.natural_sort import natural_key

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Choice:
    """A field, and why it was chosen."""

    field_id: str
    why: str


def chosen_fields(fields: pd.DataFrame, most: int) -> list[Choice]:
    """Return a typical control field and a typical treated one, those where most was lost, then further typical ones.

    `fields` has the columns of a field table, `found` (nuclei) and `dropped_inside` (those dropped of them, without
    those at the edge). Typical ones come from different plates and wells, as far as there are. The order of the table
    does not matter.
    """
    lost: dict[str, Choice] = {}
    for one in filter(None, (_most_dropped(fields), _fewest_found(fields))):
        lost.setdefault(one.field_id, one)
    typical = _typical_fields(fields[~fields["field_id"].isin(list(lost))])
    return list(islice(chain(islice(typical, 2), lost.values(), typical), most))


def _most_dropped(fields: pd.DataFrame) -> Choice | None:
    """Return the field that lost most nuclei that do not touch its edge."""
    worst = fields.sort_values(["dropped_inside", "field_id"], ascending=[False, True]).head(1)
    return Choice(worst["field_id"].iloc[0], "most dropped") if worst["dropped_inside"].sum() else None


def _fewest_found(fields: pd.DataFrame) -> Choice | None:
    """Return the field with the fewest nuclei, where they are less than half as many as usual."""
    least = fields.sort_values(["found", "field_id"]).head(1)
    is_telling = 2 * least["found"].sum() < fields["found"].median()
    return Choice(least["field_id"].iloc[0], "fewest nuclei") if is_telling else None


def _typical_fields(fields: pd.DataFrame) -> Iterator[Choice]:
    """Yield fields whose number of nuclei is near the median of their plate: controls and treated ones in turn.

    Each comes from a plate that was shown least so far, of those that have a field of this kind left; plates are taken
    from both ends of their list, and of every plate one field per well at first.
    """
    from cellssl.randomness import cell_keys

    kind = fields["control"].map({True: "control", False: "treated"})
    groups = fields.groupby(["plate", kind])
    far = (fields["found"] - groups["found"].transform("median")).abs()
    table = fields.assign(kind=kind, far=far, key=cell_keys(fields["field_id"])).sort_values(["far", "key"])
    table["round"] = table.groupby(["plate", "kind", "well"], dropna=False).cumcount()
    queues = {
        (str(plate), str(name)): deque(rows.sort_values(["round", "far", "key"])["field_id"])
        for (plate, name), rows in table.groupby(["plate", "kind"])
    }
    kinds = [name for name in ("control", "treated") if any(name == other for _, other in queues)]
    words = {name: f"typical {name} field" if len(kinds) > 1 else "typical field" for name in kinds}
    plates = _from_both_ends(sorted({plate for plate, _ in queues}, key=natural_key))
    shown: Counter[str] = Counter()
    shown_of_kind: Counter[tuple[str, str]] = Counter()
    for name in cycle(kinds):
        with_kind = [plate for plate in plates if queues.get((plate, name))]
        if with_kind:
            plate = min(with_kind, key=lambda one: (shown[one], shown_of_kind[one, name]))
            shown[plate] += 1
            shown_of_kind[plate, name] += 1
            yield Choice(queues[plate, name].popleft(), words[name])
        elif not any(queues.values()):
            return


def _from_both_ends(names: list[str]) -> list[str]:
    """Return the first, the last, the second, the last but one, and so on."""
    order = [place for pair in zip(range(len(names)), reversed(range(len(names))), strict=True) for place in pair]
    return [names[place] for place in dict.fromkeys(order)]
