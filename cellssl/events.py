"""events: the messages that long work yields while it runs; the console shows them."""

from dataclasses import dataclass, field
from typing import Literal


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
    kind: Literal["remark", "warning", "result"] = "remark"
    """How a console repeats it for another arm or seed: a remark is not repeated word for word, a warning neither where
    only plate and numbers differ, a result always."""


@dataclass(frozen=True)
class PlateStarted:
    """Work on one of several plates begins: counts that follow are those of this plate."""

    plate: str
    number: int
    total: int


@dataclass(frozen=True)
class Transfer:
    """`done` of `total` bytes of one file have arrived; several files may arrive at once."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class PlatesDone:
    """Every plate is finished: counts that follow are those of all of them together."""


@dataclass(frozen=True)
class Waiting:
    """Nothing is new: the work goes on, or waits for another process, and may be stopped here."""


Event = Started | Progress | PlateStarted | PlatesDone | Transfer | Waiting | StepDone | Saved | Note
