"""natural_sort: names -> sort keys that put names in the order that people expect (2 before 10)."""

import re

Key = tuple[tuple[bool, float, str], ...]


def natural_key(name: str) -> Key:
    """Return a sort key: numbers by value, before words, and also within words: 2, 10, "cluster 2", "cluster 10"."""
    try:
        return ((False, float(name), ""),)
    except ValueError:
        parts = filter(None, re.split(r"(\d+)", name))
        return tuple((False, float(part), part) if part.isdecimal() else (True, 0.0, part) for part in parts)
