"""changed_settings: runs in; their settings that are not the defaults of this version, as a recipe names them, out."""

from __future__ import annotations

from collections.abc import Iterator

from cellssl.artifacts.store import Artifact
from cellssl.stages.report.card_settings import changed_section
from cellssl.stages.report.flat_settings import flat_settings
from cellssl.stages.report.runs import Run, first_seeds


def changed_settings(runs: list[Run]) -> str:
    """Return one line per setting that is not the default: STAGE.SETTING = value, and its arms unless all have it."""
    arms: dict[str, list[str]] = {}
    shown = first_seeds(runs)
    for run in shown:
        chains = [run.chain(), *(part.chain() for part in run.blocks)]
        lines = [line for chain in chains for kind, one in chain.items() for line in _lines(kind, one)]
        for line in dict.fromkeys(lines):
            arms.setdefault(line, []).append(run.arm)
    return "\n".join(
        line if len(names) == len(shown) else f"{line}    ({', '.join(names)})" for line, names in arms.items()
    )


def _lines(kind: str, artifact: Artifact) -> Iterator[str]:
    for name, value in flat_settings(changed_section(artifact), kind):
        yield f"{name} = {value}"
