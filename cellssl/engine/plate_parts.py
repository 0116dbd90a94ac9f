"""plate_parts: the parts of single plates in, the gathered tables and quarantine lists of all plates out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.files import write_text

if TYPE_CHECKING:
    import pandas as pd


QUARANTINE = "quarantine.csv"


def concat_parts(tables: dict[str, pd.DataFrame], parts: dict[str, Artifact]) -> pd.DataFrame:
    """The tables of all plates under each other, with the fingerprint of the part that each row lies in."""
    import pandas as pd

    return pd.concat([tables[plate].assign(part=parts[plate].fingerprint) for plate in tables], ignore_index=True)


def allowed_failures(share: float, fields: int) -> int:
    """How many of so many fields may fail; 29 of 100 at a share of 0.29, though their product is a little less."""
    return math.floor(share * fields + 1e-9)


def gather_quarantine(parts: Mapping[str, Artifact], path: Path) -> None:
    """The fields of all plates that were set aside, where there are any."""
    import csv

    rows: list[dict[str, str]] = []
    for part in parts.values():
        if QUARANTINE in part.card.files:
            with part.file(QUARANTINE).open(newline="", encoding="utf-8") as file:
                rows += csv.DictReader(file)
    if rows:
        write_quarantine(rows, path)


def write_quarantine(failures: Sequence[dict[str, str]], path: Path) -> None:
    """The fields that were set aside, each with its reason."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["field_id", "reason"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(failures)


def write_parts(parts: dict[str, Artifact], path: Path) -> None:
    """Plate and fingerprint of every part that an artifact gathers; `parts_of` reads it."""
    import json

    prints = {plate: part.fingerprint for plate, part in parts.items()}
    write_text(path, json.dumps(prints, indent=1, sort_keys=True) + "\n")


def parts_of(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Plate and fingerprint of every part of a gathered fetch or segment artifact."""
    import json

    yield from json.loads(artifact.file("parts.json").read_text(encoding="utf-8")).items()
