"""methods: runs in; paragraphs on methods that can be pasted into a paper, with references, out; and methods.txt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from cellssl.engine.build import Job
from cellssl.reporting.html import Block, Bullets, Details, Heading, Paragraph, Section
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.changed_settings import changed_settings
from cellssl.stages.report.method_words import joined
from cellssl.stages.report.methods_cells import data_words, segmentation_words, split_words
from cellssl.stages.report.methods_learning import (
    branch_words,
    loss_words,
    network_words,
    optimisation_words,
    vector_words,
)
from cellssl.stages.report.methods_scores import (
    agreement_words,
    cluster_words,
    evaluation_words,
    hits_words,
    seeds_words,
    software_words,
)
from cellssl.stages.report.references import numbered
from cellssl.stages.report.runs import Part, Run, first_seeds
from cellssl.stages.report.tables_common import by_arm

FILE = "methods.txt"
One = TypeVar("One")


def methods_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the paragraphs, the references, and the settings that are not the defaults; write them as text, too."""
    paragraphs, references = numbered(paragraphs_with_marks(runs))
    listed = [f"{number}. {text}" for number, text in enumerate(references, 1)]
    changed = changed_settings(runs)
    text = "\n\n".join([*paragraphs, "References", "\n".join(listed), "Settings that are not the defaults", changed])
    job.draft.file(FILE).write_text(f"{text}\n", encoding="utf-8")
    blocks: list[Block] = [
        Paragraph(
            "To paste into a paper, and to be shortened there. Every number comes from the artifacts that this page "
            f"was made of; {FILE} has the same text."
        ),
        *(Paragraph(words) for words in paragraphs),
        Heading("References"),
        Bullets(listed),
        Details("Settings that are not the defaults", changed),
    ]
    return [Section("Methods", blocks, anchor="methods", is_appendix=True)]


def paragraphs_with_marks(runs: Sequence[Run]) -> list[str]:
    """Return the paragraphs, with marks in place of the numbers of references."""
    shown = first_seeds(list(runs))
    arms = {f"“{run.arm}”": run for run in shown}
    cells = {name: _of_the_same_cells(run, shown) for name, run in arms.items()}
    networks = {_named(run, part): part for run in shown for part in run.parts if part.model is not None}
    trained = {_named(run, part): part for run in shown for part in run.trained}
    paragraphs = [
        [_alike(cells, words) for words in (data_words, segmentation_words, split_words)],
        [_alike(networks, network_words), *branch_words(trained), _alike(trained, loss_words)],
        [_alike(arms, words) for words in (vector_words, cluster_words, agreement_words)],
        [_alike(arms, evaluation_words)],
        [_alike(arms, hits_words)],
        [software_words(runs), seeds_words(by_arm(list(runs)))],
    ]
    paragraphs[1].append(_alike(trained, optimisation_words))
    return [" ".join(sentences) for texts in paragraphs if (sentences := _sentences(texts))]


def _named(run: Run, part: Part) -> str:
    """Return what a paragraph calls a network: by its arm, and its block."""
    return f"block “{part.block}” of “{run.arm}”" if part.block else f"“{run.arm}”"


def _of_the_same_cells(run: Run, shown: Sequence[Run]) -> Run:
    """Return a run of the same cells whose network knows how large crops are, where there is one."""
    same = (one for one in shown if one.cells.fingerprint == run.cells.fingerprint)
    return next((one for one in same if any(part.model is not None for part in one.parts)), run)


def _sentences(texts: Iterable[str]) -> list[str]:
    """Return the texts that are not empty, each with a capital letter and a full stop."""
    return [f"{text[0].upper()}{text[1:].rstrip('.')}." for text in texts if text]


def _alike(each: Mapping[str, One], words: Callable[[One], str]) -> str:
    """Return what is true of all once, and else the words of each with its names; empty words are left out."""
    names: dict[str, list[str]] = {}
    for name, one in each.items():
        names.setdefault(words(one).rstrip("."), []).append(name)
    if len(names) < 2:
        return "".join(names)
    return ". ".join(f"{joined(of)}: {text}" for text, of in names.items() if text)
