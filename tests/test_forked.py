"""Commands that are forked end, and say the same, as those of a Python of their own; so tests may use either."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from chain import run, start
from forked import POSSIBLE, program

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="this system cannot pass streams to a server")


@pytest.mark.parametrize("words", ["explain views", "status nonsense", "nonsense"])
def test_a_forked_command_says_and_ends_as_one_of_a_new_python(words: str, tmp_path: Path) -> None:
    assert run(*words.split(), cwd=tmp_path) == run(*words.split(), cwd=tmp_path, fresh=True)


def test_a_forked_command_is_a_process_that_a_signal_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.toml")  # reading the recipe waits for one who writes it
    process = start("status", tmp_path / "never.toml")
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(60) == process.poll() == -signal.SIGKILL


def test_the_program_for_shells_passes_on_streams_folder_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_text("[segment]\ncroppx = 3\n")
    command = f"{program()} status here.toml 2>&1 >/dev/null | tail -n 2; {program()} --version; {program()} nonsense"
    said = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "did you mean 'crop_px'?" in said.stdout and said.stdout.splitlines()[-1][0].isdigit()
    assert said.returncode == 2 and shlex.split(program())[-1].endswith("socket")
