"""fetch: the command `cellssl fetch`, whose dry run also shows what the fetch will cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.stages.fetch.forecast import PlateForecast


@o.flags(*o.FLAGS)
def command(recipe: o.RecipeArgument, common: o.Common, mirror: o.MirrorOption = None) -> None:
    """Fetch the fields of view that a recipe names, plate by plate; --dry-run lists plates, images and bytes.

    Example: cellssl fetch demo --plate Sim1_00001
    """
    from cellssl.cli.stage import run_stage

    common = replace(common, overrides=o.mirrored(recipe, common, mirror))
    if common.dry_run:
        show_forecast(recipe, common)
    else:
        run_stage("fetch", recipe, common)


def show_forecast(recipe: str, common: o.Common) -> None:
    """Show one row per plate: fields, images and bytes; and what does not fit together in images of this machine."""
    from dataclasses import asdict

    from cellssl.cli.check import look, show
    from cellssl.cli.runner import Runner
    from cellssl.pipeline.check import has_own_images, summary_of
    from cellssl.stages.fetch.forecast import forecast

    runner = Runner.of(recipe, common)
    settings = runner.session.recipe.settings("fetch", runner.session.arm)
    plates = forecast(settings, runner.context(), common.plate)
    header = ("plate", "state", "fields", "controls", "images", "missing", "MB to transfer", "MB on disk", "")
    runner.console.table(header, [_row(plate) for plate in plates])
    sums = {name: sum(getattr(plate, name) for plate in plates) for name in ("fields", "images", "to_come", "absent")}
    moved, disk = _sum(plate.moved_bytes for plate in plates), _sum(plate.disk_bytes for plate in plates)
    cost = {**sums, "moved_bytes": moved, "disk_bytes": disk}
    words = f"{len(plates):,} plates, {sums['fields']:,} fields, {sums['images']:,} images, {_mb(moved)} MB to transfer"
    checked = {}
    arms = [runner.session.arm]
    if has_own_images(runner.session.recipe, arms):
        check = look(runner, arms)
        show(runner, check, None)
        checked = {"check": summary_of(check)}
        words += f"; {len(check.errors):,} errors, {len(check.warnings):,} warnings"
    rows = runner.stage_rows("fetch")
    outdated = next((plate.state for plate in plates if plate.state.startswith("outdated")), None)
    if outdated and rows[-1]["state"] != "done":
        rows[-1]["state"] = outdated
    runner.show_plan(rows, words, {"plates": [asdict(plate) for plate in plates], **cost, **checked})


def _row(plate: PlateForecast) -> list[str]:
    remark = "the whole archive: the server does not send parts of files" if plate.whole_archive else ""
    if plate.absent:
        remark = f"{plate.absent:,} images are missing at their source"
    counts = (plate.fields, plate.controls, plate.images, plate.to_come)
    return [
        plate.plate,
        plate.state,
        *(f"{n:,}" for n in counts),
        _mb(plate.moved_bytes),
        _mb(plate.disk_bytes),
        remark,
    ]


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None where one of the numbers is not known."""
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)


def _mb(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.1f}"
