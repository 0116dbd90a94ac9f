"""randomness: hashes of names give random numbers that stay the same, uniform and independent."""

from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from cellssl.randomness import Keys, cell_keys, generator, hash64, normal_quantiles, seed32, torch_seeded


def keys(count: int = 20_000) -> Keys:
    return Keys(torch.from_numpy(cell_keys(f"cell {i}" for i in range(count))))


def test_draws_are_the_same_as_in_the_first_version() -> None:
    assert hash64("split", 0, "a") == 1906446498079236073
    assert generator("order", 0, 0).permutation(6).tolist() == [3, 2, 4, 0, 1, 5]
    assert keys(3).uniform("angle").tolist() == [0.7040077447891235, 0.842780351638794, 0.40964484214782715]


def test_names_of_other_borders_or_types_give_other_hashes() -> None:
    names = [("ab",), ("a", "b"), ("b", "a"), (1,), ("1",), ("a", 1), ("a", "1"), ()]
    assert len({hash64(*name) for name in names}) == len(names)


def test_a_name_with_the_separator_in_it_is_not_two_names() -> None:
    assert hash64("a\x1fstr:b") != hash64("a", "b")


def test_mixing_is_the_finaliser_of_splitmix64() -> None:
    def by_hand(x: int) -> int:
        mask = 2**64 - 1
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    some = keys(50)
    mixed = some.fold("a").values.numpy().view(np.uint64).tolist()
    assert mixed == [by_hand((key ^ hash64("a")) & (2**64 - 1)) for key in some.values.tolist()]


def test_uniform_draws_are_uniform_and_lie_within_their_bounds() -> None:
    drawn = keys().uniform("x", -2.0, 3.0).numpy()
    assert drawn.min() >= -2.0
    assert drawn.max() < 3.0
    counts, _ = np.histogram(drawn, bins=20, range=(-2, 3))
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi-squared with 19 degrees of freedom, p < 0.001


def test_many_draws_at_once_are_the_same_as_one_by_one() -> None:
    some = keys(50)
    together = some.uniforms(angle=(-20.0, 20.0), scale=(0.9, 1.1))
    assert torch.equal(together["angle"], some.uniform("angle", -20.0, 20.0))
    assert torch.equal(together["scale"], some.uniform("scale", 0.9, 1.1))
    side_by_side = some.fold_each(("try", 0), ("try", 1)).uniform("area")
    assert torch.equal(side_by_side[:, 1], some.fold("try", 1).uniform("area"))


def test_normal_quantiles_agree_with_scipy() -> None:
    middles = (np.arange(65536) + 0.5) / 65536
    assert np.allclose(normal_quantiles().numpy(), norm.ppf(middles), rtol=1e-6, atol=1e-9)
    assert normal_quantiles().max().item() == pytest.approx(4.3249, abs=1e-4)
    assert normal_quantiles().std().item() == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize(("parts", "bits"), [(2, 32), (4, 16)])
def test_bits_of_pixels_are_uniform_and_independent(parts: Literal[2, 4], bits: int) -> None:
    drawn = keys(8).pixels(5000, parts)
    assert drawn.shape == (8, 5000, parts)
    assert drawn.element_size() * 8 == bits
    unit = (drawn.numpy().astype(np.float64) + 2 ** (bits - 1)) / 2**bits
    assert kstest(unit.ravel(), "uniform").pvalue > 1e-3
    rows = unit.transpose(0, 2, 1).reshape(8 * parts, 5000)
    assert np.abs(np.corrcoef(np.concatenate([rows, np.roll(rows, 1, axis=1)])) - np.eye(16 * parts)).max() < 0.07


def test_draws_of_different_names_are_not_correlated() -> None:
    some = keys()
    drawn = [some.uniform(name).numpy() for name in ("a", "b", "a/0", "a/1")]
    drawn += [some.fold("step", step).uniform("a").numpy() for step in (0, 1)]
    assert np.abs(np.corrcoef(drawn) - np.eye(len(drawn))).max() < 0.03


def test_draws_of_a_cell_do_not_depend_on_other_cells() -> None:
    some = keys(100)
    assert torch.equal(Keys(some.values[40:60]).uniform("a"), some.uniform("a")[40:60])


def test_a_chance_of_0_is_never_true_and_of_1_always() -> None:
    assert not keys().chance("hit", 0.0).any()
    assert keys().chance("hit", 1.0).all()


def test_integers_fill_their_range_and_stay_below() -> None:
    counts = np.bincount(keys().integers("channel", 7).numpy(), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 20_000 / 7).max() < 250


def test_permutations_are_complete_and_uniform() -> None:
    orders = keys().permutation("order", 4).numpy()
    assert (np.sort(orders, axis=1) == np.arange(4)).all()
    assert np.abs(np.bincount(orders[:, 0]) - 5000).max() < 250


def test_seeds_for_libraries_fit_in_31_bits() -> None:
    assert all(0 <= seed32("kmeans", seed) < 2**31 for seed in range(1000))


def test_torch_seeded_depends_on_the_names_and_restores_the_generator() -> None:
    before = torch.get_rng_state()
    drawn = []
    for names in [("weights", 0), ("weights", 0), ("weights", 1)]:
        torch.set_rng_state(before)
        torch.rand(len(drawn) + 1)  # changes its state
        moved = torch.get_rng_state()
        with torch_seeded(*names):
            drawn.append(torch.rand(4))
        assert torch.equal(torch.get_rng_state(), moved)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_torch_seeded_restores_the_generator_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), torch_seeded("weights"):
        torch.rand(1 // 0)
    assert torch.equal(torch.get_rng_state(), before)
