"""stage: the name of a stage in, the command that makes it out; all stage commands take the same flags."""

from __future__ import annotations

from collections.abc import Callable

from cellssl.cli import options as o

Command = Callable[..., None]


def stage_command(stage: str, doc: str, example: str) -> Command:
    """A command that makes one stage of one arm and seed, and prints the path of its artifact."""

    def command(
        recipe: o.RecipeArgument,
        store: o.StoreOption = None,
        input: o.InputOption = None,
        output: o.OutputOption = None,
        set: o.SetOption = None,
        plate: o.PlateOption = None,
        arm: o.ArmOption = None,
        seed: o.SeedOption = None,
        device: o.DeviceOption = "auto",
        force: o.ForceOption = False,
        dry_run: o.DryRunOption = False,
        no_wait: o.NoWaitOption = False,
        json: o.JsonOption = False,
        quiet: o.QuietOption = False,
        log_file: o.LogFileOption = None,
        log_format: o.LogFormatOption = "text",
    ) -> None:
        common = o.Common(
            store,
            input,
            output,
            set,
            plate,
            arm,
            seed,
            device,
            force,
            dry_run,
            no_wait,
            json,
            quiet,
            log_file,
            log_format,
        )
        run_stage(stage, recipe, common)

    command.__doc__ = f"{doc}\n\nExample: {example}"
    return command


def run_stage(stage: str, recipe: str, common: o.Common) -> None:
    """Make the stage, and deliver its path; of several processes the first does, and the others assist."""
    from cellssl.cli.work import Worker
    from cellssl.learning.processes import Seat

    worker = Worker.of(recipe, common)
    if not Seat.from_environment().leads:
        worker.assist(stage)
        return
    if common.dry_run:
        worker.announce(worker.stage_states(stage))
        return
    worker.deliver(worker.stage(stage))
