"""denoising: a spoilt crop as the encoder represents it in, how far its redrawing is from the clean crop out.

Denoising autoencoder (Vincent et al. 2008, doi:10.1145/1390156.1390294), with a convolutional decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Redraw the clean crop from a spoilt one (denoising autoencoder, doi:10.1145/1390156.1390294): all that the
    branch's view does to a crop's looks is to be undone, and its geometry is not."""

    sigma: float = Field(0.2, ge=0)
    """Standard deviation of the noise that is added after the branch's view; pixels have values from 0 to 1."""
    width: int = Field(32, ge=1)
    """Channels within the decoder."""

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own decoder."""
        from cellssl.learning.methods.denoising import Denoising

        return Denoising(self, task)
