"""comparison: two artifacts in; what each is, how their scores differ, and the settings that explain it, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from cellssl.artifacts.card import Card, kind_of_input
from cellssl.artifacts.diff import Change, file_changes, setting_changes, version_changes
from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import CellsslError

THINGS = {
    "fetch": "images",
    "segment": "cells",
    "split": "split",
    "pretrain": "model",
    "embed": "vectors",
    "cluster": "clusters",
    "evaluate": "evaluation",
    "hits": "hits",
    "report": "report",
}
"""What people call the result of a stage."""
SCORES: Mapping[str, Sequence[tuple[str, str]]] = {
    "cluster": [
        ("AMI", "against.label.ami"),
        ("AMI with the plate", "against.plate.ami"),
        ("AMI with the density", "against.density.ami"),
        ("silhouette", "silhouette"),
        ("cells", "cells"),
        ("clusters", "k"),
    ],
    "evaluate": [
        ("kNN", "knn.balanced_accuracy"),
        ("linear", "linear.balanced_accuracy"),
        ("kNN, plates left out", "leave_one_plate_out.knn.balanced_accuracy"),
        ("linear, plates left out", "leave_one_plate_out.linear.balanced_accuracy"),
        ("NSC", "nsc.accuracy"),
        ("NSCB", "nscb.accuracy"),
        ("mAP of replicates", "map_replicates.mean_average_precision"),
        ("mAP of mechanisms", "map_mechanism.mean_average_precision"),
        ("cells", "cells"),
    ],
    "hits": [
        ("active treatments", "active"),
        ("tested treatments", "tested"),
        ("mAP against controls", "mean_average_precision"),
        ("wells", "wells"),
    ],
    "pretrain": [
        ("lowest validation loss", "lowest_validation.loss"),
        ("steps", "steps"),
        ("training cells", "cells"),
    ],
    "embed": [("cells", "cells"), ("numbers per cell", "dim")],
    "fetch": [("fields", "fields"), ("quarantined fields", "quarantined"), ("wells", "wells"), ("plates", "plates")],
    "segment": [("nuclei found", "detected"), ("cells kept", "kept"), ("quarantined fields", "quarantined")],
}
"""Stage -> what a score is called, and where it stands in the metrics of a card."""
OF_REPORT = (
    ("AMI", "ami"),
    ("kNN", "knn"),
    ("linear", "linear"),
    ("linear, plates left out", "linear_leave_one_plate_out"),
    ("active treatments", "hits_active"),
    ("tested treatments", "hits_tested"),
)
"""Scores of a report that are compared arm by arm, as means over seeds."""


@dataclass(frozen=True)
class InputChange:
    """An input that is not the same, and the settings upstream that explain why."""

    name: str
    first: str | None
    second: str | None
    """Fingerprints; None where there is no such input."""
    why: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """What differs between two artifacts."""

    kinds: tuple[str, str]
    names: tuple[str, str]
    """What each is, in words."""
    scores: list[Change]
    """The scores that both have, those that do not differ too; of two reports those that differ."""
    settings: list[Change]
    inputs: list[InputChange]
    versions: list[Change]
    files: list[Change]
    number_of_files: int = 0

    @property
    def is_same(self) -> bool:
        """Whether nothing differs in what determines the results, or in their files."""
        return not (self.settings or self.inputs or self.versions or self.files) and self.kinds[0] == self.kinds[1]


def compare(first: Artifact, second: Artifact, store: Store) -> Comparison:
    """Compare two artifacts by their cards, and by the cards that they were made from, as far as these are there."""
    around = store.with_store_of(first).with_store_of(second)
    cards = first.card, second.card
    return Comparison(
        (cards[0].kind, cards[1].kind),
        (what_it_is(cards[0], around), what_it_is(cards[1], around)),
        _scores(*cards),
        _settings(*cards),
        list(_inputs(*cards, around)),
        version_changes(*cards),
        file_changes(*cards),
        len(cards[0].files.keys() | cards[1].files.keys()),
    )


def _settings(first: Card, second: Card) -> list[Change]:
    """Return the settings that differ; results of different stages have none in common, and the order of the runs in a
    report follows from them."""
    if first.kind != second.kind:
        return []
    return [one for one in setting_changes(first, second) if one.what != "report.order"]


def what_it_is(card: Card, store: Store) -> str:
    """Return in words what a result is: the vectors, the model and the views behind it, as far as they are known."""
    section, of_embed, of_model = card.section, _upstream(card, store, "embed"), _upstream(card, store, "pretrain")
    words = [THINGS.get(card.kind, card.kind)]
    if plate := section.get("plate"):
        words.append(f"of plate {plate}")
    if card.kind == "cluster":
        words.append(f"({_name(section.get('method'))}, k = {section.get('k')})")
    if card.kind == "segment":
        words.append(f"found by {_name(section.get('method'))}")
    if card.kind == "fetch" and "dataset" in section:
        words.append(f"of the data set {_name(section['dataset'])}")
    if of_model is not None:
        words.append(_model(of_model))
    elif of_embed is not None and of_embed.section.get("model"):
        words.append(f"of {_name(of_embed.section['model'])}")
    if card.kind == "report":
        words.append(f"of {section.get('recipe')}")
    seed = next((one.section["seed"] for one in (card, of_model) if one is not None and "seed" in one.section), None)
    return " ".join(words) + ("" if seed is None else f", seed {seed}")


def _model(card: Card) -> str:
    """Return what a network is, and how it was trained; a branch of weight 0 was not."""
    encoder, branches = _name(card.section.get("encoder")), card.section.get("branches") or {}
    active = {name: one for name, one in sorted(branches.items()) if one.get("weight", 1) > 0}
    if not card.section.get("epochs") or not active:
        return f"of the encoder {encoder}, not trained"
    by: dict[str, list[str]] = {}
    for name, one in active.items():
        by.setdefault(_name(one.get("objective")), []).append(name)
    parts = [f"{objective} ({', '.join(names)})" for objective, names in by.items()]
    return f"of the encoder {encoder}, trained by {' and '.join(parts)}"


def _name(plugin: Any) -> str:
    return str(plugin.get("name", "?")) if isinstance(plugin, Mapping) else str(plugin)


def _upstream(card: Card, store: Store, kind: str) -> Card | None:
    """Return the card of this kind itself, or the nearest one that it was made from."""
    if card.kind == kind:
        return card
    for name, fingerprint in sorted(card.inputs.items()):
        found = _card(name, fingerprint, store)
        if found is not None and found.kind != card.kind and (deeper := _upstream(found, store, kind)) is not None:
            return deeper if card.kind != "report" else None
    return None


def _card(name: str, fingerprint: str, store: Store) -> Card | None:
    try:
        found = store.find(kind_of_input(name), fingerprint)
    except CellsslError:
        return None
    return found.card if found is not None else None


def _inputs(first: Card, second: Card, store: Store) -> Iterator[InputChange]:
    """Yield the inputs that differ, and why: the settings that differ in them or further upstream."""
    for name in sorted(first.inputs.keys() | second.inputs.keys()):
        one, other = first.inputs.get(name), second.inputs.get(name)
        if one != other:
            why = list(_causes(name, one, other, store, set())) if one and other else []
            yield InputChange(name, one, other, list(dict.fromkeys(why)))


def _causes(name: str, first: str, second: str, store: Store, seen: set[tuple[str, str, str]]) -> Iterator[Change]:
    """Yield the settings in which two artifacts differ, the nearest first, then those of what they were made from."""
    pair = (kind_of_input(name), first, second)
    if first == second or pair in seen:
        return
    seen.add(pair)
    cards = _card(name, first, store), _card(name, second, store)
    if cards[0] is None or cards[1] is None:
        gone = first if cards[0] is None else second
        yield Change(f"{kind_of_input(name)}/{gone}", "is not in the store", "so its settings are not known")
        return
    yield from setting_changes(cards[0], cards[1])
    for below in sorted(cards[0].inputs.keys() | cards[1].inputs.keys()):
        one, other = cards[0].inputs.get(below), cards[1].inputs.get(below)
        if one and other:
            yield from _causes(below, one, other, store, seen)
        elif one or other:
            words = ["none" if print_ is None else _in_short(below, print_, store) for print_ in (one, other)]
            yield Change(f"the {THINGS.get(kind_of_input(below), below)}", *words)


def _in_short(name: str, fingerprint: str, store: Store) -> str:
    card = _card(name, fingerprint, store)
    return f"{kind_of_input(name)}/{fingerprint}" if card is None else what_it_is(card, store)


def _scores(first: Card, second: Card) -> list[Change]:
    """Return the scores that both have."""
    if first.kind != second.kind:
        return []
    if first.kind == "report":
        return list(_scores_by_arm(first.metrics, second.metrics))
    found = []
    for label, path in SCORES.get(first.kind, ()):
        one, other = _number(first.metrics, path), _number(second.metrics, path)
        if one is not None and other is not None:
            found.append(Change(label, *_both(one, other)))
    return found


def _scores_by_arm(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the scores of two reports that differ, arm by arm, and the arms that only one of them has."""
    means = [_means(one) for one in (first, second)]
    for arm in dict.fromkeys((*means[0], *means[1])):
        if arm not in means[0] or arm not in means[1]:
            yield Change(f"arm {arm}", *("there" if arm in one else "not there" for one in means))
            continue
        for label, name in OF_REPORT:
            one, other = means[0][arm].get(name), means[1][arm].get(name)
            if one is not None and other is not None and one != other:
                yield Change(f"{arm}: {label}", *_both(one, other))


def _means(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return arm -> score -> its mean over seeds."""
    rows = [row for row in metrics.get("scores") or [] if isinstance(row, Mapping)]
    arms = dict.fromkeys(str(row.get("arm")) for row in rows)
    values = {
        (arm, name): [float(row[name]) for row in rows if str(row.get("arm")) == arm and _is_number(row.get(name))]
        for arm in arms
        for _, name in OF_REPORT
    }
    return {arm: {name: fmean(those) for (one, name), those in values.items() if one == arm and those} for arm in arms}


def _number(metrics: Mapping[str, Any], path: str) -> float | None:
    value: Any = metrics
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _both(one: float, other: float) -> tuple[str, str]:
    """Return two numbers with two digits, or with so many that they differ, up to four."""
    if isinstance(one, int) and isinstance(other, int):
        return f"{one:,}", f"{other:,}"
    pairs = ((f"{one:.{digits}f}", f"{other:.{digits}f}") for digits in (2, 3, 4))
    return next((pair for pair in pairs if pair[0] != pair[1]), (f"{one:.4g}", f"{other:.4g}"))
