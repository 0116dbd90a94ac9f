"""block_words: blocks of joined vectors in; sentences about them out."""

from __future__ import annotations

from collections.abc import Sequence


def empty_blocks_words(names: Sequence[str]) -> list[str]:
    """Return that these blocks do not vary, so that nothing stands on them; nothing where there are none."""
    return [
        f"the block {name} is 0 for all cells that fit the normalisation, so it counts for nothing; leave it out, "
        "or see why its columns have the same values in all of these"
        for name in names
    ]
