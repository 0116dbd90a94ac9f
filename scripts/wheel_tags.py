"""Ask whether all that a wheel of cellssl needs has wheels: for every version of Python that it names, on every system.

    make dist
    python scripts/wheel_tags.py dist/*.whl            # needs the program uv; nothing is installed
    python scripts/wheel_tags.py dist/*.whl --extras leiden timm

uv reads what package indexes say of versions and tags, and no library is built from source. Exit code 1 where something
has no wheel.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path

SYSTEMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
SHOWN = ("torch", "numpy", "cellpose")


def pythons(wheel: Path) -> list[str]:
    """The versions of Python that the metadata of a wheel name."""
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", opened.read(name).decode(), re.M)


def resolved(wanted: str, python: str, system: str) -> subprocess.CompletedProcess[str]:
    """What uv would install from wheels alone."""
    command = ["uv", "pip", "compile", "-", "--no-build", "--no-python-downloads", "--no-header", "--no-annotate"]
    command += ["--python-version", python, "--python-platform", system]
    return subprocess.run(command, input=wanted, capture_output=True, text=True, check=False)


def main() -> None:
    """Print one line for every version of Python and system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--extras", nargs="*", default=[])
    chosen = parser.parse_args()
    wanted = f"cellssl[{','.join(chosen.extras)}] @ {chosen.wheel.absolute().as_uri()}"
    lacking = False
    for python in pythons(chosen.wheel):
        for system in SYSTEMS:
            found = resolved(wanted, python, system)
            versions = dict(re.findall(r"^([\w.-]+)==(\S+)", found.stdout, re.M))
            lacking |= found.returncode != 0
            words = ", ".join(f"{name} {versions[name]}" for name in SHOWN) if versions else found.stderr.strip()
            print(
                f"Python {python}, {system}: {len(versions)} wheels; {words}"
                if versions
                else f"Python {python}, {system}: {words}"
            )
    sys.exit(int(lacking))


if __name__ == "__main__":
    main()
