"""events: the messages that long work yields while it runs; the console shows them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Started:
    """Work of `total` units begins, `done` of which are finished; the first of the others may take minutes."""

    done: int
    total: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units (fields, cells, files) are finished; `note` is the name of the last one."""

    done: int
    total: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class StepDone:
    """One optimiser step is finished; `metrics` depend only on recipe and inputs, `timings` on the machine."""

    step: int
    total: int
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A checkpoint to resume from was written after `step`."""

    step: int


@dataclass(frozen=True)
class Note:
    """One sentence for the user to read, such as a warning or a count."""

    text: str


@dataclass(frozen=True)
class Transfer:
    """`done` of `total` bytes of one file have arrived; several files may arrive at once."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Waiting:
    """Nothing is new: the work goes on, or waits for another process, and may be stopped here."""


Event = Started | Progress | Transfer | Waiting | StepDone | Saved | Note
