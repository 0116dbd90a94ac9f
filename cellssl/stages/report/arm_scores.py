"""arm_scores: runs and their rows of numbers in; the arms, their spreads, and which of them leads, out."""

from __future__ import annotations

from cellssl.artifacts.tables import read_fields
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd
from cellssl.stages.report.runs import Row, Run


def leading(rows: list[Row]) -> str:
    """The trained arm with the highest AMI; of others the first."""
    trained = arms(rows, baseline=False) or arms(rows, baseline=True)
    spreads = spreads_of(rows)
    known = [arm for arm in trained if spreads[arm]["ami"].n]
    return max(known, key=lambda arm: spreads[arm]["ami"].mean) if known else trained[0]


def spreads_of(rows: list[Row]) -> dict[str, dict[str, MeanSd]]:
    """Arm -> score -> mean and standard deviation over its seeds."""
    names = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, str)))
    return {scored.arm: scored.by_metric for scored in seed_statistics.aggregate(_numbers(rows), names)}


def arms(rows: list[Row], *, baseline: bool) -> list[str]:
    """Names of the arms that learn nothing, or of the others, in the order of the rows."""
    return list(dict.fromkeys(str(row["arm"]) for row in rows if row["baseline"] == baseline))


def labelled(rows: list[Row]) -> bool:
    """Whether any cell has a label, so that clusters are scored against it."""
    return any(row["ami"] is not None for row in rows)


def number_of_classes(rows: list[Row]) -> int:
    """How many classes the label has among the clustered cells."""
    return max((row["classes"] or 0 for row in rows), default=0)


def number_of_plates(rows: list[Row], arm: str) -> int:
    """On how many plates the clustered cells lie."""
    return max(int(row["plates"]) for row in rows if row["arm"] == arm)


def stray(rows: list[Row], arm: str) -> float:
    """How far the AMI of shuffled labels strays from its mean; the most of all seeds."""
    return max((row["shuffled_sd"] or 0.0) for row in rows if row["arm"] == arm)


def comes_of_a_lab(run: Run) -> bool:
    """Whether something was done to the cells; of mere pictures wells, plates and crowding say nothing."""
    fields = read_fields(run.segment)
    return bool(fields["control"].any() or fields["compound"].notna().any())


def counted(number_: int, what: str) -> str:
    """A number with its noun, such as "1 plate" or "2 plates"."""
    return f"{number_:,} {what}{'' if number_ == 1 else 's'}"


def seeds_named(seeds: list[int]) -> str:
    """The seeds as a sentence names them."""
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _numbers(rows: list[Row]) -> list[Row]:
    """Every row with all that some row has, so that each arm has each score."""
    names = dict.fromkeys(key for row in rows for key in row)
    return [{name: row.get(name) if name != "baseline" else None for name in names} for row in rows]
