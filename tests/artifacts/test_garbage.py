"""garbage: what no pointer reaches is listed and moved to the trash; what is not known, or not ours, stays."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellssl.artifacts import trash
from cellssl.artifacts.card import FORMAT, Card
from cellssl.artifacts.garbage import Collector, Outcome, Survey
from cellssl.artifacts.store import MARKER, Artifact, Store
from cellssl.config.recipe import CHAIN
from cellssl.errors import FailedError, IntegrityError, UsageError

BARE = Card("fetch", 1, "", {}, {}, {}, files={})
A, B = "a" * 12, "b" * 12


def make(
    store: Store, kind: str, number: int, inputs: dict[str, str] | None = None, parts: list[str] | None = None
) -> str:
    fingerprint = f"{number:012x}"
    with store.drafting(kind, fingerprint) as draft:
        draft.file("data").write_text(fingerprint)
        if parts is not None:
            draft.file("parts.json").write_text(json.dumps({str(i): part for i, part in enumerate(parts)}))
        draft.commit(replace(BARE, kind=kind, fingerprint=fingerprint, inputs=inputs or {}))
    return fingerprint


def write_pointer(store: Store, kind: str, fingerprint: str, recipe: str = "r") -> None:
    card = replace(BARE, kind=kind, fingerprint=fingerprint)
    store.write_pointer(recipe, "main", 0, kind, Artifact(store.root / kind / fingerprint, card))


def survey(root: Path, older_than_days: float | None = None, others: tuple[Path, ...] = ()) -> Survey:
    return Collector(root, others, older_than_days).survey()


def collect(root: Path, *, purge: bool = False) -> Outcome:
    collector = Collector(root)
    return collector.collect(collector.survey(), move=True, purge=purge)


def names(root: Path) -> list[str]:
    return [folder.place for folder in survey(root).unneeded]


def kept(root: Path) -> dict[str, str]:
    return {folder.place: folder.reason for folder in survey(root).kept}


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Every path below a folder with its content; links as they are."""
    return {
        path.relative_to(root).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in root.rglob("*")
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose one pointer leads to a gathered segment artifact with one part; both read a fetch artifact."""
    store = Store(tmp_path / "store")
    fetch = make(store, "fetch", 1)
    part = make(store, "segment", 2, {"fetch": fetch})
    write_pointer(store, "segment", make(store, "segment", 3, {"fetch": fetch}, parts=[part]))
    return store


def test_artifacts_that_a_pointer_reaches_through_inputs_and_parts_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = make(store, "fetch", 1)
    fetch = make(store, "fetch", 2, parts=[part])
    cut = make(store, "segment", 3, {"fetch": part})
    segment = make(store, "segment", 4, {"fetch": fetch}, parts=[cut])
    model = make(store, "pretrain", 5)
    embed = make(store, "embed", 6, {"segment": segment, "model": model})
    earlier = make(store, "cluster", 7)
    cluster = make(store, "cluster", 8, {"embed": embed, "assign_to": earlier})
    report = make(store, "report", 9, {"main/0/cluster": cluster})
    loose = make(store, "report", 10, {"main/0/cluster": cluster})
    write_pointer(store, "report", report)
    assert names(tmp_path) == [f"report/{loose}"]
    assert [folder.place for folder in collect(tmp_path).moved] == [f"report/{loose}"]
    assert names(tmp_path) == []


def test_a_partial_is_listed_unless_a_process_works_on_it(store: Store) -> None:
    store.partial("embed", A).mkdir(parents=True)
    with store.drafting("embed", B) as draft:
        draft.file("half").touch()
        assert names(store.root) == [f"embed/{A}.partial"]
    assert len(names(store.root)) == 2


def test_a_finished_part_is_not_listed_while_a_process_works_in_the_store(store: Store) -> None:
    part = make(store, "segment", 9)
    with store.drafting("segment", B) as draft:
        draft.file("half").touch()
        assert names(store.root) == []
        assert survey(store.root).busy
    assert names(store.root) == [f"segment/{part}", f"segment/{B}.partial"]


def test_a_lock_that_is_just_being_written_counts(store: Store) -> None:
    store.partial("embed", A).mkdir(parents=True)
    (store.root / "embed" / f"{A}.lock").touch()
    assert names(store.root) == []


def test_a_result_that_force_set_aside_is_listed_and_its_successor_is_not(store: Store) -> None:
    make(store, "fetch", 1)
    (aside,) = names(store.root)
    assert ".aside-" in aside


def test_a_training_that_can_continue_stays_for_a_week_unless_asked_for(store: Store) -> None:
    checkpoint = store.partial("pretrain", A) / "scratch" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert "can continue" in kept(store.root)[f"pretrain/{A}.partial"]
    assert len(survey(store.root, older_than_days=0).unneeded) == 1
    for path in (checkpoint, checkpoint.parent, checkpoint.parents[1]):
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    assert names(store.root) == [f"pretrain/{A}.partial"]
    assert survey(store.root, older_than_days=9).unneeded == []


STRANGERS = (
    ".git/HEAD",
    "proj1/.git/HEAD",
    "photos/2024.backup/a.jpg",
    "report/2024.backup/a",
    "report/index.html",
    "segment/old/a",
    "segment/.git/HEAD",
    f"segment/{A}/a",
    f"segment/{A[:11]}/a",
    f"segment/{A}.partial.old/a",
    f"segment/{A}.aside-xyz/a",
    f"segment/{A.upper()}.partial/a",
    f"segment/sub/{A}.partial/a",
    f"weights/{A}.partial/a",
    "weights/cellpose/net",
    f"hashes/{A}/x",
    f"mine/{A}.partial/a",
    ".trash/mine/a",
    ".trash/20200101T000000Z.segment.mine/a",
    ".trash/notes.txt",
    "by-recipe/notes.json",
)


def test_folders_and_files_of_strangers_stay(store: Store) -> None:
    for place in STRANGERS:
        (store.root / place).parent.mkdir(parents=True, exist_ok=True)
        (store.root / place).write_text(place)
    (store.root / "split").symlink_to(store.root / "mine")
    (store.root / "segment" / f"{B}.partial").symlink_to(store.root / "mine")
    store.partial("embed", A).mkdir(parents=True)
    before = tree(store.root)
    assert [folder.place for folder in collect(store.root, purge=True).moved] == [f"embed/{A}.partial"]
    del before[f"embed/{A}.partial"]
    assert tree(store.root) == before
    assert {place.rpartition("/")[2] for place in kept(store.root)} == {A, "split", f"{B}.partial"}


def test_a_file_that_a_user_has_put_into_a_result_keeps_it(store: Store) -> None:
    loose = make(store, "report", 9)
    (store.root / "report" / loose / "notes.md").write_text("look at well B02")
    assert "notes.md" in kept(store.root)[f"report/{loose}"]


@pytest.mark.parametrize("place", [".", "photos/2024.backup", "sub/.git", f"segment/{A}.partial", f"segment/{A}"])
def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UsageError, match="is not a store"):
        Collector(tmp_path)


def test_a_store_is_known_by_its_marker_or_by_an_artifact(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Collector(tmp_path)
    assert refused.value.hint == f"perhaps you mean --store {store.root}"
    assert json.loads((store.root / MARKER).read_text())["format"] == 1
    (store.root / MARKER).unlink()
    assert names(store.root) == []
    (store.root / MARKER).write_text('{"format": 2}')
    with pytest.raises(IntegrityError, match="later version"):
        Collector(store.root)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def later_format(card: Path) -> None:
    card.write_text(card.read_text().replace(f'"format": {FORMAT}', '"format": 99'))


def other_part(path: Path) -> None:
    path.write_text(path.read_text().replace("2", "4"))


GATHERED = "segment/000000000003"
POINTER = "by-recipe/r/main/0/segment.json"


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        (f"{GATHERED}/artifact.json", flip),
        (f"{GATHERED}/artifact.json", later_format),
        (f"{GATHERED}/artifact.json", Path.unlink),
        (f"{GATHERED}/parts.json", other_part),
        (f"{GATHERED}/parts.json", Path.unlink),
        (f"{GATHERED}/parts.json", lambda path: path.write_text('{"0": "../../etc"}')),
        ("segment/000000000002/artifact.json", flip),
        ("report/000000000009/artifact.json", flip),
        *((POINTER, lambda path, text=text: path.write_text(text)) for text in ("", "{", "[]", "3", "{}", "[" * 99999)),
        (POINTER, lambda path: path.write_text(path.read_text().replace("segment", "unknown"))),
        (POINTER, lambda path: path.write_text(path.read_text().replace("3", "5", 1))),
        (POINTER, lambda path: (path.unlink(), os.mkfifo(path))),
        ("by-recipe", lambda path: path.rename(path.with_name("elsewhere"))),
        ("by-recipe/r", lambda path: (path.rename(path.parents[1] / "disk"), path.symlink_to("not-mounted"))),
    ],
)
def test_while_anything_cannot_be_read_every_finished_result_stays(
    store: Store, place: str, damage: Callable[[Path], object]
) -> None:
    make(store, "report", 9)
    store.partial("embed", A).mkdir(parents=True)
    damage(store.root / place)
    before = tree(store.root)
    found = survey(store.root)
    assert len(found.unreadable) == 1
    assert [folder.place for folder in found.unneeded] == [f"embed/{A}.partial"]
    collect(store.root, purge=True)
    assert before.keys() - tree(store.root).keys() == {f"embed/{A}.partial"}


def test_what_a_result_that_has_gone_may_be_made_from_stays(store: Store) -> None:
    report, model = make(store, "report", 9), make(store, "fetch", 8)
    (store.root / GATHERED).rename(store.root / "gone")
    assert names(store.root) == [f"report/{report}"]
    assert set(kept(store.root)) == {f"fetch/{model}", "fetch/000000000001", "segment/000000000002"}
    assert "which is gone" in kept(store.root)["segment/000000000002"]


def test_a_pointer_into_another_store_is_no_error_and_keeps_nothing_here(store: Store, tmp_path: Path) -> None:
    mine = Store(tmp_path / "mine")
    shared = Artifact(store.root / "segment/000000000003", replace(BARE, kind="segment", fingerprint=f"{3:012x}"))
    mine.write_pointer("r", "main", 0, "segment", shared)
    loose = make(mine, "report", 9)
    assert names(mine.root) == [f"report/{loose}"]


def test_a_second_store_is_read_for_its_pointers_and_never_touched(store: Store, tmp_path: Path) -> None:
    mine, loose = Store(tmp_path / "mine"), make(store, "report", 9)
    mine.write_pointer("r", "main", 0, "report", store.get("report", loose))
    mine.partial("embed", A).mkdir(parents=True)
    before = tree(mine.root)
    assert names(store.root) == [f"report/{loose}"]
    assert survey(store.root, others=(mine.root,)).unneeded == []
    assert tree(mine.root) == before


def test_what_lies_in_the_trash_can_be_put_back_and_goes_after_a_week(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = make(store, "report", 9)
    before = tree(store.root)
    (moved,) = collect(store.root).moved
    (entry,) = trash.trashed(store.root)
    assert (entry.origin, entry.reason()) == (moved.place, moved.reason)
    assert collect(store.root).deleted == []
    back = trash.put_back(store.root, trash.find_trashed(store.root, moved.place))
    assert back == store.root / "report" / loose
    assert {path: content for path, content in tree(store.root).items() if path != ".trash"} == before
    collect(store.root)
    week = time.time() + 7 * 86400
    monkeypatch.setattr(time, "time", lambda: week)
    assert len(collect(store.root).deleted) == 1
    assert list((store.root / ".trash").iterdir()) == []


def test_purge_empties_the_trash_now_and_half_deleted_folders_are_never_put_back(store: Store) -> None:
    loose = make(store, "report", 9)
    collect(store.root)
    (entry,) = trash.trashed(store.root)
    half = entry.path.rename(entry.path.with_name(trash.REMOVING + entry.path.name))
    with pytest.raises(UsageError, match="is not in"):
        trash.find_trashed(store.root, f"report/{loose}")
    assert len(collect(store.root, purge=True).deleted) == 1
    assert not half.exists()


@pytest.mark.parametrize("damage", [os.mkfifo, lambda path: path.write_text("[" * 99999)])
def test_a_record_in_the_trash_that_cannot_be_read_gives_no_reason(
    store: Store, damage: Callable[[Path], object]
) -> None:
    make(store, "report", 9)
    collect(store.root)
    record = next((store.root / ".trash").glob("*.json"))
    record.unlink()
    damage(record)
    assert [entry.reason() for entry in trash.trashed(store.root)] == [""]


@pytest.mark.parametrize("text", ['{"format": 1e999}', "[" * 99999, '{"format": ' + "9" * 5000 + "}"])
def test_a_marker_of_nonsense_marks_no_store(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(UsageError, match="is not a store"):
        Collector(tmp_path)


def test_what_another_gc_has_moved_or_deleted_is_no_fault(store: Store) -> None:
    make(store, "report", 9)
    collector = Collector(store.root)
    found = collector.survey()
    collect(store.root)
    done = collector.collect(found, move=True, purge=False)
    assert ([folder.reason for folder in done.stayed], done.faults) == (["another process has moved it"], [])
    entries = trash.trashed(store.root)
    collect(store.root, purge=True)
    collector._delete(entries, done)
    assert not done.faults


def test_a_folder_is_not_put_back_over_a_new_one(store: Store) -> None:
    loose = make(store, "report", 9)
    collect(store.root)
    make(store, "report", 9)
    with pytest.raises(UsageError, match="is there by now"):
        trash.put_back(store.root, trash.find_trashed(store.root, f"report/{loose}"))


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EACCES, errno.ENOSPC])
def test_what_cannot_be_moved_stays_and_is_said(store: Store, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, "report", 9)
    before = tree(store.root)

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    done = collect(store.root)
    assert [error.exit_code for error in done.faults] == [1]
    assert os.strerror(number) in done.faults[0].message
    assert {path: content for path, content in tree(store.root).items() if path != ".trash"} == before


def test_on_a_full_disk_purge_makes_room(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    write_pointer(store, "fetch", make(store, "fetch", 1))
    partial = store.partial("embed", A)
    partial.mkdir(parents=True)
    (partial.parent / f"{A}.lock").write_text("{}")  # of a process that was killed
    os.utime(partial.parent / f"{A}.lock", (1, 1))
    with pytest.raises(OSError, match="No space"):
        (partial / "half").write_bytes(bytes(2_000_000))
    assert len(collect(store.root, purge=True).deleted) == 1
    assert not partial.exists()
    assert sorted(path.name for path in partial.parent.iterdir()) in ([], [".takeover"])
    make(store, "report", 9)


def test_a_trash_that_is_a_link_is_not_used(store: Store, tmp_path: Path) -> None:
    make(store, "report", 9)
    (tmp_path / "elsewhere").mkdir()
    (store.root / ".trash").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in collect(store.root, purge=True).faults[0].message
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folders_of_another_user_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.partial("embed", A).mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 12345)
    assert kept(store.root)[f"embed/{A}.partial"] == "it belongs to another user"


def test_what_a_process_begins_to_need_between_listing_and_moving_stays(store: Store) -> None:
    loose, other = make(store, "report", 9), make(store, "report", 10)
    collector = Collector(store.root)
    found = {folder.path.name: folder for folder in collector.survey().unneeded}
    write_pointer(store, "report", loose)
    assert collector.move(found[loose]) == "it is needed by now"
    with store.drafting("embed", B):
        assert collector.move(found[other]) == "it is needed by now"
    assert collector.move(found[other]) == ""


def test_a_process_that_points_to_a_result_keeps_it_or_fails_as_it_is_gone(store: Store) -> None:
    """However the two run against each other, a pointer never leads to nothing without an error."""
    for number in range(9, 29):
        artifact = store.get("report", make(store, "report", number))
        collector = Collector(store.root)
        (folder,) = collector.survey().unneeded
        mover = threading.Thread(target=collector.move, args=(folder,))
        mover.start()
        time.sleep(number % 5 / 2000)
        store.write_pointer("r", "main", number, "report", artifact)
        failed = False
        try:
            artifact.check_still_there()
        except FailedError:
            failed = True
        mover.join()
        assert failed or artifact.path.is_dir()
        if not artifact.path.is_dir():
            (store.root / f"by-recipe/r/main/{number}/report.json").unlink()


PIECES = st.sampled_from(
    [*CHAIN, A, B, f"{A}.partial", f"{B}.aside-0123abcd", f".{A}.doomed", ".git", "2024.backup", "old", ".trash",
     "by-recipe", "weights", "hashes", "scratch", "artifact.json", "parts.json", "000000000009"]
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one artifact that is needed, and one that is not."""
    store = Store(tmp_path_factory.mktemp("small") / "store")
    write_pointer(store, "fetch", make(store, "fetch", 1))
    make(store, "report", 9)
    return store.root


@settings(max_examples=40, deadline=None)
@given(drawn=st.lists(st.lists(PIECES, min_size=1, max_size=4), max_size=12), inside=st.booleans())
def test_nothing_is_ever_touched_that_cellssl_has_not_written(
    small: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[list[str]], inside: bool
) -> None:
    """Random trees around a store, and in it; only a name that cellssl gives to a folder, at its place, may go."""
    top = tmp_path_factory.mktemp("drawn")
    root = shutil.copytree(small, top / "store")
    ours = set(tree(root))
    for pieces in drawn:
        file = (root if inside else top).joinpath(*pieces, "file")
        if not any(parent.is_file() for parent in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("a stranger's")
    before = tree(top)
    try:
        collect(root, purge=True)
    except IntegrityError:
        assert tree(top) == before
    gone = before.keys() - tree(top).keys()
    allowed = {f"{kind}/{name}" for kind in CHAIN for name in (f"{A}.partial", f"{B}.aside-0123abcd", f".{A}.doomed")}
    for path in gone:
        place = "/".join(Path(path).relative_to("store").parts[:2])
        assert place in allowed or path.removeprefix("store/") in ours
    if not inside:
        assert all(path.startswith("store/report/000000000009") for path in gone)


def test_bytes_and_age_are_those_of_all_files(store: Store) -> None:
    loose = make(store, "report", 9)
    (folder,) = survey(store.root).unneeded
    files = [path for path in (store.root / "report" / loose).rglob("*") if path.is_file()]
    assert folder.bytes == sum(path.stat().st_size for path in files)
    for path in (*files, store.root / "report" / loose):
        os.utime(path, (time.time() - 3600,) * 2)
    assert 3590 < survey(store.root).unneeded[0].age_s < 3700
