"""Effects: a control well lies at 1, a treatment without an effect below it, and odd designs have a defined answer."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import mahalanobis

from cellssl.profiling.effects import WellEffects, treatment_effects, well_effects
from cellssl.randomness import generator

Screen = tuple[np.ndarray, list[str], np.ndarray, list[str | None]]


def screen(
    seed: int, *, plates: int = 4, controls: int = 8, treatments: int = 30, wells: int = 4, dim: int = 60
) -> Screen:
    """Return profiles, plates, control flags and treatments; features depend on each other, with heavy tails."""
    rng = generator("effects", seed, plates, controls)
    plate = np.concatenate([np.repeat(np.arange(plates), controls), np.tile(np.arange(wells) % plates, treatments)])
    is_control = np.arange(len(plate)) < plates * controls
    labels = [None] * (plates * controls) + [f"drug {i:02d}" for i in range(treatments) for _ in range(wells)]
    mixing = rng.normal(size=(dim, dim)) * np.exp(-np.arange(dim) / 10)[:, None]
    x = rng.standard_t(5, size=(len(plate), dim)) @ mixing + 10 * rng.normal(size=(plates, dim))[plate]
    return x, [f"P{number}" for number in plate], is_control, labels


def of_wells(screen_: Screen, **settings: str) -> WellEffects:
    return well_effects(*screen_, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("plates", "controls"), [(4, 8), (1, 16), (4, 2), (1, 4)])
def test_a_treated_well_without_an_effect_is_as_far_as_a_control_well(plates: int, controls: int) -> None:
    found = []
    for seed in range(12):
        here = screen(seed, plates=plates, controls=controls)
        effect = of_wells(here).effect
        assert np.median(effect[here[2]]) == pytest.approx(1)
        found.append(np.median(effect[~here[2]]))
    assert 0.9 < np.mean(found) < 1.15


@pytest.mark.parametrize("reference", ["controls", "all"])
def test_a_treatment_without_an_effect_lies_near_0(reference: str) -> None:
    table = treatment_effects(of_wells(screen(1), reference=reference), draws=100)
    assert (table["effect"] < 1).all()
    assert table["effect"].median() < 0.25
    assert sorted(table["rank"]) == list(range(1, 31))
    assert table["effect"][table["rank"].argmin()] == table["effect"].max()


def test_distances_are_those_of_the_true_covariance_where_there_are_many_controls() -> None:
    rng = generator("true covariance")
    mixing = np.eye(5) + 0.5 * rng.normal(size=(5, 5))
    is_control = np.arange(4040) < 4000
    x = rng.normal(size=(4040, 5)) @ mixing + np.where(is_control, 0, 3)[:, None]
    effect = well_effects(x, ["P"] * 4040, is_control, [None] * 4040).effect
    inverse = np.linalg.inv(mixing.T @ mixing)
    true = np.array([mahalanobis(row, np.zeros(5), inverse) for row in x])
    np.testing.assert_allclose(effect[~is_control], (true / np.median(true[is_control]))[~is_control], rtol=0.15)


def test_offsets_of_plates_and_scales_of_features_change_nothing() -> None:
    x, plates, is_control, labels = screen(2)
    rng = generator("other units")
    offset = dict(zip(sorted(set(plates)), 100 * rng.normal(size=(4, x.shape[1])), strict=True))
    other = (x + np.stack([offset[plate] for plate in plates])) * 10.0 ** rng.integers(-3, 4, x.shape[1])
    expected = well_effects(x, plates, is_control, labels)
    found = well_effects(other, plates, is_control, labels)
    np.testing.assert_allclose(found.effect, expected.effect, rtol=1e-6)


def test_a_few_bad_control_wells_do_not_decide() -> None:
    x, plates, is_control, labels = screen(3, controls=16)
    broken = x.copy()
    broken[[0, 20, 40]] *= 100
    expected, found = (well_effects(each, plates, is_control, labels).effect for each in (x, broken))
    assert np.median(np.abs(np.log(found / expected))[~is_control]) < 0.15


def test_a_treatment_of_equal_wells_is_as_far_as_one_of_them_and_has_no_width() -> None:
    x, plates, is_control, labels = screen(4, plates=1, wells=3)
    same = np.array(labels, object) == "drug 07"
    x[same] = x[same][0]
    measured = well_effects(x, plates, is_control, labels)
    row = treatment_effects(measured, draws=100).set_index("treatment").loc["drug 07"]
    assert row["effect"] == pytest.approx(measured.effect[same][0])
    assert row["low"] == pytest.approx(row["effect"]) == row["high"]


def test_intervals_contain_the_expected_effect() -> None:
    """The true effect is the mean over many treatments with the same shift."""
    x, plates, is_control, labels = screen(5, treatments=120, wells=6, controls=32)
    x[~is_control, 0] += 4
    table = treatment_effects(well_effects(x, plates, is_control, labels), draws=300)
    true = table["effect"].mean()
    assert ((table["low"] <= true) & (true <= table["high"])).mean() > 0.9
    assert ((table["low"] <= table["effect"]) & (table["effect"] <= table["high"])).all()


def test_a_shifted_treatment_has_the_largest_effect_with_more_features_than_wells() -> None:
    x, plates, is_control, labels = screen(6, dim=700)
    rows = np.array(labels, object) == "drug 11"
    x[rows] += 3 * x[is_control].std(axis=0)
    for reference in ("controls", "all"):
        table = treatment_effects(of_wells((x, plates, is_control, labels), reference=reference), draws=100)
        assert table.loc[table["rank"] == 1, "treatment"].item() == "drug 11"


def of_treatments(x: np.ndarray, is_control: np.ndarray) -> tuple[WellEffects, pd.DataFrame]:
    plates = ["P0"] * 15 + ["P1"] * 15
    labels = [None if control else f"drug {row % 3}" for row, control in enumerate(is_control)]
    measured = well_effects(x, plates, is_control, labels)
    return measured, treatment_effects(measured, draws=100)


EIGHT = np.tile(np.arange(15) < 8, 2)


def test_features_that_do_not_vary_count_for_nothing() -> None:
    x = generator("dead").normal(size=(30, 20))
    expected, _ = of_treatments(x[:, :12], EIGHT)
    x[:, 12:] = 3
    found, _ = of_treatments(x, EIGHT)
    assert np.corrcoef(found.effect, expected.effect)[0, 1] > 0.95  # shrinkage knows the number of features


def test_profiles_that_are_all_equal_have_no_effect() -> None:
    measured, table = of_treatments(np.ones((30, 20)), EIGHT)
    assert (measured.effect == 0).all()
    assert (table["effect"] == 0).all()


def test_wells_on_a_plate_without_controls_have_no_effect() -> None:
    is_control = EIGHT & (np.arange(30) < 15)
    measured, table = of_treatments(generator("one plate").normal(size=(30, 20)), is_control)
    assert np.isnan(measured.effect).tolist() == (np.arange(30) >= 15).tolist()
    assert table["wells"].sum() == 7


def test_with_one_control_well_the_unit_is_that_of_all_wells() -> None:
    measured, table = of_treatments(generator("one control").normal(size=(30, 20)), np.isin(np.arange(30), [0, 15]))
    assert measured.unit_wells == 0
    assert np.isnan(measured.effect[[0, 15]]).all()
    assert np.nanmedian(measured.effect) == pytest.approx(1)
    assert table["effect"].notna().all()


def test_one_well_has_an_effect_without_an_interval() -> None:
    here = screen(7, wells=1)
    table = treatment_effects(of_wells(here))
    assert table[["low", "high"]].isna().all(axis=None)
    distances = of_wells(here).effect[~here[2]]
    np.testing.assert_allclose(table["effect"], np.sqrt(np.maximum(distances**2 - 1, 0)))
