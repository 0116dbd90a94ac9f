"""findings: what a check of tables and image headers found in; counts by kind, bad plates, and a CSV list out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from io import StringIO
from pathlib import Path
from typing import Literal, get_args

from cellssl.engine.plate_parts import allowed_failures
from cellssl.files import write_text
from cellssl.spreadsheets import write_rows

MISSING = "missing image"
UNREADABLE = "unreadable image"
NOT_CHOSEN = "plane not chosen"
NO_RANGE = "scale not given"
SIZES_IN_FIELD = "sizes differ in a field"
EXPERIMENTAL = "experimental format"
THUMBNAIL = "thumbnail"
DEPTHS = "mixed depths"
SIZES = "mixed sizes"
PIXEL_SIZE = "pixel size contradicts the file"
PIXEL_SIZES = "mixed pixel sizes"
PIXEL_SHAPE = "pixels are no squares"
OBJECTIVES = "mixed objectives"
CHANNEL_NAMES = "channel is called otherwise in the file"
Z_PLANES = "z planes differ in number"
SAME_IMAGE = "same image twice"
SITES = "sites differ in number"
NO_CONTROLS = "plate without controls"
NAMES = "names alike"
DOSES = "doses alike"
RECIPE = "recipe and table differ"
BREAKS_FETCH = frozenset({MISSING})
"""Kinds that put a field into the quarantine of fetch."""
BREAKS_SEGMENT = frozenset({UNREADABLE, NOT_CHOSEN, NO_RANGE, SIZES_IN_FIELD})
"""Kinds that put a field into the quarantine of segment, which opens the images."""
NAMED = 3
"""So many bad plates are named in one error, and so many findings of one kind are shown."""


Severity = Literal["error", "warning", "note"]
"""An error stops the work. A warning names what may be wrong; a note says how a table was read."""


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit together, or was read in a way that a user should know: what, where, and the cure."""

    kind: str
    what: str
    cure: str
    plate: str = ""
    well: str = ""
    field_id: str = ""
    channel: str = ""
    file: str = ""
    items: str = ""
    """Everything that `what` counts, where it names the first ones only."""
    severity: Severity = "warning"

    def __str__(self) -> str:
        """Return the sentence, which begins with the field where it does not name it, and the cure."""
        where = f"{self.field_id}: " if self.field_id not in self.what else ""
        return f"{where}{self.what}; {self.cure}" if self.cure else f"{where}{self.what}"


@dataclass(frozen=True)
class Tolerances:
    """The shares of a plate's fields that may be missing (`fetch.max_failures`) or broken (`segment.max_failures`)."""

    missing: float
    broken: float


@dataclass(frozen=True)
class Check:
    """Everything that a check found, and how much it looked at."""

    fields: int
    """Number of fields of view."""
    files: int
    """Number of image files of this machine; 0 where the data set names none."""
    findings: tuple[Finding, ...]
    bad_plates: Mapping[str, str] = field(default_factory=dict)
    """Plates that cannot be made, each with a sentence that says why."""
    plates: int = 0
    """Number of plates."""
    is_recalled: bool = False
    """Whether the very same was checked before, so that nothing was read."""

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop the work."""
        return self.of("error")

    @property
    def warnings(self) -> list[Finding]:
        """The findings that do not stop it."""
        return self.of("warning")

    def of(self, severity: Severity) -> list[Finding]:
        """Return the findings of one severity."""
        return [one for one in self.findings if one.severity == severity]


def kinds_of(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of every kind, in the order in which the kinds first come."""
    return dict(Counter(one.kind for one in findings))


def judged(findings: Sequence[Finding], fields_of_plate: Mapping[str, int], tolerances: Tolerances) -> Check:
    """Return the check in which faults of fields are errors on the plates that have more of them than is tolerated."""
    bad: dict[str, str] = {}
    errors: set[tuple[str, frozenset[str]]] = set()
    faults = [one for one in findings if one.kind in BREAKS_FETCH | BREAKS_SEGMENT]
    for plate, count in fields_of_plate.items():
        missing = _first_by_field(faults, plate, BREAKS_FETCH)
        broken = _first_by_field(faults, plate, BREAKS_SEGMENT, without=missing)
        too_many = {
            kinds: found
            for kinds, found, share, of in (
                (BREAKS_FETCH, missing, tolerances.missing, count),
                (BREAKS_SEGMENT, broken, tolerances.broken, count - len(missing)),
            )
            if found and (len(found) > allowed_failures(share, of) or len(found) == of)
        }
        if too_many:
            lost = [one for found in too_many.values() for one in found.values()]
            first = f"{lost[0].field_id}: {lost[0].what}"
            bad[plate] = f"{len(lost)} of {count} fields of plate {plate} are missing or broken; first: {first}"
            errors |= {(plate, kinds) for kinds in too_many}
    marked = [
        replace(one, severity="error") if any(one.plate == plate and one.kind in of for plate, of in errors) else one
        for one in findings
    ]
    return Check(sum(fields_of_plate.values()), 0, in_order(marked), bad, len(fields_of_plate))


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings with errors first and notes last."""
    return tuple(sorted(findings, key=lambda one: get_args(Severity).index(one.severity)))


def _first_by_field(
    findings: Iterable[Finding], plate: str, kinds: frozenset[str], without: Iterable[str] = ()
) -> dict[str, Finding]:
    """Return the first finding of these kinds by field of a plate, without some of the fields."""
    found: dict[str, Finding] = {}
    left_out = set(without)
    for one in findings:
        if one.plate == plate and one.kind in kinds and one.field_id not in left_out:
            found.setdefault(one.field_id, one)
    return found


def sentence_of(bad_plates: Mapping[str, str], plates: int) -> str:
    """Return one sentence on all plates that cannot be made."""
    sentences = list(bad_plates.values())
    if len(sentences) == 1:
        return sentences[0]
    more = f"; and {len(sentences) - NAMED} more plates" if len(sentences) > NAMED else ""
    return f"{len(sentences)} of {plates} plates cannot be made: {'; '.join(sentences[:NAMED])}{more}"


def way_out(bad_plates: Iterable[str], plates: int, mend: str, setting: str) -> str:
    """Return how to go on although plates cannot be made; `setting` is the share of failures that is exceeded."""
    import json

    named = sorted(bad_plates)
    repair = f"{mend}, or raise {setting}, the share of fields that may be missing or broken"
    if len(named) == plates:
        return repair
    return (
        f"{repair}, or leave these plates out: exclude_plates = {json.dumps(named, ensure_ascii=False)} under [fetch]"
    )


def write_findings(findings: Iterable[Finding], path: Path) -> None:
    """Write all findings as a CSV table, one row each, errors first."""
    text = StringIO()
    names = [one.name for one in fields(Finding)]
    write_rows(text, [names[-1], *names[:-1]], ([one.severity, *astuple(one)[:-1]] for one in findings))
    write_text(path, text.getvalue())
