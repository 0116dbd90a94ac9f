"""state: networks, optimiser and step of a training in, one checkpoint file out; and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cellssl.disk import raise_fault
from cellssl.errors import IntegrityError
from cellssl.learning.training.freezing import frozen_modules
from cellssl.learning.training.lars import Lars

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass
class BestValidation:
    """The lowest validation loss so far, the step after which it was measured, and the measurements since then."""

    loss: float = math.inf
    step: int = 0
    checks_since: int = 0

    def update(self, loss: float, step: int) -> bool:
        """Add one measurement; return whether it is the lowest."""
        if loss < self.loss:
            self.loss, self.step, self.checks_since = loss, step, 0
            return True
        self.checks_since += 1
        return False

    def as_dict(self) -> dict[str, float]:
        """Return the entries of a checkpoint, under the names that older checkpoints have too."""
        return {"loss": self.loss, "step": self.step, "looks_since": self.checks_since}

    @classmethod
    def from_dict(cls, saved: dict[str, float]) -> BestValidation:
        """Read the entries of a checkpoint."""
        return cls(saved["loss"], int(saved["step"]), int(saved["looks_since"]))


@dataclass
class TrainState:
    """Encoder, momentum encoder, objectives by branch, optimiser, and the number of steps done."""

    encoder: nn.Module
    momentum_encoder: nn.Module
    objectives: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: BestValidation = field(default_factory=BestValidation)
    is_compiled: bool = False
    """Whether the encoders run compiled code."""
    uses_cuda_graphs: bool = False
    """Whether that code is replayed, so that it writes to the same memory each time."""

    def save(self, path: Path) -> None:
        """Write a checkpoint to `path`; the caller renames it afterwards, so that half a checkpoint is never found."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        content = {"step": self.step, "lowest": self.best.as_dict(), **parts}
        with path.open("wb") as file:  # given a path, torch hides a full disk behind a RuntimeError
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Load a checkpoint; raise IntegrityError where the file is not a checkpoint, or belongs to other networks."""
        try:
            with path.open("rb") as file:  # given a path, torch hides why it cannot be read
                saved = torch.load(file, map_location="cpu", weights_only=True)
            _keep_implementation(self.optimizer, saved["optimizer"])
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step, self.best = int(saved["step"]), BestValidation.from_dict(saved["lowest"])
        except (RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError, UnpicklingError) as error:
            raise_fault(error, path)
            raise IntegrityError(
                f"the checkpoint {path} cannot be loaded: {error}",
                hint="remove that file, and run the same command again to start from step 0",
            ) from error

    def train(self) -> None:
        """Set all modules to training mode: batch norm uses the statistics of the batch, and queues are filled."""
        for module in self.modules():
            module.train()
            for frozen in frozen_modules(module):
                frozen.training = False  # by itself: modules within it may learn

    def eval(self) -> None:
        """Set all modules to evaluation mode: the cells change neither batch norm nor queues."""
        for module in self.modules():
            module.eval()

    def begin_branch(self) -> None:
        """Say that what the encoders have given out so far is no longer needed."""
        if self.uses_cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()

    def keep_gradient(self) -> None:
        """Keep the encoder's gradient where the next branch adds to it: a replayed pass would overwrite it."""
        for weight in self.encoder.parameters() if self.uses_cuda_graphs else ():
            if weight.grad is not None:
                weight.grad = weight.grad.clone()

    def clip_gradient(self, max_norm: float | None) -> Float[Tensor, ""]:
        """Return the norm of the whole gradient, and scale a longer gradient down to `max_norm` where that is given."""
        trained = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in trained if weight.grad is not None])
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
        return norm

    def is_finite(self) -> bool:
        """Return whether every weight and every running statistic is finite."""
        tensors = [tensor for module in self.modules() for tensor in module.state_dict().values()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())  # the device is read once

    def modules(self) -> tuple[nn.Module, ...]:
        """Return both encoders, and the objectives."""
        return self.encoder, self.momentum_encoder, self.objectives

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "encoder": self.encoder,
            "momentum_encoder": self.momentum_encoder,
            "objectives": self.objectives,
            "optimizer": self.optimizer,
        }


def _keep_implementation(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Let a saved optimiser be computed as this one is: fused or not follows from the device, not from a checkpoint."""
    for own, loaded in zip(optimizer.param_groups, saved["param_groups"], strict=False):
        if "fused" in own:
            loaded["fused"] = own["fused"]


def optimizer_for(name: str, modules: list[nn.Module], weight_decay: float) -> torch.optim.Optimizer:
    """Return the optimiser of all trained weights; biases and batch norm, which are vectors, get no weight decay.

    On a GPU one kernel updates all weights. On a CPU such a kernel would round differently.
    """
    trained = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = True if any(weight.is_cuda for weight in trained) else None
    match name:
        case "adam":
            return torch.optim.Adam(groups, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=fused)
        case "lars":
            return Lars([{**groups[0], "adapted": True}, {**groups[1], "adapted": False}])
    raise ValueError(f"no optimiser {name!r}")
