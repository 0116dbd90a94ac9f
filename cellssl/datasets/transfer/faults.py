"""faults: what was found wrong with files in, reading after reading; the faults that the source itself holds out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, and the sha256 of the bytes that show it."""

    reason: str
    evidence: str


class FaultLog:
    """Tells faults of content from faults of transport.

    The same wrong bytes that came twice, each time over a new connection, are what the source holds: a fault of
    content, which quarantines a field. Wrong bytes that differ from one reading to the next were changed on the way: a
    fault of transport, after which only another reading helps.
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def of_content(self, faults: Mapping[str, Fault]) -> dict[str, str]:
        """Note the faults of one reading, by file; return file -> reason of those that an earlier reading had too."""
        repeated = {name: fault.reason for name, fault in faults.items() if fault.evidence in self._seen.get(name, ())}
        for name, fault in faults.items():
            self._seen.setdefault(name, set()).add(fault.evidence)
        return repeated


def readings_allowed(tries: int) -> int:
    """Return how many readings in a row may bring nothing new; the second one is needed to tell the faults apart."""
    return max(2, tries)
