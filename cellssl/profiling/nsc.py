"""nsc: treatment profiles, their compounds, mechanisms and batches -> whether the nearest has the mechanism."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from cellssl.errors import UsageError


@dataclass(frozen=True)
class NearestTreatment:
    """Of each treatment that can be asked about, the nearest one that may answer."""

    asked: Int[np.ndarray, "q"]
    """Rows of the treatment table."""
    neighbour: Int[np.ndarray, "q"]
    """Row of the nearest treatment."""
    cosine: Float[np.ndarray, "q"]
    """Cosine similarity of the two."""


def not_same_compound(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"]) -> NearestTreatment:
    """NSC: the nearest by cosine among other compounds (Ljosa et al. 2013, doi:10.1177/1087057113503553).

    A mechanism that only one compound has is left out, for nothing could be right. Raises UsageError where none is
    left.
    """
    compounds = treatments["compound"].astype(str).to_numpy()
    left = _with_two(treatments["moa"], compounds)
    if not left.any():
        raise UsageError(
            "no mechanism has treatments of two compounds",
            hint="NSC needs the column moa, and two compounds that share it",
        )
    return _nearest(x, left, compounds[:, None] != compounds[None, :])


def not_same_compound_or_batch(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"]) -> NearestTreatment:
    """NSCB: as NSC, and not of the same batch either (Ando et al. 2017, doi:10.1101/161422).

    A treatment in two batches has a row for each. A mechanism that occurs in one batch only is left out, both of the
    questions and of the answers; that is what leaves 92 of the 103 treatments of BBBC021. Raises UsageError where none
    is left.
    """
    if "batch" not in treatments or treatments["batch"].isna().any():
        raise UsageError("not every treatment has a batch", hint="name the column of the batches: columns.batch")
    compounds, batches = (treatments[name].astype(str).to_numpy() for name in ("compound", "batch"))
    left = _with_two(treatments["moa"], compounds) & _with_two(treatments["moa"], batches)
    if not left.any():
        raise UsageError(
            "no mechanism has two compounds and occurs in two batches", hint="NSCB cannot be had of these plates"
        )
    return _nearest(x, left, (compounds[:, None] != compounds[None, :]) & (batches[:, None] != batches[None, :]))


def accuracy_by_moa(mechanisms: pd.Series, nearest: NearestTreatment) -> pd.DataFrame:
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


def _nearest(
    x: Float[np.ndarray, "t d"], left: Bool[np.ndarray, "t"], apart: Bool[np.ndarray, "t t"]
) -> NearestTreatment:
    unit = unit_length(x)
    may_answer = apart & left[:, None] & left[None, :]
    asked = np.flatnonzero(may_answer.any(axis=1))
    if not len(asked):
        raise UsageError(
            "no treatment has another one to compare with", hint="NSC and NSCB cannot be had of these plates"
        )
    alike = np.where(may_answer[asked], (unit @ unit.T)[asked], -np.inf)
    neighbour = alike.argmax(axis=1)
    return NearestTreatment(asked, neighbour, alike[np.arange(len(asked)), neighbour])


def _with_two(mechanisms: pd.Series, values: Shaped[np.ndarray, "t"]) -> Bool[np.ndarray, "t"]:
    """Treatments whose mechanism is known, and goes with two different values or more."""
    seen = pd.Series(values).groupby(mechanisms.to_numpy(object)).nunique()
    return (mechanisms.map(seen).fillna(0) > 1).to_numpy(bool)
