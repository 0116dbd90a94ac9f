"""export: --output gives real copies, not written again where nothing changed, and no links into the store."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cellssl.artifacts.card import Card, read_card
from cellssl.artifacts.export import copy_card, copy_files
from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import FailedError, UsageError

CARD = Card("split", 1, "0123456789ab", {}, {}, {}, files={})


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    with Store(tmp_path / "store").drafting("split", CARD.fingerprint) as draft:
        draft.file("deep/table.txt").write_text("a table")
        draft.extra("log.txt").write_text("a log")
        return draft.commit(CARD)


def test_a_copied_card_holds_the_path_of_its_artifact(made: Artifact, tmp_path: Path) -> None:
    copy_card(made, tmp_path / "out/F.json")
    assert json.loads((tmp_path / "out/F.json").read_text())["path"] == str(made.path)
    assert read_card(tmp_path / "out/F.json") == made.card


def test_an_unchanged_card_is_not_written_again(made: Artifact, tmp_path: Path) -> None:
    target = tmp_path / "F.json"
    copy_card(made, target)
    os.utime(target, ns=(1, 1))
    copy_card(made, target)
    assert target.stat().st_mtime_ns == 1
    copy_card(replace(made, card=replace(made.card, metrics={"n": 1})), target)
    assert target.stat().st_mtime_ns > 1


def test_copied_files_are_the_files_of_the_result_and_its_card(made: Artifact, tmp_path: Path) -> None:
    copy_files(made, tmp_path / "out")
    copied = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert copied == {"artifact.json", "deep/table.txt"}
    assert Artifact(tmp_path / "out", read_card(tmp_path / "out")).faults() == []


def test_deleting_or_changing_a_copy_leaves_the_store_alone(made: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    copy_files(made, out)
    copy_card(made, tmp_path / "F.json")
    for path in (out / "deep/table.txt", out / "artifact.json", tmp_path / "F.json"):
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1
        path.write_text("changed")
        path.unlink()
    assert made.faults() == []


def test_unchanged_copies_are_not_written_again_and_missing_ones_are(made: Artifact, tmp_path: Path) -> None:
    copy_files(made, tmp_path / "out")
    table, card = tmp_path / "out/deep/table.txt", tmp_path / "out/artifact.json"
    inode = card.stat().st_ino
    table.unlink()
    copy_files(made, tmp_path / "out")
    assert table.read_text() == "a table"
    assert card.stat().st_ino == inode


def test_an_existing_link_is_replaced_and_not_followed(made: Artifact, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "out/deep").mkdir(parents=True)
    for link in (tmp_path / "out/deep/table.txt", tmp_path / "F.json"):
        link.symlink_to(precious)
    copy_files(made, tmp_path / "out")
    copy_card(made, tmp_path / "F.json")
    assert precious.read_text() == "keep"
    assert not (tmp_path / "out/deep/table.txt").is_symlink()
    assert not (tmp_path / "F.json").is_symlink()


def test_a_target_that_cannot_be_written_is_an_error(made: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    for target in (tmp_path / "file/F.json", tmp_path / "folder.json"):
        with pytest.raises(FailedError, match="cannot be written"):
            copy_card(made, target)
    with pytest.raises(UsageError, match="is a file"):
        copy_files(made, tmp_path / "file")
    with pytest.raises(FailedError, match="cannot be written"):
        copy_files(made, tmp_path / "file/out")
    assert not list(tmp_path.glob(".*.tmp"))
