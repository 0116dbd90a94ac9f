"""chain: vectors, a chain of normalisers and frames -> a fitted chain and normalised vectors, also of later plates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.errors import DataError, UsageError
from cellssl.profiling import chain_arrays
from cellssl.profiling.chain_arrays import Links
from cellssl.profiling.finite import check_embeddings
from cellssl.profiling.frames import Frame, Frames
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.moments import CHUNK_ROWS
from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows
from cellssl.profiling.one_thread import one_thread


@dataclass(frozen=True)
class FittedFrame:
    """A frame, and the arrays of every link that is fitted so far."""

    frame: Frame
    arrays: list[Arrays]


@dataclass(frozen=True)
class FittedChain:
    """The links of a chain, and what the pooled part of each was fitted to."""

    links: Links
    pooled: tuple[Arrays, ...]
    dim: int
    """Number of features that go in."""

    def apply(self, x: Float[np.ndarray, "n d"], frames: Frames | None = None) -> Float[np.ndarray, "n _"]:
        """Return normalised vectors: pooled parts as saved, per-plate parts fitted on the controls of these frames."""
        if x.shape[1] != self.dim:
            raise DataError(
                f"the normalisation was fitted on {self.dim} features, but the embeddings have {x.shape[1]}",
                hint="embed these cells with the model of the earlier clustering",
            )
        check_embeddings(x)
        parts = _parts(self.links, frames, len(x))
        with one_thread():  # fixed order of sums, so that the result is the same on every machine
            for place, pooled in enumerate(self.pooled):
                _fit_plates(self.links, place, pooled, x, parts)
            return _transformed(self.links, x, np.arange(len(x)), parts)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the chain as named arrays, to be stored in an .npz file beside the centroids."""
        return chain_arrays.named_arrays(self.links, self.pooled, self.dim)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FittedChain":
        """Return the chain that `arrays()` stored, or that an earlier version stored; other arrays are ignored.

        Raises KeyError or ValueError where they are not those of a chain.
        """
        return cls(*chain_arrays.read(arrays))


def is_per_plate(links: Links) -> bool:
    """Return whether a link is fitted on the controls of every plate, so that the chain needs frames."""
    return any(link.of_plate for link in links)


def needs_controls(links: Links) -> bool:
    """Return whether a link is fitted on controls, of every plate or of all together."""
    return any(link.of_plate or link.fitted_on == "controls" for link in links)


def fit_chain(
    links: Links,
    x: Float[np.ndarray, "n d"],
    reference: Bool[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    frames: Frames | None,
    fitting_controls: Bool[np.ndarray, "n"] | None = None,
    key: str = "fetch.controls",
) -> tuple[FittedChain, Float[np.ndarray, "n _"]]:
    """Fit a chain link by link; return it and the normalised vectors of all rows.

    The pooled part of a link is fitted on the `reference` rows, as the links before it leave them in the frame of each
    row; where it is fitted on controls, on `fitting_controls`, by default the controls among the reference rows. The
    per-plate part is fitted frame by frame, on the fitting rows as the links before leave them in that frame. `key` is
    the setting that names the controls.
    """
    check_embeddings(x)
    controls = _fitting_controls(reference, is_control, fitting_controls)
    plate = codes(plates)[1]
    parts = _parts(links, frames, len(x))
    fitted: list[Arrays] = []
    with one_thread():
        for place, link in enumerate(links):
            pooled: Arrays = {}
            if link.fitted_on != "nothing":
                _check_controls(link, controls, key)
                rows = np.flatnonzero(reference | controls if link.fitted_on == "controls" else reference)
                before = _transformed(links[:place], x, rows, parts)
                pooled = link.fit(ReferenceRows(before, plate[rows], controls[rows]))
                del before  # as large as all vectors
            fitted.append(pooled)
            _fit_plates(links, place, pooled, x, parts)
        return FittedChain(links, tuple(fitted), x.shape[1]), _transformed(links, x, np.arange(len(x)), parts)


def fitted_by(
    links: Links,
    reference: Bool[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    frames: Frames | None,
    fitting_controls: Bool[np.ndarray, "n"] | None = None,
) -> list[dict[str, Any]]:
    """Return which rows fitted every part of every link, ready for JSON.

    Each entry has the name of the link, what it was fitted on ("cells", "controls", or "controls of each plate"), the
    numbers of these rows and their plates, the number of folds, and whether wells or cells were split into them.
    """
    controls = _fitting_controls(reference, is_control, fitting_controls)
    plate = codes(plates)[1]
    found = []
    for link in links:
        if link.fitted_on != "nothing":
            rows = np.flatnonzero(controls if link.fitted_on == "controls" else reference)
            found.append(_entry(link, link.fitted_on, plate[rows], 1, None))
        if link.of_plate and frames is not None:
            rows = np.unique(np.concatenate([frame.fitting for frame in frames.frames]))
            split = None if frames.folds == 1 else "cell" if frames.by_cell else "well"
            found.append(_entry(link, "controls of each plate", plate[rows], frames.folds, split))
    return found


def _entry(
    link: NormaliserSettings, on: str, plate: Int[np.ndarray, "m"], folds: int, split: str | None
) -> dict[str, Any]:
    counted = {"rows": len(plate), "plates": len(np.unique(plate)), "folds": folds, "split_by": split}
    return {"link": link.plugin_name(), "on": on, **counted}


def _fitting_controls(
    reference: Bool[np.ndarray, "n"], is_control: Bool[np.ndarray, "n"], fitting_controls: Bool[np.ndarray, "n"] | None
) -> Bool[np.ndarray, "n"]:
    return np.asarray(is_control & (reference if fitting_controls is None else fitting_controls))


def _parts(links: Links, frames: Frames | None, count: int) -> list[FittedFrame]:
    """Return the frames, or one of all rows where no link is fitted plate by plate."""
    if not is_per_plate(links):
        return [FittedFrame(Frame("", np.arange(count), np.empty(0, np.int64)), [])]
    assert frames is not None, "a link that is fitted on the controls of every plate needs frames"
    covered = np.bincount(np.concatenate([frame.rows for frame in frames.frames]), minlength=count)
    assert len(covered) == count and (covered == 1).all(), "every row is in one frame"
    return [FittedFrame(frame, []) for frame in frames.frames]


def _check_controls(link: NormaliserSettings, controls: Bool[np.ndarray, "n"], key: str) -> None:
    if link.fitted_on == "controls" and (count := int(controls.sum())) < 2:
        raise UsageError(
            f"normalise has the link {link.plugin_name()}, which is fitted on controls, but there "
            + ("is one control" if count else "are no controls"),
            hint=f'name the controls in {key}, or set a chain without such a link, as normalise = ["zscore", "l2"]',
        )


def _fit_plates(
    links: Links, place: int, pooled: Arrays, x: Float[np.ndarray, "n d"], parts: list[FittedFrame]
) -> None:
    """Add the arrays of one link to every frame.

    The fitting rows are transformed again from the raw vectors for every link, so that only arrays are kept.
    """
    link = links[place]
    for part in parts:
        of_plate: Arrays = {}
        if link.of_plate:
            controls = _transformed(links[:place], x, part.frame.fitting, [part], fitting=True)
            of_plate = link.fit_plate(controls, pooled)
        part.arrays.append({**pooled, **of_plate})


def _transformed(
    links: Links,
    x: Float[np.ndarray, "n d"],
    wanted: Int[np.ndarray, "m"],
    parts: list[FittedFrame],
    *,
    fitting: bool = False,
) -> Float[np.ndarray, "m _"]:
    """Return the wanted rows after these links, each in its own frame; where they are `fitting` rows, in that one."""
    if not links:
        return x if len(wanted) == len(x) else x[wanted]
    place = np.full(len(x), -1)
    place[wanted] = np.arange(len(wanted))
    out: np.ndarray | None = None
    for part in parts:
        rows = wanted if fitting else part.frame.rows[place[part.frame.rows] >= 0]
        for start in range(0, len(rows), CHUNK_ROWS):
            some = rows[start : start + CHUNK_ROWS]
            normal = _through(links, x[some], part.arrays)
            if out is None:
                out = np.empty((len(wanted), normal.shape[1]), x.dtype)
            out[place[some]] = normal
    if out is None:
        raise DataError("there are no cells to fit the normalisation on", hint="check which cells are kept and split")
    return out


def _through(links: Links, x: Float[np.ndarray, "n d"], arrays: list[Arrays]) -> Float[np.ndarray, "n _"]:
    for link, of_link in zip(links, arrays, strict=False):
        x = link.apply(x, of_link)
        if not np.isfinite(x).all():
            raise DataError(
                f"after the link {link.plugin_name()} of normalise, some vectors have numbers that are not finite",
                hint="numbers of a feature are too far from those that the link was fitted on; leave the link out",
            )
    return x
