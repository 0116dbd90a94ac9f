"""rotation: a cell turned by quarter turns in, how badly the number of turns is told out.

Rotation prediction (Gidaris, Singh and Komodakis 2018, arXiv:1803.07728). Photographs have an up, cells have none:
what can be told without a reference is how the microscope lights and distorts the field. So there is `relative`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Tell by how many quarter turns a cell has been turned (rotation prediction, arXiv:1803.07728)."""

    relative: bool = False
    """Against a view of the same cell that has not been turned; without it, as in the paper, absolutely, which says
    little of cells: they have no up. Then the view may neither rotate nor flip both ways, and a flip hides whatever
    lies along it, such as light from one side."""
    hidden_dim: int = Field(256, ge=1)
    """Width of the classifier's hidden layer."""

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own classifier."""
        from cellssl.learning.methods.rotation import Rotation

        return Rotation(self, task)
