"""state: everything that training must remember in, one file out, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from cellssl.errors import IntegrityError


@dataclass
class TrainState:
    """Encoder, its momentum twin, the objectives by branch, the optimiser, and the number of steps done."""

    encoder: nn.Module
    momentum_encoder: nn.Module
    objectives: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        """Write a checkpoint to `path`; the caller sees to it that the name never holds half of one."""
        content = {"step": self.step, **{name: part.state_dict() for name, part in self._parts().items()}}
        with path.open("wb") as file:  # given a path, torch hides a full disk behind a RuntimeError
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Take up a checkpoint; IntegrityError where it is not one, or is of other networks."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step = int(saved["step"])
        except (RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError, UnpicklingError) as error:
            raise IntegrityError(
                f"the checkpoint {path} cannot be taken up: {error}",
                hint="remove that file, and run the same command again to start over",
            ) from error

    def is_finite(self) -> bool:
        """Whether every trained weight is a number."""
        trained = (weight for module in (self.encoder, self.objectives) for weight in module.parameters())
        return all(bool(weight.isfinite().all()) for weight in trained)

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "encoder": self.encoder,
            "momentum_encoder": self.momentum_encoder,
            "objectives": self.objectives,
            "optimizer": self.optimizer,
        }


def optimizer_for(name: str, modules: list[nn.Module], weight_decay: float) -> torch.optim.Optimizer:
    """The optimiser over everything that is trained; biases and batch norm, being vectors, do not decay."""
    trained = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    match name:
        case "adam":
            return torch.optim.Adam(groups)
        case "adamw":
            return torch.optim.AdamW(groups)
        case "sgd":
            return torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    raise ValueError(f"no optimiser {name!r}")
