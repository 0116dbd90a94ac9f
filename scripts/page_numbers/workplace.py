"""workplace: a folder in; results of the tool and of benchmarks out, made once and then found again."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from page_numbers.block import Block

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
Row = dict[str, Any]
"""The scores of one arm and seed, as scores.json of a report has them."""


@dataclass(frozen=True)
class Workplace:
    """Where the runs of one block are made and kept."""

    root: Path
    block: Block

    @property
    def store(self) -> Path:
        """The store of all runs of the tool; fingerprints keep them apart."""
        return self.root / "store"

    @cached_property
    def folder(self) -> Path:
        """A folder for what is not in the store, of this block and its ALGORITHMs alone."""
        digest = hashlib.sha256(self.block.head().encode()).hexdigest()[:8]
        folder = self.root / f"{self.block.name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def cellssl(self, *arguments: str) -> Path:
        """Run one command of the tool and return the path that it prints."""
        return Path(self._output(*arguments))

    def scores(self, report: Path) -> list[Row]:
        """Return the scores of a report, one row per arm and seed."""
        rows: list[Row] = json.loads((report / "scores.json").read_text(encoding="utf-8"))
        return rows

    def processor_minutes(self, recipe: str, *flags: str) -> float:
        """Return the processor time that the finished stages of a recipe took; other processes do not affect it."""
        spent = json.loads(self._output("status", recipe, *flags, "--json"))["spent"]
        return float(spent["cpu_s"]) / 60

    def kept(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return what `measure` returned once, from a file of this block."""
        file = self.folder / f"{name}.json"
        if not file.is_file():
            file.write_text(json.dumps(measure()), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def write_picture(self, name: str, content: bytes) -> None:
        """Write a picture of docs/, where it changed."""
        target = REPOSITORY / "docs" / name
        if not target.is_file() or target.read_bytes() != content:
            target.write_bytes(content)

    def _output(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "cellssl", *arguments, "--store", str(self.store)]
        return subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def sets(*assignments: str) -> list[str]:
    """Return the flags that lay settings over a recipe."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def benchmark(name: str) -> ModuleType:
    """Return a module of benchmarks/."""
    folder = str(REPOSITORY / "benchmarks")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def seeds_of(rows: Sequence[Row], arm: str, name: str) -> list[float]:
    """Return one score of an arm, seed by seed."""
    return [float(row[name]) for row in rows if row["arm"] == arm]
