"""findings: runs and their numbers in; plain words on what was compared and what came out, out."""

from __future__ import annotations

from collections.abc import Sequence

from cellssl.artifacts.tables import read_fields
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd, number
from cellssl.stages.report.arm_scores import (
    arms,
    comes_of_a_lab,
    counted,
    labelled,
    leading,
    number_of_classes,
    spreads_of,
    stray,
)
from cellssl.stages.report.checks import beliefs, collapses
from cellssl.stages.report.runs import Row, Run, active_branches, part_of


def lead(runs: list[Run], rows: list[Row], of_sweep: Sequence[str] = ()) -> list[str]:
    """What was compared and what came out, in a few paragraphs; first of all what a sweep shows, if there is one."""
    words = [_data(runs[0]), _question(runs, rows), *collapses(runs, rows), *of_sweep]
    spreads = spreads_of(rows)
    if labelled(rows):
        words += [
            _separation(runs[0], rows, arm, spreads[arm]) for arm in arms(rows, baseline=False) or [leading(rows)]
        ]
        words += [_baselines(rows, spreads), *_ceiling(rows)]
    else:
        words.append(
            "No cell is labelled as treated or not, so no separation can be scored. “Clusters against every column” "
            "scores them against what else is known; whether they mean something has to be seen in the pictures."
        )
    return [*words, _doubts(runs, rows)]


def describe(run: Run) -> str:
    """What an arm looks at the cells with, in words."""
    model = str(run.embed.card.section["model"])
    match model:
        case "intensities":
            return "the mean of every channel; nothing is learned"
        case "features":
            return "classical features (brightness, texture, area and shape of the nucleus); nothing is learned"
    if run.trained is None:
        how = {"random": "weights as they are drawn, never trained", "imagenet": "weights learned on photographs"}
        return f"{_network(run)}, {how.get(model, 'weights from elsewhere, not trained on these cells')}"
    steps = run.trained.card.metrics["steps"]
    branches = active_branches(run.trained)
    named = " + ".join(f"{branch['weight']:g} × {name}" for name, branch in branches.items())
    return f"{_network(run)}, trained without labels for {steps:,} steps; loss = {named}"


def _network(run: Run) -> str:
    name = run.model.card.section["encoder"]["name"] if run.model else "network"
    return f"network “{name}”"


def _doubts(runs: list[Run], rows: list[Row]) -> str:
    doubts = [one.doubt for one in beliefs(runs, rows) if one.doubt]
    if not doubts:
        return "Nothing that was checked speaks against this; what was checked stands under “Whether to believe it”."
    return f"Believe it with care: {', '.join(doubts)}. See “Whether to believe it” and “What to check next”."


def _data(run: Run) -> str:
    """Which cells, of which plates and compounds."""
    fields = read_fields(run.segment)
    treated = fields[~fields["control"].astype(bool)]
    dataset = run.fetch.card.section["dataset"]["name"] if run.fetch else "unknown"
    if not comes_of_a_lab(run):
        return (
            f"{run.segment.card.metrics['kept']:,} pictures of the data set “{dataset}”; no compound is known of any."
        )
    kind = "Simulated cells" if dataset == "simulated" else f"Cells of the data set “{dataset}”"
    compounds = sorted(treated["compound"].dropna().astype(str).unique())
    doses = treated["dose_micromolar"].dropna().nunique()
    given = f"{len(compounds)} compounds" if len(compounds) > 4 else ", ".join(compounds) or "no compound that is known"
    at = f" at {doses} doses" if doses > 1 else ""
    wells = fields[["plate", "well"]].drop_duplicates()
    controls = fields[fields["control"].astype(bool)][["plate", "well"]].drop_duplicates()
    return (
        f"{kind}: {counted(fields['plate'].nunique(), 'plate')}, {counted(len(wells), 'well')} "
        f"({len(controls)} of them untreated controls), {counted(len(fields), 'field')} of view; {given}{at}."
    )


def _question(runs: list[Run], rows: list[Row]) -> str:
    """What was done to them, and how to read the numbers."""
    run = runs[0]
    section = run.split.card.section if run.split else {}
    label = ""
    if section.get("treated"):
        doses = section["treated"]["doses"]
        which = "all doses" if doses == "all" else f"doses: {doses}"
        label = f" A cell counts as treated where it got {', '.join(section['treated']['compounds'])} ({which})."
    elif section.get("classes"):
        label = f" The label of a cell is its “{section['classes']}”, one of {number_of_classes(rows)}."
    ks = sorted({row["k"] for row in rows})
    arms, seeds = len({one.arm for one in runs}), len({one.seed for one in runs})
    part = part_of(run)
    where = f"the {run.cluster.card.metrics['cells']:,} cells of the part “{part}”" if part != "all" else "all cells"
    return (
        f"{counted(arms, 'way')} of looking at a cell ({counted(seeds, 'seed')} each): every one turns a cell into a "
        f"vector without knowing any label, then {where} fall into {' or '.join(map(str, ks))} clusters, and the "
        f"clusters are compared with what is known.{label} AMI (adjusted mutual information) is 0 for chance and 1 for "
        "full agreement; ± is the standard deviation over seeds."
    )


def _separation(run: Run, rows: list[Row], arm: str, spreads: dict[str, MeanSd]) -> str:
    nuisances = {name: spreads[f"ami_{name}"] for name in ("plate", "density") if f"ami_{name}" in spreads}
    column = run.split.card.section.get("classes") if run.split else None
    what = f"the {number_of_classes(rows)} classes of “{column}”" if column else "treated and untreated cells"
    what = f"with “{arm}”, {what}"
    return seed_statistics.separation(
        what, spreads["ami"], spreads["shuffled"], nuisances, shuffled_sd=stray(rows, arm)
    )


def _baselines(rows: list[Row], spreads: dict[str, dict[str, MeanSd]]) -> str:
    baselines = [arm for arm in arms(rows, baseline=True) if spreads[arm]["ami"].n]
    said = seed_statistics.best_against_baselines(rows, baselines, "ami")
    if not baselines:
        return f"{said} Whether training helped at all is therefore open."
    listed = ", ".join(f"{arm} {spreads[arm]['ami']}" for arm in baselines)
    return f"Baselines, which learn nothing: {listed}. {said}"


def _ceiling(rows: list[Row]) -> list[str]:
    ceilings = [row["ceiling"] for row in rows if row["ceiling"] is not None]
    reached = number(seed_statistics.mean_sd(ceilings).mean)
    if not ceilings or reached == "1.00":
        return []
    return [
        f"Perfect eyes would reach an AMI of {reached} on these simulated cells, because many treated cells look "
        "untreated; it is the ceiling, not 1."
    ]
