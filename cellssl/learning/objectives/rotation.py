"""rotation: a cell rotated by quarter turns in, the loss of the predicted number of turns out.

Rotation prediction (Gidaris, Singh and Komodakis 2018, arXiv:1803.07728). Photographs have an upright orientation,
cells have none: without a reference, only the illumination and distortion of the field can reveal the rotation. This is
why `relative` exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Predict by how many quarter turns a cell has been rotated (rotation prediction, arXiv:1803.07728)."""

    NO_POSITIVES: ClassVar[str] = "it predicts how the same cell was turned"
    relative: bool = False
    """Predict the rotation relative to a view of the same cell that is not rotated. If false, as in the paper, the
    rotation is absolute, which says little about cells, because they have no upright orientation. The view may then
    neither rotate nor flip both ways, and a flip hides what differs along its axis, such as light from one side."""
    hidden_dim: int = Field(256, ge=1)
    """Width of the classifier's hidden layer."""

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own classifier."""
        from cellssl.learning.methods.rotation import Rotation

        return Rotation(context, relative=self.relative, hidden_dim=self.hidden_dim)
