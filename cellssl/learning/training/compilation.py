"""compilation: networks and a device in; the same networks with compiled passes out, or why they cannot be compiled.

torch.compile joins the small operations of a network into few kernels, which a GPU starts in less time and which read
and write less memory. It does so at the first step, for every shape of input anew, so shapes are fixed. The views, the
losses and the optimiser are not compiled: views select cells by values, and the others are few operations.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cellssl.errors import UsageError

if TYPE_CHECKING:
    import torch

    from cellssl.learning.training.distributed import Group
    from cellssl.learning.training.state import TrainState

Compile = Literal["auto"] | bool
"""Whether to compile; `auto` does so on a GPU where it is possible."""
MOST_SHAPES = 64
"""Different inputs (shapes, with and without gradient) that a network is compiled for; more are an error: torch would
go on without compiled code and say nothing."""
TRUE_HINT = (
    "install a C++ compiler and the headers of Python (on Debian: apt install g++ python3-dev), on a GPU also Triton, "
    'which comes with torch; or set pretrain.compile = "auto"'
)


@dataclass(frozen=True)
class Decision:
    """Whether networks are compiled, and a word to the user where a GPU could not do it."""

    compiled: bool
    note: str = ""


def decide(wanted: Compile, network: torch.nn.Module, device: torch.device, group: Group) -> Decision:
    """Return whether a network is compiled; `auto` compiles on a GPU only, and only where it is possible.

    Raises UsageError where it must be compiled and cannot be.
    """
    if wanted is False or (wanted == "auto" and device.type == "cpu"):
        return Decision(False)
    reason = _obstacle_of(network, group) or obstacle(device)
    if reason is None:
        return Decision(True)
    if wanted is True:
        raise UsageError(f"pretrain.compile = true, but torch.compile cannot be used here: {reason}", hint=TRUE_HINT)
    return Decision(False, f"the network is not compiled, which makes its steps slower: {reason}")


def obstacle(device: torch.device) -> str | None:
    """Return why torch.compile does not work on this machine, or None where it does; a tiny function is compiled.

    It needs a C++ compiler, on a GPU Triton and a C compiler, and the headers of Python; only a trial finds them all.
    """
    import torch

    try:
        with torch.no_grad():
            torch.compile(_trial, dynamic=False)(torch.ones(8, device=device))
    except (RuntimeError, ImportError, OSError) as error:  # torch raises all of them, from its compiler and from others
        return " ".join(str(error.__cause__ or error).split())[:300]
    return None


def compile_encoders(state: TrainState, *, cuda_graphs: bool = False) -> None:
    """Let both encoders run compiled code from now on; the names in their state dicts stay.

    With `cuda_graphs`, a GPU gets all kernels of a pass at once. Each pass then writes to the same memory as before.
    """
    import torch._dynamo

    from cellssl.learning.transformer import VisionTransformer

    config = torch._dynamo.config
    for name, earlier, value in (  # the second name is that of torch 2.6
        ("recompile_limit", "cache_size_limit", MOST_SHAPES),
        ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit", True),
    ):
        setattr(config, name if hasattr(config, name) else earlier, value)
    for encoder in (state.encoder, state.momentum_encoder):
        # a masked autoencoder does not call the transformer itself, but its blocks
        parts = [encoder, encoder.blocks] if isinstance(encoder, VisionTransformer) else [encoder]
        for part in parts:
            part.compile(dynamic=False, options={"triton.cudagraphs": cuda_graphs})
    state.is_compiled, state.uses_cuda_graphs = True, cuda_graphs


def not_compiled(state: TrainState) -> AbstractContextManager[object]:
    """Return the context in which the encoders run as if they had not been compiled.

    A validation has shapes and a mode of its own, for which compiling takes longer than computing.
    """
    if not state.is_compiled:
        return nullcontext()
    import torch

    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def _obstacle_of(network: torch.nn.Module, group: Group) -> str | None:
    from torch import nn

    if group.rank.count > 1 and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()):
        return "batch norm over several processes waits for the others within the network"
    return None


def _trial(values: torch.Tensor) -> torch.Tensor:
    return values.square().sum()
