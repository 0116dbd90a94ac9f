"""looks: an unchanged card is read once; a changed one, and a file that has gone, are seen at the next look."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cellssl.artifacts.card import NAME, Card
from cellssl.artifacts.looks import card_in, lost_in
from cellssl.errors import IntegrityError

CARD = Card("segment", 1, "0123456789ab", {"crop_px": 96}, {}, {}, {})
NAMES = ("cells.parquet", "labels/a.tif", "labels/deep/b.tif")


def test_a_card_that_has_not_changed_is_read_once(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    make_old(tmp_path)
    assert card_in(tmp_path) is card_in(tmp_path)


def test_a_card_that_was_just_written_is_read_at_every_look(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    assert card_in(tmp_path) is not card_in(tmp_path)


def test_a_card_of_another_content_is_seen_at_once(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    make_old(tmp_path)
    assert card_in(tmp_path) == CARD
    other = replace(CARD, section={"crop_px": 97})
    other.write(tmp_path)
    assert card_in(tmp_path) == other


def test_a_card_that_was_read_and_then_damaged_removed_or_made_a_link_is_refused(tmp_path: Path) -> None:
    for number, damage in enumerate((damaged, removed, linked)):
        folder = tmp_path / str(number)
        folder.mkdir()
        CARD.write(folder)
        make_old(folder)
        card_in(folder)
        damage(folder / NAME)
        with pytest.raises(IntegrityError):
            card_in(folder)


def damaged(card: Path) -> None:
    """Write another byte and set the time of the file back."""
    then = card.stat()
    card.write_bytes(card.read_bytes().replace(b"96", b"97"))
    os.utime(card, ns=(then.st_atime_ns, then.st_mtime_ns))


def removed(card: Path) -> None:
    card.unlink()


def linked(card: Path) -> None:
    card.rename(card.with_name("elsewhere"))
    card.symlink_to("elsewhere")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_goes_after_a_look_is_missed_at_the_next(tmp_path: Path, name: str) -> None:
    for one in NAMES:
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one).touch()
    make_old(tmp_path)
    assert lost_in(tmp_path, NAMES) == []
    (tmp_path / name).unlink()
    assert lost_in(tmp_path, NAMES) == [name]
    (tmp_path / name).touch()
    assert lost_in(tmp_path, NAMES) == []


def test_a_folder_that_goes_after_a_look_takes_its_files_with_it(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.tif").touch()
    make_old(tmp_path)
    assert lost_in(tmp_path, ["labels/a.tif"]) == []
    (tmp_path / "labels").rename(tmp_path / "other")
    assert lost_in(tmp_path, ["labels/a.tif"]) == ["labels/a.tif"]


def make_old(folder: Path) -> None:
    """Wait until every file system shows a later change: only then is a look remembered."""
    newest_s = max(path.stat().st_ctime for path in (folder, *folder.rglob("*")))
    time.sleep(max(0.0, newest_s + 2.1 - time.time()))
