"""settings: the section [embed] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, model_validator

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.errors import UsageError
from cellssl.learning.view import ViewSettings
from cellssl.stages.pretrain.initial_weights import SUFFIXES

if TYPE_CHECKING:
    pass


from cellssl.engine.stage import StageSettings

ALGORITHM = 2
"""2: `features` holds texture, and the area and shape of the nucleus."""


MEASUREMENTS = ("intensities", "features")
"""Models that measure pixels, without any network."""


UNTRAINED = ("random", "imagenet")
"""Models that are this recipe's network without its training."""


BASELINES = (*UNTRAINED, *MEASUREMENTS)


def _file_or_word(given: Any, info: ValidationInfo) -> Any:
    """A file of weights as a whole path; anything else as it is."""
    if not isinstance(given, str) or not given.endswith(SUFFIXES):
        return given
    return str(TypeAdapter(InputPath).validate_python(given, context=info.context))


class Settings(StageSettings):
    """Represent every cell. `network`, `layer`, `branch` and `view` say nothing to models that are no networks."""

    RENAMED: ClassVar[Mapping[str, str]] = {"also": "formats"}
    model: Annotated[str, BeforeValidator(_file_or_word)] = "pretrain"
    """`pretrain` is this recipe's own; `random` the same network untrained; `imagenet` the same network with its
    published weights, or those of encoder.weights, untrained; a .pth, .pt or .safetensors file the same network with
    the weights in it, untrained; `intensities` the mean of each channel; `features` its mean, spread, percentiles and
    texture, and the nucleus' area and shape; else an earlier pretrain artifact: folder, card file or fingerprint."""
    cells: Literal["split", "segment"] = "split"
    """The chosen cells of the split, or every cell that was found."""
    network: Literal["query", "momentum"] = "query"
    """Which of the two encoders; the second only where an objective has trained it."""
    layer: Literal["pooled", "flattened", "projector"] = "pooled"
    """`pooled` is the trunk's average over the crop, `flattened` its last map in full, `projector` what the trained
    projectors of the objectives make of the average, as the losses compare it: of unit length where they compare
    directions, all spaces side by side for looc (LooC++)."""
    branch: str | None = None
    """Whose projector; those of all branches side by side, in the order of their names, where nothing is given."""
    view: ViewSettings = ()
    """Transforms through which every cell is looked at several times, its vectors averaged; as it is, once, where
    nothing is given."""
    draws: int = Field(8, ge=1)
    """Looks at a cell through `view`."""
    formats: tuple[Literal["csv.gz", "h5ad"], ...] = ()
    """The same table in other formats too; h5ad is AnnData's and needs cellssl[anndata]."""
    batch: int = Field(64, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Cells at a time."""

    def non_default(self) -> dict[str, Any]:
        """A trained model counts by its fingerprint, not by how it was named; what says nothing does not count."""
        counted = super().non_default()
        silent = ["model"] if self.model not in MEASUREMENTS else ["network", "layer", "branch", "view"]
        if self.model in UNTRAINED or self.model.endswith(SUFFIXES):
            silent.append("network")  # both encoders begin alike
        if not self.view or self.model in MEASUREMENTS:
            silent.append("draws")
        return {name: value for name, value in counted.items() if name not in silent}

    def pretrain_variant(self) -> str | Path | None:
        """What this recipe's own network becomes: trained, untrained or with a file of weights; None for others."""
        if self.model.endswith(SUFFIXES):
            return Path(self.model)
        return self.model if self.model in ("pretrain", *UNTRAINED) else None

    @model_validator(mode="after")
    def _only_what_there_is(self) -> Settings:
        if self.layer == "projector" and self.pretrain_variant() not in ("pretrain", None):
            raise ValueError(
                f"model = {self.model!r} is untrained and has no projector; "
                'a baseline\'s arm needs its own embed.layer = "pooled"'
            )
        if self.layer == "projector" and self.network == "momentum":
            raise ValueError('layer = "projector" goes with network = "query", whose projectors are the trained ones')
        if self.branch is not None and self.layer != "projector":
            raise ValueError('branch chooses a projector, so it goes with layer = "projector"')
        return self

    def inputs(self) -> tuple[str, ...]:
        """Cells, and this recipe's own network where it is asked for."""
        return (self.cells, *(("pretrain",) if self.pretrain_variant() else ()))

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """An earlier model, where one is named."""
        if self.pretrain_variant() or self.model in MEASUREMENTS:
            return {}
        return {"model": (self.model, ("pretrain",))}

    def check(self) -> None:
        """Raise UsageError where a format is asked for whose library is not there."""
        if "h5ad" in self.formats and find_spec("anndata") is None:
            raise UsageError("embed.formats = h5ad needs the library anndata", hint='pip install "cellssl[anndata]"')
