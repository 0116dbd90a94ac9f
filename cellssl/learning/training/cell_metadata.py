"""cell_metadata: columns of the cell table in, their values for the cells of any batch out, as objectives use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from cellssl.device import to_device
from cellssl.randomness import hash64

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor


@dataclass(frozen=True)
class CellMetadata:
    """Columns of the cell table, indexed by the keys of the cells; only columns that an objective uses."""

    keys: Int64[Tensor, "n"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Sorted."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """One value per cell, in the order of the keys."""

    @classmethod
    def from_columns(cls, keys: Int64[Tensor, "n"], columns: Mapping[str, Sequence[object]]) -> CellMetadata:
        """Encode columns as tensors: numbers stay numbers (nan where missing), a text becomes its hash.

        Equal texts have equal hashes. A cell whose text is missing gets its own key instead, so it equals no other.
        """
        order = keys.argsort()
        return cls(keys[order], {name: _encode(values, keys)[order] for name, values in columns.items()})

    def lookup(self, cells: Int64[Tensor, "b"], device: torch.device) -> dict[str, Tensor]:
        """Return the values of these cells, by column."""
        if not self.columns:
            return {}
        rows = torch.searchsorted(self.keys, cells)
        return {name: to_device(values[rows], device) for name, values in self.columns.items()}


NO_METADATA = CellMetadata()


def _encode(values: Sequence[object], keys: Int64[Tensor, "n"]) -> Tensor:
    if all(value is None or isinstance(value, float) for value in values):
        return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float32)
    own = keys.tolist()
    return torch.tensor([key if value is None else hash64(str(value)) for value, key in zip(values, own, strict=True)])
