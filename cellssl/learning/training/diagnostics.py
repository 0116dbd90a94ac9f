"""diagnostics: what a step saw in, numbers that show a collapse or a divergence within minutes out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cellssl.errors import FailedError

if TYPE_CHECKING:
    from cellssl.learning.training.state import TrainState

RANK_EVERY = 20
"""Steps between two looks at the effective rank, which costs a singular value decomposition."""
CALMER = "lower pretrain.learning_rate, or set pretrain.clip_norm = 1.0"
COLLAPSED_SPREAD = 0.05
"""Of a branch's projections: 1 when they are even on the sphere, 0 when they are one."""
COLLAPSED_STEPS = 20
"""So many in a row, before a warning is given."""


def feature_statistics(features: Float[Tensor, "b dim"], step: int) -> dict[str, Tensor]:
    """Gauges of a batch of representations; the effective rank now and then."""
    seen = features.detach()
    rank = {"effective_rank": effective_rank(seen)} if step % RANK_EVERY == 0 else {}
    return {"feature_sd": feature_sd(seen), **rank}


def feature_sd(features: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Mean over features of the standard deviation over cells; 0 when all cells look the same."""
    return features.std(dim=0).mean()


def effective_rank(features: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """exp(entropy of the normalised singular values) of the centred batch (Roy and Vetterli 2007).

    1 when all cells lie on a line, min(b - 1, dim) when they spread evenly; 0 for a batch of equal cells, and nan
    where a feature is not a number.
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


def numbers(metrics: dict[str, Tensor], device: torch.device) -> dict[str, float]:
    """All of them in one wait for the device."""
    values = torch.stack([value.detach().to(device) for value in metrics.values()]).tolist()
    return dict(zip(metrics, values, strict=True))


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise FailedError where a loss or the gradient of a step is not a number."""
    for name, words in (("loss", "loss"), ("gradient_norm", "gradient"), ("validation_loss", "validation loss")):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise FailedError(f"the {words} is {metrics[name]} at step {step}", _cure(metrics, step))


def _cure(metrics: Mapping[str, float], step: int) -> str:
    """Before the first step has been taken, no learning rate can have spoilt anything."""
    if step > 1:
        return CALMER
    losses = [name for name in metrics if name.endswith("/loss")]
    wild = [name.removesuffix("/loss") for name in losses if not math.isfinite(metrics[name])]
    where = f"branch {' and '.join(wild)}" if wild else "a branch"
    return (
        "no step was taken yet, so it is not pretrain.learning_rate: moderate what is extreme in the objective of "
        f"{where} (its temperature, its weights), or look at the weights that training starts from"
    )


def check_state(state: TrainState) -> None:
    """Raise FailedError where the last step has made weights that are not numbers, which no loss has seen yet."""
    if not state.is_finite():
        raise FailedError(f"weights are no numbers any more after step {state.step}", hint=CALMER)


class CollapseMonitor:
    """Looks at every step for branches whose projections hardly differ between cells any more."""

    def __init__(self, branches: Iterable[str]) -> None:
        self._in_a_row = Counter(dict.fromkeys(branches, 0))

    def collapsing(self, metrics: Mapping[str, float]) -> list[str]:
        """The branches that have just been collapsed for `COLLAPSED_STEPS` steps in a row: each is told once."""
        for branch in self._in_a_row:
            low = metrics.get(f"{branch}/projection_spread", 1.0) < COLLAPSED_SPREAD
            self._in_a_row[branch] = self._in_a_row[branch] + 1 if low else 0
        return [branch for branch, steps in self._in_a_row.items() if steps == COLLAPSED_STEPS]
