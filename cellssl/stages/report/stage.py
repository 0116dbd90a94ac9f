"""stage: cluster, evaluate and hits artifacts of all arms and seeds in; a self-contained HTML page with tables out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from cellssl.config.recipe import BY_HAND
from cellssl.engine.build import Job, Metrics
from cellssl.events import Event, Progress
from cellssl.spreadsheets import write_rows

if TYPE_CHECKING:
    from cellssl.reporting.html import Section
    from cellssl.stages.report.arm_scores import ScoresByArm
    from cellssl.stages.report.runs import Run
    from cellssl.stages.report.scores import Row


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Collect the scores, draw the figures, and write the page."""
    from cellssl.reporting.html import Page, render
    from cellssl.stages.report.arm_scores import ScoresByArm
    from cellssl.stages.report.findings import first_looks, lead
    from cellssl.stages.report.runs import collect, row_of
    from cellssl.stages.report.score_tables import result_table
    from cellssl.stages.report.sweep_results import SweepResults
    from cellssl.stages.report.sweep_section import sweep_sections
    from cellssl.stages.report.sweep_text import headline

    runs = collect(job.inputs, job.context.store)
    sweep = SweepResults(job.card.section["sweep"], runs) if "sweep" in job.card.section else None
    scored, shown = (sweep.of_test(), sweep.shown()) if sweep else (runs, runs)
    scores = ScoresByArm([row_of(one) for one in scored])
    shown_scores = scores.only(one.arm for one in shown)
    sections: list[Section] = sweep_sections(job, sweep) if sweep else []
    parts: tuple[Callable[[Job, list[Run], ScoresByArm], list[Section]], ...] = (
        _hits,
        _results,
        _evaluation,
        _pictures,
        _cells,
        _provenance,
    )
    for done, part in enumerate(parts):
        yield Progress(done, len(parts), "sections", part.__name__.strip("_"))
        sections += part(job, shown, shown_scores)
    header, table = result_table(scores, job.settings.paper_ami)
    _write_json(job, "table.json", {"header": header, "rows": table})
    _write_json(job, "scores.json", scores.rows)
    _write_csv(job, scores.rows)
    _write_blocks(job, scored)
    _write_hits(job, scored)
    recipe = job.card.section["recipe"]
    title = job.settings.title or ("Clusters of cells, compared" if recipe == BY_HAND else recipe)
    if first_looks(runs):
        title += ": a first look"
    first = lead(shown, shown_scores, headline(sweep) if sweep else [])
    with job.draft.file("report.html").open("w", encoding="utf-8") as file:
        file.writelines(render(Page(title, first, sections)))  # the whole page would be tens of megabytes of text
    return {"runs": len(runs), "arms": len(scores.arms), "table": [header, *table], "scores": scores.rows}


def _hits(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return which treatments changed the cells, where they were searched for."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report.hit_arms import arms_by_hits
    from cellssl.stages.report.hit_blocks import hit_blocks, not_computed
    from cellssl.stages.report.hit_sentences import leading_run

    run = leading_run(runs, scores)
    if run is None or run.hits is None:
        return []
    blocks = [*hit_blocks(job, runs, run), *arms_by_hits(runs, scores, run), *not_computed(run.hits)]
    return [Section("Which treatments changed the cells", blocks)]


def _results(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the scores, the checks, the next steps, and the arms."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import figures
    from cellssl.stages.report.arm_tables import arm_section
    from cellssl.stages.report.check_table import check_sections
    from cellssl.stages.report.score_tables import agreement_tables, result_blocks

    first, *others = result_blocks(scores, job.settings.paper_ami)
    blocks = [first, *figures.ami_bars(job, scores), *others, *agreement_tables(runs)]
    return [Section("Results", blocks), *check_sections(runs, scores), *arm_section(runs)]


def _evaluation(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return how well labels, mechanisms and replicates are predicted."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import figures
    from cellssl.stages.report.block_tables import block_section
    from cellssl.stages.report.classification_tables import classification_tables
    from cellssl.stages.report.profile_tables import profile_section

    tables = classification_tables(runs)
    sections = [Section("Predictions of labels", [*tables, *figures.confusions(job, runs)])] if tables else []
    return [*sections, *block_section(runs), *profile_section(runs)]


def _pictures(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the figures of clusters, views and training."""
    from cellssl.stages.report import figures

    return [*figures.clusters(runs), *figures.views(job, runs), *figures.training(job, runs)]


def _cells(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the counts of cells and a contact sheet, once for every set of cells."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import figures
    from cellssl.stages.report.cell_counts import count_tables

    sets: dict[str, Run] = {}
    for one in runs:
        sets.setdefault(one.cells.fingerprint, one)
    several = len(sets) > 1
    return [
        Section(f"Cells of “{one.arm}”" if several else "Cells", [*count_tables(one), *figures.sheet(job, one)])
        for one in sets.values()
    ]


def _provenance(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the artifacts that the numbers come from."""
    from cellssl.stages.report.provenance import provenance

    return provenance(runs)


def _write_json(job: Job, name: str, content: Any) -> None:
    job.draft.file(name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_blocks(job: Job, runs: list[Run]) -> None:
    """Write blocks.csv, one row per run, scheme, classifier and block, where vectors have blocks."""
    from cellssl.stages.report.block_tables import CSV_HEADER, csv_rows

    if rows := csv_rows(runs):
        with job.draft.file("blocks.csv").open("w", newline="", encoding="utf-8") as file:
            write_rows(file, CSV_HEADER, rows)


def _write_hits(job: Job, runs: list[Run]) -> None:
    """Write hits.csv, one row per run and treatment, where treatments were tested for hits."""
    from cellssl.artifacts.tables import write_csv, written_flags
    from cellssl.stages.report.hit_tables import all_treatments

    found = [(run.arm, run.seed, run.hits_artifact) for run in runs if run.hits_artifact is not None]
    if (table := all_treatments(found)) is not None:
        write_csv(written_flags(table), job.draft.file("hits.csv"))


def _write_csv(job: Job, rows: Sequence[Row]) -> None:
    """Write scores.csv: one row per run, every number with all digits; empty where a score is not defined."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with job.draft.file("scores.csv").open("w", newline="", encoding="utf-8") as file:
        write_rows(file, names, ([row.get(name) for name in names] for row in rows))
