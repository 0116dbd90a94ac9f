"""summary: what a terminal shows of a report fits its width, and says what is left out."""

import pytest

from cellssl.cli.summary import answer, table_lines
from cellssl.reporting.signs import SYMBOL_OF_COLOUR

HEADER = ["arm", "AMI", "kNN", "linear", "new plate", "active", "seeds"]
ROW = ["pretrain-with-a-very-long-name-of-an-arm", *(["0.36 ± 0.01"] * 4), "12/28", "3"]


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize("header", [HEADER, [*HEADER, "silhouette", "AMI phenotype", "AMI density"]])
def test_a_table_of_arms_fits_and_what_is_left_out_is_named(width: int, header: list[str]) -> None:
    row = [*ROW, *(["0.25"] * (len(header) - len(ROW)))]
    lines = table_lines(header, [row] * 3, width)
    assert max(map(len, lines)) <= width and lines[2].startswith("pretrain") and "…" in lines[2]
    shown, said = lines[0].split(), " ".join(lines)
    assert all(name.split()[-1] in shown or name in said.split("on the page:")[1] for name in header)


def test_of_many_arms_the_first_are_listed_and_the_others_counted() -> None:
    lines = table_lines(HEADER, [ROW] * 55)
    assert sum(line.startswith("pretrain") for line in lines) == 40 and "on the page: 15 more arms" in lines[-1]


def test_the_answer_is_that_of_the_page_or_counts_active_treatments() -> None:
    rows = [{"arm": arm, "seed": 0, "hits_active": active, "hits_tested": 12} for arm, active in (("a", 3), ("b", 5))]
    assert answer({"answer": "It worked.", "scores": rows}) == "It worked."
    assert answer({"scores": rows}) == "active treatments: from 3 of 12 (a) to 5 of 12 (b)"
    assert answer({"scores": rows[:1]}) == "3 of 12 tested treatments active, by the arm a"
    assert answer({"scores": [{"arm": "a"}]}) == ""


def test_a_table_without_any_score_is_left_out_and_lights_have_the_signs_of_the_page() -> None:
    assert table_lines(["arm", "seeds"], [["main", "1"]]) == []
    assert set(SYMBOL_OF_COLOUR) == {"green", "red", "amber", "grey"} and len(set(SYMBOL_OF_COLOUR.values())) == 4
