"""rotation: the module behind `rotation`: by how many quarter turns a view has been turned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.heads import mlp
from cellssl.learning.transform import Geometric
from cellssl.learning.view import View

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives.rotation import Settings
    from cellssl.learning.view import ViewSettings

TURNS = 4
FLIPS = {"horizontal_flip", "vertical_flip"}


def _turning(view: ViewSettings) -> list[Any]:
    """Transforms that turn or mirror the cell, or may."""

    def may_turn(part: Any) -> bool:
        name = part.plugin_name()
        return name == "rotate" or bool(getattr(part, "degrees", 0.0)) or (name in FLIPS and part.p > 0)

    return [part for part in view if may_turn(part)]


def _check_upright(view: ViewSettings) -> None:
    """Raise UsageError where the view itself turns the cell; flips of both kinds, each by chance, are half a turn."""
    turning = _turning(view)
    flips = {part.plugin_name() for part in turning if part.plugin_name() in FLIPS and part.p < 1}
    if flips == FLIPS:
        raise UsageError(
            "rotation cannot be told from views that flip both ways, which is half a turn",
            hint="leave one of the flips out of the branch's view, or set relative = true",
        )
    if any(part.plugin_name() not in FLIPS for part in turning):
        raise UsageError(
            "rotation cannot be told from views that turn the cell anyhow",
            hint="leave rotate, and the degrees of affine, out of the branch's view, or set relative = true",
        )


def _check_alike(query: ViewSettings, key: ViewSettings) -> None:
    """Raise UsageError where the reference is turned by other transforms than the view that is compared with it."""
    if _turning(query) != _turning(key):
        raise UsageError(
            "relative rotation cannot be told where query and key are turned or flipped by other transforms",
            hint="give views.query and views.key the same rotate, affine and flips, in the same order",
        )


class Rotation(Objective):
    """State: a classifier."""

    projects = False

    def __init__(self, settings: Settings, task: BuildContext) -> None:
        super().__init__()
        self.relative = settings.relative
        self.views = TURNS + (1 if settings.relative else 0)
        self.online_views = tuple(range(self.views))
        widths = [task.in_dim * (2 if settings.relative else 1), settings.hidden_dim, TURNS]
        self.classifier = mlp(widths, task.seed, f"{task.branch}.classifier", norm=False)

    def shown(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Views turned by 0, 90, 180 and 270 degrees; relative ones lie as a reference does that is not turned."""
        rotate = plugins.load("cellssl.learning.transforms", "rotate").Settings
        turns = [rotate(degrees=(90.0 * turn, 90.0 * turn)) for turn in range(TURNS)]
        if self.relative:
            _check_alike(query, key)
            same = frozenset(part.plugin_name() for part in key if isinstance(part, Geometric))
            return (View(query), *[View((*key, turn), as_first=same) for turn in turns])
        _check_upright(query)
        return tuple(View((*query, turn)) for turn in turns)

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Cross-entropy over the four turns (Gidaris et al. 2018, arXiv:1803.07728, equation 2)."""
        turned = seen.online[-TURNS:]
        if self.relative:
            turned = torch.cat([seen.online[:1].expand_as(turned), turned], dim=-1)
        logits = self.classifier(turned).flatten(0, 1)
        truth = torch.arange(TURNS, device=logits.device).repeat_interleave(seen.online.shape[1])
        found = (logits.argmax(dim=1) == truth).float().mean()
        chance = torch.tensor(float(TURNS)).log()
        return F.cross_entropy(logits, truth), {"accuracy": found, "chance": chance}
