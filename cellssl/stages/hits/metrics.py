"""metrics: what one search for hits has found, as frozen objects; JSON of hits.json and the card out, and back in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cellssl.counting import counted
from cellssl.stages.shared.fitted_link import FittedLink, links_in, links_json


@dataclass(frozen=True)
class RetrievalRule:
    """How often a treated well finds its replicates among the wells of other treatments, under one rule."""

    queries: int
    """Wells that have a replicate under this rule."""
    pairs: int
    """Pairs of replicates that are left."""
    recall_at_1: float
    """Share of queries whose nearest well is a replicate."""
    chance: float
    """This share for a random order."""
    mean_average_precision: float
    shuffled_recall_at_1: float
    """This share where treatments are shuffled among the treated wells of every plate."""
    cell_count_recall_at_1: float | None = None
    """This share where only the number of cells of a well is known; None where it is not."""


@dataclass(frozen=True)
class HitsMetrics:
    """The numbers of one search for hits; those that these wells do not allow are None or absent."""

    wells: int
    control_wells: int
    plates: int
    treatments: int
    tested: int
    """Treatments with a q-value."""
    active: int
    """Treatments whose q-value is below `alpha`."""
    alpha: float
    normalise: tuple[str, ...]
    """Names of the links of the chain."""
    aggregate: str
    dim: int
    """Number of features of a profile."""
    mean_average_precision: float | None = None
    """The mean over treatments with replicates."""
    smallest_p_value: float | None = None
    """The smallest p-value that the design allows any treatment."""
    active_by_cell_count: int | None = None
    """Treatments whose mean number of cells differs from that of controls (q < `alpha`); None where it is not known."""
    retrieval: Mapping[str, RetrievalRule] = field(default_factory=dict)
    """Rule -> how often replicates find each other."""
    not_computed: Mapping[str, str] = field(default_factory=dict)
    """What these wells do not allow -> the reason."""
    is_it_real: str = ""
    """One sentence: what is left when batch and position must differ."""
    fitted_by: tuple[FittedLink, ...] = ()
    """Who fitted the normalisation."""
    cautions: tuple[str, ...] = ()
    """What makes these numbers doubtful, in sentences."""

    def in_words(self) -> str:
        """Return how many treatments are active, in a sentence."""
        if not self.tested:
            return f"no treatment of {self.treatments:,} can have a q-value in this design: effects and ranks only"
        beside = self.active_by_cell_count
        by_count = "" if beside is None else f"; by the number of cells alone, {beside:,} would be"
        return (
            f"{self.active:,} of {counted(self.tested, 'tested treatment')} are active (q < {self.alpha:g}){by_count}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the metrics ready for JSON."""
        content = asdict(self)
        del content["fitted_by"]
        content |= {name: list(content[name]) for name in ("normalise", "cautions")}
        return content | links_json(self.fitted_by)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> HitsMetrics:
        """Return the metrics that `to_json` wrote."""
        known = {name: content[name] for name in cls.__dataclass_fields__ if name in content and name != "fitted_by"}
        known["retrieval"] = {name: RetrievalRule(**rule) for name, rule in content.get("retrieval", {}).items()}
        known |= {name: tuple(content.get(name, ())) for name in ("normalise", "cautions")}
        return cls(**known, fitted_by=links_in(content))
