"""page_size: a page that would be too large leaves out pictures of the appendix, and says so."""

from cellssl.reporting.html import Folded, Images, Paragraph, Picture, Section, Table
from cellssl.reporting.page_size import LEFT_OUT, size, within

PICTURE = Picture([b"x" * 3000], "Views of “main”.", "views")


def sections() -> list[Section]:
    first, last = (Section(title, [PICTURE], is_appendix=True) for title in ("Views", "Cells"))
    return [Section("Map", [PICTURE]), first, last]


def test_a_page_that_fits_stays_as_it_is() -> None:
    assert size(PICTURE) == 4000
    assert within(sections(), 12_000) == sections()


def test_the_last_pictures_of_the_appendix_go_first_and_the_page_says_where_they_are() -> None:
    kept = within(sections(), 8_000)
    assert kept[:2] == sections()[:2]
    assert kept[2].blocks == [Paragraph(f"{LEFT_OUT}Views of “main”.")]


def test_main_sections_stay_whole_and_folded_pictures_go() -> None:
    folded = Section("Cells", [Folded("more", [PICTURE, PICTURE])], is_appendix=True)
    kept = within([Section("Map", [PICTURE]), folded], 0)
    assert kept[0].blocks == [PICTURE]
    assert sum(map(size, kept[1].blocks)) == 0


def test_pictures_in_tables_and_around_the_sections_count_and_those_of_tables_of_the_appendix_go() -> None:
    table = Table(["cluster", "cells"], [["0", Images([b"x" * 30_000], "8 cells of cluster 0")]], "Clusters.")
    assert size(table) == 40_000
    further = Section("Clusters", [table], is_appendix=True)
    assert within([further], 40_000) == [further]
    [kept] = within([further], 40_000, around=[PICTURE])
    [left] = kept.blocks
    assert isinstance(left, Table) and left.rows == [["0", "8 cells of cluster 0"]]
    assert size(left) == 0 and "left out" in left.caption
