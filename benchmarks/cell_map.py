"""cell_map: print how long a redraw of the map of cells takes in a browser, and how many bytes its pictures take.

    python benchmarks/cell_map.py [--cells 10000] [--page FILE]

The cells are those of simulated plates, again and again until there are enough. Times are medians over 50 redraws in a
headless Chromium; the unit is the time of as many calls of `fillRect` on the same canvas, measured in the same run.
The goal for 10,000 cells is 16 ms a redraw and 8 MB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from cellssl.artifacts.store import Store
from cellssl.artifacts.tables import read_cells
from cellssl.randomness import generator
from cellssl.reporting.html import Interactive, Page, Section, render
from cellssl.stages.report.cell_map import THUMBNAIL_BYTES
from cellssl.stages.report.map_data import Arm, map_data, picture_data
from cellssl.stages.report.thumbnails import thumbnails
from cellssl.stages.shared.scaled_crops import ScaledCrops, scaled_crops

RECIPE = """
name = "map"
[fetch.dataset]
name = "simulated"
plates = 1
compounds = ["sim-nocodazole", "sim-taxol"]
doses = 4
wells_per_treatment = 1
control_wells = 4
sites_per_well = 1
[segment]
method = "watershed"
crop_px = 68
"""
REDRAW = "(() => { const start = performance.now(); cellssl.maps[0].draw(); return performance.now() - start; })()"
UNIT = """(() => {
  const {context, ids} = cellssl.maps[0], start = performance.now();
  for (let cell = 0; cell < ids.length; cell++) context.fillRect(cell % 700, cell % 500, 4, 4);
  return performance.now() - start;
})()"""


class Repeated:
    """As many crops as wanted: those of a few cells again and again."""

    def __init__(self, crops: ScaledCrops, cells: int) -> None:
        """Repeat these crops."""
        self.crops, self.shape = crops, (cells, *crops.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: np.ndarray) -> Any:
        """Return the crops of some cells."""
        return self.crops.read(rows % len(self.crops))

    read_once = read


def main() -> None:
    """Make the page, open it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--page", type=Path, help="keep the page in this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = given.page or Path(folder) / "map.html"
        write_page(page, given.cells, Path(folder))
        show(page)


def write_page(page: Path, count: int, folder: Path) -> None:
    """Write a page with a map of so many cells with two arms."""
    recipe, store = folder / "map.toml", Store(folder / "store")
    recipe.write_text(RECIPE, encoding="utf-8")
    command = (sys.executable, "-m", "cellssl", "run", str(recipe), "--store", str(store.root), "--to", "segment")
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    segment = store.get("segment", Path(path).name)
    few = read_cells(segment)
    crops = Repeated(scaled_crops(segment, store, few), count)
    start = time.perf_counter()
    small = thumbnails(crops, THUMBNAIL_BYTES)
    assert small is not None
    seconds = time.perf_counter() - start
    took = f"{small.page_bytes / 1e6:.2f} MB, {seconds:.1f} s"
    print(f"{count:,} cells of {crops.shape[1:]}: pictures of {small.side_px} x {small.side_px} pixels, {took}")
    cells = few.iloc[np.arange(count) % len(few)].reset_index(drop=True)
    cells["cell_id"] = [f"{name}-{row}" for row, name in enumerate(cells["cell_id"])]
    arms = [Arm(name, name, made_up_map(cells, name)) for name in ("one", "other")]
    pictures = picture_data(small, crops.crops.channels, 0.5)
    section = Section("Map", [Interactive("map", map_data(cells, arms, 0, pictures, ""), [])])
    page.write_text("".join(render(Page("Map", [], [section]))), encoding="utf-8")


def made_up_map(cells: Any, name: str) -> Any:
    """Return a map with five groups of cells."""
    rng = generator("benchmark", name)
    cluster = rng.integers(5, size=len(cells))
    points = rng.normal(size=(len(cells), 2)) + 3 * rng.normal(size=(5, 2))[cluster]
    return cells[["cell_id"]].assign(cluster=cluster, map_x=points[:, 0], map_y=points[:, 1])


def show(file: Path) -> None:
    """Open the page in a browser and print its times."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        start = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_function("cellssl.maps.length === 1 && !cellssl.maps[0].moving")
        print(f"opened in {time.perf_counter() - start:.2f} s; the page has {file.stat().st_size / 1e6:.2f} MB")
        redraw, unit = (float(np.median([page.evaluate(code) for _ in range(50)])) for code in (REDRAW, UNIT))
        print(f"a redraw takes {redraw:.1f} ms, fillRect {unit:.1f} ms: {redraw / unit:.1f} times as long")
        browser.close()


if __name__ == "__main__":
    main()
