"""model_scores: a model and the stores that it was used in; its scores, and those of baselines on the same cells, out.

Nothing is computed: scores are those of finished artifacts. Only results with the same settings are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cellssl.artifacts.card import NAME, Card, read_card
from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import CellsslError
from cellssl.stages.embed.block_settings import BASELINES

Interval = tuple[float, float] | list[float] | None
NOT_SETTINGS = ("seed",)
"""What may differ between clusterings that are averaged."""


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Agreement(_Shape):
    ami: float
    ami_interval: Interval = None
    cells: int


class _Clusters(_Shape):
    k: int
    against: Mapping[str, _Agreement]


class _Accuracy(_Shape):
    balanced_accuracy: float
    balanced_accuracy_interval: Interval = None


class _Evaluation(_Shape):
    cells: int
    knn: _Accuracy
    linear: _Accuracy


@dataclass(frozen=True)
class Score:
    """One number with its 95 % interval where that is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, interval: Interval) -> Score:
        """Return a number and its interval."""
        return cls(value, *interval) if interval and len(interval) == 2 else cls(value)

    def words(self) -> str:
        """Return it as a table shows it."""
        span = f" ({self.low:.2f} to {self.high:.2f})" if self.low is not None and self.high is not None else ""
        return f"{self.value:.3f}{span}"


@dataclass(frozen=True)
class Row:
    """The scores of one kind of vectors."""

    name: str
    is_own: bool
    scores: Mapping[str, Score]
    """Some of METRICS."""


@dataclass(frozen=True)
class Table:
    """Rows on the same cells, with the same settings of scores."""

    rows: list[Row]
    about: list[str] = field(default_factory=list)
    """Sentences on the cells, and how the scores were computed."""


METRICS = {
    "ami": "AMI of clusters and label",
    "knn": "balanced accuracy, nearest neighbours",
    "linear": "balanced accuracy, linear probe",
}
"""Score -> its head in a table."""


def scores_of(model: Artifact, store: Store) -> Table | None:
    """Return the scores of a model beside those of the baselines; None where no store has a score of it."""
    around = store.with_store_of(model)
    embeds = list(_cards(around, "embed"))
    own = [card for card in embeds if model.fingerprint in (card.inputs.get("pretrain"), card.inputs.get("model"))]
    scored = {kind: _by_embed(_cards(around, kind)) for kind in ("cluster", "evaluate")}
    own = [card for card in own if _is_plain(card) and any(card.fingerprint in by for by in scored.values())]
    if not own:
        return None
    first = max(own, key=lambda card: (str(card.run.get("started", "")), card.fingerprint))
    chosen = {kind: _settings(by.get(first.fingerprint, [])) for kind, by in scored.items()}
    rows = [_row("this model", first, scored, chosen, is_own=True)]
    for card in embeds:
        if card.section.get("model") in BASELINES and _cells(card) == _cells(first):
            rows.append(_row(str(card.section["model"]), card, scored, chosen))
    rows = [rows[0], *sorted({row.name: row for row in rows[1:] if row.scores}.values(), key=lambda row: row.name)]
    return Table(rows, list(_about(first, scored, chosen))) if rows[0].scores else None


def _cards(store: Store, kind: str) -> Iterator[Card]:
    """Yield the cards of the finished artifacts of a kind, by fingerprint; those that cannot be read are left out."""
    seen = set()
    for root in (store.root, *store.upstreams):
        for file in sorted(root.glob(f"{kind}/*/{NAME}")):
            with suppress(CellsslError):
                card = read_card(file.parent)
                if (card.kind, card.fingerprint) == (kind, file.parent.name) and card.fingerprint not in seen:
                    seen.add(card.fingerprint)
                    yield card


def _by_embed(cards: Iterable[Card]) -> dict[str, list[Card]]:
    found: dict[str, list[Card]] = {}
    for card in cards:
        if "embed" in card.inputs:
            found.setdefault(card.inputs["embed"], []).append(card)
    return found


def _is_plain(embed: Card) -> bool:
    """Return whether vectors are those that the shared network gives: of the encoder, of the cell as it is."""
    plain = {"network": "query", "layer": "pooled", "step": "lowest", "view": [], "blocks": []}
    return all(embed.section.get(name, value) == value for name, value in plain.items())


def _cells(embed: Card) -> tuple[str, str | None]:
    kind = str(embed.section.get("cells"))
    return kind, embed.inputs.get(kind)


def _settings(cards: list[Card]) -> dict[str, Any] | None:
    """Return the settings of the newest of some results; None where there is none."""
    newest = max(cards, key=lambda card: (str(card.run.get("started", "")), card.fingerprint), default=None)
    return None if newest is None else _compared(newest)


def _compared(card: Card) -> dict[str, Any]:
    return {name: value for name, value in card.section.items() if name not in NOT_SETTINGS}


def _same(kind: str, embed: Card, scored: Mapping[str, dict[str, list[Card]]], chosen: Mapping[str, Any]) -> list[Card]:
    """Return the results of some vectors that were made with the chosen settings."""
    return [card for card in scored[kind].get(embed.fingerprint, []) if _compared(card) == chosen[kind]]


def _row(
    name: str,
    embed: Card,
    scored: Mapping[str, dict[str, list[Card]]],
    chosen: Mapping[str, Any],
    *,
    is_own: bool = False,
) -> Row:
    scores: dict[str, Score] = {}
    agreements = [one.against["label"] for one in _clusters(embed, scored, chosen) if "label" in one.against]
    if len(agreements) == 1:
        scores["ami"] = Score.of(agreements[0].ami, agreements[0].ami_interval)
    elif agreements:
        scores["ami"] = Score(mean(one.ami for one in agreements))
    for found in _evaluations(embed, scored, chosen)[:1]:
        for metric in ("knn", "linear"):
            accuracy: _Accuracy = getattr(found, metric)
            scores[metric] = Score.of(accuracy.balanced_accuracy, accuracy.balanced_accuracy_interval)
    return Row(name, is_own, scores)


def _clusters(embed: Card, scored: Any, chosen: Any) -> list[_Clusters]:
    return _shaped(_same("cluster", embed, scored, chosen), _Clusters)


def _evaluations(embed: Card, scored: Any, chosen: Any) -> list[_Evaluation]:
    return _shaped(_same("evaluate", embed, scored, chosen), _Evaluation)


def _shaped(cards: Iterable[Card], shape: Any) -> list[Any]:
    """Return the metrics of cards in a shape; those that do not have it are left out."""
    found = []
    for card in cards:
        with suppress(ValidationError):
            found.append(shape.model_validate(card.metrics))
    return found


def _about(embed: Card, scored: Any, chosen: Any) -> Iterator[str]:
    """Yield on which cells the scores are, and what the numbers in brackets mean."""
    clusters, evaluations = _clusters(embed, scored, chosen), _evaluations(embed, scored, chosen)
    labelled = [one for one in clusters if "label" in one.against]
    if labelled:
        seeds = f", mean of {len(labelled)} seeds of the clustering" if len(labelled) > 1 else ""
        part = (chosen["cluster"] or {}).get("part") or ("test" if _cells(embed)[0] == "split" else "all")
        cells = labelled[0].against["label"].cells
        yield (
            f"AMI: {labelled[0].k} clusters of {cells:,} labelled cells (part: {part}){seeds}; 1 is perfect, 0 is "
            "chance."
        )
    if evaluations:
        part = (chosen["evaluate"] or {}).get("part") or "test"
        yield (
            f"Balanced accuracy: classifiers that learned from the train part, on {evaluations[0].cells:,} cells "
            f"(part: {part})."
        )
    yield "In brackets: 95 % intervals from a bootstrap. All rows have the same cells and the same settings of scores."
