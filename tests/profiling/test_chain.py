"""A chain is fitted link by link, saved, and does the same to a later plate; offsets and gains of plates vanish."""

import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from cellssl.config.settings import FROM_CARD, SettingsModel
from cellssl.errors import DataError, UsageError
from cellssl.profiling.chain import FittedChain, fit_chain, fitted_by, is_per_plate, needs_controls
from cellssl.profiling.chain_arrays import FORMER
from cellssl.profiling.frames import Frames, cross_fitted, halves, whole_plates
from cellssl.profiling.normaliser import ChainSettings, chain, chain_names
from cellssl.randomness import generator

DEFAULT = ("center_plate", "scale_pooled", "l2")
CHAINS: list[tuple[str | dict[str, Any], ...]] = [
    (),
    DEFAULT,
    ("robust_z",),
    ("percentile", {"name": "sphering", "method": "PCA", "variance": 0.9}),
    ("center_plate", "sphering", "l2"),
    ("tvn",),
    ("zscore", {"name": "pca", "variance": 0.9}),
    ("center_plate", {"name": "pca", "whiten": False}, "tvn", "l2"),
]


def screen(name: str = "screen", dim: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two plates of ten wells of eight cells, of which four wells are controls: vectors, plates, wells, controls."""
    plates, wells = np.repeat(["P1", "P2"], 80), np.tile(np.repeat([f"w{well}" for well in range(10)], 8), 2)
    rng = generator(name)
    return 5 + rng.normal(size=(160, dim)) @ rng.normal(size=(dim, dim)), plates, wells, np.isin(wells, wells[:32])


def fitted(
    links: tuple[Any, ...], x: np.ndarray, frames: Frames | None = None, **other: np.ndarray
) -> tuple[FittedChain, np.ndarray]:
    """Fit a chain on all rows of the screen."""
    _, plates, wells, control = screen()
    frames = cross_fitted(plates, wells, control) if frames is None else frames
    return fit_chain(chain(*links), x, np.ones(len(x), bool), plates, control, frames, **other)


def stored(one: FittedChain) -> dict[str, np.ndarray]:
    """The arrays of a chain, once they have been in a file."""
    file = io.BytesIO()
    np.savez(file, centroids=np.zeros(3), **one.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as opened:
        return dict(opened)


@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_a_stored_chain_does_the_same_to_the_same_plates(links: tuple[Any, ...]) -> None:
    x, plates, wells, control = screen()
    one, normal = fitted(links, x)
    again = FittedChain.from_arrays(stored(one))
    assert again.links == one.links and again.dim == 6
    assert np.array_equal(again.apply(x, cross_fitted(plates, wells, control)), normal)


@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_float32_stays_float32(links: tuple[Any, ...]) -> None:
    x = screen()[0].astype(np.float32)
    one, normal = fitted(links, x)
    assert normal.dtype == np.float32
    _, plates, wells, control = screen()
    assert one.apply(x, cross_fitted(plates, wells, control)).dtype == np.float32


def test_a_later_plate_has_its_own_centre_and_the_saved_scale() -> None:
    x, plates, _, control = screen()
    one, _ = fitted(("center_plate", "scale_pooled"), x)
    later, frames = 7 + 2 * screen("tonight")[0], whole_plates(plates, control)
    found = one.apply(later, frames)
    for plate in ("P1", "P2"):
        here = plates == plate
        expected = (later[here] - later[here & control].mean(axis=0)) / one.parts[0].pooled[1]["scale"]
        np.testing.assert_allclose(found[here], expected, atol=1e-12)


def test_offsets_of_plates_vanish_after_center_plate() -> None:
    x, plates, _, _ = screen()
    moved = x + np.where(plates == "P1", 0.0, 1000.0)[:, None]
    for links in (DEFAULT, ("center_plate",), ("center_plate", "sphering"), ("center_plate", "tvn")):
        np.testing.assert_allclose(fitted(links, moved)[1], fitted(links, x)[1], atol=1e-8)


@pytest.mark.parametrize("link", ["robust_z", "percentile"])
def test_offsets_and_gains_of_plates_vanish_after_a_link_with_a_spread_per_plate(link: str) -> None:
    x, plates, _, _ = screen()
    moved = np.where((plates == "P2")[:, None], 7 + 2 * x, x)
    np.testing.assert_allclose(fitted((link,), moved)[1], fitted((link,), x)[1], atol=1e-9)


@pytest.mark.parametrize("links", [DEFAULT, ("zscore",), ("center_plate", "sphering"), ("tvn",)], ids=str)
def test_a_gain_of_all_plates_vanishes_after_a_pooled_scale(links: tuple[Any, ...]) -> None:
    x, plates, _, control = screen()
    frames = whole_plates(plates, control)
    links = tuple({"name": link, "epsilon": 0.0} if link == "sphering" else link for link in links)
    one, two = (fitted(links, each, frames)[1] for each in (x, x * np.array([1, 10, 100, 0.1, 3, 7])))
    distances = [np.linalg.norm(each[:20, None] - each[None, :20], axis=2) for each in (one, two)]
    if "sphering" in str(links) or links == ("tvn",):
        np.testing.assert_allclose(*distances, atol=1e-6)
    else:
        np.testing.assert_allclose(one, two, atol=1e-9)


def test_the_pooled_part_of_a_link_is_fitted_on_what_the_links_before_it_leave() -> None:
    x, plates, _, control = screen()
    moved = x + np.where(plates == "P1", 0.0, 1000.0)[:, None]
    frames = whole_plates(plates, control)
    centred = fitted(("center_plate",), moved, frames)[1]
    one = fitted(("center_plate", "zscore"), moved, frames)[0]
    np.testing.assert_allclose(one.parts[0].pooled[1]["centre"], centred.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(one.parts[0].pooled[1]["scale"], centred.std(axis=0), atol=1e-9)


def test_the_second_per_plate_link_is_fitted_within_the_frame_of_the_first() -> None:
    x, plates, wells, control = screen()
    frames = cross_fitted(plates, wells, control)
    found = fitted(("center_plate", "robust_z"), x, frames)[1]
    np.testing.assert_allclose(found, fitted(("robust_z",), x, frames)[1], atol=1e-9)


def test_rows_outside_the_reference_fit_no_pooled_part() -> None:
    x, plates, _, control = screen()
    frames, reference = whole_plates(plates, control), plates == "P1"
    changed = np.where(reference[:, None], x, x**2)
    for links in (("zscore",), ("pca",), ("scale_pooled",), ("sphering",), ("robust_z",), ("percentile",)):
        one, two = (fit_chain(chain(*links), each, reference, plates, control, frames)[0] for each in (x, changed))
        for name, array in one.parts[0].pooled[0].items():
            assert np.array_equal(array, two.parts[0].pooled[0][name]), f"{links}: {name}"


def test_links_on_controls_may_be_fitted_on_other_rows_than_links_on_cells() -> None:
    x, plates, _, control = screen()
    reference = ~control
    with pytest.raises(
        UsageError, match="scale_pooled, which is fitted on controls, but there are no controls"
    ) as caught:
        fit_chain(chain("scale_pooled"), x, reference, plates, control, None, key="fetch.dataset.controls")
    assert "fetch.dataset.controls" in caught.value.hint
    one, _ = fit_chain(chain("zscore", "scale_pooled"), x, reference, plates, control, None, control)
    np.testing.assert_allclose(one.parts[0].pooled[0]["centre"], x[reference].mean(axis=0))
    normal = (x - x[reference].mean(axis=0)) / x[reference].std(axis=0)
    medians = np.stack([np.median(normal[control & (plates == plate)], axis=0) for plate in plates])
    spread = 1.4826 * np.median(np.abs(normal - medians)[control], axis=0)
    np.testing.assert_allclose(one.parts[0].pooled[1]["scale"], spread)


def test_the_order_of_the_rows_does_not_matter() -> None:
    x, plates, _, control = screen()
    order = generator("order").permutation(len(x))
    for links in CHAINS:
        one = fitted(links, x, whole_plates(plates, control))[1]
        frames = whole_plates(plates[order], control[order])
        ones = np.ones(len(x), bool)
        two = fit_chain(chain(*links), x[order], ones, plates[order], control[order], frames)[1]
        np.testing.assert_allclose(one[order], two, atol=1e-8)


def test_the_same_bits_come_out_whatever_the_number_of_threads(tmp_path: Path) -> None:
    code = f"""
import hashlib
import numpy as np
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.frames import cross_fitted
from cellssl.profiling.normaliser import chain
from cellssl.randomness import generator
x = generator("threads").normal(size=(3000, 200)).astype(np.float32)
plates, control = np.repeat(["P1", "P2"], 1500), np.arange(3000) % 3 == 0
frames = cross_fitted(plates, None, control)
for links in {CHAINS!r}:
    normal = fit_chain(chain(*links), x, np.ones(3000, bool), plates, control, frames)[1]
    print(hashlib.sha256(normal.tobytes()).hexdigest())
"""
    of_threads = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": threads, "HOME": str(tmp_path)},
        ).stdout
        for threads in ("1", "2")
    ]
    assert of_threads[0] == of_threads[1] and len(of_threads[0].split()) == len(CHAINS)


@pytest.mark.parametrize(
    ("links", "share"), [(DEFAULT, 0.1), (DEFAULT, 1.0), (("robust_z", "pca"), 0.1), (("tvn",), 0.1)], ids=str
)
def test_a_chain_needs_one_copy_of_the_vectors_and_some_chunks(links: tuple[Any, ...], share: float) -> None:
    rows = 120_000
    x = generator("memory").random((rows, 128), np.float32)
    plates, control = np.repeat(["P1", "P2"], rows // 2), np.arange(rows) % 10 < 10 * share
    frames, ones = cross_fitted(plates, None, control), np.ones(rows, bool)
    fitted(links, screen()[0])  # modules that are loaded when they are first needed do not count
    tracemalloc.start()
    fit_chain(chain(*links), x, ones, plates, control, frames)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes + 40e6 < 2 * x.nbytes, f"{peak / x.nbytes:.2f} copies"


@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_two_controls_per_plate_and_many_features_give_finite_numbers(links: tuple[Any, ...]) -> None:
    rng = generator("two controls")
    plates, wells = np.repeat(["P1", "P2", "P3"], 12), np.tile([f"w{well}" for well in range(12)], 3)
    control = np.isin(wells, ["w0", "w1"])
    x = rng.normal(size=(36, 200)).astype(np.float32)
    ((one, _), (two, _)) = halves(plates, wells, control)
    for frames in (whole_plates(plates, control), cross_fitted(plates, wells, control), one, two):
        normal = fit_chain(chain(*links), x, np.ones(36, bool), plates, control, frames)[1]
        assert np.isfinite(normal).all() and np.ptp(normal, axis=0).any()


@pytest.mark.parametrize("links", CHAINS[1:], ids=str)
def test_features_that_vary_by_rounding_errors_only_are_not_blown_up(links: tuple[Any, ...]) -> None:
    x = screen()[0].astype(np.float32)
    wobbling = np.where(generator("wobble").random(160) < 0.5, np.float32(0.1), np.nextafter(np.float32(0.1), 1))
    with_them = np.column_stack([x, wobbling, np.full(160, np.float32(1e6))])
    one, two = (fitted(links, each)[1] for each in (x, with_them))
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1)
    np.testing.assert_allclose(*lengths, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("links", [("center_plate", "scale_pooled"), ("robust_z",), ("zscore",)], ids=str)
def test_small_differences_on_a_large_offset_are_kept(links: tuple[Any, ...]) -> None:
    small = generator("small").normal(0, 4e-4, (160, 3))
    one, two = fitted(links, small)[1], fitted(links, (100 + small).astype(np.float32))[1]
    np.testing.assert_allclose(one, two, atol=0.1)  # a float32 near 100 has steps of 0.02 of these standard deviations


@pytest.mark.parametrize("link", ["scale_pooled", "robust_z", "percentile"])
def test_a_feature_that_only_treated_cells_vary_in_keeps_its_information(link: str) -> None:
    x, plates, _, control = screen()
    x[control, 1] = 5.0
    found = fitted(("center_plate", link), x, whole_plates(plates, control))[1]
    assert np.isfinite(found).all()
    usual = found[~control][:, [0, 2, 3, 4, 5]].std(axis=0)
    assert usual.min() / 4 < found[~control, 1].std() < 4 * usual.max(), "it weighs about as much as the others"


@pytest.mark.parametrize("link", ["robust_z", "percentile"])
def test_a_feature_without_variation_on_one_plate_is_scaled_as_on_the_other(link: str) -> None:
    x, plates, _, control = screen()
    second, frames = plates == "P2", whole_plates(plates, control)
    expected = fit_chain(chain(link), x, plates == "P1", plates, control, frames)[1]
    scale = np.diff(x[:2, 1]) / np.diff(expected[:2, 1])
    x[second & control, 1] = 5.0
    found = fitted((link,), x, frames)[1]
    np.testing.assert_allclose(found[second, 1], (x[second, 1] - 5) / scale)


@pytest.mark.parametrize("link", ["zscore", "scale_pooled", "robust_z", "percentile"])
def test_a_feature_that_varies_nowhere_becomes_zero_also_on_a_later_plate(link: str) -> None:
    x, plates, _, control = screen()
    x[:, 1] = 0.1
    frames = whole_plates(plates, control)
    one, normal = fitted(("center_plate", link), x, frames)
    assert np.isfinite(normal).all() and not normal[:, 1].any()
    later = screen("tonight")[0]
    found = one.apply(later, frames)
    assert np.isfinite(found).all() and (link in ("robust_z", "percentile") or not found[:, 1].any())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    x, plates, wells, control = screen()
    one, _ = fitted(DEFAULT, x)
    x[7, 3] = bad
    with pytest.raises(DataError, match="first: row 7"):
        fitted(DEFAULT, x)
    with pytest.raises(DataError, match="first: row 7"):
        one.apply(x, cross_fitted(plates, wells, control))


def test_numbers_too_large_for_their_type_are_refused() -> None:
    x, plates, _, control = screen()
    x = (x * 1e-20).astype(np.float32)
    x[~control, 1] = 1e30
    with pytest.raises(DataError, match="after the link scale_pooled") as caught:
        fitted(("scale_pooled",), x, whole_plates(plates, control))
    assert "leave the link out" in caught.value.hint


@pytest.mark.parametrize("links", [DEFAULT, ("zscore",), ("robust_z",), ("percentile",)], ids=str)
def test_collapsed_vectors_become_zeros(links: tuple[Any, ...]) -> None:
    _, normal = fitted(links, np.full((160, 4), np.float32(0.1)))
    assert not normal.any()


@pytest.mark.parametrize("link", ["pca", "sphering", "tvn"])
def test_collapsed_vectors_that_were_centred_are_an_error_that_names_the_encoder(link: str) -> None:
    with pytest.raises(DataError, match="same") as caught:
        fitted(("center_plate", link), np.full((160, 4), np.float32(0.1)))
    assert "collapsed" in caught.value.hint


def test_vectors_of_another_model_are_refused() -> None:
    x, *_ = screen()
    with pytest.raises(DataError, match="6 features, but the embeddings have 5"):
        fitted((), x)[0].apply(x[:, :5])


def test_the_card_says_which_rows_fitted_every_link() -> None:
    _, plates, wells, control = screen()
    frames, ones = cross_fitted(plates, wells, control), np.ones(160, bool)
    found = fitted_by(chain("center_plate", "pca", "tvn", "l2"), ones, plates, control, frames)
    own = {"on": "controls of each plate", "rows": 64, "plates": 2, "folds": 4, "split_by": "well"}
    together = {"plates": 2, "folds": 1, "split_by": None}
    assert json.loads(json.dumps(found)) == [
        {"link": "center_plate", **own},
        {"link": "pca", "on": "cells", "rows": 160, **together},
        {"link": "tvn", "on": "controls", "rows": 64, **together},
        {"link": "tvn", **own},
    ]


def test_a_chain_knows_what_it_needs() -> None:
    assert is_per_plate(chain(*DEFAULT)) and needs_controls(chain(*DEFAULT))
    assert not is_per_plate(chain("scale_pooled")) and needs_controls(chain("scale_pooled"))
    assert not needs_controls(chain("zscore", "l2"))


class Section(SettingsModel):
    normalise: ChainSettings = ()


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("none", []),
        ([], []),
        (["none"], []),
        ("l2", ["l2"]),
        ({"name": "pca", "variance": 0.5}, ["pca"]),
        (["center_plate", {"name": "pca", "whiten": False}, "l2"], ["center_plate", "pca", "l2"]),
    ],
)
def test_a_recipe_names_a_chain_a_link_or_none(written: Any, names: list[str]) -> None:
    found = Section.model_validate({"normalise": written})
    assert chain_names(found.normalise) == names
    again = Section.model_validate(json.loads(json.dumps(found.all_values())), context={FROM_CARD: True})
    assert again == found


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("pca_whiten", "'pca_whiten' was renamed to 'pca'"),
        (["l2", {"name": "pca_whiten"}], "'pca_whiten' was renamed to 'pca'"),
        (["l2", "none"], '"none" cannot be a link among others'),
        ("zscor", "there is no 'zscor' in normalisers"),
        (3, "must be a list of links"),
        ([3], "must be a name, or a table with a name"),
    ],
)
def test_what_is_no_chain_is_refused(written: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Section.model_validate({"normalise": written})


def test_a_card_of_before_may_name_pca_whiten() -> None:
    found = Section.model_validate({"normalise": "pca_whiten"}, context={FROM_CARD: True})
    assert found.normalise == chain("pca")


@pytest.mark.parametrize("name", FORMER)
def test_a_normaliser_stored_before_there_were_chains_is_read(name: str) -> None:
    x, empty = screen()[0], np.zeros(0)
    centre, axes, scale = x.mean(axis=0), np.eye(6)[:2], np.array([2.0, 3.0])
    arrays = {
        "none": {"centre": empty, "scale": empty, "axes": empty},
        "l2": {"centre": empty, "scale": empty, "axes": empty},
        "zscore": {"centre": centre, "scale": x.std(axis=0), "axes": empty},
        "pca_whiten": {"centre": centre, "scale": scale, "axes": axes},
    }
    expected = {
        "none": x,
        "l2": x / np.linalg.norm(x, axis=1, keepdims=True),
        "zscore": (x - centre) / x.std(axis=0),
        "pca_whiten": (x - centre)[:, :2] / scale,
    }
    former = {f"normaliser_{part}": array for part, array in arrays[name].items()}
    former |= {"normaliser_name": np.array(name), "normaliser_dim": np.array(6)}
    np.testing.assert_allclose(FittedChain.from_arrays(former).apply(x), expected[name])


FORGED: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda array: np.zeros(3, object),
    lambda array: np.zeros(()),
    lambda array: np.zeros((0, 16)),
    lambda array: np.full(array.shape, np.nan),
    lambda array: np.full(array.shape, -np.inf),
    lambda array: np.zeros(array.shape, "f8")[..., None],
    lambda array: np.array("../../outside"),
    lambda array: np.array("[" * 50_000),
    lambda array: np.array('["l2"]'.ljust(200_000)),
    lambda array: np.array(json.dumps(["pca", {"name": "nothing"}])),
    lambda array: np.array(json.dumps({"name": "pca", "variance": -1})),
    lambda array: np.array(-1),
    lambda array: np.array(2**62),
    lambda array: array.astype("c16") if array.dtype.kind in "fi" else array.astype("S9999"),
    lambda array: np.zeros((30_000, 6)),
]


@pytest.mark.parametrize("links", [links for links in CHAINS if links], ids=str)
def test_forged_arrays_are_refused(links: tuple[Any, ...]) -> None:
    arrays = stored(fitted(links, screen()[0])[0])
    for name in set(arrays) - {"centroids"}:
        with pytest.raises((KeyError, ValueError)):
            FittedChain.from_arrays({other: array for other, array in arrays.items() if other != name})
        for forge in FORGED:
            forged = {**arrays, name: forge(arrays[name])}
            if forged[name].shape == arrays[name].shape == () and forged[name].dtype == arrays[name].dtype:
                continue  # still a text or a number: what it says is tested below
            with pytest.raises((KeyError, ValueError)):
                FittedChain.from_arrays(forged)
    for wrong in (5, 7, 0):
        with pytest.raises((KeyError, ValueError)):
            FittedChain.from_arrays({**arrays, "chain_dim": np.array(wrong)})


@pytest.mark.parametrize("links", [("scale_pooled",), ("zscore",), ("pca",), ("tvn",)], ids=str)
def test_a_forged_scale_that_is_not_positive_is_refused(links: tuple[Any, ...]) -> None:
    arrays = stored(fitted(links, screen()[0])[0])
    for wrong in (0.0, -1.0):
        with pytest.raises(ValueError, match="scale"):
            FittedChain.from_arrays({**arrays, "chain_0_scale": np.full_like(arrays["chain_0_scale"], wrong)})


def test_a_chain_is_a_type_that_pydantic_can_check() -> None:
    assert TypeAdapter(ChainSettings).validate_python("none") == ()
