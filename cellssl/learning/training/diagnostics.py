"""diagnostics: features and metrics of a step in, numbers, warnings and errors about collapse and divergence out.

Metrics lie on the device until they are read; reading waits until the device has done all that it was given before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cellssl.errors import FailedError
from cellssl.learning.training.collapse import COLLAPSED_SPREAD, COLLAPSED_STEPS

if TYPE_CHECKING:
    from cellssl.learning.training.state import TrainState

RANK_EVERY = 20
"""Steps between two computations of the effective rank, which costs a singular value decomposition."""
DIVERGENCE_HINT = "lower pretrain.learning_rate, or set pretrain.clip_norm = 1.0"


class PendingRank:
    """The effective rank of features that a device computes now: a singular value decomposition would wait for them.

    They are copied to the CPU when they are ready, and the rank is computed there when it is asked for.
    """

    def __init__(self, features: Float[Tensor, "b dim"]) -> None:
        self._features = features.to("cpu", non_blocking=True)
        self._copied = torch.cuda.current_stream(features.device).record_event() if features.is_cuda else None

    def value(self) -> float:
        """Return the effective rank."""
        if self._copied is not None:
            self._copied.synchronize()
        rank: float = effective_rank(self._features).item()
        return rank


Measured = dict[str, Tensor | PendingRank | float]
"""The metrics of one step by name, before they are read."""


def feature_statistics(features: Float[Tensor, "b dim"], step: int) -> Measured:
    """Return diagnostics of a batch of representations; the effective rank only every `RANK_EVERY` steps."""
    detached = features.detach()
    rank = {"effective_rank": PendingRank(detached)} if step % RANK_EVERY == 0 else {}
    return {"feature_sd": feature_sd(detached), **rank}


def feature_sd(features: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Return the mean over features of the standard deviation over cells; 0 when all cells have equal features."""
    return features.std(dim=0).mean()


def effective_rank(features: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Return exp(entropy of the normalised singular values) of the centred batch (Roy and Vetterli 2007).

    It is 1 when all cells lie on a line, and min(b - 1, dim) when they spread evenly. It is 0 for a batch of equal
    cells, and nan where a feature is not a finite number.
    """
    if not features.isfinite().all():
        return torch.tensor(torch.nan)
    exact = features.double()
    singular = torch.linalg.svdvals(exact - exact.mean(dim=0))
    total = singular.sum()
    if total <= 1e-12 * exact.abs().sum():
        return torch.zeros(())
    share = singular / total
    rank: Tensor = torch.special.entr(share).sum().exp().float()
    return rank


def read_metrics(steps: Sequence[Measured], device: torch.device) -> list[dict[str, float]]:
    """Return the metrics of some steps as numbers; the device is waited for once.

    The ranks come first: they are of features that were copied earlier, and the device still works meanwhile.
    """
    values = [value for step in steps for value in step.values()]
    ranks = iter([value.value() for value in values if isinstance(value, PendingRank)])
    on_device = [value.detach().to(device) for value in values if isinstance(value, Tensor)]
    numbers: Iterator[float] = iter(torch.stack(on_device).cpu().tolist() if on_device else ())

    def as_number(value: Tensor | PendingRank | float) -> float:
        match value:
            case PendingRank():
                return next(ranks)
            case Tensor():
                return next(numbers)
            case _:
                return value

    return [{name: as_number(value) for name, value in step.items()} for step in steps]


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise FailedError where a loss or the gradient of a step is not a finite number."""
    for name, words in (("loss", "loss"), ("gradient_norm", "gradient"), ("validation_loss", "validation loss")):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise FailedError(f"the {words} is {metrics[name]} at step {step}", _divergence_hint(metrics, step))


def _divergence_hint(metrics: Mapping[str, float], step: int) -> str:
    """Return the cure; before the first update of the weights the learning rate cannot be the cause."""
    if step > 1:
        return DIVERGENCE_HINT
    losses = [name for name in metrics if name.endswith("/loss")]
    diverged = [name.removesuffix("/loss") for name in losses if not math.isfinite(metrics[name])]
    where = f"branch {' and '.join(diverged)}" if diverged else "a branch"
    return (
        "the weights were not updated yet, so pretrain.learning_rate is not the cause: choose less extreme values in "
        f"the objective of {where} (its temperature, its weights), or check the weights that training starts from"
    )


def check_state(state: TrainState) -> None:
    """Raise FailedError where the last step has made weights infinite or nan, which no loss could show yet."""
    if not state.is_finite():
        raise FailedError(f"weights are infinite or nan after step {state.step}", hint=DIVERGENCE_HINT)


class CollapseMonitor:
    """Counts, for every branch, the steps in a row in which its projections hardly differ between cells."""

    def __init__(self, branches: Iterable[str]) -> None:
        self._collapsed_steps = Counter(dict.fromkeys(branches, 0))

    def newly_collapsed(self, metrics: Mapping[str, float]) -> list[str]:
        """Return the branches that reach `COLLAPSED_STEPS` collapsed steps in a row now; each is returned once."""
        for branch in self._collapsed_steps:
            low = metrics.get(f"{branch}/projection_spread", 1.0) < COLLAPSED_SPREAD
            self._collapsed_steps[branch] = self._collapsed_steps[branch] + 1 if low else 0
        return [branch for branch, steps in self._collapsed_steps.items() if steps == COLLAPSED_STEPS]
