"""block_settings: one item of embed.blocks in; a model, an arm or an artifact with its options, validated, out.

Which of the three a plain word means depends on the arms of the recipe: `pipeline/blocks.py` decides it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationInfo, model_validator

from cellssl.artifacts.card import NAME as CARD
from cellssl.artifacts.hub_names import hub_name, is_hub_name
from cellssl.config.paths import NAME, FolderName, InputPath
from cellssl.config.settings import CHANGES, SettingsModel
from cellssl.learning.view import ViewSettings
from cellssl.stages.pretrain.initial_weights import names_weights_file

MEASUREMENTS = ("intensities", "features", "cellprofiler", "neighbours")
"""Models without a network: measurements of pixels, or of where the nuclei lie."""


UNTRAINED = ("random", "imagenet")
"""Models that are this recipe's network without its training."""


BASELINES = (*UNTRAINED, *MEASUREMENTS)

WORDS = ("pretrain", *BASELINES)
"""The models that have a name."""
NOT_A_BLOCK = ("Metadata_", "Nuclei_", "Cells_", "Cytoplasm_")
"""How the names of other columns of the table of embeddings begin."""


def file_or_word(given: Any, info: ValidationInfo) -> Any:
    """Return a weights file as an absolute path, and anything else as it is; ValueError for no name on a hub."""
    if is_hub_name(given):
        return str(hub_name(given))
    if not isinstance(given, str) or not names_weights_file(given):
        return given
    return str(TypeAdapter(InputPath).validate_python(given, context=info.context))


Model = Annotated[str, BeforeValidator(file_or_word)]


class BlockSettings(SettingsModel):
    """One model of several side by side: a word such as "features", or a table with a name and options."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependencies": {
                "of": {"properties": {"model": False, "arm": False}},
                "arm": {"properties": {"model": False}},
            },
        }
    )
    of: Model | None = None
    """What a plain word in the list says: a model, another arm of the recipe, or an earlier artifact."""
    name: FolderName | None = None
    """The name of the block, which begins the names of its columns; by default the model, the arm or the artifact."""
    model: Model | None = None
    """The model, as in embed.model; or an earlier embed artifact with the same cells. Relative paths start as there."""
    arm: str | None = None
    """Another arm of the recipe, whose network or measurements make the block."""
    weight: float = Field(1.0, gt=0)
    """Share of the block in the squared length of a vector, relative to the weights of the other blocks."""
    encoder: dict[str, Any] | str | None = Field(None, json_schema_extra={CHANGES: "cellssl.learning.encoders"})
    """Another network than that of pretrain.encoder, for `imagenet`, `random` or a file of weights."""
    input_px: int | None = Field(None, ge=8)
    """Side of the input of that network in px, in place of pretrain.input_px."""
    network: Literal["query", "momentum"] | None = None
    """As in [embed], whose value is the default; of an arm, that of the arm."""
    step: Literal["lowest", "last"] | None = None
    """As in [embed], whose value is the default."""
    layer: Literal["pooled", "flattened", "projector"] | None = None
    """As in [embed], whose value is the default; networks without training have no projector and are pooled."""
    branch: str | None = None
    """As in [embed], whose value is the default."""
    view: ViewSettings | None = None
    """As in [embed], whose value is the default."""
    draws: int | None = Field(None, ge=1)
    """As in [embed], whose value is the default."""

    @model_validator(mode="after")
    def _check_source(self) -> BlockSettings:
        given = [name for name in ("of", "model", "arm") if getattr(self, name) is not None]
        if len(given) > 1 and given != ["model", "arm"]:
            raise ValueError(f"{' and '.join(given)} both say what the block is; leave one of them out")
        if given == ["model", "arm"]:
            raise ValueError(
                "model and arm both say what the block is; leave one of them out: an arm has a model of its own"
            )
        if self.name is None and not given:
            raise ValueError("a block needs a model, an arm, or a name")
        name = self.called()
        if not NAME.fullmatch(name) or name.startswith(NOT_A_BLOCK):
            raise ValueError(
                f"a block cannot be called {name!r}; give it a name of letters, digits, '.', '_', '+' and '-', such as "
                f'{{ name = "earlier", {"arm" if self.arm else "model"} = "{self.source()}" }}'
            )
        return self

    @model_validator(mode="after")
    def _check_network(self) -> BlockSettings:
        own = [name for name in ("encoder", "input_px") if getattr(self, name) is not None]
        source = self.source()
        if own and (self.arm is not None or not (source in UNTRAINED or names_weights_file(source))):
            raise ValueError(
                f"{own[0]} goes with model = {', '.join(map(repr, UNTRAINED))} or a file of weights; to train another "
                "network, or to embed with one, make an arm with that pretrain.encoder, and name the arm here"
            )
        if source in MEASUREMENTS and self.arm is None and self.options():
            raise ValueError(f"{next(iter(self.options()))} has no effect on {source!r}, which has no network")
        return self

    def source(self) -> str:
        """Return the model, the arm or the artifact; the trained network of the own arm where none is given."""
        return self.of or self.arm or self.model or "pretrain"

    def called(self) -> str:
        """Return the name of the block."""
        if self.name is not None:
            return self.name
        source = self.source()
        if is_hub_name(source):
            return hub_name(source).name
        path = Path(source)
        if names_weights_file(source) or (path.suffix == ".json" and path.name != CARD):
            return path.stem
        return path.parent.name if path.name == CARD else path.name

    def options(self) -> dict[str, Any]:
        """Return the settings of [embed] that the block gives itself."""
        names = ("network", "step", "layer", "branch", "view", "draws")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def is_own_network(self) -> bool:
        """Return whether the block is the network that the arm itself trains."""
        return self.arm is None and self.source() == "pretrain"


def _word_or_table(given: Any) -> Any:
    return {"of": given} if isinstance(given, str) else given


BlockField = Annotated[BlockSettings, BeforeValidator(_word_or_table, json_schema_input_type=str | BlockSettings)]
"""A word, or a table."""
