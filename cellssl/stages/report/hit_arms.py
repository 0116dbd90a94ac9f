"""hit_arms: runs with hits in; whether arms were searched alike, and how often replicates find each other, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellssl.reporting.html import Block, Folded, Paragraph, Table, Value
from cellssl.stages.hits.is_it_real import ANY
from cellssl.stages.hits.metrics import HitsMetrics
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.hit_rules import RULES, strictest
from cellssl.stages.report.hit_tables import compared_with
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.scores import recall_score
from cellssl.stages.report.tables_common import CELL_COUNT, mean_sd_text
from cellssl.stages.report.vector_words import chain_words

AGGREGATES = {"quantiles": "10, 50 and 90 % quantiles"}
NOT_COMPARED = ("table", "seed")
"""Settings in which a search may differ and still be compared."""


def arms_by_hits(runs: list[Run], scores: ScoresByArm, leading: Run) -> list[Block]:
    """Return whether all arms were searched for hits alike, and which were not; their numbers are with their scores."""
    with_hits = [run for run in first_seeds(runs) if run.hits is not None]
    without = [run.arm for run in first_seeds(runs) if run.hits is None]
    missing = [Paragraph(f"No hits were searched for with: {', '.join(without)}.")] if without else []
    return [*_alike(with_hits), *missing]


def found_by_cell_count(found: HitsMetrics | None) -> dict[str, str]:
    """Return score -> what the number of cells of a well finds alone, which is the same for every arm."""
    if found is None or found.active_by_cell_count is None:
        return {}
    return {"hits_active": f"{found.active_by_cell_count:,} of {found.tested:,}"}


def replicates_table(runs: list[Run], scores: ScoresByArm, leading: Run | None) -> list[Block]:
    """Return a folded table of how often wells find their replicates under every rule; cell count alone comes first."""
    with_hits = [run for run in first_seeds(runs) if run.hits is not None]
    rules = _shown_rules(with_hits)
    if leading is None or leading.hits is None or not rules:
        return []
    found = leading.hits.retrieval
    counts = [found[rule].cell_count_recall_at_1 if rule in found else None for rule in rules]
    rows: list[list[Value]] = []
    if any(count is not None for count in counts):
        rows.append([CELL_COUNT, *(mean_sd_text([count]) for count in counts)])
    for arm in [*scores.baselines, *scores.trained]:
        over_seeds = scores.over_seeds(arm)
        each = [over_seeds.get(recall_score(rule)) for rule in rules]
        if any(one is not None and one.n for one in each):
            rows.append([arm, *(str(one) if one is not None else "–" for one in each)])
    chances = ", ".join(f"{RULES[rule]} {found[rule].chance:.2f}" for rule in rules if rule in found)
    caption = (
        "Share of treated wells whose nearest well, of those allowed, is a replicate (recall at 1); mean ± standard "
        f"deviation over seeds. By chance: {chances}."
    )
    table = Table(["arm or baseline", *(f"nearest is a replicate: {RULES[rule]}" for rule in rules)], rows, caption)
    return [Folded("How often replicates find each other, by where they may lie", [table])]


def _shown_rules(with_hits: Sequence[Run]) -> list[str]:
    """Return the rules that have a column: any well, another plate, another position, and the strictest of any arm."""
    found: dict[str, None] = {}
    for run in with_hits:
        retrieval = run.hits.retrieval if run.hits else {}
        wanted = (ANY, "other_plate", "other_position", strictest(retrieval))
        found |= {rule: None for rule in wanted if rule is not None and rule in retrieval}
    return [rule for rule in RULES if rule in found]


def _alike(with_hits: Sequence[Run]) -> list[Block]:
    """Return how the vectors of all arms were normalised, or a warning that this differs between arms."""
    if differ := _differences(with_hits):
        text = "Be careful: the arms were not searched alike, so in the table of arms their rows cannot be compared."
        return [Paragraph(f"{text} {differ}")]
    found = with_hits[0].hits
    assert found is not None
    centre = "control wells" if compared_with(with_hits[0].found_hits) == "control well" else "mean of all wells"
    wells = f"wells are the {AGGREGATES.get(found.aggregate, found.aggregate)} of their cells"
    words = f"{chain_words(found.normalise)}; {wells}, centred on the {centre} of their plate."
    return [Paragraph(f"All arms were searched alike: {words}" if len(with_hits) > 1 else words[0].upper() + words[1:])]


def _differences(with_hits: Sequence[Run]) -> str:
    """Return in which settings of a search for hits arms differ, with the arms of every value."""
    sections = {run.arm: run.found_hits.card.section for run in with_hits}
    names = sorted({name for section in sections.values() for name in section if name not in NOT_COMPARED})
    sentences = []
    for name in names:
        arms: dict[str, list[str]] = {}
        for arm, section in sections.items():
            arms.setdefault(_words(section.get(name, "–")), []).append(arm)
        if len(arms) > 1:
            each = "; ".join(f"{words} ({', '.join(of)})" for words, of in arms.items())
            sentences.append(f"{name.replace('_', ' ').capitalize()} (hits.{name}): {each}.")
    return " ".join(sentences)


def _words(value: Any) -> str:
    """Return a setting as text: a link of a chain is its name, with its settings in brackets."""
    if isinstance(value, dict):
        own = [f"{name} = {_words(each)}" for name, each in value.items() if name != "name"]
        return str(value.get("name", "")) + (f" ({', '.join(own)})" if own else "")
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)
