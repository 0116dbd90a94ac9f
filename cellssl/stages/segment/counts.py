"""counts: how many nuclei were detected, dropped and kept in, a file of them that balances out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cellssl.engine.build import Job

if TYPE_CHECKING:
    pass


def write_counts(job: Job, counts: dict[str, int]) -> None:
    """What was detected, kept and dropped, for people and scripts."""
    job.draft.file("counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
