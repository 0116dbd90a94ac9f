"""fitted_links: vectors of one block, links and frames -> links fitted one after another, and normalised vectors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.errors import DataError, UsageError
from cellssl.profiling.chain_arrays import Links, width_out
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
class FittedLinks:
    """The links of a chain, and what the pooled part of each was fitted to on one block of columns."""

    links: Links
    pooled: tuple[Arrays, ...]
    dim: int
    """Number of features that go in."""

    @property
    def dim_out(self) -> int:
        """Number of features that come out."""
        return width_out(self.links, self.pooled, self.dim)

    def apply(self, x: Float[np.ndarray, "n d"], frames: Frames | None = None) -> Float[np.ndarray, "n _"]:
        """Return normalised vectors: pooled parts as saved, per-plate parts fitted on the controls of these frames."""
        check_embeddings(x)
        parts = _parts(self.links, frames, len(x))
        with one_thread():  # fixed order of sums, so that the result is the same on every machine
            for place, pooled in enumerate(self.pooled):
                _fit_plates(self.links, place, pooled, x, parts)
            return _transformed(self.links, x, np.arange(len(x)), parts)


def fit_links(
    links: Links,
    x: Float[np.ndarray, "n d"],
    reference: Bool[np.ndarray, "n"],
    plates: Labels,
    controls: Bool[np.ndarray, "n"],
    frames: Frames | None,
    key: str,
) -> tuple[FittedLinks, Float[np.ndarray, "n _"]]:
    """Fit the links one after another; return them and the normalised vectors of all rows.

    Pooled parts are fitted on the `reference` rows, or on the `controls`; `fit_chain` explains the rest.
    """
    check_embeddings(x)
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
        return FittedLinks(links, tuple(fitted), x.shape[1]), _transformed(links, x, np.arange(len(x)), parts)


def _parts(links: Links, frames: Frames | None, count: int) -> list[FittedFrame]:
    """Return the frames, or one of all rows where no link is fitted plate by plate."""
    if not any(link.of_plate for link in links):
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
