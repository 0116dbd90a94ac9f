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


@dataclass(frozen=True)
class Transfer:
    """Of one file, `done` of `total` bytes have come; it is one of several that are on their way."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Waiting:
    """Nothing new; the work waits for others, and may be stopped here."""


Event = Progress | Transfer | Waiting | StepDone | Saved | Note
