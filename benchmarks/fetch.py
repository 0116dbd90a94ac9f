"""fetch: prints what fetching members costs in bytes, requests and time, against whole archives and naive ranges.

    python benchmarks/fetch.py                    # 3 plates of 720 members of 150 kB, 50 ms a round trip
    python benchmarks/fetch.py --members 3600 --latency-ms 20

A server on this machine serves archives shaped like BBBC021's, smaller images in as many files, and answers every
request late by a round trip, every new connection by another one. Wanted is as much as for the paper's Nocodazole
subset: of each plate 10 wells with 4 fields in 3 channels. `curl` brings the three archives whole. The naive peer is
`zipfile` on a file whose every read is one request, as it is often written down. All are timed in one run.
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
from unruly import Manners, serving

from cellssl.datasets.transfer.http import Patience
from cellssl.datasets.transfer.open_source import source_at
from cellssl.datasets.transfer.sources import Bench
from cellssl.datasets.transfer.zip_members import Taken
from cellssl.randomness import generator

WANTED_PER_PLATE = 10 * 4 * 3


@dataclass(frozen=True)
class Cost:
    """What one way of fetching took."""

    seconds: float
    moved_bytes: int
    requests: int


def main() -> None:
    """The table, and the two ratios that count."""
    given = parsed()
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        folder = Path(root)
        (folder / "there").mkdir()
        for plate in range(given.plates):
            write_archive(folder / "there" / f"plate{plate}.zip", plate, given.members, given.member_bytes)
        compressed, directories, whole = sizes(folder / "there")
        costs = measured(folder, given)
    print(
        f"{given.plates} archives of {given.members:,} members, {whole / 1e6:,.1f} MB in all; wanted "
        f"{given.plates * WANTED_PER_PLATE:,} members of {compressed / 1e6:,.1f} MB; directories "
        f"{directories / 1e6:,.2f} MB; {given.latency_ms:.0f} ms a round trip"
    )
    print(f"{'':32}{'seconds':>9}{'MB moved':>10}{'requests':>10}")
    for name, cost in costs.items():
        print(f"{name:32}{cost.seconds:9.2f}{cost.moved_bytes / 1e6:10.2f}{cost.requests:10,}")
    ours, naive, curl = (costs[name] for name in (f"cellssl, {given.connections} connections", "naive", "curl, whole"))
    print(
        f"bytes moved: {(ours.moved_bytes - directories) / compressed:.4f} times the wanted members' compressed bytes, "
        f"plus the directories (goal at most 1.05)"
    )
    print(f"time: naive / cellssl = {naive.seconds / ours.seconds:.1f} (goal at least 5 at 50 ms a round trip)")
    print(f"      curl of whole archives / cellssl = {curl.seconds / ours.seconds:.2f} on this loopback; ", end="")
    print(f"at 100 Mbit/s its bytes alone take {whole / 12.5e6:.0f} s, ours {ours.moved_bytes / 12.5e6:.0f} s")


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=3)
    parser.add_argument("--members", type=int, default=720, help="in every archive; BBBC021 has 720")
    parser.add_argument("--member-bytes", type=int, default=150_000, help="before they are packed")
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where all of it lies meanwhile")
    return parser.parse_args()


def write_archive(path: Path, plate: int, members: int, size: int) -> None:
    """Members of noise of 12 bits in 16, which packs about as far as images of cells do."""
    noise = generator("benchmark", "fetch", plate).integers(0, 4096, (members, size // 2)).astype("<u2")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(members):
            archive.writestr(name_of(plate, number), noise[number].tobytes())


def name_of(plate: int, number: int) -> str:
    """As long as the names of BBBC021 are."""
    return f"plate{plate}/Week1_150607_well{number:05d}_s1_w1FE9E7681-E7DA-4BE8-B72E-66489E8726BE.tif"


def wanted_of(plate: int, members: int) -> list[str]:
    """Every third or so, in as many runs as wells make."""
    step = max(1, members // WANTED_PER_PLATE)
    return [name_of(plate, number * step) for number in range(min(members, WANTED_PER_PLATE))]


def sizes(there: Path) -> tuple[int, int, int]:
    """Compressed bytes of the wanted members, bytes of the directories, bytes of all archives."""
    compressed = directories = whole = 0
    for plate, path in enumerate(sorted(there.glob("*.zip"))):
        with zipfile.ZipFile(path) as archive:
            names = wanted_of(plate, len(archive.namelist()))
            compressed += sum(archive.getinfo(name).compress_size for name in names)
            directories += path.stat().st_size - archive.start_dir
        whole += path.stat().st_size
    return compressed, directories, whole


def measured(folder: Path, given: argparse.Namespace) -> dict[str, Cost]:
    """Every way once, one after the other, against the same server."""
    ways = {
        f"cellssl, {given.connections} connections": lambda url, out: ours(url, out, given, given.connections),
        "cellssl, 1 connection": lambda url, out: ours(url, out, given, 1),
        "naive": lambda url, out: naive(url, out, given),
        "curl, whole": lambda url, out: curl(url, out, given),
    }
    costs = {}
    for number, (name, way) in enumerate(ways.items()):
        manners = Manners(folder / "there", latency_s=given.latency_ms / 1e3, connect_s=given.latency_ms / 1e3)
        out = folder / f"out{number}"
        out.mkdir()
        with serving(manners) as address:
            began = time.perf_counter()
            way(address, out)
            costs[name] = Cost(time.perf_counter() - began, manners.sent, len(manners.asked))
    return costs


def ours(url: str, out: Path, given: argparse.Namespace, connections: int) -> None:
    """As a fetch does it, plate by plate."""
    source = source_at(url, Patience())
    for plate in range(given.plates):
        wanted = {name: out / name for name in wanted_of(plate, given.members)}
        for event in source.images(f"plate{plate}.zip", "", wanted, Bench(out, connections)):
            assert not (isinstance(event, Taken) and event.reason)


class NaiveFile(io.RawIOBase):
    """A file on a server, of which every read is one request."""

    def __init__(self, url: str) -> None:
        self._session, self._url, self._at = requests.Session(), url, 0
        self._size = int(self._session.get(url, headers={"Range": "bytes=0-0"}).headers["Content-Range"].split("/")[1])

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Costs nothing."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """One request."""
        stop = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if stop <= self._at:
            return b""
        answer = self._session.get(self._url, headers={"Range": f"bytes={self._at}-{stop - 1}"})
        self._at = stop
        return answer.content


def naive(url: str, out: Path, given: argparse.Namespace) -> None:
    """`zipfile` on such a file, one member after the other."""
    for plate in range(given.plates):
        with zipfile.ZipFile(NaiveFile(f"{url}/plate{plate}.zip")) as archive:  # type: ignore[call-overload]
            for name in wanted_of(plate, given.members):
                archive.extract(name, out)


def curl(url: str, out: Path, given: argparse.Namespace) -> None:
    """The whole archives, over one connection."""
    for plate in range(given.plates):
        subprocess.run(["curl", "-sS", "-o", str(out / f"{plate}.zip"), f"{url}/plate{plate}.zip"], check=True)


if __name__ == "__main__":
    main()
