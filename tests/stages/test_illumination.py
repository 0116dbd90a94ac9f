"""segment proposes to correct the illumination where the fields of a plate share a tilt."""

from pathlib import Path
from typing import Any

import pytest
import tifffile
from chain import say
from microscopes import tilted
from tiny import tiny_field

from cellssl.stages.segment.settings import Settings

RECIPE = """
name = "own"
[fetch.dataset]
name = "image_table"
table = "fields.csv"
channels = { dna = "dna" }
columns = { plate = "plate", well = "well", site = "site" }
[segment]
method = "watershed"
crop_px = 24
workers = 1
reference = "all"
"""


def note_on(folder: Path, degrees: list[int], *more: str, sites: int = 1) -> str:
    """Segment a plate with a tilt in a direction for each field; return what is said of the background."""
    rows = ["plate,well,site,dna"]
    for number, angle in enumerate(degrees, start=1):
        tifffile.imwrite(folder / f"{number}.tif", tilted(tiny_field(f"{number}", "dna"), 1500, angle))
        rows.append(f"P1,A{(number - 1) // sites + 1:02d},{(number - 1) % sites + 1},{number}.tif")
    (folder / "fields.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "own.toml").write_text(RECIPE, encoding="utf-8")
    said = say("run", folder / "own.toml", "--to", "segment", "--store", folder / "store", *more)
    assert said.code == 0, said.err
    return "\n".join(line for line in said.err.splitlines() if "varies alike" in line)


def test_a_shared_tilt_is_named_with_what_to_write(tmp_path: Path) -> None:
    note = note_on(tmp_path, [30] * 9)
    assert "9 fields" in note
    assert 'segment.illumination = "mean"' in note and "segment.illumination_blur_px = 12" in note


def test_few_wells_with_many_sites_are_compared_over_the_plate(tmp_path: Path) -> None:
    note = note_on(tmp_path, [30] * 10, sites=5)
    assert "10 fields" in note and 'segment.illumination = "mean"' in note
    assert "flat fields are made per site, and these sites have 2 fields at most" in note


@pytest.mark.parametrize("degrees", [[30] * 6, [0, 90, 180, 270] * 3], ids=["few fields", "a tilt each"])
def test_a_tilt_that_is_not_shared_by_many_fields_is_not_named(tmp_path: Path, degrees: list[int]) -> None:
    assert note_on(tmp_path, degrees) == ""


def test_where_it_is_corrected_nothing_is_proposed(tmp_path: Path) -> None:
    assert note_on(tmp_path, [30] * 9, "--set", "segment.illumination=mean") == ""


def test_the_blur_of_a_flat_field_that_is_not_made_does_not_count() -> None:
    def counted(**given: Any) -> dict[str, Any]:
        return Settings(**given).detection().fingerprint_values()

    assert counted(illumination_blur_px=50.0) == counted()
    assert counted(illumination_blur_px=50.0, illumination="mean") != counted(illumination="mean")
