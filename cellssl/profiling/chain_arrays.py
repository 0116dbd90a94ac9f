"""chain_arrays: a fitted chain -> named arrays for an .npz file; such arrays, also of old files -> the chain."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cellssl.config.settings import FROM_CARD, json_ready
from cellssl.errors import UsageError
from cellssl.profiling.block_columns import fault_of
from cellssl.profiling.blocks import Blocks
from cellssl.profiling.normaliser import Arrays, ChainSettings, NormaliserSettings, chain

LONGEST_CHAIN = 100_000
"""Characters of the stored links; more are not a chain of ours."""
MOST_FEATURES = 2**31
FORMER = {"none": (), "l2": ("l2",), "zscore": ("zscore",), "pca_whiten": ("pca",)}
"""Name of a normalisation in an .npz file of before there were chains -> its chain of today."""

Links = tuple[NormaliserSettings, ...]


def named_arrays(
    links: Links, pooled: Sequence[Iterable[Arrays]], dim: int, blocks: Blocks = (), factors: Sequence[float] = ()
) -> dict[str, np.ndarray]:
    """Return the links as text, the number of features that go in, and the pooled parts, of every block by itself."""
    stored = {"chain_links": np.array(json.dumps(json_ready(links, full=True))), "chain_dim": np.array(dim)}
    if blocks:
        stored["chain_blocks"] = np.array(json.dumps([asdict(block) for block in blocks]))
        stored["chain_factors"] = np.array(factors, np.float64)
    for start, of_part in zip(_starts(blocks), pooled, strict=True):
        for number, arrays in enumerate(of_part):
            stored |= {f"{start}{number}_{name}": array for name, array in arrays.items()}
    return stored


def read(
    arrays: Mapping[str, np.ndarray],
) -> tuple[Links, tuple[tuple[Arrays, ...], ...], tuple[int, ...], Blocks, tuple[float, ...]]:
    """Return the links; for every block, or once, their pooled parts and the number of features that go in; and the
    blocks with their factors. Other arrays are ignored.

    Raises KeyError or ValueError where the arrays are not those of a chain.
    """
    blocks: Blocks = ()
    factors: tuple[float, ...] = ()
    if "normaliser_name" in arrays:
        links, dim, of_links = _former(arrays)
        parts: tuple[tuple[Arrays, ...], ...] = (of_links,)
    else:
        links, dim = _links(arrays["chain_links"]), _dim(arrays["chain_dim"])
        if "chain_blocks" in arrays or "chain_factors" in arrays:
            blocks = _blocks(arrays["chain_blocks"], dim)
            factors = _factors(arrays["chain_factors"], len(blocks))
        parts = tuple(_pooled(start, len(links), arrays) for start in _starts(blocks))
    dims = tuple(block.dim for block in blocks) or (dim,)
    for pooled, width in zip(parts, dims, strict=True):
        width_out(links, pooled, width)
    return links, parts, dims, blocks, factors


def width_out(links: Links, pooled: Iterable[Arrays], width: int) -> int:
    """Return the number of features that come out; raise KeyError or ValueError where a pooled part is forged."""
    for link, of_link in zip(links, pooled, strict=True):
        width = link.check_arrays(of_link, width)
    return width


def _starts(blocks: Blocks) -> list[str]:
    """Return how the names of arrays begin, once or for every block."""
    return [f"chain_block_{place}_" for place in range(len(blocks))] or ["chain_"]


def _pooled(start: str, links: int, arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, ...]:
    return tuple(_beginning_with(f"{start}{number}_", arrays) for number in range(links))


def _beginning_with(start: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}


def _links(stored: np.ndarray) -> Links:
    text = _text(stored)
    try:
        links: Links = TypeAdapter(ChainSettings).validate_python(json.loads(text), context={FROM_CARD: True})
    except (UsageError, ValidationError, RecursionError) as error:
        raise ValueError(f"there is no chain {text[:100]!r}") from error
    return links


def _blocks(stored: np.ndarray, dim: int) -> Blocks:
    text = _text(stored)
    try:
        blocks = TypeAdapter(Blocks).validate_json(text, strict=True)
    except (ValidationError, RecursionError) as error:
        raise ValueError(f"there are no blocks {text[:100]!r}") from error
    if fault := fault_of(blocks):
        raise ValueError(fault)
    if (total := sum(block.dim for block in blocks)) != dim:
        raise ValueError(f"the blocks have {total} columns, not {dim}")
    return blocks


def _factors(stored: np.ndarray, count: int) -> tuple[float, ...]:
    if stored.dtype.kind != "f" or stored.shape != (count,):
        raise ValueError(f"the factors are {stored.dtype} of the shape {stored.shape}, not one number per block")
    if not (np.isfinite(stored) & (stored >= 0)).all():
        raise ValueError("the factors have numbers that cannot be")
    return tuple(stored.tolist())


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
