"""Systems that are not supported say so."""

import subprocess
import sys

AS_ON_WINDOWS = """
import os, runpy, sys
sys.platform = "win32"
sys.modules.update(dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios")))  # Windows has none of them
for name in ("fork", "getuid", "sysconf"):
    delattr(os, name)
sys.argv = ["cellssl", "--help"]
runpy.run_module("cellssl", run_name="__main__")
"""


def test_on_windows_one_sentence_names_wsl_before_anything_fails_to_import() -> None:
    said = subprocess.run([sys.executable, "-c", AS_ON_WINDOWS], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and said.stdout == ""
    assert said.stderr.startswith("error: ") and said.stderr.count("\n") == 1 and "WSL" in said.stderr
