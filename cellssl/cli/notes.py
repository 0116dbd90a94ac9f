"""notes: the remarks and warnings of works in; which are shown in full, and lines that count the repeated ones, out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cellssl.cli.columns import WIDTH
from cellssl.counting import counted
from cellssl.events import Note

SHORT = 60
"""Characters of a remark that is shown each time: it costs no more than the hint that it was made before."""
PLATE = re.compile(r"\bplate (\S+?)(?=[:,;]?(?:\s|$))")
NUMBER = re.compile(r"\d[\d,.]*")
LEAST_SHOWN = 20
"""Characters of a repeated sentence that are shown to say which one it is, however long the line gets."""


@dataclass
class Notes:
    """Remembers what has been said, so that the same sentence is shown once and counted after that."""

    _first: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Sentence -> the work that came first with it, and the name of that work."""
    _repeated: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    """Work -> what it has repeated, and the sentence as it would have been shown."""

    def is_new(self, note: Note, work: int, name: str) -> bool:
        """Return whether a sentence is to be shown; a repeated one is counted for the end of its work."""
        if note.kind == "result" or (note.kind == "remark" and len(note.text) <= SHORT):
            return True
        sentence = alike(note.text) if note.kind == "warning" else note.text
        if sentence not in self._first:
            self._first[sentence] = (work, name)
            return True
        self._repeated.setdefault(work, []).append((sentence, note.text))
        return False

    def at_end(self, work: int, title: str) -> list[str]:
        """Return the lines that stand for what a work has repeated; they begin with its title."""
        repeated = self._repeated.pop(work, [])
        own = [pair for pair in repeated if self._first[pair[0]][0] == work]
        others = [pair for pair in repeated if self._first[pair[0]][0] != work]
        lines = [f"{title}: {_again([t for one, t in own if one == sentence], title)}" for sentence in dict(own)]
        if others:
            names = {self._first[sentence][1] for sentence, _ in others}
            where = f"as for {names.pop()}" if len(names) == 1 else "as above"
            lines.append(f"{title}: {counted(len(dict(others)), 'remark')} {where}")
        return lines


def alike(sentence: str) -> str:
    """Return what a warning has in common with that on another plate: the sentence without names and numbers."""
    return NUMBER.sub("#", PLATE.sub("plate", sentence))


def _again(texts: list[str], title: str) -> str:
    """Return a line for sentences that differ from the first one in the plate and in numbers alone."""
    plates = {found[1] for text in texts if (found := PLATE.search(text))}
    which = counted(len(plates), "more plate") if plates else f"{len(texts)} more times"
    if len(plates) == 1:
        which = f"plate {plates.pop()}"
    said = PLATE.sub("", texts[0]).replace("warning:", "").lstrip(" :,;")
    words = f"the same for {which}: "
    return words + _beginning(said, max(LEAST_SHOWN, WIDTH - len(title) - len(words) - 4))


def _beginning(text: str, width: int) -> str:
    """Return the beginning of a sentence, up to a word's end."""
    return text if len(text) <= width else f"{text[:width].rsplit(' ', 1)[0]} …"
