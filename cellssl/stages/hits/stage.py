"""stage: embeddings in; which treatments changed the cells, with tables of treatments, wells and plates, out."""

from __future__ import annotations

from collections.abc import Generator

from cellssl.engine.build import Job, Metrics
from cellssl.errors import FailedError
from cellssl.events import Event, Note


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Find the hits."""
    yield Note("hits")
    raise FailedError("hits is not there yet", hint="")
