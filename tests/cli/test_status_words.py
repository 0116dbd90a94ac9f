"""status: when, how large and where, of a recipe and of a whole store, in lines that fit a terminal."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from chain import Chain, say

from cellssl.artifacts.card import read_card

DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d"


def test_a_recipe_is_listed_with_date_size_and_path_in_eighty_columns(chain: Chain) -> None:
    made = chain.made("pretrain")
    lines = chain.say("status").out.splitlines()[:-1]
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if line.startswith(f"pretrain/{made.fingerprint}")]
    assert re.search(rf"main +0 +{DATE} +[\d.,]+ [kM]B +done$", row)
    listed = next(one for one in json.loads(chain.say("status", "--json").out)["stages"] if one["stage"] == "pretrain")
    assert listed["path"] == str(made.path) and listed["bytes"] == sum(one.bytes for one in made.card.files.values())
    assert time.strptime(listed["made"], "%Y-%m-%dT%H:%M:%SZ") >= time.strptime(
        made.card.run["started"], "%Y-%m-%dT%H:%M:%SZ"
    )


def test_a_store_is_listed_without_a_recipe_with_the_arms_that_need_each_result(chain: Chain) -> None:
    said = say("status", "--store", chain.root)
    lines = said.out.splitlines()
    assert said.code == 0 and max(map(len, lines[:-1])) <= 80
    made = chain.made("embed", "intensities")
    (row,) = [line for line in lines if f"embed/{made.fingerprint}" in line]
    assert re.match(rf"  {DATE} +[\d.,]+ [kM]B  ", row) and "intensities" in row and "of tiny" in row
    listed = json.loads(say("status", "--store", chain.root, "--json").out)["results"]
    assert {one["path"] for one in listed} >= {str(path.parent) for path in chain.root.glob("*/*/artifact.json")}
    assert {"recipe": "tiny", "arm": "intensities", "seed": "all"} in next(
        one["pointers"] for one in listed if one["path"] == str(made.path)
    )


def test_what_is_unfinished_outdated_gone_or_unneeded_is_named(chain: Chain, tmp_path: Path) -> None:
    root = chain.copy_cells(tmp_path / "store")
    split = next((root / "split").iterdir())
    card = read_card(split)
    shutil.copytree(split, root / "split" / "0123456789ab")
    type(card)(**{**vars(card), "fingerprint": "0123456789ab", "algorithm": 0}).write(root / "split" / "0123456789ab")
    (root / "split" / "abcdef012345.aside-01234567").mkdir()  # a long name takes no room of other rows
    (root / "pretrain" / "abcdef012345.partial").mkdir(parents=True)
    (root / "pretrain" / "abcdef012345.partial" / "metrics.jsonl").write_text('{"step": 1}\n' * 7)
    pointer = root / "by-recipe" / "r" / "main" / "all" / "split.json"
    pointer.parent.mkdir(parents=True)
    pointer.write_text(json.dumps({"kind": "split", "fingerprint": "ffffffffffff", "path": "split/ffffffffffff"}))
    elsewhere = {"kind": "split", "fingerprint": "eeeeeeeeeeee"}  # it lies in another store: that is no loss
    pointer.with_name("embed.json").write_text(json.dumps(elsewhere))
    out = say("status", "--store", root).out
    assert "eeeeeeeeeeee" not in out
    assert re.search(r"split/0123456789ab +outdated: algorithm 0, now \d", out)
    assert "partial (7 steps)" in out and f"split/{card.fingerprint}  no recipe needs it" in out
    assert "gone, though recipes point there: split/ffffffffffff" in out


@pytest.mark.parametrize(
    ("folder", "code", "words"),
    [("empty", 0, "a store with no results yet"), ("none", 2, "there is no store"), ("other", 2, "is not a store")],
)
def test_an_empty_or_missing_store_says_so_with_the_cure(tmp_path: Path, folder: str, code: int, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("dear")
    said = say("status", "--store", tmp_path / folder)
    assert said.code == code and words in said.out + said.err
    assert "--store" in said.out + said.err


def test_a_store_of_many_results_is_listed_without_reading_their_files(chain: Chain, tmp_path: Path) -> None:
    split = chain.made("split").path
    for number in range(500):
        folder = tmp_path / "store" / "split" / f"{number:012x}"
        folder.mkdir(parents=True)
        shutil.copy(split / "artifact.json", folder)  # no file of the result is there
    said = say("status", "--store", tmp_path / "store")
    assert said.code == 0 and "and 488 older" in said.out and "500 results" in said.out
    assert len(say("status", "--store", tmp_path / "store", "--all").out.splitlines()) > 500


@pytest.mark.parametrize("columns", [40, 50])
def test_a_narrow_terminal_gets_what_a_result_is_called_before_its_date(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr("cellssl.cli.columns.columns_of", lambda _: columns)
    lines = say("status", "--store", chain.root).out.splitlines()
    made = chain.made("cluster").fingerprint
    assert any(line.startswith(f"  cluster/{made}  ") and len(line) <= columns for line in lines)
    assert max(map(len, say("explain", "segment.scale").out.splitlines())) <= columns
