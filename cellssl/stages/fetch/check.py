"""check: the planned fields of a data set in; everything in their tables and image headers that does not fit out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.hashing import Identity
from cellssl.datasets.base import Field, Remark
from cellssl.datasets.tables.controls import is_control
from cellssl.engine.build import RunContext
from cellssl.events import Event
from cellssl.stages.fetch import findings as kinds
from cellssl.stages.fetch.contradictions import contradictions_by_kind
from cellssl.stages.fetch.findings import Check, Finding, Tolerances, judged
from cellssl.stages.fetch.image_checks import check_between_plates, check_images, own_images, same_images
from cellssl.stages.fetch.image_headers import read_headers
from cellssl.stages.fetch.remembered import FOLDER, Memory, are_settled, key_of, plate_key, state_of

if TYPE_CHECKING:
    from cellssl.stages.fetch.image_headers import Place

CURES = {
    kinds.NAMES: "write it in one way in the table; a name of the controls may also be added to fetch.controls",
    kinds.DOSES: "write the dose in one way in the table",
}


def check_plates(
    plates: Mapping[str, Sequence[Field]],
    controls: Sequence[str],
    tolerances: Tolerances,
    context: RunContext,
    remarks: Sequence[Remark] = (),
) -> Generator[Event, None, Check]:
    """Return what does not fit together in the rows and images of these plates; only headers of images are read.

    `remarks` are those of the data set on its tables. What was checked before is not read again, unless a row or the
    identity of a file has changed.
    Raises FailedError where the file system failed to give the bytes of a file.
    """
    memory = Memory(context.store.root / FOLDER, trusted=context.store.hashes.trusted)
    places = {plate: _places(fields) for plate, fields in plates.items()}
    states = {file: state_of(file) for file in {file for those in places.values() for file, _ in those}}
    keys = {
        plate: plate_key(fields, states, sorted({file for file, _ in places[plate]}))
        for plate, fields in plates.items()
    }
    key = key_of(tuple(controls), keys)
    known = memory.recall(key)
    if known is None:
        found = yield from _checked(plates, controls, memory, keys, places, states)
        if are_settled(states.values()):
            memory.keep(key, found)
            memory.thin_out()
    else:
        found = known["findings"]
    found = [*found, *map(_finding_of, remarks)]
    check = judged(found, {plate: len(fields) for plate, fields in plates.items()}, tolerances)
    return replace(check, files=len(states), is_recalled=known is not None)


def _finding_of(remark: Remark) -> Finding:
    items = "; ".join(remark.items)
    return Finding(remark.topic, remark.text, remark.hint, items=items, severity=remark.kind)


def _places(fields: Sequence[Field]) -> set[Place]:
    """Return every file of this machine with the number of the image in it."""
    return {
        (file, reference.series or 0)
        for field in fields
        for reference in own_images(field).values()
        for file in reference.files
    }


def _checked(
    plates: Mapping[str, Sequence[Field]],
    controls: Sequence[str],
    memory: Memory,
    keys: Mapping[str, str],
    places: Mapping[str, set[Place]],
    states: Mapping[str, Identity | str],
) -> Generator[Event, None, list[Finding]]:
    known = {plate: memory.recall(key) for plate, key in keys.items()}
    wanted = {place for plate, of_plate in places.items() if "usual" not in (known[plate] or ()) for place in of_plate}
    headers = yield from read_headers(place for place in wanted if not isinstance(states[place[0]], str))
    found: list[Finding] = []
    usual: dict[str, Mapping[str, Sequence[Any]]] = {}
    for plate, fields in plates.items():
        recalled = known[plate]
        if recalled is not None and "usual" in recalled:
            found += recalled["findings"]
            usual[plate] = recalled["usual"]
            continue
        of_plate = {file: states[file] for file, _ in places[plate]}
        faults = {file: state for file, state in of_plate.items() if isinstance(state, str)}
        findings, usual[plate] = check_images(fields, faults, headers)
        found += findings
        if are_settled(of_plate.values()):
            memory.keep(keys[plate], findings, usual=usual[plate])
    everything = [field for fields in plates.values() for field in fields]
    return [*found, *check_between_plates(usual), *same_images(everything), *_table_findings(plates, controls)]


def _table_findings(plates: Mapping[str, Sequence[Field]], controls: Sequence[str]) -> Iterator[Finding]:
    """Yield what the rows alone say: names and doses alike, controls that no well has, plates without controls."""
    import pandas as pd

    everything = [field for fields in plates.values() for field in fields]
    columns = ("field_id", "plate", "well", "compound", "dose_micromolar")
    rows = [[getattr(field, name) for name in columns] for field in everything]
    table = pd.DataFrame(rows, columns=list(columns)).astype({"compound": "string", "dose_micromolar": float})
    table["control"] = [is_control(field.compound, field.control_type, controls) for field in everything]
    for kind, sentence in contradictions_by_kind(table, controls):
        yield Finding(kind, sentence, CURES[kind])
    compounds = {field.compound for field in everything} - {None}
    with_controls = set(table["plate"][table["control"]])
    for plate in (plate for plate in plates if plate not in with_controls and compounds and controls):
        yield Finding(
            kinds.NO_CONTROLS,
            f"plate {plate} has no well of the controls {', '.join(controls)}",
            "name its controls in fetch.controls, or write controls = [] where there are none",
            plate=plate,
        )
    for name in (name for name in controls if with_controls and name and name not in compounds):
        yield Finding(kinds.RECIPE, f"no well has the control {name!r}", "correct fetch.controls, or the table")
