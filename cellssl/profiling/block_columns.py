"""block_columns: blocks -> the columns of each, and checks that they are those of a joined vector."""

import math
from itertools import accumulate

from cellssl.errors import UsageError
from cellssl.profiling.blocks import Blocks


def columns_of(blocks: Blocks) -> list[slice]:
    """Return the columns of every block, in their order."""
    ends = list(accumulate(block.dim for block in blocks))
    return [slice(end - block.dim, end) for block, end in zip(blocks, ends, strict=True)]


def check_blocks(blocks: Blocks, dim: int) -> None:
    """Raise UsageError where these are not the blocks of a vector of `dim` numbers."""
    if fault := fault_of(blocks):
        raise UsageError(f"the blocks are not valid: {fault}", hint="see embed.blocks")
    if (total := sum(block.dim for block in blocks)) != dim:
        widths = ", ".join(f"{block.name} {block.dim}" for block in blocks)
        raise UsageError(
            f"the blocks have {total} columns ({widths}), but the vectors have {dim}",
            hint="give the blocks of these vectors, in the order of their columns",
        )


def fault_of(blocks: Blocks) -> str:
    """Return what is wrong with the blocks themselves; nothing where they are valid."""
    names = [block.name for block in blocks]
    for block in blocks:
        if not block.name or names.count(block.name) > 1:
            return f"the name {block.name!r} is empty or not unique"
        if block.dim < 1:
            return f"{block.name} has {block.dim} columns"
        if not (math.isfinite(block.weight) and block.weight > 0):
            return f"the weight of {block.name} is {block.weight}, which is not above 0"
    return ""
