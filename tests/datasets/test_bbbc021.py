"""Tests of bbbc021: exactly the selected fields, the same from any source, and never half a file."""

import contextlib
import csv
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from misbehaving_server import (
    Reply,
    ServerBehaviour,
    alter_first,
    alter_some,
    flips_a_bit,
    reset,
    send_a_page,
    serving,
    truncate,
)
from pydantic import ValidationError

from cellssl.config.paths import shipped_folder
from cellssl.config.settings import first_fault
from cellssl.datasets.base import Field
from cellssl.datasets.bbbc021 import Settings
from cellssl.datasets.tables.manifest import read_manifest
from cellssl.datasets.transfer.http import CHUNK_BYTES
from cellssl.errors import CellsslError, IntegrityError, UsageError

WEEK1 = ["Week1_22123", "Week1_22141", "Week1_22161"]


@pytest.fixture
def official(shared_data: Path, tmp_path: Path) -> Any:
    """Return a function that plans with the official tables."""
    return lambda **values: plan(tmp_path, source=str(shared_data / "meta"), **values)


def plan(folder: Path, **values: Any) -> list[Field]:
    return Settings.model_validate(values).plan(folder / "cache")


@pytest.mark.parametrize(
    ("compound", "doses", "treated"),
    [("nocodazole", {0.1, 0.3, 1, 3}, 48), ("taxol", {0.1, 0.3, 1, 3}, 120), ("cytochalasin B", {1, 3, 10, 30}, 48)],
)
def test_the_subsets_of_the_paper_have_the_fields_of_the_tables(
    compound: str, doses: set[float], treated: int, official: Any
) -> None:
    fields = official(compounds=[compound], doses="top 4", plates=WEEK1)
    counts = Counter(field.compound for field in fields)
    assert counts == {compound: treated, "DMSO": 3 * 6 * 4}
    assert {field.dose_micromolar for field in fields if field.compound == compound} == doses
    assert {field.batch for field in fields} == {"Week1"}


def test_the_whole_set_and_its_labelled_part_have_the_known_numbers(official: Any) -> None:
    whole, labelled = official(), official(labelled_only=True)
    assert len(whole) == 13_200
    assert len({field.plate for field in whole}) == 55
    assert len({field.field_id for field in whole}) == 13_200
    assert Counter(field.moa is not None for field in whole)[True] == len(labelled) == 3_848
    assert len({field.moa for field in labelled} - {"DMSO"}) == 12


def test_the_table_gives_the_files_of_a_field(official: Any, shared_data: Path) -> None:
    fields = {field.field_id: field for field in official(plates=["Week4_27481"])}
    with (shared_data / "meta" / "BBBC021_v1_image.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["Image_Metadata_Well_DAPI"] == "G10")
    field = fields["Week4_27481_G10_s1"]
    assert field.images["actin"] == f"Week4_27481/{row['Image_FileName_Actin']}"
    assert field.extra["Image_FileName_Actin"] == row["Image_FileName_Actin"]
    assert set(field.extra) == set(row)


def test_copies_of_the_tables_in_other_formats_give_the_same_fields(
    shared_data: Path, tmp_path: Path, official: Any
) -> None:
    import gzip

    (tmp_path / "copy").mkdir()
    variants = shared_data / "meta" / "variants"
    (tmp_path / "copy/BBBC021_v1_image.csv").write_bytes(
        gzip.decompress((variants / "image-unquoted.csv.gz").read_bytes())
    )
    (tmp_path / "copy/BBBC021_v1_moa.csv").write_bytes((variants / "moa-cr-line-ends.csv").read_bytes())
    (tmp_path / "copy/BBBC021_v1_compound.csv").write_bytes((shared_data / "meta/BBBC021_v1_compound.csv").read_bytes())
    chosen = Settings.model_validate({"source": str(tmp_path / "copy"), "compounds": ["AZ138"]})
    fields = chosen.plan(tmp_path / "other-cache")
    assert fields == official(compounds=["AZ138"])
    tables = chosen.tables(fields, tmp_path / "other-cache")
    for name, text in tables.items():
        assert text.encode() == (shared_data / "meta" / name).read_bytes()


def test_the_shipped_manifest_describes_the_official_tables(shared_data: Path) -> None:
    manifest = read_manifest(shipped_folder("data-manifests") / "bbbc021.toml")
    for entry in manifest.tables.values():
        assert entry.matches((shared_data / "meta" / entry.file).read_bytes())
    urls = (shared_data / "meta" / "BBBC021_zip_urls.txt").read_text().split()
    assert {f"{manifest.address}{manifest.archives.name_for(plate)}" for plate in manifest.archives.plates} == set(urls)


def test_a_misspelt_compound_is_corrected(official: Any) -> None:
    with pytest.raises(UsageError) as caught:
        official(compounds=["cycloheximide"])
    assert caught.value.hint == "did you mean 'cyclohexamide'?"


def test_a_dose_that_was_not_tested_is_an_error_that_lists_the_tested_ones(official: Any) -> None:
    with pytest.raises(UsageError) as caught:
        official(compounds=["nocodazole"], doses=[7.0])
    assert "0.001, 0.003" in caught.value.hint


def test_a_range_of_doses_includes_its_ends(official: Any) -> None:
    fields = official(compounds=["nocodazole", "taxol"], doses="0.1 to 1", plates=WEEK1)
    doses = {field.dose_micromolar for field in fields if field.compound == "nocodazole"}
    assert doses == {0.1, 0.3, 1.0}
    with pytest.raises(UsageError) as caught:
        official(compounds=["nocodazole"], doses="7 to 9")
    assert "0.001, 0.003" in caught.value.hint


@pytest.mark.parametrize("source", ["ftp://x.org/", "gs://bucket/a", "file://host/a", "http:///a", "data://x"])
def test_addresses_of_other_kinds_are_refused(source: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"source": source})
    assert "address" in first_fault(caught.value).message


# Below: two made-up plates in the form of the real ones, with archives of small images.


def files_of(cellssl: Any, folder: Path, store: str, *words: str) -> dict[str, Any]:
    """Fetch, and return every file of the set and of its plates with its hash."""
    code, path, card = cellssl("fetch", str(folder / "recipe.toml"), *words, store=store)
    assert code == 0, card
    parts = json.loads((path / "parts.json").read_text())
    cards = [json.loads((folder / store / "fetch" / part / "artifact.json").read_text()) for part in parts.values()]
    assert not list((folder / store).rglob("*.zip*"))
    assert not list((folder / store).rglob("evil*"))
    return {"gathered": card["files"], **{card["fingerprint"]: card["files"] for card in cards}}


def test_only_the_selected_images_are_fetched_and_segmented(set_up: Path, cellssl: Any) -> None:
    files = files_of(cellssl, set_up, "store")
    images = sorted(name for part in files.values() for name in part if name.endswith(".tif"))
    assert len(images) == 2 * 4 * 3  # two plates; two wells with two fields; three channels
    assert not [name for name in images if "E04" in name]
    code, segmented, _ = cellssl("segment", str(set_up / "recipe.toml"))
    cells = pd.read_parquet(segmented / "cells.parquet")
    assert code == 0
    assert len(cells) == 2 * 4 * 6  # six nuclei drawn in every field
    fields = pd.read_parquet(segmented / "fields.parquet")
    assert set(fields["moa"].dropna()) == {"Microtubule destabilizers"}
    assert set(fields["Image_PathName_DAPI"]) == {"Week1/Week1_1", "Week4/Week4_2"}


def test_the_same_fields_are_the_same_artifact_from_every_source(set_up: Path, cellssl: Any) -> None:
    archives = files_of(cellssl, set_up, "a")
    for folder in ("unpacked/Week1/Week1_1", "unpacked/Week4_2"):
        (set_up / folder).mkdir(parents=True)
        with zipfile.ZipFile(set_up / f"there/BBBC021_v1_images_{folder.rpartition('/')[2]}.zip") as archive:
            for name in archive.namelist()[1:]:
                (set_up / folder / Path(name).name).write_bytes(archive.read(name))
    for table in (set_up / "there").glob("*.csv"):
        (set_up / "unpacked" / table.name).write_bytes(table.read_bytes().replace(b'"', b""))
    assert files_of(cellssl, set_up, "b", "--set", f"fetch.dataset.source={set_up}/unpacked") == archives
    behaviour = ServerBehaviour(set_up / "there")
    with serving(behaviour) as address:
        assert files_of(cellssl, set_up, "c", "--set", f"fetch.dataset.source={address}") == archives
        assert not any(path.endswith(".zip") and wanted is None for path, wanted in behaviour.requests)
        behaviour.grants_ranges = False
        assert files_of(cellssl, set_up, "d", "--mirror", address) == archives
        assert sum(path.endswith(".zip") and wanted is None for path, wanted in behaviour.requests) == 2
    for table in (set_up / "there").glob("*.csv"):
        table.unlink()
    assert files_of(cellssl, set_up, "c", "--force") == archives  # the tables come from the store now


def test_broken_connections_and_refused_ranges_do_not_change_the_result(set_up: Path, cellssl: Any) -> None:
    expected = files_of(cellssl, set_up, "a")
    for store, ranges in (("b", True), ("c", False)):
        behaviour = ServerBehaviour(set_up / "there", breaks_after=10_000, grants_ranges=ranges)
        with serving(behaviour) as address:
            assert files_of(cellssl, set_up, store, "--set", f"fetch.dataset.source={address}") == expected
        assert any(wanted for _, wanted in behaviour.requests)


LOOSE = ("--set", "fetch.max_failures=0.3")


@pytest.mark.parametrize("grants_ranges", [True, False])
def test_a_mirror_that_flips_bits_gives_the_bytes_of_a_clean_fetch(
    grants_ranges: bool, set_up: Path, cellssl: Any
) -> None:
    expected = files_of(cellssl, set_up, "clean", *LOOSE)
    behaviour = ServerBehaviour(set_up / "there", grants_ranges=grants_ranges)
    for seed in (1, 4):  # with 4, a table is damaged on the way
        behaviour.alter = alter_some(0.2, seed, flips_a_bit(seed))
        with serving(behaviour) as address:
            assert files_of(cellssl, set_up, f"flipped{seed}", *LOOSE, "--mirror", address) == expected


def test_a_mirror_of_many_faults_ends_in_the_same_bytes_or_in_4(set_up: Path, cellssl: Any) -> None:
    expected, codes = files_of(cellssl, set_up, "clean", *LOOSE), [4]
    behaviour = ServerBehaviour(set_up / "there")
    behaviour.alter = alter_some(0.4, 3, flips_a_bit(3), truncate, reset, send_a_page)
    with serving(behaviour) as address:
        words = (*LOOSE, "--mirror", address, "--set", "fetch.dataset.tries=2")
        while codes[-1] == 4 and len(codes) < 20:
            codes.append(cellssl("fetch", str(set_up / "recipe.toml"), *words, store="b")[0])
        assert codes[-1] == 0
        assert files_of(cellssl, set_up, "b", *words) == expected


def test_a_table_that_is_wrong_in_another_way_each_time_is_a_network_fault(set_up: Path, cellssl: Any) -> None:
    flip = flips_a_bit(2)
    behaviour = ServerBehaviour(set_up / "there", alter=lambda reply: flip(reply) if ".csv" in reply.path else None)
    with serving(behaviour) as address:
        code, _, failure = cellssl("fetch", str(set_up / "recipe.toml"), *LOOSE, "--mirror", address)
    assert code == 4 and "has other bytes at every reading" in failure["stderr"]


def test_a_network_fault_exits_4_and_the_next_run_continues(set_up: Path, cellssl: Any) -> None:
    behaviour = ServerBehaviour(set_up / "there")
    with serving(behaviour) as address:
        words = ("fetch", str(set_up / "recipe.toml"), "--set", f"fetch.dataset.source={address}")
        behaviour.web_page = True
        assert cellssl(*words)[0] == 4
        behaviour.web_page = False
        (set_up / "there/BBBC021_v1_images_Week4_2.zip").rename(set_up / "away.zip")
        code, _, failure = cellssl(*words)
        assert code == 4
        assert "404" in failure["stderr"]
        (set_up / "away.zip").rename(set_up / "there/BBBC021_v1_images_Week4_2.zip")
        assert cellssl(*words)[0] == 0
    requests = Counter(request for request in behaviour.requests if request[0].endswith("Week1_1.zip"))
    assert requests.total() == 3 + 12  # its plate was finished before the fault: the directory, and one range per image
    assert max(requests.values()) == 1


def test_a_killed_download_of_a_whole_archive_is_continued(set_up: Path, cellssl: Any) -> None:
    expected = files_of(cellssl, set_up, "a")
    behaviour = ServerBehaviour(set_up / "there", breaks_after=150_000, breaks=2, stalls=True, grants_ranges=False)
    with serving(behaviour) as address:
        words = ["fetch", str(set_up / "recipe.toml"), "--set", f"fetch.dataset.source={address}"]
        command = [sys.executable, "-m", "cellssl", *words, "--store", str(set_up / "b")]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: largest(set_up / "b", ".zip.part") >= 2 * CHUNK_BYTES)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = largest(set_up / "b", ".zip.part")
        behaviour.alter = alter_first(99, grant_open_ranges, lambda reply: reply.requested_range == f"bytes={kept}-")
        assert files_of(cellssl, set_up, "b", "--set", f"fetch.dataset.source={address}") == expected
    assert ("/BBBC021_v1_images_Week1_1.zip", f"bytes={kept}-") in behaviour.requests


def grant_open_ranges(reply: Reply) -> None:
    """Grant a range that goes on to the end of the file."""
    start = int(str(reply.requested_range).removeprefix("bytes=").rstrip("-"))
    reply.headers["Content-Range"] = f"bytes {start}-{len(reply.body) - 1}/{len(reply.body)}"
    reply.status, reply.body = 206, reply.body[start:]


def largest(folder: Path, ending: str) -> int:
    """Return the size of the largest file with that ending; folders may vanish during the search."""
    sizes = [0]
    for root, _, names in os.walk(folder):
        for name in names:
            if name.endswith(ending):
                with contextlib.suppress(FileNotFoundError):
                    sizes.append((Path(root) / name).stat().st_size)
    return max(sizes)


def wait_until(happened: Any) -> None:
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def flip_a_byte(archive: Path, member: str) -> None:
    """Change a byte in the middle of a member's packed content."""
    with zipfile.ZipFile(archive) as opened:
        entry = opened.getinfo(member)
        place = entry.header_offset + 30 + len(member) + entry.compress_size // 2
    content = bytearray(archive.read_bytes())
    content[place] ^= 0xFF
    archive.write_bytes(content)


@pytest.mark.parametrize("served", [True, False])
def test_a_broken_member_is_quarantined_with_its_reason(served: bool, set_up: Path, cellssl: Any) -> None:
    flip_a_byte(set_up / "there/BBBC021_v1_images_Week1_1.zip", "Week1_1/Week1_150607_E03_s1_w2UUID3.tif")
    behaviour = ServerBehaviour(set_up / "there")
    with serving(behaviour) as address:
        source = ("--set", f"fetch.dataset.source={address}") if served else ()
        code, _, failure = cellssl("fetch", str(set_up / "recipe.toml"), *source)
        assert code == 3
        assert "is broken in the archive" in failure["stderr"]
        loose = ("--set", "fetch.max_failures=0.5")
        code, fetched, card = cellssl("fetch", str(set_up / "recipe.toml"), *source, *loose)
    assert code == 0
    assert card["metrics"]["quarantined"] == 1
    part = json.loads((fetched / "parts.json").read_text())["Week1_1"]
    quarantine = pd.read_csv(set_up / "store/fetch" / part / "quarantine.csv")
    assert list(quarantine["field_id"]) == ["Week1_1_E03_s1"]
    assert "w2UUID3.tif is broken in the archive" in quarantine["reason"][0]
    images = {path.name for path in (set_up / "store/fetch" / part / "Week1_1").iterdir()}
    assert len(images) == 3 * 3  # images of the quarantined field are not part of the result
    assert not [name for name in images if "E03_s1" in name]
    if served:  # both runs asked twice for the directory and that member, and once for every other member
        asked = Counter(asked for asked in behaviour.requests if asked[0].endswith("Week1_1.zip"))
        assert asked.total() == 2 * (3 + 12 + 3 + 1)


def test_a_fetched_image_that_its_disk_fails_to_give_stops_segment_and_quarantines_nothing(
    set_up: Path, cellssl: Any
) -> None:
    _, fetched, _ = cellssl("fetch", str(set_up / "recipe.toml"))
    part = json.loads((fetched / "parts.json").read_text())["Week1_1"]
    image = next((set_up / "store/fetch" / part / "Week1_1").iterdir())
    content = image.read_bytes()
    image.unlink()
    image.symlink_to("/proc/self/mem")  # a file whose first byte cannot be read: EIO
    words = ("segment", str(set_up / "recipe.toml"), "--set", "segment.max_failures=0.9")
    code, _, failure = cellssl(*words)
    assert code == 1 and f"{image} cannot be read: Input/output error" in failure["stderr"]
    image.unlink()
    image.write_bytes(content)
    code, _, card = cellssl(*words)
    assert code == 0 and card["metrics"]["quarantined"] == 0


def rewrite_archive(archive: Path, change: Any) -> None:
    """Write the archive again, with every member as `change` returns it: another entry, or None to leave it out."""
    with zipfile.ZipFile(archive) as opened:
        members = [(entry, opened.read(entry)) for entry in opened.infolist()]
    with zipfile.ZipFile(archive, "w") as opened:
        for entry, content in members:
            if (kept := change(entry)) is not None:
                opened.writestr(kept, content)


def without_first_site(entry: zipfile.ZipInfo) -> zipfile.ZipInfo | None:
    return None if "B02_s1_w4" in entry.filename else entry


def with_a_link(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    if "B02_s1_w4" in entry.filename:
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("change", "reason"), [(without_first_site, "is not in its archive"), (with_a_link, "is not a file in the archive")]
)
def test_a_missing_member_and_a_link_are_quarantined(change: Any, reason: str, set_up: Path, cellssl: Any) -> None:
    rewrite_archive(set_up / "there/BBBC021_v1_images_Week4_2.zip", change)
    code, fetched, _ = cellssl("fetch", str(set_up / "recipe.toml"), "--set", "fetch.max_failures=0.25")
    assert code == 0
    part = json.loads((fetched / "parts.json").read_text())["Week4_2"]
    assert reason in (set_up / "store/fetch" / part / "quarantine.csv").read_text()


def test_tables_with_other_values_are_refused_and_the_difference_is_named(set_up: Path, cellssl: Any) -> None:
    table = set_up / "there/BBBC021_v1_image.csv"
    official = table.read_text()
    for old, new, sentence in (
        ('"E03"', '"E05"', "has other values"),
        ("Replicate", "Repeat", "has other columns than the official table: Repeat, Replicate"),
        (official.splitlines()[-1] + "\n", "", "has 11 rows, the official table 12"),
    ):
        table.write_text(official.replace(old, new, 1))
        code, _, failure = cellssl("fetch", str(set_up / "recipe.toml"))
        assert code == IntegrityError.exit_code
        assert sentence in failure["stderr"]


def test_the_error_names_what_a_folder_lacks(set_up: Path, cellssl: Any) -> None:
    recipe = str(set_up / "recipe.toml")
    assert "there is no folder" in cellssl("fetch", recipe, "--set", "fetch.dataset.source=/not/there")[2]["stderr"]
    (set_up / "there/BBBC021_v1_images_Week1_1.zip").unlink()
    code, _, failure = cellssl("fetch", recipe)
    assert code == 3
    assert "holds neither BBBC021_v1_images_Week1_1.zip nor its images" in failure["stderr"]
    (set_up / "there/BBBC021_v1_moa.csv").unlink()
    assert "holds no BBBC021_v1_moa.csv" in cellssl("fetch", recipe, store="other")[2]["stderr"]


def test_settings_select_fields_and_controls_are_always_included(set_up: Path) -> None:
    def ids(**values: Any) -> list[str]:
        given = {"source": str(set_up / "there"), "manifest": str(set_up / "manifest.toml"), **values}
        return [field.field_id.removeprefix("Week1_1_") for field in plan(set_up, plates=["Week1_1"], **given)]

    assert ids(wells=["E04"], fields_per_well=1) == ["B02_s1", "E04_s1"]
    assert ids(doses=[1.0], compounds=["nocodazole"]) == ["B02_s1", "B02_s2", "E04_s1", "E04_s2"]
    assert ids(labelled_only=True) == ["B02_s1", "B02_s2", "E03_s1", "E03_s2"]
    with pytest.raises(CellsslError):
        ids(wells=["H12"])


def test_a_table_that_was_damaged_on_the_way_is_downloaded_again(set_up: Path, cellssl: Any) -> None:
    def damage(reply: Reply) -> None:
        reply.body = reply.body.replace(b"nocodazole", b"nocodazolf", 1)

    behaviour = ServerBehaviour(set_up / "there", alter=alter_first(1, damage, lambda reply: "image.csv" in reply.path))
    with serving(behaviour) as address:
        assert cellssl("fetch", str(set_up / "recipe.toml"), "--mirror", address)[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [("Image_Metadata_Well_DAPI", "Well", "has no column Image_Metadata_Well_DAPI"), (",1,", ",one,", "'one'")],
)
def test_unusable_tables_of_another_manifest_are_an_error(
    old: str, new: str, sentence: str, set_up: Path, cellssl: Any
) -> None:
    table = set_up / "there" / "BBBC021_v1_image.csv"
    before, content = table.read_bytes(), table.read_bytes().replace(old.encode(), new.encode())
    manifest = (set_up / "manifest.toml").read_text().replace(old, new)
    for wrong, right in (
        (hashlib.sha256(before).hexdigest(), hashlib.sha256(content).hexdigest()),
        (f"size_bytes = {len(before)}", f"size_bytes = {len(content)}"),
    ):
        manifest = manifest.replace(wrong, right)
    table.write_bytes(content)
    (set_up / "manifest.toml").write_text(manifest)
    code, _, failure = cellssl("fetch", str(set_up / "recipe.toml"))
    assert code in (2, 3)
    assert sentence in failure["stderr"]
