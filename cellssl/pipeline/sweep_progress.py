"""sweep_progress: a session with a sweep in, how many seeds of every point are done out."""

from __future__ import annotations

from collections.abc import Mapping

from cellssl.artifacts.card import Card
from cellssl.config.recipe import CHAIN
from cellssl.pipeline.session import Session


def sweep_progress(session: Session) -> tuple[list[str], list[list[str]]]:
    """Return a header and one row per point: of every stage that differs between points, how many seeds are done."""
    points = session.recipe.points
    cards: dict[str, dict[str, dict[str, Card]]] = {arm: {} for arm in session.arms() if arm in points}
    for arm, seed, end in session.grid("report"):
        if arm in cards:
            for planned in session.plan_cells([(arm, seed, end)]):
                cards[arm].setdefault(planned.stage, {})[planned.fingerprint] = planned.card
    varied = [stage for stage in CHAIN if len({tuple(stages.get(stage, ())) for stages in cards.values()}) > 1]
    rows = [[arm, *(_counted(session, stages.get(stage, {})) for stage in varied)] for arm, stages in cards.items()]
    return ["point", *varied], rows


def _counted(session: Session, cards: Mapping[str, Card]) -> str:
    """Return text such as "2 of 5, 1 partial"."""
    states = [session.state(card).partition(" ")[0] for card in cards.values()]
    partial = states.count("partial")
    return f"{states.count('done')} of {len(states)}" + (f", {partial} partial" if partial else "") if states else ""
