"""rotation: the module of `rotation`: features of a rotated view in, the loss of the predicted quarter turns out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cellssl.errors import UsageError
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.heads import mlp
from cellssl.learning.transform import Geometric
from cellssl.learning.transforms import affine, horizontal_flip, rotate, vertical_flip
from cellssl.learning.view import View

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.config.settings import Plugin
    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.view import ViewSettings

TURNS = 4
"""Rotations by 0, 90, 180 and 270 degrees."""
FLIPS = (horizontal_flip.Settings, vertical_flip.Settings)


def _may_rotate(part: Plugin) -> bool:
    """Return whether a transform can rotate or mirror the cell."""
    if isinstance(part, affine.Settings):
        return bool(part.degrees)
    return isinstance(part, rotate.Settings) or (isinstance(part, FLIPS) and part.p > 0)


def _check_upright(view: ViewSettings) -> None:
    """Raise UsageError where the view rotates the cell; random flips along both axes are half a turn."""
    rotating = [part for part in view if _may_rotate(part)]
    random_flips = {type(part) for part in rotating if isinstance(part, FLIPS) and part.p < 1}
    if len(random_flips) == len(FLIPS):
        raise UsageError(
            "rotation cannot be predicted from views that flip both ways, which equals half a turn",
            hint="leave one of the flips out of the branch's view, or set relative = true",
        )
    if any(not isinstance(part, FLIPS) for part in rotating):
        raise UsageError(
            "rotation cannot be predicted from views that rotate the cell themselves",
            hint="leave rotate, and the degrees of affine, out of the branch's view, or set relative = true",
        )


def _check_same_rotation(query: ViewSettings, key: ViewSettings) -> None:
    """Raise UsageError where the reference and the view to compare with it are rotated by different transforms."""
    if [part for part in query if _may_rotate(part)] != [part for part in key if _may_rotate(part)]:
        raise UsageError(
            "relative rotation cannot be predicted where query and key are rotated or flipped by different transforms",
            hint="give views.query and views.key the same rotate, affine and flips, in the same order",
        )


class Rotation(Objective):
    """Rotation prediction. State: a classifier."""

    has_projector = False

    def __init__(self, context: BuildContext, *, relative: bool, hidden_dim: int) -> None:
        super().__init__()
        self.relative = relative
        self.n_views = TURNS + (1 if relative else 0)
        self.online_views = tuple(range(self.n_views))
        widths = [context.in_dim * (2 if relative else 1), hidden_dim, TURNS]
        self.classifier = mlp(widths, context.seed, f"{context.branch}.classifier", norm=False)

    def make_views(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Return views rotated by 0, 90, 180 and 270 degrees; with `relative`, after a reference that is not rotated.

        Apart from that rotation, the geometry of a relative view is that of its reference.
        """
        turns = [rotate.Settings(degrees=(90.0 * turn, 90.0 * turn)) for turn in range(TURNS)]
        if self.relative:
            _check_same_rotation(query, key)
            geometric = frozenset(part.plugin_name() for part in key if isinstance(part, Geometric))
            return (View(query), *[View((*key, turn), as_first=geometric) for turn in turns])
        _check_upright(query)
        return tuple(View((*query, turn)) for turn in turns)

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the cross-entropy over the four rotations (Gidaris et al. 2018, arXiv:1803.07728, equation 2)."""
        rotated = inputs.online[-TURNS:]
        if self.relative:
            rotated = torch.cat([inputs.online[:1].expand_as(rotated), rotated], dim=-1)
        logits = self.classifier(rotated).flatten(0, 1)
        target = torch.arange(TURNS, device=logits.device).repeat_interleave(inputs.online.shape[1])
        accuracy = (logits.argmax(dim=1) == target).float().mean()
        chance = torch.full((), float(TURNS), device=logits.device).log()
        return F.cross_entropy(logits, target), {"accuracy": accuracy, "chance": chance}
