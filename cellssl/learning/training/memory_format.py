"""memory_format: a training in, the convolutions whose weights or inputs do not lie with channels last out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.learning.training.loop import encode_views

if TYPE_CHECKING:
    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.state import TrainState


@torch.no_grad()
def not_channels_last(state: TrainState, plan: Plan) -> list[str]:
    """Return the names of the convolutions for which a GPU has to reorder pixels or weights in every step.

    Two cells per process pass through the networks and the losses, in evaluation mode, which changes no state.
    """
    found: dict[str, None] = {}
    parts = {"encoder": state.encoder, "momentum_encoder": state.momentum_encoder, "objectives": state.objectives}

    def watch(name: str, layer: nn.Conv2d) -> torch.utils.hooks.RemovableHandle:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not (_is_channels_last(layer.weight) and _is_channels_last(inputs[0])):  # type: ignore[arg-type]
                found[name] = None

        return layer.register_forward_pre_hook(note)

    hooks = [
        watch(f"{part}.{name}", layer)
        for part, network in parts.items()
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    state.eval()
    rows = plan.batches.rows(0)[: 2 * plan.group.rank.count]
    crops, cells = plan.read(plan.group.share(rows)), plan.cell_keys[torch.from_numpy(rows)]
    for branch in plan.branches:
        branch.objective(encode_views(state, plan, branch, crops, cells, "memory format"))
    state.train()
    for hook in hooks:
        hook.remove()
    return list(found)


def _is_channels_last(values: Tensor) -> bool:
    return values.is_contiguous(memory_format=torch.channels_last)
