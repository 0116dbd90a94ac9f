"""Tests of fetch: it lists what a fetch will cost, and gives the same result whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from chain import ENVIRONMENT, Said, run, say, start
from made_up_screen import PLATES, image_rows, write_archive, write_screen
from misbehaving_server import Reply, ServerBehaviour, alter_first, serving

from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact
from cellssl.randomness import generator

WANTED_IMAGES = 2 * 4 * 3
"""Two plates, each with two wells of two fields in three channels."""


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_screen(tmp_path / "screen")


def fetch(screen: Path, store: str, *words: object) -> Said:
    return say("fetch", screen / "recipe.toml", "--store", screen / store, *words)


def result_of(said: Said) -> dict[str, str]:
    """Return every file of a fetched set and of its plates with its hash; assert that the bytes have that hash."""
    gathered = Path(said.line)
    parts = json.loads((gathered / "parts.json").read_text()).values()
    folders = [gathered, *(gathered.parent / part for part in parts)]
    for folder in folders:
        assert Artifact(folder, read_card(folder)).faults() == []
    return {
        f"{folder.name}/{name}": entry.sha256 for folder in folders for name, entry in read_card(folder).files.items()
    }


def members_by_start(screen: Path) -> dict[tuple[str, int], str]:
    """Return (archive, first byte) -> member, to find out what a request was for."""
    found = {}
    for archive in (screen / "there").glob("*.zip"):
        with zipfile.ZipFile(archive) as opened:
            found |= {(f"/{archive.name}", entry.header_offset): entry.filename for entry in opened.infolist()}
    return found


def members_asked(behaviour: ServerBehaviour, members: dict[tuple[str, int], str]) -> list[str]:
    starts = ((path, int(wanted.removeprefix("bytes=").split("-")[0])) for path, wanted in behaviour.requests if wanted)
    return [members[start] for start in starts if start in members and start[1]]


# ------------------------------------------------------------------------------------------------------------- the cost


def test_a_dry_run_lists_plates_fields_images_and_bytes_and_moves_no_image(screen: Path) -> None:
    behaviour = ServerBehaviour(screen / "there")
    with serving(behaviour) as address:
        said = fetch(screen, "store", "--mirror", address, "--dry-run", "--json")
        listed = json.loads(said.out)
        assert members_asked(behaviour, members_by_start(screen)) == []
        listing = fetch(screen, "store", "--mirror", address, "--dry-run")
        before = behaviour.sent_bytes
        fetch(screen, "store", "--mirror", address)
        moved = behaviour.sent_bytes - before
    assert [plate["plate"] for plate in listed["plates"]] == list(PLATES)
    assert (listed["fields"], listed["images"], listed["to_come"], listed["absent"]) == (8, 24, 24, 0)
    assert [plate["controls"] for plate in listed["plates"]] == [2, 2]
    assert listed["moved_bytes"] <= moved <= listed["moved_bytes"] + 2 * 2_000  # and two directories
    assert "1 of 1 stages would be made: 2 plates, 8 fields, 24 images, 0.5 MB to transfer" in listing.line
    assert "Week1_1  missing  4       2         12" in listing.err
    done = json.loads(fetch(screen, "store", "--dry-run", "--json").out)
    assert [plate["state"] for plate in done["plates"]] == ["done", "done"]
    assert (done["moved_bytes"], done["to_come"], done["would_make"]) == (0, 0, [])


def test_a_dry_run_reports_whole_archives(screen: Path) -> None:
    with serving(ServerBehaviour(screen / "there", grants_ranges=False)) as address:
        listed = json.loads(fetch(screen, "store", "--mirror", address, "--dry-run", "--json").out)
        listing = fetch(screen, "store", "--mirror", address, "--dry-run").err
    sizes = [archive.stat().st_size for archive in (screen / "there").glob("*.zip")]
    assert listed["moved_bytes"] == sum(sizes)
    assert "the whole archive: the server does not send parts of files" in listing


def test_a_dry_run_of_one_plate_and_of_a_folder_lists_their_images(screen: Path) -> None:
    listed = json.loads(fetch(screen, "store", "--plate", PLATES[1], "--dry-run", "--json").out)
    assert [(plate["plate"], plate["images"]) for plate in listed["plates"]] == [(PLATES[1], 12)]
    with zipfile.ZipFile(screen / "there" / f"BBBC021_v1_images_{PLATES[1]}.zip", "w") as archive:
        archive.writestr("nothing", "")
    listing = fetch(screen, "store", "--dry-run")
    assert "12 images are missing at their source" in listing.err
    assert listing.code == 0


def test_a_dry_run_of_simulated_plates_moves_nothing(tmp_path: Path) -> None:
    listed = json.loads(say("fetch", "demo", "--store", tmp_path, "--dry-run", "--json").out)
    assert (listed["moved_bytes"], listed["disk_bytes"]) == (0, None)


# ------------------------------------------------------------------------------------------------ the files of a result


def test_the_result_can_be_read_with_pandas_and_tifffile_alone(screen: Path) -> None:
    store = screen / "store"
    fetched = Path(fetch(screen, "store").line)
    fields = pd.read_parquet(fetched / "fields.parquet")
    record = pd.read_csv(fetched / "record.csv", dtype={"crc32": str}).set_index("file")
    assert len(record) == WANTED_IMAGES == 3 * len(fields)
    for row in fields.itertuples():
        for channel in ("dna", "tubulin", "actin"):
            place = getattr(row, f"path_{channel}")
            path = store / "fetch" / row.part / place
            with zipfile.ZipFile(screen / "there" / f"BBBC021_v1_images_{row.plate}.zip") as archive:
                assert path.read_bytes() == archive.read(place)
                assert int(record.loc[place, "crc32"], 16) == archive.getinfo(place).CRC
            assert tifffile.imread(path).shape == (120, 120)
            assert record.loc[place, "sha256"] == getattr(row, f"sha256_{channel}")
    images = sorted(path.relative_to(store / "fetch") for path in (store / "fetch").rglob("*.tif"))
    assert len(images) == WANTED_IMAGES


def test_planned_fields_are_fetched_or_quarantined(screen: Path) -> None:
    path = screen / "there" / f"BBBC021_v1_images_{PLATES[0]}.zip"
    rows = [row for row in image_rows() if (row["Image_Metadata_Well_DAPI"], row["ImageNumber"]) != ("E03", 3)]
    write_archive(path, PLATES[0], rows)
    said = fetch(screen, "store", "--set", "fetch.max_failures=0.5")
    metrics = read_card(Path(said.line)).metrics
    assert metrics["planned"] == 8 == metrics["fields"] + metrics["quarantined"]
    assert metrics["quarantined"] == 1
    assert len(list((screen / "store").rglob("*.tif"))) == 3 * metrics["fields"]
    code = fetch(screen, "store").code
    assert code == 3


# --------------------------------------------------------------------------------------------- comparison with a record


def test_a_later_fetch_is_compared_with_the_record_of_an_earlier_one(screen: Path) -> None:
    first_result = fetch(screen, "store")
    record = screen / "record.csv"
    record.write_bytes((Path(first_result.line) / "record.csv").read_bytes())
    compared = ("--set", f"fetch.dataset.checksums={record}")
    assert result_of(fetch(screen, "again", *compared)) == result_of(first_result)
    path = screen / "there" / f"BBBC021_v1_images_{PLATES[0]}.zip"
    whole = path.read_bytes()
    swap_images(path)
    said = fetch(screen, "other", *compared)
    assert said.code == 5
    assert "differs from" in said.err
    path.write_bytes(whole)
    assert result_of(fetch(screen, "other", *compared)) == result_of(first_result)


def swap_images(path: Path) -> None:
    """Write the archive again, with another image under the name of a wanted one."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    names = [name for name in contents if "_E03_s1_" in name]
    contents[names[0]] = contents[names[1]]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def test_a_whole_archive_is_recorded_beside_the_result(screen: Path) -> None:
    with serving(ServerBehaviour(screen / "there", grants_ranges=False)) as address:
        whole = fetch(screen, "store", "--mirror", address)
        part = json.loads((Path(whole.line) / "parts.json").read_text())[PLATES[0]]
        archives = screen / "store" / "fetch" / part / "archives.csv"
        assert f"BBBC021_v1_images_{PLATES[0]}.zip" in archives.read_text()
        assert "archives.csv" in read_card(archives.parent).extras
        record = screen / "record.csv"
        record.write_text(archives.read_text())
        compared = ("--set", f"fetch.dataset.checksums={record}", "--mirror", address)
        assert result_of(fetch(screen, "again", *compared)) == result_of(whole)
        record.write_text(archives.read_text().replace(archives.read_text()[-20:-1], "0" * 19))
        assert fetch(screen, "third", *compared).code == 5


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", ["page", "missing", "refused", "redirect"])
def test_a_network_fault_exits_4_with_a_cure_and_keeps_finished_images(fault: str, screen: Path) -> None:
    expected = result_of(fetch(screen, "undisturbed"))
    behaviour = ServerBehaviour(screen / "there")
    hurdle = PLATES[1]

    def misbehave(reply: Reply) -> None:
        if fault == "redirect":
            reply.status, reply.headers, reply.body = 302, {"Location": "ftp://x.org/a.zip"}, b""
        elif fault == "page":
            reply.status, reply.headers, reply.body = 200, {"Content-Type": "text/html"}, b"<html>"
        else:
            reply.status = 404 if fault == "missing" else 403

    behaviour.alter = alter_first(10_000, misbehave, lambda reply: hurdle in reply.path)
    with serving(behaviour) as address:
        said = fetch(screen, "store", "--mirror", address)
        assert said.code == 4, said.err
        assert "  cure: " in said.err
        assert "Traceback" not in said.err
        behaviour.alter = None
        behaviour.requests.clear()
        assert result_of(fetch(screen, "store", "--mirror", address)) == expected
    assert not [name for name in members_asked(behaviour, members_by_start(screen)) if name.startswith(PLATES[0])]


def test_a_full_disk_is_an_error_before_anything_is_downloaded(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=100_000))
    behaviour = ServerBehaviour(screen / "there")
    with serving(behaviour) as address:
        said = fetch(screen, "store", "--mirror", address)
    assert said.code == 1
    assert "348,672 bytes are needed" in said.err
    assert members_asked(behaviour, members_by_start(screen)) == []


def test_two_fetches_at_once_share_one_result(screen: Path) -> None:
    behaviour = ServerBehaviour(screen / "there", latency_s=0.02)
    with serving(behaviour) as address:
        words = ("fetch", screen / "recipe.toml", "--store", screen / "store", "--mirror", address)
        both = [start(*words) for _ in range(2)]
        outs = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert outs[0][0] == outs[1][0]
    asked = members_asked(behaviour, members_by_start(screen))
    assert len(asked) == len(set(asked)) == WANTED_IMAGES


def test_ctrl_c_works_while_a_server_is_silent(screen: Path) -> None:
    behaviour = ServerBehaviour(screen / "there")
    behaviour.alter = lambda reply: setattr(reply, "drip_s", 0.01) if len(reply.body) > 10_000 else None
    with serving(behaviour) as address:
        process = start("fetch", screen / "recipe.toml", "--store", screen / "store", "--mirror", address)
        until = time.monotonic() + 60
        while not members_asked(behaviour, members_by_start(screen)) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
    assert process.returncode == 130, err
    assert "run the same command again" in err


def fetch_and_kill(screen: Path, store: str, behaviour: ServerBehaviour, rng: np.random.Generator, most: int) -> int:
    """Fetch again and again, killing every run at a random time, until one ends; no finished file is fetched again."""
    members, kills = members_by_start(screen), 0
    with serving(behaviour) as address:
        words = ["fetch", screen / "recipe.toml", "--store", screen / store, "--mirror", address]
        words += ["--set", "fetch.dataset.connections=3"]
        command = [sys.executable, "-m", "cellssl", *map(str, words)]
        while kills < most:
            finished = {path.relative_to(screen / store).parts[-2:] for path in (screen / store).rglob("*.tif")}
            behaviour.requests.clear()
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=float(rng.uniform(0.4, 2.2)))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
            again = {tuple(name.split("/")) for name in members_asked(behaviour, members)} & finished
            assert not again
            if process.returncode == 0:
                return kills
            assert process.returncode == -signal.SIGKILL
        assert run(*words).code == 0
    return kills


def behaviour_of_round(screen: Path, number: int) -> ServerBehaviour:
    """Return a server for this round: most grant ranges; some send whole archives or break connections."""
    behaviour = ServerBehaviour(screen / "there", latency_s=0.04, grants_ranges=number % 3 != 2)
    if number % 3:
        behaviour.breaks_after, behaviour.breaks = 9_000, 1_000_000
        if not behaviour.grants_ranges:
            behaviour.breaks_after, behaviour.breaks = 200_000, 1
    return behaviour


def test_a_fetch_that_is_killed_several_times_gives_the_same_bytes(screen: Path) -> None:
    expected = result_of(fetch(screen, "undisturbed"))
    rng = generator("kills", "short")
    assert fetch_and_kill(screen, "killed", behaviour_of_round(screen, 0), rng, most=5)
    assert result_of(fetch(screen, "killed")) == expected


@pytest.mark.soak
def test_a_hundred_kills_do_not_change_a_byte(screen: Path) -> None:
    expected = result_of(fetch(screen, "undisturbed"))
    rng, kills, rounds = generator("kills", "long"), 0, 0
    while kills < 120:
        kills += fetch_and_kill(screen, f"killed{rounds}", behaviour_of_round(screen, rounds), rng, most=40)
        assert result_of(fetch(screen, f"killed{rounds}")) == expected
        rounds += 1
    assert rounds >= 3  # by ranges, by ranges that break, and whole archives
