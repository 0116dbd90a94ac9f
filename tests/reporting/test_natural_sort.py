"""Names are sorted in the order that people expect."""

from cellssl.reporting.natural_sort import natural_key


def test_numbers_are_sorted_by_value_alone_and_within_words() -> None:
    names = ["cluster 10", "b", "2", "cluster 2", "10", "1e-3", "b2c10", "b2c9", "", "-1"]
    assert sorted(names, key=natural_key) == [
        "",
        "-1",
        "1e-3",
        "2",
        "10",
        "b",
        "b2c9",
        "b2c10",
        "cluster 2",
        "cluster 10",
    ]
