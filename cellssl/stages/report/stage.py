"""stage: cluster, evaluate and hits artifacts of all arms and seeds in; a self-contained HTML page with tables out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cellssl.config.recipe import BY_HAND
from cellssl.engine.build import Job, Metrics
from cellssl.events import Event, Progress
from cellssl.spreadsheets import write_rows

if TYPE_CHECKING:
    from cellssl.reporting.html import Block, Section
    from cellssl.stages.report.arm_scores import ScoresByArm
    from cellssl.stages.report.runs import Run
    from cellssl.stages.report.scores import Row


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Collect the scores, draw the figures, and write the page."""
    from cellssl.reporting.html import Folded, Page, Paragraph, render
    from cellssl.reporting.page_size import within
    from cellssl.stages.report.arm_scores import ScoresByArm
    from cellssl.stages.report.check_table import check_sections
    from cellssl.stages.report.checks import checks
    from cellssl.stages.report.findings import answer, first_looks, what_was_done
    from cellssl.stages.report.first_screen import pictures
    from cellssl.stages.report.lights import in_words, lights
    from cellssl.stages.report.runs import collect, row_of
    from cellssl.stages.report.score_tables import result_table
    from cellssl.stages.report.since import since_metrics
    from cellssl.stages.report.sweep_results import SweepResults
    from cellssl.stages.report.sweep_section import sweep_sections
    from cellssl.stages.report.sweep_text import headline

    runs = collect(job.inputs, job.context.store)
    sweep = SweepResults(job.card.section["sweep"], runs) if "sweep" in job.card.section else None
    scored, shown = (sweep.of_test(), sweep.shown()) if sweep else (runs, runs)
    total = len(PARTS) + len(AROUND)
    yield Progress(0, total, "steps", AROUND[0])
    scores = ScoresByArm([row_of(one) for one in scored])
    shown_scores = scores.only(one.arm for one in shown)
    sections: list[Section] = sweep_sections(job, sweep) if sweep else []
    found = checks(shown, shown_scores)
    for done, part in enumerate(PARTS, 1):
        yield Progress(done, total, "steps", part.__name__.strip("_"))
        sections += part(job, shown, shown_scores)
    sections += check_sections(shown, shown_scores, found)
    yield Progress(total - 2, total, "steps", AROUND[1])
    sections.sort(key=lambda section: section.is_appendix)
    header, table = result_table(scores, job.settings.paper_ami)
    _write_json(job, "table.json", {"header": header, "rows": table})
    _write_json(job, "scores.json", scores.rows)
    _write_csv(job, scores.rows)
    _write_blocks(job, scored)
    _write_hits(job, scored)
    recipe = job.card.section["recipe"]
    what = "which treatments changed the cells" if any(run.hits for run in shown) else "clusters of cells"
    title = job.settings.title or ("Clusters of cells, compared" if recipe == BY_HAND else f"{recipe}: {what}")
    if first_looks(runs):
        title += ": a first look"
    lead, glance = answer(shown, shown_scores, found, headline(sweep) if sweep else []), lights(found)
    below = Folded("What was done", [Paragraph(text) for text in what_was_done(shown, shown_scores)])
    first: list[Block] = [*pictures(job, shown, shown_scores), glance]
    yield Progress(total - 1, total, "steps", AROUND[2])
    page = Page(title, lead, within(sections, around=[*first, below]), first, [below])
    with job.draft.file("report.html").open("w", encoding="utf-8") as file:
        file.writelines(render(page))  # the whole page would be tens of megabytes of text
    return {
        "runs": len(runs),
        "arms": len(scores.arms),
        "table": [header, *table],
        "scores": scores.rows,
        "answer": " ".join(lead),
        "lights": in_words(glance),
        **since_metrics(sections),
    }


def _treatments(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return which treatments changed the cells, where they were searched for."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report.hit_arms import arms_by_hits
    from cellssl.stages.report.hit_blocks import hit_blocks, not_computed
    from cellssl.stages.report.hit_sentences import leading_run

    run = leading_run(runs, scores)
    if run is None or run.hits is None:
        return []
    blocks = [*hit_blocks(job, runs, run), *arms_by_hits(runs, scores, run), *not_computed(run.hits)]
    return [Section("Which treatments changed the cells", blocks, anchor="treatments")]


def _since(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return what changed since an earlier page, where one was named."""
    from cellssl.stages.report.since import since_section

    return since_section(job, runs, scores)


def _map(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the map of cells."""
    from cellssl.stages.report.cell_map import map_section

    return map_section(job, runs, scores)


def _clusters(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return what each cluster holds."""
    from cellssl.stages.report.cluster_rows import cluster_section

    return cluster_section(job, runs, scores)


def _arms(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the arms, one row each, with their scores."""
    from cellssl.reporting.html import Paragraph
    from cellssl.stages.report.arms import arms_section
    from cellssl.stages.report.findings import of_clusters

    words = [Paragraph(text) for text in of_clusters(runs, scores)]
    sections = arms_section(job, runs, scores)
    return [replace(one, blocks=[*words, *one.blocks]) if one.anchor == "arms" else one for one in sections]


def _plates(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return a heat map per plate."""
    from cellssl.stages.report.plate_views import plate_section

    return plate_section(job, runs, scores)


def _evaluation(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return how well labels, mechanisms and replicates are predicted."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import figures
    from cellssl.stages.report.block_tables import block_section
    from cellssl.stages.report.classification_tables import classification_tables
    from cellssl.stages.report.profile_tables import profile_section

    tables = classification_tables(runs)
    blocks = [*tables, *figures.confusions(job, runs)] if tables else []
    sections = [Section("Predictions of labels", blocks, is_appendix=True)] if blocks else []
    return [*sections, *block_section(runs), *profile_section(runs)]


def _training(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the figures of views and training."""
    from cellssl.stages.report import figures
    from cellssl.stages.report.cluster_figures import arms_with_vectors

    vectors = arms_with_vectors(runs, scores)
    return [*figures.views(job, runs, vectors), *figures.training(job, runs, vectors)]


def _methods(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return a paragraph on methods, as a paper has it."""
    from cellssl.stages.report.methods import methods_section

    return methods_section(job, runs, scores)


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
        Section(
            f"Cells of “{one.arm}”" if several else "Cells",
            [*count_tables(one), *figures.sheet(job, one, f"cells-{one.arm}" if several else "cells")],
            is_appendix=True,
        )
        for one in sets.values()
    ]


def _provenance(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the artifacts that the numbers come from."""
    from cellssl.reporting.html import Paragraph
    from cellssl.stages.report.cluster_figures import which_files
    from cellssl.stages.report.provenance import provenance

    where = Paragraph(which_files(runs, scores))
    return [replace(section, blocks=[where, *section.blocks]) for section in provenance(runs)]


PARTS: tuple[Callable[[Job, list[Run], ScoresByArm], list[Section]], ...] = (
    _treatments,
    _since,
    _map,
    _clusters,
    _arms,
    _plates,
    _evaluation,
    _training,
    _cells,
    _methods,
    _provenance,
)
"""What makes the sections, in their order, but those on the checks, which end the main part; the appendix comes
last."""
AROUND = ("scores", "first screen", "page")
"""What is done before the sections and after them."""


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
