"""File formats and exit codes: files have the documented columns, and commands exit with the documented codes."""

import re
import subprocess
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pandas as pd
import pytest
from chain import ENVIRONMENT, Chain
from conftest import REPOSITORY

from cellssl.artifacts.card import Card
from cellssl.artifacts.tables import read_cells
from cellssl.stages.shared.scaled_crops import scaled_crops

FORMATS = (REPOSITORY / "docs" / "file-formats.md").read_text(encoding="utf-8")
CODES = (REPOSITORY / "docs" / "exit-codes.md").read_text(encoding="utf-8")


def block(page: str, language: str) -> str:
    """Return the first code block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def rows(page: str, head: str) -> dict[str, str]:
    """Return the table with this heading as a dict by its first column."""
    table = page.split(f"| {head} |")[1].split("\n\n", maxsplit=1)[0]
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|", table, re.MULTILINE))


TABLES = {file.strip("`"): columns for file, columns in rows(FORMATS, "file | columns").items() if file.startswith("`")}


def shown_columns(file: str) -> list[str]:
    shown = re.findall(r"`([^`]+)`", TABLES[file])
    return [*(shown_columns("fetch/*/fields.parquet") if "those of fetch" in TABLES[file] else []), *shown]


def matches(column: str, shown: str) -> bool:
    """Return whether a column matches a documented one, where names in capitals stand for any name."""
    pattern = re.sub(r"CHANNEL|NAME", r"\\w+", re.sub(r"_N\b", r"_\\d+", shown))
    return re.fullmatch(pattern, column) is not None


def nuclei_of(chain: Chain) -> Path:
    """Return the folder of the artifact with all nuclei of the plate."""
    part = chain.store.get("segment", read_cells(chain.made("segment"))["part"].iloc[0])
    return chain.store.get("segment", part.card.inputs["nuclei/segment"]).path


def folder_of(chain: Chain, stage: str, name: str) -> Path:
    """Return the folder with a table: that of a stage, or of a plate whose table is not gathered."""
    if name in ("nuclei.parquet", "brightness.parquet"):
        return nuclei_of(chain)
    if name == "cell_brightness.parquet":
        return chain.store.get("segment", read_cells(chain.made("segment"))["part"].iloc[0]).path
    return chain.made(stage).path


@pytest.mark.parametrize("file", TABLES)
def test_a_table_has_exactly_the_documented_columns(file: str, chain: Chain) -> None:
    stage, _, name = file.split("/")
    table = folder_of(chain, stage, name) / name
    there = list((pd.read_csv if name.endswith("csv") else pd.read_parquet)(table).columns)
    assert [column for column in there if not any(matches(column, shown) for shown in shown_columns(file))] == []
    assert [shown for shown in shown_columns(file) if not any(matches(column, shown) for column in there)] == []


def test_every_parquet_table_of_the_chain_is_documented(chain: Chain) -> None:
    there = {f"{path.parts[-3]}/*/{path.name}" for path in chain.root.glob("*/*/*.parquet")}
    assert there <= set(TABLES)


def test_a_card_has_exactly_the_documented_keys() -> None:
    shown = [word for keys in rows(FORMATS, "key | what") for word in re.findall(r"`(\w+)`", keys)]
    assert sorted(shown) == sorted([*Card.__dataclass_fields__, "sha256"])


def test_the_documented_code_reads_files_without_cellssl(chain: Chain) -> None:
    made = {stage.upper(): str(chain.made(stage).path) for stage in ("segment", "embed", "cluster", "pretrain")}
    code = re.sub(r'"(SEGMENT|EMBED|CLUSTER|PRETRAIN)"', lambda found: repr(made[found[1]]), block(FORMATS, "python"))
    read: dict[str, Any] = {}
    exec(code, read)
    segment = chain.made("segment")
    seen = scaled_crops(segment, chain.store, read_cells(segment)).read(np.array([7]))[0]
    np.testing.assert_array_equal(read["seen"], seen)
    assert len(read["numbers"]) == len(read["vectors"]) and read["numbers"].dtype == np.float32
    assert read["shares"].groupby("Metadata_Well").sum().round(6).eq(1).all()
    assert all(isinstance(weights, np.ndarray) for weights in read["weights"].values())


SHOWN = re.findall(r"^(.*?) +# (\d+)", block(CODES, "sh"), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the recipe and table of the page, and the program on the path."""
    place = tmp_path_factory.mktemp("codes")
    (place / "no-images.toml").write_text(block(CODES, "toml"))
    (place / "plate.csv").write_text(block(CODES, ""))
    program = place / "bin" / "cellssl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {forked.program()} "$@"\n')
    program.chmod(0o755)
    return place


def run_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    plain = {**ENVIRONMENT, "PATH": f"{folder / 'bin'}:{ENVIRONMENT['PATH']}"}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=plain, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("command", "code"), SHOWN)
def test_a_documented_command_exits_with_its_code(command: str, code: str, folder: Path) -> None:
    process = run_shell(command, folder)
    assert process.returncode == int(code), process.stderr
    assert "Traceback" not in process.stderr
    if code not in ("0", "130", "143"):
        assert process.stderr.splitlines()[-2].startswith("error: ") and process.stderr.splitlines()[-1].startswith(
            "  cure: "
        )


def test_all_exit_codes_are_documented() -> None:
    codes = {code for head in rows(CODES, "code | meaning | what a script does") for code in re.findall(r"\d+", head)}
    assert codes == {"0", "1", "2", "3", "4", "5", "75", "130", "143"}
    assert {code for _, code in SHOWN} == codes - {"5", "75"}  # these need a damaged result, or two processes


def test_the_documented_loop_stops_at_a_permanent_error(folder: Path) -> None:
    tries = folder / "tries"
    (folder / "sleep").write_text("#!/bin/sh\n")
    (folder / "cellssl").write_text(
        f"#!/bin/sh\necho . >> {tries}\nset -- $(wc -l < {tries})\nexit $(( $1 < 3 ? 4 : 2 ))\n"
    )
    for program in ("sleep", "cellssl"):
        (folder / program).chmod(0o755)
    assert run_shell(f"PATH={folder}:$PATH; {block(CODES, 'bash')}", folder).returncode == 2
    assert len(tries.read_text().splitlines()) == 3
