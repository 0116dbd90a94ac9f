"""block: what is declared of one block of numbers: where it stands, what it stands on, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from page_numbers.algorithms import Algorithms, as_text

if TYPE_CHECKING:
    from page_numbers.workplace import Workplace


@dataclass(frozen=True)
class Block:
    """One block of measured numbers."""

    name: str
    pages: tuple[str, ...]
    """Pages that show it, from the root of the repository."""
    cost: str
    """How long it takes to make, in words."""
    algorithms: Callable[[], Algorithms]
    """Returns what the numbers stand on."""
    make: Callable[[Workplace], str]
    """Runs what is missing and returns the Markdown."""
    data: tuple[str, ...] = ()
    """Files and folders of ../shared/data that it needs."""
    earlier: Mapping[str, int] = field(default_factory=dict)
    """Stage or plugin -> the ALGORITHM with which the block was made, where it was not made again since; its page must
    say so in words. Take it out when the block is made."""

    def head(self) -> str:
        """Return the ALGORITHMs as the head of the block names them: today's, but for the declared earlier ones."""
        return as_text({**self.algorithms(), **self.earlier})

    def missing_data(self) -> str:
        """Return why the block cannot be made here, or an empty text."""
        from page_numbers.workplace import SHARED_DATA

        missing = [name for name in self.data if not (SHARED_DATA / name).exists()]
        return f"no {', '.join(missing)} in {SHARED_DATA}" if missing else ""
