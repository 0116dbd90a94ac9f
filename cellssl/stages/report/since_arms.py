"""since_arms: runs of now and runs of then in; which arm of then each arm of now is compared with out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cellssl.stages.report.runs import Run, arm_words


@dataclass(frozen=True)
class ArmPair:
    """An arm, as it was then and as it is now."""

    arm: str
    """Its name on this page."""
    then: tuple[Run, ...]
    now: tuple[Run, ...]

    @property
    def first(self) -> tuple[Run, Run]:
        """The runs of then and of now of the first seed that both have, or else the first run of each."""
        seeds = self.seeds
        if not seeds:
            return self.then[0], self.now[0]
        return _of_seed(self.then, seeds[0]), _of_seed(self.now, seeds[0])

    @property
    def seeds(self) -> list[int]:
        """The seeds that both have."""
        known = {run.seed for run in self.then}
        return [run.seed for run in self.now if run.seed in known]

    @property
    def of_seeds(self) -> list[tuple[Run, Run]]:
        """The runs of then and of now of every seed that both have."""
        return [(_of_seed(self.then, seed), _of_seed(self.now, seed)) for seed in self.seeds]

    @property
    def is_the_same(self) -> bool:
        """Whether the very same artifacts were and are shown."""
        return _names(self.then) == _names(self.now)


def _of_seed(runs: Iterable[Run], seed: int) -> Run:
    return next(run for run in runs if run.seed == seed)


def _names(runs: Iterable[Run]) -> list[tuple[int, dict[str, str]]]:
    """Return seed and fingerprints of every run."""
    each = [(run.seed, {kind: one.fingerprint for kind, one in run.chain().items()}) for run in runs]
    return sorted(each, key=lambda item: item[0])


@dataclass(frozen=True)
class MatchedArms:
    """The arms that both pages have, and those that only one of them has."""

    pairs: tuple[ArmPair, ...]
    only_then: tuple[str, ...]
    only_now: tuple[str, ...]

    @property
    def is_the_same(self) -> bool:
        """Whether the very same artifacts were and are shown."""
        return not self.only_then and not self.only_now and all(pair.is_the_same for pair in self.pairs)


def matched_arms(then: Sequence[Run], now: Sequence[Run]) -> MatchedArms:
    """Match arms of the same name, then those that are made of the same branches, then single ones.

    A single trained arm is matched with the single trained arm of then: what a user names by hand is called by its
    branches, which may be what was changed.
    """
    of_then, of_now = _by_arm(then), _by_arm(now)
    partners = {arm: arm for arm in of_now if arm in of_then}
    for words, names in _unmatched(of_now, partners.keys()).items():
        others = _unmatched(of_then, partners.values()).get(words, [])
        if len(names) == len(others) == 1:
            partners[names[0]] = others[0]
    now_trained, then_trained = (
        [arm for arm, runs in of.items() if not runs[0].is_baseline] for of in (of_now, of_then)
    )
    for names, others in ((now_trained, then_trained), (list(of_now), list(of_then))):
        if len(names) == len(others) == 1 and names[0] not in partners and others[0] not in partners.values():
            partners[names[0]] = others[0]
    pairs = [ArmPair(arm, of_then[partners[arm]], runs) for arm, runs in of_now.items() if arm in partners]
    only_then = [arm for arm in of_then if arm not in partners.values()]
    return MatchedArms(tuple(pairs), tuple(only_then), tuple(arm for arm in of_now if arm not in partners))


def _by_arm(runs: Sequence[Run]) -> dict[str, tuple[Run, ...]]:
    arms = dict.fromkeys(run.arm for run in runs)
    return {arm: tuple(run for run in runs if run.arm == arm) for arm in arms}


def _unmatched(arms: dict[str, tuple[Run, ...]], matched: Iterable[str]) -> dict[str, list[str]]:
    """Return what arms are made of, in words -> the arms, of those that are not matched yet."""
    known, found = set(matched), dict[str, list[str]]()
    for arm, runs in arms.items():
        if arm not in known:
            found.setdefault(arm_words(runs[0]), []).append(arm)
    return found
