"""A chain is fitted on every block of a joined vector by itself, and every block gets its share of the length."""

from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from cellssl.errors import DataError, UsageError
from cellssl.profiling.block_columns import columns_of
from cellssl.profiling.blocks import Block, Blocks
from cellssl.profiling.chain import ENERGY, FittedChain, fit_chain, fitted_by
from cellssl.profiling.frames import cross_fitted
from cellssl.profiling.normaliser import chain
from tests.profiling.test_chain import CHAINS, screen, stored

BLOCKS = (Block("large", 6), Block("small", 3, 2.0), Block("one", 1))


def joined(name: str = "blocks") -> np.ndarray:
    """The cells of `screen` with three blocks, whose numbers have very different sizes."""
    parts = [screen(f"{name} {block.name}", block.dim)[0] for block in BLOCKS]
    return np.hstack([parts[0] * 1000, parts[1], parts[2] * 0.01])


def fitted(
    links: tuple[Any, ...], x: np.ndarray, blocks: Blocks, reference: np.ndarray | None = None
) -> tuple[FittedChain, np.ndarray]:
    _, plates, wells, control = screen()
    reference = np.ones(len(x), bool) if reference is None else reference
    frames = cross_fitted(plates, wells, control, held_out=~reference)
    return fit_chain(chain(*links), x, reference, plates, control, frames, blocks=blocks)


def energies(x: np.ndarray, blocks: Blocks) -> list[float]:
    """Mean squared length of every block."""
    return [float(np.square(x[:, own]).sum(axis=1).mean()) for own in columns_of(blocks)]


@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_every_block_has_its_share_of_the_mean_squared_length(links: tuple[Any, ...]) -> None:
    one, normal = fitted(links, joined(), BLOCKS)
    np.testing.assert_allclose(energies(normal, one.blocks_out), [1 / 4, 2 / 4, 1 / 4])


def test_zscore_per_block_agrees_with_scikit_learn() -> None:
    x = joined()
    expected = (
        StandardScaler().fit_transform(x) / np.sqrt([6] * 6 + [3] * 3 + [1]) * np.sqrt([0.25] * 6 + [0.5] * 3 + [0.25])
    )
    np.testing.assert_allclose(fitted(("zscore",), x, BLOCKS)[1], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_one_block_is_a_vector_without_blocks_but_for_a_factor(links: tuple[Any, ...]) -> None:
    x = screen()[0]
    one, of_block = fitted(links, x, (Block("all", 6, 3.0),))
    _, plain = fitted(links, x, ())
    np.testing.assert_allclose(of_block, plain * one.factors[0])
    assert np.square(of_block).sum(axis=1).mean() == pytest.approx(1)


def test_the_order_of_blocks_does_not_change_the_nearest_neighbours() -> None:
    x, own = joined(), columns_of(BLOCKS)
    turned = fitted(("zscore", "l2", "center_plate"), np.hstack([x[:, each] for each in own[::-1]]), BLOCKS[::-1])[1]
    normal = fitted(("zscore", "l2", "center_plate"), x, BLOCKS)[1]
    rows = [NearestNeighbors(n_neighbors=5).fit(each).kneighbors(return_distance=False) for each in (normal, turned)]
    assert np.array_equal(*rows)


@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_a_stored_chain_of_blocks_does_the_same(links: tuple[Any, ...]) -> None:
    x, (_, plates, wells, control) = joined(), screen()
    one, normal = fitted(links, x, BLOCKS)
    again = FittedChain.from_arrays(stored(one))
    assert again.blocks == BLOCKS and again.links == one.links and again.dim == 10
    assert np.array_equal(again.apply(x, cross_fitted(plates, wells, control)), normal)


def test_later_plates_keep_the_factors_of_the_blocks() -> None:
    x = joined()
    one, normal = fitted(("zscore",), x, BLOCKS)
    np.testing.assert_allclose(one.apply(np.vstack([x[:5], x[:5] * 3]))[:5], normal[:5])


def test_rows_outside_the_reference_change_neither_links_nor_factors() -> None:
    x, reference = joined(), np.arange(160) % 3 > 0
    changed = np.where(reference[:, None], x, x * 7 + 1)
    for links in (("zscore", "l2"), ("robust_z",), ()):
        one, two = (fitted(links, each, BLOCKS, reference) for each in (x, changed))
        assert one[0].factors == two[0].factors
        assert np.array_equal(one[1][reference], two[1][reference])


def test_a_block_without_variation_counts_for_nothing_and_is_named() -> None:
    x = joined().astype(np.float32)
    x[:, 6:9] = 4.0
    one, normal = fitted(("zscore",), x, BLOCKS)
    assert one.empty_blocks == ("small",) and one.factors[1] == 0
    assert not normal[:, 6:9].any() and np.isfinite(normal).all() and normal.dtype == np.float32


def test_the_rows_that_fitted_the_shares_are_listed() -> None:
    _, plates, _, control = screen()
    reference = np.arange(160) < 100
    found = fitted_by(chain("l2"), reference, plates, control, None, blocks=BLOCKS)
    assert found == [{"link": ENERGY, "on": "cells", "rows": 100, "plates": 2, "folds": 1, "split_by": None}]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((Block("a", 6), Block("b", 3)), r"9 columns \(a 6, b 3\), but the vectors have 10"),
        ((Block("a", 6), Block("a", 4)), "'a' is empty or not unique"),
        ((Block("a", 10, 0.0),), "weight of a is 0.0"),
        ((Block("a", 10), Block("b", 0)), "b has 0 columns"),
    ],
)
def test_blocks_of_other_vectors_are_refused(blocks: Blocks, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fitted((), joined(), blocks)


def test_no_reference_row_is_refused() -> None:
    with pytest.raises(DataError, match="no cells to fit"):
        fitted((), joined(), BLOCKS, np.zeros(160, bool))


def test_forged_blocks_are_refused() -> None:
    arrays = stored(fitted(("zscore",), joined(), BLOCKS)[0])
    wrong: dict[str, list[Any]] = {
        "chain_blocks": ["[]", "{", '[{"name": "a", "dim": 10, "weight": -1}]', '[{"name": "a", "dim": 10}]', 3],
        "chain_factors": [[1.0, 1.0], [1.0, 1.0, -1.0], [1.0, 1.0, np.nan], [1, 1, 1]],
        "chain_block_1_0_scale": [np.ones(4)],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises((KeyError, ValueError)):
                FittedChain.from_arrays({**arrays, name: np.array(value)})
        with pytest.raises((KeyError, ValueError)):
            FittedChain.from_arrays({other: array for other, array in arrays.items() if other != name})
    assert FittedChain.from_arrays(arrays).blocks == BLOCKS


def test_links_that_change_the_number_of_columns_keep_the_names_of_blocks() -> None:
    x = joined()[:, [0, 0, 1, 1, 6, 6, 6]]
    blocks = (Block("two", 4), Block("one", 3))
    one, normal = fitted(("pca",), x, blocks)
    assert one.blocks_out == (Block("two", 2), Block("one", 1)) and normal.shape[1] == 3


def test_a_block_that_a_link_cannot_be_fitted_on_is_named() -> None:
    x = joined()
    x[:, 6:9] = 4.0
    with pytest.raises(DataError, match="block small"):
        fitted(("pca",), x, BLOCKS)
