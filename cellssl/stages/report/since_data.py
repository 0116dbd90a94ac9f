"""since_data: the cells of then and of now in; how many plates, wells, fields and cells came and went out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cellssl.artifacts.tables import read_fields
from cellssl.counting import counted
from cellssl.reporting.html import Block, Paragraph, Table, Value
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.runs import Run
from cellssl.stages.report.since_arms import ArmPair
from cellssl.stages.shared.card_shapes import segment_metrics

NAMED = 5
"""Plates named in a sentence."""


@dataclass(frozen=True)
class Data:
    """What a run was made of."""

    counts: Mapping[str, int]
    """Plates, wells, fields, nuclei found, cells kept, and clustered cells."""
    plates: frozenset[str]

    @classmethod
    def of(cls, run: Run) -> Data:
        """Return the data of a run; wells are those of a plate, and are left out where none is known."""
        fields = read_fields(run.segment)
        plates = frozenset(fields["plate"].dropna().astype(str))
        wells = len(fields[["plate", "well"]].dropna().drop_duplicates())
        found = segment_metrics(run.segment)
        counts = {"plates": len(plates), "wells": wells, "fields": found.fields, "nuclei found": found.detected}
        counts |= {"cells kept": found.kept, "cells clustered": run.clusters.cells}
        return cls({name: count for name, count in counts.items() if count or name != "wells"}, plates)


@dataclass(frozen=True)
class DataChange:
    """The data of one arm, then and now."""

    arm: str
    then: Data
    now: Data
    same_cells: bool
    """Whether both stand on the same segmented cells."""

    @classmethod
    def of(cls, pair: ArmPair) -> DataChange:
        """Return the data of the first seed of an arm."""
        then, now = pair.first
        return cls(pair.arm, Data.of(then), Data.of(now), then.segment.fingerprint == now.segment.fingerprint)

    @property
    def came(self) -> list[str]:
        """The plates that are new."""
        return sorted(self.now.plates - self.then.plates, key=natural_key)

    @property
    def went(self) -> list[str]:
        """The plates that are not there any more."""
        return sorted(self.then.plates - self.now.plates, key=natural_key)

    def sentence(self) -> str:
        """Return what changed in the data, as a part of a sentence."""
        if self.same_cells:
            return "the cells are the same"
        found = [
            f"{counted(len(names), 'plate')} {words} ({_listed(names)})"
            for names, words in ((self.came, "more"), (self.went, "fewer"))
            if names
        ]
        names = ("wells", "fields", "cells kept")
        found += [_difference(name, self.then.counts.get(name, 0), self.now.counts.get(name, 0)) for name in names]
        return "the cells: " + (", ".join(words for words in found if words) or "as many, and not the same ones")

    def block(self) -> Block:
        """Return the table of what there was and is."""
        if self.same_cells and self.then.counts == self.now.counts:
            return Paragraph("The data is the same: the same images, nuclei and cells.")
        names = dict.fromkeys([*self.then.counts, *self.now.counts])
        rows: list[list[Value]] = []
        for name in names:
            then, now = self.then.counts.get(name), self.now.counts.get(name)
            rows.append(
                [name, then, now, None if then is None or now is None else f"{now - then:+,}" if now != then else "0"]
            )
        plates = [f"New plates: {', '.join(self.came)}."] if self.came else []
        plates += [f"Plates that are not there any more: {', '.join(self.went)}."] if self.went else []
        caption = f"Data of “{self.arm}”, counted in the tables of its fields and cells. {' '.join(plates)}"
        return Table(["data", "then", "now", "difference"], rows, caption.strip())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _difference(name: str, then: int, now: int) -> str:
    if then == now:
        return ""
    one = name.removesuffix(" kept").removesuffix("s")
    return f"{counted(abs(now - then), one)} {'more' if now > then else 'fewer'}"
