"""denoising: features of a noisy crop in, the error of the clean crop that is reconstructed from them out.

Denoising autoencoder (Vincent et al. 2008, doi:10.1145/1390156.1390294), with a convolutional decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Reconstruct the clean crop from a noisy one (denoising autoencoder, doi:10.1145/1390156.1390294). The target has
    the geometry of the branch's view, but none of its changes of intensity or sharpness."""

    NO_POSITIVES: ClassVar[str] = "it reconstructs the pixels of the same cell"
    sigma: float = Field(0.2, ge=0)
    """Standard deviation of the noise that is added after the branch's view; pixel values lie between 0 and 1."""
    width: int = Field(32, ge=1)
    """Channels within the decoder."""

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own decoder."""
        from cellssl.learning.methods.denoising import Denoising

        return Denoising(context, sigma=self.sigma, width=self.width)
