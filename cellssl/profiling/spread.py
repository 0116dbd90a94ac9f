"""spread: the numbers that say how far the vectors of cells differ; light, because cards hold them."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class VectorSpread:
    """How far the vectors of cells differ."""

    cells: int
    """Number of cells that were looked at."""
    distinct: int
    """Number of different vectors among them."""
    effective_rank: float
    """exp(entropy of the normalised singular values) of the centred vectors: 1 if all cells lie on a line, 0 if all are
    equal."""
    dim: int
    """Number of features."""

    def to_json(self) -> dict[str, Any]:
        """Return the numbers ready for JSON."""
        return asdict(self)
