"""nsc: treatment profiles -> nearest treatments of other compounds (NSC) and batches (NSCB); accuracy by mechanism."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from cellssl.errors import UsageError


@dataclass(frozen=True)
class NearestTreatment:
    """For each query treatment, the nearest treatment that is allowed as its neighbour."""

    query: Int[np.ndarray, "q"]
    """Rows of the query treatments in the treatment table."""
    neighbour: Int[np.ndarray, "q"]
    """Row of the nearest treatment of each query."""
    cosine: Float[np.ndarray, "q"]
    """Cosine similarity of the two."""


def not_same_compound(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"]) -> NearestTreatment:
    """Return for NSC the nearest treatment of another compound, by cosine (Ljosa et al. 2013,
    doi:10.1177/1087057113503553).

    A mechanism of only one compound is left out, because no neighbour could be correct. Raises UsageError where no
    mechanism is left.
    """
    compounds = treatments["compound"].astype(str).to_numpy()
    included = _shared_by_two(treatments["moa"], compounds)
    if not included.any():
        raise UsageError(
            "no mechanism has treatments of two compounds",
            hint="NSC needs the column moa, and two compounds that share a mechanism",
        )
    return _nearest(x, included, compounds[:, None] != compounds[None, :])


def not_same_compound_or_batch(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"]) -> NearestTreatment:
    """Return for NSCB the nearest treatment of another compound and another batch (Ando et al. 2017,
    doi:10.1101/161422).

    A treatment in two batches has one row for each. A mechanism that occurs in only one batch is left out, both as
    query and as neighbour; so 92 of the 103 treatments of BBBC021 remain. Raises UsageError where no mechanism is left.
    """
    if "batch" not in treatments or treatments["batch"].isna().any():
        raise UsageError("some treatments have no batch", hint="name the column of the batches in columns.batch")
    compounds, batches = (treatments[name].astype(str).to_numpy() for name in ("compound", "batch"))
    included = _shared_by_two(treatments["moa"], compounds) & _shared_by_two(treatments["moa"], batches)
    if not included.any():
        raise UsageError(
            "no mechanism has two compounds and occurs in two batches",
            hint="NSCB cannot be computed for these plates",
        )
    return _nearest(x, included, (compounds[:, None] != compounds[None, :]) & (batches[:, None] != batches[None, :]))


def accuracy_by_moa(mechanisms: pd.Series, nearest: NearestTreatment) -> pd.DataFrame:
    """Return one row per mechanism, and `all` at the end: treatments, how many are right, and the accuracy."""
    truth = mechanisms.to_numpy(object)
    true = truth[nearest.query]
    right = true == truth[nearest.neighbour]
    rows = [(str(name), int((true == name).sum()), int(right[true == name].sum())) for name in sorted(set(true))]
    table = pd.DataFrame([*rows, ("all", len(true), int(right.sum()))], columns=["moa", "treatments", "right"])
    table["accuracy"] = table["right"] / table["treatments"]
    return table


def unit_length(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Scale every row to length 1, in float64, so that products are cosines; a row of zeros has cosine 0 to all."""
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length == 0, 1, length))


def _nearest(
    x: Float[np.ndarray, "t d"], included: Bool[np.ndarray, "t"], differs: Bool[np.ndarray, "t t"]
) -> NearestTreatment:
    """Return the nearest treatment, by cosine, among the included ones that differ in compound (and batch)."""
    unit = unit_length(x)
    allowed = differs & included[:, None] & included[None, :]
    query = np.flatnonzero(allowed.any(axis=1))
    if not len(query):
        raise UsageError(
            "no treatment can be compared with another one", hint="NSC and NSCB cannot be computed for these plates"
        )
    similarity = np.where(allowed[query], (unit @ unit.T)[query], -np.inf)
    neighbour = similarity.argmax(axis=1)
    return NearestTreatment(query, neighbour, similarity[np.arange(len(query)), neighbour])


def _shared_by_two(mechanisms: pd.Series, values: Shaped[np.ndarray, "t"]) -> Bool[np.ndarray, "t"]:
    """Return True for treatments whose mechanism is known and has two or more different values, such as compounds."""
    distinct = pd.Series(values).groupby(mechanisms.to_numpy(object)).nunique()
    return (mechanisms.map(distinct).fillna(0) > 1).to_numpy(bool)
