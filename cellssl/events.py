"""events: what long work says about itself; stages yield these and the console draws them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units (fields, cells, files) are finished; `note` names the last one."""

    done: int
    total: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class StepDone:
    """One optimiser step is finished; `metrics` depend on recipe and inputs only, `timings` on the machine."""

    step: int
    total: int
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A resume point was written after `step`."""

    step: int


@dataclass(frozen=True)
class Note:
    """One sentence that a person should read: a warning, a count, a leak."""

    text: str


Event = Progress | StepDone | Saved | Note
