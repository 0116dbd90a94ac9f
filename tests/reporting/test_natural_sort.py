"""Names in the order in which people would put them."""

from cellssl.reporting.natural_sort import natural


def test_numbers_stand_by_their_size_alone_and_within_words() -> None:
    names = ["cluster 10", "b", "2", "cluster 2", "10", "1e-3", "b2c10", "b2c9", "", "-1"]
    assert sorted(names, key=natural) == ["", "-1", "1e-3", "2", "10", "b", "b2c9", "b2c10", "cluster 2", "cluster 10"]
