"""sweep_progress: a session with a sweep in, how many seeds of every point are done out."""

from __future__ import annotations

from collections.abc import Mapping

from cellssl.config.recipe import CHAIN
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.session import Session


def sweep_progress(session: Session) -> tuple[list[str], list[list[str]]]:
    """Return a header and one row per point: of every stage that differs between points, how many seeds are done."""
    points = session.recipe.points
    plans: dict[str, dict[str, dict[str, Planned]]] = {arm: {} for arm in session.arms() if arm in points}
    for arm, seed, end in session.grid("report"):
        if arm in plans:
            for planned in session.plan_cells([(arm, seed, end)]):
                plans[arm].setdefault(planned.stage, {})[planned.fingerprint] = planned
    varied = [stage for stage in CHAIN if len({tuple(stages.get(stage, ())) for stages in plans.values()}) > 1]
    rows = [[arm, *(_counted(session, stages.get(stage, {})) for stage in varied)] for arm, stages in plans.items()]
    return ["point", *varied], rows


def _counted(session: Session, plans: Mapping[str, Planned]) -> str:
    """Return text such as "2 of 5, 1 partial"."""
    states = [session.state(planned.card, planned.settings).partition(" ")[0] for planned in plans.values()]
    more = [f"{states.count(state)} {state}" for state in ("partial", "outdated") if state in states]
    return ", ".join([f"{states.count('done')} of {len(states)}", *more]) if states else ""
