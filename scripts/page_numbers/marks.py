"""marks: the text of a page in, its marked blocks out; and the text with one of them replaced.

A block is `<!-- numbers: NAME | ALGORITHMS -->`, its Markdown, and `<!-- end -->`. Both comments are invisible in the
rendered page.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

WIDTH = 120
BLOCK = re.compile(r"<!-- numbers: (?P<name>[a-z0-9-]+) \| (?P<head>.*?)\s-->\n(?P<body>.*?)\n<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class MarkedBlock:
    """A block as it stands in a page."""

    head: str
    """The ALGORITHMs, as one line."""
    body: str
    """The Markdown."""


def find(text: str) -> dict[str, MarkedBlock]:
    """Return name -> block; raise ValueError where a name stands twice or a comment has no partner."""
    found: dict[str, MarkedBlock] = {}
    for match in BLOCK.finditer(text):
        if match["name"] in found:
            raise ValueError(f"the block {match['name']} stands twice in one page")
        found[match["name"]] = MarkedBlock(" ".join(match["head"].split()), match["body"])
    if not len(found) == text.count("<!-- numbers:") == text.count("<!-- end -->"):
        raise ValueError("a block has no head or no end")
    return found


def replaced(text: str, name: str, head: str, body: str) -> str:
    """Return the text with another head and body of one block; raise KeyError where the page lacks it."""
    if name not in find(text):
        raise KeyError(f"the page has no block {name}; write its two comments where it shall stand")
    block = marked(name, head, body)
    return BLOCK.sub(lambda match: block if match["name"] == name else match[0], text)


def marked(name: str, head: str, body: str) -> str:
    """Return a whole block."""
    first = wrapped(f"<!-- numbers: {name} | {head} -->", r"(?<=\w) (?=\d+\b)")
    return f"{first}\n{body.strip()}\n<!-- end -->"


def wrapped(text: str, joined: str, later_indent: str = "") -> str:
    """Return the text in lines of at most WIDTH; no line ends at a space that the pattern `joined` matches."""
    glued = re.sub(joined, "\0", text)
    lines = textwrap.wrap(glued, WIDTH, subsequent_indent=later_indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def outside(text: str) -> str:
    """Return the text without its blocks."""
    return BLOCK.sub("", text)
