"""plate_parts: the artifacts of single plates in, the joined tables and quarantine lists of all plates out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.files import write_text
from cellssl.spreadsheets import readable, write_rows

if TYPE_CHECKING:
    import pandas as pd


QUARANTINE = "quarantine.csv"
QUARANTINE_COLUMNS = ("field_id", "reason")


def concat_parts(tables: dict[str, pd.DataFrame], parts: dict[str, Artifact]) -> pd.DataFrame:
    """Return the tables of all plates as one, with the fingerprint of the part that each row comes from."""
    import pandas as pd

    return pd.concat([tables[plate].assign(part=parts[plate].fingerprint) for plate in tables], ignore_index=True)


def allowed_failures(share: float, fields: int) -> int:
    """Return how many of so many fields may fail: 29 of 100 at a share of 0.29, though that product is below 29."""
    return math.floor(share * fields + 1e-9)


def gather_quarantine(parts: Mapping[str, Artifact], path: Path) -> None:
    """Write the quarantined fields of all plates to one list, where there are any."""
    import csv

    rows: list[dict[str, str]] = []
    for part in parts.values():
        if QUARANTINE in part.card.files:
            with part.file(QUARANTINE).open(newline="", encoding="utf-8") as file:
                rows += [{name: readable(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    if rows:
        write_quarantine(rows, path)


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
    """Yield plate and fingerprint of every part of a fetch or segment artifact of several plates."""
    import json

    yield from json.loads(artifact.file("parts.json").read_text(encoding="utf-8")).items()
