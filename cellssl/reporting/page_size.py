"""page_size: the sections of a page in; the same with fewer pictures where the page would be too large, out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cellssl.reporting.html import Block, Folded, Images, Interactive, Paragraph, Picture, Section, Table

MOST_BYTES = 28_000_000
"""Pixels that a page may hold as text, so that a page of thirty arms has at most 30 MB."""
LEFT_OUT = "Left out, so that the page stays small; the picture is in the folder figures: "
CELLS_LEFT_OUT = "Its pictures were left out, so that the page stays small."

FEW_BYTES = 10_000
"""Pictures of a table that take less, such as the colours of clusters, stay."""


@dataclass
class _Left:
    """How many bytes must still be saved."""

    bytes: int


def within(sections: Sequence[Section], most: int = MOST_BYTES, around: Sequence[Block] = ()) -> list[Section]:
    """Return the sections, with a sentence in place of pictures of the appendix, the last first, until they fit.

    Main sections stay whole, and so do the blocks `around` the sections, which count too.
    """
    left = _Left(sum(map(size, [*around, *(block for section in sections for block in section.blocks)])) - most)
    kept = [
        replace(section, blocks=_smaller(section.blocks, left)) if section.is_appendix and left.bytes > 0 else section
        for section in reversed(sections)
    ]
    return kept[::-1]


def size(block: Block) -> int:
    """Return about how many bytes the pictures of a block take on the page, where three bytes are four letters."""
    match block:
        case Picture():
            return sum(len(strip) * 4 // 3 for strip in block.strips)
        case Table():
            cells = (value for row in block.rows for value in row if isinstance(value, Images))
            return sum(len(image) * 4 // 3 for value in cells for image in value.images)
        case Folded():
            return sum(map(size, block.blocks))
        case Interactive():
            return len(str(block.data)) + sum(map(size, block.fallback))
        case _:
            return 0


def _smaller(blocks: Sequence[Block], left: _Left) -> list[Block]:
    return [_without(block, left) for block in reversed(blocks)][::-1]


def _without(block: Block, left: _Left) -> Block:
    if left.bytes <= 0:
        return block
    match block:
        case Picture():
            left.bytes -= size(block)
            return Paragraph(f"{LEFT_OUT}{block.caption}")
        case Table() if size(block) > FEW_BYTES:
            left.bytes -= size(block)
            rows = [[value.alt if isinstance(value, Images) else value for value in row] for row in block.rows]
            return replace(block, rows=rows, caption=f"{block.caption} {CELLS_LEFT_OUT}".strip())
        case Folded():
            return replace(block, blocks=_smaller(block.blocks, left))
        case _:
            return block
