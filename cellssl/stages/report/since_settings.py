"""since_settings: arms then and now in; the settings and the versions in which they differ, as tables, out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cellssl.artifacts.store import Artifact
from cellssl.reporting.html import Block, Paragraph, Table
from cellssl.stages.report.flat_settings import NOT_SET, flat_settings
from cellssl.stages.report.runs import Run
from cellssl.stages.report.since_arms import ArmPair

SHOWN, NOT_SHOWN = "shown", "not shown"
"""A stage whose results a page shows of an arm, or does not show."""
NAMED = 3
"""Settings named in a sentence."""
Settings = Mapping[str, Mapping[str, str]]
"""Stage -> setting, as the recipe names it -> value, as text."""
VERSIONS = {"cellssl": "cellssl", "python": "Python", "device": "device", "precision": "precision"}
"""Key in the card of an artifact -> what the table calls it; those of libraries have their own names."""


@dataclass(frozen=True)
class Difference:
    """A value that was one and is another, and the arms in which it is so."""

    name: str
    then: str
    now: str
    arms: tuple[str, ...]

    def words(self) -> str:
        """Return the difference as a part of a sentence."""
        return f"{self.name} {self.then} → {self.now}"


def setting_differences(pairs: Sequence[ArmPair]) -> list[Difference]:
    """Return the settings that are not what they were, in the order of stages."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for pair in pairs:
        for each in _differences(*(_settings(run) for run in pair.first)):
            found.setdefault(each, []).append(pair.arm)
    return [Difference(*key, tuple(arms)) for key, arms in found.items()]


def _differences(then: Settings, now: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield name, former and present value of every setting that differs; of a stage that one lacks, the stage."""
    for stage in dict.fromkeys([*then, *now]):
        if stage not in then or stage not in now:
            yield stage, SHOWN if stage in then else NOT_SHOWN, SHOWN if stage in now else NOT_SHOWN
            continue
        for name in dict.fromkeys([*then[stage], *now[stage]]):
            before, after = (side[stage].get(name, NOT_SET) for side in (then, now))
            if before != after:
                yield name, before, after


def version_differences(pairs: Sequence[ArmPair]) -> list[Difference]:
    """Return the versions and devices that are not what they were."""
    runs = [(then, now) for pair in pairs for then, now in (pair.of_seeds or [pair.first])]
    then, now = (_versions(one for one in side) for side in zip(*runs, strict=True)) if runs else ({}, {})
    names = dict.fromkeys([*then, *now])
    each = [(name, _joined(then.get(name)), _joined(now.get(name))) for name in names]
    return [Difference(name, before, after, ()) for name, before, after in each if before != after]


def setting_blocks(differences: Sequence[Difference], arms: int) -> list[Block]:
    """Return the table of the settings that differ; `arms` is the number of arms that were compared."""
    if not differences:
        return [Paragraph("All settings are the same.")]
    rows = [
        [one.name, one.then, one.now, "all" if len(one.arms) == arms else ", ".join(one.arms)] for one in differences
    ]
    caption = (
        f"Settings that are not what they were, by their names in a recipe; {NOT_SET}: not set, or not known to the "
        "version that made it. “Algorithm” is a number that goes up where the same settings give other results."
    )
    return [Table(["setting", "then", "now", "arms"], rows, caption)]


def version_blocks(differences: Sequence[Difference]) -> list[Block]:
    """Return the table of the versions that differ."""
    if not differences:
        return [Paragraph("Everything was made with the same versions of cellssl and of its libraries.")]
    rows = [[one.name, one.then, one.now] for one in differences]
    caption = "Versions and devices that differ, as the artifacts of the arms above name them."
    return [Table(["made with", "then", "now"], rows, caption)]


def in_words(differences: Sequence[Difference], what: str) -> str:
    """Return how many values differ, and the first few of them, as a part of a sentence."""
    if not differences:
        return ""
    shown = "; ".join(one.words() for one in differences[:NAMED])
    more = f"; and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
    verb = "differs" if len(differences) == 1 else "differ"
    return f"{len(differences)} {what}{'' if len(differences) == 1 else 's'} {verb}: {shown}{more}"


def _settings(run: Run) -> Settings:
    """Return stage -> its settings, of everything that a run was made with, blocks after the whole."""
    chains = {"": run.chain(), **{f"block {part.block}: ": part.chain() for part in run.blocks}}
    return {
        f"{block}{kind}": {f"{block}{name}": value for name, value in _of_stage(kind, one)}
        for block, chain in chains.items()
        for kind, one in chain.items()
    }


def _of_stage(kind: str, artifact: Artifact) -> Iterator[tuple[str, str]]:
    card = artifact.card
    yield f"{kind}: algorithm", str(card.algorithm)
    yield from flat_settings(card.section, kind)
    yield from ((f"{kind}: file “{role}”", f"sha256 {sha256[:12]} …") for role, sha256 in card.outside.items())


def _versions(runs: Iterable[Run]) -> dict[str, dict[str, None]]:
    """Return name -> the versions that the artifacts of some runs name."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for kind, artifact in run.chain().items():
            for name, version in _made_with(kind, artifact):
                found.setdefault(name, {})[version] = None
    return found


def _made_with(kind: str, artifact: Artifact) -> Iterator[tuple[str, str]]:
    run = artifact.card.run
    for key, name in VERSIONS.items():
        if isinstance(run.get(key), str):
            yield (f"{name} of {kind}" if key in ("device", "precision") else name), run[key]
    libraries = run.get("libraries")
    if isinstance(libraries, dict):
        yield from ((str(name), str(version)) for name, version in libraries.items())


def _joined(versions: Mapping[str, None] | None) -> str:
    return ", ".join(sorted(versions)) if versions else NOT_SET
