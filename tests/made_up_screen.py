"""A small published screen on disk, in the form of BBBC021: tables, a manifest, a recipe, and one archive per plate."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile
from tiny import tiny_field

from cellssl.config.paths import shipped_folder

PLATES = ("Week1_1", "Week4_2")
WAVES = {"DAPI": "w1", "Tubulin": "w2", "Actin": "w4"}
RECIPE = """
[fetch.dataset]
name = "bbbc021"
manifest = "manifest.toml"
source = "there"
compounds = ["nocodazole"]
doses = "top 1"
[segment]
crop_px = 32
min_area_px = 50
workers = 1
"""


def write_screen(folder: Path) -> Path:
    """Write recipe.toml, manifest.toml, and the tables and archives in the folder `there`; return the folder."""
    there = folder / "there"
    there.mkdir(parents=True)
    rows = list(image_rows())
    tables = {
        "image": write_table(rows, there / "BBBC021_v1_image.csv"),
        "moa": write_table(MOA, there / "BBBC021_v1_moa.csv"),
        "compound": write_table(COMPOUNDS, there / "BBBC021_v1_compound.csv"),
    }
    for plate in PLATES:
        write_archive(there / f"BBBC021_v1_images_{plate}.zip", plate, rows)
    (folder / "manifest.toml").write_text(manifest_text(tables))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


MOA = [{"compound": "nocodazole", "concentration": 3.0, "moa": "Microtubule destabilizers"}]
COMPOUNDS = [{"compound": "DMSO", "smiles": ""}, {"compound": "nocodazole", "smiles": "C"}]


def image_rows() -> Iterator[dict[str, Any]]:
    """Yield the rows of the image table: two plates, three wells, two sites."""
    number = 0
    for plate in PLATES:
        for well, compound, dose in (("B02", "DMSO", 0.0), ("E03", "nocodazole", 3.0), ("E04", "nocodazole", 1.0)):
            for site in (1, 2):
                number += 1
                prefix = "Week1_150607_" if plate.startswith("Week1") else ""
                names = {stain: f"{prefix}{well}_s{site}_{wave}UUID{number}.tif" for stain, wave in WAVES.items()}
                path = f"{plate.partition('_')[0]}/{plate}"
                files = {f"Image_FileName_{stain}": name for stain, name in names.items()}
                paths = {f"Image_PathName_{stain}": path for stain in names}
                yield {
                    "TableNumber": 1,
                    "ImageNumber": number,
                    **{
                        key: (files | paths)[key]
                        for stain in names
                        for key in (f"Image_FileName_{stain}", f"Image_PathName_{stain}")
                    },
                    "Image_Metadata_Plate_DAPI": plate,
                    "Image_Metadata_Well_DAPI": well,
                    "Replicate": 1,
                    "Image_Metadata_Compound": compound,
                    "Image_Metadata_Concentration": dose,
                }


def write_table(rows: list[dict[str, Any]], path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write a table in the official format: texts in quotes, six decimals; return its path and rows."""
    text = io.StringIO()
    header = [f'"{name}"' if isinstance(value, str) else name for name, value in rows[0].items()]
    text.write(",".join(header) + "\n")
    for row in rows:
        cells = (
            f'"{v}"' if isinstance(v, str) else f"{v:.6f}" if isinstance(v, float) else str(v) for v in row.values()
        )
        text.write(",".join(cells) + "\n")
    path.write_text(text.getvalue())
    return path, rows


def manifest_text(tables: dict[str, tuple[Path, list[dict[str, Any]]]]) -> str:
    """Return the shipped manifest with these tables and plates."""
    shipped = (shipped_folder("data-manifests") / "bbbc021.toml").read_text()
    lines = [shipped[: shipped.index("# `text` columns")]]
    for name, (path, rows) in tables.items():
        content = path.read_bytes()
        lines += [f"[tables.{name}]", f'file = "{path.name}"', f"rows = {len(rows)}", f"size_bytes = {len(content)}"]
        lines += [f'sha256 = "{hashlib.sha256(content).hexdigest()}"', f"columns = {json.dumps(list(rows[0]))}"]
        for kind, type_ in (("text", str), ("decimal", float)):
            lines.append(f"{kind} = {json.dumps([key for key, value in rows[0].items() if isinstance(value, type_)])}")
    plates = json.dumps(PLATES)
    return "\n".join([*lines, "[archives]", 'name = "BBBC021_v1_images_{plate}.zip"', f"plates = {plates}", ""])


def write_archive(path: Path, plate: str, rows: list[dict[str, Any]]) -> None:
    """Write the archive of a plate, with one member whose name leads out of the folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../evil.tif", b"out of here")
        for row in rows:
            for stain in WAVES:
                if row["Image_Metadata_Plate_DAPI"] == plate:
                    image = io.BytesIO()
                    tifffile.imwrite(image, tiny_field(f"{plate}{row['ImageNumber']}", stain))
                    archive.writestr(f"{plate}/{row[f'Image_FileName_{stain}']}", image.getvalue())
