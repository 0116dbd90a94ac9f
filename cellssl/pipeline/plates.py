"""plates: one plate of fetch or segment in, the plan of its part artifact out; so that one job can run per plate."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cellssl.artifacts.card import Card
from cellssl.artifacts.contents import section_of
from cellssl.artifacts.store import Artifact
from cellssl.config.recipe import Recipe
from cellssl.config.settings import SettingsModel
from cellssl.datasets.base import Field
from cellssl.engine import plate_parts
from cellssl.engine.build import RunContext
from cellssl.engine.cards import find_planned
from cellssl.errors import UsageError
from cellssl.events import Event
from cellssl.pipeline.session import PLATE_STAGES, Session
from cellssl.stages.fetch import stage as fetch
from cellssl.stages.segment import stage as segment
from cellssl.stages.shared.card_shapes import PlateSection


@dataclass(frozen=True)
class PlatePlan:
    """The planned part of one plate: its card, and the fields or the fetch part that it is made from."""

    stage: str
    plate: str
    card: Card
    settings: Any
    counted: SettingsModel
    """The settings in the card, which a finished part must have."""
    made_of: list[Field] | Artifact = field(repr=False)

    @property
    def pointer(self) -> str:
        """The name of its pointer, which keeps it from gc until it is gathered; a plate may have any name."""
        return f"{self.stage}-{quote(self.plate, safe=' ')}"

    def make(self, context: RunContext) -> Generator[Event, None, Artifact]:
        """Find or make the part."""
        if isinstance(self.made_of, Artifact):
            return (yield from segment.make_plate(self.settings, context, self.made_of))
        return (yield from fetch.make_plate(self.settings, context, self.made_of))


def plan_plate(session: Session, stage: str, plate: str) -> PlatePlan:
    """Plan the part of one plate; for segment, its fetch part must be there.

    Raises UsageError for a stage that is not made plate by plate, and for a plate that does not exist.
    """
    if stage not in PLATE_STAGES:
        raise UsageError(f"{stage} is not made plate by plate", hint=f"--plate goes with {' and '.join(PLATE_STAGES)}")
    settings, context = session.recipe.settings(stage, session.arm), session.context()
    planner = session.planner(session.arm, session.seeds()[0])
    planner.earlier_models.check_settings()
    if stage == "fetch":
        fields = fetch.fields_of(settings, plate, context)
        return PlatePlan(
            stage, plate, fetch.plate_card(settings, context, fields), settings, fetch.plate_settings(settings), fields
        )
    given = session.given.get("fetch")
    fetched = _part_of(given, plate, context) if given else _fetched(session, plate, context)
    planner.earlier_models.check_fetched(fetched)
    return PlatePlan(
        stage, plate, segment.plate_card(settings, context, fetched), settings, settings.of_plate(), fetched
    )


def plate_rows(session: Session, gathering: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per plate's part of the stages in `gathering` (rows of fetch and segment), in the same form.

    The fingerprint is None where it depends on label images, which are looked for when the plate has been fetched.
    """
    context = session.context()
    return [
        {
            "stage": row["stage"],
            "arm": row["arm"],
            "plate": plate,
            "fingerprint": card and card.fingerprint,
            "inputs": {} if row["stage"] == "fetch" else {"fetch": fetched.fingerprint},
            "state": row["state"] if card is None else session.state(card, settings),
        }
        for row in gathering
        for plate, fetched, card, settings in _parts(session.recipe, row["arm"], row["stage"], context)
    ]


def _parts(
    recipe: Recipe, arm: str, stage: str, context: RunContext
) -> Iterator[tuple[str, Card, Card | None, SettingsModel]]:
    """Yield the plate, the card of its fetch part, the card of its part of `stage` or None, and the settings in it."""
    fetching, segmenting = recipe.settings("fetch", arm), recipe.settings("segment", arm)
    foreseen = not segmenting.method.reads_label_images
    for plate, fields in fetch.planned_plates(fetching, context).items():
        fetched = fetch.plate_card(fetching, context, fields)
        if stage == "fetch":
            yield plate, fetched, fetched, fetch.plate_settings(fetching)
        else:
            there = Artifact(context.store.root / "fetch" / fetched.fingerprint, fetched)  # is there, or will be
            card = segment.plate_card(segmenting, context, there) if foreseen else None
            yield plate, fetched, card, segmenting.of_plate()


def _part_of(fetched: Artifact, plate: str, context: RunContext) -> Artifact:
    """Return the part of one plate: the given artifact itself, or one that it gathers."""
    if "plate" in fetched.card.section:
        parts = {section_of(fetched, PlateSection).plate: fetched.fingerprint}
    else:
        parts = dict(plate_parts.parts_of(fetched))
    if plate not in parts:
        raise UsageError(f"{fetched.path} has no plate {plate!r}", hint=f"it has: {', '.join(parts)}")
    return context.store.with_store_of(fetched).get("fetch", parts[plate])


def _fetched(session: Session, plate: str, context: RunContext) -> Artifact:
    settings = session.recipe.settings("fetch", session.arm)
    card = fetch.plate_card(settings, context, fetch.fields_of(settings, plate, context))
    found = find_planned(context.store, card, fetch.plate_settings(settings))
    if found is None:
        raise UsageError(
            f"plate {plate} has not been fetched",
            hint=f"cellssl fetch {session.command_line()} --plate {shlex.quote(plate)}",
        )
    return found
