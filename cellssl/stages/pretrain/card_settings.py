"""card_settings: the card of a training in, the settings that it was made with out."""

from __future__ import annotations

from pydantic import ValidationError

from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.config.settings import FROM_CARD, first_fault
from cellssl.stages.pretrain.settings import Settings


def pretrain_settings(model: Artifact, *names: str) -> Settings:
    """Return the settings model of pretrain with the given settings of a card.

    Raises IntegrityError where they are not settings of a training.
    """
    used = {name: model.card.section[name] for name in names if name in model.card.section}
    try:
        return Settings.model_validate(used, context={FROM_CARD: True})
    except ValidationError as error:
        fault = first_fault(error)
        where = ".".join(map(str, ("section", *fault.path)))
        raise not_as_written(model, "artifact.json", f"{where}: {fault.message}") from error
