"""The report's page: all text is escaped, nothing is loaded from elsewhere, tables and pictures are complete."""

import base64
import hashlib
from html.parser import HTMLParser

import pytest

from cellssl.reporting.html import (
    Block,
    Bullets,
    Details,
    Folded,
    Heading,
    Images,
    Page,
    Paragraph,
    Picture,
    Section,
    Table,
    render,
    shown,
)

HOSTILE = '<script>alert("1")</script>&\'<img src=x onerror=alert(1)>\x00'
READABLE = '<script>alert("1")</script>&\'<img src=x onerror=alert(1)>\N{REPLACEMENT CHARACTER}'
PNG = b"\x89PNG not a real one"
VOID = {"meta", "link", "img", "wbr"}


class ParsedPage(HTMLParser):
    """Parse a page as a browser would: tags with their attributes, and the text within each kind of tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are nested"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def within(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag and text.strip()]

    def all_text(self, tag: str) -> str:
        """Return the text within this kind of tag, also where a void tag such as <wbr> stands in it."""
        return "".join(text for inside, text in self.texts if inside == tag)


def text_of(page: Page) -> str:
    return "".join(render(page))


def parsed(*blocks: Block) -> ParsedPage:
    return ParsedPage(text_of(Page("Title", ["Lead."], [Section("Scores", blocks)])))


def everything(text: str) -> Page:
    """Return a page with the same text in every place that shows text."""
    table = Table([text, "n"], [[text, 1]], caption=text)
    blocks: list[Block] = [
        Paragraph(text),
        Heading(text),
        Bullets([text]),
        table,
        Picture([PNG, PNG], text, text),
        Details(text, text),
    ]
    blocks.append(Folded(text, [table, Folded(text, [Paragraph(text)])]))
    return Page(text, [text], [Section(text, blocks)])


def test_hostile_text_is_shown_and_never_run() -> None:
    page = ParsedPage(text_of(everything(HOSTILE)))
    plain = ParsedPage(text_of(everything("harmless")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in page.tags] == [sorted(attributes) for _, attributes in plain.tags]
    for place in ("title", "h1", "h2", "h3", "a", "p", "li", "caption", "th", "td", "figcaption", "summary", "pre"):
        assert READABLE in page.within(place), place
    assert READABLE in [attributes.get("alt") for _, attributes in page.tags]


@pytest.mark.parametrize(
    "hostile",
    [
        "</title><script>alert(1)</script>",
        '" onmouseover="alert(1)" x="',
        "' onerror='alert(1)' x='",
        "{{ 7 * 7 }} {% include 'page.js' %} {# hidden #}",
        "</style></script><svg onload=alert(1)>",
        "&lt;b&gt; &amp; &#60;i&#62;",
    ],
)
def test_a_hostile_title_arm_or_caption_injects_nothing(hostile: str) -> None:
    table = Table(["arm", hostile], [[hostile, 0.5]], caption=hostile)
    sections = [Section(hostile, [table, Picture([PNG], hostile, hostile, 0.5)])]
    page = ParsedPage(text_of(Page(hostile, [hostile], sections)))
    plain = ParsedPage(text_of(everything("harmless")))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    assert not {name for _, attributes in page.tags for name in attributes if name.startswith("on")}
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    for place in ("title", "h1", "h2", "a", "p", "caption", "th", "td", "figcaption"):
        assert page.all_text(place).count(hostile) == 1, place
    assert [attributes.get("alt") for tag, attributes in page.tags if tag == "img"] == [hostile]


def test_a_column_name_may_break_after_an_underscore() -> None:
    assert "arm_<wbr>name_<wbr>&lt;b&gt;" in text_of(Page("t", [], [Section("s", [Table(["arm_name_<b>"], [])])]))


def test_nothing_is_loaded_from_anywhere() -> None:
    page = ParsedPage(text_of(everything("harmless")))
    references = [
        (tag, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster", "background")
    ]
    assert {tag for tag, _ in references} == {"link", "a", "img"}
    assert all(value and value.startswith(("data:", "#")) for _, value in references)
    style = "".join(page.within("style"))
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_forbids_loading_anything_and_allows_only_the_page_s_own_script() -> None:
    page = ParsedPage(text_of(everything("harmless")))
    policy = next(each["content"] for _, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256("".join(page.within("script")).encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_contents_link_to_the_sections() -> None:
    page = ParsedPage(text_of(Page("Title", [], [Section("One", []), Section("Two", [])])))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    places = [f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"]
    assert links == places
    assert page.within("a") == page.within("h2") == ["One", "Two"]


def test_a_picture_keeps_its_bytes() -> None:
    source = next(attributes["src"] for tag, attributes in parsed(Picture([PNG], "c", "a")).tags if tag == "img")
    assert source is not None
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG


def test_a_jpeg_has_the_media_type_of_a_jpeg() -> None:
    source = next(
        attributes["src"] for tag, attributes in parsed(Picture([b"\xff\xd8\xff"], "c", "a")).tags if tag == "img"
    )
    assert source is not None
    assert source.startswith("data:image/jpeg;base64,")


def test_a_high_picture_is_shown_in_strips_and_described_once() -> None:
    page = parsed(Picture([b"\x89PNG top", b"\x89PNG bottom"], "caption", "cells", share=0.5))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [base64.b64decode(str(each["src"]).partition(",")[2]) for each in images] == [
        b"\x89PNG top",
        b"\x89PNG bottom",
    ]
    assert [each["alt"] for each in images] == ["cells", ""]
    assert [each["style"] for each in images] == ["width:32.0rem"] * 2
    assert len([tag for tag, _ in page.tags if tag == "figure"]) == len(page.within("figcaption")) == 1


def test_folded_blocks_are_in_the_page() -> None:
    page = parsed(Folded("More", [Table(["arm"], [["sum"]]), Paragraph("words")]))
    assert page.within("summary") == ["More"]
    assert page.within("td") == ["sum"]


def test_a_column_of_pictures_cannot_be_sorted() -> None:
    heads = [
        each for tag, each in parsed(Table(["arm", "cells"], [["sum", Images([PNG], "1 cell")]])).tags if tag == "th"
    ]
    assert ["data-unsorted" in attributes for attributes in heads] == [False, True]


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    rows = [["sum", "0.51 ± 0.02", 1200, "-0.1 to 0.2", "yes"], ["random", "–", None, "–", "3"]]
    heads = [
        each for tag, each in parsed(Table(["arm", "AMI", "cells", "interval", "mixed"], rows)).tags if tag == "th"
    ]
    assert ["class" in attributes for attributes in heads] == [False, True, True, True, False]


def test_a_column_shows_as_many_decimals_as_it_needs() -> None:
    rows = [[0.0, 0.5, 0.12345], [50.0, 1.25, 2.0], [float("nan"), 3.0, 1e-9]]
    cells = parsed(Table(["dose", "half", "score"], rows)).within("td")
    assert cells == ["0", "0.50", "0.123", "50", "1.25", "2.000", "–", "3.00", "1e-09"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "inf"),
        (12345, "12,345"),
        (0.5, "0.500"),
        (-0.25, "-0.250"),
        *[(2e7, "2e+07"), (0.0, "0.000"), (True, "yes"), (False, "no"), ("as it is", "as it is")],
    ],
)
def test_values_are_shown_as_text(value: str | float | None, text: str) -> None:
    assert shown(value) == text


def test_a_table_without_rows_is_still_a_table() -> None:
    assert parsed(Table(["arm"], [])).within("th") == ["arm"]


def test_a_row_that_is_too_short_is_a_programming_error() -> None:
    with pytest.raises((IndexError, ValueError)):
        text_of(Page("t", [], [Section("s", [Table(["a", "b"], [["only a"]])])]))


def test_the_same_page_gives_the_same_text() -> None:
    assert text_of(everything("x")) == text_of(everything("x"))
