"""plate_parts: the artifacts of single plates in, the joined tables and quarantine lists of all plates out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.card import PARTS, is_identity
from cellssl.artifacts.contents import not_as_written, read_json_file, read_text
from cellssl.artifacts.store import Artifact
from cellssl.files import write_text
from cellssl.spreadsheets import readable, write_rows

if TYPE_CHECKING:
    import pandas as pd


QUARANTINE = "quarantine.csv"
NUCLEI_OF_PLATE = "nuclei/segment"
"""Name of the input of a plate's cells that is the artifact of all its nuclei."""
QUARANTINE_COLUMNS = ("field_id", "reason")


def concat_parts(tables: dict[str, pd.DataFrame], parts: dict[str, Artifact]) -> pd.DataFrame:
    """Return the tables of all plates as one, with the fingerprint of the part that each row comes from."""
    import pandas as pd

    return pd.concat([tables[plate].assign(part=parts[plate].fingerprint) for plate in tables], ignore_index=True)


FIELDS_FOR_ONE = 20
"""So many fields may lose one whatever the share is, unless it is 0: a 96-well plate with one field per well lost all
its wells for the sake of one image, because 1 % of 96 fields is less than a field."""


def allowed_failures(share: float, fields: int) -> int:
    """Return how many of so many fields may fail: 29 of 100 at a share of 0.29, though that product is below 29."""
    one = 1 if share > 0 and fields >= FIELDS_FOR_ONE else 0
    return max(one, math.floor(share * fields + 1e-9))


def gather_quarantine(parts: Mapping[str, Artifact], path: Path) -> None:
    """Write the quarantined fields of all plates to one list, where there are any."""
    rows = [row for part in parts.values() for row in read_quarantine(part)]
    if rows:
        write_quarantine(rows, path)


def read_quarantine(part: Artifact) -> list[dict[str, str]]:
    """Return the quarantined fields of one plate, each with its reason; [] where there is no list."""
    import csv

    if QUARANTINE not in part.card.files:
        return []
    rows = csv.DictReader(read_text(part, QUARANTINE).splitlines(keepends=True))
    return [{name: readable(str(row.get(name) or "")) for name in QUARANTINE_COLUMNS} for row in rows]


def write_quarantine(failures: Sequence[dict[str, str]], path: Path) -> None:
    """Write the quarantined fields, each with its reason."""
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, QUARANTINE_COLUMNS, ([row[name] for name in QUARANTINE_COLUMNS] for row in failures))


def write_parts(parts: dict[str, Artifact], path: Path) -> None:
    """Write plate and fingerprint of every part of an artifact; `parts_of` reads the file."""
    import json

    fingerprints = {plate: part.fingerprint for plate, part in parts.items()}
    write_text(path, json.dumps(fingerprints, indent=1, sort_keys=True) + "\n")


def parts_of(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Yield plate and fingerprint of every part of a fetch or segment artifact of several plates.

    Raises IntegrityError where the file does not name parts: a fingerprint becomes the path of a folder.
    """
    parts = read_json_file(artifact, PARTS)
    if not isinstance(parts, dict) or not parts:
        raise not_as_written(artifact, PARTS, "it names no parts")
    for plate, fingerprint in parts.items():
        if not is_identity(artifact.card.kind, fingerprint):
            raise not_as_written(artifact, PARTS, f"the part of plate {plate!r} is called {fingerprint!r}")
        yield plate, fingerprint


def names_of_parts(artifact: Artifact) -> list[str]:
    """Return the fingerprints of the parts that an artifact gathers; [] for one that gathers none."""
    return [fingerprint for _, fingerprint in parts_of(artifact)] if PARTS in artifact.card.files else []
