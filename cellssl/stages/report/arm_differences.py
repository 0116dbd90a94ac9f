"""arm_differences: runs of several arms in; the settings in which they differ, as a table and in words, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellssl.artifacts.store import Artifact
from cellssl.counting import counted
from cellssl.reporting.html import Block, Folded, Table
from cellssl.stages.report.flat_settings import NOT_SET, flat_settings
from cellssl.stages.report.runs import Run

NOT_SETTINGS = ("fetch", "evaluate", "hits")
"""Stages whose settings are those of the data or of the scores, and make no vectors."""
NOT_A_DIFFERENCE = ("seed", "checkpoint_s", "tensorboard", "formats")
"""Settings that change no result, or stand in a column of their own."""
SHOWN = 3
"""Number of differences that are shown in words; the table of settings has all."""
ABSENT = "none"
BRANCHES = "pretrain.branches"
OF_NETWORK = ("encoder", "epochs", "input_px", "init_from")
"""Settings of [pretrain] that make a network which is not trained."""


def difference_table(runs: list[Run]) -> list[Block]:
    """Return a folded table of the settings that are not the same in all arms that have their stage."""
    each_settings = [settings_of(run) for run in runs]
    names = sorted({name for settings in each_settings for name in settings})
    differ = [name for name in names if _differs(name, each_settings)]
    if not differ:
        return []
    table = [[name, *(each.get(name, NOT_SET) for each in each_settings)] for name in differ]
    return [Folded("Settings in which the arms differ", [Table(["setting", *(run.arm for run in runs)], table)])]


def _differs(name: str, each: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a setting differs among the arms that have its stage; 0 epochs are a training without settings.

    Where some of these lack it, that is a difference, unless what it is a setting of differs, too, and says so: arms
    lack the settings of branches, transforms and models that they do not have.
    """
    stage = f"{name.partition('.')[0]}."
    having = [one for one in each if any(other.startswith(stage) for other in one)]
    concerned = [one for one in having if name in one or one.get(f"{stage}epochs") != "0"]
    values = {one.get(name) for one in concerned}
    if len(values) < 2:
        return False
    above = [name[:place] for place, letter in enumerate(name) if letter == "."]
    return len(values - {None}) > 1 or not any(len({one.get(part) for one in concerned}) > 1 for part in above)


def differences_in_words(runs: Sequence[Run], reads: Sequence[object]) -> list[str]:
    """Return for every arm in which settings it differs from those that read the same: "brightness 0.2 → 0.6".

    `reads` is what the page shows of each arm besides its name; empty where no other arm reads the same. The arrow goes
    from the first of these arms to this one; the first shows its own values.
    """
    groups: dict[str, list[int]] = {}
    for place, shown in enumerate(reads):
        groups.setdefault(repr(shown), []).append(place)
    words = [""] * len(runs)
    for places in groups.values():
        if len(places) > 1:
            found = _words_of_group([runs[place] for place in places])
            for place, text in zip(places, found, strict=True):
                words[place] = text
    return words


def _words_of_group(runs: Sequence[Run]) -> list[str]:
    each = [settings_of(run) for run in runs]
    names = [name for name in dict.fromkeys(name for one in each for name in one) if not _is_left_out(name)]
    differ = [name for name in names if len({one.get(name, ABSENT) for one in each}) > 1]
    # where a transform is missing, its list says so, and its settings need not
    differ = [name for name in differ if all(name in one for one in each)] or differ
    first = [f"{words} {value}" for words, value in _values(each[0], differ).items()]
    found = [_joined(first) if first else ""]
    for run, settings in zip(runs[1:], each[1:], strict=True):
        changed = [name for name in differ if settings.get(name, ABSENT) != each[0].get(name, ABSENT)]
        before, after = _values(each[0], changed), _values(settings, changed)
        arrows = [f"{words} {before[words]} → {after[words]}" for words in after]
        found.append(_joined(arrows) if arrows else _other_inputs(runs[0], run))
    return found


def _is_left_out(name: str) -> bool:
    return name.rpartition(".")[2] in NOT_A_DIFFERENCE


def _values(settings: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return setting in words -> value; where all branches of an arm agree, they are not named."""
    by_words: dict[str, dict[str, str]] = {}
    for name in names:
        branch, words = _in_words(name)
        by_words.setdefault(words, {})[branch] = settings.get(name, ABSENT)
    found = {}
    for words, of_branches in by_words.items():
        if len(of_branches) == 1 or len(set(of_branches.values())) == 1:
            found[words] = next(iter(of_branches.values()))
        else:
            found |= {f"{branch}: {words}": value for branch, value in of_branches.items()}
    return found


def _in_words(name: str) -> tuple[str, str]:
    """Return the branch of a setting, if it is that of one, and what it is called."""
    stage, _, rest = name.partition(".")
    if stage != "pretrain":
        return "", name
    if not rest.startswith("branches."):
        return "", rest
    _, branch, *path = rest.split(".")
    if path == ["objective"]:
        return branch, "objective"
    shown = [part for part in path if part not in ("view", "views", "objective")]
    return branch, " ".join(shown or path)


def _joined(differences: Sequence[str]) -> str:
    more = len(differences) - SHOWN
    return "; ".join([*differences[:SHOWN], *([counted(more, "more setting")] if more > 0 else [])])


def _other_inputs(first: Run, run: Run) -> str:
    """Return which input is another one, where no setting is."""
    here, there = first.chain(), run.chain()
    kinds = [kind for kind in here if kind in there and here[kind].fingerprint != there[kind].fingerprint]
    return f"{kinds[0]} {here[kinds[0]].fingerprint} → {there[kinds[0]].fingerprint}" if kinds else "the same artifacts"


def settings_of(run: Run) -> dict[str, str]:
    """Return path -> value of every setting of a run, as text; what has no value, or no effect, is left out."""
    found = _of_chain(run.chain())
    for part in run.blocks:
        found |= {f"{part.block}: {path}": value for path, value in _of_chain(part.chain()).items()}
    return found


def _of_chain(chain: Mapping[str, Artifact]) -> dict[str, str]:
    sections = {kind: dict(one.card.section) for kind, one in chain.items() if kind not in NOT_SETTINGS}
    if "pretrain" in sections:
        sections["pretrain"] = _in_effect(sections["pretrain"])
    each = [pair for kind, section in sections.items() for pair in flat_settings(section, kind)]
    found = {path: value for path, value in each if value != NOT_SET}
    if branches := sections.get("pretrain", {}).get("branches"):
        found[BRANCHES] = ", ".join(branches)
    return found


def _in_effect(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training that are used: branches without weight are not run, and 0 epochs are none."""
    if section.get("epochs") == 0:
        return {name: value for name, value in section.items() if name in OF_NETWORK}
    branches = section.get("branches", {}).items()
    run = {name: one for name, one in branches if not isinstance(one, dict) or one.get("weight", 1) > 0}
    return {**section, "branches": run}
