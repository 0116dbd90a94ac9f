"""Private words stay out: identifiers, messages and pages use the words that readers of the field know."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

CODE = [
    file for folder in ("cellssl", "tests", "benchmarks", "scripts") for file in (REPOSITORY / folder).rglob("*.py")
]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BANNED = {
    "told": "predicted, tested, or printed",
    "teaches": "trains",
    "nobody": "none, no one, or an empty slot",
    "dealt": "drawn, or shuffled",
    "whom": "name what it stands for",
    "gauges": "diagnostics",
    "brought": "downloaded, or extracted",
    "heard": "received",
    "crew": "worker threads",
    "seat": "rank",
    "belief": "check",
    "beliefs": "check",
    "verdict": "finding",
    "unruly": "misbehaving",
}
"""Word -> what to write instead."""
IN_NAMES = {**BANNED, "begun": "initialised, or started"}
"""Of identifiers; in a sentence, "has begun" is good English."""
PHRASES = {
    r"\ba (row|plate|column|vector|well|cell|line|field) an? (?=[a-z])": "one row per field",
    r"\bof none\b": "of no ...",
    r"\bsomebody's\b": "someone else's",
    r"\bwho is told\b": "train and test",
}
"""Pattern -> how it is written."""


def identifiers(file: Path) -> Iterator[str]:
    """Every name that a file defines: functions, classes, arguments, attributes, variables; and its own."""
    yield file.stem
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name() if isinstance(node.ctx, ast.Store):
                yield node.id
            case ast.Attribute() if isinstance(node.ctx, ast.Store):
                yield node.attr


def words(name: str) -> set[str]:
    """`TestFold_told` -> {"test", "fold", "told"}."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_identifiers_have_the_words_of_the_field(file: Path) -> None:
    for name in identifiers(file):
        for word in words(name) & IN_NAMES.keys():
            pytest.fail(f"{file.relative_to(REPOSITORY)}: {name}: for {word!r} write {IN_NAMES[word]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_the_words_of_the_field(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for word, instead in BANNED.items():
        assert not re.search(rf"\b{word}\b", prose, re.IGNORECASE), f"{page.name}: for {word!r} write {instead}"
    for pattern, instead in PHRASES.items():
        found = re.search(pattern, prose, re.IGNORECASE)
        assert not found, f"{page.name}: {found and found.group(0)!r}: write it as in {instead!r}"


@pytest.mark.parametrize("file", [file for file in CODE if "cellssl" in file.parts], ids=lambda file: file.stem)
def test_what_users_read_has_the_words_of_the_field(file: Path) -> None:
    """Docstrings, help texts and messages are all the constant strings of a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for pattern, instead in [*((rf"\b{word}\b", BANNED[word]) for word in BANNED), *PHRASES.items()]:
                found = re.search(pattern, node.value, re.IGNORECASE)
                assert not found, f"{file.name}:{node.lineno}: {found and found.group(0)!r}: {instead}"
