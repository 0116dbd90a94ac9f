"""arm_scores: the scores of all runs in; mean and standard deviation per arm, and which arm leads, out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import ArmScores, MeanSd
from cellssl.stages.report.scores import Row, Score, scores_per_arm

NOT_SCORES = ("arm", "seed", "baseline")
"""Columns of a row that are not scores."""


@dataclass(frozen=True)
class ScoresByArm:
    """The scores of all runs, with their mean and standard deviation over the seeds of each arm; computed once."""

    rows: Sequence[Row]
    """One row per run."""

    @cached_property
    def arms(self) -> dict[str, ArmScores]:
        """Arm -> all its scores, in the order of the rows."""
        names = list(dict.fromkeys(name for row in self.rows for name in row if name not in NOT_SCORES))
        complete = [{name: row.get(name) for name in ("arm", "seed", *names)} for row in self.rows]
        return {each.arm: each for each in seed_statistics.aggregate(complete, names)}

    @cached_property
    def leading(self) -> str:
        """The trained arm with the highest AMI; where none is trained, the baseline; without AMIs, the first arm."""
        candidates = self.trained or self.baselines
        known = [arm for arm in candidates if self.over_seeds(arm)["ami"].n]
        return max(known, key=lambda arm: self.over_seeds(arm)["ami"].mean) if known else candidates[0]

    @cached_property
    def baselines(self) -> list[str]:
        """Arms that learn nothing."""
        return list(dict.fromkeys(str(row["arm"]) for row in self.rows if row["baseline"]))

    @cached_property
    def trained(self) -> list[str]:
        """All other arms."""
        return list(dict.fromkeys(str(row["arm"]) for row in self.rows if not row["baseline"]))

    @property
    def has_labels(self) -> bool:
        """Whether any cell has a label, so that the clusters can be scored."""
        return any(row["ami"] is not None for row in self.rows)

    @property
    def number_of_classes(self) -> int:
        """The number of classes that the label has among the clustered cells."""
        return max((row["classes"] or 0 for row in self.rows), default=0)

    def over_seeds(self, arm: str) -> dict[str, MeanSd]:
        """Return score -> mean and standard deviation over the seeds of an arm."""
        return self.arms[arm].by_metric

    def means(self, score: str) -> dict[str, float]:
        """Return arm -> mean of a score, for the arms that have it."""
        each = {arm: scores.by_metric[score] for arm, scores in self.arms.items() if score in scores.by_metric}
        return {arm: found.mean for arm, found in each.items() if found.n}

    def by_seed(self, arm: str, score: str) -> dict[int, float]:
        """Return seed -> value of one score of an arm."""
        return seed_statistics.by_seed(self.rows, arm, score)

    def has(self, score: str) -> bool:
        """Return whether any run has a score."""
        return any(row.get(score) is not None for row in self.rows)

    def shown(self) -> list[Score]:
        """Return the scores in the table of scores: those that some run has."""
        known = [score for score in scores_per_arm() if self.has(score.name)]
        return [score for score in known if not any(map(self.has, score.instead_of))]

    def differences(self, arm: str, other: str, score: str) -> list[float]:
        """Return the differences of a score between two arms, for every seed in which both have it."""
        values, others = self.by_seed(arm, score), self.by_seed(other, score)
        each = (values[seed] - others[seed] for seed in sorted(values.keys() & others.keys()))
        return [one for one in each if not math.isnan(one)]

    def rows_of(self, arm: str) -> list[Row]:
        """Return the rows of an arm, one per seed."""
        return [row for row in self.rows if row["arm"] == arm]

    def number_of_plates(self, arm: str) -> int:
        """Return the number of plates of the clustered cells."""
        return max(int(row["plates"]) for row in self.rows_of(arm))

    def shuffled_sd(self, arm: str) -> float:
        """Return the standard deviation of the AMI over shuffles of the labels; the largest of all seeds."""
        return max((row["shuffled_sd"] or 0.0) for row in self.rows_of(arm))

    def only(self, arms: Iterable[str]) -> ScoresByArm:
        """Return the scores of some arms."""
        wanted = set(arms)
        return ScoresByArm([row for row in self.rows if row["arm"] in wanted])


def list_seeds(seeds: list[int]) -> str:
    """Return the seeds as a sentence names them."""
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
