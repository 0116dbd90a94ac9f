"""The command line: one line on stdout, words on stderr, the right exit code, and the same command twice works once."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from chain import Chain, Said, run, say, start

from cellssl.artifacts.store import MARKER
from cellssl.cli.app import COMMANDS
from cellssl.config.recipe import load

FINGERPRINT = re.compile(r"[0-9a-f]{12}")


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Every file of a store, with its time and size; lock files and their probes come and go."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".takeover")
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


@pytest.fixture
def fresh(chain: Chain, tmp_path: Path) -> Chain:
    """A store of its own that reads the shared one."""
    return Chain(chain.recipe, tmp_path / "store")


def refused(said: Said, code: int, sentence: str, cure: str) -> None:
    """Exit code, one sentence and the cure on stderr; nothing on stdout and no traceback."""
    assert said.code == code, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    error, *rest = said.err[said.err.index("error: ") :].splitlines()
    assert sentence in error
    assert cure in "".join(rest)
    assert len(rest) <= 1


WRONG: dict[str, tuple[str, int, str, str]] = {
    "an unknown key": ("split R --set segment.croppx=9", 2, "unknown key 'croppx'", "did you mean 'crop_px'?"),
    "a wrong type": (
        "split R --set segment.crop_px=big",
        2,
        "crop_px: must be a valid integer",
        "cellssl explain segment",
    ),
    "an unknown view": (
        "run R --set pretrain.branches.context.view=['rotat']",
        2,
        "there is no 'rotat' in transforms",
        "did you mean 'rotate'?",
    ),
    "not a number": (
        "run R --set pretrain.learning_rate=nan",
        2,
        "must be a finite number",
        "cellssl explain pretrain",
    ),
    "infinite": ("run R --set pretrain.epochs=inf", 2, "must be a finite number", "cellssl explain pretrain"),
    "a bad override": ("run R --set epochs", 2, "'epochs' is not KEY=VALUE", "--set pretrain.epochs=20"),
    "an unknown arm": ("embed R --arm intensity", 2, "has no arm 'intensity'", "did you mean 'intensities'?"),
    "an unknown arm of a run": ("run R --arm x", 2, "has no arm 'x'", "there are: main, intensities"),
    "an unknown stage": ("run R --to clusters", 2, "there is no stage 'clusters'", "did you mean 'cluster'?"),
    "no recipe": ("run nope.toml", 2, "there is no recipe 'nope.toml'", ""),
    "a folder": ("run /", 2, "/ is a folder, not a recipe", "cellssl init /"),
    "a name beyond all names": (f"run {'x' * 400}", 2, "there is no recipe", ""),
    "an impossible queue": (
        "pretrain R --set pretrain.branches.context.objective.queue=100000",
        2,
        "a queue of 100,000 keys is not smaller than the",
        "mask_same_cell = true",
    ),
    "an impossible batch": (
        "pretrain R --set pretrain.batch=4096",
        2,
        "a batch of 4096 is larger than",
        "pretrain.batch to",
    ),
    "crops too small for the network": (
        "pretrain R --set pretrain.input_px=8 --set pretrain.encoder.name=vgg13",
        2,
        "vgg13 cannot take crops of 8 px",
        "px or more",
    ),
    "nothing to learn": (
        "run R --set pretrain.branches.context.weight=0 --set segment.crop_px=60",
        2,
        "no branch with a weight above 0",
        "[pretrain.branches.context]",
    ),
    "a GPU that is not there": (
        "pretrain R --force --device cuda:7",
        2,
        "the GPU 'cuda:7' was asked for",
        "--device auto",
    ),
    "no such device": ("embed R --force --device banana", 2, "there is no device 'banana'", "use auto, cpu"),
    "a GPU before anything is made": ("run R --set segment.crop_px=61 --device cuda:7", 2, "the GPU 'cuda:7'", "auto"),
    "a plate of a stage without plates": (
        "pretrain R --plate Sim1_00001",
        2,
        "not made plate by plate",
        "fetch and segment",
    ),
    "an unknown plate": ("fetch R --plate Sim1_00002", 2, "no plate 'Sim1_00002'", "did you mean 'Sim1_00001'?"),
    "an unknown plate to segment": ("segment R --plate x", 2, "no plate 'x'", "there are: Sim1_00001"),
    "an input of the wrong kind": ("cluster R --input SPLIT", 2, "cluster takes embed, but", "there are: embed"),
    "an input where none is taken": ("fetch R --input SPLIT", 2, "fetch takes no artifact, but", "leave --input out"),
    "two inputs of a kind": ("evaluate R --input EMBED --input EMBED", 2, "names two embed artifacts", "one of each"),
    "an input that hits does not take": ("hits R --input SPLIT", 2, "hits takes embed, but", "there are: embed"),
    "a setting of hits that is not there": (
        "hits R --set hits.nul_size=200",
        2,
        "nul_size",
        "did you mean 'null_size'?",
    ),
    "too few draws for hits": ("hits R --set hits.null_size=10", 2, "[hits]: null_size", "cellssl explain hits"),
    "an input that is a part": ("split R --input PART", 2, "is the part of one plate", "all plates"),
    "an input that is not there": (
        "split R --input ffffffffffff",
        2,
        "there is no artifact ffffffffffff",
        "fingerprint",
    ),
    "an input that is no artifact": ("split R --input /proc/self", 2, "holds no artifact.json", "give a folder"),
    "no split": (
        "evaluate R --set embed.cells=segment --set embed.model=intensities",
        2,
        "needs the embed artifact",
        "cellssl run",
    ),
    "no treated compound": (
        "split R --set split.treated.compounds=['sim-taxol']",
        2,
        "no cell was treated",
        "did you mean 'sim-nocodazole'?",
    ),
    "no such dose": ("split R --set split.treated.doses=[0.5]", 2, "has no dose of 0.5 uM", "its doses in uM: "),
    "a split of one plate by plate": ("split R --set split.group_by=plate", 2, "of the split has no cells", "1 plates"),
    "no control wells": ("segment R --set fetch.controls=['x']", 2, "needs the fetch artifact", "cellssl run"),
    "more clusters than cells": ("cluster R --set cluster.k=100000", 3, "clusters are requested", "lower cluster.k"),
    "an earlier clustering of another model": (
        "cluster R --arm intensities --set cluster.assign_to=CLUSTER",
        2,
        "the earlier clustering used embeddings of the model",
        "[embed] model = ",
    ),
    "an unknown log format": ("status R", 0, "", ""),
    "a log that cannot be written": (
        "split R --log-file /nope/x.log",
        2,
        "/nope/x.log cannot be written",
        "--log-file",
    ),
    "a log in an unknown format": ("split R --log-format xml", 2, "--log-format 'xml' is not known", "text or json"),
    "an output that cannot be written": ("split R --output /dev/null/F.json", 1, "cannot be written", "--output"),
    "an output folder that is a file": ("split R --output /dev/null", 2, "/dev/null is a file", ".json"),
    "a store that is a file": ("fetch R --store /dev/null", 1, "cannot be written", "--store"),
    "nothing of that name to explain": ("explain viewz", 2, "nothing called 'viewz'", "did you mean 'views'?"),
    "a part of a stage": (
        "explain pretrain encodr",
        2,
        "pretrain has no setting 'encodr'",
        "cellssl explain pretrain",
    ),
    "a helper file": ("explain datasets field", 2, "there is no 'field' in datasets", ""),
    "an unknown transform": ("explain views rotat", 2, "there is no 'rotat' in transforms", "did you mean 'rotate'?"),
    "a report of what is no cluster": ("report SPLIT", 2, "is an artifact of split", "cluster"),
    "a report of artifacts and an arm": ("report CLUSTER --arm main", 2, "choose from a recipe", "leave them out"),
    "a report with an unknown key": ("report CLUSTER --set report.titel=x", 2, "unknown key 'titel'", "'title'"),
    "verify of nothing": ("verify ffffffffffff", 2, "there is no artifact", ""),
    "diff of nothing": ("diff SPLIT ffffffffffff", 2, "there is no artifact", ""),
}
del WRONG["an unknown log format"]


@pytest.mark.parametrize(
    "words", [("report", "demo", "--figures", ""), ("status", "--store="), ("diff", "", ""), ("split", "", "--output")]
)
def test_an_empty_word_such_as_an_unset_variable_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say(*words)
    assert said.code == 2 and "a variable is not set" in said.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_get_one_sentence_and_the_cure(chain: Chain, case: str) -> None:
    words, code, sentence, cure = WRONG[case]
    part = next(iter(json.loads(chain.made("segment").file("parts.json").read_text()).values()))
    stands_for = {
        "R": chain.recipe,
        "SPLIT": chain.made("split").path,
        "EMBED": chain.made("embed").path,
        "CLUSTER": chain.made("cluster").path,
        "PART": chain.root / "segment" / part,
    }
    arguments = [str(stands_for.get(word, word)) for word in words.split()]
    arguments = [word.replace("CLUSTER", str(stands_for["CLUSTER"])) for word in arguments]
    store = [] if "--store" in arguments or words.startswith("explain") else ["--store", str(chain.root)]
    before = listing(chain.root)
    refused(say(*arguments, *store), code, sentence, cure)
    made = {path for path in listing(chain.root) if "/hashes/" not in path} - set(before)
    assert not [path for path in made if path.endswith("artifact.json")]


@pytest.mark.parametrize("words", ["nonsense", "split", "split a b", "split R --seed x", "split R --nope", "diff a"])
def test_words_that_are_no_command_exit_2(words: str) -> None:
    said = say(*words.split())
    assert said.code == 2
    assert said.out == ""
    assert "Traceback" not in said.err


def test_a_missing_upstream_is_named_with_the_command_to_paste(chain: Chain, tmp_path: Path) -> None:
    root = tmp_path / "a store"
    said = say(
        "split",
        chain.recipe,
        "--store",
        root,
        "--set",
        "segment.crop_px=40",
        "--set",
        "name=other words".replace(" ", "-"),
    )
    cure = said.err.partition("cure: ")[2].strip()
    assert said.code == 2
    assert cure.startswith(
        f"cellssl run {chain.recipe} --store '{root}' --set segment.crop_px=40 --set name=other-words"
    )
    assert cure.endswith("--to segment --arm main --seed 0")


def test_the_pasted_command_is_the_cure(fresh: Chain) -> None:
    import shlex

    plain = ["--set", "fetch.dataset.control_wells=1", "--set", "fetch.dataset.doses=1"]
    said = fresh.say("segment", *plain)
    assert said.code == 2
    program, *words = shlex.split(said.err.partition("cure: ")[2])
    assert program == "cellssl"
    assert say(*words).code == 0
    assert fresh.say("segment", *plain).code == 0


def test_the_second_run_does_nothing_and_says_the_same(chain: Chain) -> None:
    first = chain.say("run")
    before = listing(chain.root)
    second = chain.say("run")
    assert second.line == first.line == str(chain.made("report", "all").path)
    assert listing(chain.root) == before
    assert "begins" not in second.err
    assert "up to date" in second.err


def cpu_ratio(*words: object) -> float:
    """The least CPU time of three runs, divided by that of importing the libraries that every command needs.

    A ratio, because a busy machine also makes CPU time longer.
    """

    def spent() -> float:
        now = os.times()
        return now.children_user + now.children_system

    took: list[float] = []
    floor: list[float] = []
    for _ in range(3):
        before = spent()
        assert run(*words, fresh=True).code == 0
        took.append(spent() - before)
        before = spent()
        subprocess.run([sys.executable, "-c", "import numpy, pydantic, typer"], check=True)
        floor.append(spent() - before)
    return min(took) / min(floor)


def test_up_to_date_costs_little_more_than_its_libraries(chain: Chain) -> None:
    assert cpu_ratio("run", chain.recipe, "--store", chain.root) < 8  # nine stages of two arms, and a report


def test_help_costs_little() -> None:
    assert cpu_ratio("--help") < 3


@pytest.mark.parametrize("stage", ["fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits"])
def test_stdout_is_the_path_of_the_artifact(chain: Chain, stage: str) -> None:
    said = chain.say(stage)
    assert Path(said.line) == chain.made(stage).path
    assert (Path(said.line) / "artifact.json").is_file()
    assert chain.say(stage, "-q").err == ""


@pytest.mark.parametrize("command", ["split", "run", "report", "status", "verify", "diff", "gc", "explain", "dry"])
def test_with_json_stdout_is_one_object(chain: Chain, command: str) -> None:
    split = str(chain.made("split").path)
    words = {
        "status": ["status", chain.recipe],
        "verify": ["verify", split],
        "diff": ["diff", split, split],
        "gc": ["gc"],
        "explain": ["explain", "views"],
        "dry": ["run", chain.recipe, "--dry-run"],
    }.get(command, [command, chain.recipe])
    store = [] if command == "explain" else ["--store", chain.root]
    said = say(*words, *store, "--json")
    assert said.code == 0, said.err
    assert said.out.count("\n") == 1
    assert isinstance(json.loads(said.out), dict)


def test_the_examples_of_the_help_name_recipes_and_arms_that_exist() -> None:
    for command in COMMANDS:
        example = str(command.command.__doc__).partition("Example: ")[2].split()
        if "recipe" not in inspect.signature(command.command).parameters:
            continue
        recipe = load(example[example.index("cellssl" if "cellssl" in example else "model=$(cellssl") + 2])
        assert "--arm" not in example or example[example.index("--arm") + 1] in recipe.arm_names()


def test_status_says_which_versions_differ_from_todays(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.root, tmp_path / "store")
    assert "here today" not in say("status", chain.recipe, "--store", tmp_path / "store").err
    card = chain.made("embed").card
    libraries = {**card.run["libraries"], "torch": "1.0"}
    folder = tmp_path / "store/embed" / card.fingerprint
    replace(card, run={**card.run, "libraries": libraries}).write(folder)
    said = say("status", chain.recipe, "--store", tmp_path / "store")
    assert f"made with torch 1.0, and {version('torch')} is here today: embed" in said.err
    others = json.loads(say("status", chain.recipe, "--store", tmp_path / "store", "--json").out)["other_versions"]
    assert [(one["library"], one["then"], one["stages"]) for one in others] == [("torch", "1.0", ["embed"])]


def test_a_dry_run_makes_nothing(fresh: Chain, chain: Chain) -> None:
    said = fresh.say("run", "--dry-run")
    assert "12 of 12 stages would be made" in said.line
    assert not fresh.root.exists()
    assert "0 of 12 stages would be made" in chain.say("run", "--dry-run").line
    assert "1 of 3 stages would be made" in chain.say("split", "--dry-run", "--set", "split.seed=5").line


def test_a_dry_run_takes_inputs_and_plates(chain: Chain) -> None:
    said = chain.say("cluster", "--dry-run", "--input", chain.made("embed").path, "--set", "cluster.k=3")
    assert "1 of 1 stages would be made" in said.line
    assert "0 of 1 stages would be made" in chain.say("segment", "--dry-run", "--plate", "Sim1_00001").line
    assert "1 of 1" in chain.say("segment", "--dry-run", "--plate", "Sim1_00001", "--set", "segment.crop_px=50").line


def test_status_says_done_partial_and_missing(fresh: Chain, chain: Chain) -> None:
    rows = json.loads(chain.say("status", "--json").out)["stages"]
    assert {row["state"] for row in rows} == {"done"}
    assert all(FINGERPRINT.fullmatch(row["fingerprint"]) for row in rows)
    print_ = next(row["fingerprint"] for row in rows if row["stage"] == "pretrain")
    partial = fresh.store.partial("pretrain", print_)
    partial.mkdir(parents=True)
    (partial / "metrics.jsonl").write_text('{"step": 1}\n' * 7)
    said = fresh.say("status")
    assert re.search(r"pretrain/\w{12} +main +0 +\S+ \S+ +\d+ kB +partial \(7 steps\)", said.out)
    assert re.search(r"fetch/\w{12} +main +missing", said.out)


def test_diff_says_what_made_two_results_differ(chain: Chain) -> None:
    said = say("diff", chain.made("embed").path, chain.made("embed", "intensities").path, "--store", chain.root)
    assert "embed.model: pretrain against intensities" in said.out
    same = say("diff", chain.made("split").fingerprint, chain.made("split").path, "--store", chain.root)
    assert same.line == "no differences in what determines the results, or in their files"


def test_verify_finds_a_flipped_byte_in_a_file_and_in_a_card(chain: Chain, tmp_path: Path) -> None:
    assert "are as they were written" in say("verify", chain.made("pretrain").path).line
    for number, name in enumerate(("split.parquet", "artifact.json")):
        copied = shutil.copytree(chain.made("split").path, tmp_path / str(number))
        content = bytearray((copied / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copied / name).write_bytes(content)
        said = say("verify", copied)
        assert said.code == 5
        assert str(copied) in said.err


def test_force_repairs_a_damaged_result(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.root, tmp_path / "store", ignore=shutil.ignore_patterns("fetch"))
    mine = Chain(chain.recipe, tmp_path / "store")
    split = mine.made("split").path
    whole = (split / "split.parquet").read_bytes()
    (split / "artifact.json").write_text("{}")
    assert mine.say("split").code == 5
    said = mine.say("split", "--force")
    assert Path(said.line) == split
    assert (split / "split.parquet").read_bytes() == whole


def test_force_makes_every_stage_once_and_the_same_again(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.root, tmp_path / "store")
    mine = Chain(chain.recipe, tmp_path / "store")
    said = mine.say("run", "--to", "embed", "--force", "--device", "cpu")
    started = [line for line in said.err.splitlines() if line.endswith(": begins")]
    assert len(started) == len(set(started)) == 6
    for stage in ("fetch", "segment", "split", "pretrain", "embed"):
        assert mine.made(stage).card.files == chain.made(stage).card.files, stage


def test_output_delivers_a_card_or_the_files(chain: Chain, tmp_path: Path) -> None:
    card, folder = tmp_path / "deep" / "split.json", tmp_path / "files"
    path = chain.say("split", "--output", card).line
    assert json.loads(card.read_text())["path"] == path
    stat = card.stat()
    chain.say("split", "--output", card)
    assert card.stat().st_mtime_ns == stat.st_mtime_ns
    chain.say("split", "--output", folder)
    assert sorted(file.name for file in folder.iterdir()) == ["artifact.json", "split.parquet"]
    assert say("embed", chain.recipe, "--store", chain.root, "--input", card).line == str(chain.made("embed").path)


def test_gc_keeps_what_a_recipe_needs_and_removes_the_rest_only_with_yes(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.root, tmp_path / "store", ignore=shutil.ignore_patterns("fetch", "*.partial", "*.lock"))
    mine = Chain(chain.recipe, tmp_path / "store")
    mine.say("report")  # points to everything again, whatever other tests have pointed to meanwhile
    say("gc", "--store", mine.root, "--yes", "--purge")  # what other tests have left there
    mine.say("split", "--set", "split.seed=1", "--set", "name=other")
    shutil.rmtree(mine.root / "by-recipe" / "other")
    listed = say("gc", "--store", mine.root)
    assert "1 are not needed" in listed.out
    assert "moved 1 of 1 to .trash" in say("gc", "--store", mine.root, "--yes").out
    assert "0 are not needed" in say("gc", "--store", mine.root).out
    (moved,) = json.loads(say("gc", "--store", mine.root, "--json").out)["trash"]
    printed = mine.root / moved["origin"]
    assert Path(say("gc", "--store", mine.root, "--restore", printed).line) == printed
    assert "deleted 1 folders" in say("gc", "--store", mine.root, "--yes", "--purge").out
    assert mine.made("report", "all").faults() == []


@pytest.mark.soak
def test_gc_all_the_time_beside_a_run_costs_work_at_most(chain: Chain, tmp_path: Path) -> None:
    mine, code = Chain(chain.recipe, tmp_path / "store"), 1
    for _ in range(9):
        process = start("run", mine.recipe, "--store", mine.root, "--device", "cpu", "-q")
        while process.poll() is None:
            say("gc", "--store", mine.root, "--yes", "--purge", "--older-than", "0")
        _, err = process.communicate()
        if code := process.returncode:
            assert "was moved away meanwhile, perhaps by cellssl gc" in err
    assert code == 0
    for stage in ("fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits"):
        assert mine.made(stage).card.files == chain.made(stage).card.files, stage
    assert say("verify", *(path.parent for path in mine.root.glob("*/*/artifact.json"))).code == 0


def test_overrides_leave_the_pointers_of_the_recipe_as_they_are(chain: Chain, tmp_path: Path) -> None:
    mine = Chain(chain.recipe, chain.copy_cells(tmp_path / "store"))
    written = Path(mine.say("split").line)
    pointers = mine.root / "by-recipe"
    changed = Path(mine.say("split", "--set", "split.seed=1", "--set", "segment.workers=2").line)
    assert mine.made("split").path == written != changed
    (overridden,) = pointers.glob("tiny+*")
    assert json.loads((overridden / "overrides.json").read_text()) == {"set": ["split.seed=1"]}
    assert json.loads((overridden / "main/all/split.json").read_text())["fingerprint"] == changed.name
    mine.say("split", "--set", "split.seed = 2", "--set", "split.seed=1")
    mine.say("split", "--set", "segment.workers=2", "--set", "segment.crop_px=48")  # as the recipe has it
    assert mine.made("split").path == written
    assert sorted(folder.name for folder in pointers.iterdir()) == ["tiny", overridden.name]
    assert str(changed) not in say("gc", "--store", mine.root).out


def test_a_result_that_lost_a_file_is_made_again(chain: Chain, tmp_path: Path) -> None:
    mine = Chain(chain.recipe, chain.copy_cells(tmp_path / "store"))
    split = Path(mine.say("split").line)
    whole = (split / "split.parquet").read_bytes()
    (split / "split.parquet").unlink()
    said = mine.say("split")
    assert "split.parquet is gone, so it is made again" in said.err
    assert (Path(said.line) / "split.parquet").read_bytes() == whole


def test_a_plates_part_is_kept_before_it_is_gathered(chain: Chain, tmp_path: Path) -> None:
    mine = Chain(chain.recipe, tmp_path / "store")
    knobs = ["--plate", "Sim1_00001", "--set", "fetch.dataset.control_wells=1", "--set", "fetch.dataset.doses=1"]
    part = mine.say("fetch", *knobs).line
    assert "0 are not needed" in say("gc", "--store", mine.root).out
    assert mine.say("fetch", *knobs).line == part


def test_explain_lists_every_knob_with_its_default_and_meaning() -> None:
    said = say("explain", "segment").out
    assert "crop_px = 196" in said
    assert "five nuclei across" in said
    for stage in ("fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits", "report"):
        for knobs in json.loads(say("explain", stage, "--json").out).values():
            assert all(knob["meaning"] for knob in knobs), stage
    for room in ("datasets", "segmenters", "views", "encoders", "objectives"):
        parts = json.loads(say("explain", room, "--json").out)
        assert parts
        assert all(knob["meaning"] for knobs in parts.values() for knob in knobs), room


def test_the_log_gets_every_event_and_the_error(chain: Chain, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    chain.say("cluster", "--force", "--log-file", log, "--log-format", "json", "-q")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"progress", "note", "result"} <= {event["event"] for event in events}
    chain.say("cluster", "--set", "cluster.k=100000", "--log-file", log)
    assert "error message=100000 clusters are requested" in log.read_text().splitlines()[-1]


def test_a_reader_that_has_gone_does_not_stop_the_work(chain: Chain) -> None:
    for words in (["explain", "views"], ["status", chain.recipe, "--store", chain.root]):
        process = start(*words)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-"])
def test_closed_streams_are_survived_and_not_mixed(chain: Chain, closed: str) -> None:
    import subprocess
    import sys

    command = f'"{sys.executable}" -m cellssl split "{chain.recipe}" --store "{chain.root}" --force {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if "1" not in closed:
        assert done.stdout.strip() == str(chain.made("split").path)


def slow_fetch(chain: Chain, root: Path) -> list[str]:
    """Words that take a few seconds, and nothing heavy."""
    words = ["fetch", chain.recipe, "--store", root, "--set", "fetch.dataset.seed=1"]
    return [*map(str, words), "--set", "fetch.dataset.doses=2", "--set", "fetch.dataset.control_wells=2"]


def wait_for_files(folder: Path, files: str, count: int) -> None:
    """Wait until the work has written so many files."""
    for _ in range(1200):
        if len(list(folder.rglob(files))) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("the work did not begin")


def test_two_processes_make_one_result_and_both_print_it(chain: Chain, tmp_path: Path) -> None:
    both = [start(*slow_fetch(chain, tmp_path)) for _ in range(2)]
    said = [Said(0, *process.communicate(timeout=120)) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0].line == said[1].line
    assert sum("waiting for process" in one.err for one in said) == 1
    assert len(list(tmp_path.glob("fetch/*/parts.json"))) == 1
    assert not list(tmp_path.rglob("*.partial"))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said[0].err + said[1].err)  # no bars are drawn without a terminal


def test_a_killed_holder_is_taken_over_and_the_result_is_the_same(chain: Chain, tmp_path: Path) -> None:
    words = slow_fetch(chain, tmp_path / "killed")
    first = start(*words)
    wait_for_files(tmp_path, "truth/*_cells.csv", 2)
    first.send_signal(signal.SIGSTOP)  # or its work could end meanwhile
    refused(say(*words, "--no-wait"), 75, f"process {first.pid} on", "--no-wait")
    second = start(*words)
    first.kill()
    taken = Said(0, *second.communicate(timeout=120))
    assert second.returncode == 0, taken.err
    whole = say(*slow_fetch(chain, tmp_path / "whole"))
    cards = [json.loads((Path(said.line) / "artifact.json").read_text()) for said in (taken, whole)]
    assert {**cards[0], "run": 0, "sha256": 0} == {**cards[1], "run": 0, "sha256": 0}
    first.communicate()


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(chain: Chain, tmp_path: Path) -> None:
    process = start(*slow_fetch(chain, tmp_path))
    wait_for_files(tmp_path, "truth/*_cells.csv", 1)
    process.send_signal(signal.SIGINT)
    said = Said(process.wait(60), *process.communicate())
    refused(said, 130, "stopped by SIGINT; what is done so far is kept", "run the same command again")
    assert list(tmp_path.rglob("truth/*_cells.csv"))


def test_a_stop_of_the_whole_group_is_a_stop_though_workers_die_of_it(chain: Chain, tmp_path: Path) -> None:
    """As batch systems, systemd and `timeout` do it."""
    words = [*slow_fetch(chain, tmp_path), "--set", "fetch.dataset.workers=2"]
    process = start(*words, start_new_session=True)
    wait_for_files(tmp_path, "*.tif", 2)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM" in err and "Traceback" not in err


def test_a_signal_is_not_swallowed_by_a_library_that_catches_its_own_errors() -> None:
    swallowing = """
import os, signal, sys
import cellssl.cli.app, cellssl.pipeline.report_inputs
sys.modules["cellssl.cli.app"].app = lambda *_, **__: import_a_library()
def import_a_library():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception:
        print("swallowed")
cellssl.cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", swallowing], capture_output=True, text=True, check=False)
    refused(Said(ended.returncode, ended.stdout, ended.stderr), 143, "stopped by SIGTERM", "run the same command again")


def test_a_training_that_was_stopped_goes_on_and_ends_the_same(chain: Chain, tmp_path: Path) -> None:
    mine = Chain(chain.recipe, tmp_path / "store")
    shutil.copytree(chain.root, mine.root, ignore=shutil.ignore_patterns("pretrain"))
    words = ["--device", "cpu", "--set", "pretrain.checkpoint_s=0"]
    process = start("pretrain", mine.recipe, "--store", mine.root, *words)
    wait_for_files(tmp_path, "last.ckpt", 1)
    process.send_signal(signal.SIGTERM)
    said = Said(process.wait(60), *process.communicate())
    refused(said, 143, "stopped by SIGTERM", "run the same command again")
    assert "continuing after step" in mine.say("pretrain", *words).err
    assert mine.made("pretrain").card.files == chain.made("pretrain").card.files


def test_what_cannot_be_made_leaves_nothing_half_made(fresh: Chain, chain: Chain) -> None:
    words = ["split", chain.recipe, "--store", fresh.root, "--store", chain.root]
    assert say(*words, "--set", "split.group_by=plate").code == 2
    files = {path.name for path in fresh.root.rglob("*") if path.is_file() and path.parent.name != "hashes"}
    assert files <= {MARKER, ".takeover"}
    assert not list(fresh.root.rglob("*.partial"))
