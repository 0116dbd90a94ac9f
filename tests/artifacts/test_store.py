"""store: a finished result is complete, never edited, and found by folder, card or fingerprint."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY

from cellssl.artifacts.card import Card
from cellssl.artifacts.export import copy_files
from cellssl.artifacts.store import MARKER, Artifact, Store
from cellssl.errors import BusyError, DataError, FailedError, IntegrityError, UsageError

PRINT = "0123456789ab"
CARD = Card("split", 1, PRINT, {}, {}, {}, files={})


def make(store: Store, content: str = "a table", card: Card = CARD) -> Artifact:
    with store.drafting(card.kind, card.fingerprint) as draft:
        draft.file("deep/table.txt").write_text(content)
        draft.extra("log.txt").write_text("a log")
        (draft.scratch() / "half").write_text("work")
        return draft.commit(card)


def folders(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "split").iterdir() if not path.name.startswith("."))


def test_a_result_holds_its_files_and_no_scratch_files(tmp_path: Path) -> None:
    made = make(Store(tmp_path))
    assert folders(Store(tmp_path)) == [PRINT]
    assert list(made.card.files) == ["deep/table.txt"]
    assert made.card.extras == ("log.txt",)
    assert sorted(path.name for path in made.path.rglob("*") if path.is_file()) == [
        "artifact.json",
        "log.txt",
        "table.txt",
    ]


def test_an_unfinished_result_is_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.drafting("split", PRINT) as draft:
        draft.file("table.txt").write_text("half")
        raise RuntimeError
    assert store.find("split", PRINT) is None
    assert folders(store) == [f"{PRINT}.partial"]


def test_scratch_files_of_an_earlier_try_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.drafting("split", PRINT) as draft:
        (draft.scratch() / "half").write_text("work")
        raise RuntimeError
    with store.drafting("split", PRINT) as draft:
        assert (draft.scratch() / "half").read_text() == "work"


def test_a_temporary_file_of_a_killed_process_is_no_part_of_the_result(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom cellssl.artifacts.store import MARKER, Store\n"
        "from cellssl.files import atomic_path\n"
        f"with Store(pathlib.Path(sys.argv[1])).drafting('split', '{PRINT}') as draft:\n"
        "    with atomic_path(draft.file('deep/table.txt')) as written:\n"
        "        written.write_text('half')\n        os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert list(tmp_path.rglob("*.tmp"))
    assert list(make(Store(tmp_path)).card.files) == ["deep/table.txt"]


def test_the_same_content_gives_the_same_card(tmp_path: Path) -> None:
    cards = [make(Store(tmp_path / name)).path / "artifact.json" for name in "ab"]
    assert cards[0].read_bytes() == cards[1].read_bytes()


def test_making_again_sets_the_old_result_aside(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store, "old")
    assert make(store, "new").file("deep/table.txt").read_text() == "new"
    aside = [path for path in (tmp_path / "split").iterdir() if ".aside-" in path.name]
    assert [(path / "deep/table.txt").read_text() for path in aside] == ["old"]


def test_a_process_that_lost_its_lock_commits_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(BusyError), store.drafting("split", PRINT) as draft:
        draft.lock.path.unlink()
        draft.commit(CARD)
    assert store.find("split", PRINT) is None


def test_every_flipped_byte_and_every_lost_file_is_found(tmp_path: Path) -> None:
    made = make(Store(tmp_path), "x" * 50)
    table = made.path / "deep/table.txt"
    assert made.faults() == []
    for place in (0, 25, 49):
        content = bytearray(b"x" * 50)
        content[place] ^= 1
        table.write_bytes(content)
        assert made.faults() == ["deep/table.txt does not have the bytes that its card lists"]
    table.unlink()
    assert made.faults() == ["deep/table.txt is missing"]


def test_a_file_that_lost_bytes_is_not_read(tmp_path: Path) -> None:
    made = make(Store(tmp_path))
    (made.path / "deep/table.txt").write_text("a tab")
    with pytest.raises(IntegrityError, match="is 5 bytes long, not 7"):
        made.file("deep/table.txt")
    with pytest.raises(IntegrityError, match="has no file other"):
        made.file("other")


def test_a_link_out_of_the_store_is_not_read(tmp_path: Path) -> None:
    made = make(Store(tmp_path / "store"))
    secret = tmp_path / "secret"
    secret.write_text("a table")  # the same bytes: only the link is wrong
    table = made.path / "deep/table.txt"
    table.unlink()
    table.symlink_to(secret)
    with pytest.raises(IntegrityError, match="is a link out of the store"):
        made.file("deep/table.txt")
    with pytest.raises(IntegrityError, match="is a link out of the store"):
        copy_files(made, tmp_path / "out")
    assert made.faults() == ["deep/table.txt is a link out of the store"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "labels/../../evil", ".."])
def test_no_file_name_leads_out_of_a_draft(tmp_path: Path, name: str) -> None:
    with Store(tmp_path).drafting("split", PRINT) as draft:
        for place in (draft.file, draft.extra):
            with pytest.raises(DataError, match="cannot be the name of a file in a result"):
                place(name)


def test_no_code_needs_hard_or_symbolic_links() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "cellssl").rglob("*.py"))
    assert not re.search(r"\bos\.link\b|hardlink_to|\bos\.symlink\b|symlink_to", sources)


EIGHT = """
import os, pathlib, sys, time
from cellssl.artifacts.card import Card
from cellssl.artifacts.store import MARKER, Store
from cellssl.errors import CellsslError
from cellssl.config.settings import SettingsModel
from cellssl.engine.build import RunContext, build_part

def work(job):
    with (folder / "started").open("a") as started:
        started.write(f"{os.getpid()}\\n")
    job.draft.file("table.txt").write_text("a table")
    time.sleep(float(sys.argv[2]))
    return {}
    yield

folder = pathlib.Path(sys.argv[1])
print("ready", flush=True)
input()
context = RunContext(Store(folder / "store"), wait=sys.argv[3] == "wait")
try:
    list(build_part(context, Card("split", 1, "0123456789ab", {}, {}, {}, files={}), SettingsModel(), {}, work))
except CellsslError as error:
    sys.exit(error.exit_code)
"""


def eight(folder: Path, seconds: float, waits: str) -> list[subprocess.Popen[str]]:
    """Start eight processes that make the same artifact at the same moment."""
    command = [sys.executable, "-c", EIGHT, str(folder), str(seconds), waits]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def started(folder: Path) -> list[int]:
    path = folder / "started"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_of_eight_processes_one_works_and_the_others_wait_for_its_result(tmp_path: Path) -> None:
    assert [process.wait(60) for process in eight(tmp_path, 0.5, "wait")] == [0] * 8
    assert len(started(tmp_path)) == 1
    assert folders(Store(tmp_path / "store")) == [PRINT]


def test_of_eight_processes_that_do_not_wait_seven_exit_as_busy(tmp_path: Path) -> None:
    assert sorted(process.wait(60) for process in eight(tmp_path, 8, "no")) == [0] + [75] * 7
    assert len(started(tmp_path)) == 1


def test_one_of_seven_waiting_processes_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    processes = eight(tmp_path, 2, "wait")
    while not started(tmp_path):
        time.sleep(0.01)
    first = started(tmp_path)[0]
    os.kill(first, signal.SIGKILL)
    codes = {process.pid: process.wait(60) for process in processes}
    assert codes.pop(first) == -signal.SIGKILL
    assert set(codes.values()) == {0}
    assert len(started(tmp_path)) == 2
    assert Store(tmp_path / "store").get("split", PRINT).faults() == []
    assert folders(Store(tmp_path / "store")) == [PRINT]


def test_a_result_is_found_by_folder_card_and_fingerprint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    exported = tmp_path / "e.json"
    exported.write_text(made.card.text(path=str(made.path)))
    for reference in (made.path, made.path / "artifact.json", exported, PRINT):
        assert store.resolve(reference, ("split",)).path == made.path


def test_an_exported_card_finds_its_artifact_in_a_store_that_was_moved(tmp_path: Path) -> None:
    made = make(Store(tmp_path / "old"))
    exported = tmp_path / "e.json"
    exported.write_text(made.card.text(path=str(made.path)))
    assert Store(tmp_path / "other").resolve(exported, ("split",)).path == made.path
    (tmp_path / "old").rename(tmp_path / "new")
    assert Store(tmp_path / "new").resolve(exported, ("split",)).path == tmp_path / "new/split" / PRINT


def test_an_exported_card_with_an_invalid_path_is_a_usage_error(tmp_path: Path) -> None:
    made = make(Store(tmp_path / "old"))
    exported = tmp_path / "e.json"
    for path in (3, None, "", ["a"]):
        exported.write_text(json.dumps({**json.loads(made.card.text()), "path": path}))
        with pytest.raises(UsageError, match="there is no split artifact"):
            Store(tmp_path / "other").resolve(exported, ("split",))


def test_a_wrong_kind_or_a_missing_artifact_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    with pytest.raises(UsageError, match="is an artifact of split"):
        store.resolve(made.path, ("embed", "cluster"))
    for reference in ("ffffffffffff", "nope", "/", str(tmp_path)):
        with pytest.raises((UsageError, IntegrityError)):
            store.resolve(reference, ("split",))


def test_a_further_store_is_read_and_never_written(tmp_path: Path) -> None:
    upstream = make(Store(tmp_path / "up"))
    store = Store(tmp_path / "mine", (tmp_path / "up",))
    assert store.get("split", PRINT).path == upstream.path
    store.write_pointer("r", "main", None, "split", upstream)
    assert sorted(path.name for path in (tmp_path / "up").iterdir()) == [MARKER, "split"]  # as `make` has left it


def test_a_folder_with_the_card_of_another_result_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shutil.copytree(make(store).path, tmp_path / "split/ffffffffffff")
    with pytest.raises(IntegrityError, match=f"holds the card of the split artifact {PRINT}"):
        store.find("split", "ffffffffffff")


def test_an_unchanged_pointer_is_not_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    store.write_pointer("r", "main", 3, "split", made)
    pointer = tmp_path / "by-recipe/r/main/3/split.json"
    os.utime(pointer, ns=(1, 1))
    store.write_pointer("r", "main", 3, "split", made)
    assert pointer.stat().st_mtime_ns == 1
    assert json.loads(pointer.read_text()) == {"kind": "split", "fingerprint": PRINT, "path": f"split/{PRINT}"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_error_of_a_full_disk_names_the_cure_and_the_work_is_kept(tmp_path: Path, number: int) -> None:
    store = Store(tmp_path)
    with pytest.raises(FailedError) as caught, store.drafting("split", PRINT) as draft:
        draft.file("table.txt").write_text("half")
        raise OSError(number, os.strerror(number))
    assert "MB free" in caught.value.message
    assert "cellssl gc" in caught.value.hint
    assert (store.partial("split", PRINT) / "table.txt").is_file()


def test_a_store_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    assert store.find("split", PRINT) is None
    with pytest.raises(FailedError, match="cannot be written"), store.drafting("split", PRINT):
        pass
    with pytest.raises(FailedError, match="cannot be written"):
        store.write_pointer("r", "main", None, "split", Artifact(tmp_path, CARD))


def test_a_store_works_in_a_folder_with_spaces_and_other_scripts(tmp_path: Path) -> None:
    store = Store(tmp_path / "étagère à résultats 細胞")
    made = make(store)
    store.write_pointer("naïve", "bras", None, "split", made)
    assert store.get("split", PRINT).faults() == []


def test_a_result_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        made = make(Store(tmp_path / "s"))
    finally:
        os.umask(before)
    assert made.path.stat().st_mode & 0o777 == 0o750
    assert (made.path / "artifact.json").stat().st_mode & 0o777 == 0o640


def test_the_card_of_a_later_version_is_refused_and_names_the_version(tmp_path: Path) -> None:
    make(Store(tmp_path), card=replace(CARD, format=7, run={"cellssl": "3.0"}))
    with pytest.raises(IntegrityError, match=r"written by cellssl 3\.0"):
        Store(tmp_path).find("split", PRINT)


def test_what_is_named_as_it_is_printed_is_found_and_what_is_none_is_called_what_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = make(store)
    assert store.resolve(f"split/{PRINT}", ("split",)).path == made.path
    (tmp_path / "text").write_text("dear")
    for name, words, cure in (
        (PRINT, f"{PRINT} is an artifact of split", "give one of: fetch"),
        (f"split/{PRINT}", "is an artifact of split", "give one of: fetch"),
        (f"fetch/{PRINT}", f"there is no artifact fetch/{PRINT} in {store.root}", "such as fetch/"),
        (store.root, "is a store, not an artifact", "cellssl status --store"),
        (made.path.parent, "is a folder of artifacts", str(made.path)),
        (made.path / "deep", "is no artifact: it holds no artifact.json", "give a folder"),
        (made.path / "log.txt", "is a file, and not the card", f"give {made.path}"),
        (tmp_path / "text", "is a file, and not the card", "give a folder"),
    ):
        with pytest.raises(UsageError, match=re.escape(words)) as raised:
            store.resolve(name, ("fetch",))
        assert cure in raised.value.hint
