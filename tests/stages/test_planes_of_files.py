"""Planes of files: fetch, segment and verify on fields whose channels lie in one file, or in an OME-Zarr."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from chain import Said, say
from ome_zarr import writer
from ome_zarr.format import FormatV05
from tiny import tiny_field

from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_fields

RECIPE = """
name = "mine"
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = %s, actin = %s }
columns = { plate = "plate", well = "well" }
pixel_um = 0.5
%s
[segment]
crop_px = 32
reference = "all"
workers = 1
"""
WELLS = ("A01", "B02")
CHANNELS = ("dna", "actin")


def stack_of(well: str) -> np.ndarray:
    """Return the made-up field of a well as (c, z, y, x); its second z plane is the brightest everywhere."""
    pixels = np.stack([tiny_field(well, channel) for channel in CHANNELS])
    return np.stack([pixels // 2, pixels, pixels // 3], axis=1)


def write_plain(folder: Path) -> None:
    rows = ["plate,well,dna,actin"]
    for well in WELLS:
        for number, channel in enumerate(CHANNELS):
            tifffile.imwrite(folder / f"{well}_{channel}.tif", stack_of(well)[number, 1])
        rows.append(f"P,{well},{well}_dna.tif,{well}_actin.tif")
    (folder / "plate.csv").write_text("\n".join(rows) + "\n")
    (folder / "mine.toml").write_text(RECIPE % ('"dna"', '"actin"', ""))


def write_ome_tiff(folder: Path, well: str) -> str:
    metadata = {"axes": "CZYX", "Channel": {"Name": list(CHANNELS)}}
    tifffile.imwrite(folder / f"{well}.ome.tif", stack_of(well), metadata=metadata, photometric="minisblack")
    return f"{well}.ome.tif"


def write_ome_zarr(folder: Path, well: str) -> str:
    place = f"plate.zarr/{well[0]}/{int(well[1:])}/0"
    group = zarr.open_group(str(folder / place), mode="w", zarr_format=3)
    writer.write_image(stack_of(well), group, axes="czyx", fmt=FormatV05(), scale_factors=[2])
    group.attrs["ome"] = {**group.attrs["ome"], "omero": {"channels": [{"label": name} for name in CHANNELS]}}
    return place


WRITERS = {"ome-tiff": write_ome_tiff, "ome-zarr": write_ome_zarr}


def write_stacks(folder: Path, kind: str, settings: str = 'z = "max"') -> None:
    rows = [f"P,{well},{WRITERS[kind](folder, well)}" for well in WELLS]
    (folder / "plate.csv").write_text("\n".join(["plate,well,file", *rows]) + "\n")
    chosen = ['{ column = "file", channel = "dna" }', '{ column = "file", channel = 1 }']
    (folder / "mine.toml").write_text(RECIPE % (*chosen, settings))


def say_here(folder: Path, command: str, *words: object) -> Said:
    return say(command, folder / "mine.toml", "--store", folder / "store", *words)


def segmented(folder: Path) -> Artifact:
    return Store(folder / "store").resolve(say_here(folder, "run", "--to", "segment").line, ("segment",))


def cells_and_crops(segment: Artifact) -> tuple[list[str], np.ndarray]:
    cells = read_cells(segment)
    part = next(iter(set(cells["part"])))
    return cells["cell_id"].tolist(), np.asarray(open_crops(segment.path.parent / part / "crops.npy"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], np.ndarray]:
    folder = tmp_path_factory.mktemp("plain")
    write_plain(folder)
    return cells_and_crops(segmented(folder))


@pytest.mark.parametrize("kind", WRITERS)
def test_planes_of_one_file_give_the_cells_that_plain_files_give(
    tmp_path: Path, plain: tuple[list[str], np.ndarray], kind: str
) -> None:
    write_stacks(tmp_path, kind)
    cells, crops = cells_and_crops(segmented(tmp_path))
    assert cells == plain[0] and (crops == plain[1]).all()


@pytest.mark.parametrize("kind", WRITERS)
def test_an_edited_stack_is_found_by_segment_and_verify(tmp_path: Path, kind: str) -> None:
    write_stacks(tmp_path, kind)
    fetched = Store(tmp_path / "store").resolve(say_here(tmp_path, "fetch").line, ("fetch",))
    fields = read_fields(fetched)
    assert fields["sha256_dna"].nunique() == 2 and not (fields["sha256_dna"] == fields["sha256_actin"]).any()
    assert say("verify", fetched.path, "--store", tmp_path / "store").code == 0
    image = next(tmp_path.glob("A01.ome.tif" if kind == "ome-tiff" else "plate.zarr/B/2/0/s0/c/0/0/0/0"))
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    said = say("verify", fetched.path, "--store", tmp_path / "store")
    assert said.code == 5 and "has changed since it was fetched" in said.err
    segment = say_here(tmp_path, "segment", "--input", fetched.path)
    assert segment.code == 5 and "is not the file that was fetched" in segment.err


def test_a_stack_of_which_no_plane_is_chosen_is_refused_with_the_line_to_write(tmp_path: Path) -> None:
    write_stacks(tmp_path, "ome-tiff", settings="")
    said = say_here(tmp_path, "run", "--to", "segment")
    assert said.code == 3 and "3 z planes" in said.err and 'z = "max"' in said.err
