"""stage: cluster and evaluate artifacts of all arms and seeds in, one self-contained HTML page with its tables out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from cellssl.config.recipe import BY_HAND
from cellssl.engine.build import Job, Metrics
from cellssl.events import Event, Progress

if TYPE_CHECKING:
    from cellssl.reporting.html import Section
    from cellssl.stages.report.runs import Row, Run


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Collect scores, draw, and write the page."""
    from cellssl.reporting.html import Page, render
    from cellssl.stages.report.findings import lead
    from cellssl.stages.report.runs import collect, row_of
    from cellssl.stages.report.score_tables import result_table
    from cellssl.stages.report.sweep_results import Swept
    from cellssl.stages.report.sweep_section import swept_sections
    from cellssl.stages.report.sweep_text import headline

    runs = collect(job.inputs, job.context.store)
    swept = Swept(job.card.section["sweep"], runs) if "sweep" in job.card.section else None
    scored, shown = (swept.of_test(), swept.shown()) if swept else (runs, runs)
    rows = [row_of(one) for one in scored]
    shown_rows = [row for row in rows if row["arm"] in {one.arm for one in shown}]
    sections: list[Section] = swept_sections(job, swept) if swept else []
    parts: tuple[Callable[[Job, list[Run], list[Row]], list[Section]], ...] = (
        _results,
        _told,
        _pictures,
        _cells,
        _provenance,
    )
    for done, part in enumerate(parts):
        yield Progress(done, len(parts), "sections", part.__name__.strip("_"))
        sections += part(job, shown, shown_rows)
    header, table = result_table(rows, job.settings.paper_ami)
    _write_json(job, "table.json", {"header": header, "rows": table})
    _write_json(job, "scores.json", rows)
    _write_csv(job, rows)
    recipe = job.card.section["recipe"]
    title = job.settings.title or ("Clusters of cells, compared" if recipe == BY_HAND else recipe)
    first = lead(shown, shown_rows, headline(swept) if swept else [])
    job.draft.file("report.html").write_text(render(Page(title, first, sections)), encoding="utf-8")
    return {"runs": len(runs), "arms": len({one.arm for one in scored}), "table": [header, *table], "scores": rows}


def _results(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """What came out, whether to believe it, what is next, and what was compared."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import (
        arm_tables,
        check_table,
        figures,
        score_tables,
    )

    scores = score_tables.results(rows, job.settings.paper_ami)
    blocks = [scores[0], *figures.ami_bars(job, rows), *scores[1:], *score_tables.agreements(runs)]
    return [Section("What came out", blocks), *check_table.believed(runs, rows), *arm_tables.arms(runs)]


def _told(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """How well labels, mechanisms and replicates are told."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import (
        classification_tables,
        figures,
        profile_tables,
    )

    accuracies = classification_tables.told(runs)
    told = [Section("Labels told by classifiers", [*accuracies, *figures.confusions(job, runs)])] if accuracies else []
    return [*told, *profile_tables.profiled(runs)]


def _pictures(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """What the clusters look like, what the views hide, and how training went."""
    from cellssl.stages.report import figures

    return [*figures.clusters(runs), *figures.views(job, runs), *figures.training(job, runs)]


def _cells(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """Counts that balance, and what the cells look like; once for every set of cells."""
    from cellssl.reporting.html import Section
    from cellssl.stages.report import (
        cell_counts,
        figures,
    )

    sets: dict[str, Run] = {}
    for one in runs:
        sets.setdefault(one.cells.fingerprint, one)
    several = len(sets) > 1
    return [
        Section(f"Cells of “{one.arm}”" if several else "Cells", [*cell_counts.counts(one), *figures.sheet(job, one)])
        for one in sets.values()
    ]


def _provenance(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    from cellssl.stages.report import (
        provenance,
    )

    return provenance.provenance(runs)


def _write_json(job: Job, name: str, content: Any) -> None:
    job.draft.file(name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_csv(job: Job, rows: list[Row]) -> None:
    """scores.csv: a row a run, every number in full; empty where a score is not defined."""
    import csv

    names = list(dict.fromkeys(name for row in rows for name in row))
    with job.draft.file("scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
