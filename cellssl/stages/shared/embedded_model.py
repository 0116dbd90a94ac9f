"""embedded_model: the card of embeddings, planned or finished, in; their model, as text to compare, out."""

from __future__ import annotations

from cellssl.artifacts.card import Card

MODELS_OF_BLOCKS = "models_of_blocks"
"""Key of a card's settings: the model of every block by its name, where vectors have blocks."""


def model_words(embed: Card) -> str:
    """Return the fingerprint of the model, with network, layer, branch and view; of a baseline its name.

    Of vectors with blocks it is that of every block, by name: a card on disk has lost their order, and the metrics of
    the embeddings have it.
    """
    inputs, section = embed.inputs, embed.section
    if blocks := section.get(MODELS_OF_BLOCKS):
        return ", ".join(f"{name}: {model}" for name, model in sorted(blocks.items()))
    trained = inputs.get("model", inputs.get("pretrain"))
    options = [str(section.get("network", "query"))]
    options += [
        str(section[name])
        for name in ("layer", "branch", "view", "step")
        if section.get(name) not in (None, "pooled", [], "lowest")
    ]
    return f"{trained} ({', '.join(options)})" if trained else str(section.get("model"))
