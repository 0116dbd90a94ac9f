"""What fetching members promises: exactly the bytes of the archive, or an error, whatever a server does."""

import contextlib
import gzip
import socket
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from unruly import Manners, Reply, first, serving

from cellssl.datasets.transfer.http import Patience
from cellssl.datasets.transfer.open_source import source_at
from cellssl.datasets.transfer.sources import Bench
from cellssl.datasets.transfer.zip_members import Taken
from cellssl.errors import NetworkError
from cellssl.events import Event
from cellssl.randomness import generator

QUICK = Patience(tries=3, pause_s=0.001, timeout_s=5.0)
WANTED = [f"P/{number}.tif" for number in range(6)]
MEMBERS = {f"P/{number}.tif": generator("member", number).bytes(20_000) + bytes(20_000) for number in range(12)}
"""Half of each packs to nothing."""


@pytest.fixture
def manners(tmp_path: Path) -> Manners:
    (tmp_path / "there").mkdir()
    write_archive(tmp_path / "there" / "a.zip")
    return Manners(tmp_path / "there")


def write_archive(path: Path, members: dict[str, bytes] = MEMBERS) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(members.items()):
            archive.writestr(name, content, zipfile.ZIP_STORED if number % 3 == 1 else zipfile.ZIP_DEFLATED)


def fetched(
    manners: Manners, folder: Path, patience: Patience = QUICK, connections: int = 4
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files that are there at the end, and the reasons of those that are not."""
    with serving(manners) as address:
        events = list(images(address, folder, patience, connections))
    assert not [path for path in folder.rglob("*") if path.is_file() and ".tif" not in path.name and "zip" in path.name]
    reasons = {event.member: event.reason for event in events if isinstance(event, Taken) and event.reason}
    there = {member: (folder / member).read_bytes() for member in WANTED if (folder / member).is_file()}
    assert set(there) | set(reasons) == set(WANTED)
    assert not set(there) & set(reasons)
    return there, reasons


def images(address: str, folder: Path, patience: Patience = QUICK, connections: int = 4) -> Any:
    wanted = {member: folder / member for member in WANTED}
    return source_at(address, patience).images("a.zip", "", wanted, Bench(folder, connections))


RIGHT = {member: MEMBERS[member] for member in WANTED}


def is_member(reply: Reply) -> bool:
    """Whether a member was asked for, and no directory."""
    return reply.wanted is not None and len(reply.body) > 5_000


def is_directory(reply: Reply) -> bool:
    """Whether the directory was asked for."""
    return reply.body.startswith(b"PK\x01\x02")


def all_of_it(reply: Reply) -> None:
    reply.status, reply.body = 200, reply.whole
    del reply.headers["Content-Range"]


def from_elsewhere(reply: Reply) -> None:
    reply.headers["Content-Range"] = f"bytes 7-{6 + len(reply.body)}/{len(reply.whole)}"


def wrong_bytes_under_the_right_range(reply: Reply) -> None:
    reply.body = reply.body[::-1]


def cut_short(reply: Reply) -> None:
    reply.breaks_after = 6_000


def reset(reply: Reply) -> None:
    reply.breaks_after, reply.resets = 6_000, True


def reset_before_a_byte(reply: Reply) -> None:
    reply.breaks_after, reply.resets = 0, True


def longer_than_promised(reply: Reply) -> None:
    reply.body += b"and more"


def longer_in_chunks(reply: Reply) -> None:
    reply.body, reply.length = reply.body + b"and more", "chunks"


def less_and_says_so(reply: Reply) -> None:
    start = int(reply.headers["Content-Range"].split()[1].split("-")[0])
    reply.body = reply.body[:7_000]
    reply.headers["Content-Range"] = f"bytes {start}-{start + len(reply.body) - 1}/{len(reply.whole)}"


def one_byte_flipped(reply: Reply) -> None:
    middle = len(reply.body) // 2
    reply.body = reply.body[:middle] + bytes([reply.body[middle] ^ 1]) + reply.body[middle + 1 :]


def without_etag(reply: Reply) -> None:
    del reply.headers["ETag"]


def another_etag_each_time(reply: Reply) -> None:
    reply.headers["ETag"] = f'"{time.monotonic_ns()}"'


def weak_etag(reply: Reply) -> None:
    reply.headers["ETag"] = "W/" + reply.headers["ETag"]


def in_chunks(reply: Reply) -> None:
    reply.length = "chunks"


def with_no_marked_end(reply: Reply) -> None:
    reply.length = None


def packed_on_the_way(reply: Reply) -> None:
    reply.body = gzip.compress(reply.body)
    reply.headers["Content-Encoding"] = "gzip"


def without_a_range(reply: Reply) -> None:
    reply.headers.pop("Content-Range", None)


def of_unknown_size(reply: Reply) -> None:
    if "Content-Range" in reply.headers:
        reply.headers["Content-Range"] = reply.headers["Content-Range"].split("/")[0] + "/*"


def many_parts(reply: Reply) -> None:
    reply.headers["Content-Type"] = "multipart/byteranges; boundary=x"
    reply.body = b"--x\r\nContent-Range: " + reply.headers.pop("Content-Range").encode() + b"\r\n\r\n" + reply.body


def answered(status: int, **headers: str) -> Callable[[Reply], None]:
    def twist(reply: Reply) -> None:
        reply.status, reply.body = status, b"no"
        reply.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return twist


def elsewhere(reply: Reply) -> None:
    if "moved" not in reply.path:
        reply.status, reply.body, reply.headers = 302, b"", {"Location": "/moved/a.zip"}


ONCE = {
    "all of it": all_of_it,
    "a range from elsewhere": from_elsewhere,
    "wrong bytes": wrong_bytes_under_the_right_range,
    "a short body": cut_short,
    "a reset": reset,
    "a reset before a byte": reset_before_a_byte,
    "a long body": longer_than_promised,
    "a long body in chunks": longer_in_chunks,
    "less, and says so": less_and_says_so,
    "a flipped byte": one_byte_flipped,
    "another ETag": another_etag_each_time,
    "a packed body": packed_on_the_way,
    "many parts": many_parts,
    "429 with seconds": answered(429, Retry_After="0"),
    "429 with a date": answered(429, Retry_After=formatdate(0, usegmt=True)),
    "429 with rubbish": answered(429, Retry_After="soon"),
    "503": answered(503),
}


@pytest.mark.parametrize("case", sorted(ONCE))
def test_what_a_server_does_wrong_twice_is_mended(case: str, manners: Manners, tmp_path: Path) -> None:
    manners.twist = first(2, ONCE[case], is_member)
    assert fetched(manners, tmp_path / "members") == (RIGHT, {})
    manners.twist = first(1, ONCE[case], is_directory)
    assert fetched(manners, tmp_path / "directory") == (RIGHT, {})


ALWAYS = {
    "no ranges": all_of_it,
    "ranges from elsewhere": from_elsewhere,
    "long bodies": longer_than_promised,
    "wrong bytes": wrong_bytes_under_the_right_range,
    "no ETag": without_etag,
    "a new ETag each time": another_etag_each_time,
    "weak ETags": weak_etag,
    "chunks": in_chunks,
    "no marked end": with_no_marked_end,
    "packed bodies": packed_on_the_way,
    "no Content-Range": without_a_range,
    "unknown size": of_unknown_size,
    "less, and says so": less_and_says_so,
    "many parts": many_parts,
}


@pytest.mark.parametrize("case", sorted(ALWAYS))
def test_a_server_that_never_does_it_right_still_gives_the_right_bytes(
    case: str, manners: Manners, tmp_path: Path
) -> None:
    of_ranges = {"no ranges", "wrong bytes", "ranges from elsewhere", "long bodies", "many parts", "less, and says so"}
    twist = ALWAYS[case]
    manners.twist = lambda reply: twist(reply) if reply.status == 206 or case not in of_ranges else None
    assert fetched(manners, tmp_path / "here") == (RIGHT, {})


def test_only_wanted_members_and_the_directory_are_moved(manners: Manners, tmp_path: Path) -> None:
    fetched(manners, tmp_path / "here")
    with zipfile.ZipFile(manners.folder / "a.zip") as archive:
        wanted = sum(archive.getinfo(member).compress_size for member in WANTED)
        directory = (manners.folder / "a.zip").stat().st_size - archive.start_dir
    assert manners.sent <= 1.05 * wanted + directory + 200
    assert len(manners.asked) == 3 + len(WANTED)


def test_redirects_are_followed_and_ranges_with_them(manners: Manners, tmp_path: Path) -> None:
    (manners.folder / "moved").mkdir()
    (manners.folder / "moved" / "a.zip").write_bytes((manners.folder / "a.zip").read_bytes())
    manners.twist = elsewhere
    assert fetched(manners, tmp_path / "here") == (RIGHT, {})


@pytest.mark.parametrize("share", [3, 2])
def test_a_storm_of_errors_is_weathered(share: int, manners: Manners, tmp_path: Path) -> None:
    draws = iter(generator("storm", share).integers(0, share, 100_000))
    twists = [answered(503), answered(500), answered(429, Retry_After="0"), reset, reset_before_a_byte, cut_short]
    kinds = iter(generator("kinds", share).integers(0, len(twists), 100_000))
    manners.twist = lambda reply: twists[next(kinds)](reply) if next(draws) == 0 else None
    patience = Patience(tries=6, pause_s=0.001, timeout_s=5.0)
    assert fetched(manners, tmp_path / "here", patience) == (RIGHT, {})


def refused(manners: Manners, folder: Path, patience: Patience = QUICK) -> str:
    with serving(manners) as address, pytest.raises(NetworkError) as caught:
        list(images(address, folder, patience))
    assert caught.value.hint
    assert not list(folder.glob("P/*.tif"))
    return caught.value.message


GIVEN_UP = {
    "to another scheme": (answered(302, Location="ftp://x.org/a.zip"), "redirects from http to ftp://x.org/a.zip"),
    "to a file": (answered(302, Location="file:///etc/passwd"), "redirects from http to file:///etc/passwd"),
    "round and round": (answered(302, Location="/a.zip"), "from one address to another"),
    "forbidden": (answered(403), "the server answered 403"),
    "long pauses": (answered(429, Retry_After="7200"), ": the server is busy, and asks to be left alone for 7,200 s"),
    "always busy": (answered(503), "the server answered 503"),
    "a page": (
        lambda reply: setattr(reply, "body", b"\n<!-- a\nportal --> <HTML>log in") or setattr(reply, "status", 200),
        "a web page",
    ),
}


@pytest.mark.parametrize("case", sorted(GIVEN_UP))
def test_a_server_without_the_file_is_a_network_fault_in_words(case: str, manners: Manners, tmp_path: Path) -> None:
    twist, words = GIVEN_UP[case]
    manners.twist = twist
    assert words in refused(manners, tmp_path / "here")


def test_the_proxy_that_the_environment_names_is_asked(
    manners: Manners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(manners) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        list(images("http://plates.invalid", tmp_path / "here"))
    assert {member: (tmp_path / "here" / member).read_bytes() for member in WANTED} == RIGHT


def test_a_disk_that_others_fill_meanwhile_leaves_no_half_member(manners: Manners, small_disk: Path) -> None:
    def fill(reply: Reply) -> None:
        with contextlib.suppress(OSError), (small_disk / "of others").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    manners.twist = first(1, fill, lambda reply: "P/4.tif" in str(reply.body[:60]))
    with serving(manners) as address, pytest.raises(OSError, match="No space left on device"):
        list(images(address, small_disk / "here", connections=1))
    came = {path.relative_to(small_disk / "here").as_posix() for path in small_disk.glob("here/P/*")}
    assert "P/4.tif" not in came
    assert all((small_disk / "here" / member).read_bytes() == MEMBERS[member] for member in came)
    (small_disk / "of others").unlink()
    assert fetched(manners, small_disk / "here") == (RIGHT, {})


IMPATIENT = Patience(tries=2, pause_s=0.001, timeout_s=0.3, longest_s=0.1)


def test_a_server_that_is_silent_or_drips_is_given_up(manners: Manners, tmp_path: Path) -> None:
    manners.latency_s = 2.0
    assert "timed out" in refused(manners, tmp_path / "silent", IMPATIENT)
    manners.latency_s = 0.0
    manners.twist = lambda reply: setattr(reply, "drip_s", 0.1) if len(reply.body) > 90 else None
    assert "bytes came in" in refused(manners, tmp_path / "drips", IMPATIENT)


def test_a_head_that_drips_is_given_up_too(tmp_path: Path) -> None:
    def drip(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            for byte in b"HTTP/1.1 206 Partial\r\nX: " + bytes(99):
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        with pytest.raises(NetworkError, match="nothing has come for"):
            list(images(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path / "here", IMPATIENT))


def test_unpacking_what_took_long_to_come_is_no_silence(manners: Manners, tmp_path: Path) -> None:
    manners.ranges, manners.latency_s = False, 1.2
    patience = Patience(tries=1, pause_s=0.001, timeout_s=2.0, longest_s=0.01)
    assert fetched(manners, tmp_path / "here", patience) == (RIGHT, {})


def test_a_member_that_is_always_broken_is_asked_for_twice_and_named(manners: Manners, tmp_path: Path) -> None:
    member = manners.folder / "a.zip"
    with zipfile.ZipFile(member) as archive:
        place = archive.getinfo("P/3.tif").header_offset + 500
    content = bytearray(member.read_bytes())
    content[place] ^= 0xFF
    member.write_bytes(content)
    there, reasons = fetched(manners, tmp_path / "here")
    assert set(reasons) == {"P/3.tif"}
    assert "P/3.tif is broken in the archive" in reasons["P/3.tif"]
    assert there == {member: content for member, content in RIGHT.items() if member != "P/3.tif"}
    assert Counter(Counter(wanted for _, wanted in manners.asked).values())[2] == 1 + 3


def test_an_archive_that_changes_under_way_gives_all_of_the_new_one(manners: Manners, tmp_path: Path) -> None:
    changed = {member: content[::-1] for member, content in MEMBERS.items()}

    def change(reply: Reply) -> None:
        write_archive(manners.folder / "a.zip", changed)

    manners.twist = first(1, change, is_member)
    there, reasons = fetched(manners, tmp_path / "here", connections=1)
    assert (there, reasons) == ({member: changed[member] for member in WANTED}, {})


def test_finished_files_are_not_asked_for_again_and_changed_ones_are(manners: Manners, tmp_path: Path) -> None:
    fetched(manners, tmp_path / "here")
    (tmp_path / "here/P/0.tif").unlink()
    (tmp_path / "here/P/1.tif").write_bytes(MEMBERS["P/1.tif"][:-1] + b"!")
    manners.asked.clear()
    assert fetched(manners, tmp_path / "here") == (RIGHT, {})
    assert len(manners.asked) == 3 + 2


def test_whoever_stops_listening_is_obeyed_at_once(manners: Manners, tmp_path: Path) -> None:
    manners.twist = lambda reply: setattr(reply, "drip_s", 0.01) if is_member(reply) else None
    with serving(manners) as address:
        arriving = images(address, tmp_path / "here")
        events: list[Event] = [next(arriving) for _ in range(3)]
        began = time.monotonic()
        arriving.close()
    assert events
    assert time.monotonic() - began < 5
    assert not list((tmp_path / "here").glob("P/*"))
