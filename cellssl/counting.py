"""counting: a number and a noun in; both as text, with the plural where it is needed, out."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return `1 well` or `1,536 wells`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
