"""hit_checks: runs with hits in; what else could explain the hits, as checks, out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cellssl.counting import counted
from cellssl.reporting import seed_statistics
from cellssl.stages.hits.caution_words import is_of_positions
from cellssl.stages.hits.is_it_real import ANY
from cellssl.stages.hits.metrics import HitsMetrics, RetrievalRule
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check, keyed, not_made, too_little
from cellssl.stages.report.hit_rules import ABOUT, RULES, strictest
from cellssl.stages.report.hit_tables import treatments_of
from cellssl.stages.report.runs import Run

ANY_ACTIVE = "Did more treatments change the cells than chance explains?"
MORE_ACTIVE = "Does it find more treatments than the baselines, which learn nothing?"
BY_CELL_NUMBER = "Would cell number alone find the active treatments?"
APART = "Do replicates find each other on other plates and positions?"
DOUBTFUL = "Does anything make the hits doubtful?"
QUESTIONS = {
    "active": ANY_ACTIVE,
    "active_baselines": MORE_ACTIVE,
    "by_cell_number": BY_CELL_NUMBER,
    "apart": APART,
    "doubtful": DOUBTFUL,
}
ALIKE_NOWHERE = "replicates are not alike anywhere"
FEW_QUERIES = 10
"""With fewer wells, a share of them is uncertain by more than 30 percentage points."""
ON_TREATMENTS = {"active": "more hits than chance", "active_baselines": "more hits than the baselines"}
"""Key of a check -> what its light says, where other pages say it of clusters."""
EFFECT_OR_COUNT = "a drug that kills cells lowers their number, so it can be the effect or all that there is to it"


def hit_checks(runs: Sequence[Run], scores: ScoresByArm) -> list[Check]:
    """Return the checks of the hits of the leading arm; nothing where no run has hits."""
    if not any(run.hits for run in runs):
        return []
    run = next(run for run in runs if run.arm == scores.leading)
    if run.hits is None:
        why = f"no hits were searched for with “{run.arm}”"
        return keyed({key: not_made(question, why) for key, question in QUESTIONS.items()})
    found = {
        "active": any_active(run.hits),
        "active_baselines": more_than_baselines(scores),
        "by_cell_number": by_cell_number(run, run.hits),
        "apart": apart(run.hits),
        "doubtful": doubtful(run.hits),
    }
    return [one._replace(light=ON_TREATMENTS.get(one.key, "")) for one in keyed(found)]


def any_active(found: HitsMetrics) -> Check:
    """Check whether any treatment changed the cells more than chance explains."""
    if not found.tested:
        return too_little(ANY_ACTIVE, "no treatment could be tested", "too few replicates for a test of treatments")
    numbers = (
        f"{found.active:,} of {counted(found.tested, 'tested treatment')} at q < {found.alpha:g}: of these, at most "
        f"{100 * found.alpha:g} % are expected to be chance"
    )
    if found.active:
        return Check(ANY_ACTIVE, "yes", numbers, "passed")
    return Check(ANY_ACTIVE, "no", numbers, "against", "no treatment is active")


def more_than_baselines(scores: ScoresByArm) -> Check | None:
    """Compare the active treatments of the leading arm with those of the best baseline; None where it is a baseline."""
    arm, means = scores.leading, scores.means("hits_active")
    baselines = [name for name in scores.baselines if name in means]
    if arm in scores.baselines:
        return None
    if arm not in means:
        return too_little(MORE_ACTIVE, "no treatment could be tested", "too few replicates for a test of treatments")
    if not baselines:
        return too_little(MORE_ACTIVE, "no baseline was run", "no baseline to compare with")
    return _more_than(scores, arm, max(baselines, key=means.__getitem__))


def _more_than(scores: ScoresByArm, arm: str, best: str) -> Check:
    """Compare an arm with one baseline by the differences of the seeds that both have."""
    means = scores.means("hits_active")
    numbers = f"active treatments (mean over seeds): “{arm}” {means[arm]:.4g}, “{best}” {means[best]:.4g}"
    of_arm, of_best = scores.by_seed(arm, "hits_active"), scores.by_seed(best, "hits_active")
    differences = [of_arm[seed] - of_best[seed] for seed in of_arm.keys() & of_best.keys()]
    if means[arm] == means[best] == 0:
        return too_little(MORE_ACTIVE, f"{numbers}: neither finds any", "no active treatment to compare")
    if means[arm] <= means[best]:
        return Check(MORE_ACTIVE, "no", numbers, "against", "a baseline finds as many treatments")
    if len(differences) < 2:
        return too_little(MORE_ACTIVE, numbers, "one seed only", answer="on one seed")
    if seed_statistics.paired_interval(differences)[0] > 0:
        return Check(MORE_ACTIVE, "yes", numbers, "passed")
    return Check(MORE_ACTIVE, "not clearly", numbers, "against", "not clearly more treatments than a baseline")


def doubtful(found: HitsMetrics) -> Check:
    """Return what the search for hits noticed about the wells and the layout."""
    if not found.cautions:
        return Check(DOUBTFUL, "no", "nothing was noticed about wells and layout", "passed", about=())
    about = ("position",) if any(map(is_of_positions, found.cautions)) else ()
    numbers, doubt = "; ".join(found.cautions), "wells or layout make hits doubtful"
    return Check(DOUBTFUL, "yes", numbers, "against", doubt, about=about)


def by_cell_number(run: Run, found: HitsMetrics) -> Check:
    """Check whether most of the active treatments differ in their number of cells, too."""
    if not found.tested:
        return too_little(BY_CELL_NUMBER, "no treatment could be tested", "too few replicates for a test of treatments")
    if not found.active:
        return not_made(BY_CELL_NUMBER, f"none of {counted(found.tested, 'tested treatment')} is active")
    if found.active_by_cell_count is None:
        return not_made(BY_CELL_NUMBER, "the number of cells of each well is not known")
    table = treatments_of(run.found_hits)
    active = np.array([is_active is True for is_active in table["active"]])
    both = int((active & (table["cell_count_q_value"].to_numpy(float, na_value=math.nan) < found.alpha)).sum())
    numbers = (
        f"{found.active:,} of {counted(found.tested, 'tested treatment')} are active; the number of cells alone finds "
        f"{found.active_by_cell_count:,}, of which {both:,} are among them"
    )
    if both > found.active / 2:
        answer = "all of them" if both == found.active else "most of them"
        return Check(
            BY_CELL_NUMBER, answer, f"{numbers}; {EFFECT_OR_COUNT}", "against", "most hits differ in cell number"
        )
    return Check(BY_CELL_NUMBER, "some of them" if both else "no", numbers, "passed")


def apart(found: HitsMetrics) -> Check:
    """Check whether wells find their replicates where neither plate nor position can be the reason."""
    rule = strictest(found.retrieval)
    check = _apart(found, rule)
    if check.doubt == ALIKE_NOWHERE:
        return check._replace(about=())  # so neither plate nor position makes them alike
    return check._replace(about=None if rule is None else ABOUT[rule])


def _apart(found: HitsMetrics, rule: str | None) -> Check:
    if rule is None:
        reasons = dict.fromkeys(why for name, why in found.not_computed.items() if name in RULES)
        why = "; ".join(reasons) or "no two replicates lie on different plates or at different positions"
        return too_little(APART, why, "replicates on one plate or at one position")
    strict, anywhere = found.retrieval[rule], found.retrieval.get(ANY)
    beside = f"; where it may be {RULES[ANY]}: {_percent(anywhere.recall_at_1)}" if anywhere else ""
    by_count = strict.cell_count_recall_at_1
    alone = f", by cell number alone {_percent(by_count)}" if by_count is not None else ""
    numbers = (
        f"the nearest well is a replicate for {_percent(strict.recall_at_1)} of {counted(strict.queries, 'well')} "
        f"where it has to be from {RULES[rule]} (chance {_percent(strict.chance)}, shuffled wells "
        f"{_percent(strict.shuffled_recall_at_1)}{alone}){beside}"
    )
    if strict.queries < FEW_QUERIES:
        return too_little(APART, numbers, "few replicates apart from each other")
    if not _is_above_chance(strict):
        return Check(APART, "no", numbers, "against", _where_alike(anywhere))
    if anywhere is not None and strict.recall_at_1 < anywhere.recall_at_1 / 2:
        return Check(APART, "less than half as often", numbers, "against", "plate or position makes replicates alike")
    return Check(APART, "yes", numbers, "passed")


def _where_alike(anywhere: RetrievalRule | None) -> str:
    """Return what is known of replicates that do not find each other apart."""
    if anywhere is None:
        return "replicates apart from each other are not alike"
    if anywhere.queries and _is_above_chance(anywhere):
        return "replicates are alike on the same plate or position only"
    return ALIKE_NOWHERE


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _is_above_chance(rule: RetrievalRule) -> bool:
    """Return whether the recall is above chance by more than two standard errors of a share of so many wells."""
    error = math.sqrt(rule.recall_at_1 * (1 - rule.recall_at_1) / rule.queries)
    return rule.recall_at_1 - 2 * error > max(rule.chance, rule.shuffled_recall_at_1)
