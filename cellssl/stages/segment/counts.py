"""counts: the numbers of nuclei that were detected, kept and dropped in, counts.json out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellssl.engine.build import Job


def write_counts(job: Job, counts: dict[str, int]) -> None:
    """Write the counts of detected, kept and dropped nuclei as JSON."""
    job.draft.file("counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
