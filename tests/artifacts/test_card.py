"""card: equal results have equal cards, different ones different fingerprints; changed cards are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cellssl.artifacts.card import Card, FileEntry, fingerprint, kind_of_input, read_card
from cellssl.errors import IntegrityError

CARD = Card(
    kind="segment",
    algorithm=1,
    fingerprint="0123456789ab",
    section={"crop_px": 96, "border": "pad", "µ": [0.1, None, True]},
    inputs={"fetch": "ba9876543210"},
    outside={"/a/b.csv": "00" * 32},
    files={"cells.parquet": FileEntry(3, "ab" * 32), "labels/a.tif": FileEntry(0, "cd" * 32)},
    extras=("timings.jsonl",),
    metrics={"kept": 3, "mean": 0.1 + 0.2, "lost": None},
    run={"seconds": 1.5, "cellssl": "0.1.0"},
)


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    assert read_card(tmp_path) == CARD
    assert read_card(tmp_path / "artifact.json") == CARD


def test_equal_cards_are_equal_bytes_whatever_the_order_of_their_keys(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    first = (tmp_path / "artifact.json").read_bytes()
    replace(CARD, section=dict(reversed(CARD.section.items()))).write(tmp_path)
    assert (tmp_path / "artifact.json").read_bytes() == first


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(CARD, metrics={"ami": float("nan")}).write(tmp_path)


def test_every_changed_byte_of_a_card_is_found(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    path = tmp_path / "artifact.json"
    whole = path.read_bytes()
    harmless = []
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x01
        path.write_bytes(bytes(changed))
        try:
            harmless.append(read_card(tmp_path) == CARD)
        except IntegrityError:
            continue
    assert all(harmless)  # whitespace between two words; the card is the same


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", "{", "null", '{"files": 3}', "[" * 100_000, "\0"])
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "artifact.json").write_text(text)
    with pytest.raises(IntegrityError, match="is not the card of an artifact") as raised:
        read_card(tmp_path)
    assert "Error" not in raised.value.message


def test_the_error_about_a_later_format_names_the_version(tmp_path: Path) -> None:
    replace(CARD, format=2, run={"cellssl": "9.1"}).write(tmp_path)
    with pytest.raises(IntegrityError, match=r"has format 2, written by cellssl 9\.1"):
        read_card(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "artifact.json", ""])
def test_a_card_that_names_a_file_elsewhere_is_not_read(tmp_path: Path, name: str) -> None:
    replace(CARD, files={name: FileEntry(1, "ab" * 32)}).write(tmp_path)
    with pytest.raises(IntegrityError, match="it names the file"):
        read_card(tmp_path)


def test_the_fingerprint_is_what_it_was_in_0_2() -> None:
    assert fingerprint("split", 1, {"seed": 1}, {"segment": "a"}, {"table": "b"}) == "5b0381f81a7d"


def test_everything_that_determines_a_result_changes_its_fingerprint() -> None:
    base = ("segment", 1, {"a": 1, "b": {"c": 2}}, {"fetch": "x"}, {"/p": "h"})
    others = [
        ("embed", *base[1:]),
        (base[0], 2, *base[2:]),
        (*base[:2], {"a": 1.5, "b": {"c": 2}}, *base[3:]),
        (*base[:2], {"a": 1, "b": {"c": 3}}, *base[3:]),
        (*base[:3], {"fetch": "y"}, base[4]),
        (*base[:3], {"segment": "x"}, base[4]),
        (*base[:4], {"/p": "other"}),
    ]
    assert len({fingerprint(*one) for one in (base, *others)}) == len(others) + 1


def test_the_order_of_keys_does_not_change_the_fingerprint_and_the_role_of_a_file_does() -> None:
    one = fingerprint("a", 1, {"x": 1, "y": 2}, {"p": "1", "q": "2"}, {"table": "h", "stack": "g"})
    two = fingerprint("a", 1, {"y": 2, "x": 1}, {"q": "2", "p": "1"}, {"stack": "g", "table": "h"})
    exchanged = fingerprint("a", 1, {"x": 1, "y": 2}, {"p": "1", "q": "2"}, {"table": "g", "stack": "h"})
    assert one == two != exchanged


def test_the_kind_of_an_input_follows_from_its_name() -> None:
    kinds = {"segment": "segment", "model": "pretrain", "assign_to": "cluster", "main/0/evaluate": "evaluate"}
    assert {name: kind_of_input(name) for name in kinds} == kinds


def test_a_card_file_holds_the_hash_of_the_card(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    assert json.loads((tmp_path / "artifact.json").read_text())["sha256"] == CARD.sha256()
