"""doses: what labs write as a dose is read in micromolar or refused, and near doses of a compound are one."""

import pytest

from cellssl.datasets.tables.doses import DoseColumn, near_doses, parse_doses, unit_doubts
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


@pytest.mark.parametrize(
    "name", ["CONC_NM", "Conc (NM)", "Dose [nM]", "doseNM", "Conc (nmol/L)", "Conc (nMol)", "CONC (NMOL/L)"]
)
def test_units_in_capitals_that_mean_one_thing_are_read(name: str) -> None:
    assert read("300", "300 NM", name=name) == [0.3, 0.3]


REFUSED_HEADERS = ["Conc (MM)", "Conc (ppm)", "dose_mg", "Conc (foo)", "Stock conc (mM)", "Conc uM (nM)", "Dose (nmol)"]


@pytest.mark.parametrize("name", REFUSED_HEADERS)
def test_a_column_in_an_unclear_unit_is_refused_until_the_recipe_says_it(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read("1", name=name)
    assert "dose_unit" in caught.value.hint
    assert read("1", name=name, unit="uM") == [1]


@pytest.mark.parametrize("name", ["Conc (log M)", "log Conc", "log10[M]", "Conc (ug/ml)"])
def test_logarithms_and_masses_are_refused_whatever_the_unit(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read("1", name=name, unit="uM")
    assert "convert" in caught.value.hint


def test_a_point_may_separate_thousands_where_semicolons_separate_cells() -> None:
    column = DoseColumn(["10.000", "3.000", "0"], ["1", "2", "3"], "dose", semicolons=True)
    with pytest.raises(DataError, match="a point may be"):
        parse_doses(column)
    assert parse_doses(DoseColumn(["10.000", "0.300"], ["1", "2"], "dose", semicolons=True)) == [10, 0.3]
    assert read("10.000", "3.000") == [10, 3]


def test_units_that_disagree_are_said() -> None:
    column = DoseColumn(["300 nM", "0 nM", "1"], ["line 2", "line 3", "line 4"], "Conc (uM)")
    assert ["(1): '300 nM' (line 2)" in str(one) for one in unit_doubts(column)] == [True]
    assert "says uM, and the setting dose_unit says nM" in str(unit_doubts(column, "nM")[0])
    assert unit_doubts(DoseColumn(["300 nM"], ["line 2"], "Conc")) == []


def test_all_bad_cells_are_listed_and_words_for_unknown_are_none() -> None:
    with pytest.raises(DataError) as caught:
        read("high", "1", "low", "x")
    assert "'high' is not a dose" in caught.value.message
    assert "2 more: 'low' (line 4), 'x' (line 5)" in caught.value.message
    assert read("None", "NULL", "1") == [None, None, 1]
