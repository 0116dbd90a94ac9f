"""settings: the knobs of data sets that fetch -> how servers are asked, and a record of what came."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field as Knob

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT, Plugin
from cellssl.errors import IntegrityError
from cellssl.events import Event, Note

if TYPE_CHECKING:
    from cellssl.datasets.transfer.http import Patience


class OnlineSettings(Plugin):
    """What is the same for all that comes over the network; none of it changes a result."""

    RENAMED: ClassVar[Mapping[str, str]] = {"record": "checksums"}
    connections: int = Knob(8, ge=1, le=64, json_schema_extra=NOT_IN_FINGERPRINT)
    """Images that are fetched at once."""
    tries: int = Knob(4, ge=1, le=100, json_schema_extra=NOT_IN_FINGERPRINT)
    """How often a server is asked that gives nothing new."""
    timeout_s: float = Knob(20.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Seconds without a byte after which an answer counts as broken off."""
    checksums: InputPath | None = Knob(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """A record.csv of an earlier fetch: what comes must be those very bytes, or it is an error."""

    def patience(self) -> Patience:
        """How long and how often a server is waited for."""
        from cellssl.datasets.transfer.http import Patience

        return Patience(tries=self.tries, timeout_s=self.timeout_s)

    def recorded(self, images: Mapping[str, Path], folder: Path) -> Generator[Event, None, None]:
        """Write the record of the images into `folder`; one that is not as the given record says is removed.

        Raises IntegrityError then: it is fetched again by the next run, perhaps from elsewhere.
        """
        from cellssl.datasets.transfer.checksums import NAME, check, digest_of, read_record, record_text
        from cellssl.datasets.transfer.threads import attending
        from cellssl.files import write_text

        expected, unknown = read_record(self.checksums), 0
        digests = yield from attending(lambda: {place: digest_of(path) for place, path in images.items()})
        for place, digest in digests.items():
            try:
                check(place, digest, expected.get(place), self.checksums)
            except IntegrityError:
                images[place].unlink()
                raise
            unknown += place not in expected
        if self.checksums and unknown:
            yield Note(
                f"{unknown:,} of {len(images):,} images are not in {self.checksums}, so nothing is compared for them"
            )
        write_text(folder / NAME, record_text(digests), folder / "scratch")
