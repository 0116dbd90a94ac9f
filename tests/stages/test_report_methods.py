"""methods: every number of the paragraphs against the cards, and the references against what was used."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellssl.artifacts.store import Artifact
from cellssl.config import plugins
from cellssl.stages.report.changed_settings import changed_settings
from cellssl.stages.report.method_words import CLUSTERERS, OBJECTIVES, OPTIMIZERS, SEGMENTERS, Words
from cellssl.stages.report.methods import paragraphs_with_marks
from cellssl.stages.report.references import MARK, all_references, numbered
from cellssl.stages.report.runs import Run, collect
from tests.chain import Chain
from tests.reporting.test_html import ParsedPage

ARMS = ("main", "intensities")
KINDS = ("cluster", "evaluate", "hits")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)*")
OF_WORDS = {"1", "2", "3", "8", "10", "50", "90", "95", "5"}
"""Numbers of the words themselves: 8 bits, 3 × 3 convolutions, MoCo v2, k = 2 …, 95 % intervals."""


@pytest.fixture(scope="module")
def runs(chain: Chain) -> list[Run]:
    return collect({f"{arm}/0/{kind}": chain.made(kind, arm) for arm in ARMS for kind in KINDS}, chain.store)


@pytest.fixture(scope="module")
def report(chain: Chain) -> Artifact:
    return chain.store.get("report", Path(chain.say("report").line).name)


def text_of(runs: list[Run]) -> str:
    return " ".join(MARK.sub("", text) for text in paragraphs_with_marks(runs))


def with_section(run: Run, kind: str, **changed: Any) -> Run:
    """Return the run with other settings on the card of one of its artifacts."""
    name = {"pretrain": "model", "hits": "hits_artifact"}.get(kind, kind)
    made: Artifact = getattr(run, name)
    card = replace(made.card, section={**made.card.section, **changed})
    return replace(run, **{name: replace(made, card=card)})


def with_a_test(run: Run) -> Run:
    """Return the run with hits of which one treatment could be tested."""
    found = run.found_hits
    card = replace(found.card, metrics={**found.card.metrics, "tested": 1})
    return replace(run, hits_artifact=replace(found, card=card))


def numbers_in(value: Any) -> Iterator[float]:
    """Yield all numbers of a card, also those within text, and shares as percentages."""
    match value:
        case dict():
            for each in value.values():
                yield from numbers_in(each)
        case list():
            for each in value:
                yield from numbers_in(each)
        case str():
            yield from (float(one.replace(",", "")) for one in NUMBER.findall(value) if one.count(".") < 2)
        case int() | float():
            yield float(value)


def test_every_number_of_the_paragraphs_is_on_a_card(chain: Chain, runs: list[Run]) -> None:
    cards = [one.card for run in runs for one in run.chain().values()]
    known = {number for card in cards for part in (card.section, card.metrics, card.run) for number in numbers_in(part)}
    split = {name.partition("/")[0]: 0 for name in runs[0].chain()["split"].card.metrics["counts"]}
    for name, count in runs[0].chain()["split"].card.metrics["counts"].items():
        split[name.partition("/")[0]] += count
    side_um = cards[1].section["crop_px"] * 0.4963
    known |= {*map(float, split.values()), round(side_um, 1)}
    versions = {card.run["cellssl"] for card in cards} | {card.run["python"] for card in cards}
    versions |= {version for card in cards for version in card.run["libraries"].values()}
    for text in NUMBER.findall(text_of(runs)):
        bare = text.rstrip(".,")
        assert bare in versions or bare in OF_WORDS or float(bare.replace(",", "")) in known, bare


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("pretrain", {"batch": 77}, "in batches of 77 cells"),
        ("pretrain", {"optimizer": "lars"}, "by LARS with a momentum of 0.9"),
        ("pretrain", {"clip_norm": 2.5}, "clipped to a norm of 2.5"),
        ("segment", {"border": "drop"}, "cells whose window leaves the field were left out"),
        ("segment", {"method": {"name": "watershed"}}, "by a watershed"),
        ("cluster", {"n_init": 33}, "33 random starts"),
        ("cluster", {"map": "umap"}, "maps were made by UMAP"),
        ("evaluate", {"neighbours": 9}, "by the 9 nearest neighbours"),
        ("hits", {"null_size": 4321}, "4,321 permutations"),
        ("hits", {"reference": "all"}, "all other wells of their plate"),
        ("split", {"group_by": "well"}, "divided by wells"),
    ],
)
def test_a_changed_setting_changes_the_text(runs: list[Run], kind: str, changed: dict[str, Any], words: str) -> None:
    run = with_a_test(runs[0])
    assert words not in text_of([run])
    assert words in text_of([with_section(run, kind, **changed)])


def test_what_arms_share_is_said_once_and_the_rest_with_its_arms(runs: list[Run]) -> None:
    text = text_of(runs)
    assert text.count("nearest neighbours") == 1 and text.count("K-Means") == 1
    assert "“intensities”: the vector of a cell is the mean of every channel" in text
    other = text_of([runs[0], replace(with_section(runs[0], "cluster", n_init=33), arm="other")])
    assert "“main”: the vectors of" in other and "“other”: the vectors of" in other


def references_of(runs: list[Run]) -> str:
    return " ".join(numbered(paragraphs_with_marks(runs))[1])


def test_references_are_those_of_what_was_used(runs: list[Run]) -> None:
    found = references_of([with_a_test(runs[0]), *runs[1:]])
    for work in ("Bendidi", "arXiv:2003.04297", "Lloyd", "Vinh", "Kalinin", "Benjamini", "PyTorch", "scikit-image"):
        assert work in found, work
    assert "Cellpose" not in found and "SimCLR" not in found and "Caie" not in found
    baseline = references_of(runs[1:])
    assert "arXiv:2003.04297" not in baseline and "Adam" not in baseline
    simclr = {"objective": {"name": "simclr"}, "view": ["horizontal_flip"], "views": None, "weight": 1.0}
    assert "2002.05709" in references_of([with_section(runs[0], "pretrain", branches={"context": simclr})])


def test_a_test_that_was_not_made_is_not_described(runs: list[Run]) -> None:
    assert runs[0].hits is not None and not runs[0].hits.tested
    text = text_of(runs[:1])
    assert "so none was tested" in text and "p-values" not in text and "called active" not in text


def test_a_card_that_lacks_settings_is_read_with_their_defaults(runs: list[Run]) -> None:
    run = with_a_test(runs[0])
    card = replace(run.found_hits.card, section={"normalise": ["center_plate"]})
    text = text_of([replace(run, hits_artifact=replace(run.found_hits, card=card))])
    assert "10,000 permutations of the labels of wells within plate" in text and "q < 0.05" in text


def test_of_a_card_without_the_files_of_the_user_only_what_was_changed_is_listed(runs: list[Run]) -> None:
    dataset = {"name": "crop_stack", "axes": "nxyc", "wells": []}
    run = with_section(runs[0], "fetch", dataset=dataset, max_failures=0.01, sample=None, exclude_plates=["P7"])
    lines = [line for line in changed_settings([run]).splitlines() if line.startswith("fetch.")]
    assert [line for line in lines if "controls" not in line] == [
        "fetch.dataset = crop_stack",
        "fetch.dataset.axes = nxyc",
        'fetch.exclude_plates = ["P7"]',
    ]


def test_one_epoch_is_no_plural(runs: list[Run]) -> None:
    assert "for 1 epoch (" in text_of([with_section(runs[0], "pretrain", epochs=1.0)])


def test_references_are_numbered_in_the_order_of_citation(runs: list[Run]) -> None:
    texts, references = numbered(paragraphs_with_marks(runs))
    marks = [int(one) for text in texts for found in re.findall(r"\[([\d, ]+)\]", text) for one in found.split(", ")]
    assert list(dict.fromkeys(marks)) == list(range(1, len(references) + 1))


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("cellssl.learning.objectives", OBJECTIVES),
        ("cellssl.imaging.segmenters", SEGMENTERS),
        ("cellssl.profiling.clusterers", CLUSTERERS),
    ],
)
def test_every_plugin_has_words_and_its_references_are_listed(folder: str, words: dict[str, Words]) -> None:
    assert set(plugins.names(folder)) == set(words)
    assert {key for _, keys in (*words.values(), *OPTIMIZERS.values()) for key in keys} <= all_references().keys()


def test_the_settings_that_are_listed_are_those_of_the_recipe(runs: list[Run]) -> None:
    lines = changed_settings(runs).splitlines()
    assert "segment.crop_px = 48" in lines and "hits.null_size = 200" in lines
    assert "pretrain.batch = 16    (main)" in lines and "embed.model = intensities    (intensities)" in lines
    assert not any("learning_rate" in line for line in lines)


def test_the_page_and_the_file_have_the_same_text(report: Artifact, runs: list[Run]) -> None:
    page = report.file("report.html").read_text(encoding="utf-8")
    shown = " ".join(text for _, text in ParsedPage(page).texts)
    paragraphs = report.file("methods.txt").read_text(encoding="utf-8").partition("\n\nReferences")[0].split("\n\n")
    assert len(paragraphs) == 6
    for words in paragraphs:
        assert " ".join(words.split()) in shown


def test_text_of_a_user_cannot_make_a_citation(runs: list[Run]) -> None:
    treated = {"compounds": ["<moco> <b>"], "doses": "all"}
    texts, references = numbered(paragraphs_with_marks([with_section(runs[1], "split", treated=treated)]))
    assert "<moco> <b>" in texts[0] and "2003.04297" not in " ".join(references)
