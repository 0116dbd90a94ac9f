"""earlier: an earlier clustering and embeddings in; UsageError out where they come from other models or scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.contents import input_of
from cellssl.errors import UsageError
from cellssl.stages.shared.card_shapes import embed_section
from cellssl.stages.shared.embedded_model import MODELS_OF_BLOCKS, model_words
from cellssl.stages.shared.preparation import Preparation, differences, of_section

if TYPE_CHECKING:
    from cellssl.artifacts.card import Card
    from cellssl.artifacts.store import Artifact, Store


def check_same_model(earlier: Artifact, embed: Card, store: Store) -> None:
    """Raise UsageError where the embeddings come from another model: equal dimensions do not mean equal features.

    `embed` is the card of the embeddings that are to be assigned, planned or finished.
    """
    then = _embeddings_of(earlier, store).card
    here, there = model_words(embed), model_words(then)
    if here != there:
        raise UsageError(
            f"the earlier clustering used embeddings of the model {there}, these embeddings come from {here}",
            hint="embed the cells with the same blocks, of the same models and with the same networks"
            if MODELS_OF_BLOCKS in then.section
            else f"embed the cells with [embed] model = {there.partition(' ')[0]!r}, and the same network",
        )


def check_same_scale(earlier: Artifact, embed: Artifact, store: Store) -> None:
    """Raise UsageError, with the settings to write, where the cells of the two were scaled otherwise, or of a block.

    A trained model was compared with its cells when they were embedded; a baseline takes the cells of any scale.
    """
    expected, here = _scales_of(_embeddings_of(earlier, store), store), _scales_of(embed, store)
    for block in [block for block in expected if block in here]:
        if found := differences(expected[block], here[block]):
            which = f" in the block {block!r}" if block else ""
            raise UsageError(
                f"the earlier clustering {earlier.path} used{which} {'; '.join(found)}",
                hint="; ".join(dict.fromkeys(found.values())) + (", for the cells of that block" if block else ""),
            )


def _embeddings_of(earlier: Artifact, store: Store) -> Artifact:
    return store.with_store_of(earlier).get("embed", input_of(earlier, "embed"))


def _scales_of(embed: Artifact, store: Store) -> dict[str, Preparation]:
    """Return how the intensities of embedded cells were scaled, and those of every block, by its name."""
    around = store.with_store_of(embed)
    found = {"": _scale_of(embed, around)}
    for name, fingerprint in embed.card.inputs.items():
        block, _, stage = name.rpartition("/")
        if stage == "embed" and block and (made := around.find("embed", fingerprint)):
            found[block] = _scale_of(made, around.with_store_of(made))
    return found


def _scale_of(embed: Artifact, store: Store) -> Preparation:
    """Return how the intensities of embedded cells were scaled; nothing where their artifacts are not there."""
    kind = embed_section(embed).cells
    cells = store.find(kind, input_of(embed, kind))
    segment = store.find("segment", input_of(cells, "segment")) if cells and kind == "split" else cells
    if segment is None:
        return {}
    return of_section(segment.card.section, segment.card.algorithm, finished_crops=True)
