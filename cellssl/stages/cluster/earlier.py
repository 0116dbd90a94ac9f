"""earlier: an earlier clustering and a card of embeddings in; UsageError out where they come from different models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.contents import input_of
from cellssl.errors import UsageError

if TYPE_CHECKING:
    from cellssl.artifacts.card import Card
    from cellssl.artifacts.store import Artifact, Store


def check_same_model(earlier: Artifact, embed: Card, store: Store) -> None:
    """Raise UsageError where the embeddings come from another model: equal dimensions do not mean equal features.

    `embed` is the card of the embeddings that are to be assigned, planned or finished.
    """
    below = store.with_store_of(earlier).get("embed", input_of(earlier, "embed"))
    here, there = _model_of(embed), _model_of(below.card)
    if here != there:
        raise UsageError(
            f"the earlier clustering used embeddings of the model {there}, these embeddings come from {here}",
            hint=f"embed the cells with [embed] model = {there.partition(' ')[0]!r}, and the same network",
        )


def _model_of(embed: Card) -> str:
    """Return the fingerprint of the model, with network, layer, branch and view; of a baseline its name."""
    inputs, section = embed.inputs, embed.section
    trained = inputs.get("model", inputs.get("pretrain"))
    options = [str(section.get("network", "query"))]
    options += [
        str(section[name])
        for name in ("layer", "branch", "view", "step")
        if section.get(name) not in (None, "pooled", [], "lowest")
    ]
    return f"{trained} ({', '.join(options)})" if trained else str(section.get("model"))
