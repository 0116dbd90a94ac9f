"""Frames hold every row once, and no control is transformed by what it fitted, however plates are laid out."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellssl.errors import UsageError
from cellssl.profiling.frames import Frames, cross_fitted, halves, whole_plates
from cellssl.randomness import generator


@dataclass(frozen=True)
class Layout:
    """Rows of some plates; a well without a name is None."""

    plates: np.ndarray
    wells: np.ndarray
    is_control: np.ndarray
    held_out: np.ndarray


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """From one control well to a hundred, of one cell to many, some without a name, in any order of rows."""
    rows: list[tuple[str, str | None, bool]] = []
    for plate in range(draw(st.integers(1, 3))):
        many = draw(st.sampled_from([(1, 3), (3, 8), (100, 100)]))
        sizes = draw(st.lists(st.sampled_from([1, 1, 2, 5, 40]), min_size=many[0], max_size=many[1]))
        sizes = sizes if sum(sizes) >= 2 else [*sizes, 1]
        treated = draw(st.lists(st.sampled_from([1, 3, 23]), max_size=4))
        unnamed = draw(st.booleans())
        for well, (size, control) in enumerate([(s, True) for s in sizes] + [(s, False) for s in treated]):
            name = None if unnamed and well % 3 == 0 else f"w{well:03}"
            rows += [(f"P{plate}", name, control)] * size
    seed = draw(st.integers(0, 1000))
    order = generator("layout", seed).permutation(len(rows))
    plates, wells, control = (np.array(column, object)[order] for column in zip(*rows, strict=True))
    held_out = generator("held out", seed).random(len(rows)) < draw(st.sampled_from([0.0, 0.1, 1.0]))
    return Layout(plates, wells, control.astype(bool), held_out)


def check_no_control_fits_its_own_frame(layout: Layout, frames: Frames) -> None:
    covered = np.concatenate([frame.rows for frame in frames.frames])
    assert np.array_equal(np.sort(covered), np.arange(len(layout.plates))), "every row is in one frame"
    for frame in frames.frames:
        assert len(frame.fitting) >= 1
        assert set(layout.plates[frame.rows]) | set(layout.plates[frame.fitting]) == {frame.plate}
        assert layout.is_control[frame.fitting].all()
        assert not set(frame.rows.tolist()) & set(frame.fitting.tolist())


@given(layouts(), st.integers(2, 6))
@settings(deadline=None)
def test_no_control_is_transformed_by_what_it_fitted(layout: Layout, folds: int) -> None:
    frames = cross_fitted(layout.plates, layout.wells, layout.is_control, folds)
    check_no_control_fits_its_own_frame(layout, frames)
    used = np.unique(np.concatenate([frame.fitting for frame in frames.frames]))
    assert np.array_equal(used, np.flatnonzero(layout.is_control)), "every control fits a frame"
    assert frames.folds <= folds


@given(layouts())
@settings(deadline=None)
def test_no_well_is_on_both_sides_unless_the_plate_was_split_by_cell(layout: Layout) -> None:
    frames = cross_fitted(layout.plates, layout.wells, layout.is_control)
    for frame in frames.frames:
        inside = frame.rows[layout.is_control[frame.rows]]
        shared = set(layout.wells[inside]) & set(layout.wells[frame.fitting])
        assert not shared or frame.plate in frames.by_cell
    for plate in set(layout.plates):
        wells = layout.wells[layout.is_control & (layout.plates == plate)].tolist()
        if None in wells or len(set(wells)) == 1:
            assert plate in frames.by_cell
        if None not in wells and min(wells.count(well) for well in set(wells)) >= 2 and len(set(wells)) >= 2:
            assert plate not in frames.by_cell


@given(layouts())
@settings(deadline=None)
def test_held_out_rows_fit_nothing_unless_that_leaves_too_few_controls_of_a_plate(layout: Layout) -> None:
    frames = cross_fitted(layout.plates, layout.wells, layout.is_control, held_out=layout.held_out)
    check_no_control_fits_its_own_frame(layout, frames)
    for frame in frames.frames:
        controls = layout.is_control & (layout.plates == frame.plate)
        left = int((controls & ~layout.held_out).sum())
        if left >= 2 and (left >= 10 or left >= controls.sum() / 4):
            assert not layout.held_out[frame.fitting].any()
        else:  # the location of a plate is not that of one cell
            assert len(frame.fitting) >= 1 and np.isin(np.flatnonzero(controls), frame.fitting).sum() >= min(left, 1)


@given(layouts())
@settings(deadline=None)
def test_rows_of_every_treated_well_are_spread_over_the_folds_as_the_controls_are(layout: Layout) -> None:
    frames = cross_fitted(layout.plates, layout.wells, layout.is_control)
    for plate in np.unique(layout.plates):
        of_plate = [frame for frame in frames.frames if frame.plate == plate]
        shares = np.array([layout.is_control[frame.rows].sum() for frame in of_plate], float)
        shares /= shares.sum()
        for well in {*layout.wells[layout.plates == plate].tolist()}:
            here = (layout.plates == plate) & (layout.wells == well) & ~layout.is_control
            counts = np.array([here[frame.rows].sum() for frame in of_plate])
            assert np.abs(counts - here.sum() * shares).max() < 3


def test_folds_of_equal_wells_are_equal_and_so_are_the_treated_rows_in_them() -> None:
    wells = np.repeat([f"w{well}" for well in range(20)], 10)
    control = np.arange(200) < 100
    frames = cross_fitted(np.repeat("P", 200), wells, control)
    assert [len(frame.rows) for frame in frames.frames] == [40] * 5
    for well in range(10, 20):
        assert [(wells[frame.rows] == f"w{well}").sum() for frame in frames.frames] == [2] * 5


def test_test_rows_of_both_kinds_are_spread_alike() -> None:
    wells = np.repeat([f"w{well}" for well in range(24)], 10)
    control = np.arange(240) < 120
    test = np.isin(wells, ["w0", "w1", "w12", "w13"])
    frames = cross_fitted(np.repeat("P", 240), wells, control, held_out=test)
    for kind in (test & control, test & ~control):
        assert [kind[frame.rows].sum() for frame in frames.frames] == [4] * 5


@given(layouts())
@settings(deadline=None)
def test_halves_score_every_control_once_in_a_frame_that_it_did_not_fit(layout: Layout) -> None:
    (one, in_one), (two, in_two) = halves(layout.plates, layout.wells, layout.is_control)
    assert np.array_equal(in_one ^ in_two, layout.is_control) and (in_one | in_two).all()
    for frames, scored in ((one, in_one), (two, in_two)):
        assert len(frames.frames) == len(set(layout.plates)), "all rows of a plate are in one frame"
        for frame in frames.frames:
            assert len(frame.fitting) and not scored[frame.fitting].any()
            if frame.plate not in frames.by_cell:
                known = layout.wells[scored & layout.is_control & (layout.plates == frame.plate)]
                assert not set(known) & set(layout.wells[frame.fitting])


@given(layouts())
@settings(deadline=None)
def test_whole_plates_are_one_frame_that_all_controls_fit(layout: Layout) -> None:
    frames = whole_plates(layout.plates, layout.is_control)
    for frame in frames.frames:
        here = layout.plates == frame.plate
        assert np.array_equal(frame.rows, np.flatnonzero(here))
        assert np.array_equal(frame.fitting, np.flatnonzero(here & layout.is_control))


def test_the_same_wells_share_a_fold_whatever_the_order_of_the_rows() -> None:
    plates = np.repeat(["P1", "P2"], 60)
    wells = np.tile(np.repeat([f"w{well}" for well in range(12)], 5), 2)
    order = generator("order").permutation(120)

    def folds(rows: np.ndarray) -> set[tuple[str, frozenset[str]]]:
        frames = cross_fitted(plates[rows], wells[rows], np.ones(120, bool))
        return {(frame.plate, frozenset(wells[rows][frame.rows])) for frame in frames.frames}

    assert folds(np.arange(120)) == folds(order)


@pytest.mark.parametrize("count", [0, 1])
def test_a_plate_with_too_few_controls_is_named_with_the_cure(count: int) -> None:
    plates = np.repeat(["P1", "P2"], 10)
    control = (plates == "P1") | (np.arange(20) >= 20 - count)
    for make in (
        lambda: whole_plates(plates, control, "fetch.dataset.controls"),
        lambda: cross_fitted(plates, None, control, key="fetch.dataset.controls"),
        lambda: halves(plates, None, control, "fetch.dataset.controls"),
    ):
        with pytest.raises(UsageError, match=rf"plate P2 has {count} control.*every plate") as caught:
            make()
        assert "fetch.dataset.controls" in caught.value.hint and '["zscore", "l2"]' in caught.value.hint
