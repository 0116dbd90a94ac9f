"""fitted_link: who fitted a link of a chain of normalisers, as JSON of a card, in; the same as a frozen object out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FittedLink:
    """The rows that a link of a chain, or its part of every plate, was fitted on."""

    link: str
    on: str
    """`cells`, `controls`, or `controls of each plate`."""
    rows: int
    """Number of cells (or of rows of an external table) that fitted it."""
    plates: int
    folds: int = 1
    """Number of folds of the controls of a plate, each of which is transformed by what the others fit; 1 where none of
    them is scored."""
    split_by: str | None = None
    """Whether whole wells or single cells were divided into these folds."""

    @classmethod
    def each(cls, entries: Iterable[Mapping[str, Any]]) -> tuple[FittedLink, ...]:
        """Return the links that the JSON of a card holds."""
        return tuple(cls(**entry) for entry in entries)

    def to_json(self) -> dict[str, Any]:
        """Return the link ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it in words."""
        plates = f"{self.plates:,} plate{'s' * (self.plates != 1)}"
        folds = f", in {self.folds} folds of {self.split_by}s" if self.split_by else ""
        return f"{self.link}: {self.rows:,} {self.on} ({plates}{folds})"


def links_in(content: Mapping[str, Any]) -> tuple[FittedLink, ...]:
    """Return the links in the metrics of a card; those of earlier versions name none."""
    return FittedLink.each(content.get("fitted_by", ()))


def links_json(links: Iterable[FittedLink]) -> dict[str, Any]:
    """Return the entry of a card, or none where nothing was fitted."""
    entries = [link.to_json() for link in links]
    return {"fitted_by": entries} if entries else {}
