"""hit_rules: a rule on which replicates may find each other in; its words, and which rule is the strictest, out."""

from __future__ import annotations

from collections.abc import Mapping

from cellssl.stages.hits.is_it_real import ANY, IN_WORDS, STRICTEST
from cellssl.stages.hits.metrics import RetrievalRule

RULES = {**IN_WORDS, ANY: "any other well"}
"""Rule of the retrieval of replicates -> where a replicate may lie."""
STRICT = (*STRICTEST, "other_position", "other_batch", "other_plate")
"""Rules under which place or day cannot explain that replicates are alike, those that leave least first."""

ABOUT = {
    "other_position": ("position",),
    "other_batch": ("plate",),
    "other_plate": ("plate",),
    **dict.fromkeys(STRICTEST, ("plate", "position")),
}
"""Rule -> what cannot explain that replicates are alike where they keep it."""


def strictest(retrieval: Mapping[str, RetrievalRule]) -> str | None:
    """Return the strictest rule that any pair of replicates meets; None where there is none but ANY."""
    return next((rule for rule in STRICT if rule in retrieval and retrieval[rule].queries), None)
