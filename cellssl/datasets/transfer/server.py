"""server: images of an archive behind a URL in, files on disk out."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import ChangedError, LocalPieces, Pieces, RangesRefusedError, WebPieces
from cellssl.datasets.transfer.checksums import OF_ARCHIVES, check, digest_of, record_text
from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.http import Patience, RefusedError, Web
from cellssl.datasets.transfer.sources import (
    LARGEST_TABLE_BYTES,
    Bench,
    Bringing,
    Images,
    absent_file,
    at,
    counting,
    no_progress,
    of_archive,
)
from cellssl.datasets.transfer.threads import attending, driven
from cellssl.datasets.transfer.zip_directory import (
    BrokenArchiveError,
)
from cellssl.datasets.transfer.zip_members import Taken, brought
from cellssl.errors import IntegrityError
from cellssl.events import Progress
from cellssl.files import write_text


class Server:
    """A web server with the official file names under one address."""

    def __init__(self, address: str, patience: Patience) -> None:
        self.address, self._patience, self._web = address, patience, Web(patience)

    def table(self, name: str, cache: Path) -> bytes:
        """Under a name of its own, for several processes may want it at once."""
        arrived = cache / f"{name}.{secrets.token_hex(4)}"
        try:
            for event in download(at(self.address, name), arrived, self._patience, proves_itself=True):
                if isinstance(event, Progress) and event.done > LARGEST_TABLE_BYTES:
                    raise RefusedError(
                        f"{name} has more than {LARGEST_TABLE_BYTES:,} bytes at {self.address}",
                        hint="look what lies at that address; it is no table of this set",
                    )
            return arrived.read_bytes()
        finally:
            for left in cache.glob(f"{arrived.name}*"):
                left.unlink()

    def images(self, archive: str, batch: str, wanted: Images, bench: Bench) -> Bringing[None]:
        """By ranges; where the server refuses them, out of the whole archive, which is removed again."""
        url, left, fruitless, looked = at(self.address, archive), wanted, 0, 0
        kept = bench.scratch / archive
        whole = kept.is_file()
        while True:
            there, unreadable = counting(wanted), False
            try:
                pieces = yield from (self._whole(url, kept, bench) if whole else self._ranges(url))
                alive = no_progress if whole else self._web.check_alive  # what is here already is not waited for
                faulty = yield from brought(pieces, left, bench.scratch, bench.connections, alive)
            except RangesRefusedError:
                whole = True
                continue
            except ChangedError:  # another file under the same name, or a server that grants ranges now and then
                fruitless = 0 if counting(wanted) > there else fruitless + 1
                whole, left = fruitless >= self._patience.tries, wanted
                continue
            except BrokenArchiveError as error:
                faulty, unreadable = absent_file(wanted, str(error)), True
            if whole:
                kept.unlink()
                if faulty:
                    (bench.folder / OF_ARCHIVES).unlink(missing_ok=True)
            looked += 1
            if not faulty or looked == 2:
                break
            left = {member: wanted[member] for member in faulty}
            whole = whole or unreadable  # perhaps it is the ranges that are not right
        yield from (Taken(member, reason) for member, reason in faulty.items())

    def forecast(self, archive: str, batch: str, wanted: Images) -> Forecast:
        """By the archive's directory; unknown where that is another one each time it is asked for."""
        for _ in range(self._patience.tries):
            try:
                return of_archive(driven(self._ranges(at(self.address, archive))), wanted)
            except RangesRefusedError as refused:
                return Forecast(refused.total, None, 0, whole_archive=True)
            except ChangedError:
                continue
        return Forecast(None, None, 0)

    def _ranges(self, url: str) -> Bringing[Pieces]:
        return (yield from attending(partial(WebPieces.open, self._web, url), self._web.check_alive))

    def _whole(self, url: str, kept: Path, bench: Bench) -> Bringing[Pieces]:
        if not kept.is_file():
            yield from download(url, kept, self._patience, proves_itself=True)
        noted = bench.folder / OF_ARCHIVES
        if not noted.is_file():
            digest = yield from attending(partial(digest_of, kept))
            try:
                check(kept.name, digest, bench.archives.get(kept.name), bench.record)
            except IntegrityError:
                kept.unlink()
                raise
            write_text(noted, record_text({kept.name: digest}), bench.scratch)
        return LocalPieces(kept)
