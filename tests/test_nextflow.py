"""The Nextflow modules: what they declare is what they make, and their shell works with the program, without Nextflow.

Nextflow itself comes from no package index, so the lines of Groovy before a block of shell, which have two forms only,
are read here.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import forked
import pytest
import yaml
from chain import ENVIRONMENT, Chain, say
from conftest import REPOSITORY
from made_up_plates import Content, write_imagexpress

FOLDER = REPOSITORY / "recipes" / "nextflow"
MODULES = FOLDER / "modules" / "local" / "cellssl"
NAMES = ("init", "run", "hits")
PREFIX = "made of plate 1"
"""What the plate is called; the names of staged files come from Nextflow with backslashes before blanks."""
each_module = pytest.mark.parametrize("name", NAMES)


def section(name: str, part: str) -> str:
    """The lines below a label of a process."""
    text = (MODULES / name / "main.nf").read_text()
    found = re.search(rf"\n    {part}:\n(.*?)(?=\n    \w+:\n|\n}}\n$)", text, re.DOTALL)
    assert found is not None, f"{name} has no {part}"
    return found[1]


def shell_of(name: str, part: str, given: dict[str, str]) -> str:
    """The shell that Nextflow would run for these inputs."""
    values = {"meta.id": PREFIX, "task.cpus": "1", **given}
    head, shell, _ = section(name, part).split('"""')
    for line in head.splitlines():
        either = re.fullmatch(r" *(?:def )?(\w+) = ([\w.]+) (?:\? (.+) : (.*)|\?: (.+))", line)
        if either is None:
            assert not line.strip() or line.strip().startswith("//"), line
            continue
        variable, asked, yes, no, default = either.groups()
        if default is not None:
            values[variable] = values.get(asked) or filled(default[1:-1], values)
        else:
            values[variable] = filled((yes if values.get(asked) else no)[1:-1], values)
    return filled(shell, values)


def filled(text: str, values: dict[str, str]) -> str:
    """A string of Groovy with its values."""
    text = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda found: values[found[1]], text)
    return text.replace("\\$", "$").replace('\\"', '"')


def made_by(name: str, part: str, given: dict[str, str], folder: Path) -> set[str]:
    """Run the shell of a module in a folder of its own, and return the outputs that it declares and did not make."""
    program = folder.parent / "bin" / "cellssl"
    program.parent.mkdir(exist_ok=True)
    if part != "stub":
        program.write_text(f'#!/bin/sh\nexec {forked.program()} "$@"\n')
        program.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    words = ["bash", "-ue", "-c", shell_of(name, part, given)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    paths = re.findall(r'path\("\$\{prefix\}/(.*?)"\)', section(name, "output"))
    return {path for path in paths if not list((folder / PREFIX).glob(path))}


def declared(lines: str) -> list[list[str]]:
    """The inputs or outputs of a process, each with its names."""
    found = [re.findall(r"(?:val|path|eval)[ (]?(\"[^\"]*\"|'[^']*'|\w+)", line) for line in lines.splitlines()]
    return [[word.strip("\"'") for word in words] for words in found if words]


def described(channels: list) -> list[list[str]]:
    """The same from meta.yml."""
    return [[key for part in (one if isinstance(one, list) else [one]) for key in part] for one in channels]


@each_module
def test_meta_yml_describes_exactly_the_inputs_and_outputs(name: str) -> None:
    meta = yaml.safe_load((MODULES / name / "meta.yml").read_text())
    assert meta["name"] == f"cellssl_{name}"
    assert described(meta["input"]) == declared(section(name, "input"))
    outputs = section(name, "output")
    assert list(meta["output"]) == re.findall(r"emit: (\w+)", outputs)
    assert [described(one)[0] for one in meta["output"].values()] == declared(outputs)
    assert meta["topics"]["versions"] == meta["output"]["versions_cellssl"]
    assert outputs.count("topic: versions") == 1


@each_module
def test_a_module_names_this_version_everywhere(name: str) -> None:
    now = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    packages = yaml.safe_load((MODULES / name / "environment.yml").read_text())["dependencies"]
    assert {"pip": [f"cellssl=={now}"]} in packages
    assert f'container "cellssl:{now}"' in (MODULES / name / "main.nf").read_text()
    assert say("--version").out == f"{version('cellssl')}\n"  # what the topic `versions` gets


@each_module
def test_a_stub_makes_every_output(name: str, tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    assert made_by(name, "stub", {}, tmp_path / "task") == set()
    assert (MODULES / name / "tests/main.nf.test").read_text().count('options "-stub"') == 1


def test_init_makes_a_recipe_and_its_tables_of_a_staged_folder(tmp_path: Path) -> None:
    task = plate_of(tmp_path)
    assert made_by("init", "script", {"images": "images/plate", "platemap": "map\\ 1.csv"}, task) == set()
    recipe = tomllib.loads((task / PREFIX / "recipe.toml").read_text())
    assert recipe["name"] == "plate"
    assert recipe["fetch"]["dataset"]["root"] == str(tmp_path / "plate")  # not the link in the folder of the task


@pytest.mark.parametrize("name", ["run", "hits"])
def test_a_made_recipe_gives_every_output_as_a_file_of_its_own(name: str, chain: Chain, tmp_path: Path) -> None:
    task = tmp_path / "task"
    task.mkdir()
    (task / "tiny.toml").symlink_to(chain.recipe)
    (tmp_path / "the store").symlink_to(chain.root)
    assert made_by(name, "script", {"recipe": "tiny.toml", "store": str(tmp_path / "the store")}, task) == set()
    assert not any(path.is_symlink() for path in (task / PREFIX).rglob("*"))
    assert json.loads((task / PREFIX / "artifact.json").read_text())["kind"] == {"run": "report", "hits": "hits"}[name]


def test_the_workflow_includes_its_modules_and_sets_what_it_asks_for() -> None:
    text, config = (FOLDER / "main.nf").read_text(), (FOLDER / "nextflow.config").read_text()
    for name, path in re.findall(r"include \{ (\w+) +\} from '(.+?)'", text):
        assert f"process {name} {{" in (FOLDER / f"{path}.nf").read_text()
    params = re.search(r"\nparams \{\n(.*?)\n\}", config, re.DOTALL)
    assert params is not None
    assert set(re.findall(r"params\.(\w+)", text + config)) == set(re.findall(r"^ +(\w+) +=", params[1], re.MULTILINE))
    assert set(re.findall(r"withName: (\w+) ", config)) == {f"CELLSSL_{name.upper()}" for name in NAMES}
    modules = "".join((MODULES / name / "main.nf").read_text() for name in NAMES)
    assert set(re.findall(r"label '(\w+)'", modules)) == set(re.findall(r"withLabel: (\w+)", config))


def test_what_a_module_sets_itself_is_changed_by_a_selector_and_no_task_gets_a_relative_store() -> None:
    text, config = (FOLDER / "main.nf").read_text(), (FOLDER / "nextflow.config").read_text()
    assert "process.container" not in config  # weaker than the `container` of a module
    assert re.search(r"apptainer \{.*?withName: 'CELLSSL_\.\*' \{[^}]*container = params\.sif", config, re.DOTALL)
    assert text.count("params.store") == text.count("file(params.store).toAbsolutePath()") == 1
    mounts = re.findall(r"-[vB] (.*)\"$", config, re.MULTILINE)
    assert mounts == ["'${launchDir.resolve(params.store)}:${launchDir.resolve(params.store)}'"] * 3


def plate_of(folder: Path) -> Path:
    """A plate and its map, as Nextflow lays them into the folder of a task."""
    write_imagexpress(folder / "plate", Content(with_cells=True))
    task = folder / "task"
    (task / "images").mkdir(parents=True)
    (task / "images/plate").symlink_to(folder / "plate")
    (task / "map 1.csv").write_text("Well;Compound;Dose\nb2;DMSO;0\nC5;taxol;3\n")
    return task


@pytest.mark.soak
def test_a_plate_goes_from_its_folder_to_the_report_and_a_second_task_makes_nothing(tmp_path: Path) -> None:
    """Two minutes."""
    task = plate_of(tmp_path)
    staged = {"images": "images/plate", "platemap": "map\\ 1.csv"}
    made_by("init", "script", staged, task)
    made = {}
    for number in ("first", "second"):
        place = tmp_path / number
        shutil.copytree(task, place, symlinks=True)
        for path in (task / PREFIX).iterdir():
            (place / path.name).symlink_to(path)
        shutil.rmtree(place / PREFIX)
        given = {
            **staged,
            "recipe": "recipe.toml",
            "store": str(tmp_path / "store"),
            "task.ext.args": "--set pretrain.epochs=1",
        }
        assert made_by("run", "script", given, place) == set()
        made[number] = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/*/*/artifact.json")}
    assert made["first"] == made["second"]


@pytest.mark.soak
def test_groovy_reads_the_modules_as_these_tests_do(tmp_path: Path) -> None:
    """With Debian's groovy, where it is installed; five seconds."""
    if shutil.which("groovy") is None:
        pytest.skip("groovy is not installed; apt-get install groovy")
    given = {"images": "images/p", "platemap": "m.csv", "recipe": "r.toml", "store": "/s", "profiles": "p.csv"}
    bound = ", ".join(f"{name}: '{value}'" for name, value in given.items())
    lines = ["import org.codehaus.groovy.ast.builder.AstBuilder", f"def given = [meta: [id: '{PREFIX}'], {bound}]"]
    lines += ["given.task = [cpus: 1, ext: [:], accelerator: null]"]
    lines += [f"new AstBuilder().buildFromString(new File('{path}').text)" for path in MODULES.rglob("*.nf*")]
    blocks = [(name, part) for name in NAMES for part in ("script", "stub")]
    for number, (name, part) in enumerate(blocks):
        (tmp_path / f"{number}.groovy").write_text(section(name, part))
        lines.append(
            f"print new GroovyShell(new Binding(given)).evaluate(new File('{tmp_path}/{number}.groovy')) + '@'"
        )
    (tmp_path / "all.groovy").write_text("\n".join(lines))
    java = Path(shutil.which("java") or "java").resolve().parents[1]
    environment = {**os.environ, "JAVA_HOME": str(java)}
    words = ["groovy", str(tmp_path / "all.groovy")]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split("@")[:-1] == [shell_of(name, part, given) for name, part in blocks]
