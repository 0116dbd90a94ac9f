"""check: the command `cellssl check`, and the same check as `run` and `fetch` make it before their work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args
from urllib.parse import quote

import typer

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.cli.runner import Runner
    from cellssl.errors import DataError
    from cellssl.stages.fetch.findings import Check

ListOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="Where the list of all findings is written [default: checks/ in the store].",
        metavar="FILE.csv",
    ),
]


@o.flags("store", "overrides", "plate", "arm", "force", "json", "quiet", "log_file", "log_format")
def command(recipe: o.RecipeArgument, common: o.Common, output: ListOption = None) -> None:
    """List everything that does not fit together in tables, image headers and recipe, before any work.

    Prints the path of the list, a CSV; exit 3 where something must be mended first. --force reads all headers again.

    Example: cellssl check own-plates
    """
    from cellssl.cli.runner import Runner
    from cellssl.errors import FailedError
    from cellssl.pipeline.check import check_plate_controls, hits_remarks, summary_of, wanted_of

    runner = Runner.of(recipe, common)
    check = look(runner, runner.session.arms())
    place = _list_of(runner) if output is None else output
    try:
        write_list(check, place)
        listed, error = place, None
    except OSError as caught:  # what was found is shown first
        listed, error = None, caught
    show(runner, check, listed)
    wanted = wanted_of(runner.session)
    design = runner.run(hits_remarks(runner.session, runner.context(), wanted))
    for remark in design:
        runner.console.say(remark.in_words())
    if common.json:
        counts = {**summary_of(check), "hits": [remark.in_words() for remark in design]}
        findings = [asdict(one) for one in check.findings]
        runner.console.result("", {**counts, "list": listed and str(listed), "findings": findings})
    if check.errors:
        raise _error(check, listed)
    runner.run(check_plate_controls(runner.session, runner.context(), wanted))
    if error is not None:
        raise FailedError(
            f"the list {place} cannot be written: {error.strerror}", hint="give another place with --output"
        ) from error
    if not common.json:
        runner.console.result(str(listed), {})


def check_before_work(runner: Runner, arms: Sequence[str]) -> None:
    """Check the images of this machine before anything is made of them; a data set that is downloaded has none.

    What is found is shown. Plates with errors are refused, and the others can be made: DataError where there is no
    other.
    """
    from cellssl.pipeline.check import has_own_images, is_fetched

    session = runner.session
    if (not runner.common.force and is_fetched(session, arms)) or not has_own_images(session.recipe, arms):
        return
    check, place = look(runner, arms), _list_of(runner)
    listed: Path | None = place
    try:
        if check.findings or place.is_file():
            write_list(check, place)
    except OSError:  # the store cannot be written: making the first artifact says so
        listed = None
    show(runner, check, listed, briefly=check.is_recalled and not check.errors)
    if len(check.bad_plates) == check.plates:
        raise _error(check, listed)
    runner.refused = check.bad_plates


def look(runner: Runner, arms: Sequence[str]) -> Check:
    """Check these arms of the recipe and show how far it is."""
    from cellssl.pipeline.check import check_recipe

    with runner.console.working_on("check"):
        return runner.run(check_recipe(runner.session, runner.context(), arms))


def write_list(check: Check, listed: Path) -> None:
    """Write all findings as CSV."""
    from cellssl.stages.fetch.findings import write_findings

    listed.parent.mkdir(parents=True, exist_ok=True)
    write_findings(check.findings, listed)


def show(runner: Runner, check: Check, listed: Path | None, *, briefly: bool = False) -> None:
    """Show the first findings of every kind, or only how many there are."""
    from cellssl.stages.fetch.findings import NAMED, Severity, kinds_of

    console = runner.console
    if briefly and not check.findings:
        return
    where = f"; all are listed in {listed}" if listed is not None and check.findings else ""
    counted = f"errors: {len(check.errors):,}, warnings: {len(check.warnings):,}"
    console.say(f"check: fields: {check.fields:,}, image files of this machine: {check.files:,}, {counted}{where}")
    if briefly or not check.findings:
        return
    for severity in get_args(Severity):
        findings = check.of(severity)
        for kind, count in kinds_of(findings).items():
            those = [one for one in findings if one.kind == kind]
            for one in those[:NAMED]:
                console.say(f"  {severity}: {kind}: {one}")
            if count > NAMED:
                console.say(f"  {severity}: {kind}: {count - NAMED:,} more")


def _list_of(runner: Runner) -> Path:
    """Return where the list of a recipe is written; that of a single plate has a file of its own."""
    from cellssl.stages.fetch.remembered import FOLDER

    session = runner.session
    plate = "" if session.selection.plate is None else f"-{quote(session.selection.plate, safe=' ')}"
    return session.store.root / FOLDER / f"{session.recipe.name}{plate}.csv"


def _error(check: Check, listed: Path | None) -> DataError:
    from cellssl.errors import DataError
    from cellssl.stages.fetch.findings import BREAKS_FETCH, NO_RANGE, NOT_CHOSEN, sentence_of, way_out

    first = check.errors[0]
    stage = "fetch" if any(one.kind in BREAKS_FETCH for one in check.errors) else "segment"
    cure = first.cure or "repair them"
    if first.kind not in (NOT_CHOSEN, NO_RANGE):  # all images need that line, however many may fail
        cure = way_out(check.bad_plates, check.plates, cure, f"{stage}.max_failures")
    where = "" if listed is None else f"; all are listed in {listed}"
    return DataError(sentence_of(check.bad_plates, check.plates), hint=f"{cure}{where}")
