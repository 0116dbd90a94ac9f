"""map: the map of cells in a real Chromium, used as people use it, against the tables that it is made from."""

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Browser, browsing, needs_chromium, wait_until
from PIL import Image
from playwright.sync_api import Page as Tab

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells
from cellssl.imaging.colour import named_colours, to_rgb
from cellssl.reporting import theme
from cellssl.reporting.html import Interactive, Page, Paragraph, Section, render
from cellssl.spreadsheets import readable
from cellssl.stages.report.map_data import Arm, map_data, picture_data
from cellssl.stages.report.thumbnails import shrunk, thumbnails
from cellssl.stages.shared.scaled_crops import scaled_crops
from tests.chain import Chain

pytestmark = needs_chromium
HOSTILE = '=1+1</script><script>alert("x")</script><b>'
READY = "cellssl.maps.length > 0 && !cellssl.maps[0].moving && cellssl.maps[0].width > 0"


@pytest.fixture(scope="module")
def report(chain: Chain) -> Artifact:
    return chain.store.get("report", Path(chain.say("report").line).name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, report: Artifact) -> Iterator[Tab]:
    """The page of a report."""
    with browser.opened(report.file("report.html")) as tab:
        wait_until(tab, READY)
        tab.locator("canvas.map-points").scroll_into_view_if_needed()
        yield tab


@pytest.fixture
def made_up(browser: Browser, tmp_path: Path) -> Iterator[Tab]:
    """A page with nothing but a made-up map."""
    with browser.opened(made_up_page(tmp_path)) as tab:
        wait_until(tab, READY)
        yield tab


def map_of(chain: Chain, arm: str = "main") -> pd.DataFrame:
    return pd.read_parquet(chain.made("cluster", arm).file("map.parquet"))


class MadeUp:
    """Crops whose levels say which cell and channel they are of."""

    def __init__(self, cells: int, channels: int, side: int) -> None:
        """Make crops with a bright square each; its place depends on the cell, its size on the channel."""
        pixels = np.full((cells, channels, side, side), 10, np.uint8)
        for cell in range(cells):
            for channel in range(channels):
                start = 4 + cell % 8
                pixels[cell, channel, start : start + 8, start : start + 8 + 2 * channel] = 100 + 30 * channel
        self.pixels, self.shape = pixels, pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the crops of some cells."""
        return self.pixels[rows]

    read_once = read


def made_up_page(folder: Path, channels: int = 4, cells: int = 40, **columns: Any) -> Path:
    """Write a page with a map of two arms; the second lacks the last ten cells."""
    names = [f"channel {number}" for number in range(channels)]
    table = pd.DataFrame({"cell_id": [f"cell {row}" for row in range(cells)], "plate": "P1", "control": False})
    table = table.assign(
        **{"compound": None, "dose_micromolar": np.nan, "well": ["A01", "A02"] * (cells // 2), **columns}
    )
    turn = np.arange(cells) / cells * 2 * np.pi
    one = table[["cell_id"]].assign(cluster=np.arange(cells) % 3 - 1, map_x=np.cos(turn), map_y=np.sin(turn))
    arms = [Arm("one", "one", one), Arm("other", "other", one.assign(map_x=np.sin(turn), cluster=0).iloc[:-10])]
    small = thumbnails(MadeUp(cells, channels, 40), 500_000)
    assert small is not None
    data = map_data(table, arms, 0, picture_data(small, names, 0.5), "Channels.")
    section = Section("Map", [Interactive("map", data, [Paragraph("the picture of before")])], anchor="map")
    (folder / "page.html").write_text("".join(render(Page("Map", [], [section]))), encoding="utf-8")
    return folder / "page.html"


def place_of(tab: Tab, cell: int) -> tuple[float, float]:
    """Return where a cell is on the screen."""
    box = tab.locator("canvas.map-points").bounding_box()
    assert box is not None
    x, y = tab.evaluate(f"[cellssl.maps[0].screenX({cell}), cellssl.maps[0].screenY({cell})]")
    return box["x"] + x, box["y"] + y


def pixels_of(tab: Tab, canvas: str) -> np.ndarray:
    """Return what is on a canvas, as rows and columns of red, green, blue and alpha."""
    data = tab.locator(canvas).first.evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGBA"))


def colours_of_points(tab: Tab) -> list[str]:
    """Return the colour in the middle of the point of every cell, as "#0072b2"."""
    places = tab.evaluate(
        "cellssl.maps[0].ids.map((_, cell) => [cellssl.maps[0].screenX(cell), cellssl.maps[0].screenY(cell)])"
    )
    shown = pixels_of(tab, "canvas.map-points")
    return ["#" + bytes(shown[round(y), round(x), :3]).hex() for x, y in places]


def lasso(tab: Tab, left: float, right: float) -> None:
    """Select what lies between two shares of the width of the map, with Shift and the mouse."""
    box = tab.locator("canvas.map-points").bounding_box()
    assert box is not None
    tab.keyboard.down("Shift")
    for number, (x, y) in enumerate([(left, 0.001), (right, 0.001), (right, 0.999), (left, 0.999)]):
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
        if number == 0:
            tab.mouse.down()
    tab.mouse.up()
    tab.keyboard.up("Shift")


def test_every_cell_is_a_point_in_the_colour_of_its_cluster(made_up: Tab) -> None:
    colours = [theme.CONTROL, theme.cluster_style(0).colour, theme.cluster_style(1).colour]
    assert colours_of_points(made_up) == [colours[cell % 3].lower() for cell in range(40)]


def test_the_cell_under_the_pointer_is_shown_as_its_crop(tab: Tab, chain: Chain) -> None:
    cells = map_of(chain)[["cell_id"]].merge(read_cells(chain.made("segment")), on="cell_id", how="left")
    crops = scaled_crops(chain.made("segment"), chain.store, cells)
    tab.mouse.move(*place_of(tab, 3))
    tab.wait_for_selector(".map-tip canvas[data-drawn]")
    shown = tab.evaluate("Number(document.querySelector('.map-tip canvas').dataset.drawn)")
    assert f"well {cells['well'][shown]}" in tab.inner_text(".map-tip")
    drawn = pixels_of(tab, ".map-tip canvas")[..., :3].astype(float)
    goal = to_rgb(shrunk(crops.read(np.array([shown])), len(drawn)), named_colours(crops.channels))[0]
    assert np.abs(drawn - goal).mean() < 4
    other = to_rgb(shrunk(crops.read(np.array([shown - 1])), len(drawn)), named_colours(crops.channels))[0]
    assert np.abs(drawn - other).mean() > 8


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_pinned_cell_has_a_picture_of_every_channel(browser: Browser, tmp_path: Path, channels: int) -> None:
    with browser.opened(made_up_page(tmp_path, channels)) as tab:
        wait_until(tab, READY)
        tab.mouse.click(*place_of(tab, 7))
        alone = channels if channels > 1 else 0
        assert tab.locator(".map-pin canvas").count() == 1 + alone
        wait_until(tab, "[...document.querySelectorAll('.map-pin canvas')].every(each => each.dataset.drawn)")
        if alone:
            last = pixels_of(tab, f".map-pin figure:nth-child({1 + channels}) canvas")[..., 0].astype(float)
            assert np.abs(last - MadeUp(8, channels, 40).pixels[7, channels - 1]).mean() < 3
        assert "5 µm" in tab.inner_text(".map-pin")


def test_a_lasso_counts_the_cells_within_it_and_their_treatments(tab: Tab, chain: Chain) -> None:
    cells = map_of(chain)
    x = cells["map_x"]
    width, gap = tab.evaluate("[cellssl.maps[0].width, CellMap.GAP_PX]")
    on_screen = (gap + (x - x.min()) / (x.max() - x.min()) * (width - 2 * gap)) / width
    lasso(tab, 0.4, 0.9995)
    inside = cells[on_screen > 0.4]
    assert 0 < len(inside) < len(cells)
    assert f"{len(inside)} of {len(cells)} cells" in tab.inner_text(".map-selection h3")
    control = cells["compound"] == "DMSO"
    found = {row.split("\t")[0]: row.split("\t")[1:3] for row in tab.locator(".map-selection tr").all_inner_texts()}
    assert found["DMSO"] == [str((inside["compound"] == "DMSO").sum()), str(control.sum())]
    assert tab.locator(".map-montage canvas").count() == min(60, len(inside))


def test_the_table_that_is_saved_has_the_selected_cells_and_their_clusters_in_every_arm(tab: Tab, chain: Chain) -> None:
    lasso(tab, 0.0005, 0.9995)
    with tab.expect_download() as download:
        tab.get_by_text("Save these cells").click()
    saved = pd.read_csv(download.value.path(), keep_default_na=False, dtype={"dose_micromolar": float})
    ours, other = map_of(chain), map_of(chain, "intensities")
    assert list(saved.columns[:5]) == ["cell_id", "plate", "well", "compound", "dose_micromolar"]
    assert saved["cell_id"].tolist() == ours["cell_id"].tolist()
    assert saved["well"].tolist() == ours["well"].tolist()
    assert saved["dose_micromolar"].tolist() == ours["dose_micromolar"].tolist()
    np.testing.assert_allclose(saved["map_x of main"], ours["map_x"], atol=2e-4 * np.ptp(ours["map_x"]))
    np.testing.assert_allclose(saved["map_y of intensities"], other["map_y"], atol=2e-4 * np.ptp(other["map_y"]))
    known = {"label", "control"} & set(saved.columns)
    assert known and saved["cluster of main"].tolist() == ours["cluster"].tolist()
    assert saved["cluster of intensities"].tolist() == other["cluster"].tolist()


def test_text_from_outside_is_text_on_the_page_and_in_the_table(browser: Browser, tmp_path: Path) -> None:
    with browser.opened(made_up_page(tmp_path, compound=[HOSTILE, "plain"] * 20)) as tab:
        wait_until(tab, READY)
        tab.select_option("select >> nth=1", "compound")
        assert HOSTILE in tab.locator(".map-legend li").all_inner_texts()[0]
        lasso(tab, 0.0005, 0.9995)
        with tab.expect_download() as download:
            tab.get_by_text("Save these cells").click()
        rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        assert rows[1][3] == f"'{HOSTILE}"
        assert readable(rows[1][3]) == HOSTILE


def test_a_pinned_cell_stays_when_the_arm_is_switched(made_up: Tab) -> None:
    made_up.mouse.click(*place_of(made_up, 7))
    before = place_of(made_up, 7)
    made_up.select_option("select >> nth=0", label="other")
    wait_until(made_up, READY)
    assert "cell 7" in made_up.inner_text(".map-pin")
    assert place_of(made_up, 7) != before
    assert "30 of 40 cells" in made_up.inner_text(".cell-map")
    assert made_up.evaluate("cellssl.maps[0].isOnMap(35)") is False


def test_the_map_is_used_with_the_keyboard_alone(made_up: Tab) -> None:
    made_up.focus("canvas.map-points")
    made_up.keyboard.press("n")
    said = made_up.inner_text("[role=status]")
    assert said.startswith("Cell 1 of 40 in view")
    made_up.keyboard.press("n")
    assert made_up.inner_text("[role=status]").startswith("Cell 2 of 40")
    made_up.keyboard.press("Enter")
    assert made_up.locator(".map-pin").count() == 1
    made_up.keyboard.press("+")
    made_up.keyboard.press("ArrowRight")
    assert made_up.evaluate("cellssl.maps[0].scale") == pytest.approx(1.5)
    made_up.keyboard.press("v")
    in_view = made_up.evaluate("cellssl.maps[0].readingOrder().length")
    assert 0 < in_view < 40
    assert f"{in_view} of 40 cells" in made_up.inner_text(".map-selection")
    made_up.keyboard.press("Escape")
    assert made_up.locator(".map-selection").is_hidden()


def test_an_entry_of_the_legend_hides_its_cells(made_up: Tab) -> None:
    made_up.locator(".map-legend li button").first.click()
    made_up.evaluate("cellssl.maps[0].draw()")
    clusters = np.arange(40) % 3 - 1
    shown = [
        pixels_of(made_up, "canvas.map-points")[..., 3].any(),
        made_up.evaluate("cellssl.maps[0].readingOrder().length"),
    ]
    assert shown == [True, int((clusters != 0).sum())]


def test_the_wheel_zooms_about_the_pointer_and_a_drag_pans(made_up: Tab) -> None:
    x, y = place_of(made_up, 20)
    made_up.mouse.move(x, y)
    made_up.focus("canvas.map-points")
    made_up.mouse.wheel(0, -300)
    wait_until(made_up, "cellssl.maps[0].scale > 1.5")
    assert place_of(made_up, 20) == pytest.approx((x, y), abs=1)
    made_up.mouse.down()
    made_up.mouse.move(x + 15, y + 25, steps=4)
    made_up.mouse.up()
    assert place_of(made_up, 20) == pytest.approx((x + 15, y + 25), abs=6)


def test_the_wheel_scrolls_the_page_until_the_map_has_the_focus(made_up: Tab) -> None:
    made_up.evaluate("document.body.style.paddingTop = document.body.style.paddingBottom = '2000px'")
    made_up.locator("canvas.map-points").scroll_into_view_if_needed()
    before = made_up.evaluate("scrollY")
    made_up.mouse.move(*place_of(made_up, 20))
    made_up.mouse.wheel(0, -300)
    wait_until(made_up, f"scrollY < {before}")
    assert made_up.evaluate("cellssl.maps[0].scale") == 1
    made_up.focus("canvas.map-points")
    made_up.evaluate("cellssl.maps[0].zoom(200)")
    before = made_up.evaluate("scrollY")
    made_up.mouse.wheel(0, -100)
    wait_until(made_up, f"scrollY < {before}")


def test_a_zoomed_map_shows_the_same_cells_in_a_window_of_another_size(made_up: Tab) -> None:
    x, y = (place - start for place, start in zip(place_of(made_up, 0), place_of_canvas(made_up), strict=True))
    made_up.evaluate(f"cellssl.maps[0].zoom(20, {x}, {y})")
    made_up.set_viewport_size({"width": 800, "height": 900})
    wait_until(made_up, "cellssl.maps[0].width === cellssl.maps[0].canvas.clientWidth && !cellssl.maps[0].waiting")
    assert made_up.evaluate("cellssl.maps[0].inView(0)")
    assert pixels_of(made_up, "canvas.map-points")[..., 3].any()


def place_of_canvas(tab: Tab) -> tuple[float, float]:
    box = tab.locator("canvas.map-points").bounding_box()
    assert box is not None
    return box["x"], box["y"]


def test_a_finger_pans_a_zoomed_map_and_scrolls_past_a_whole_one(made_up: Tab) -> None:
    touch = "getComputedStyle(cellssl.maps[0].canvas).touchAction"
    assert made_up.evaluate(touch) == "pan-y"
    made_up.evaluate("cellssl.maps[0].zoom(2)")
    assert made_up.evaluate(touch) == "none"
    made_up.evaluate("cellssl.maps[0].reset()")
    assert made_up.evaluate(touch) == "pan-y"


def test_a_point_on_the_border_of_the_view_is_drawn_as_far_as_it_is_inside(made_up: Tab) -> None:
    made_up.evaluate("cellssl.maps[0].zoom(3)")
    for right, down in [(1, 0), (0, 1)]:
        made_up.evaluate("cellssl.maps[0].clear()")
        axis = "screenX" if right else "screenY"
        offset = made_up.evaluate(f"cellssl.maps[0].{axis}(20)") - 1
        made_up.evaluate(f"cellssl.maps[0].pan({-right * offset}, {-down * offset}); cellssl.maps[0].draw()")
        x, y = made_up.evaluate("[cellssl.maps[0].screenX(20), cellssl.maps[0].screenY(20)]")
        shown = pixels_of(made_up, "canvas.map-points")
        assert 0 <= min(x, y) <= 1.01 and shown[round(y) + (1 - right), round(x) + right, 3] == 255
        assert not right or not shown[round(y) - 3 : round(y) + 4, -3:, 3].any(), "nothing on the other side"


def test_cells_of_a_well_that_are_not_seen_are_counted_apart(made_up: Tab) -> None:
    made_up.select_option("select >> nth=0", label="other")
    wait_until(made_up, READY)
    made_up.evaluate("cellssl.showCells('Well', ['cell 1', 'cell 35', 'cell 38'])")
    assert "Well: 1 of 30 cells" in made_up.inner_text(".map-selection")
    assert "2 more of these cells are on the maps of other arms only" in made_up.inner_text(".map-selection")
    made_up.select_option("select >> nth=0", label="one")
    wait_until(made_up, READY)
    assert "Well: 3 of 40 cells" in made_up.inner_text(".map-selection h3")
    made_up.locator(".map-legend li button").first.click()  # cluster 0, that of the cells 1, 4, ..., 37
    assert "Well: 2 of 27 cells" in made_up.inner_text(".map-selection h3")
    assert "1 more of these cells is hidden by the legend" in made_up.inner_text(".map-selection")
    assert made_up.locator(".map-montage button").count() == 2


def test_a_cell_that_the_legend_hides_is_neither_pinned_nor_ringed_and_its_label_comes_back(made_up: Tab) -> None:
    made_up.focus("canvas.map-points")
    made_up.keyboard.press("n")
    cell = made_up.evaluate("cellssl.maps[0].focused")
    entry = made_up.locator(".map-legend li button").nth({0: 2, 1: 0, 2: 1}[cell % 3])
    entry.click()
    wait_until(made_up, "document.querySelector('.map-tip').hidden")
    made_up.focus("canvas.map-points")
    made_up.keyboard.press("Enter")
    assert made_up.locator(".map-pin").count() == 0
    entry.click()
    wait_until(made_up, "!document.querySelector('.map-tip').hidden")


def test_escape_leaves_the_lasso_and_a_click_in_it_pins_nothing(made_up: Tab) -> None:
    button = made_up.get_by_role("button", name="Lasso")
    button.click()
    made_up.mouse.click(*place_of(made_up, 7))
    assert made_up.locator(".map-pin").count() == 0
    made_up.keyboard.press("Escape")
    assert button.get_attribute("aria-pressed") == "false"


def test_a_button_that_is_made_anew_keeps_the_focus(made_up: Tab) -> None:
    for name in ("Hide all", "Show all"):
        made_up.get_by_role("button", name=name).press("Enter")
        assert made_up.evaluate("document.activeElement.textContent") == name
    made_up.get_by_role("button", name="Hide all").click()
    made_up.focus("canvas.map-points")
    made_up.keyboard.press("n")
    assert made_up.inner_text("[role=status]") == "No cell is in view."


def test_one_of_many_values_without_a_look_stands_out_when_it_is_picked(browser: Browser, tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(80)]
    with browser.opened(made_up_page(tmp_path, cells=80, compound=names)) as tab:
        wait_until(tab, READY)
        tab.select_option("select >> nth=1", "compound")
        assert "others (24)" in tab.inner_text(".map-legend")
        wait_until(tab, "!cellssl.maps[0].waiting")
        assert colours_of_points(tab).count("#b4bcc8") == 24
        tab.get_by_label("Show one of the others").select_option("c79")
        wait_until(tab, "!cellssl.maps[0].waiting")
        assert [place for place, colour in enumerate(colours_of_points(tab)) if colour == "#d00000"] == [79]


def test_the_scale_of_amounts_is_that_of_its_values(browser: Browser, tmp_path: Path) -> None:
    doses = [*np.linspace(1, 10, 39), 1000]
    with browser.opened(made_up_page(tmp_path, compound="x", dose_micromolar=doses)) as tab:
        wait_until(tab, READY)
        tab.select_option("select >> nth=1", "dose_micromolar")
        assert tab.locator(".map-ends span").all_inner_texts() == ["1", "31.6", "1000"]
        shades = tab.evaluate("document.querySelector('.map-ramp').style.background")
        assert shades.count("rgb(") == 16


def test_other_parts_of_the_page_can_show_the_cells_of_a_well(tab: Tab, chain: Chain) -> None:
    cells = map_of(chain)
    plate, well = cells["plate"][0], cells["well"][0]
    of_well = cells["cell_id"][(cells["plate"] == plate) & (cells["well"] == well)].tolist()
    assert tab.evaluate(f"cellssl.cellsOfWell('{plate}', '{well}')") == of_well
    tab.evaluate(f"cellssl.showCells('Well {well}', cellssl.cellsOfWell('{plate}', '{well}'))")
    assert f"Well {well}: {len(of_well)} of {len(cells)} cells" in tab.inner_text(".map-selection")


def test_on_a_phone_the_map_is_as_wide_as_the_page_and_a_touch_pins(browser: Browser, tmp_path: Path) -> None:
    with browser.opened(made_up_page(tmp_path), 390, 844) as tab:
        wait_until(tab, READY)
        box, legend = tab.locator(".map-stage").bounding_box(), tab.locator(".map-legend").bounding_box()
        assert box is not None and legend is not None
        assert box["width"] > 340 and legend["y"] > box["y"] + box["height"]
        x, y = place_of(tab, 7)
        touch = f"{{bubbles: true, pointerType: 'touch', pointerId: 5, clientX: {x}, clientY: {y}}}"
        canvas = "document.querySelector('canvas.map-points')"
        tab.evaluate(f"{canvas}.setPointerCapture = () => {{}}")  # Chromium captures real pointers only
        for kind in ("pointerdown", "pointerup"):
            tab.evaluate(f"{canvas}.dispatchEvent(new PointerEvent('{kind}', {touch}))")
        assert tab.locator(".map-pin").count() == 1
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(("page_px", "least_px"), [(700, 600), (900, 500)])
def test_the_map_is_no_narrow_strip_beside_its_legend(
    browser: Browser, tmp_path: Path, page_px: int, least_px: int
) -> None:
    with browser.opened(made_up_page(tmp_path), page_px) as tab:
        wait_until(tab, READY)
        assert tab.evaluate("cellssl.maps[0].width") > least_px


def test_without_javascript_and_in_print_there_is_the_picture(browser: Browser, tmp_path: Path) -> None:
    page = made_up_page(tmp_path)
    with browser.opened(page, javascript=False) as tab:
        assert tab.get_by_text("the picture of before").is_visible()
    with browser.opened(page) as tab:
        wait_until(tab, READY)
        assert tab.get_by_text("the picture of before").is_hidden()
        tab.emulate_media(media="print")
        assert tab.get_by_text("the picture of before").is_visible() and tab.locator(".cell-map").is_hidden()
