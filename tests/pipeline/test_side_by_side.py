"""side_by_side: what can begin, in the order of the plan, and how much of it at once."""

from dataclasses import replace
from typing import Any

import pytest
from chain import Chain

from cellssl.artifacts.card import Card
from cellssl.cli.options import jobs_of
from cellssl.errors import UsageError
from cellssl.pipeline.needs import ALONE, Needs, needs_of
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.session import Session
from cellssl.pipeline.side_by_side import Running, Schedule, SideBySide, are_worth_processes


def planned(stage: str, name: str, *upstream: Planned) -> Planned:
    """A stage of this fingerprint that stands on others."""
    card = Card(stage, 1, name, {}, {}, {}, files={})
    return Planned(stage, "recipe", "main", 0, None, {}, card, upstream={one.stage: one for one in upstream})


SPLIT = planned("split", "s")
FIRST, SECOND = (planned("pretrain", name, SPLIT) for name in ("a", "b"))
PLAN = [SPLIT, FIRST, planned("embed", "c", FIRST), SPLIT, SECOND, planned("embed", "d", SECOND)]


def test_stages_begin_when_all_that_they_stand_on_is_there_and_a_shared_one_is_made_once() -> None:
    schedule, order = Schedule(PLAN), []
    while schedule:
        ready = [number for number, _ in schedule.ready()]
        order.append(ready)
        for number in ready:
            schedule.begin(number)
        for number in ready:
            schedule.finish(number)
    assert order == [[0], [1, 3, 4], [2, 5]]


def test_one_after_another_is_the_order_of_the_plan() -> None:
    schedule, order = Schedule(PLAN), []
    while schedule:
        number, _ = schedule.ready()[0]
        order.append(number)
        schedule.begin(number)
        schedule.finish(number)
    assert order == list(range(len(PLAN)))


def running(needs: Needs) -> Running:
    process: Any = None
    return Running(0, SPLIT, needs, process)


@pytest.mark.parametrize(
    ("needs", "fits"),
    [(Needs(1, 1000), True), (Needs(2, 1000), False), (Needs(1, 9000), False)],
    ids=["fits", "too many threads", "too much memory"],
)
def test_no_more_is_made_at_once_than_cores_and_memory_hold(needs: Needs, *, fits: bool) -> None:
    at_once = SideBySide(jobs=4, cores=2, memory_mb=9000)
    assert at_once.has_room(needs), "a single stage always begins"
    at_once.running.append(running(Needs(1, 2000)))
    assert at_once.has_room(needs) == fits
    assert not replace(at_once, jobs=1).has_room(needs)


def test_processes_are_used_where_they_save_more_than_their_start_takes() -> None:
    long, short = Needs(1, seconds=60), Needs(1, seconds=1)
    assert are_worth_processes([long, long]) and not are_worth_processes([long]) and not are_worth_processes([])
    assert not are_worth_processes([long, short]) and not are_worth_processes([short] * 6)


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5"])
def test_a_number_of_jobs_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number of jobs"):
        jobs_of(text)
    assert (jobs_of("auto"), jobs_of("3")) == (None, 3)


def needs(chain: Chain, stage: str, arm: str = "main", threads: int | None = None, **pretrain: Any) -> Needs:
    """The needs of a stage of the tiny chain, whose cells are all there."""
    from cellssl.config import recipe

    overrides = [f"pretrain.{name}={value}" for name, value in pretrain.items()]
    session = Session(recipe.load(str(chain.recipe), overrides, None), chain.store)
    return needs_of(session.planner(arm, 0).plan(stage), chain.store, "cpu", threads)


def test_a_small_training_needs_one_thread_and_a_large_one_all_cores(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    small = needs(chain, "pretrain")
    assert small.threads == 1 and 0 < small.seconds < 10
    assert needs(chain, "pretrain", encoder='"vgg11"') == ALONE == needs(chain, "embed", encoder='"vgg11"')
    assert needs(chain, "pretrain", threads=2).threads == 2 and needs(chain, "pretrain", threads=4) == ALONE
    assert needs(chain, "pretrain", epochs=60).seconds == pytest.approx(10 * small.seconds)
    assert needs(chain, "pretrain", batch=64).memory_mb > small.memory_mb


def test_stages_that_share_out_their_own_work_are_made_alone(chain: Chain) -> None:
    assert needs(chain, "fetch") == needs(chain, "segment") == ALONE
    for stage, arm in (("embed", "intensities"), ("embed", "main"), ("cluster", "main"), ("evaluate", "main")):
        assert needs(chain, stage, arm).threads == 1
