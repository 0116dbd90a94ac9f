"""sample: all fields of a data set and a number in; that many of them, spread over plates, treatments and wells, out.

The order in which the fields of a plate are taken follows from the names in it alone: another plate, or a larger
sample, changes how many are taken and not which come first.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from cellssl.datasets.base import Field
from cellssl.datasets.tables.controls import is_control

PER_PLATE = 4
"""Fewer fields of a plate are of no use: one of controls and three of treatments. Plates beyond that are left out."""
CONTROL_SHARE = 0.25
"""Share of control fields, which scale the intensities of a plate; it is larger where a plate has more of them."""


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
    control, treated = _treatments_in_turn(by_control[True]), _treatments_in_turn(by_control[False])
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


def _treatments_in_turn(fields: Sequence[Field]) -> list[Field]:
    """Return fields with every treatment in turn, within it every well, and within a well every site.

    A field without a compound has its well for a treatment.
    """
    treatments: dict[tuple[object, ...], dict[str, list[Field]]] = defaultdict(lambda: defaultdict(list))
    for field in fields:
        treatment = (field.well,) if field.compound is None else (field.compound, field.dose_micromolar)
        treatments[treatment][field.well].append(field)
    orders = [_in_turn(_drawn(sites) for sites in _sorted_wells(wells)) for wells in _sorted_treatments(treatments)]
    return _in_turn(orders)


def _sorted_treatments(
    treatments: dict[tuple[object, ...], dict[str, list[Field]]],
) -> Iterable[dict[str, list[Field]]]:
    return (treatments[one] for one in sorted(treatments, key=lambda one: _draw("treatment", *map(str, one))))


def _sorted_wells(wells: dict[str, list[Field]]) -> Iterable[list[Field]]:
    return (wells[well] for well in sorted(wells, key=lambda well: _draw("well", well)))


def _drawn(fields: list[Field]) -> list[Field]:
    return sorted(fields, key=lambda field: _draw("field", field.field_id))


def _in_turn(orders: Iterable[Sequence[Field]]) -> list[Field]:
    """Return the first of every order, then the second of every order, and so on."""
    orders = list(orders)
    longest = max(map(len, orders), default=0)
    return [order[place] for place in range(longest) for order in orders if place < len(order)]


def _draw(*names: str) -> bytes:
    """Return a number that looks random and follows from the names; no order of names on a plate shows in it."""
    return hashlib.sha256("\0".join(names).encode()).digest()
