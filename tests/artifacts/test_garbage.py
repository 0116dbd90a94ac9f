"""garbage: artifacts that no pointer reaches are listed; those reached through inputs and parts are not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cellssl.artifacts.card import Card
from cellssl.artifacts.garbage import reachable, remove, unneeded
from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import IntegrityError

BARE = Card("fetch", 1, "", {}, {}, {}, files={})


def make(
    store: Store, kind: str, number: int, inputs: dict[str, str] | None = None, parts: list[str] | None = None
) -> str:
    fingerprint = f"{number:012x}"
    with store.drafting(kind, fingerprint) as draft:
        if parts is not None:
            draft.file("parts.json").write_text(json.dumps({str(i): part for i, part in enumerate(parts)}))
        draft.commit(replace(BARE, kind=kind, fingerprint=fingerprint, inputs=inputs or {}))
    return fingerprint


def write_pointer(store: Store, kind: str, fingerprint: str, recipe: str = "r") -> None:
    store.write_pointer(
        recipe,
        "main",
        0,
        kind,
        Artifact(store.root / kind / fingerprint, replace(BARE, kind=kind, fingerprint=fingerprint)),
    )


def names(folders: list[Path]) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in folders]


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
    assert names(unneeded(tmp_path)) == [f"report/{loose}"]
    assert len(reachable(tmp_path)) == 9


def test_a_partial_is_listed_unless_a_process_works_on_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.partial("embed", "a" * 12).mkdir(parents=True)
    with store.drafting("embed", "b" * 12) as draft:
        draft.file("half").touch()
        assert names(unneeded(tmp_path)) == [f"embed/{'a' * 12}.partial"]
    assert len(unneeded(tmp_path)) == 2


def test_a_finished_part_is_not_listed_while_a_process_works_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = make(store, "segment", 1)
    with store.drafting("segment", "b" * 12) as draft:
        draft.file("half").touch()
        assert unneeded(tmp_path) == []
    assert names(unneeded(tmp_path)) == [f"segment/{part}", f"segment/{'b' * 12}.partial"]


def test_a_result_that_force_set_aside_is_listed_and_its_successor_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fingerprint = make(store, "fetch", 1)
    write_pointer(store, "fetch", fingerprint)
    make(store, "fetch", 1)
    (aside,) = unneeded(tmp_path)
    assert ".aside-" in aside.name


def test_weights_hashes_and_folders_without_a_card_are_not_listed(tmp_path: Path) -> None:
    for folder in ("weights/cellpose", "hashes/x", "by-recipe/r", "mine/notes"):
        (tmp_path / folder).mkdir(parents=True)
    assert unneeded(tmp_path) == []


def test_a_pointer_into_another_store_is_no_error(tmp_path: Path) -> None:
    write_pointer(Store(tmp_path), "fetch", "f" * 12)
    assert unneeded(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_a_broken_pointer_is_an_error_before_anything_is_removed(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    write_pointer(store, "fetch", make(store, "fetch", 1))
    (tmp_path / "by-recipe/r/main/0/fetch.json").write_text(text)
    with pytest.raises(IntegrityError, match="the artifacts it needs are not known"):
        unneeded(tmp_path)


def test_a_folder_is_removed_completely(tmp_path: Path) -> None:
    make(Store(tmp_path), "fetch", 1)
    (folder,) = unneeded(tmp_path)
    assert remove(folder)
    assert list((tmp_path / "fetch").iterdir()) == []
    assert not remove(folder)
