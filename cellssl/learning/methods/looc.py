"""looc: the module of `looc`: one projection space invariant to all transforms, and one per transform kept visible."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.config.plugins import did_you_mean
from cellssl.device import to_device
from cellssl.errors import UsageError
from cellssl.learning.methods.base import MethodInput, ema_update
from cellssl.learning.methods.contrastive_loss import contrastive_loss, diagnostics
from cellssl.learning.methods.heads import l2_normalize, mlp
from cellssl.learning.methods.queue import QueuedObjective
from cellssl.learning.view import View, same_draws
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.methods.contrastive_loss import ContrastiveOptions
    from cellssl.learning.view import ViewSettings


def space_scores(
    query: Float[Tensor, "b dim"],
    keys: Float[Tensor, "n+1 b dim"],
    queue: Float[Tensor, "dim k"],
    space: int,
    temperature: float,
    same_cell: Bool[Tensor, "b k"] | None = None,
    same_draw: Bool[Tensor, "b n+1"] | None = None,
) -> Float[Tensor, "b 1+c"]:
    """Return the scores in one space: first the key of this space, then the negatives.

    Negatives are former keys, and outside space 0 the other keys of the cell too. In space 0 the only key is key 0; in
    space i > 0 key i is the positive, and keys that differ from the query in transform i are negatives (LooC,
    arXiv:2008.05659). A key with `same_draw` does not differ from the query although it was drawn independently: a
    flip, or a transform with a probability, does the same to many pairs. Such a key is left out.
    """
    positive = (query * keys[space]).sum(dim=1, keepdim=True)
    former = query @ queue
    if same_cell is not None:
        former = former.masked_fill(same_cell, -torch.inf)
    differing = torch.einsum("bd,jbd->bj", query, _of_other_keys(keys, space, dim=0))
    if same_draw is not None:
        differing = differing.masked_fill(_of_other_keys(same_draw, space, dim=1), -torch.inf)
    return torch.cat([positive, differing, former], dim=1) / temperature


def _of_other_keys(values: Tensor, space: int, dim: int) -> Tensor:
    """Return the values of all keys except the positive of a space; nothing in space 0, whose only key is key 0."""
    after = values.shape[dim] - space - 1 if space else 0
    return torch.cat([values.narrow(dim, 0, space), values.narrow(dim, space + 1, after)], dim=dim)


class LooC(QueuedObjective):
    """LooC. State: a projector, its momentum copy and a queue for each of the n + 1 spaces."""

    online_views = (0,)

    def __init__(
        self,
        context: BuildContext,
        *,
        sensitive_to: tuple[str, ...],
        hidden_dim: int,
        dim: int,
        queue_size: int,
        momentum: float,
        mask_same_cell: bool,
        options: ContrastiveOptions,
    ) -> None:
        super().__init__()
        self.sensitive_to, self.momentum, self.mask_same_cell = sensitive_to, momentum, mask_same_cell
        self.options = options
        spaces = 1 + len(sensitive_to)
        self.n_views = 1 + spaces
        self.momentum_views = tuple(range(1, 1 + spaces))
        widths = [context.in_dim, hidden_dim, dim]
        self.projectors = nn.ModuleList(
            mlp(widths, context.seed, f"{context.branch}.projector{space}", norm=False) for space in range(spaces)
        )
        self.momentum_projectors = copy.deepcopy(self.projectors).requires_grad_(False)
        self.init_queues(spaces, dim, queue_size, context.seed, context.branch)

    def make_views(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Return the query, key 0 drawn independently of it, and keys i that share the draw of transform i with it."""
        in_both = tuple(sorted({part.plugin_name() for part in query} & {part.plugin_name() for part in key}))
        for name in self.sensitive_to:
            if name not in in_both:
                raise UsageError(
                    f"looc cannot stay sensitive to {name!r}: the branch's views do not have this transform",
                    did_you_mean(name, in_both),
                )
            if not _varies(View(query), View(key), name):
                raise UsageError(
                    f"looc cannot stay sensitive to {name!r}: it does the same to every view of a cell",
                    hint="name a transform whose draws differ, or give it a probability p between 0 and 1",
                )
        return (View(query), View(key), *[View(key, as_first=frozenset({name})) for name in self.sensitive_to])

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean of the losses in all spaces."""
        queries = self.project_spaces(inputs.online[0])
        with torch.no_grad():
            keys = torch.stack(
                [l2_normalize(head(inputs.momentum)) for head in self.momentum_projectors]
            )  # (space, key, b, dim)
        same_cell = inputs.cells[:, None] == self.queue_cells[None, :] if self.mask_same_cell else None
        temperature = self.options.temperature
        scores = [
            space_scores(
                query, keys[space], self.queue[space], space, temperature, same_cell, self._same_draw(inputs, space)
            )
            for space, query in enumerate(queries)
        ]
        losses = torch.stack([contrastive_loss(one, self.options) for one in scores])
        self.stage_for_queue(torch.stack([own[space] for space, own in enumerate(keys)]), inputs.cells)
        names = ("invariant", *self.sensitive_to)
        per_space = {f"loss_{name}": loss.detach() for name, loss in zip(names, losses, strict=True)}
        return losses.mean(), {**diagnostics(scores[:1], queries), **per_space}

    def project_spaces(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "n+1 b out"]:
        """Return unit projections in every space."""
        return torch.stack([l2_normalize(head(features)) for head in self.projectors])

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return the projections of all spaces side by side: LooC++."""
        return self.project_spaces(features).transpose(0, 1).flatten(1)

    def _same_draw(self, inputs: MethodInput, space: int) -> Bool[Tensor, "b n+1"] | None:
        """Return the keys to which the transform of a space does the same as to the query; None where not known."""
        if inputs.same_draw is None or space == 0:
            return None
        name = self.sensitive_to[space - 1]
        same = torch.stack([inputs.same_draw(view, name) for view in self.momentum_views], dim=1)
        return to_device(same, inputs.cells.device)

    def after_step(self) -> None:
        """Update the momentum projectors, then put the keys of this step into the queues."""
        ema_update(self.momentum_projectors, self.projectors, self.momentum)
        self.enqueue()


def _varies(query: View, key: View, name: str) -> bool:
    """Return whether a transform ever treats two views of a cell differently; tried on 4,096 large crops."""
    keys = Keys(torch.arange(4096)).fold("tried")
    return not same_draws((query, key), 1, name, keys, channels=3, side=4096).all()
