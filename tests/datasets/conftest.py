"""What tests of data sets share: tiny plates on disk, and the command line in a folder of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
from screen import write_screen
from tiny import tiny_field

from cellssl.cli import invoke

Fetched = tuple[int, Path, dict[str, object]]


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A folder with plate.csv and its images: two wells with two fields each, of two plates."""
    lines = ["plate,well,site,drug,dose,dna,actin"]
    (tmp_path / "images").mkdir()
    for name in ("P1", "P2"):
        for well, drug, dose in (("B02", "DMSO", "0"), ("C03", "drug-a", "0.3")):
            for site in (1, 2):
                stem = f"images/{name}_{well}_{site}"
                for channel in ("dna", "actin"):
                    tifffile.imwrite(tmp_path / f"{stem}_{channel}.tif", tiny_field(stem, channel))
                lines.append(f"{name},{well},{site},{drug},{dose},{stem}_dna.tif,{stem}_actin.tif")
    (tmp_path / "plate.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def set_up(tmp_path: Path) -> Path:
    """A folder with a small published screen, and a recipe for a part of it."""
    return write_screen(tmp_path)


@pytest.fixture
def cellssl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Fetched]:
    """One command with a store of its own: exit code, the artifact's folder, its card; what was said, on failure."""

    def command(*words: str, store: str = "store") -> Fetched:
        code = invoke([*words, "--store", str(tmp_path / store)])
        said = capsys.readouterr()
        if code:
            return code, Path(), {"said": said.err}
        path = Path(said.out.strip())
        return code, path, json.loads((path / "artifact.json").read_text(encoding="utf-8"))

    return command
