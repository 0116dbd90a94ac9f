"""cell_metadata: what the cell table says of the cells in; for any batch, what an objective wants to know of its cells out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from cellssl.randomness import hash64

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor


@dataclass(frozen=True)
class CellMetadata:
    """Columns of the cell table, looked up by the keys of the cells; what nobody asks for is not in it."""

    keys: Int64[Tensor, "n"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Sorted."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def about(cls, keys: Int64[Tensor, "n"], columns: Mapping[str, Sequence[object]]) -> CellMetadata:
        """Numbers stay numbers, nan where missing; a text becomes a hash of itself, equal for equal texts.

        A cell whose text is missing gets its own key, and so is the only one of its kind.
        """
        order = keys.argsort()
        return cls(keys[order], {name: _coded(values, keys)[order] for name, values in columns.items()})

    def of(self, cells: Int64[Tensor, "b"], device: torch.device) -> dict[str, Tensor]:
        """What is known of these cells, column by column."""
        if not self.columns:
            return {}
        rows = torch.searchsorted(self.keys, cells)
        return {name: values[rows].to(device) for name, values in self.columns.items()}


NO_METADATA = CellMetadata()


def _coded(values: Sequence[object], keys: Int64[Tensor, "n"]) -> Tensor:
    if all(value is None or isinstance(value, float) for value in values):
        return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float32)
    own = keys.tolist()
    return torch.tensor([key if value is None else hash64(str(value)) for value, key in zip(values, own, strict=True)])
