"""state: everything that training must remember in, one file out, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.errors import IntegrityError
from cellssl.learning.training.lars import Lars

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass
class BestValidation:
    """The lowest validation loss so far, the step after which it was seen, and the looks since then."""

    loss: float = math.inf
    step: int = 0
    looks_since: int = 0

    def saw(self, loss: float, step: int) -> bool:
        """One more look; whether it is the lowest."""
        if loss < self.loss:
            self.loss, self.step, self.looks_since = loss, step, 0
            return True
        self.looks_since += 1
        return False


@dataclass
class TrainState:
    """Encoder, its momentum twin, the objectives by branch, the optimiser, and the number of steps done."""

    encoder: nn.Module
    momentum_encoder: nn.Module
    objectives: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    step: int = 0
    lowest: BestValidation = field(default_factory=BestValidation)

    def save(self, path: Path) -> None:
        """Write a checkpoint to `path`; the caller sees to it that the name never holds half of one."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        content = {"step": self.step, "lowest": vars(self.lowest), **parts}
        with path.open("wb") as file:  # given a path, torch hides a full disk behind a RuntimeError
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Take up a checkpoint; IntegrityError where it is not one, or is of other networks."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step, self.lowest = int(saved["step"]), BestValidation(**saved["lowest"])
        except (RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError, UnpicklingError) as error:
            raise IntegrityError(
                f"the checkpoint {path} cannot be taken up: {error}",
                hint="remove that file, and run the same command again to start over",
            ) from error

    def train(self) -> None:
        """Batch norm takes the statistics of the batch, and queues are filled."""
        for module in self._modules():
            module.train()

    def eval(self) -> None:
        """Nothing is remembered of what is looked at."""
        for module in self._modules():
            module.eval()

    def clip(self, longest: float | None) -> Float[Tensor, ""]:
        """The length of the whole gradient, which is shortened to `longest` where that is given."""
        trained = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        length = torch.nn.utils.get_total_norm([weight.grad for weight in trained if weight.grad is not None])
        if longest is not None:
            torch.nn.utils.clip_grads_with_norm_(trained, longest, length)
        return length

    def is_finite(self) -> bool:
        """Whether every weight and every running statistic is a number."""
        tensors = [tensor for module in self._modules() for tensor in module.state_dict().values()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def _modules(self) -> tuple[nn.Module, ...]:
        return self.encoder, self.momentum_encoder, self.objectives

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
        case "lars":
            return Lars([{**groups[0], "adapted": True}, {**groups[1], "adapted": False}])
    raise ValueError(f"no optimiser {name!r}")
