"""plates: one plate of fetch or segment in, its part artifact out; what a workflow engine fans out."""

from __future__ import annotations

from collections.abc import Generator

from cellssl.artifacts.store import Artifact
from cellssl.errors import UsageError
from cellssl.events import Event
from cellssl.recipe import Recipe
from cellssl.stages import fetch, segment
from cellssl.stages._make import Bench


def make_plate(
    recipe: Recipe, arm: str, stage: str, plate: str, bench: Bench, given: dict[str, Artifact]
) -> Generator[Event, None, Artifact]:
    """The part of `plate`, found or made; of segment, its fetch part must be there."""
    settings = recipe.settings("fetch", arm)
    if stage == "fetch":
        return (yield from fetch.make_plate(settings, bench, fetch.fields_of(settings, plate)))
    fetched = given.get("fetch") or _fetched(recipe, settings, plate, bench)
    return (yield from segment.make_plate(recipe.settings("segment", arm), bench, fetched))


def _fetched(recipe: Recipe, settings: fetch.Settings, plate: str, bench: Bench) -> Artifact:
    card = fetch.plate_card(settings, bench, fetch.fields_of(settings, plate))
    found = bench.store.find("fetch", card.fingerprint)
    if found is None:
        raise UsageError(f"plate {plate} has not been fetched", hint=f"cellssl fetch {recipe.source} --plate {plate}")
    return found
