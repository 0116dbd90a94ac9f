"""since_scores: the scores of arms then and now in; what each score was and is, and the difference, out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cellssl.reporting.html import Value
from cellssl.reporting.seed_statistics import MeanSd, by_seed, mean_sd, paired_interval
from cellssl.stages.report.scores import SCORES, Row, Score

MORE = ("ami_plate", "nsc", "nscb", "map_replicates", "hits_active", "hits_map", "hits_recall_at_1")
"""Scores that are followed besides those of the table of results."""
IN_WORDS = {"ami": "AMI of clusters and label", "silhouette": "silhouette of the clusters"}
"""Scores that sentences are about."""
FOLLOWED = tuple(score for score in SCORES if score.per_arm or score.name in MORE)
HEADER = ("arm", "score", "then", "now", "difference", "95 % interval", "seeds in common")


@dataclass(frozen=True)
class ScoreChange:
    """One score of one arm, then and now."""

    arm: str
    score: Score
    then: MeanSd
    now: MeanSd
    differences: tuple[float, ...]
    """Now minus then, of every seed that both have."""

    @property
    def difference(self) -> float:
        """The mean difference over the seeds that both have, or else the difference of the means."""
        return mean_sd(self.differences).mean if self.differences else self.now.mean - self.then.mean

    @property
    def is_known(self) -> bool:
        """Whether the score was known then and is known now."""
        return self.then.n > 0 and self.now.n > 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean difference over seeds; None for fewer than two seeds in common."""
        return paired_interval(self.differences) if len(self.differences) > 1 else None

    def row(self) -> list[Value]:
        """Return the row of the table."""
        is_count = _is_count(self)
        interval = "–" if self.interval is None else " to ".join(_signed(end, is_count) for end in self.interval)
        change = _signed(self.difference, is_count) if self.is_known else "–"
        each = [_text(one, is_count) for one in (self.then, self.now)]
        return [self.arm, self.score.label, *each, change, interval, len(self.differences)]

    def sentence(self) -> str:
        """Return what happened to the score, as a part of a sentence."""
        what = f"the {IN_WORDS[self.score.name]} of “{self.arm}”"
        if self.then == self.now:
            return f"{what} is {_text(self.now, False, 2)}, as it was"
        decimals = 2 if f"{self.then.mean:.2f}" != f"{self.now.mean:.2f}" else 3
        then, now = (_text(one, False, decimals) for one in (self.then, self.now))
        found = f"{what} went from {then} to {now}"
        if self.interval is None:
            return f"{found} ({self._seeds()})"
        low, high = (_signed(end, False) for end in self.interval)
        return f"{found} (95 % interval of the difference {low} to {high}, {len(self.differences)} seeds)"

    def _seeds(self) -> str:
        """Return which seeds a difference without an interval stands on."""
        if not self.differences:
            return "no seed in common"
        if self.then.n == self.now.n == 1:
            return "one seed"
        return f"on the one seed that both have: {_signed(self.difference, False)}"


def score_changes(arm: str, then: Sequence[Row], now: Sequence[Row]) -> list[ScoreChange]:
    """Return every followed score of an arm that is known then or now; rows are those of the arm, one per seed."""
    found = []
    for score in FOLLOWED:
        before, after = (_of_seeds(rows, score.name) for rows in (then, now))
        both = tuple(after[seed] - before[seed] for seed in after if seed in before)
        change = ScoreChange(arm, score, mean_sd(before.values()), mean_sd(after.values()), both)
        if change.then.n or change.now.n:
            found.append(change)
    return found


def _of_seeds(rows: Sequence[Row], name: str) -> dict[int, float]:
    """Return seed -> value, where it is known; all rows are of one arm."""
    found = {seed: value for row in rows for seed, value in by_seed([row], str(row["arm"]), name).items()}
    return {seed: value for seed, value in found.items() if not math.isnan(value)}


def _is_count(change: ScoreChange) -> bool:
    return change.score.name == "hits_active"


def _text(value: MeanSd, is_count: bool, decimals: int = 3) -> str:
    if not value.n:
        return "–"
    decimals = 0 if is_count and value.mean.is_integer() else decimals
    spread = "" if math.isnan(value.sd) else f" ± {value.sd:.{decimals}f}"
    return f"{_plain(value.mean, decimals)}{spread}"


def _plain(value: float, decimals: int) -> str:
    """Return the number without a minus before a zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _signed(value: float, is_count: bool) -> str:
    text = _plain(value, 0 if is_count and float(value).is_integer() else 3)
    return f"+{text}" if float(text) > 0 else text
