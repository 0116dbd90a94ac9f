"""report: cluster and evaluate artifacts of all arms and seeds in, one self-contained HTML page with its tables out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cellssl.events import Event, Progress
from cellssl.recipe import BY_HAND
from cellssl.settings import Strict
from cellssl.stages._make import Job, Metrics

if TYPE_CHECKING:
    from cellssl.reporting.page import Section
    from cellssl.stages._runs import Row, Run

ALGORITHM = 4
"""4: a collapse is said on top, wells are judged within their plate; of a sweep, what only rounding tells apart is
equal, and what counts as many is counted once; figures in strips that print has room for, classes by a row each.
3: words that hold for few cells and for runs without labels or training.
2: whether to believe it and what is next, evaluations, counts that balance, smaller pictures."""


class Settings(Strict):
    """One page of what came out."""

    title: str | None = None
    """Over the page; the recipe's name where nothing is given."""
    paper_ami: dict[str, str] = Field(default_factory=dict)
    """What a paper gives for an arm, shown beside ours: arm -> text such as "0.51 ± 0.02"."""
    view_cells: int = Field(3, ge=1)
    """Cells whose views are shown."""
    view_draws: int = Field(4, ge=1)
    """Draws of every branch's view."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """What a report stands on depends on arms and seeds, so the command line plans it."""
    return ()


def seeded(settings: Settings) -> bool:
    """It aggregates over seeds."""
    return False


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Collect scores, draw, and write the page."""
    from cellssl.reporting.page import Page, render
    from cellssl.stages._runs import collect, row_of
    from cellssl.stages._swept import Swept
    from cellssl.stages._swept_section import swept_sections
    from cellssl.stages._swept_words import headline
    from cellssl.stages._tables import result_table
    from cellssl.stages._verdict import lead

    runs = collect(job.inputs, job.bench.store)
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
    from cellssl.reporting.page import Section
    from cellssl.stages import _pictures, _tables

    scores = _tables.results(rows, job.settings.paper_ami)
    blocks = [scores[0], *_pictures.ami_bars(job, rows), *scores[1:], *_tables.agreements(runs)]
    return [Section("What came out", blocks), *_tables.believed(runs, rows), *_tables.arms(runs)]


def _told(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """How well labels, mechanisms and replicates are told."""
    from cellssl.reporting.page import Section
    from cellssl.stages import _pictures, _tables

    accuracies = _tables.told(runs)
    told = (
        [Section("Labels told by classifiers", [*accuracies, *_pictures.confusions(job, runs)])] if accuracies else []
    )
    return [*told, *_tables.profiled(runs)]


def _pictures(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """What the clusters look like, what the views hide, and how training went."""
    from cellssl.stages import _pictures

    return [*_pictures.clusters(runs), *_pictures.views(job, runs), *_pictures.training(job, runs)]


def _cells(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    """Counts that balance, and what the cells look like; once for every set of cells."""
    from cellssl.reporting.page import Section
    from cellssl.stages import _pictures, _tables

    sets: dict[str, Run] = {}
    for one in runs:
        sets.setdefault(one.cells.fingerprint, one)
    several = len(sets) > 1
    return [
        Section(f"Cells of “{one.arm}”" if several else "Cells", [*_tables.counts(one), *_pictures.sheet(job, one)])
        for one in sets.values()
    ]


def _provenance(job: Job, runs: list[Run], rows: list[Row]) -> list[Section]:
    from cellssl.stages import _tables

    return _tables.provenance(runs)


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
