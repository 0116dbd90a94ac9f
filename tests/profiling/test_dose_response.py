"""EC50 of simulated curves is found, flat compounds have none, and the trend is Kendall's."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kstest

from cellssl.profiling.dose_response import dose_response
from cellssl.randomness import generator

DOSES = np.geomspace(0.01, 30, 8)


def logistic(dose: np.ndarray, bottom: float, top: float, ec50: float, slope: float) -> np.ndarray:
    return bottom + (top - bottom) / (1 + (ec50 / dose) ** slope)


def plate(
    compounds: int, top: float, *, noise: float = 0.3, wells: int = 3, seed: int = 0
) -> tuple[tuple[np.ndarray, list[str | None], np.ndarray, np.ndarray, list[str]], np.ndarray]:
    """Return 32 control wells at 1 and compounds at eight doses, and the true EC50 of each."""
    rng = generator("dose response", seed)
    true = 10 ** rng.uniform(-1, 0.7, compounds)
    dose = np.concatenate([np.full(32, np.nan), np.tile(np.repeat(DOSES, wells), compounds)])
    ec50 = np.concatenate([np.ones(32), np.repeat(true, len(DOSES) * wells)])
    expected = np.where(np.isnan(dose), 1.0, logistic(dose, 1.0, top, ec50, 1.5))
    response = expected + noise * rng.normal(size=len(dose))
    names = [None] * 32 + [f"drug {i:03d}" for i in range(compounds) for _ in range(len(DOSES) * wells)]
    return (response, names, dose, np.isnan(dose), ["P"] * len(dose)), true


@pytest.mark.parametrize("top", [4.0, -2.0])
def test_ec50_of_clear_effects_is_within_a_factor_of_two(top: float) -> None:
    args, true = plate(20, top)
    found = dose_response(*args, draws=500)
    near = np.abs(np.log2(found["ec50_micromolar"] / true)) < 1
    assert near.mean() >= 0.9
    fits = found["fits"]
    assert ((found["ec50_low"] <= true) & (true <= found["ec50_high"]))[fits].mean() > 0.85
    assert (found["trend_p_value"] < 0.01).all()


def test_flat_compounds_have_no_ec50_and_uniform_p_values_of_trend() -> None:
    args, _ = plate(150, 1.0, wells=2)
    found = dose_response(*args, draws=300)
    assert found["fits"].mean() < 0.02
    assert found.loc[~found["fits"], ["ec50_micromolar", "ec50_low", "ec50_high"]].isna().all(axis=None)
    assert kstest(found["trend_p_value"], "uniform").pvalue > 0.01


def test_a_clean_curve_equals_that_of_scipy() -> None:
    args, _ = plate(1, 5.0, noise=0.05)
    response, _, dose, is_control, _ = args
    found = dose_response(*args, draws=500).iloc[0]
    with_zero = np.where(is_control, 1e-12, dose)
    expected, _ = curve_fit(logistic, with_zero, response, p0=[1, 5, 1, 1], bounds=([-9, -9, 0.01, 0.4], [9, 9, 99, 6]))
    np.testing.assert_allclose(
        found[["bottom", "top", "ec50_micromolar", "slope"]].to_numpy(float), expected, rtol=1e-3
    )


def test_the_trend_is_kendalls_also_with_equal_responses() -> None:
    (response, names, dose, is_control, plates), _ = plate(1, 2.0)
    response = response.round(1)
    zero = np.where(is_control, 0, dose)
    signs = [np.sign(np.subtract.outer(each, each)) for each in (zero, response)]
    expected = (signs[0] * signs[1]).sum() / (len(zero) * (len(zero) - 1))
    assert dose_response(response, names, dose, is_control, plates)["trend"].item() == pytest.approx(expected)


def test_wells_without_a_dose_are_left_out_and_dose_0_counts_as_0() -> None:
    (response, names, dose, is_control, plates), _ = plate(1, 4.0)
    extra = np.array([np.nan, -1.0, 0.0])
    found = dose_response(
        np.concatenate([response, [50.0, 50.0, 1.0]]),
        [*names, *["drug 000"] * 3],
        np.concatenate([dose, extra]),
        np.concatenate([is_control, np.zeros(3, bool)]),
        [*plates, "P", "P", "P"],
    ).iloc[0]
    assert found["wells"] == 25
    assert found["doses"] == 8
    assert found["remark"] == "2 wells without a dose or a response are left out"
    assert found["fits"]


def small(responses: list[float], doses: list[float], controls: int = 12) -> pd.DataFrame:
    """Return the row of one compound beside control wells at about 1."""
    control = 1 + 0.1 * generator("small").normal(size=controls)
    n = controls + len(doses)
    return dose_response(
        np.concatenate([control, responses]),
        [None] * controls + ["drug"] * len(doses),
        np.concatenate([np.full(controls, np.nan), doses]),
        np.arange(n) < controls,
        ["P"] * n,
    )


def test_two_doses_have_no_row() -> None:
    assert small([2.0, 3.0, 3.0], [1.0, 10.0, 10.0]).empty


def test_three_wells_have_a_trend_but_no_curve() -> None:
    found = small([1.5, 2.0, 3.0], [1.0, 3.0, 10.0]).iloc[0]
    assert not found["fits"]
    assert found["remark"] == "no curve: 3 treated wells, and four are needed"
    assert found["trend_p_value"] < 0.05


def test_an_effect_that_is_still_rising_at_the_highest_dose_has_no_ec50() -> None:
    found = small([1.0, 1.1, 0.9, 1.0, 1.0, 1.1, 2.0, 2.1], [0.1, 0.1, 1.0, 1.0, 3.0, 3.0, 10.0, 10.0]).iloc[0]
    assert not found["fits"]
    assert found["remark"] in (
        "no curve: its EC50 has no upper limit",
        "no curve: its EC50 lies above the tested doses",
    )


def test_an_effect_that_is_there_at_the_lowest_dose_has_no_ec50() -> None:
    found = small([2.9, 3.1, 3.0, 2.9, 3.1, 3.0, 2.9, 3.1], [0.1, 0.1, 1.0, 1.0, 3.0, 3.0, 10.0, 10.0]).iloc[0]
    assert found["remark"] == "no curve: its EC50 lies below the tested doses"
    assert found["trend_p_value"] < 0.01


def test_responses_that_are_all_equal_have_no_trend() -> None:
    found = dose_response(np.ones(12), ["drug"] * 12, np.tile([1.0, 2.0, 4.0], 4), np.zeros(12, bool), ["P"] * 12).iloc[
        0
    ]
    assert (found["trend"], found["trend_p_value"]) == (0, 1)
    assert found["remark"] == "all responses are equal"
