"""stage: embeddings in; which treatments changed the cells, with tables of treatments, wells and plates, out."""

from __future__ import annotations

import json
from collections.abc import Generator

import numpy as np

from cellssl.artifacts.tables import write_csv, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.events import Event, Note, Progress
from cellssl.profiling.normaliser import chain_names
from cellssl.stages.hits.cautions import cautions, cautions_of_effects, cautions_of_spread, many_active
from cellssl.stages.hits.design_warnings import warnings_of
from cellssl.stages.hits.is_it_real import sentence
from cellssl.stages.hits.metrics import HitsMetrics, RetrievalRule
from cellssl.stages.hits.numbers_of_treatments import Numbers, compute
from cellssl.stages.hits.replicates import find_replicates, retrieval_table
from cellssl.stages.hits.screen import read_screen
from cellssl.stages.hits.settings import Settings
from cellssl.stages.hits.side_tables import dose_table, neighbour_tables, plate_table, well_table, write_profiles
from cellssl.stages.hits.study import Study
from cellssl.stages.hits.treatment_table import rounded, treatment_table
from cellssl.stages.shared import learned_labels

PARTS = 4


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Test every treatment, measure what it did, and look at what else could explain it.

    Raises UsageError where there is no treatment, or nothing to compare it with.
    """
    settings: Settings = job.settings
    yield Progress(0, PARTS, "parts", "profiles of wells")
    study = Study.of(read_screen(job), settings)
    learned = [] if settings.table else learned_labels.of_artifact(job.inputs["embed"])
    doubts = [*warnings_of(study), *cautions(study, learned)]
    yield from map(Note, doubts)
    write_profiles(study, job.draft)
    yield Progress(1, PARTS, "parts", "treatments")
    numbers = compute(study)
    active, tested = numbers.q_value < settings.alpha, int((~np.isnan(numbers.q_value)).sum())
    late = cautions_of_effects(numbers.effects) + cautions_of_spread(study, active)
    late += many_active(study, int(active.sum()), tested)
    yield from map(Note, late)
    yield Progress(2, PARTS, "parts", "doses and neighbours")
    doses, (neighbours, nearest) = dose_table(study, numbers), neighbour_tables(study)
    table = treatment_table(study, numbers, nearest, doses)
    write_table(table, job.draft.file("hits.parquet"))
    yield Progress(3, PARTS, "parts", "replicates")
    rules, not_computed = find_replicates(study, numbers.count_ratio)
    for name, frame in (
        ("hits.csv", table),
        ("dose_response.csv", doses),
        ("neighbours.csv", neighbours),
        ("wells.csv", well_table(study, numbers)),
        ("plates.csv", plate_table(study)),
        ("retrieval.csv", retrieval_table(rules, not_computed)),
    ):
        write_csv(rounded(frame), job.draft.file(name))
    metrics = _metrics(study, numbers, rules, not_computed, [*doubts, *late])
    yield Note(metrics.in_words(), "result")
    yield Note(metrics.is_it_real)
    content = metrics.to_json()
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    job.draft.file("hits.json").write_text(text + "\n", encoding="utf-8")
    return content


def _metrics(
    study: Study, numbers: Numbers, rules: dict[str, RetrievalRule], not_computed: dict[str, str], doubts: list[str]
) -> HitsMetrics:
    """Return the counts of wells and treatments, and how they were compared."""
    settings, found, wells = study.settings, numbers.activity, study.profiles.wells
    tested, of_counts = ~np.isnan(numbers.q_value), numbers.count_q_value
    return HitsMetrics(
        wells=len(wells),
        control_wells=int(study.profiles.is_control.sum()),
        plates=wells["plate"].nunique(),
        treatments=len(study.treatments.table),
        tested=int(tested.sum()),
        active=int((numbers.q_value < settings.alpha).sum()),
        alpha=settings.alpha,
        normalise=tuple(chain_names(settings.normalise)),
        aggregate=settings.aggregate,
        dim=study.profiles.x.shape[1],
        mean_average_precision=_mean(found.mean_average_precision),
        smallest_p_value=float(numbers.smallest_p_value.min()) if (found.wells > 0).any() else None,
        active_by_cell_count=None if of_counts is None else int((of_counts < settings.alpha).sum()),
        retrieval=rules,
        not_computed=not_computed,
        is_it_real=sentence(rules, not_computed),
        fitted_by=study.profiles.fitted_by,
        cautions=tuple(doubts),
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
