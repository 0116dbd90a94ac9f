"""mechanisms: treatment profiles, their compounds, mechanisms and batches -> whether the nearest has the mechanism."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellssl.errors import UsageError


@dataclass(frozen=True)
class Nearest:
    """Of each treatment that can be asked about, the nearest one that may answer."""

    asked: Int[np.ndarray, "q"]
    """Rows of the treatment table."""
    neighbour: Int[np.ndarray, "q"]
    """Row of the nearest treatment."""
    cosine: Float[np.ndarray, "q"]
    """Cosine similarity of the two."""


def not_same_compound(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"]) -> Nearest:
    """NSC: the nearest by cosine among other compounds (Ljosa et al. 2013, doi:10.1177/1087057113503553).

    A mechanism that only one compound has is left out, for nothing could be right. Raises UsageError where none is
    left.
    """
    compounds = treatments["compound"].astype(str).to_numpy()
    left = _with_two(treatments["moa"], [(name,) for name in compounds])
    if not left.any():
        raise UsageError(
            "no mechanism has treatments of two compounds",
            hint="NSC needs the column moa, and two compounds that share it",
        )
    return _nearest(x, left, compounds[:, None] != compounds[None, :])


def not_same_compound_or_batch(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"]) -> Nearest:
    """NSCB: as NSC, but no treatment may answer that shares a batch (Ando et al. 2017, doi:10.1101/161422).

    A mechanism that occurs in one batch only is left out, both of the questions and of the answers; that is what
    leaves 92 of the 103 treatments of BBBC021. Raises UsageError where none is left.
    """
    if "batches" not in treatments or not any(treatments["batches"]):
        raise UsageError("no batch is known", hint="name the column of the batches: fetch.dataset.columns.batch")
    compounds = treatments["compound"].astype(str).to_numpy()
    of_two = _with_two(treatments["moa"], [(name,) for name in compounds])
    left = of_two & _with_two(treatments["moa"], list(treatments["batches"]))
    if not left.any():
        raise UsageError(
            "no mechanism occurs in two batches with two compounds", hint="NSCB cannot be had of these plates"
        )
    batches = sorted({batch for some in treatments["batches"] for batch in some})
    within = np.array([[batch in some for batch in batches] for some in treatments["batches"]], dtype=float)
    apart = (compounds[:, None] != compounds[None, :]) & (within @ within.T == 0)
    return _nearest(x, left, apart)


def share_right(mechanisms: pd.Series, nearest: Nearest) -> pd.DataFrame:
    """One row a mechanism, and `all` at the end: treatments asked about, those told rightly, and their share."""
    truth = mechanisms.to_numpy(object)
    asked = truth[nearest.asked]
    right = asked == truth[nearest.neighbour]
    rows = [(str(name), int((asked == name).sum()), int(right[asked == name].sum())) for name in sorted(set(asked))]
    table = pd.DataFrame([*rows, ("all", len(asked), int(right.sum()))], columns=["moa", "treatments", "right"])
    table["accuracy"] = table["right"] / table["treatments"]
    return table


def unit_length(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Every row at length 1, in float64, so that products are cosines; a row of zeros stays, at cosine 0 to all."""
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length == 0, 1, length))


def _nearest(x: Float[np.ndarray, "t d"], left: Bool[np.ndarray, "t"], apart: Bool[np.ndarray, "t t"]) -> Nearest:
    unit = unit_length(x)
    may_answer = apart & left[:, None] & left[None, :]
    asked = np.flatnonzero(may_answer.any(axis=1))
    if not len(asked):
        raise UsageError("every treatment shares a batch with all others", hint="NSCB cannot be had of these plates")
    alike = np.where(may_answer[asked], (unit @ unit.T)[asked], -np.inf)
    neighbour = alike.argmax(axis=1)
    return Nearest(asked, neighbour, alike[np.arange(len(asked)), neighbour])


def _with_two(mechanisms: pd.Series, have: list[tuple[str, ...]]) -> Bool[np.ndarray, "t"]:
    """Treatments whose mechanism is known, and goes with two different values or more."""
    found: dict[object, set[str]] = {}
    for mechanism, values in zip(mechanisms, have, strict=True):
        if pd.notna(mechanism):
            found.setdefault(mechanism, set()).update(values)
    return np.array([pd.notna(mechanism) and len(found[mechanism]) > 1 for mechanism in mechanisms], dtype=bool)
