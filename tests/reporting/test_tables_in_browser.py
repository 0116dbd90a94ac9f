"""page: the tables of a page in a real Chromium on a narrow screen, where rows are cards and heads are not seen."""

from pathlib import Path

from browser import needs_chromium, opened

from cellssl.reporting.html import Page, Section, Table, render

pytestmark = needs_chromium


def page_of(folder: Path) -> Path:
    table = Table(["arm", "score"], [["a", 2.5], ["b", 10.0], ["c", 1.5]], "Scores.")
    (folder / "page.html").write_text("".join(render(Page("x", [], [Section("Scores", [table])]))), encoding="utf-8")
    return folder / "page.html"


def test_on_a_narrow_screen_a_choice_sorts_and_tab_stops_at_nothing_that_is_not_seen(tmp_path: Path) -> None:
    with opened(page_of(tmp_path), 390, 844) as tab:
        tab.get_by_label("Sort by").select_option("score, downwards")
        assert [text[0] for text in tab.locator("tbody td:first-child").all_inner_texts()] == ["b", "a", "c"]
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.closest('thead')") is None


def test_on_a_wide_screen_the_heads_sort_and_there_is_no_choice(tmp_path: Path) -> None:
    with opened(page_of(tmp_path)) as tab:
        assert tab.get_by_label("Sort by").is_hidden()
        tab.get_by_role("button", name="score").click()
        assert tab.locator("tbody td:first-child").all_inner_texts() == ["c", "a", "b"]
