"""stage: the name of a stage in, the command that makes it out; all stage commands take the same flags."""

from __future__ import annotations

from cellssl.cli import options as o


def stage_command(stage: str, doc: str, example: str) -> o.Command:
    """Return a command that makes one stage of one arm and seed, and prints the path of its artifact."""

    @o.flags(*o.FLAGS)
    def command(recipe: o.RecipeArgument, common: o.Common) -> None:
        run_stage(stage, recipe, common)

    command.__doc__ = f"{doc}\n\nExample: {example}"
    return command


def run_stage(stage: str, recipe: str, common: o.Common) -> None:
    """Make the stage and print its path; of several processes the main one does, and the others assist."""
    from cellssl.cli.runner import Runner
    from cellssl.pipeline.check import check_plate_controls, hits_remarks
    from cellssl.pipeline.plates import plan_plate
    from cellssl.rank import Rank

    runner = Runner.of(recipe, common)
    if not Rank.from_environment().is_main:
        runner.assist(stage)
        return
    if common.dry_run:
        session = runner.session.with_inputs(stage)
        searching = {session.arm: {stage}} if stage == "hits" else {}
        runner.run(check_plate_controls(session, runner.context(), searching))
        remarks = runner.run(hits_remarks(session, runner.context(), searching))
        rows = runner.stage_rows(stage)
        runner.show_plan(rows, only_last=True, warnings=[remark.in_words() for remark in remarks])
        return
    runner.download_models(stage)
    if stage == "fetch":
        from cellssl.cli.check import check_before_work

        check_before_work(runner, [runner.session.arm])
    runner.session = runner.session.with_inputs(stage)
    if common.plate is None:
        wanted = [one for one in runner.session.plan_stage(stage) if one.stage == stage]  # blocks, and what joins them
        made = [runner.find_or_make(one) for one in wanted]
        runner.write_output(made[-1])
    else:
        runner.write_output(runner.make_plate(plan_plate(runner.session, stage, common.plate)))
