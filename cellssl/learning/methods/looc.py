"""looc: the module behind `looc`: one space in which nothing of a view matters, and one for each transform kept."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.config.plugins import did_you_mean
from cellssl.errors import UsageError
from cellssl.learning.methods.base import MethodInput, ema_update
from cellssl.learning.methods.contrastive_loss import contrast, gauges
from cellssl.learning.methods.heads import l2_normalize, mlp
from cellssl.learning.methods.queue import Queued
from cellssl.learning.view import View, same_draws
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives.looc import Settings
    from cellssl.learning.view import ViewSettings


def space_scores(
    query: Float[Tensor, "b dim"],
    keys: Float[Tensor, "n+1 b dim"],
    queue: Float[Tensor, "dim k"],
    space: int,
    temperature: float,
    same_cell: Bool[Tensor, "b k"] | None = None,
    alike: Bool[Tensor, "b n+1"] | None = None,
) -> Float[Tensor, "b 1+c"]:
    """The key of this space, then what it is told from: former keys, and outside space 0 the cell's other keys too.

    In space 0 the only key is key 0; in space i > 0 key i is the positive, and keys that differ from the query in
    transform i are negatives (LooC, arXiv:2008.05659). A key that is `alike` does not differ, though it was drawn
    apart: a flip, or a transform with a chance, does the same to many pairs. It is left out.
    """
    positive = (query * keys[space]).sum(dim=1, keepdim=True)
    former = query @ queue
    if same_cell is not None:
        former = former.masked_fill(same_cell, -torch.inf)
    others = [j for j in range(len(keys)) if j != space] if space else []
    differing = torch.einsum("bd,jbd->bj", query, keys[others])
    if alike is not None:
        differing = differing.masked_fill(alike[:, others], -torch.inf)
    return torch.cat([positive, differing, former], dim=1) / temperature


class LooC(Queued):
    """State: a projector, its momentum twin and a queue for each of the n + 1 spaces."""

    online_views = (0,)

    def __init__(self, settings: Settings, task: BuildContext) -> None:
        super().__init__()
        self.settings = settings
        self.options = settings.options(settings.temperature)
        spaces = 1 + len(settings.sensitive_to)
        self.views = 1 + spaces
        self.momentum_views = tuple(range(1, 1 + spaces))
        widths = [task.in_dim, settings.hidden_dim, settings.dim]
        self.projectors = nn.ModuleList(
            mlp(widths, task.seed, f"{task.branch}.projector{space}", norm=False) for space in range(spaces)
        )
        self.momentum_projectors = copy.deepcopy(self.projectors).requires_grad_(False)
        self.begin_queues(spaces, settings.dim, settings.queue, task.seed, task.branch)

    @property
    def momentum(self) -> float:
        """How slowly the key encoder follows."""
        return self.settings.momentum

    def shown(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """The query, key 0 drawn apart from it, and key i that shares with it what transform i drew."""
        there = tuple(sorted({part.plugin_name() for part in query} & {part.plugin_name() for part in key}))
        for name in self.settings.sensitive_to:
            if name not in there:
                raise UsageError(f"looc cannot keep {name!r}, which its views do not have", did_you_mean(name, there))
            if not _varies(View(query), View(key), name):
                raise UsageError(
                    f"looc cannot keep {name!r}, which does the same to every view of a cell",
                    hint="keep a transform whose draws differ, or give it a chance p between 0 and 1",
                )
        return (View(query), View(key), *[View(key, as_first=frozenset({name})) for name in self.settings.sensitive_to])

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The mean of the losses in all spaces."""
        queries = self.spaces(seen.online[0])
        with torch.no_grad():
            keys = torch.stack(
                [l2_normalize(head(seen.momentum)) for head in self.momentum_projectors]
            )  # (space, key, b, dim)
        same = seen.cells[:, None] == self.queue_cells[None, :] if self.settings.mask_same_cell else None
        scores = [
            space_scores(
                query, keys[space], self.queue[space], space, self.settings.temperature, same, self._alike(seen, space)
            )
            for space, query in enumerate(queries)
        ]
        losses = torch.stack([contrast(one, self.options) for one in scores])
        self.keep(torch.stack([own[space] for space, own in enumerate(keys)]), seen.cells)
        names = ("invariant", *self.settings.sensitive_to)
        each = {f"loss_{name}": loss.detach() for name, loss in zip(names, losses, strict=True)}
        return losses.mean(), {**gauges(scores[:1], queries), **each}

    def spaces(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "n+1 b out"]:
        """Unit projections in every space."""
        return torch.stack([l2_normalize(head(features)) for head in self.projectors])

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """All spaces side by side: LooC++."""
        return self.spaces(features).transpose(0, 1).flatten(1)

    def _alike(self, seen: MethodInput, space: int) -> Bool[Tensor, "b n+1"] | None:
        """Keys to which the transform of a space does what it does to the query, where this is known."""
        if seen.alike is None or space == 0:
            return None
        name = self.settings.sensitive_to[space - 1]
        return torch.stack([seen.alike(view, name) for view in self.momentum_views], dim=1).to(seen.cells.device)

    def after_step(self) -> None:
        """Move the momentum projectors, then put this step's keys into the queues."""
        ema_update(self.momentum_projectors, self.projectors, self.momentum)
        self.enqueue()


def _varies(query: View, key: View, name: str) -> bool:
    """Whether a transform ever does to two views of a cell something else; tried on a few large crops."""
    keys = Keys(torch.arange(4096)).fold("tried")
    return not same_draws((query, key), 1, name, keys, channels=3, side=4096).all()
