"""measured_speed: a training and a machine in; what one of its steps costs there, measured once and kept, out.

The folder `speeds` of a store holds one small file per network and machine. It may be removed at any time, and a store
that is not there yet, or cannot be written, costs a measurement each time.
"""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.files import write_text

if TYPE_CHECKING:
    import torch

    from cellssl.artifacts.store import Store
    from cellssl.stages.pretrain.settings import Settings
    from cellssl.stages.pretrain.step_cost import CellShape, StepCost

FOLDER = "speeds"
LEAST_MEASURED = 4096
"""Random cells in a measurement; their number hardly counts, so that one measurement serves many plates."""


def step_cost(settings: Settings, shape: CellShape, device: torch.device, store: Store) -> StepCost:
    """Return what a step costs here: from an earlier measurement, or measured now, which takes seconds."""
    from dataclasses import replace

    from cellssl.stages.pretrain.step_cost import measure_step

    file = store.root / FOLDER / f"{_key(settings, shape, device)}.json"
    if (kept := _read(file)) is not None:
        return kept
    cells = max([LEAST_MEASURED, *(1 + queue for queue in _queues(settings))])
    measured = measure_step(settings, replace(shape, cells=cells), device)
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)  # in a store that is there: a dry run makes none
        write_text(file, json.dumps(asdict(measured)) + "\n")
    return measured


def _queues(settings: Settings) -> list[int]:
    return [getattr(branch.objective, "queue", 0) for branch in settings.active().values()]


def _read(file: Path) -> StepCost | None:
    """Return what an earlier measurement has left; None where there is none, or the file is damaged."""
    from cellssl.stages.pretrain.step_cost import StepCost

    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        numbers = {name: float(value) for name, value in found.items()}
        kept = StepCost(**numbers)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return kept if all(0 <= value < float("inf") for value in numbers.values()) else None


def _key(settings: Settings, shape: CellShape, device: torch.device) -> str:
    """Return a name that follows from the machine, the network, and everything else on which the time depends."""
    import torch

    from cellssl.device import allowed_threads

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    parts = [
        _processor(),
        gpu,
        str(allowed_threads()),
        torch.__version__,
        json.dumps(_work_of(settings), sort_keys=True),
        str((shape.channels, shape.crop_px)),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _work_of(settings: Settings) -> dict[str, Any]:
    """Return what a step computes: networks, sizes, kinds of transforms; not their strengths, which a sweep varies."""
    branches = settings.active() if settings.epochs > 0 else {}
    return {
        "encoder": [settings.encoder.plugin_name(), settings.encoder.fingerprint_values()],
        "sizes": [settings.input_px, settings.batch, settings.precision, settings.optimizer],
        "branches": [
            [
                branch.objective.plugin_name(),
                {name: value for name, value in branch.objective.all_values().items() if isinstance(value, int)},
                [[transform.plugin_name() for transform in view] for view in branch.view_transforms(2)],
            ]
            for branch in branches.values()
        ],
    }


def _processor() -> str:
    """Return the model of the processor, so that machines that share a store do not share measurements."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line} {_instructions()}"
    return platform.processor()


def _instructions() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())
