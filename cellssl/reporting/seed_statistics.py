"""seed_statistics: scores per arm and seed -> mean and standard deviation per arm, and sentences that state them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CHANCE_AMI = 0.02
"""An AMI below this is not meaningful, even where it is stable over seeds."""
WEAK_AMI = 0.2
"""Below it, clusters separate the classes weakly."""
STRONG_AMI = 0.5
"""Below it, clusters separate the classes in part."""


@dataclass(frozen=True)
class MeanSd:
    """Mean and standard deviation (ddof 1) of one score over seeds."""

    mean: float
    sd: float
    """NaN for a single seed."""
    n: int

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        return number(self.mean) if math.isnan(self.sd) else f"{number(self.mean)} ± {self.sd:.2f}"


@dataclass(frozen=True)
class ArmScores:
    """All scores of one arm over its seeds."""

    arm: str
    by_metric: dict[str, MeanSd]
    """The name of a metric -> its mean and standard deviation over seeds."""


def mean_sd(values: Iterable[float]) -> MeanSd:
    """Return mean, standard deviation and number of the values that are not NaN."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return MeanSd(math.nan, math.nan, 0)
    return MeanSd(fmean(known), stdev(known) if len(known) > 1 else math.nan, len(known))


def aggregate(rows: Sequence[Mapping[str, object]], metrics: Sequence[str]) -> list[ArmScores]:
    """Turn rows of {arm, seed, metric: value, ...} into one entry per arm, in the order of their first rows."""
    arms = dict.fromkeys(str(row["arm"]) for row in rows)
    return [
        ArmScores(arm, {metric: mean_sd(by_seed(rows, arm, metric).values()) for metric in metrics}) for arm in arms
    ]


def by_seed(rows: Sequence[Mapping[str, object]], arm: str, metric: str) -> dict[int, float]:
    """Return one metric of one arm as seed -> value; NaN where a row has no value."""
    of_arm = [row for row in rows if str(row["arm"]) == arm]
    return {int(str(row["seed"])): _float(row.get(metric)) for row in of_arm}


def number(value: float) -> str:
    """Return the value with two decimals, and without a minus before a zero."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def separation(
    what: str,
    ami: MeanSd,
    shuffled: MeanSd | None = None,
    nuisances: Mapping[str, MeanSd] | None = None,
    shuffled_sd: float = 0.0,
) -> str:
    """Return a sentence on whether the clusters separate `what` ("treated and untreated cells"), compared with
    shuffled labels and with nuisance factors such as plates.

    `shuffled_sd` is the standard deviation of the AMI over shuffles of one run's labels, which is large for few cells.
    """
    nuisances = nuisances or {}
    if ami.n == 0:
        return f"{_capital(what)}: no score, because fewer than two classes are labelled."
    compared = [f"shuffled labels {shuffled}"] if shuffled else []
    compared += [f"{name} {score}" for name, score in nuisances.items() if score.n]
    listed = "".join(f"; {each}" for each in compared)
    found = f"{_degree_of_separation(ami, shuffled, shuffled_sd)}: AMI {ami}{_over_seeds(ami)}{listed}."
    return f"{_capital(what)} {found}{_warning(ami, nuisances)}"


def comparison(arm: str, values: Mapping[int, float], other: str, others: Mapping[int, float]) -> str:
    """Return a sentence on whether `arm` scores higher than `other`, by the differences of the seeds that both have."""
    seeds = sorted(seed for seed in values.keys() & others.keys() if not math.isnan(values[seed] + others[seed]))
    differences = [values[seed] - others[seed] for seed in seeds]
    if not differences:
        return f"“{arm}” and “{other}” have no seed in common, so they are not compared."
    found = mean_sd(differences)
    if found.n == 1:
        return (
            f"“{arm}” minus “{other}” is {signed(found.mean)} on one seed, "
            "which does not show whether the difference holds for other seeds."
        )
    low, high = paired_interval(differences)
    wins = sum(difference > 0 for difference in differences)
    numbers = (
        f"difference {signed(found.mean)} ± {found.sd:.2f} over {found.n} seeds, "
        f"95 % interval {signed(low)} to {signed(high)}, higher on {wins} of {found.n}"
    )
    if low > 0:
        return f"“{arm}” is better than “{other}”: {numbers}."
    if high < 0:
        return f"“{arm}” is worse than “{other}”: {numbers}."
    return (
        f"“{arm}” is not clearly different from “{other}”: the interval holds 0, so other seeds may turn the "
        f"difference around: {numbers}."
    )


def best_against_baselines(rows: Sequence[Mapping[str, object]], baselines: Sequence[str], metric: str) -> str:
    """Compare the best trained arm with the best baseline, and say that choosing the best arm afterwards favours it."""
    means = {each.arm: each.by_metric[metric].mean for each in aggregate(rows, [metric])}
    scored = {arm: mean for arm, mean in means.items() if not math.isnan(mean)}
    trained = [arm for arm in scored if arm not in baselines]
    untrained = [arm for arm in scored if arm in baselines]
    if not trained or not untrained:
        missing = "trained arm" if not trained else "baseline"
        return f"There is no {missing} with a score to compare."
    best, base = max(trained, key=scored.__getitem__), max(untrained, key=scored.__getitem__)
    compared = comparison(best, by_seed(rows, best, metric), base, by_seed(rows, base, metric))
    if len(trained) == 1:
        return compared
    picked = f"“{best}” was picked because it scored best of {len(trained)} trained arms, so its score flatters it."
    return f"{compared} {picked}"


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences, by Student's t."""
    from scipy.stats import t

    found = mean_sd(differences)
    reach = float(t.ppf(0.975, found.n - 1)) * found.sd / math.sqrt(found.n)
    return found.mean - reach, found.mean + reach


def _degree_of_separation(ami: MeanSd, shuffled: MeanSd | None, shuffled_sd: float) -> str:
    """Return how far clusters separate the classes, in words; the threshold is what shuffled labels reach."""
    sd = 0.0 if math.isnan(ami.sd) else ami.sd
    level = CHANCE_AMI
    if shuffled is not None and shuffled.n:
        level = max(level, shuffled.mean + 2 * max(shuffled_sd, 0.0 if math.isnan(shuffled.sd) else shuffled.sd))
    if ami.mean <= level:
        return f"do not separate (no better than shuffled labels: an AMI up to {level:.2f} counts as chance)"
    if ami.mean - 2 * sd <= level:
        return (
            "do not separate reliably (the mean less two standard deviations over seeds is not above "
            f"{level:.2f}, which counts as chance)"
        )
    if ami.mean < WEAK_AMI:
        return f"separate weakly (AMI below {WEAK_AMI:g})"
    if ami.mean < STRONG_AMI:
        return f"separate in part (AMI from {WEAK_AMI:g} to {STRONG_AMI:g})"
    return f"separate (AMI of {STRONG_AMI:g} or more)"


def _over_seeds(ami: MeanSd) -> str:
    return f" over {ami.n} seeds" if ami.n > 1 else " on one seed"


def _warning(ami: MeanSd, nuisances: Mapping[str, MeanSd]) -> str:
    """Return a warning where the clusters follow a nuisance factor at least half as much as the classes."""
    rivals = [name for name, score in nuisances.items() if score.n and score.mean > max(CHANCE_AMI, ami.mean / 2)]
    if not rivals:
        return ""
    ahead = [name for name in rivals if nuisances[name].mean >= ami.mean]
    names = " and ".join(ahead or rivals)
    much = "at least as much" if ahead else "more than half as much"
    return f" Caution: the clusters follow {names} {much}, which may explain this score."


def signed(value: float) -> str:
    """Return the value with two decimals and its sign; a zero has no sign."""
    text = number(value)
    return text if text.startswith("-") or text == "0.00" else f"+{text}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _float(value: object) -> float:
    return math.nan if value is None else float(str(value))
