"""chain: vectors, a chain of normalisers and frames -> a fitted chain and normalised vectors, also of later plates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter, ValidationError

from cellssl.config.settings import FROM_CARD, json_ready
from cellssl.errors import DataError, UsageError
from cellssl.profiling.frames import Frame, Frames
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.moments import CHUNK_ROWS
from cellssl.profiling.normalise import check_embeddings
from cellssl.profiling.normaliser import Arrays, ChainSettings, NormaliserSettings, ReferenceRows
from cellssl.profiling.one_thread import one_thread

LONGEST_CHAIN = 100_000
"""Characters of the stored links; more are not a chain of ours."""

Links = tuple[NormaliserSettings, ...]
LinksOfFrames = list[list[Arrays]]
"""For every frame, the arrays of each link that is fitted so far."""


def is_per_plate(links: Links) -> bool:
    """Return whether a link is fitted on the controls of every plate, so that the chain needs frames."""
    return any(link.of_plate for link in links)


def needs_controls(links: Links) -> bool:
    """Return whether a link is fitted on controls, of every plate or of all together."""
    return any(link.of_plate or link.fitted_on == "controls" for link in links)


@dataclass(frozen=True)
class FittedChain:
    """The links of a chain, and what each was fitted to on the cells of all plates."""

    links: Links
    pooled: tuple[Arrays, ...]
    dim: int
    """Number of features that go in."""

    def apply(self, x: Float[np.ndarray, "n d"], frames: Frames | None = None) -> Float[np.ndarray, "n _"]:
        """Return normalised vectors: pooled parts as saved, per-plate parts fitted on the controls of these frames."""
        if x.shape[1] != self.dim:
            raise DataError(
                f"the normalisation was fitted on {self.dim} dimensions, but the embeddings have {x.shape[1]}",
                hint="embed these cells with the model of the earlier clustering",
            )
        check_embeddings(x)
        if not self.links:
            return x
        parts = _parts(self.links, frames, len(x))
        with one_thread():  # fixed order of sums, so that the result is the same on every machine
            arrays: LinksOfFrames = []
            for frame in parts:
                of_frame: list[Arrays] = []
                for link, pooled in zip(self.links, self.pooled, strict=True):
                    of_frame.append(_with_plate(link, pooled, x, frame, self.links, of_frame))
                arrays.append(of_frame)
            return _transformed(x, None, self.links, parts, arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the chain as named arrays, to be stored in an .npz file beside the centroids."""
        stored = {"chain_links": np.array(json.dumps(json_ready(self.links, full=True)))}
        for number, pooled in enumerate(self.pooled):
            stored |= {f"chain_{number}_{name}": array for name, array in pooled.items()}
        return {**stored, "chain_dim": np.array(self.dim)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FittedChain":
        """Return the chain that `arrays()` stored; other arrays are ignored.

        Raises KeyError or ValueError where they are not those of a chain.
        """
        links = _stored_links(arrays["chain_links"])
        dim = _stored_dim(arrays["chain_dim"])
        found, width = [], dim
        for number, link in enumerate(links):
            start = f"chain_{number}_"
            pooled = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
            width = link.check_arrays(pooled, width)
            found.append(pooled)
        return cls(links, tuple(found), dim)


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
    per-plate part is fitted frame by frame, on the fitting rows as the links before leave them in that frame.
    """
    check_embeddings(x)
    if not links:
        return FittedChain((), (), x.shape[1]), x
    controls = reference & is_control if fitting_controls is None else fitting_controls & is_control
    plate = codes(plates)[1]
    parts = _parts(links, frames, len(x))
    arrays: LinksOfFrames = [[] for _ in parts]
    fitted: list[Arrays] = []
    with one_thread():
        for place, link in enumerate(links):
            pooled: Arrays = {}
            if link.fitted_on != "nothing":
                rows = np.flatnonzero(reference | controls if link.fitted_on == "controls" else reference)
                _check_rows(link, controls, key)
                before = _transformed(x, rows, links[:place], parts, arrays)
                pooled = link.fit(ReferenceRows(before, plate[rows], controls[rows]))
            fitted.append(pooled)
            for frame, of_frame in zip(parts, arrays, strict=True):
                of_frame.append(_with_plate(link, pooled, x, frame, links, of_frame))
        return FittedChain(links, tuple(fitted), x.shape[1]), _transformed(x, None, links, parts, arrays)


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
    controls = reference & is_control if fitting_controls is None else fitting_controls & is_control
    plate = codes(plates)[1]
    found = []
    for link in links:
        if link.fitted_on != "nothing":
            rows = np.flatnonzero(controls if link.fitted_on == "controls" else reference)
            found.append(_entry(link, link.fitted_on, rows, plate, 1, None))
        if link.of_plate and frames is not None:
            rows = np.unique(np.concatenate([frame.fitting for frame in frames.frames]))
            split = None if frames.folds == 1 else "cell" if frames.by_cell else "well"
            found.append(_entry(link, "controls of each plate", rows, plate, frames.folds, split))
    return found


def _entry(
    link: NormaliserSettings, on: str, rows: Int[np.ndarray, "m"], plate: np.ndarray, folds: int, split: str | None
) -> dict[str, Any]:
    plates = len(np.unique(plate[rows]))
    counted = {"rows": len(rows), "plates": plates, "folds": folds, "split_by": split}
    return {"link": link.plugin_name(), "on": on, **counted}


def _parts(links: Links, frames: Frames | None, count: int) -> tuple[Frame, ...]:
    """Return the frames, or one of all rows where no link is fitted plate by plate."""
    if not is_per_plate(links):
        return (Frame("", np.arange(count), np.empty(0, np.int64)),)
    assert frames is not None, "a link that is fitted on the controls of every plate needs frames"
    assert sum(len(frame.rows) for frame in frames.frames) == count, "every row is in one frame"
    return frames.frames


def _check_rows(link: NormaliserSettings, controls: Bool[np.ndarray, "n"], key: str) -> None:
    if link.fitted_on == "controls" and controls.sum() < 2:
        raise UsageError(
            f"{link.plugin_name()} is fitted on controls, but there are {int(controls.sum())}",
            hint=f'name the controls in {key}, or set normalise = ["zscore", "l2"]',
        )


def _with_plate(
    link: NormaliserSettings, pooled: Arrays, x: np.ndarray, frame: Frame, links: Links, before: list[Arrays]
) -> Arrays:
    """Return the pooled arrays of a link, with those that the controls of a frame fit."""
    if not link.of_plate:
        return pooled
    controls = x[frame.fitting]
    for earlier, arrays in zip(links, before, strict=False):
        controls = earlier.apply(controls, arrays)
    return {**pooled, **link.fit_plate(controls, pooled)}


def _transformed(
    x: Float[np.ndarray, "n d"],
    wanted: Int[np.ndarray, "m"] | None,
    links: Links,
    parts: tuple[Frame, ...],
    arrays: LinksOfFrames,
) -> Float[np.ndarray, "m _"]:
    """Return the wanted rows (all by default) after these links, each in its own frame."""
    if not links:
        return x if wanted is None or len(wanted) == len(x) else x[wanted]
    place = np.arange(len(x))
    if wanted is not None:
        place = np.full(len(x), -1)
        place[wanted] = np.arange(len(wanted))
    out: np.ndarray | None = None
    for frame, of_frame in zip(parts, arrays, strict=True):
        rows = frame.rows[place[frame.rows] >= 0]
        for start in range(0, len(rows), CHUNK_ROWS):
            some = rows[start : start + CHUNK_ROWS]
            normal = x[some]
            for link, found in zip(links, of_frame, strict=False):
                normal = link.apply(normal, found)
            if out is None:
                out = np.empty((len(x) if wanted is None else len(wanted), normal.shape[1]), x.dtype)
            out[place[some]] = normal
    if out is None:
        raise DataError("there are no cells to fit the normalisation on")
    return out


def _stored_links(stored: np.ndarray) -> Links:
    text = str(stored) if stored.dtype.kind == "U" and stored.ndim == 0 else ""
    if not 0 < len(text) <= LONGEST_CHAIN:
        raise ValueError("the links of the chain are not stored as text")
    try:
        links: Links = TypeAdapter(ChainSettings).validate_python(json.loads(text), context={FROM_CARD: True})
    except (UsageError, ValidationError, RecursionError) as error:
        raise ValueError(f"there is no chain {text[:100]!r}") from error
    return links


def _stored_dim(stored: np.ndarray) -> int:
    if stored.ndim or stored.dtype.kind not in "iu" or not 1 <= stored <= 2**31:
        raise ValueError(f"the chain has {stored.dtype} of the shape {stored.shape} as its number of dimensions")
    return int(stored)
