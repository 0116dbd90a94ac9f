"""doses: what labs write as a dose is read in micromolar or refused, and near doses of a compound are one."""

import pytest

from cellssl.datasets.tables.doses import DoseColumn, near_doses, parse_doses
from cellssl.errors import CellsslError, DataError, UsageError


def read(*texts: str, name: str = "dose", **options: object) -> list[float | None]:
    units = options.pop("units", None)
    column = DoseColumn(texts, [f"line {place + 2}" for place in range(len(texts))], name, units)  # type: ignore[arg-type]
    return parse_doses(column, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "micromolar"),
    [
        (("0", "0.3", "1e-3", ".5", "5."), [0, 0.3, 0.001, 0.5, 5]),
        (("0 uM", "0", "10 µM", "10uM", "3 μM", "10\u00a0µM"), [0, 0, 10, 10, 3, 10]),
        (("300 nM", "1 mM", "50 pM", "0.1 M", "2 umol/L", "0"), [0.3, 1000, 5e-5, 1e5, 2, 0]),
        (("0", "0,3", "12,5", "1,000"), [0, 0.3, 12.5, 1.0]),
        (("", "NA", "n.a.", "-", "N/A", "1"), [None, None, None, None, None, 1]),
    ],
)
def test_units_decimal_commas_and_unknown_doses_are_read(texts: tuple[str, ...], micromolar: list[float]) -> None:
    assert read(*texts) == micromolar


@pytest.mark.parametrize(
    ("name", "micromolar"),
    [("dose [nM]", 0.3), ("conc_nM", 0.3), ("Conc. (mmol/l)", 300_000), ("dose_micromolar", 300), ("amount", 300)],
)
def test_the_unit_in_the_name_of_a_column_counts_for_cells_without_one(name: str, micromolar: float) -> None:
    assert read("300", "1 uM", name=name) == [micromolar, 1]


def test_a_unit_of_the_recipe_or_of_a_column_of_its_own_counts() -> None:
    assert read("300", unit="nM") == [0.3]
    assert read("300", "1", units=["nM", "uM"]) == [0.3, 1]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (("1", "0.5 mg/ml"), "line 3, column 'dose': '0.5 mg/ml' is not a dose"),
        (("1.000,5", "0,3"), "their meaning is open: '1.000,5' (line 2)"),
        (("0.5", "0,3"), "their meaning is open: '0,3' (line 3), '0.5' (line 2)"),
        (("1,000", "10,000"), "a decimal comma or separate thousands: '1,000' (line 2), '10,000' (line 3)"),
        (("300 nM", "5"), "doses in nM, and others without a unit: '5' (line 3)"),
        (("-1",), "'-1' is not a dose"),
        (("1e400",), "'1e400' is not a dose"),
        (("10 um",), "'10 um' is not a dose"),
    ],
)
def test_what_may_mean_two_things_is_refused_with_its_cells(texts: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        read(*texts)
    assert sentence in caught.value.message


@pytest.mark.parametrize(("name", "cure"), [("mmoles_per_liter", "dose_unit"), ("dose (ug/ml)", "convert")])
def test_a_column_whose_dose_in_the_well_only_the_user_knows_is_refused(name: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        read("5", name=name)
    assert cure in caught.value.hint
    assert isinstance(caught.value, CellsslError)


def joined(*doses: float, tolerance: float = 0.02) -> dict[float, tuple[float, ...]]:
    return {group.dose: group.written for group in near_doses("x", doses, tolerance)}


def test_doses_as_an_acoustic_dispenser_writes_them_are_one_dose_named_by_the_roundest() -> None:
    dispensed = (4.9709549833322875, 4.99355632287415, 5.0)
    assert joined(*dispensed, 0.1 + 0.2, 0.3) == {5.0: dispensed, 0.3: (0.3, 0.1 + 0.2)}
    assert joined(0.1 + 0.2) == {0.3: (0.1 + 0.2,)}


def test_dilution_series_and_single_doses_stay_as_they_are() -> None:
    assert joined(*(10 / 1.5**step for step in range(12)), 0) == {}
    assert joined(1.0, 1.03, 4.9709549833322875) == {}
    assert joined(5.0, 4.97, tolerance=0) == {}


def test_a_chain_of_near_doses_is_not_one_dose() -> None:
    chain = [0.1 * 1.015**step for step in range(40)]
    for low_to_high in joined(*chain).values():
        assert low_to_high[-1] - low_to_high[0] <= 0.02 * low_to_high[-1] * (1 + 1e-6)
