"""doctor: the command `cellssl doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.cli.runner import Runner
    from cellssl.pipeline.doctor import Finding

Recipe = Annotated[
    str | None, typer.Argument(help="Path of a recipe, or the name of a shipped one.", metavar="[RECIPE]")
]
Download = Annotated[bool, typer.Option("--download", help="Download the weights and models that the recipe names.")]


@o.flags("store", "overrides", "device", "no_wait", "json", "quiet")
def command(common: o.Common, recipe: Recipe = None, download: Download = False) -> None:
    """List what this machine has, and what a recipe needs that is missing; exit 2 where anything is missing.

    Example: cellssl doctor bbbc021-nocodazole --download
    """
    from cellssl.cli.runner import Runner, console_for, session_without_recipe
    from cellssl.errors import UsageError
    from cellssl.pipeline import doctor

    if download and recipe is None:
        raise UsageError("--download needs a recipe", hint="cellssl doctor RECIPE --download")
    if recipe:
        runner = Runner.of(recipe, common)
    else:
        console = console_for(common)
        runner = Runner(session_without_recipe(common, console), common, console)
    session = runner.session
    if download:
        download_weights(runner)
    findings = [
        *doctor.machine(common.device),
        *doctor.store(session.store, session.recipe.settings("segment").crop_px),
    ]
    if recipe:
        findings += doctor.recipe(session, _images(runner))
        if not any(finding.missing for finding in findings):
            findings += doctor.costs(session, common.device)
    show(runner, findings)


def _images(runner: Runner) -> list[Finding]:
    """Return what does not fit together in the tables and images of this machine; a fault of a table is one of them."""
    from cellssl.cli.check import look
    from cellssl.errors import DataError, UsageError
    from cellssl.pipeline import doctor
    from cellssl.pipeline.check import has_own_images

    session = runner.session
    try:
        if has_own_images(session.recipe, session.recipe.arm_names()):
            return list(doctor.images(look(runner, session.recipe.arm_names())))
    except (UsageError, DataError) as error:
        return [doctor.Finding("images", error.message, error.hint, missing=True)]
    return []


def download_weights(runner: Runner) -> None:
    """Download every published file that is not there yet, and the newest version of every model of a hub."""
    from cellssl.pipeline.doctor import downloads

    session = runner.session
    for download in downloads(session.recipe, session.store):
        if download.is_model or not download.is_cached(session.store):
            with runner.console.working_on("doctor"):
                runner.run(download.fetch(runner.context()))
            runner.console.say(f"doctor: {download.what} are there now")


def show(runner: Runner, findings: list[Finding]) -> None:
    """Show all findings; UsageError with the first cure where something is missing."""
    from cellssl.errors import UsageError

    missing = [finding for finding in findings if finding.missing]
    if runner.common.json:
        runner.console.result("", {"missing": len(missing), "findings": [asdict(finding) for finding in findings]})
    else:
        rows = [["missing" if each.missing else "", each.subject, each.words] for each in findings]
        runner.console.table(["", "what", "found"], rows, to_stdout=True)
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(f"{missing[0].words}{more}", hint=missing[0].cure)
