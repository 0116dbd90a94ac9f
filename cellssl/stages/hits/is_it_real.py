"""is_it_real: how often replicates find each other under every rule in; one sentence on position and batch out."""

from __future__ import annotations

from collections.abc import Mapping

from cellssl.counting import counted
from cellssl.stages.hits.metrics import RetrievalRule

ANY = "any"
STRICTEST = ("other_batch_and_position", "other_plate_and_position")
"""The rules of which the first that can be computed answers whether a hit is more than batch and position."""
IN_WORDS = {
    "any": "any replicate",
    "other_plate": "another plate",
    "other_batch": "another batch",
    "other_source": "another source",
    "other_row": "another row",
    "other_column": "another column",
    "other_position": "another well position",
    "other_edge_class": "the edge and the inside of a plate",
    "other_plate_and_position": "another plate and another well position",
    "other_batch_and_position": "another batch and another well position",
}
"""What a replicate must differ in."""


def sentence(rules: Mapping[str, RetrievalRule], not_computed: Mapping[str, str]) -> str:
    """Return what is left of the retrieval of replicates when they must differ in batch, or plate, and position."""
    strict = next((name for name in STRICTEST if name in rules), None)
    if ANY not in rules:
        reason = not_computed.get(ANY, "no treatment has two wells")
        return f"Whether replicates find each other is not known: {reason}."
    if strict is None:
        reason = next((not_computed[name] for name in reversed(STRICTEST) if name in not_computed), "no pair is left")
        return f"Whether hits are more than plate and position is not known: {reason}."
    left, whole = rules[strict], rules[ANY]
    by_count = left.cell_count_recall_at_1
    beside = "" if by_count is None else f"; by the number of cells alone: {by_count:.0%}"
    return (
        f"When replicates must lie in {IN_WORDS[strict]}, {left.recall_at_1:.0%} of {counted(left.queries, 'well')} "
        f"have a replicate as their nearest well (by chance: {left.chance:.0%}{beside}); where any replicate counts, "
        f"{whole.recall_at_1:.0%} of {whole.queries:,} have (by chance: {whole.chance:.0%})."
    )
