"""Metadata of cells is found by their keys, in any order, for training and validation cells alike."""

import math

import torch

from cellssl.learning.training.cell_metadata import NO_METADATA, CellMetadata

CPU = torch.device("cpu")
KEYS = torch.tensor([50, -7, 3, 12])


def metadata() -> CellMetadata:
    moa = ["actin", None, "tubulin", "actin"]
    return CellMetadata.from_columns(KEYS, {"moa": moa, "dose_micromolar": [0.1, math.nan, None, 3.0]})


def test_values_are_looked_up_by_key_in_the_given_order() -> None:
    values = metadata().lookup(torch.tensor([12, 50, 12]), CPU)
    torch.testing.assert_close(values["dose_micromolar"], torch.tensor([3.0, 0.1, 3.0]))


def test_equal_texts_get_equal_numbers_and_a_missing_text_equals_no_other() -> None:
    moa = metadata().lookup(KEYS, CPU)["moa"].tolist()
    assert moa[0] == moa[3] and len(set(moa)) == 3
    assert moa[1] == KEYS[1]


def test_a_missing_number_is_nan() -> None:
    assert metadata().lookup(KEYS, CPU)["dose_micromolar"].isnan().tolist() == [False, True, True, False]


def test_the_same_text_has_the_same_number_in_another_table() -> None:
    """A validation cell's label is compared with others of its own batch; its code does not depend on the table."""
    other = CellMetadata.from_columns(torch.tensor([1]), {"moa": ["actin"]})
    assert other.lookup(torch.tensor([1]), CPU)["moa"] == metadata().lookup(KEYS[:1], CPU)["moa"]


def test_without_columns_nothing_is_looked_up() -> None:
    assert NO_METADATA.lookup(torch.tensor([1, 2]), CPU) == {}
