"""The contract of all normalisers: every file of the folder `normalisers` must pass these tests."""

from typing import Any

import numpy as np
import pytest

from cellssl.config import plugins
from cellssl.profiling.normaliser import FOLDER, Arrays, ReferenceRows
from cellssl.randomness import generator

NAMES = plugins.names(FOLDER)


def rows(dtype: type = np.float64) -> ReferenceRows:
    """Three plates of 40 rows and 6 features; a third of the rows are controls."""
    rng = generator("rows of a normaliser")
    x = 3 + rng.normal(size=(120, 6)) @ rng.normal(size=(6, 6))
    return ReferenceRows(x.astype(dtype), np.repeat([0, 1, 2], 40), np.arange(120) % 3 == 0)


def fitted(link: Any, of: ReferenceRows) -> tuple[Arrays, Arrays]:
    """The pooled part, and with it that of the first plate."""
    pooled = link.fit(of) if link.fitted_on != "nothing" else {}
    controls = of.x[of.is_control & (of.plate == 0)]
    return pooled, {**pooled, **(link.fit_plate(controls, pooled) if link.of_plate else {})}


def settings_of(name: str) -> Any:
    return plugins.load(FOLDER, name).Settings()


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_transformed_by_itself_and_left_as_it_was(name: str) -> None:
    link, of = settings_of(name), rows()
    before, (_, arrays) = of.x.copy(), fitted(settings_of(name), of)
    together = link.apply(of.x, arrays)
    one_by_one = np.concatenate([link.apply(of.x[row : row + 1], arrays) for row in range(120)])
    np.testing.assert_allclose(together, one_by_one, atol=1e-12)
    assert np.array_equal(of.x, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_keep_their_dtype_and_arrays_are_float64(name: str, dtype: type) -> None:
    link, of = settings_of(name), rows(dtype)
    pooled, arrays = fitted(link, of)
    assert link.apply(of.x, arrays).dtype == dtype
    assert all(array.dtype == np.float64 for array in pooled.values())


@pytest.mark.parametrize("name", NAMES)
def test_stored_arrays_are_checked_and_say_how_many_features_come_out(name: str) -> None:
    link, of = settings_of(name), rows()
    pooled, arrays = fitted(link, of)
    assert link.check_arrays(pooled, 6) == link.apply(of.x, arrays).shape[1]
    assert pooled or link.fitted_on == "nothing"
    for array in pooled:
        with pytest.raises(KeyError):
            link.check_arrays({other: pooled[other] for other in pooled if other != array}, 6)
        for forged in (np.full_like(pooled[array], np.nan), pooled[array][..., None], np.array("text"), np.zeros(0)):
            with pytest.raises(ValueError):
                link.check_arrays({**pooled, array: forged}, 6)


@pytest.mark.parametrize("name", NAMES)
def test_one_control_per_plate_and_features_that_never_vary_give_finite_numbers(name: str) -> None:
    link, of = settings_of(name), rows(np.float32)
    x = of.x.copy()
    x[:, 2], x[:, 4] = 0.1, 0.0
    few = ReferenceRows(x, of.plate, np.isin(np.arange(120), [0, 40, 80]))
    _, arrays = fitted(link, few)
    found = link.apply(x, arrays)
    assert np.isfinite(found).all() and found.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_rows_does_not_matter_to_what_is_fitted(name: str) -> None:
    link, of = settings_of(name), rows()
    order = generator("order").permutation(120)
    shuffled = ReferenceRows(of.x[order], of.plate[order], of.is_control[order])
    one, two = (link.apply(of.x, fitted(link, each)[1]) for each in (of, shuffled))
    np.testing.assert_allclose(one, two, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_settings_have_docstrings_and_survive_json(name: str) -> None:
    model = plugins.load(FOLDER, name).Settings
    assert model.__doc__ and all(model.descriptions().values())
    assert model.model_validate(settings_of(name).all_values()) == settings_of(name)
