"""frames: plates, wells and controls -> frames: rows that are transformed alike, and the controls that fit them.

A control that fits a transformation lies nearer to its centre than a new cell of the same kind. So a number that scores
controls needs frames in which no control is transformed by what it fitted itself.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from cellssl.errors import UsageError
from cellssl.profiling.labels import Labels, codes
from cellssl.randomness import generator

FEW, SMALL_SHARE = 10, 0.25
"""Fewer controls, and a smaller share of those of the plate, are too few to fit it where there are others."""


@dataclass(frozen=True)
class Frame:
    """Rows of one plate that are transformed alike."""

    plate: str
    rows: Int[np.ndarray, "n"]
    fitting: Int[np.ndarray, "m"]
    """Rows of the controls of the plate that fit the transformation."""


@dataclass(frozen=True)
class Frames:
    """Frames in which every row of the table occurs once."""

    frames: tuple[Frame, ...]
    folds: int
    """The largest number of frames of a plate."""
    by_cell: tuple[str, ...] = ()
    """Plates whose controls were split by cell, because they have one control well, or their wells are not known."""


@dataclass(frozen=True)
class _Plate:
    """The rows of one plate, and the well of each."""

    name: str
    rows: Int[np.ndarray, "n"]
    well: Int[np.ndarray, "n"]
    """Number of the well, -1 where it is not known."""
    is_control: Bool[np.ndarray, "n"]


def whole_plates(plates: Labels, is_control: Bool[np.ndarray, "n"], key: str = "fetch.controls") -> Frames:
    """Return one frame per plate: all its controls fit, and all its rows are transformed.

    For numbers that score no control. Raises UsageError where a plate has fewer than two controls; `key` is the setting
    that names the controls.
    """
    frames = []
    for plate in _plates(plates, None, is_control):
        _check_controls(plate.name, plate.is_control, key)
        frames.append(Frame(plate.name, plate.rows, plate.rows[plate.is_control]))
    return Frames(tuple(frames), folds=1)


def cross_fitted(
    plates: Labels,
    wells: Labels | None,
    is_control: Bool[np.ndarray, "n"],
    folds: int = 5,
    held_out: Bool[np.ndarray, "n"] | None = None,
    key: str = "fetch.controls",
) -> Frames:
    """Return frames in which no control is transformed by what it fitted: controls are split by well into folds, and
    each fold is transformed by what the others fit.

    Where a plate has one control well, or its wells are not known, its controls are split by cell. All other rows are
    spread over the folds of their plate, in every well alike and in proportion to the controls of each fold, so that
    both kinds of rows are treated alike. Rows `held_out` fit nothing, unless that leaves too few controls of their
    plate, and do not change the frames of the others; a control among them joins the fold of its well.
    Raises UsageError where a plate has fewer than two controls that may fit.
    """
    held_out = np.zeros(len(is_control), bool) if held_out is None else held_out
    frames: list[Frame] = []
    most, by_cell = 1, []
    for plate in _plates(plates, wells, is_control):
        may_fit = plate.is_control & ~held_out[plate.rows]
        if is_too_few(int(may_fit.sum()), int(plate.is_control.sum())):
            may_fit = plate.is_control
        _check_controls(plate.name, may_fit, key)
        fold_of, is_by_cell = _control_folds(plate, may_fit, folds)
        of_plate = _frames(plate, may_fit, _with_others(plate, may_fit, fold_of, held_out[plate.rows], is_by_cell))
        most = max(most, len(of_plate))
        by_cell += [plate.name] * is_by_cell
        frames += of_plate
    return Frames(tuple(frames), most, tuple(by_cell))


def is_too_few(left: int, controls: int) -> bool:
    """Return whether so few controls of a plate are left that all of them fit in folds, also those that are held out.

    The location of a plate would else be that of a cell or two.
    """
    return left < 2 or (left < FEW and left < SMALL_SHARE * controls)


def halves(
    plates: Labels, wells: Labels | None, is_control: Bool[np.ndarray, "n"], key: str = "fetch.controls"
) -> tuple[tuple[Frames, Bool[np.ndarray, "n"]], tuple[Frames, Bool[np.ndarray, "n"]]]:
    """Return two times the frames, and the rows that may be scored in them.

    In each, half of the controls of every plate fit its one frame; the other half and all other rows may be scored, as
    all of them are new to the transformation. For retrieval, which compares rows with each other.
    """
    of_half: tuple[list[Frame], list[Frame]] = ([], [])
    scored = np.ones((2, len(is_control)), bool)
    by_cell = []
    for plate in _plates(plates, wells, is_control):
        _check_controls(plate.name, plate.is_control, key)
        fold_of, is_by_cell = _control_folds(plate, plate.is_control, 2)
        by_cell += [plate.name] * is_by_cell
        for half in (0, 1):
            fitting = plate.rows[fold_of == half]
            scored[half, fitting] = False
            of_half[half].append(Frame(plate.name, plate.rows, fitting))
    one, two = (Frames(tuple(frames), 2, tuple(by_cell)) for frames in of_half)
    return (one, scored[0]), (two, scored[1])


def _plates(plates: Labels, wells: Labels | None, is_control: Bool[np.ndarray, "n"]) -> list[_Plate]:
    names, of_plate = codes(plates)
    assert (of_plate >= 0).all(), "every row has a plate"
    assert len(of_plate) == len(is_control), f"{len(of_plate)} plates, but {len(is_control)} rows"
    well = np.full(len(of_plate), -1) if wells is None else codes(wells)[1]
    order = np.argsort(of_plate, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(of_plate[order])) + 1) if len(order) else []
    return [_Plate(name, rows, well[rows], is_control[rows]) for name, rows in zip(names, parts, strict=True)]


def _check_controls(plate: str, may_fit: Bool[np.ndarray, "n"], key: str) -> None:
    if (count := int(may_fit.sum())) < 2:
        raise UsageError(
            f"plate {plate} has {count} control{'s' * (count != 1)} to fit on, but a link of the chain in normalise is "
            "fitted on the controls of every plate",
            hint=f'name its controls in {key}, or set a chain without such a link, as normalise = ["zscore", "l2"]',
        )


def _control_folds(plate: _Plate, may_fit: Bool[np.ndarray, "n"], folds: int) -> tuple[Int[np.ndarray, "n"], bool]:
    """Return the fold of every control that may fit, -1 for the other rows, and whether single cells were split.

    Whole wells go to the folds, the largest first, each to the fold with the fewest cells so far. Where that leaves
    fewer than two controls to fit a fold, single cells go.
    """
    wells = plate.well[may_fit]
    known = np.unique(wells[wells >= 0])
    by_cell = len(known) < 2 or bool((wells < 0).any())
    fold_of = np.full(len(may_fit), -1)
    if len(known) >= 2:
        group = np.where(wells >= 0, wells, known[-1] + 1 + np.cumsum(wells < 0))
        fold_of[may_fit] = _balanced(np.unique(group, return_inverse=True)[1].ravel(), folds, plate.name)
    if len(known) < 2 or (may_fit.sum() - np.bincount(fold_of[may_fit]).max() < 2 < may_fit.sum()):
        fold_of[may_fit] = _balanced(np.arange(len(wells)), folds, plate.name)
        by_cell = True
    return fold_of, by_cell


def _balanced(group: Int[np.ndarray, "n"], folds: int, plate: str) -> Int[np.ndarray, "n"]:
    """Return the fold of every row, so that rows of one group share it and folds are about equally large."""
    sizes = np.bincount(group)
    folds = min(folds, len(sizes))
    shuffled = generator("folds of controls", plate).permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    if sizes.max() == 1:
        fold_of_group = np.empty(len(sizes), np.int64)
        fold_of_group[order] = np.arange(len(sizes)) % folds
        return np.asarray(fold_of_group[group])
    filled = np.zeros(folds, np.int64)
    fold_of_group = np.empty(len(sizes), np.int64)
    for one in order.tolist():
        fold_of_group[one] = filled.argmin()
        filled[fold_of_group[one]] += sizes[one]
    return np.asarray(fold_of_group[group])


def _with_others(
    plate: _Plate,
    may_fit: Bool[np.ndarray, "n"],
    fold_of: Int[np.ndarray, "n"],
    held_out: Bool[np.ndarray, "n"],
    is_by_cell: bool,
) -> Int[np.ndarray, "n"]:
    """Return the folds with those of the rows that fit nothing.

    Their proportions are those of the controls: a fold of many controls is fitted by few, so it is transformed worse
    than others, and a kind of rows that lay in it more often could be recognised by that.
    """
    out = fold_of.copy()
    if not is_by_cell:  # no cell of a well fits what another cell of it is transformed by
        fold_of_well = dict(zip(plate.well[may_fit].tolist(), fold_of[may_fit].tolist(), strict=True))
        for row in np.flatnonzero(plate.is_control & ~may_fit).tolist():
            out[row] = fold_of_well.get(int(plate.well[row]), -1)
    sizes = np.bincount(fold_of[may_fit])
    for is_late in (False, True):
        rest = np.flatnonzero((out < 0) & (held_out == is_late))
        by_kind_and_well = rest[np.lexsort((plate.well[rest], plate.is_control[rest]))]
        out[by_kind_and_well] = _in_proportion(sizes, len(rest))
    return out


def _in_proportion(sizes: Int[np.ndarray, "folds"], count: int) -> Int[np.ndarray, "count"]:
    """Return `count` folds in turn, so that any run of them has about the proportions of `sizes`."""
    turns = [(np.arange(size) + 0.5) / size for size in sizes]
    fold = np.repeat(np.arange(len(sizes)), sizes)
    once = fold[np.argsort(np.concatenate(turns), kind="stable")]
    return np.resize(once, count)


def _frames(plate: _Plate, may_fit: Bool[np.ndarray, "n"], fold_of: Int[np.ndarray, "n"]) -> list[Frame]:
    return [
        Frame(plate.name, plate.rows[fold_of == fold], plate.rows[may_fit & (fold_of != fold)])
        for fold in range(int(fold_of.max()) + 1)
    ]
