"""planning: print what one more arm costs a command that finds everything done, or nothing, beside reading its cards.

    python benchmarks/planning.py [--arms 30] [--plates 20] [--images 864] [--rounds 5]

All arms share everything but `cluster`. The images of a large screen lie in the store, one part per plate; what the
stages would compute is left out, because planning reads no result. One more arm may take 0.2 s. Beside it stands the
time of reading once every card that the arms stand on, which is the least that a look at a finished chain needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

LIMIT_S = 0.2
RECIPE = """
name = "planning"
main_arm = "k2"
[fetch.dataset]
name = "simulated"
[segment]
[split]
treated = { compounds = ["sim-nocodazole"] }
[pretrain]
encoder = "small"
epochs = 1
[pretrain.branches.all]
view = ["horizontal_flip"]
objective = "moco"
[cluster]
k = 2
[evaluate]
"""


def main() -> None:
    """Plan an empty store, then one in which all is done; within this process and as commands."""
    given = parsed()
    with tempfile.TemporaryDirectory() as folder:
        recipe, empty, full = (Path(folder) / name for name in ("planning.toml", "empty", "full"))
        recipe.write_text(RECIPE + "".join(f"[arm.k{k}.cluster]\nk = {k}\n" for k in range(3, given.arms + 2)))
        fill(recipe, full, given)
        rounds = [seconds_of(recipe, empty, full) for _ in range(given.rounds)]
        commands = {
            "run --dry-run, nothing is there": ("run", str(recipe), "--dry-run", "--store", str(empty)),
            "run, all is there": ("run", str(recipe), "--to", "cluster", "--store", str(full)),
        }
        turns = [{name: extra_s(command, given.arms) for name, command in commands.items()} for _ in range(3)]
    unit = median(one["reading each card once"] for one in rounds)
    print(f"{given.arms} arms that share all but cluster; {given.plates} plates of {given.images} images")
    print(f"{'reading each card once':36} {unit:8.4f} s")
    print(f"{'per arm':36} {'seconds':>8} {'of reading each card once':>26}   limit s")
    found = {
        **{
            name: median(one[name] for one in rounds) / given.arms
            for name in rounds[0]
            if name != next(iter(rounds[0]))
        },
        **{name: median(one[name] for one in turns) for name in commands},
    }
    for name, seconds in found.items():
        print(f"{name:36} {seconds:8.4f} {seconds / unit:26.3f}   {LIMIT_S:.1f}")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=30)
    parser.add_argument("--plates", type=int, default=20)
    parser.add_argument("--images", type=int, default=864, help="images of each plate")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def session_of(recipe: Path, store: Path) -> Any:
    """Return a session that nothing has been planned in."""
    from cellssl.artifacts.store import Store
    from cellssl.config.recipe import load
    from cellssl.pipeline.session import Session

    return Session(load(str(recipe)), Store(store))


def fill(recipe: Path, folder: Path, given: argparse.Namespace) -> None:
    """Write an artifact for every planned stage: the images are empty files, and so is every other result."""
    from cellssl.artifacts.card import PARTS, Card, fingerprint

    session = session_of(recipe, folder)
    plates = {f"P{number}": fingerprint("fetch", 1, {"plate": number}, {}, {}) for number in range(given.plates)}
    images = [f"images/{number:04d}.tif" for number in range(given.images)]
    for plate, print_ in plates.items():
        commit(session.store, Card("fetch", 1, print_, {"plate": plate}, {}, {}, {}), dict.fromkeys(images, ""))
    for planned in {one.fingerprint: one for one in session.plan()}.values():
        files = {"result": "", **({PARTS: json.dumps(plates)} if planned.stage == "fetch" else {})}
        commit(session.store, replace(planned.card, run={"seconds": 1.0}), files)


def commit(store: Any, card: Any, files: dict[str, str]) -> None:
    """Write one finished artifact."""
    with store.drafting(card.kind, card.fingerprint) as draft:
        for name, text in files.items():
            draft.file(name).write_text(text)
        draft.commit(card)


def seconds_of(recipe: Path, empty: Path, full: Path) -> dict[str, float]:
    """Return the processor time of reading every card once, and of planning and looking up all arms."""
    from cellssl.artifacts.card import read_card
    from cellssl.pipeline.execute import find_finished

    def look_up() -> None:
        session = session_of(recipe, full)
        changes: dict[str, str] = {}
        checked: set[str] = set()
        for planned in session.plan("cluster"):
            assert find_finished(planned, session.store, set(checked), changes) is not None
            checked.add(planned.fingerprint)

    def states() -> None:
        session = session_of(recipe, full)
        assert all(row["state"] == "done" for row in session.states(session.plan("cluster")))

    return {
        "reading each card once": timed(lambda: [read_card(card.parent) for card in full.glob("*/*/artifact.json")]),
        "planning, nothing is there": timed(lambda: session_of(recipe, empty).plan("cluster")),
        "planning and looking up": timed(look_up),
        "planning and listing states": timed(states),
    }


def timed(work: Callable[[], object]) -> float:
    """Return the processor seconds of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def extra_s(command: tuple[str, ...], arms: int) -> float:
    """Return what each arm beyond the first adds to a command, in seconds of the clock."""
    several, one = (wall_s(more) for more in (command, (*command, "--arm", "k2")))
    return (several - one) / (arms - 1)


def wall_s(command: tuple[str, ...]) -> float:
    """Return the seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run((sys.executable, "-m", "cellssl", *command), check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
