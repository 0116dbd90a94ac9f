"""natural_sort: names -> keys by which people would sort them."""

import re

Key = tuple[tuple[bool, float, str], ...]


def natural(name: str) -> Key:
    """Numbers by their size, alone and within words, before words: 2 and 10 and "cluster 2" and "cluster 10"."""
    try:
        return ((False, float(name), ""),)
    except ValueError:
        parts = filter(None, re.split(r"(\d+)", name))
        return tuple((False, float(part), part) if part.isdecimal() else (True, 0.0, part) for part in parts)
