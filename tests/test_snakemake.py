"""The workflow engine: it runs what the recipe's fingerprints ask for, no more and no less, and loses nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import ENVIRONMENT, Chain, say
from conftest import REPOSITORY
from forked import program
from made_up_plates import Content, write_imagexpress

FOLDER = REPOSITORY / "recipes" / "snakemake"
STAGES = ("fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits")
ONCE = Counter({"fetch_plate": 1, "segment_plate": 1, "fetch": 1, "segment": 1, "split": 1, "pretrain": 1, "report": 1})
ALL = ONCE + Counter({"embed": 2, "cluster": 2, "evaluate": 2, "hits": 2, "all": 1})


@dataclass(frozen=True)
class Engine:
    """Snakemake, in a working folder of its own."""

    program: str
    recipe: Path
    work: Path

    def command(self, *words: str, profile: str = "local", **config: str) -> list[str]:
        begin = {} if "folder" in config else {"recipe": self.recipe}
        options = {**begin, "store": "store", "cellssl": program(), "threads": 1}
        pairs = [f"{key}={value}" for key, value in {**options, **config}.items()]
        flags = ["--snakefile", str(FOLDER / "Snakefile"), "--profile", str(FOLDER / "profiles" / profile)]
        return [self.program, *flags, *words, "--config", *pairs]

    def run(self, *words: str, **config: str) -> str:
        """What the engine said; it must have ended well."""
        done = subprocess.run(
            self.command(*words, **config),
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "XDG_CACHE_HOME": str(self.work / "cache")}


def jobs(said: str) -> Counter[str]:
    """How many jobs of each rule the engine has in mind; none where it has nothing to do."""
    if "Nothing to be done" in said:
        return Counter()
    rows = re.findall(r"^(\w+) +(\d+)$", said.split("Job stats:")[1], re.MULTILINE)
    return Counter({name: int(count) for name, count in rows if name != "total"})


def snakemake() -> str:
    beside = Path(sys.executable).with_name("snakemake")
    found = str(beside) if beside.exists() else shutil.which("snakemake")
    if found is None:
        pytest.skip('snakemake is not installed; pip install -e ".[test]"')
    return found


@pytest.fixture(scope="module")
def engine(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine that has made the whole recipe in a store where all but clusters and the report was there."""
    program, work = snakemake(), tmp_path_factory.mktemp("engine")
    left_out = shutil.ignore_patterns("by-recipe", "cluster", "report", "*.partial", "*.lock")
    shutil.copytree(chain.root, work / "store", ignore=left_out)
    shutil.copy(chain.recipe, work / "tiny.toml")
    engine = Engine(program, work / "tiny.toml", work)
    assert jobs(engine.run()) == ALL
    return engine


def test_what_a_recipe_comes_to_hangs_together(chain: Chain) -> None:
    status = json.loads(chain.say("status", "--plates", "--json").out)
    rows = [*status["stages"], *status["plates"]]
    assert [row["stage"] for row in status["plates"]] == ["fetch", "segment"]
    assert status["stages"][-1]["stage"] == "report"
    assert {print_ for row in rows for print_ in row["inputs"].values()} < {row["fingerprint"] for row in rows}
    for row in rows:
        assert (chain.root / row["stage"] / row["fingerprint"] / "artifact.json").is_file()


def test_the_profiles_speak_of_rules_that_there_are() -> None:
    text = (FOLDER / "Snakefile").read_text()
    rules = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):", text, re.MULTILINE)) | set(STAGES)
    for profile in ("local", "slurm"):
        text = (FOLDER / "profiles" / profile / "config.yaml").read_text()
        parts = re.findall(r"^set-\w+:\n((?:  .*\n)+)", text, re.MULTILINE)
        assert set(re.findall(r"^  (\w+):", "".join(parts), re.MULTILINE)) <= rules


def test_a_job_leaves_a_card_that_names_its_result_and_the_report_its_page(engine: Engine) -> None:
    cards = list(engine.work.glob("results/**/*.json"))
    assert len(cards) == sum(ALL.values()) - 1
    for card in cards:
        where = Path(json.loads(card.read_text())["path"])
        assert (where / "artifact.json").is_file()
    assert "<html" in (engine.work / "results/tiny/report.html").read_text()


def test_touching_every_file_runs_nothing(engine: Engine) -> None:
    for path in (engine.recipe, *engine.work.glob("results/**/*.json")):
        os.utime(path)
    assert jobs(engine.run("--dry-run")) == Counter()


@pytest.mark.parametrize(
    ("knob", "counts"),
    [
        ("evaluate.neighbours=4", {"evaluate": 2, "report": 1, "all": 1}),
        ("hits.alpha=0.1", {"hits": 2, "report": 1, "all": 1}),
        pytest.param("report.title=x", {"report": 1, "all": 1}, marks=pytest.mark.soak),
        ("split.seed=1", dict(ALL - Counter(["fetch_plate", "segment_plate", "fetch", "segment"]))),
        ("segment.workers=2", {}),
    ],
)
def test_a_changed_knob_runs_what_depends_on_it(engine: Engine, knob: str, counts: dict[str, int]) -> None:
    assert jobs(engine.run("--dry-run", set=f'["{knob}"]')) == Counter(counts)


def test_an_engine_that_deletes_cards_loses_nothing(engine: Engine) -> None:
    before = {path: path.stat().st_mtime_ns for path in engine.work.glob("store/*/*/artifact.json")}
    shutil.rmtree(engine.work / "results")
    engine.run()
    assert {path: path.stat().st_mtime_ns for path in engine.work.glob("store/*/*/artifact.json")} == before


def test_a_result_that_lost_a_file_is_made_again(engine: Engine) -> None:
    (crops,) = engine.work.glob("store/segment/*/crops.npy")
    content = crops.read_bytes()
    crops.unlink()
    counts = jobs(engine.run("--dry-run"))
    assert counts["segment_plate"] == counts["segment"] == 1
    assert counts["fetch_plate"] == 0
    assert "incomplete (crops.npy is gone)" in say("status", engine.recipe, "--store", engine.work / "store").out
    crops.write_bytes(content)


def test_cards_alone_do_not_stand_for_results_in_another_store(engine: Engine) -> None:
    assert jobs(engine.run("--dry-run", store="another")) == ALL


def test_a_recipe_without_hits_has_no_job_for_them(engine: Engine) -> None:
    recipe = engine.work / "no-hits.toml"
    recipe.write_text(engine.recipe.read_text().replace("[hits]\nnull_size = 200\nbootstrap_draws = 100\n", ""))
    assert jobs(engine.run("--dry-run", recipe=str(recipe), results="other")) == ALL - Counter({"hits": 2})


def test_a_folder_of_images_begins_with_init_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    write_imagexpress(tmp_path / "plate", Content())
    (tmp_path / "work").mkdir()
    engine = Engine(snakemake(), tmp_path / "none.toml", tmp_path / "work")
    said = engine.run("--dry-run", folder="../plate")
    assert jobs(said) == Counter({"init": 1, "all": 1})
    assert "DAG of jobs will be updated after completion" in said
    assert {path.name for path in engine.work.iterdir()} <= {".snakemake", "cache"}


def test_another_plate_map_than_that_of_the_recipe_is_an_error_that_names_it(tmp_path: Path) -> None:
    for name in ("map.csv", "other.csv"):
        (tmp_path / name).touch()
    engine, recipe = Engine(snakemake(), tmp_path / "none.toml", tmp_path), tmp_path / "cellssl-plate/recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text(f'[fetch.dataset]\nroot = "{tmp_path}/plate"\nplatemap = "{tmp_path}/map.csv"\n')
    command = engine.command("--dry-run", folder="plate", platemap="other.csv")
    done = subprocess.run(command, cwd=tmp_path, env=engine.environment(), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "recipe.toml is there already, and init did not write it for platemap=other.csv" in done.stdout + done.stderr


@pytest.mark.soak
def test_a_folder_goes_to_the_report_and_an_edited_recipe_stays(tmp_path: Path) -> None:
    """Two minutes."""
    write_imagexpress(tmp_path / "plate", Content(with_cells=True))
    (tmp_path / "map.csv").write_text("Well;Compound;Dose\nb2;DMSO;0\nC5;taxol;3\n")
    engine = Engine(snakemake(), tmp_path / "none.toml", tmp_path)
    begin = {"folder": "plate", "platemap": "map.csv", "set": '["pretrain.epochs=1"]'}
    said = engine.run(**begin)
    assert "format:       ImageXpress" in said
    assert "<html" in (tmp_path / "results/plate/report.html").read_text()
    assert list(tmp_path.glob("results/plate/*/0/hits.json"))
    assert jobs(engine.run("--dry-run", **begin)) == Counter()
    recipe = tmp_path / "cellssl-plate/recipe.toml"
    recipe.write_text(recipe.read_text() + "# mine\n")
    shutil.rmtree(tmp_path / "results")
    engine.run(**begin)
    assert recipe.read_text().endswith("# mine\n")
    assert jobs(engine.run("--dry-run", recipe=str(recipe.relative_to(tmp_path)), set=begin["set"])) == Counter()


@pytest.mark.soak
def test_a_table_of_other_software_gives_hits_and_no_page(tmp_path: Path) -> None:
    """Half a minute."""
    draw = np.random.default_rng(0)
    wells = [(f"{'ABCD'[k // 6]}{k % 6 + 1:02d}", "DMSO" if k < 12 else f"drug{k // 3}") for k in range(24)]
    rows = [(plate, well, name, *draw.normal(name != "DMSO", 0.3, 4)) for plate in "PQR" for well, name in wells]
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_compound", *(f"Cells_{k}" for k in range(4))]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "profiles.csv", index=False)
    settings = '["hits.table.path=profiles.csv","hits.null_size=200","hits.bootstrap_draws=100"]'
    engine = Engine(snakemake(), tmp_path / "none.toml", tmp_path)
    assert jobs(engine.run(recipe="profiles", set=settings)) == Counter({"evaluate": 1, "hits": 1, "all": 1})
    card = json.loads((tmp_path / "results/profiles/main/0/hits.json").read_text())
    assert (Path(card["path"]) / "hits.csv").is_file()
    assert jobs(engine.run("--dry-run", recipe="profiles", set=settings)) == Counter()


@pytest.mark.soak
def test_an_engine_killed_at_any_time_goes_on_and_ends_the_same(chain: Chain, tmp_path: Path) -> None:
    recipe = Path(shutil.copy(chain.recipe, tmp_path))
    engine = Engine(snakemake(), recipe, tmp_path)
    for stage in ("segment", "pretrain", "cluster"):
        with (tmp_path / "said").open("a") as said:
            process = subprocess.Popen(
                engine.command(), cwd=tmp_path, env=engine.environment(), stdout=said, stderr=said
            )
        while process.poll() is None and not list(tmp_path.glob(f"store/{stage}/*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)  # its job goes on without it, and the next engine's job waits for that one
        process.wait()
    engine.run()
    assert jobs(engine.run("--dry-run")) == Counter()
    for stage in STAGES:
        for card in tmp_path.glob(f"store/{stage}/*/artifact.json"):
            made = chain.store.find(stage, card.parent.name)
            assert made is not None
            assert json.loads(card.read_text())["files"].keys() == made.card.files.keys()
    assert not list(tmp_path.glob("store/*/*.partial"))


@pytest.mark.soak
def test_the_slurm_profile_asks_for_a_gpu_where_one_is_of_use(chain: Chain, tmp_path: Path) -> None:
    """In an environment of its own, since the plugin wants a later numpy than cellpose 3 bears."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "-q", "snakemake", "snakemake-executor-plugin-slurm"]
    subprocess.run(pip, check=True)
    engine = Engine(str(tmp_path / "venv/bin/snakemake"), chain.recipe, tmp_path)
    said = engine.run("--dry-run", profile="slurm")
    assert jobs(said) == ALL
    of_rule = dict(re.findall(r"^rule (\w+):.*?resources: (.*?)$", said, re.MULTILINE | re.DOTALL))
    assert {name for name, resources in of_rule.items() if "gres=gpu:1" in resources} == {"pretrain", "embed"}
