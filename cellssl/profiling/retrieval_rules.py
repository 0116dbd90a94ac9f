"""retrieval_rules: plates, batches and positions of wells -> what replicates must not share, rule by rule."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.well_positions import well_positions

RULES = {
    "any": (),
    "other_plate": ("plate",),
    "other_batch": ("batch",),
    "other_source": ("source",),
    "other_row": ("row",),
    "other_column": ("column",),
    "other_position": ("position",),
    "other_edge_class": ("edge_class",),
    "other_batch_and_position": ("batch", "position"),
    "other_plate_and_position": ("plate", "position"),
}
"""Rule -> what must differ between a well and all wells that it is compared with. `edge_class` is edge or inside."""
STRICTEST = ("other_batch_and_position", "other_plate_and_position")
"""The second stands in for the first where there is one batch."""
POSITION = ("row", "column", "position", "edge_class")


@dataclass(frozen=True)
class Rule:
    """What must differ between two wells: each has a number per kind of place, or -1 where that is not known."""

    places: Int[np.ndarray, "kinds n"]

    def allowed(self, one: Int[np.ndarray, "p"], other: Int[np.ndarray, "p"]) -> Bool[np.ndarray, "p"]:
        """Return for pairs of wells whether they may be compared."""
        first, second = self.places[:, one], self.places[:, other]
        found: np.ndarray = ((first != second) & (first >= 0) & (second >= 0)).all(axis=0)
        return found

    def allowed_for(self, row: int) -> Bool[np.ndarray, "n"]:
        """Return which wells may be compared with one well."""
        of_row = self.places[:, row, None]
        found: np.ndarray = ((self.places != of_row) & (self.places >= 0)).all(axis=0) & (of_row >= 0).all()
        return found


Places = Mapping[str, Int[np.ndarray, "n"]]
"""Kind of place -> its number for every well, -1 where it is not known."""


def places_of(plates: Labels, wells: Labels, batches: Labels | None, sources: Labels | None) -> Places:
    """Return where every well lies; control wells help to see the format of the plates."""
    at = well_positions(wells)
    found = {
        "plate": codes(plates)[1],
        "row": _whole(at.row, at.known),
        "column": _whole(at.column, at.known),
        "position": _whole(100 * at.row + at.column, at.known),
        "edge_class": _whole(at.edge.astype(float), at.known),
    }
    found |= {"batch": codes(batches)[1]} if batches is not None else {}
    return found | ({"source": codes(sources)[1]} if sources is not None else {})


def rules_of(places: Places) -> tuple[dict[str, Rule], dict[str, str]]:
    """Return the rules that these wells allow, and for the others the reason why not."""
    rules, reasons, wells = {}, {}, len(places["plate"])
    for name, kinds in RULES.items():
        if reason := next(filter(None, (_missing(kind, places.get(kind)) for kind in kinds)), ""):
            reasons[name] = reason
        else:
            rules[name] = Rule(np.array([places[kind] for kind in kinds], np.int64).reshape(len(kinds), wells))
    if STRICTEST[0] in rules:
        rules.pop(STRICTEST[1], None)
        reasons.pop(STRICTEST[1], None)
    return rules, reasons


def _missing(kind: str, place: Int[np.ndarray, "n"] | None) -> str:
    """Return why a rule cannot hold two wells apart, or nothing."""
    name = kind.replace("_", " ")
    number = 0 if place is None else len(np.unique(place[place >= 0]))
    if number == 0:
        return "no well has a name that says its position, as B02 does" if kind in POSITION else f"no {name} is known"
    return f"all wells are of the same {name}" if number == 1 else ""


def _whole(values: Float[np.ndarray, "n"], known: Bool[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    return np.where(known, values, -1).astype(np.int64)
