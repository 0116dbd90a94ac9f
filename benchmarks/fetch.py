"""fetch: print what fetching members costs in bytes, requests and time, compared with whole archives and naive ranges.

    python benchmarks/fetch.py                    # 3 plates of 720 members of 150 kB, 50 ms per round trip
    python benchmarks/fetch.py --members 3600 --latency-ms 20

A server on this machine serves archives like those of BBBC021, with as many but smaller images. It delays every answer
by one round trip, and every new connection by another one. The wanted images are as many as in the paper's Nocodazole
subset: 10 wells per plate with 4 fields in 3 channels. `curl` downloads the three archives whole. The naive method is
`zipfile` on a file object whose every read is one request, as it is often written. All are timed in one run.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from misbehaving_server import ServerBehaviour, serving

from cellssl.datasets.transfer.http import RetryPolicy
from cellssl.datasets.transfer.open_source import open_source
from cellssl.datasets.transfer.sources import PlateDestination
from cellssl.datasets.transfer.zip_members import MemberResult
from cellssl.randomness import generator

WANTED_PER_PLATE = 10 * 4 * 3


@dataclass(frozen=True)
class Cost:
    """What one way of fetching cost."""

    seconds: float
    moved_bytes: int
    requests: int


def main() -> None:
    """Print the table, and the two ratios that matter."""
    given = parse_arguments()
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        folder = Path(root)
        (folder / "there").mkdir()
        for plate in range(given.plates):
            write_archive(folder / "there" / f"plate{plate}.zip", plate, given.members, given.member_bytes)
        compressed, directories, whole = sizes(folder / "there")
        costs = measure(folder, given)
    print(
        f"{given.plates} archives of {given.members:,} members, {whole / 1e6:,.1f} MB in all; wanted "
        f"{given.plates * WANTED_PER_PLATE:,} members of {compressed / 1e6:,.1f} MB; directories "
        f"{directories / 1e6:,.2f} MB; {given.latency_ms:.0f} ms per round trip"
    )
    print(f"{'':32}{'seconds':>9}{'MB moved':>10}{'requests':>10}")
    for name, cost in costs.items():
        print(f"{name:32}{cost.seconds:9.2f}{cost.moved_bytes / 1e6:10.2f}{cost.requests:10,}")
    ours, naive, curl = (costs[name] for name in (f"cellssl, {given.connections} connections", "naive", "curl, whole"))
    print(
        f"bytes moved: {(ours.moved_bytes - directories) / compressed:.4f} times the wanted members' compressed bytes, "
        f"plus the directories (goal at most 1.05)"
    )
    print(f"time: naive / cellssl = {naive.seconds / ours.seconds:.1f} (goal at least 5 at 50 ms per round trip)")
    print(f"      curl of whole archives / cellssl = {curl.seconds / ours.seconds:.2f} on this loopback; ", end="")
    print(f"at 100 Mbit/s its bytes alone take {whole / 12.5e6:.0f} s, ours {ours.moved_bytes / 12.5e6:.0f} s")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=3)
    parser.add_argument("--members", type=int, default=720, help="in every archive; BBBC021 has 720")
    parser.add_argument("--member-bytes", type=int, default=150_000, help="before compression")
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    return parser.parse_args()


def write_archive(path: Path, plate: int, members: int, size: int) -> None:
    """Write members of 12-bit noise in 16 bits, which compresses about as well as images of cells."""
    noise = generator("benchmark", "fetch", plate).integers(0, 4096, (members, size // 2)).astype("<u2")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(members):
            archive.writestr(name_of(plate, number), noise[number].tobytes())


def name_of(plate: int, number: int) -> str:
    """Return a name as long as those of BBBC021."""
    return f"plate{plate}/Week1_150607_well{number:05d}_s1_w1FE9E7681-E7DA-4BE8-B72E-66489E8726BE.tif"


def wanted_of(plate: int, members: int) -> list[str]:
    """Return about every third member, spread over the archive like the images of wells."""
    step = max(1, members // WANTED_PER_PLATE)
    return [name_of(plate, number * step) for number in range(min(members, WANTED_PER_PLATE))]


def sizes(there: Path) -> tuple[int, int, int]:
    """Return the compressed bytes of the wanted members, the bytes of the directories, and those of all archives."""
    compressed = directories = whole = 0
    for plate, path in enumerate(sorted(there.glob("*.zip"))):
        with zipfile.ZipFile(path) as archive:
            names = wanted_of(plate, len(archive.namelist()))
            compressed += sum(archive.getinfo(name).compress_size for name in names)
            directories += path.stat().st_size - archive.start_dir
        whole += path.stat().st_size
    return compressed, directories, whole


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Cost]:
    """Measure every way once, one after the other, with the same server."""
    ways = {
        f"cellssl, {given.connections} connections": lambda url, out: ours(url, out, given, given.connections),
        "cellssl, 1 connection": lambda url, out: ours(url, out, given, 1),
        "naive": lambda url, out: naive(url, out, given),
        "curl, whole": lambda url, out: curl(url, out, given),
    }
    costs = {}
    for number, (name, way) in enumerate(ways.items()):
        behaviour = ServerBehaviour(
            folder / "there", latency_s=given.latency_ms / 1e3, connect_s=given.latency_ms / 1e3
        )
        out = folder / f"out{number}"
        out.mkdir()
        with serving(behaviour) as address:
            started_s = time.perf_counter()
            way(address, out)
            costs[name] = Cost(time.perf_counter() - started_s, behaviour.sent_bytes, len(behaviour.requests))
    return costs


def ours(url: str, out: Path, given: argparse.Namespace, connections: int) -> None:
    """Fetch as cellssl does, plate by plate."""
    source = open_source(url, RetryPolicy())
    for plate in range(given.plates):
        wanted = {name: out / name for name in wanted_of(plate, given.members)}
        for event in source.images(f"plate{plate}.zip", "", wanted, PlateDestination(out, connections)):
            assert not (isinstance(event, MemberResult) and event.reason)


class NaiveFile(io.RawIOBase):
    """A file on a server; every read is one request."""

    def __init__(self, url: str) -> None:
        self._session, self._url, self._at = requests.Session(), url, 0
        self._size = int(self._session.get(url, headers={"Range": "bytes=0-0"}).headers["Content-Range"].split("/")[1])

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, without a request."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Read with one request."""
        stop = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if stop <= self._at:
            return b""
        answer = self._session.get(self._url, headers={"Range": f"bytes={self._at}-{stop - 1}"})
        self._at = stop
        return answer.content


def naive(url: str, out: Path, given: argparse.Namespace) -> None:
    """Extract with `zipfile` from such a file, one member after the other."""
    for plate in range(given.plates):
        with zipfile.ZipFile(NaiveFile(f"{url}/plate{plate}.zip")) as archive:  # type: ignore[call-overload]
            for name in wanted_of(plate, given.members):
                archive.extract(name, out)


def curl(url: str, out: Path, given: argparse.Namespace) -> None:
    """Download the whole archives over one connection."""
    for plate in range(given.plates):
        subprocess.run(["curl", "-sS", "-o", str(out / f"{plate}.zip"), f"{url}/plate{plate}.zip"], check=True)


if __name__ == "__main__":
    main()
