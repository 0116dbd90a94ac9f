"""Figures beside the page: every picture as PNG, SVG, PDF and CSV, numbers as in the artifacts, and `--figures DIR`."""

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cellssl.artifacts.store import Artifact
from cellssl.reporting import theme
from cellssl.reporting.html import Picture
from cellssl.stages.report.cluster_figures import arms_with_vectors, cluster_picture, which_files
from cellssl.stages.report.runs import collect
from tests.chain import Chain, start

ENDINGS = ("png", "svg", "pdf", "csv")


@pytest.fixture(scope="module")
def report(chain: Chain) -> Artifact:
    return chain.store.get("report", Path(chain.say("report").line).name)


@pytest.fixture(scope="module")
def folder(report: Artifact) -> Path:
    return report.path / "figures"


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def test_every_figure_is_there_as_png_svg_pdf_and_csv_with_rows(folder: Path) -> None:
    names = {path.stem for path in folder.iterdir()}
    assert {f"{name}.{ending}" for name in names for ending in ENDINGS} == {path.name for path in folder.iterdir()}
    per_arm = {f"{figure}-{arm}" for figure in ("map", "montage", "doses") for arm in ("main", "intensities")}
    assert names >= {"confusions", "cells", "views-main", "curves-main", *per_arm}
    assert all(len(table(folder, name)) for name in names)


def test_every_picture_in_a_figure_of_the_page_is_one_of_these_files(report: Artifact, folder: Path) -> None:
    page = report.file("report.html").read_text(encoding="utf-8")
    shown = re.findall(r"<figure[^>]*>.*?</figure>", page, re.DOTALL)
    pictures = {uri for each in shown for uri in re.findall(r"data:image/\w+;base64,([\w+/=]+)", each)}
    known = set()
    for path in folder.glob("*.png"):
        for small in (theme.photo, theme.drawing):
            known |= {base64.b64encode(one).decode() for one in theme.for_page(path.read_bytes(), small)}
    assert pictures and pictures <= known


@pytest.mark.parametrize("arm", ["main", "intensities"])
def test_numbers_of_the_figures_of_clusters_are_those_of_the_artifact(chain: Chain, folder: Path, arm: str) -> None:
    cluster = chain.made("cluster", arm).path
    drawn, stored = table(folder, f"map-{arm}"), pd.read_parquet(cluster / "map.parquet")
    np.testing.assert_allclose(drawn[["map_x", "map_y"]], stored[["map_x", "map_y"]])
    assert drawn["cell_id"].tolist() == stored["cell_id"].tolist()
    nearest = pd.read_csv(cluster / "nearest.csv")
    assert table(folder, f"montage-{arm}")[["cluster", "cell_id"]].equals(nearest)
    doses, wells = table(folder, f"doses-{arm}"), pd.read_csv(cluster / "wells.csv")
    wells = wells[wells["n_drawn"] > 0].reset_index(drop=True)
    names = ["well", "dose_micromolar", "share_of_cluster_0", "share_of_cluster_1"]
    pd.testing.assert_frame_equal(doses[names], wells[names])


def test_numbers_of_curves_and_confusions_are_those_of_the_artifacts(chain: Chain, folder: Path) -> None:
    lines = (chain.made("pretrain").path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = pd.DataFrame([json.loads(line) for line in lines])
    drawn = table(folder, "curves-main")
    assert {"step", "context/loss", "context/chance"} <= set(drawn)
    for name in drawn:
        np.testing.assert_allclose(drawn[name], logged[name].astype(float), err_msg=name)
    squares = table(folder, "confusions").query("arm == 'main'")
    predictions = pd.read_parquet(chain.made("evaluate").path / "predictions.parquet")
    scheme = squares["scheme"].iloc[0].replace(" ", "_")
    if "scheme" in predictions:
        predictions = predictions[predictions["scheme"] == scheme]
    counts = predictions.groupby(["label", "linear"]).size()
    found = squares.set_index(["label", "prediction"])["cells"]
    assert found[found > 0].to_dict() == {pair: count for pair, count in counts.to_dict().items() if count}


def test_the_table_of_views_says_which_cell_branch_and_draw_every_picture_is(folder: Path) -> None:
    views = table(folder, "views-main")
    assert views.groupby("cell_id", sort=False).size().nunique() == 1
    first = views[views["cell_id"] == views["cell_id"].iloc[0]]
    assert first["draw"].tolist() == list(range(len(first)))
    assert set(first["branch"].dropna()) == {"context"} and pd.isna(first["branch"].iloc[0])


def test_the_table_of_the_contact_sheet_names_kept_cells(chain: Chain, folder: Path) -> None:
    shown, kept = table(folder, "cells"), pd.read_parquet(chain.made("segment").path / "cells.parquet")
    assert len(shown) == min(60, len(kept)) == shown["cell_id"].nunique()
    assert set(shown["cell_id"]) <= set(kept["cell_id"])


def test_figures_are_copied_over_old_ones_and_beside_other_files(chain: Chain, folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "made" / "here"
    to.mkdir(parents=True)
    (to / "notes.txt").write_text("mine")
    (to / "cells.svg").write_text("old")
    said = chain.say("report", "--figures", to)
    assert f"figures in {to}" in said.err and "begins" not in said.err
    assert (to / "notes.txt").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in to.iterdir() if path.name != "notes.txt"
    }


def test_with_json_the_paths_of_the_figures_are_in_the_object(chain: Chain, folder: Path, tmp_path: Path) -> None:
    found = json.loads(chain.say("report", "--json", "--figures", tmp_path / "new").line)["figures"]
    assert sorted(found) == sorted(str(tmp_path / "new" / path.name) for path in folder.iterdir())


def test_two_processes_may_write_into_one_folder(chain: Chain, folder: Path, tmp_path: Path) -> None:
    words = ("report", chain.recipe, "--store", chain.root, "--figures", tmp_path)
    both = [start(*words), start(*words)]
    assert [process.communicate(timeout=100) and process.returncode for process in both] == [0, 0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in tmp_path.iterdir()
    }


@pytest.mark.parametrize("where", ["file", "below a file", "a folder of a figure's name"])
def test_a_folder_that_cannot_be_written_is_a_wrong_use(chain: Chain, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "cells.svg").mkdir(parents=True)
    to = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "x"}.get(where, tmp_path / "taken")
    said = chain.say("report", "--figures", to)
    assert said.code == 2 and "cure:" in said.err and str(to) in said.err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["map", "montage", "doses"])
def test_figures_of_clusters_are_drawn_again_and_never_those_of_an_earlier_version(
    chain: Chain, folder: Path, tmp_path: Path, name: str
) -> None:
    [run] = collect({"main/0/cluster": chain.made("cluster")}, chain.store)
    copied = tmp_path / "cluster"
    shutil.copytree(run.cluster.path, copied)
    (copied / f"{name}.png").write_bytes(b"a picture in other colours")
    old = replace(run, cluster=replace(run.cluster, path=copied))
    job: Any = SimpleNamespace(
        draft=SimpleNamespace(file=lambda path: tmp_path / Path(path).name), context=SimpleNamespace(store=chain.store)
    )
    [picture] = cluster_picture(job, old, name, vectors=False)
    assert isinstance(picture, Picture) and picture.caption.startswith("“main”, seed 0: ")
    assert (tmp_path / f"{name}-main.png").read_bytes() == (folder / f"{name}-main.png").read_bytes()
    assert not list(tmp_path.glob("*.svg"))


def test_the_redrawn_map_has_the_axes_of_the_map_of_the_artifact(chain: Chain, folder: Path) -> None:
    [run] = collect({"main/0/cluster": chain.made("cluster")}, chain.store)
    assert run.clusters.map_axes is not None and re.match(r"component 1", run.clusters.map_axes[0])
    assert (folder / "map-main.png").read_bytes() == run.cluster.file("map.png").read_bytes()


def test_the_leading_arm_then_trained_arms_then_baselines_have_svg_and_pdf_and_the_page_says_so() -> None:
    scores: Any = SimpleNamespace(leading="d", trained=["a", "c", "d"], baselines=["b"])
    runs: Any = [SimpleNamespace(arm=arm) for arm in "abcd"]
    assert arms_with_vectors(runs, scores) == ["d", "a", "c"]
    assert "“d”, “a”, “c” only" in which_files(runs, scores)
    assert "only" not in which_files(runs[2:], scores)
