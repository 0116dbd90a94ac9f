"""hit_arms: runs with hits in; one table of all arms by hits, the number of cells and the baselines first, out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cellssl.reporting.html import Block, Heading, Paragraph, Table, Value
from cellssl.reporting.seed_statistics import MeanSd, mean_sd
from cellssl.stages.hits.is_it_real import ANY
from cellssl.stages.hits.metrics import HitsMetrics
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.arm_tables import chain_words
from cellssl.stages.report.hit_rules import RULES, strictest
from cellssl.stages.report.hit_tables import compared_with
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.scores import recall_score
from cellssl.stages.shared.card_shapes import embed_section

CELL_COUNT = "cell count"
"""The first row: what the number of cells of a well finds alone."""
BASELINE_ORDER = ("intensities", "features", "cellprofiler", "neighbours", "random", "imagenet")
"""Models of baselines in the order of their rows; other networks that learned nothing here come after them."""
FIRST_HEAD = "arm or baseline"
COUNTS = ("hits_active", "hits_tested")
AGGREGATES = {"quantiles": "10, 50 and 90 % quantiles"}
NOT_COMPARED = ("table", "seed")
"""Settings in which a search may differ and still be compared."""


def arms_by_hits(runs: list[Run], scores: ScoresByArm, leading: Run) -> list[Block]:
    """Return the table of all arms by hits, where any was tested, and whether they were searched for alike."""
    with_hits = [run for run in first_seeds(runs) if run.hits is not None]
    assert leading.hits is not None
    rules = _shown_rules(with_hits)
    names = {"hits_active": "active", "hits_tested": "tested", "hits_map": "mAP"}
    names |= {recall_score(rule): f"recall at 1: {RULES[rule]}" for rule in rules}
    names |= {"nsc": "NSC"}
    names = {name: head for name, head in names.items() if any(row.get(name) is not None for row in scores.rows)}
    if not names:
        return _alike(with_hits)
    rows = _cell_count_rows(leading.hits, rules, list(names))
    for run in sorted(with_hits, key=_place):
        over_seeds = scores.over_seeds(run.arm)
        rows.append([run.arm, *(_shown(name, over_seeds[name]) for name in names), len(scores.rows_of(run.arm))])
    table = Table([FIRST_HEAD, *names.values(), "seeds"], rows, _caption(leading.hits, rules, "hits_map" in names))
    without = [run.arm for run in first_seeds(runs) if run.hits is None]
    missing = [Paragraph(f"No hits were searched for with: {', '.join(without)}.")] if without else []
    return [Heading("All arms by hits"), table, *_alike(with_hits), *missing]


def _shown_rules(with_hits: Sequence[Run]) -> list[str]:
    """Return the rules that have a column: any well, another plate, another position, and the strictest of any arm."""
    found: dict[str, None] = {}
    for run in with_hits:
        retrieval = run.hits.retrieval if run.hits else {}
        wanted = (ANY, "other_plate", "other_position", strictest(retrieval))
        found |= {rule: None for rule in wanted if rule is not None and rule in retrieval}
    return [rule for rule in RULES if rule in found]


def _place(run: Run) -> tuple[bool, int]:
    """Return a sorting key: baselines before what was learned, and known baselines first."""
    model = embed_section(run.embed).model
    known = BASELINE_ORDER.index(model) if model in BASELINE_ORDER else len(BASELINE_ORDER)
    return not run.is_baseline, known if run.is_baseline else 0


def _cell_count_rows(found: HitsMetrics, rules: Sequence[str], names: Sequence[str]) -> list[list[Value]]:
    """Return the row of the number of cells, which is the same for every arm; none where this number is not known."""
    if found.active_by_cell_count is None:
        return []
    known: dict[str, float | None] = {"hits_active": found.active_by_cell_count, "hits_tested": found.tested}
    known |= {
        recall_score(rule): found.retrieval[rule].cell_count_recall_at_1 for rule in rules if rule in found.retrieval
    }
    shown = {name: _shown(name, mean_sd([value])) for name, value in known.items() if value is not None}
    return [[CELL_COUNT, *(shown.get(name, "–") for name in names), None]]


def _shown(name: str, score: MeanSd) -> str:
    """Return a score over seeds as text; counts have no decimals that they do not need."""
    if name not in COUNTS or not score.n:
        return str(score)
    return f"{score.mean:,.0f}" if math.isnan(score.sd) or score.sd == 0 else f"{score.mean:,.1f} ± {score.sd:.1f}"


def _caption(found: HitsMetrics, rules: Sequence[str], has_map: bool) -> str:
    chances = [f"{RULES[rule]} {found.retrieval[rule].chance:.2f}" for rule in rules if rule in found.retrieval]
    by_chance = f" By chance it is: {', '.join(chances)}." if chances else ""
    recall = (
        "Recall at 1: share of treated wells whose nearest well of those allowed (on another plate, at another "
        f"position) has the same treatment.{by_chance}"
    )
    precision = "mAP: mean average precision of replicates against control wells, over the tested treatments."
    parts = ["Mean ± standard deviation over seeds.", *([precision] if has_map else []), *([recall] if rules else [])]
    is_known = found.active_by_cell_count is not None
    alone = "knows the number of cells of a well and nothing else" if is_known else "has no row: it is not known"
    parts.append(f"“{CELL_COUNT}” {alone}.")
    return " ".join(parts)


def _alike(with_hits: Sequence[Run]) -> list[Block]:
    """Return how the vectors of all arms were normalised, or a warning that this differs between arms."""
    if differ := _differences(with_hits):
        return [Paragraph(f"Be careful: the arms were not searched alike, so their rows cannot be compared. {differ}")]
    found = with_hits[0].hits
    assert found is not None
    centre = "control wells" if compared_with(with_hits[0].found_hits) == "control well" else "mean of all wells"
    wells = f"wells are the {AGGREGATES.get(found.aggregate, found.aggregate)} of their cells"
    words = f"{chain_words(found.normalise)}; {wells}, centred on the {centre} of their plate."
    return [Paragraph(f"All arms alike: {words}" if len(with_hits) > 1 else words[0].upper() + words[1:])]


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
            sentences.append(f"hits.{name}: {each}.")
    return " ".join(sentences)


def _words(value: Any) -> str:
    """Return a setting as text: a link of a chain is its name, with its settings in brackets."""
    if isinstance(value, dict):
        own = [f"{name} = {_words(each)}" for name, each in value.items() if name != "name"]
        return str(value.get("name", "")) + (f" ({', '.join(own)})" if own else "")
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)
