"""hit_rules: a rule on which replicates may find each other in; its words, its score, and which rule is strict, out."""

from __future__ import annotations

from collections.abc import Mapping

from cellssl.stages.hits.metrics import RetrievalRule

ANY = "any"
RULES = {
    ANY: "any other well",
    "other_plate": "another plate",
    "other_batch": "another batch",
    "other_source": "another source",
    "other_row": "another row",
    "other_column": "another column",
    "other_edge": "the other of edge and inside",
    "other_position": "another position",
    "other_batch_and_position": "another batch and position",
    "other_plate_and_position": "another plate and position",
}
"""Rule of the retrieval of replicates -> where a replicate may lie."""
STRICT = ("other_batch_and_position", "other_plate_and_position", "other_position", "other_batch", "other_plate")
"""Rules under which neither place nor day can explain that replicates are alike, those that leave least first."""


def recall_score(rule: str) -> str:
    """Return the name of the score of a rule in scores.csv."""
    return "hits_recall_at_1" if rule == ANY else f"hits_recall_{rule}"


def strictest(retrieval: Mapping[str, RetrievalRule]) -> str | None:
    """Return the strictest rule that any pair of replicates meets; None where there is none but ANY."""
    return next((rule for rule in STRICT if rule in retrieval and retrieval[rule].queries), None)
