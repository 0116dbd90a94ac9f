"""The shell: examples in every help, completion of commands and recipes, and no colours where none are wanted."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from chain import ENVIRONMENT, Chain, say
from typer.main import get_command

from cellssl.cli.app import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
CELLSSL = [sys.executable, "-m", "cellssl"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command: str) -> None:
    said = say(command, "--help").out
    example = " ".join(said.partition("Example: ")[2].partition("Arguments:")[0].partition("Options:")[0].split())
    assert f"cellssl {command}" in example
    words = example.split(f"cellssl {command}", 1)[1].split()
    known = {flag for option in get_command(app).commands[command].params for flag in option.opts}  # type: ignore[attr-defined]
    assert {word for word in words if word.startswith("-")} - {"--nproc-per-node", "-m"} <= known


def completed(words: str, folder: Path) -> list[str]:
    """What bash would offer for the last word."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_CELLSSL_COMPLETE": "complete_bash"}
    done = subprocess.run(CELLSSL, cwd=folder, env={**ENVIRONMENT, **asked}, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cellssl pre", ["pretrain"]),
        ("cellssl run bbbc021-t", ["bbbc021-taxol"]),
        ("cellssl run to", ["tonight", "tonights.toml"]),
        ("cellssl run plates/", ["plates/one.toml"]),
        ("cellssl run m.toml --no-", ["--no-wait"]),
    ],
)
def test_a_shell_completes_commands_recipes_and_flags(words: str, offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "plates").mkdir()
    for name in ("tonights.toml", "plates/one.toml", "plates/notes.txt"):
        (tmp_path / name).touch()
    assert completed(words, tmp_path) == offered


def seen_by_a_terminal(words: list[str], environment: dict[str, str]) -> str:
    """What a command writes where it thinks that a person looks on."""
    reader, writer = pty.openpty()
    process = subprocess.Popen([*CELLSSL, *words], stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    seen = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not piece:
            break
        seen += piece
    os.close(reader)
    assert process.wait(60) == 0, seen
    return seen.decode()


def test_a_terminal_gets_bars_and_with_no_color_no_colours(chain: Chain) -> None:
    plain = {name: value for name, value in ENVIRONMENT.items() if name not in ("NO_COLOR", "TERM")}
    words = ["split", str(chain.recipe), "--store", str(chain.root), "--force"]
    coloured, grey = (
        seen_by_a_terminal(words, {**plain, **more, "TERM": "xterm-256color"}) for more in ({}, {"NO_COLOR": "1"})
    )
    assert str(chain.made("split").path) in coloured.replace("\r\n", "")
    assert "\x1b[3" not in grey  # colours; moving the cursor is another matter
    assert str(chain.made("split").path) in grey.replace("\r\n", "")
