"""diff: one line per difference, causes before results; times and hosts are not compared."""

from dataclasses import replace

from cellssl.artifacts.card import Card, FileEntry
from cellssl.artifacts.diff import differences

CARD = Card(
    "embed",
    1,
    "0" * 12,
    {"model": "pretrain", "nested": {"a": 1, "b": [1, 2]}},
    {"split": "x"},
    {"/t.csv": "h"},
    {"e.parquet": FileEntry(1000, "ab" * 32)},
    run={"seconds": 1.0, "host": "here", "libraries": {"numpy": "2.0", "torch": "2.6"}},
)


def test_equal_cards_and_other_times_and_hosts_give_no_difference() -> None:
    assert differences(CARD, CARD) == []
    assert differences(CARD, replace(CARD, run={**CARD.run, "seconds": 9.0, "host": "there"})) == []


def test_every_difference_is_named_once_with_both_values() -> None:
    other = replace(
        CARD,
        algorithm=2,
        section={"model": "random", "nested": {"a": 1, "b": [1, 3]}, "new": True},
        inputs={"split": "y", "model": "m"},
        outside={"/t.csv": "g"},
        files={"e.parquet": FileEntry(1001, "cd" * 32), "more": FileEntry(1, "ef" * 32)},
        run={**CARD.run, "libraries": {"numpy": "2.1", "torch": "2.6"}},
    )
    assert differences(CARD, other) == [
        "algorithm: 1 against 2",
        "recipe: model: pretrain against random",
        "recipe: nested.b: [1, 2] against [1, 3]",
        "recipe: new: None against True",
        "input model: None against m",
        "input split: x against y",
        "external file /t.csv: h against g",
        "made with libraries.numpy: 2.0 against 2.1",
        "file e.parquet: 1,000 bytes, sha256 abababababab against 1,001 bytes, sha256 cdcdcdcdcdcd",
        "file more: missing against 1 bytes, sha256 efefefefefef",
    ]


def test_the_differences_are_the_same_in_both_directions() -> None:
    other = replace(CARD, section={}, kind="cluster")
    there, back = differences(CARD, other), differences(other, CARD)
    assert len(there) == len(back) > 0
    assert sorted(line.split(": ")[0] for line in there) == sorted(line.split(": ")[0] for line in back)
