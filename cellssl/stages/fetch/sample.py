"""sample: all fields of a data set and a number in; that many of them, spread over plates, treatments and wells, out.

The order in which the fields of a plate are taken follows from the names in it alone: another plate, or a larger
sample, changes how many are taken and not which come first.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from cellssl.datasets.base import Field
from cellssl.datasets.tables.controls import is_control

PER_PLATE = 4
"""Fewer fields of a plate are of no use: one of controls and three of treatments. Plates beyond that are left out."""
CONTROL_SHARE = 0.25
"""Share of control fields, which scale the intensities of a plate; it is larger where a plate has more of them."""


SPREAD_OVER: tuple[Callable[[Field], object], ...] = (
    lambda field: field.well if field.compound is None else field.compound,
    lambda field: field.dose_micromolar,
    lambda field: field.well,
)
"""What takes turns in a sample: compounds (or wells, where none is known), their doses, and the wells of a dose."""


def sampled(fields: Sequence[Field], count: int, controls: Sequence[str]) -> list[Field]:
    """Return `count` fields in the order of `fields`, or all of them where there are not more."""
    if count >= len(fields):
        return list(fields)
    plates: dict[str, list[Field]] = defaultdict(list)
    for field in fields:
        plates[field.plate].append(field)
    chosen_plates = sorted(plates, key=lambda plate: _draw("plate", plate))[: max(1, count // PER_PLATE)]
    orders = [_order(plates[plate], controls) for plate in chosen_plates]
    if sum(map(len, orders)) < count:  # plates of very few fields: all are needed
        orders += [_order(of_plate, controls) for plate, of_plate in plates.items() if plate not in chosen_plates]
    chosen = {id(field) for field in _in_turn(orders)[:count]}
    return [field for field in fields if id(field) in chosen]


def first_look(taken: int, of: int) -> str:
    """Return in words that the fields are a sample of all."""
    return f"a first look: {taken:,} of {of:,} fields"


def _order(fields: Sequence[Field], controls: Sequence[str]) -> list[Field]:
    """Return the fields of one plate in the order in which a sample takes them: controls between treatments."""
    by_control: dict[bool, list[Field]] = {True: [], False: []}
    for field in fields:
        by_control[is_control(field.compound, field.control_type, controls)].append(field)
    control, treated = (_spread(by_control[one], *SPREAD_OVER) for one in (True, False))
    share = max(CONTROL_SHARE, len(control) / len(fields))
    ordered: list[Field] = []
    used = 0
    while len(ordered) < len(fields):
        wants_control = used < len(control) and used <= share * len(ordered)
        if wants_control or len(ordered) - used == len(treated):
            ordered.append(control[used])
            used += 1
        else:
            ordered.append(treated[len(ordered) - used])
    return ordered


def _spread(fields: Sequence[Field], *keys: Callable[[Field], object]) -> list[Field]:
    """Return fields so that the values of the first key take turns, within one value those of the second, and so on."""
    if not keys:
        return sorted(fields, key=lambda field: _draw("field", field.field_id))
    groups: dict[str, list[Field]] = defaultdict(list)
    for field in fields:
        groups[str(keys[0](field))].append(field)
    drawn = sorted(groups, key=lambda name: _draw("group", name))
    return _in_turn([_spread(groups[name], *keys[1:]) for name in drawn])


def _in_turn(orders: Iterable[Sequence[Field]]) -> list[Field]:
    """Return the first of every order, then the second of every order, and so on."""
    orders = list(orders)
    longest = max(map(len, orders), default=0)
    return [order[place] for place in range(longest) for order in orders if place < len(order)]


def _draw(*names: str) -> bytes:
    """Return a number that looks random and follows from the names; no order of names on a plate shows in it."""
    return hashlib.sha256("\0".join(names).encode()).digest()
