"""methods: runs in; paragraphs on methods that can be pasted into a paper, with references, out; and methods.txt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.tables_common import by_arm

FILE = "methods.txt"


def methods_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the paragraphs, the references, and the settings that are not the defaults; write them as text, too."""
    paragraphs, references = numbered(_paragraphs(runs))
    listed = [f"{number}. {text}" for number, text in enumerate(references, 1)]
    changed = changed_settings(runs)
    text = "\n\n".join([*paragraphs, "References", "\n".join(listed), "Settings that are not the defaults", changed])
    job.draft.file(FILE).write_text(f"{text}\n", encoding="utf-8")
    blocks: list[Block] = [
        Paragraph(
            "To paste into a paper, and to be shortened there. Every number comes from the artifacts that this page was "
            f"made of; {FILE} has the same text."
        ),
        *(Paragraph(words) for words in paragraphs),
        Heading("References"),
        Bullets(listed),
        Details("Settings that are not the defaults", changed),
    ]
    return [Section("Methods", blocks, anchor="methods", is_appendix=True)]


def _paragraphs(runs: Sequence[Run]) -> list[str]:
    """Return the paragraphs, with marks in place of the numbers of references."""
    shown = first_seeds(list(runs))
    trained = [run for run in shown if run.trained]
    with_network = [run for run in shown if any(part.model is not None for part in run.parts)]
    cells = _sentences(_alike(shown, words) for words in (data_words, segmentation_words, split_words))
    networks = _sentences([_alike(with_network, network_words)])
    losses = _sentences(_alike(trained, words) for words in (loss_words, optimisation_words))
    training = [*networks, *branch_words(trained), *losses]
    vectors = _sentences(_alike(shown, words) for words in (vector_words, cluster_words, agreement_words))
    accuracies = _sentences([_alike(shown, evaluation_words)])
    hits = _sentences([_alike(shown, hits_words)])
    software = _sentences([software_words(runs), seeds_words(by_arm(list(runs)))])
    return [" ".join(part) for part in (cells, training, vectors, accuracies, hits, software) if part]


def _sentences(texts: Iterable[str]) -> list[str]:
    """Return the texts that are not empty, each with a capital letter and a full stop."""
    return [f"{text[0].upper()}{text[1:].rstrip('.')}." for text in texts if text]


def _alike(runs: Sequence[Run], words: Callable[[Run], str]) -> str:
    """Return what is true of all arms once, and else the words of each with its arms; empty words are left out."""
    arms: dict[str, list[str]] = {}
    for run in runs:
        arms.setdefault(words(run).rstrip("."), []).append(f"“{run.arm}”")
    if len(arms) < 2:
        return "".join(arms)
    return ". ".join(f"{joined(names)}: {text}" for text, names in arms.items() if text)
