"""Tests of fetching members: exactly the bytes of the archive, or an error, whatever a server does."""

import contextlib
import gzip
import itertools
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from misbehaving_server import Reply, ServerBehaviour, alter_first, alter_some, cached, flips_a_bit, serving

from cellssl.datasets.transfer.http import RetryPolicy
from cellssl.datasets.transfer.open_source import open_source
from cellssl.datasets.transfer.sources import PlateDestination
from cellssl.datasets.transfer.zip_members import MemberResult
from cellssl.errors import NetworkError
from cellssl.events import Event
from cellssl.randomness import generator

QUICK = RetryPolicy(tries=3, pause_s=0.001, timeout_s=5.0)
WANTED = [f"P/{number}.tif" for number in range(6)]
MEMBERS = {f"P/{number}.tif": generator("member", number).bytes(20_000) + bytes(20_000) for number in range(12)}
"""Half of each compresses to almost nothing."""


@pytest.fixture
def behaviour(tmp_path: Path) -> ServerBehaviour:
    (tmp_path / "there").mkdir()
    write_archive(tmp_path / "there" / "a.zip")
    return ServerBehaviour(tmp_path / "there")


def write_archive(path: Path, members: dict[str, bytes] = MEMBERS) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(members.items()):
            archive.writestr(name, content, zipfile.ZIP_STORED if number % 3 == 1 else zipfile.ZIP_DEFLATED)


def fetch_members(
    behaviour: ServerBehaviour, folder: Path, policy: RetryPolicy = QUICK, connections: int = 4
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Fetch the wanted members; return the files that are there at the end, and the reasons of those that are not."""
    with serving(behaviour) as address:
        events = list(images(address, folder, policy, connections))
    assert not [path for path in folder.rglob("*") if path.is_file() and ".tif" not in path.name and "zip" in path.name]
    reasons = {event.member: event.reason for event in events if isinstance(event, MemberResult) and event.reason}
    there = {member: (folder / member).read_bytes() for member in WANTED if (folder / member).is_file()}
    assert set(there) | set(reasons) == set(WANTED)
    assert not set(there) & set(reasons)
    return there, reasons


def images(address: str, folder: Path, policy: RetryPolicy = QUICK, connections: int = 4) -> Any:
    wanted = {member: folder / member for member in WANTED}
    return open_source(address, policy).images("a.zip", "", wanted, PlateDestination(folder, connections))


RIGHT = {member: MEMBERS[member] for member in WANTED}


@pytest.mark.parametrize("seed", range(3))
def test_bits_flipped_on_the_way_are_no_fault_of_the_archive(
    seed: int, behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    behaviour.alter = alter_some(0.3, seed, flips_a_bit(seed))
    assert fetch_members(behaviour, tmp_path / "here", RetryPolicy(tries=9, pause_s=0.001)) == (RIGHT, {})
    member = behaviour.folder / "a.zip"
    with zipfile.ZipFile(member) as archive:
        place = archive.getinfo("P/3.tif").header_offset + 500
    member.write_bytes(flipped_at(member.read_bytes(), place))
    there, reasons = fetch_members(behaviour, tmp_path / "broken", RetryPolicy(tries=9, pause_s=0.001))
    assert set(reasons) == {"P/3.tif"} and len(there) == 5


def flipped_at(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("place", [0, 60, 10_000, -1])
def test_the_same_place_flipped_in_every_other_answer_is_no_fault_of_the_archive(
    place: int, behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    def flip(reply: Reply) -> None:
        reply.body = flipped_at(reply.body, place) if len(reply.body) > place else reply.body

    behaviour.alter = alter_some(0.5, 1, flip)
    assert fetch_members(behaviour, tmp_path / "here", RetryPolicy(tries=9, pause_s=0.001)) == (RIGHT, {})


@pytest.mark.parametrize("heeds_requests", [True, False])
def test_a_damaged_answer_that_a_cache_keeps_is_no_fault_of_the_archive(
    heeds_requests: bool, behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    behaviour.alter = cached(alter_some(0.5, 2, flips_a_bit(2)), heeds_requests=heeds_requests)
    assert fetch_members(behaviour, tmp_path / "here", RetryPolicy(tries=9, pause_s=0.001)) == (RIGHT, {})


def test_a_damaged_machine_behind_the_same_address_is_no_fault_of_the_archive(
    behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    flip = flips_a_bit(1)
    behaviour.alter = lambda reply: flip(reply) if reply.connection % 2 else None
    assert fetch_members(behaviour, tmp_path / "here", RetryPolicy(tries=9, pause_s=0.001)) == (RIGHT, {})


def test_bytes_that_differ_at_every_reading_are_a_network_error_and_what_came_is_kept(
    behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    places = itertools.count(1_000, 997)

    def flip(reply: Reply) -> None:
        if is_member(reply) and b"P/3.tif" in reply.body[:400]:
            reply.body = flipped_at(reply.body, next(places))

    behaviour.alter = flip
    with serving(behaviour) as address, pytest.raises(NetworkError, match="gives other bytes at every reading"):
        list(images(address, tmp_path / "here"))
    assert len(list((tmp_path / "here/P").glob("*.tif"))) == 5
    behaviour.alter = None
    assert fetch_members(behaviour, tmp_path / "here") == (RIGHT, {})


def is_member(reply: Reply) -> bool:
    """Return whether a member was asked for, and not the directory."""
    return reply.requested_range is not None and len(reply.body) > 5_000


def is_directory(reply: Reply) -> bool:
    """Return whether the directory was asked for."""
    return reply.body.startswith(b"PK\x01\x02")


def send_the_whole_file(reply: Reply) -> None:
    reply.status, reply.body = 200, reply.whole
    del reply.headers["Content-Range"]


def send_another_range(reply: Reply) -> None:
    reply.headers["Content-Range"] = f"bytes 7-{6 + len(reply.body)}/{len(reply.whole)}"


def send_wrong_bytes(reply: Reply) -> None:
    reply.body = reply.body[::-1]


def cut_short(reply: Reply) -> None:
    reply.breaks_after = 6_000


def reset(reply: Reply) -> None:
    reply.breaks_after, reply.resets = 6_000, True


def reset_before_a_byte(reply: Reply) -> None:
    reply.breaks_after, reply.resets = 0, True


def send_too_much(reply: Reply) -> None:
    reply.body += b"and more"


def send_too_much_in_chunks(reply: Reply) -> None:
    reply.body, reply.framing = reply.body + b"and more", "chunks"


def send_a_shorter_range(reply: Reply) -> None:
    start = int(reply.headers["Content-Range"].split()[1].split("-")[0])
    reply.body = reply.body[:7_000]
    reply.headers["Content-Range"] = f"bytes {start}-{start + len(reply.body) - 1}/{len(reply.whole)}"


def flip_one_byte(reply: Reply) -> None:
    middle = len(reply.body) // 2
    reply.body = reply.body[:middle] + bytes([reply.body[middle] ^ 1]) + reply.body[middle + 1 :]


def send_no_etag(reply: Reply) -> None:
    del reply.headers["ETag"]


def send_a_new_etag(reply: Reply) -> None:
    reply.headers["ETag"] = f'"{time.monotonic_ns()}"'


def send_a_weak_etag(reply: Reply) -> None:
    reply.headers["ETag"] = "W/" + reply.headers["ETag"]


def send_in_chunks(reply: Reply) -> None:
    reply.framing = "chunks"


def send_without_marked_end(reply: Reply) -> None:
    reply.framing = None


def compress(reply: Reply) -> None:
    reply.body = gzip.compress(reply.body)
    reply.headers["Content-Encoding"] = "gzip"


def send_no_content_range(reply: Reply) -> None:
    reply.headers.pop("Content-Range", None)


def send_unknown_size(reply: Reply) -> None:
    if "Content-Range" in reply.headers:
        reply.headers["Content-Range"] = reply.headers["Content-Range"].split("/")[0] + "/*"


def send_multipart(reply: Reply) -> None:
    reply.headers["Content-Type"] = "multipart/byteranges; boundary=x"
    reply.body = b"--x\r\nContent-Range: " + reply.headers.pop("Content-Range").encode() + b"\r\n\r\n" + reply.body


def send_status(status: int, **headers: str) -> Callable[[Reply], None]:
    def alter(reply: Reply) -> None:
        reply.status, reply.body = status, b"no"
        reply.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return alter


def redirect(reply: Reply) -> None:
    if "moved" not in reply.path:
        reply.status, reply.body, reply.headers = 302, b"", {"Location": "/moved/a.zip"}


ONCE = {
    "all of it": send_the_whole_file,
    "a range from elsewhere": send_another_range,
    "wrong bytes": send_wrong_bytes,
    "a short body": cut_short,
    "a reset": reset,
    "a reset before a byte": reset_before_a_byte,
    "a long body": send_too_much,
    "a long body in chunks": send_too_much_in_chunks,
    "less, and says so": send_a_shorter_range,
    "a flipped byte": flip_one_byte,
    "another ETag": send_a_new_etag,
    "a compressed body": compress,
    "many parts": send_multipart,
    "429 with seconds": send_status(429, Retry_After="0"),
    "429 with a date": send_status(429, Retry_After=formatdate(0, usegmt=True)),
    "429 with rubbish": send_status(429, Retry_After="soon"),
    "503": send_status(503),
}


@pytest.mark.parametrize("case", sorted(ONCE))
def test_a_fault_that_happens_twice_is_overcome(case: str, behaviour: ServerBehaviour, tmp_path: Path) -> None:
    behaviour.alter = alter_first(2, ONCE[case], is_member)
    assert fetch_members(behaviour, tmp_path / "members") == (RIGHT, {})
    behaviour.alter = alter_first(1, ONCE[case], is_directory)
    assert fetch_members(behaviour, tmp_path / "directory") == (RIGHT, {})


ALWAYS = {
    "no ranges": send_the_whole_file,
    "ranges from elsewhere": send_another_range,
    "long bodies": send_too_much,
    "wrong bytes": send_wrong_bytes,
    "no ETag": send_no_etag,
    "a new ETag each time": send_a_new_etag,
    "weak ETags": send_a_weak_etag,
    "chunks": send_in_chunks,
    "no marked end": send_without_marked_end,
    "compressed bodies": compress,
    "no Content-Range": send_no_content_range,
    "unknown size": send_unknown_size,
    "less, and says so": send_a_shorter_range,
    "many parts": send_multipart,
}


@pytest.mark.parametrize("case", sorted(ALWAYS))
def test_a_server_that_is_always_wrong_still_gives_the_right_bytes(
    case: str, behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    range_cases = {
        "no ranges",
        "wrong bytes",
        "ranges from elsewhere",
        "long bodies",
        "many parts",
        "less, and says so",
    }
    alter = ALWAYS[case]
    behaviour.alter = lambda reply: alter(reply) if reply.status == 206 or case not in range_cases else None
    assert fetch_members(behaviour, tmp_path / "here") == (RIGHT, {})


def test_only_wanted_members_and_the_directory_are_downloaded(behaviour: ServerBehaviour, tmp_path: Path) -> None:
    fetch_members(behaviour, tmp_path / "here")
    with zipfile.ZipFile(behaviour.folder / "a.zip") as archive:
        wanted = sum(archive.getinfo(member).compress_size for member in WANTED)
        directory = (behaviour.folder / "a.zip").stat().st_size - archive.start_dir
    assert behaviour.sent_bytes <= 1.05 * wanted + directory + 200
    assert len(behaviour.requests) == 3 + len(WANTED)


def test_redirects_are_followed_with_ranges(behaviour: ServerBehaviour, tmp_path: Path) -> None:
    (behaviour.folder / "moved").mkdir()
    (behaviour.folder / "moved" / "a.zip").write_bytes((behaviour.folder / "a.zip").read_bytes())
    behaviour.alter = redirect
    assert fetch_members(behaviour, tmp_path / "here") == (RIGHT, {})


@pytest.mark.parametrize("share", [3, 2])
def test_many_random_errors_are_overcome(share: int, behaviour: ServerBehaviour, tmp_path: Path) -> None:
    draws = iter(generator("storm", share).integers(0, share, 100_000))
    alterations = [
        send_status(503),
        send_status(500),
        send_status(429, Retry_After="0"),
        reset,
        reset_before_a_byte,
        cut_short,
    ]
    kinds = iter(generator("kinds", share).integers(0, len(alterations), 100_000))
    behaviour.alter = lambda reply: alterations[next(kinds)](reply) if next(draws) == 0 else None
    policy = RetryPolicy(tries=6, pause_s=0.001, timeout_s=5.0)
    assert fetch_members(behaviour, tmp_path / "here", policy) == (RIGHT, {})


def network_error(behaviour: ServerBehaviour, folder: Path, policy: RetryPolicy = QUICK) -> str:
    with serving(behaviour) as address, pytest.raises(NetworkError) as caught:
        list(images(address, folder, policy))
    assert caught.value.hint
    assert not list(folder.glob("P/*.tif"))
    return caught.value.message


PERMANENT = {
    "to another scheme": (send_status(302, Location="ftp://x.org/a.zip"), "redirects from http to ftp://x.org/a.zip"),
    "to a file": (send_status(302, Location="file:///etc/passwd"), "redirects from http to file:///etc/passwd"),
    "round and round": (send_status(302, Location="/a.zip"), "from one address to another"),
    "forbidden": (send_status(403), "the server answered 403"),
    "long pauses": (send_status(429, Retry_After="7200"), ": the server is busy, and asks to wait for 7,200 s"),
    "always busy": (send_status(503), "the server answered 503"),
    "a page": (
        lambda reply: setattr(reply, "body", b"\n<!-- a\nportal --> <HTML>log in") or setattr(reply, "status", 200),
        "a web page",
    ),
}


@pytest.mark.parametrize("case", sorted(PERMANENT))
def test_a_server_without_the_file_is_a_readable_network_error(
    case: str, behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    alter, words = PERMANENT[case]
    behaviour.alter = alter
    assert words in network_error(behaviour, tmp_path / "here")


def test_the_proxy_of_the_environment_is_used(
    behaviour: ServerBehaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(behaviour) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        list(images("http://plates.invalid", tmp_path / "here"))
    assert {member: (tmp_path / "here" / member).read_bytes() for member in WANTED} == RIGHT


def test_a_disk_that_fills_up_leaves_no_half_member(behaviour: ServerBehaviour, small_disk: Path) -> None:
    def fill(reply: Reply) -> None:
        with contextlib.suppress(OSError), (small_disk / "of others").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    behaviour.alter = alter_first(1, fill, lambda reply: "P/4.tif" in str(reply.body[:60]))
    with serving(behaviour) as address, pytest.raises(OSError, match="No space left on device"):
        list(images(address, small_disk / "here", connections=1))
    came = {path.relative_to(small_disk / "here").as_posix() for path in small_disk.glob("here/P/*")}
    assert "P/4.tif" not in came
    assert all((small_disk / "here" / member).read_bytes() == MEMBERS[member] for member in came)
    (small_disk / "of others").unlink()
    assert fetch_members(behaviour, small_disk / "here") == (RIGHT, {})


SHORT = RetryPolicy(tries=2, pause_s=0.001, timeout_s=0.3, max_pause_s=0.1)


def test_a_silent_or_very_slow_server_is_an_error(behaviour: ServerBehaviour, tmp_path: Path) -> None:
    behaviour.latency_s = 2.0
    assert "timed out" in network_error(behaviour, tmp_path / "silent", SHORT)
    behaviour.latency_s = 0.0
    behaviour.alter = lambda reply: setattr(reply, "drip_s", 0.1) if len(reply.body) > 90 else None
    assert "bytes arrived in" in network_error(behaviour, tmp_path / "drips", SHORT)


def test_a_head_that_comes_too_slowly_is_an_error(tmp_path: Path) -> None:
    def drip(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            for byte in b"HTTP/1.1 206 Partial\r\nX: " + bytes(99):
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        with pytest.raises(NetworkError, match="nothing has arrived for"):
            list(images(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path / "here", SHORT))


def test_extracting_after_a_slow_download_does_not_count_as_silence(behaviour: ServerBehaviour, tmp_path: Path) -> None:
    behaviour.grants_ranges, behaviour.latency_s = False, 1.2
    policy = RetryPolicy(tries=1, pause_s=0.001, timeout_s=2.0, max_pause_s=0.01)
    assert fetch_members(behaviour, tmp_path / "here", policy) == (RIGHT, {})


def test_a_member_that_is_always_broken_is_fetched_twice_and_reported(
    behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    member = behaviour.folder / "a.zip"
    with zipfile.ZipFile(member) as archive:
        place = archive.getinfo("P/3.tif").header_offset + 500
    content = bytearray(member.read_bytes())
    content[place] ^= 0xFF
    member.write_bytes(content)
    there, reasons = fetch_members(behaviour, tmp_path / "here")
    assert set(reasons) == {"P/3.tif"}
    assert "P/3.tif is broken in the archive" in reasons["P/3.tif"]
    assert there == {member: content for member, content in RIGHT.items() if member != "P/3.tif"}
    assert len(behaviour.requests) == 3 + 6 + 3 + 1  # the directory and the members, then it again and that member


def test_an_archive_that_changes_meanwhile_gives_all_members_of_the_new_one(
    behaviour: ServerBehaviour, tmp_path: Path
) -> None:
    changed = {member: content[::-1] for member, content in MEMBERS.items()}

    def change(reply: Reply) -> None:
        write_archive(behaviour.folder / "a.zip", changed)

    behaviour.alter = alter_first(1, change, is_member)
    there, reasons = fetch_members(behaviour, tmp_path / "here", connections=1)
    assert (there, reasons) == ({member: changed[member] for member in WANTED}, {})


def test_finished_files_are_not_fetched_again_and_changed_ones_are(behaviour: ServerBehaviour, tmp_path: Path) -> None:
    fetch_members(behaviour, tmp_path / "here")
    (tmp_path / "here/P/0.tif").unlink()
    (tmp_path / "here/P/1.tif").write_bytes(MEMBERS["P/1.tif"][:-1] + b"!")
    behaviour.requests.clear()
    assert fetch_members(behaviour, tmp_path / "here") == (RIGHT, {})
    assert len(behaviour.requests) == 3 + 2


def test_a_caller_that_stops_iterating_stops_the_work_at_once(behaviour: ServerBehaviour, tmp_path: Path) -> None:
    behaviour.alter = lambda reply: setattr(reply, "drip_s", 0.01) if is_member(reply) else None
    with serving(behaviour) as address:
        fetching = images(address, tmp_path / "here")
        events: list[Event] = [next(fetching) for _ in range(3)]
        began = time.monotonic()
        fetching.close()
    assert events
    assert time.monotonic() - began < 5
    assert not list((tmp_path / "here").glob("P/*"))
