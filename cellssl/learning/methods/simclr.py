"""simclr: the modules behind `simclr`, `supcon` and `dose_aware`: every view of a batch against all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods import contrastive_loss
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.contrastive_loss import contrast, gauges, spread_of
from cellssl.learning.methods.heads import l2_normalize, mlp

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives import dose_aware, simclr, supcon


class AllPairs(Objective):
    """State: a projector."""

    def __init__(self, settings: simclr.Settings | supcon.Settings | dose_aware.Settings, task: BuildContext) -> None:
        super().__init__()
        self.temperature = settings.temperature
        widths = [task.in_dim, settings.hidden_dim, settings.dim]
        self.projector = mlp(widths, task.seed, f"{task.branch}.projector", norm=False)

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Unit projections."""
        return l2_normalize(self.projector(features))

    def similarities(self, projections: Float[Tensor, "v b dim"]) -> Float[Tensor, "vb vb"]:
        """Of every view of every cell to every other, over temperature; to itself, -inf."""
        flat = projections.flatten(0, 1)
        myself = torch.eye(len(flat), dtype=torch.bool, device=flat.device)
        return (flat @ flat.T / self.temperature).masked_fill(myself, -torch.inf)


class SimClr(AllPairs):
    """NT-Xent: the other view of the same cell is the positive, all views of other cells are negatives."""

    def __init__(self, settings: simclr.Settings, task: BuildContext) -> None:
        super().__init__(settings, task)
        self.options = settings.options(settings.temperature)

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Each of the 2 b views is anchor once; a cell that stands twice in a batch is not its own negative."""
        views = self.project(seen.online)  # (2, b, dim)
        positive = (views[0] * views[1]).sum(dim=1, keepdim=True).repeat(2, 1) / self.temperature
        cells = seen.cells.repeat(2)
        negative = self.similarities(views).masked_fill(cells[:, None] == cells[None, :], -torch.inf)
        scores = torch.cat([positive, negative], dim=1)
        return contrast(scores, self.options), gauges([scores], views)


class SupCon(AllPairs):
    """All views of cells of the same class are positives."""

    def __init__(self, settings: supcon.Settings, task: BuildContext) -> None:
        super().__init__(settings, task)
        self.settings = settings

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """A cell without a label is a class of its own: its positive is its other view."""
        views, settings = self.project(seen.online), self.settings
        kinds = seen.known[settings.label].repeat(2)
        positive = same_but_self(kinds) | same_but_self(seen.cells.repeat(2))  # a missing number equals nothing
        scores = self.similarities(views)
        loss = self._loss(scores, positive)
        if settings.ifm_epsilon > 0:
            step = settings.ifm_epsilon / settings.temperature
            twin = self._loss(scores + torch.where(positive, -step, step), positive)
            loss = (loss + settings.ifm_alpha * twin) / (1 + settings.ifm_alpha)
        found = positive.gather(1, scores.argmax(dim=1, keepdim=True)).float().mean()
        return loss, {"accuracy": found, "projection_spread": spread_of(views)}

    def _loss(self, scores: Float[Tensor, "n n"], positive: Bool[Tensor, "n n"]) -> Float[Tensor, ""]:
        if self.settings.form == "sup_con":
            return contrastive_loss.sup_con(scores, positive)
        return contrastive_loss.epsilon_sup_info_nce(scores, positive, self.settings.margin)


class DoseAware(AllPairs):
    """Views attract each other by how near the doses of their cells are."""

    def __init__(self, settings: dose_aware.Settings, task: BuildContext) -> None:
        super().__init__(settings, task)
        self.settings = settings

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Both views of a cell have its dose."""
        views = self.project(seen.online)
        doses, compounds = (seen.known[name] for name in ("dose_micromolar", "compound"))
        weights = dose_kernel(doses, compounds, seen.cells, self.settings.sigma_decades, self.settings.unrelated_weight)
        weights = weights.repeat(2, 2).fill_diagonal_(0.0)  # nobody is its own pair
        losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "y_aware": contrastive_loss.y_aware,
            "threshold": contrastive_loss.y_threshold,
            "exponential": contrastive_loss.y_exponential,
        }
        scores = self.similarities(views)
        found = weights.gather(1, scores.argmax(dim=1, keepdim=True)).mean()
        return losses[self.settings.form](scores, weights), {
            "weight_of_nearest": found,
            "projection_spread": spread_of(views),
        }


def dose_kernel(
    dose_micromolar: Float[Tensor, "b"],
    compound: Int64[Tensor, "b"],
    cells: Int64[Tensor, "b"],
    sigma_decades: float,
    unrelated: float = 0.0,
) -> Float[Tensor, "b b"]:
    """exp(-(log10 d_i - log10 d_j)^2 / 2 sigma^2) for cells under one compound; 1 for a cell and itself.

    Controls and cells whose dose is not known are related to nobody: `unrelated`, as between two compounds, and the
    least that any two cells weigh, so that distant doses of one compound are no less alike than two compounds.
    """
    places = dose_micromolar.where(dose_micromolar > 0, torch.nan).log10()
    apart = (places[:, None] - places[None, :]) / sigma_decades
    related = (compound[:, None] == compound[None, :]) & apart.isfinite()
    weights = torch.where(related, torch.exp(-apart.square() / 2).clamp_min(unrelated), unrelated)
    return weights.masked_fill(cells[:, None] == cells[None, :], 1.0)


def same_but_self(kinds: Int64[Tensor, "n"]) -> Bool[Tensor, "n n"]:
    """Which pairs are of one kind; nobody with itself."""
    alike: Tensor = kinds[:, None] == kinds[None, :]
    return alike.fill_diagonal_(False)
