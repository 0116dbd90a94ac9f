"""Measured numbers of README and docs stand in blocks, and every block names the ALGORITHMs of today."""

import re
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import write_numbers
from page_numbers import demo, digits, markdown, marks, objectives, paper_question
from page_numbers.block import Block
from page_numbers.declared import BLOCKS

PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md"))]
MEASURED = re.compile(r"\d\s*±\s*\d|^\|.*\|\s*-?\d+\.\d+ *%? *(\||/)", re.MULTILINE)
"""A spread, or a cell of a table that is a decimal number."""
PICTURES = ("demo-clusters.jpg", "demo-doses.png", "digits.png", "sweep-jitter.png", "sweep-crop.png")


def page_text(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def places() -> list[tuple[Block, str]]:
    """Every declared block on each of its pages."""
    return [(block, page) for block in BLOCKS.values() for page in block.pages]


def test_every_block_of_a_page_is_declared_and_every_declared_block_stands_in_its_pages() -> None:
    there = {(name, page) for page in PAGES for name in marks.find(page_text(page))}
    assert there == {(block.name, page) for block, page in places()}


@pytest.mark.parametrize(("block", "page"), places(), ids=lambda one: one if isinstance(one, str) else one.name)
def test_a_block_stands_on_todays_algorithms(block: Block, page: str) -> None:
    found = marks.find(page_text(page))[block.name].head
    now = block.head()
    assert found == now, (
        f"the numbers of {block.name} in {page} stand on other ALGORITHMs ({found}) than today's ({now}); "
        f"make numbers ONLY={block.name}"
    )


@pytest.mark.parametrize("page", PAGES)
def test_no_measured_table_or_spread_stands_outside_a_block(page: str) -> None:
    found = MEASURED.search(marks.outside(page_text(page)))
    assert not found, f"{page}: {found and found[0]!r} belongs in a block of scripts/page_numbers/declared.py"


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_of_a_run_is_shown_by_a_block(picture: str) -> None:
    bodies = [found.body for page in PAGES for found in marks.find(page_text(page)).values()]
    assert any(picture in body for body in bodies)
    assert not any(picture in marks.outside(page_text(page)) for page in PAGES)


def test_a_block_is_replaced_and_the_rest_of_the_page_stays() -> None:
    page = f"before\n\n{marks.marked('one', 'fetch 1', 'old')}\n\n{marks.marked('two', 'embed 2', 'kept')}\nafter\n"
    after = marks.replaced(page, "one", "fetch 2, " + ", ".join(f"plugin_{n} 1" for n in range(30)), "new\n\\1 text")
    assert marks.replaced(after, "one", "fetch 1", "old") == page
    assert marks.find(after)["one"].body == "new\n\\1 text"
    assert marks.find(after)["one"].head.startswith("fetch 2, plugin_0 1") and max(map(len, after.split("\n"))) <= 120
    assert marks.find(after)["two"] == marks.MarkedBlock("embed 2", "kept")


@pytest.mark.parametrize("broken", ["<!-- numbers: one | fetch 1 -->\ntext\n", "text\n<!-- end -->\n"])
def test_a_comment_without_its_partner_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="no head or no end"):
        marks.find(broken)


def test_writing_a_block_twice_changes_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(marks.marked("nsc", "evaluate 0", "old"), encoding="utf-8")
    assert write_numbers.write_page(page, BLOCKS["nsc"], "new")
    assert not write_numbers.write_page(page, BLOCKS["nsc"], "new")
    assert marks.find(page.read_text(encoding="utf-8"))["nsc"] == marks.MarkedBlock(BLOCKS["nsc"].head(), "new")


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(SystemExit):
        write_numbers.choose(["no-such-block"])


def test_numbers_are_written_as_the_pages_have_them() -> None:
    assert markdown.mean_sd([0.1, 0.2, 0.3]) == "0.20 ± 0.10"
    assert markdown.mean_sd([0.4, 0.4]) == "0.40"
    assert markdown.mean_sd([0.961, 0.971], 1, 100) == "96.6 ± 0.7"
    assert markdown.change(-0.03, -0.06, -0.001) == "-0.03 (-0.06 to 0.00)"
    assert markdown.table(["", "a"], [["b", ""]]) == "| | a |\n|---|---|\n| b | |"


def test_the_table_of_the_demo_has_one_aligned_line_per_arm() -> None:
    scores = dict.fromkeys(demo.COLUMNS, 0.5)
    rows = [{"arm": arm, "seed": seed, **scores} for arm in ("sum", "context") for seed in (0, 1)]
    header, *arms = demo.aligned(rows).split("\n")
    assert header.split("  ")[0] == "arm" and [line.split()[0] for line in arms] == ["sum", "context"]
    assert {line.index("0.50") for line in arms} == {header.index("AMI label")}


def test_the_digits_fall_by_the_differences_of_equal_seeds() -> None:
    each = {"digit": (0.6, 0.8), "flow": (0.5, 0.6)}
    rows = [
        {"arm": arm, "seed": seed, "ami": value, "linear": value, "silhouette": value}
        for arm, values in each.items()
        for seed, value in enumerate(values)
    ]
    made = digits.falls_table(rows)
    assert "| AMI | 0.15 | 0.10 to 0.20 | 2 of 2 seeds | 21 % |" in made


def test_objectives_are_listed_best_first_and_those_below_the_untrained_encoder_last() -> None:
    numbers = {"step_ms": 41.4, "state_mb": 1.94, "backward_mb": 10.2}
    reached = {"moco": (0.4, 0.4, 0.4), "mae": (0.2, 0.9, 0.9), "simclr": (0.5, 0.5, 0.5)}
    runs = [
        {"row": name, "seed": seed, "accuracy": value, "untrained": 0.3, **numbers}
        for name, values in reached.items()
        for seed, value in enumerate(values)
    ]
    lines = objectives.as_table(runs).split("\n")[4:]
    assert [line.split(" | ")[0] for line in lines] == ["| simclr", "| moco", "| mae"]
    assert lines[2] == "| mae | 0.200 0.900 0.900 | 2 of 3 | 41 | 1.9 | 10 |"


def test_gains_are_paired_by_screen_after_the_mean_over_seeds_of_training() -> None:
    rows = [
        {"arm": arm, "screen": screen, "seed": seed, **dict.fromkeys(paper_question.SCORES, value + screen + seed)}
        for arm, value in {**dict.fromkeys(paper_question.ARM_TITLES, 0.0), "context": 0.2}.items()
        for screen in paper_question.PLATE_SEEDS
        for seed in (0, 1)
    ]
    first = paper_question.gains(rows).split("\n")[2]
    assert first.startswith("| `context` - `centre` | +0.20 (0.20 to 0.20), 5 of 5 |")
