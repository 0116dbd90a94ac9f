"""planned: what determines the result of one stage in; the name of that result, and where its inputs come from, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cellssl.artifacts.card import Card
from cellssl.artifacts.store import Artifact


def _no_check(_: Mapping[str, Artifact]) -> None:
    """Find nothing wrong with the inputs of a stage."""


@dataclass(frozen=True)
class Planned:
    """One stage of one arm and seed: everything that determines its result, and so its fingerprint."""

    stage: str
    recipe: str
    """The recipe and the flags laid over it, as a command line takes them."""
    arm: str
    seed: int | None
    """None where the stage gives the same result for every seed."""
    settings: Any
    inputs: dict[str, str]
    """Fingerprint of every input, by the name of the input."""
    card: Card
    asked_seed: int | None = None
    """The seed that the plan is for, whether the stage depends on it or not."""
    depends_on_seed: bool = False
    """Whether this stage or one upstream of it depends on the seed."""
    given: Mapping[str, Artifact] = field(default_factory=dict, repr=False, compare=False)
    """Inputs that a user named, by the name of the input; the others are looked up in the store."""
    upstream: Mapping[str, Planned] = field(default_factory=dict, repr=False, compare=False)
    """The plans of the other inputs, by the name of the input."""
    pointer: str = ""
    """Name of its pointer, where that is not the stage."""
    check_inputs: Callable[[Mapping[str, Artifact]], None] = field(default=_no_check, repr=False, compare=False)
    """Raises UsageError where the finished inputs turn out not to be what later stages need, before the work begins."""

    @property
    def seed_of_pointer(self) -> int | None:
        """The seed in the name of its pointer; None where all seeds share the result."""
        return self.asked_seed if self.depends_on_seed else None

    @property
    def fingerprint(self) -> str:
        """The name of the result's folder."""
        return self.card.fingerprint

    def earlier_model(self) -> Artifact:
        """Return the finished model that a stage embeds with: of a command line, or the one that its section names."""
        return self.given["pretrain"] if "pretrain" in self.given else self.given["model"]

    def for_another_process(self) -> Planned:
        """Return the plan without what belongs to this process: its checks, and what it knows of the files' bytes."""
        return replace(
            self,
            given={name: Artifact(one.path, one.card) for name, one in self.given.items()},
            upstream={name: one.for_another_process() for name, one in self.upstream.items()},
            check_inputs=_no_check,
        )
