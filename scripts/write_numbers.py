"""write_numbers: declared blocks in, their measured numbers written into README and docs.

    python scripts/write_numbers.py                              # all blocks; may take hours
    python scripts/write_numbers.py --only demo-table digits     # some blocks
    python scripts/write_numbers.py --list                       # blocks, pages, cost, and which are up to date

Runs are kept in --work, so the same command continues where it was stopped, and a second one changes nothing. A block
stands between two comments of a page; the first names the ALGORITHMs that its numbers stand on. A rise of one of them
makes a test fail until the block is made again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from page_numbers import marks
from page_numbers.block import Block
from page_numbers.declared import BLOCKS
from page_numbers.workplace import REPOSITORY, Workplace


def main() -> None:
    """Make the chosen blocks, or list them."""
    options = parse_options()
    chosen = choose(options.only)
    if options.list:
        show_list(chosen)
        return
    for block in chosen:
        print(f"{block.name}: {write(block, options.work)}", flush=True)


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="BLOCK", help="names of blocks; default: all")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "numbers", help="folder that keeps all runs")
    parser.add_argument("--list", action="store_true", help="list blocks, pages, cost, and which are up to date")
    return parser.parse_args()


def choose(names: Sequence[str] | None) -> list[Block]:
    """Return the blocks of these names; exit with 2 where there is no such block."""
    if unknown := set(names or ()) - BLOCKS.keys():
        print(f"there is no block {', '.join(sorted(unknown))}; there are: {', '.join(BLOCKS)}", file=sys.stderr)
        raise SystemExit(2)
    return [BLOCKS[name] for name in names or BLOCKS]


def show_list(blocks: Sequence[Block]) -> None:
    """Print one line per block: name, pages, cost and state."""
    widths = [max(len(text) for text in column) for column in zip(*map(_cells, blocks), strict=True)]
    for block in blocks:
        print("  ".join(text.ljust(width) for text, width in zip(_cells(block), widths, strict=True)).rstrip())


def _cells(block: Block) -> tuple[str, ...]:
    return block.name, ", ".join(block.pages), block.cost, state(block)


def state(block: Block) -> str:
    """Return whether the block stands on today's ALGORITHMs on every page, and whether its data are missing."""
    now, missing = block.head(), block.missing_data()
    heads = [marks.find((REPOSITORY / page).read_text(encoding="utf-8")).get(block.name) for page in block.pages]
    stale = [page for page, found in zip(block.pages, heads, strict=True) if found is None or found.head != now]
    words = f"stale in {', '.join(stale)}" if stale else "up to date"
    return f"{words}; cannot be made here: {missing}" if missing else words


def write(block: Block, folder: Path) -> str:
    """Make one block and write it into its pages; return what happened."""
    if missing := block.missing_data():
        return f"skipped: {missing}"
    body = block.make(Workplace(folder.absolute(), block))
    changed = [page for page in block.pages if write_page(REPOSITORY / page, block, body)]
    return f"written into {', '.join(changed)}" if changed else "unchanged"


def write_page(page: Path, block: Block, body: str) -> bool:
    """Replace the block in a page; return whether the page changed."""
    before = page.read_text(encoding="utf-8")
    after = marks.replaced(before, block.name, block.head(), body)
    if after != before:
        page.write_text(after, encoding="utf-8")
    return after != before


if __name__ == "__main__":
    main()
