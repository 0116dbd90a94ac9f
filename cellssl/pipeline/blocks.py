"""blocks: an arm whose vectors join several models in; what makes every block, and the sections that make it, out.

A block that no arm of the recipe makes as it is gets sections of its own, called ARM@BLOCK: `--arm`, `status`, pointers
and workflow engines name it so. No report shows it as an arm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import FINGERPRINT
from cellssl.artifacts.hub_names import NotDownloadedError, is_hub_name
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.plugins import did_you_mean
from cellssl.config.recipe import Recipe, overlay
from cellssl.errors import UsageError
from cellssl.pipeline.effective import effective_settings
from cellssl.stages.embed.block_settings import MEASUREMENTS, UNTRAINED, WORDS, BlockSettings
from cellssl.stages.embed.neighbours import NEEDED
from cellssl.stages.pretrain.initial_weights import names_weights_file
from cellssl.stages.shared.card_shapes import embed_blocks

SEPARATOR = "@"
"""Between the name of an arm and that of a block; no arm of a recipe has it in its name."""
KINDS = ("pretrain", "embed")
"""The kinds of earlier artifacts that a block may name."""
OF_TABLE = ("formats", "cells", "cells_per_well")
"""Settings of embed that choose the rows and forms of the table, and not the vectors."""
OF_NETWORKS = ("network", "step", "layer", "branch", "view", "draws")


@dataclass(frozen=True)
class BlockSource:
    """What makes one block."""

    block: BlockSettings
    arm: str
    """The arm that embeds it: another arm of the recipe, or ARM@BLOCK."""
    base: str
    """The arm of the recipe whose cells and network it has, as far as its own sections do not differ."""
    reference: str | None = None
    """An earlier artifact, of pretrain or embed."""

    @property
    def name(self) -> str:
        """The name of the block."""
        return self.block.called()


def sources(recipe: Recipe, arm: str) -> list[BlockSource]:
    """Return what makes every block of an arm; none where its vectors have no blocks.

    Raises UsageError where a block names nothing that there is, or two things, or has an option without effect.
    """
    found = [_source(recipe, arm, block) for block in recipe.settings("embed", arm).blocks]
    for source in found:
        _check_options(recipe, arm, source)
    return found


def with_block_arms(recipe: Recipe, arm: str) -> Recipe:
    """Return the recipe with the sections of every block of an arm."""
    own = {one.arm: _sections(recipe, one) for one in sources(recipe, arm) if SEPARATOR in one.arm}
    return replace(recipe, blocks={**recipe.blocks, **own}) if own else recipe


def with_named_block(recipe: Recipe, arm: str | None) -> Recipe:
    """Return the recipe in which an arm can be asked for that is called ARM@BLOCK; others are there already."""
    of_arm, is_block, _ = (arm or "").partition(SEPARATOR)
    return with_block_arms(recipe, of_arm) if is_block else recipe


def resolve(source: BlockSource, store: Store) -> Artifact | None:
    """Return the earlier artifact that a block names, None where it names none.

    Raises UsageError where there is no such artifact, or where it is of embed and made of blocks itself, or would have
    to be embedded in another way.
    """
    if source.reference is None:
        return None
    found = store.resolve(source.reference, KINDS)
    if found.card.kind == "embed" and embed_blocks(found):
        raise UsageError(
            f"embed.blocks: {found.path} joins blocks itself", hint="name the artifacts of its blocks, one by one"
        )
    if found.card.kind == "embed" and (options := source.block.options()):
        raise UsageError(
            f"embed.blocks: {next(iter(options))} has no effect on the block {source.name!r}, whose vectors are there: "
            f"{found.path}",
            hint="leave it out, or name the pretrain artifact of its model, which embeds the cells as the block says",
        )
    return found


def check_measurable(recipe: Recipe, arm: str) -> None:
    """Raise UsageError where an arm measures the surroundings of cells that came as crops without them."""
    settings, dataset = recipe.settings("embed", arm), recipe.settings("fetch", arm).dataset
    if settings.model != "neighbours" or settings.blocks or not dataset.gives_crops:
        return
    if missing := [name for name in NEEDED if name not in getattr(dataset, "keep", ())]:
        raise UsageError(
            f'embed.model = "neighbours" needs the column {missing[0]} of every cell, and the data set '
            f"{dataset.plugin_name()} gives finished crops",
            hint="leave it out; or, where the table of a crop_stack has these columns, write fetch.dataset.keep = "
            f"[{', '.join(map(repr, NEEDED))}]".replace("'", '"'),
        )


def check_blocks(recipe: Recipe, arm: str, store: Store) -> None:
    """Raise UsageError for a block that cannot be made: an unknown word, a missing file, library or artifact."""
    planned = with_block_arms(recipe, arm)
    for source in sources(planned, arm):
        earlier = None
        with suppress(NotDownloadedError):  # the plan says so
            earlier = resolve(source, store)
        if earlier is not None and earlier.card.kind == "embed":
            continue
        check_measurable(planned, source.arm)
        for stage in ("pretrain", "embed"):
            if stage == "embed" or "pretrain" in planned.settings("embed", source.arm).inputs():
                settings = effective_settings(planned, stage, source.arm)
                settings.check()
                settings.external_files()


def _source(recipe: Recipe, arm: str, block: BlockSettings) -> BlockSource:
    own, arms = f"{arm}{SEPARATOR}{block.called()}", [name for name in _arms(recipe) if name != arm]
    if block.arm is not None or (block.of in arms and block.of not in WORDS):
        other = block.source()
        _check_other(recipe, arm, other)
        return BlockSource(block, own if block.options() else other, other)
    word = block.source()
    if word in WORDS or names_weights_file(word):
        found = BlockSource(block, own, arm)
        if block.of in arms and not _mean_the_same(recipe, found, word):
            raise UsageError(
                f"{recipe.source}, [embed] of arm {arm!r}: the block {word!r} may be the model or the arm of that name",
                hint=f'write {{ name = "{word}", model = "{word}" }} or {{ name = "{word}", arm = "{word}" }}',
            )
        return found
    if not FINGERPRINT.fullmatch(word) and not is_hub_name(word) and not Path(word).exists():
        known = (*WORDS, *arms) if block.model is None else WORDS
        raise UsageError(
            f"{recipe.source}, [embed] of arm {arm!r}: the block {word!r} is no model, no arm of the recipe and no "
            "artifact",
            hint=did_you_mean(word, known),
        )
    return BlockSource(block, own, arm, reference=word)


def _check_options(recipe: Recipe, arm: str, source: BlockSource) -> None:
    """Raise UsageError for an option of a block that has no effect on its model, of which the arm alone may know."""
    if not (options := source.block.options()):
        return
    extended = replace(recipe, blocks={**recipe.blocks, source.arm: _sections(recipe, source)})
    settings = extended.settings("embed", source.arm)
    if without := [name for name in options if name in settings.silent()]:
        why = "no transforms of views are drawn"
        if settings.model in MEASUREMENTS:
            why = f"{settings.model!r} has no network"
        elif without[0] != "draws":
            why = f"the network of {settings.model!r} is not trained"
        raise UsageError(
            f"{recipe.source}, [embed] of arm {arm!r}: {without[0]} has no effect on the block {source.name!r}: {why}",
            hint=f"leave {without[0]} out",
        )


def _arms(recipe: Recipe) -> tuple[str, ...]:
    return (recipe.main_arm, *recipe.arms)


def _check_other(recipe: Recipe, arm: str, other: str) -> None:
    """Raise UsageError where an arm cannot be a block of another one."""
    where = f"{recipe.source}, [embed] of arm {arm!r}"
    if other == arm:
        raise UsageError(
            f"{where}: a block cannot be the arm itself", hint='write "pretrain" for the network that this arm trains'
        )
    if other not in _arms(recipe):
        raise UsageError(f"{where}: there is no arm {other!r} to be a block", hint=did_you_mean(other, _arms(recipe)))
    if recipe.settings("embed", other).blocks:
        raise UsageError(
            f"{where}: the arm {other!r} joins blocks itself",
            hint=f"name those blocks here, or set embed.blocks = [] in the arm {other!r}",
        )


def _mean_the_same(recipe: Recipe, source: BlockSource, other: str) -> bool:
    """Return whether the arm of the same name as a model gives the same vectors as that model does here."""
    extended = replace(recipe, blocks={**recipe.blocks, source.arm: _sections(recipe, source)})
    return list(_what_counts(extended, source.arm)) == list(_what_counts(extended, other))


def _what_counts(recipe: Recipe, arm: str) -> Iterator[Any]:
    """Yield what counts of the vectors of an arm, cell by cell; which cells have vectors does not."""
    embed = recipe.settings("embed", arm)
    own = {name: value for name, value in embed.fingerprint_values().items() if name not in OF_TABLE}
    yield own, embed.artifact_references()
    stages = ("fetch", "segment", *(("split", "pretrain") if "pretrain" in embed.inputs() else ()))
    for settings in (effective_settings(recipe, stage, arm) for stage in stages):
        yield settings.fingerprint_values(), sorted(settings.external_files().values())


def _sections(recipe: Recipe, source: BlockSource) -> dict[str, Any]:
    """Return the sections that make a block: those of its arm with another model, network or layer."""
    sections, block = recipe.merged(source.base), source.block
    embed = {name: value for name, value in sections.get("embed", {}).items() if name not in ("blocks", "formats")}
    if source.base == source.arm.partition(SEPARATOR)[0]:
        embed["model"] = block.source()
    embed = {**_defaults(embed, block.options()), **block.options()}
    made = {**sections, "embed": embed}
    own = {name: getattr(block, name) for name in ("encoder", "input_px") if getattr(block, name) is not None}
    if own:
        made["pretrain"] = _with_network(sections.get("pretrain", {}), own)
    return made


def _defaults(embed: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return a section without the settings of networks that the model cannot have, or that the block's own exclude."""
    model = embed.get("model", "pretrain")
    left_out: tuple[str, ...] = ()
    if model in MEASUREMENTS:
        left_out = OF_NETWORKS
    elif model in UNTRAINED or names_weights_file(model):
        left_out = ("network", "step", "branch", *(["layer"] if embed.get("layer") == "projector" else []))
    elif given.get("layer", "projector") != "projector":
        left_out = ("branch",)
    return {name: value for name, value in embed.items() if name not in left_out}


def _with_network(pretrain: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a section with another network; a table without a name changes settings of the one that is there."""
    encoder = own.get("encoder")
    if isinstance(encoder, dict) and "name" not in encoder:
        return overlay(pretrain, own)
    return {**pretrain, **own}
