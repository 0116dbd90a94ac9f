"""chain_arrays: a fitted chain -> named arrays for an .npz file; such arrays, also of old files -> the chain."""

import json
from collections.abc import Iterable, Mapping

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cellssl.config.settings import FROM_CARD, json_ready
from cellssl.errors import UsageError
from cellssl.profiling.normaliser import Arrays, ChainSettings, NormaliserSettings, chain

LONGEST_CHAIN = 100_000
"""Characters of the stored links; more are not a chain of ours."""
MOST_FEATURES = 2**31
FORMER = {"none": (), "l2": ("l2",), "zscore": ("zscore",), "pca_whiten": ("pca",)}
"""Name of a normalisation in an .npz file of before there were chains -> its chain of today."""

Links = tuple[NormaliserSettings, ...]


def named_arrays(links: Links, pooled: Iterable[Arrays], dim: int) -> dict[str, np.ndarray]:
    """Return the links as text, the number of features that go in, and the pooled parts."""
    stored = {"chain_links": np.array(json.dumps(json_ready(links, full=True))), "chain_dim": np.array(dim)}
    for number, arrays in enumerate(pooled):
        stored |= {f"chain_{number}_{name}": array for name, array in arrays.items()}
    return stored


def read(arrays: Mapping[str, np.ndarray]) -> tuple[Links, tuple[Arrays, ...], int]:
    """Return the links, their pooled parts, and the number of features that go in; other arrays are ignored.

    Raises KeyError or ValueError where the arrays are not those of a chain.
    """
    if "normaliser_name" in arrays:
        links, dim, pooled = _former(arrays)
    else:
        links, dim = _links(arrays["chain_links"]), _dim(arrays["chain_dim"])
        pooled = tuple(_beginning_with(f"chain_{number}_", arrays) for number in range(len(links)))
    width = dim
    for link, of_link in zip(links, pooled, strict=True):
        width = link.check_arrays(of_link, width)
    return links, pooled, dim


def _beginning_with(start: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}


def _links(stored: np.ndarray) -> Links:
    text = _text(stored)
    try:
        links: Links = TypeAdapter(ChainSettings).validate_python(json.loads(text), context={FROM_CARD: True})
    except (UsageError, ValidationError, RecursionError) as error:
        raise ValueError(f"there is no chain {text[:100]!r}") from error
    return links


def _former(arrays: Mapping[str, np.ndarray]) -> tuple[Links, int, tuple[Arrays, ...]]:
    name = _text(arrays["normaliser_name"])
    if name not in FORMER:
        raise ValueError(f"there is no normaliser {name[:100]!r}")
    links = chain(*FORMER[name])
    return links, _dim(arrays["normaliser_dim"]), (_beginning_with("normaliser_", arrays),) * len(links)


def _text(stored: np.ndarray) -> str:
    if stored.dtype.kind != "U" or stored.ndim or stored.dtype.itemsize > 4 * LONGEST_CHAIN:
        raise ValueError(f"the chain is {stored.dtype} of the shape {stored.shape}, not a text")
    return str(stored)


def _dim(stored: np.ndarray) -> int:
    if stored.dtype.kind not in "iu" or stored.ndim or not 1 <= stored <= MOST_FEATURES:
        raise ValueError(f"the number of features is {stored.dtype} of the shape {stored.shape}, not a whole number")
    return int(stored)
