"""methods_scores: a run in; what a paper says on its clusters, accuracies, hits, software and hardware out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cellssl.stages.report.card_settings import complete_section
from cellssl.stages.report.method_words import CLUSTERERS, LINK_REFERENCES, called, joined, listed, value_text
from cellssl.stages.report.references import cite
from cellssl.stages.report.runs import Run, part_of
from cellssl.stages.report.vector_words import LINKS

AGGREGATES = {"median": "medians", "mean": "means", "quantiles": "10, 50 and 90 % quantiles"}
COLUMNS = {"dose_micromolar": "dose", "moa": "mechanism of action", "true_phenotype": "simulated phenotype"}
"""Columns of the cell table -> what a paper calls them; the others have their own names."""
MAPS = {"tsne": ("t-SNE", "tsne"), "umap": ("UMAP", "umap")}
LEFT_OUT = {"plate": "leave-one-plate-out", "well": "leave-one-well-out"}
LIBRARIES = {
    "torch": ("PyTorch", "torch"),
    "scikit-learn": ("scikit-learn", "sklearn"),
    "scikit-image": ("scikit-image", "skimage"),
}


def chain_text(links: Any) -> str:
    """Return the links of a chain of normalisers in words, with their settings and references."""
    if isinstance(links, str):
        links = [] if links == "none" else [links]
    each = []
    for link in links or []:
        settings = dict(link) if isinstance(link, dict) else {"name": link}
        name = str(settings.pop("name"))
        shown = listed(settings)
        keys = [LINK_REFERENCES[name]] if name in LINK_REFERENCES else []
        each.append(f"{LINKS.get(name, name)}{f' ({shown})' if shown else ''}{cite(*keys)}")
    return f"normalised ({', then '.join(each)})" if each else "not normalised"


def cluster_words(run: Run) -> str:
    """Return how the vectors were normalised and clustered, and how the clusters were scored."""
    section, found = complete_section(run.cluster), run.clusters
    if section.get("assign_to"):
        how = "assigned to the clusters of an earlier clustering"
    else:
        method = dict(found.method)
        name = str(method.pop("name", ""))
        shown = listed(method)
        starts = f", {section['n_init']:,} random starts" if "n_init" in section else ""
        how = f"{chain_text(section.get('normalise'))} and clustered by {called(CLUSTERERS, name)}"
        how += f" ({shown})" if shown else ""
        how += f" into k = {found.k} clusters{starts if name in ('kmeans', 'gmm') else ''}"
    part = part_of(run)
    cells = f"the vectors of {found.cells:,} cells{'' if part == 'all' else f' of the {part} part'} were {how}"
    shown_map = section.get("map")
    if shown_map in MAPS:
        name, key = MAPS[shown_map]
        cells += f"; maps were made by {name}{cite(key)}"
    return cells


def agreement_words(run: Run) -> str:
    """Return how clusters were compared with what is known of the cells."""
    if not run.clusters.scores.against:
        return ""
    columns = joined(f"the {COLUMNS.get(name, name.replace('_', ' '))}" for name in run.clusters.scores.against)
    return (
        f"Clusters were compared with {columns} by adjusted mutual information (AMI, arithmetic mean){cite('ami')}, "
        "beside the AMI of shuffled labels, with 95 % intervals by bootstrap over cells"
    )


def evaluation_words(run: Run) -> str:
    """Return how labels were predicted and profiles compared; empty without an evaluation."""
    if run.evaluate is None or run.evaluation is None:
        return ""
    section, found = complete_section(run.evaluate), run.evaluation
    sentences = []
    if found.schemes:
        schemes = [f"on the {section.get('part')} part"] if "split" in found.schemes else []
        schemes += [f"by {name}" for key, name in LEFT_OUT.items() if f"leave_one_{key}_out" in found.schemes]
        what = "Labels" if section.get("label") == "label" else f"Values of {section.get('label')}"
        sentences.append(
            f"{what} were predicted from vectors, {chain_text(section.get('normalise'))}, by the "
            f"{section.get('neighbours')} nearest neighbours and by logistic regression (C = "
            f"{value_text(section.get('C'))}){cite('sklearn')}, {joined(schemes)}; accuracies are balanced over "
            f"classes, with 95 % intervals from {section['bootstrap_draws']:,} bootstrap samples"
        )
    profiles = section["profiles"]
    made = f"{AGGREGATES.get(str(profiles.get('aggregate')), '')} of cells, {chain_text(profiles.get('normalise'))}"
    if found.nsc:
        names = joined(name.upper() for name in found.nsc)
        sentences.append(
            f"Mechanisms of action were predicted from the nearest profile of another compound ({names}){cite('nsc')}; "
            f"profiles are {made}"
        )
    if found.retrieval:
        draws = section["retrieval"]["null_size"]
        sentences.append(
            f"Mean average precision (mAP){cite('map')} of profiles ({made}) was compared with {draws:,} random "
            "rankings"
        )
    return ". ".join(sentences)


def hits_words(run: Run) -> str:
    """Return how treatments were tested; empty without a search for hits."""
    if run.hits_artifact is None or run.hits is None:
        return ""
    section, tested = complete_section(run.hits_artifact), run.hits.tested
    others = "control wells" if section["reference"] != "all" else "all other wells of their plate"
    profiles = (
        f"Profiles of wells are the {AGGREGATES.get(str(section['aggregate']), section['aggregate'])} of their cells "
        f"({chain_text(section['normalise'])}; at least {section['min_cells']} cells per well). Intervals of effects "
        f"come from {section['bootstrap_draws']:,} bootstrap samples of wells"
    )
    if not tested:
        return f"{profiles}. No treatment has the replicates that a test needs, so none was tested"
    null = {
        "permutation": f"{section['null_size']:,} permutations of the labels of wells within "
        f"{joined(map(str, section['permute_within']))}, doubled",
        "random_ranks": f"{section['null_size']:,} random rankings",
    }.get(str(section["null"]), f"“{section['null']}”")
    return (
        f"{profiles}. Whether the wells of a treatment are more like each other than like {others} was measured by "
        f"mean average precision (mAP){cite('map')} with {section['similarity']} similarity. Its p-values come from "
        f"{null}, corrected by Benjamini and Hochberg{cite('bh')}; treatments with q < "
        f"{value_text(section['alpha'])} are called active"
    )


def software_words(runs: Sequence[Run]) -> str:
    """Return the versions and the hardware that the cards of all artifacts name."""
    chains = [chain for run in runs for chain in (run.chain(), *(part.chain() for part in run.blocks))]
    cards = [artifact.card for chain in chains for artifact in chain.values()]
    versions = _values(card.run.get("cellssl") for card in cards)
    libraries = [card.run["libraries"] for card in cards if isinstance(card.run.get("libraries"), dict)]
    named = [
        f"{name} {_either(found)}{cite(key)}"
        for library, (name, key) in LIBRARIES.items()
        if (found := _values(each.get(library) for each in libraries))
    ]
    python = _values(card.run.get("python") for card in cards)
    named += [f"Python {_either(python)}"] if python else []
    text = f"All steps were done with cellssl {_either(versions)}, which implements the method of Bendidi et al."
    text += f"{cite('no_free_lunch')}{f', with {joined(named)}' if named else ''}"
    networks = [card for card in cards if card.kind in ("pretrain", "embed")]
    devices = _values(card.run.get("device") for card in networks)
    return f"{text}. Networks ran on: {_either(devices)}" if devices else text


def _values(values: Iterable[Any]) -> list[str]:
    return sorted({value for value in values if isinstance(value, str)})


def _either(values: Sequence[str]) -> str:
    return " or ".join(values) or "of an unknown version"


def seeds_words(runs_of_arms: Mapping[str, Sequence[Run]]) -> str:
    """Return the seeds of the trainings and clusterings, which all arms share or each has its own."""
    seeds = {tuple(run.seed for run in runs) for runs in runs_of_arms.values()}
    if len(seeds) == 1:
        return f"Seeds: {', '.join(map(str, *seeds))}"
    return "Seeds: " + "; ".join(
        f"{', '.join(str(run.seed) for run in runs)} (“{arm}”)" for arm, runs in runs_of_arms.items()
    )
