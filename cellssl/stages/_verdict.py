"""_verdict: runs and their numbers in; plain words on what came out, whether to believe it and what is next out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cellssl.artifacts.tables import read_fields
from cellssl.reporting import summary
from cellssl.reporting.summary import Spread, number
from cellssl.stages._runs import Row, Run, active_branches, part_of

CHANCE = summary.CHANCE_AMI
NUISANCES = ("plate", "well", "density")
GAP = 0.1
"""A balanced accuracy that falls by more than this on plates that taught nothing has lost something there."""
CURES = {
    "plate": "Clusters follow the plate: see the map coloured by plate; measure every plate by its own controls "
    "(segment.reference), or cluster each plate alone.",
    "well": "Clusters follow wells even among controls: look for edges, focus and staining in the images.",
    "density": "Clusters follow crowding: compare lone cells with crowded ones; a branch whose views keep the centre "
    "alone sees less of the neighbours.",
}
"""What to do where clusters follow a nuisance."""
COLLAPSE_CURE = (
    "Look at the training curves and at the views: a collapse comes of views so strong, or a learning rate so high, "
    "that giving every cell the same vector costs nothing. Lower pretrain.learning_rate, calm the views "
    "(docs/training.md)."
)
MUCH_DROPPED = 0.5
FEW_CELLS = 200


class Belief(NamedTuple):
    """One reason to believe a result, or to doubt it."""

    question: str
    answer: str
    numbers: str
    doubt: str = ""
    """A few words for the summary where the answer speaks against the result, or is not known."""


def lead(runs: list[Run], rows: list[Row], of_sweep: Sequence[str] = ()) -> list[str]:
    """What was compared and what came out, in a few paragraphs; first of all what a sweep shows, if there is one."""
    words = [_data(runs[0]), _question(runs, rows), *collapses(runs, rows), *of_sweep]
    spreads = spreads_of(rows)
    if _labelled(rows):
        words += [
            _separation(runs[0], rows, arm, spreads[arm]) for arm in _arms(rows, baseline=False) or [leading(rows)]
        ]
        words += [_baselines(rows, spreads), *_ceiling(rows)]
    else:
        words.append(
            "No cell is labelled as treated or not, so no separation can be scored. “Clusters against every column” "
            "scores them against what else is known; whether they mean something has to be seen in the pictures."
        )
    return [*words, _doubts(runs, rows)]


def beliefs(runs: list[Run], rows: list[Row]) -> list[Belief]:
    """Whether the numbers mean what they seem to; of the leading arm."""
    arm = leading(rows)
    spreads = spreads_of(rows)[arm]
    run = next(one for one in runs if one.arm == arm)
    asked = [
        _collapse(runs, rows, arm),
        _chance(rows, arm, spreads),
        _beats_baselines(rows, arm),
        _sampling(rows, arm),
        _seeds(spreads),
    ]
    if comes_of_a_lab(run):
        asked += [_nuisance(name, spreads, _plates(rows, arm)) for name in NUISANCES]
        asked += [_leak(run), _unseen(run, spreads, rows), _simulated(run)]
    return [one for one in asked if one]


def next_steps(runs: list[Run], rows: list[Row]) -> list[str]:
    """What to look at or run next, the most pressing first."""
    arm = leading(rows)
    spreads = spreads_of(rows)[arm]
    run = next(one for one in runs if one.arm == arm)
    return [
        *([COLLAPSE_CURE] if collapses(runs, rows) else []),
        *_because_of_labels(runs, rows, spreads),
        *(_because_of_nuisances(run, spreads, _plates(rows, arm)) if comes_of_a_lab(run) else []),
        *_because_of_counts(run, rows, arm),
        f"Look at the cells nearest each centroid of “{arm}” below: do the groups differ in shape and texture, or in "
        "brightness, crowding and focus?",
    ]


def collapses(runs: list[Run], rows: list[Row]) -> list[str]:
    """A sentence on each arm that gives all cells nearly the same vector, or whose projections ended so."""
    from cellssl.learning.gauges import COLLAPSED_SPREAD

    said = []
    for arm in dict.fromkeys(one.arm for one in runs):
        empty = [row["seed"] for row in rows if row["arm"] == arm and row["k"] > 1 and row["clusters_filled"] == 1]
        if empty:
            said.append(
                f"“{arm}” has collapsed ({_seeds_named(empty)}): all cells lie in one cluster, because they have the "
                "same vector or nearly so. Its numbers say nothing."
            )
            continue
        ended = {one.seed: one.projection_spreads() for one in runs if one.arm == arm}
        for branch in dict.fromkeys(branch for each in ended.values() for branch in each):
            low = [seed for seed, each in ended.items() if each.get(branch, 1.0) < COLLAPSED_SPREAD]
            if low:
                found = max(ended[seed][branch] for seed in low)
                said.append(
                    f"The training of “{arm}” ended close to a collapse ({_seeds_named(low)}): projections of its "
                    f"branch “{branch}” hardly differ between cells (spread {found:.3f} at most; 1 is even, 0 all the "
                    "same)."
                )
    return said


def comes_of_a_lab(run: Run) -> bool:
    """Whether something was done to the cells; of mere pictures wells, plates and crowding say nothing."""
    fields = read_fields(run.segment)
    return bool(fields["control"].any() or fields["compound"].notna().any())


def leading(rows: list[Row]) -> str:
    """The trained arm with the highest AMI; of others the first."""
    trained = _arms(rows, baseline=False) or _arms(rows, baseline=True)
    spreads = spreads_of(rows)
    known = [arm for arm in trained if spreads[arm]["ami"].n]
    return max(known, key=lambda arm: spreads[arm]["ami"].mean) if known else trained[0]


def spreads_of(rows: list[Row]) -> dict[str, dict[str, Spread]]:
    """Arm -> score -> mean and standard deviation over its seeds."""
    names = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, str)))
    return {scored.arm: scored.spreads for scored in summary.aggregate(_numbers(rows), names)}


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
        f"{kind}: {_count(fields['plate'].nunique(), 'plate')}, {_count(len(wells), 'well')} "
        f"({len(controls)} of them untreated controls), {_count(len(fields), 'field')} of view; {given}{at}."
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
        label = f" The label of a cell is its “{section['classes']}”, one of {_classes(rows)}."
    ks = sorted({row["k"] for row in rows})
    arms, seeds = len({one.arm for one in runs}), len({one.seed for one in runs})
    part = part_of(run)
    where = f"the {run.cluster.card.metrics['cells']:,} cells of the part “{part}”" if part != "all" else "all cells"
    return (
        f"{_count(arms, 'way')} of looking at a cell ({_count(seeds, 'seed')} each): every one turns a cell into a "
        f"vector without knowing any label, then {where} fall into {' or '.join(map(str, ks))} clusters, and the "
        f"clusters are compared with what is known.{label} AMI (adjusted mutual information) is 0 for chance and 1 for "
        "full agreement; ± is the standard deviation over seeds."
    )


def _separation(run: Run, rows: list[Row], arm: str, spreads: dict[str, Spread]) -> str:
    nuisances = {name: spreads[f"ami_{name}"] for name in ("plate", "density") if f"ami_{name}" in spreads}
    column = run.split.card.section.get("classes") if run.split else None
    what = f"the {_classes(rows)} classes of “{column}”" if column else "treated and untreated cells"
    what = f"with “{arm}”, {what}"
    return summary.separation(what, spreads["ami"], spreads["shuffled"], nuisances, stray=_stray(rows, arm))


def _stray(rows: list[Row], arm: str) -> float:
    """How far the AMI of shuffled labels strays from its mean; the most of all seeds."""
    return max((row["shuffled_sd"] or 0.0) for row in rows if row["arm"] == arm)


def _classes(rows: list[Row]) -> int:
    """How many classes the label has among the clustered cells."""
    return max((row["classes"] or 0 for row in rows), default=0)


def _baselines(rows: list[Row], spreads: dict[str, dict[str, Spread]]) -> str:
    baselines = [arm for arm in _arms(rows, baseline=True) if spreads[arm]["ami"].n]
    said = summary.best_against_baselines(rows, baselines, "ami")
    if not baselines:
        return f"{said} Whether training helped at all is therefore open."
    listed = ", ".join(f"{arm} {spreads[arm]['ami']}" for arm in baselines)
    return f"Baselines, which learn nothing: {listed}. {said}"


def _ceiling(rows: list[Row]) -> list[str]:
    ceilings = [row["ceiling"] for row in rows if row["ceiling"] is not None]
    reached = number(summary.spread(ceilings).mean)
    if not ceilings or reached == "1.00":
        return []
    return [
        f"Perfect eyes would reach an AMI of {reached} on these simulated cells, because many treated cells look "
        "untreated; it is the ceiling, not 1."
    ]


def _collapse(runs: list[Run], rows: list[Row], arm: str) -> Belief | None:
    mine = [one for one in runs if one.arm == arm]
    said = collapses(mine, rows)
    spreads = [value for one in mine for value in one.projection_spreads().values()]
    question = "Has the training kept cells apart?"
    if said:
        return Belief(question, "no", " ".join(said), doubt="the network has collapsed")
    if not spreads:
        return None
    return Belief(
        question, "yes", f"at its end projections spread by {min(spreads):.2f} or more (1 is even, 0 the same)"
    )


def _chance(rows: list[Row], arm: str, spreads: dict[str, Spread]) -> Belief | None:
    if not spreads["ami"].n:
        return None
    strays = _stray(rows, arm)
    level = spreads["shuffled"].mean + 2 * strays
    yes = spreads["ami"].mean > max(level, CHANCE)
    return Belief(
        "Is it more than chance?",
        "yes" if yes else "no",
        f"AMI {spreads['ami']}; with shuffled labels {number(spreads['shuffled'].mean)}, straying by {strays:.3f}",
        doubt="it is not more than chance" if not yes else "",
    )


def _beats_baselines(rows: list[Row], arm: str) -> Belief | None:
    """The leading arm against the best arm that learns nothing, seed by seed."""
    question = "Is it more than what learns nothing gives?"
    means = {each.arm: each.spreads["ami"].mean for each in summary.aggregate(rows, ["ami"]) if each.spreads["ami"].n}
    baselines = [name for name in _arms(rows, baseline=True) if name in means and name != arm]
    if arm not in means or arm in _arms(rows, baseline=True):
        return None
    if not baselines:
        return Belief(question, "not known", "no baseline was run", doubt="no baseline to compare with")
    best = max(baselines, key=means.__getitem__)
    mine, theirs = summary.by_seed(rows, arm, "ami"), summary.by_seed(rows, best, "ami")
    numbers = summary.comparison(arm, mine, best, theirs)
    differences = [mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()]
    if len(differences) < 2 and means[arm] > means[best]:
        return Belief(question, "on one seed", numbers)
    if means[arm] > means[best] and summary.paired_interval(differences)[0] > 0:
        return Belief(question, "yes", numbers)
    if len(differences) > 1 and summary.paired_interval(differences)[1] < 0:
        return Belief(question, "no, it is less", numbers, doubt="worse than what learns nothing")
    return Belief(question, "not clearly", numbers, doubt="not clearly better than what learns nothing")


def _sampling(rows: list[Row], arm: str) -> Belief | None:
    first = next(row for row in rows if row["arm"] == arm)
    if first["ami_low"] is None:
        return None
    low, high = first["ami_low"], first["ami_high"]
    wide = high - low > max(2 * CHANCE, 0.5 * abs(first["ami"]))  # around nothing every interval is wide beside it
    return Belief(
        "Are there cells enough?",
        "barely: the interval is wide" if wide else "yes, for these wells",
        f"95 % interval {number(low)} to {number(high)} (seed {first['seed']}, {first['cells']:,} cells). It takes "
        "cells as independent, which cells of one well are not: other wells will vary more",
        doubt="few cells" if wide else "",
    )


def _seeds(spreads: dict[str, Spread]) -> Belief | None:
    ami = spreads["ami"]
    if not ami.n:
        return None
    if ami.n == 1:
        return Belief("Does another seed give the same?", "not known", "only one seed was run", doubt="one seed only")
    steady = ami.sd <= max(CHANCE, 0.15 * abs(ami.mean))
    few = "; two seeds say little about a spread" if ami.n == 2 else ""
    numbers = f"AMI {ami} over {ami.n} seeds{few}"
    doubt = "" if steady else "seeds differ"
    return Belief("Does another seed give the same?", "yes" if steady else "not quite", numbers, doubt)


def _nuisance(name: str, spreads: dict[str, Spread], plates: int) -> Belief:
    """Plates and wells among controls, where no treatment hides behind them."""
    question = {
        "plate": "Do clusters follow the plate?",
        "well": "Do clusters follow the well?",
        "density": "Do clusters follow crowding?",
    }[name]
    over_all = spreads.get(f"ami_{name}")
    clean = spreads.get(f"ami_{name}_in_controls")
    judged = clean if clean and clean.n else over_all if name != "well" else None
    if judged is None or not judged.n:
        return Belief(question, "not known", *_why_not_known(name, plates))
    ami = spreads["ami"]
    rival = judged.mean > max(CHANCE, ami.mean / 2 if ami.n else CHANCE)
    some = judged.mean > 2 * CHANCE
    numbers = [f"AMI {over_all} over all cells"] if over_all and over_all.n and name != "well" else []
    numbers += [f"AMI {clean} among control cells alone"] if clean and clean.n else []
    if name == "density" and some:
        numbers.append("a drug that kills cells thins them out, so crowding can be its effect as well as a nuisance")
    doubt = f"clusters follow {'crowding' if name == 'density' else f'the {name}'}" if rival else ""
    return Belief(question, "yes, beware" if rival else "a little" if some else "no", "; ".join(numbers), doubt)


def _why_not_known(name: str, plates: int) -> tuple[str, str]:
    """Why nothing can be said of a nuisance, and what of that belongs into the summary."""
    match name:
        case "plate" if plates > 1:
            return "no two plates have controls, and cluster.against leaves the plate out", "not compared with plates"
        case "plate":
            return "the clustered cells lie on one plate", "one plate only"
        case "well":
            why = "no plate has two control wells among the clustered cells: well and drug are not told apart"
            return why, "fewer than two control wells a plate"
    return "the number of neighbours is not known, or cluster.against leaves density out", ""


def _leak(run: Run) -> Belief:
    question = "Did the training see what is tested?"
    if run.trained is None:
        return Belief(question, "no", "nothing was trained on these cells")
    if run.split is None:
        return Belief(question, "no split", "all cells are clustered; the training saw their pixels, but no label")
    leaks = run.split.card.metrics["leaks"]
    numbers = ", ".join(_count(leaks[f"{name}s_in_train_and_test"], name) for name in ("field", "well", "plate"))
    if leaks["wells_in_train_and_test"]:
        answer = "not the cells, but their wells"
    else:
        answer = "not the wells, but their plates" if leaks["plates_in_train_and_test"] else "no"
    doubt = "train and test share wells" if leaks["wells_in_train_and_test"] else ""
    seen = f"{numbers} with cells both in train and in test (no label was used in training)"
    return Belief(question, answer, seen, doubt)


def _unseen(run: Run, spreads: dict[str, Spread], rows: list[Row]) -> Belief | None:
    """Whether what is told within the split is told on plates, or else wells, that taught nothing."""
    seen = run.trained is not None and run.split is not None and run.split is run.cells
    classes = _classes(rows) or 2
    chance = f"chance of {classes} classes is {1 / classes:.2f}"
    knew = "; the classifier was not taught there, but the network may have seen its pixels" if seen else ""
    for name in ("plate", "well"):
        far, near = spreads.get(f"linear_leave_one_{name}_out"), spreads.get("linear")
        if far and far.n:
            falls = near is not None and near.n > 0 and near.mean - far.mean > GAP
            beside = f"; within the split {near}" if near and near.n else ""
            holds = far.mean > 1 / classes + GAP and not falls
            return Belief(
                f"Does it hold on a {name} that taught nothing?",
                "less so" if falls else "yes" if holds else "hardly",
                f"balanced accuracy of a linear probe {far}{beside}; {chance}{knew}",
                doubt="" if holds else f"it is told less well on a {name} that taught nothing",
            )
    return None


def _simulated(run: Run) -> Belief | None:
    if run.fetch is None or run.fetch.card.section["dataset"]["name"] != "simulated":
        return None
    said = "they are simulated: this shows that the chain works, and nothing about drugs"
    return Belief("Are these real cells?", "no", said, doubt="simulated cells")


def _because_of_labels(runs: list[Run], rows: list[Row], spreads: dict[str, Spread]) -> list[str]:
    if not _labelled(rows):
        return ["Name the treated class (split.treated), so that clusters can be scored."]
    steps = []
    if spreads["ami"].n == 1:
        steps.append("Run more seeds (seeds = [0, 1, 2, 3, 4] in the recipe): one does not show a spread.")
    elif spreads["ami"].n == 2:
        steps.append("Run more seeds, five as in the paper: two hardly show a spread.")
    trained, baselines = _arms(rows, baseline=False), _arms(rows, baseline=True)
    if not baselines:
        steps.append("Add the baselines as arms (embed.model = “random”, “intensities”, “features”).")
    means = {arm: each["ami"].mean for arm, each in spreads_of(rows).items() if each["ami"].n}
    best_base = max((means[arm] for arm in baselines if arm in means), default=-math.inf)
    best = max((means[arm] for arm in trained if arm in means), default=-math.inf)
    if trained and baselines and best <= best_base:
        steps.append("The baselines do as well: change the views (docs/views.md) or train longer before anything else.")
    steps += _probe_of_baselines(rows)
    probe = spreads.get("linear")
    if probe and probe.n and probe.mean > 0.75 and spreads["ami"].mean < summary.WEAK_AMI:
        steps.append(
            f"A linear probe tells the label (balanced accuracy {probe}) though the clusters hardly follow it: the "
            "vectors hold it along another axis than K-Means finds. Try cluster.normalise and other cluster.k."
        )
    return steps


def _probe_of_baselines(rows: list[Row]) -> list[str]:
    """A baseline whose vectors tell the label as well as the leading arm's, whatever the clusters say."""
    arm, spreads = leading(rows), spreads_of(rows)
    told = {name: each["linear"] for name, each in spreads.items() if "linear" in each and each["linear"].n}
    others = [name for name in _arms(rows, baseline=True) if name in told and name != arm]
    if arm not in told or arm in _arms(rows, baseline=True) or not others:
        return []
    best = max(others, key=lambda name: told[name].mean)
    if told[best].mean < told[arm].mean:
        return []
    return [
        f"A linear probe tells the label at least as well from “{best}”, which learns nothing (balanced accuracy "
        f"{told[best]}), as from “{arm}” ({told[arm]}): a higher AMI alone does not show that training helped."
    ]


def _because_of_nuisances(run: Run, spreads: dict[str, Spread], plates: int) -> list[str]:
    steps = [CURES[name] for name in NUISANCES if _nuisance(name, spreads, plates).answer == "yes, beware"]
    fields = read_fields(run.segment)
    if fields["plate"].nunique() == 1:
        steps.append("Add a second plate: nothing here can say whether a result holds on another.")
    elif run.trained and run.split and run.split.card.metrics["leaks"]["plates_in_train_and_test"]:
        steps.append("Set split.test_plates, to test on a plate that the network never saw.")
    elif run.split and run.split.card.metrics["leaks"]["wells_in_train_and_test"]:
        steps.append('Set split.by = "well", so that no well is in train and test.')
    return steps


def _because_of_counts(run: Run, rows: list[Row], arm: str) -> list[str]:
    counts = run.segment.card.metrics
    steps = []
    if counts["detected"] and 1 - counts["kept"] / counts["detected"] > MUCH_DROPPED:
        steps.append(
            f"{counts['detected'] - counts['kept']:,} of {counts['detected']:,} nuclei were dropped; see the reasons."
        )
    cells = next(row["cells"] for row in rows if row["arm"] == arm)
    if cells < FEW_CELLS:
        steps.append(
            f"Only {cells:,} cells were clustered: more fields or a larger test part would narrow every interval."
        )
    return steps


def _arms(rows: list[Row], *, baseline: bool) -> list[str]:
    return list(dict.fromkeys(str(row["arm"]) for row in rows if row["baseline"] == baseline))


def _plates(rows: list[Row], arm: str) -> int:
    """On how many plates the clustered cells lie."""
    return max(int(row["plates"]) for row in rows if row["arm"] == arm)


def _seeds_named(seeds: list[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _labelled(rows: list[Row]) -> bool:
    return any(row["ami"] is not None for row in rows)


def _numbers(rows: list[Row]) -> list[Row]:
    """Every row with all that some row has, so that each arm has each score."""
    names = dict.fromkeys(key for row in rows for key in row)
    return [{name: row.get(name) if name != "baseline" else None for name in names} for row in rows]


def _count(number_: int, what: str) -> str:
    return f"{number_:,} {what}{'' if number_ == 1 else 's'}"
