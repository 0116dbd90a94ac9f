"""The even draw per well follows from the cells of that well alone, and its fields take turns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from chain import Chain, say
from tiny import tiny_field

from cellssl.artifacts.store import Store
from cellssl.artifacts.tables import read_cells
from cellssl.profiling.wells import count_wells
from cellssl.randomness import generator
from cellssl.stages.shared.planned_fields import planned_fields
from cellssl.stages.shared.well_draw import even_draw, rows_of_plates


def wells(sizes: dict[tuple[str, str, int], int]) -> pd.DataFrame:
    """Return cells of fields, named (plate, well, site), with so many cells each."""
    rows = [
        (plate, well, f"{plate}_{well}_s{site}", f"{plate}_{well}_s{site}_{number:04d}")
        for (plate, well, site), size in sizes.items()
        for number in range(size)
    ]
    return pd.DataFrame(rows, columns=["plate", "well", "field_id", "cell_id"])


def drawn(cells: pd.DataFrame, per_well: int) -> set[str]:
    return set(cells["cell_id"][even_draw(cells, per_well)])


CELLS = wells({("p", "B02", 1): 400, ("p", "B02", 2): 90, ("p", "B02", 3): 10, ("p", "B03", 1): 7})


def test_every_well_gives_as_many_cells_as_asked_for_or_all_of_them() -> None:
    taken = CELLS[even_draw(CELLS, 60)]
    assert taken["well"].value_counts().to_dict() == {"B02": 60, "B03": 7}


def test_the_fields_of_a_well_take_turns() -> None:
    taken = CELLS[even_draw(CELLS, 60)]["field_id"].value_counts().to_dict()
    assert taken == {"p_B02_s1": 25, "p_B02_s2": 25, "p_B02_s3": 10, "p_B03_s1": 7}


def test_other_plates_and_the_order_of_rows_leave_the_draw_of_a_well_alone() -> None:
    more = pd.concat([wells({("a", "B02", 1): 300, ("z", "B03", 1): 300}), CELLS], ignore_index=True)
    order = generator("tests", "order").permutation(len(more))
    found = drawn(more.iloc[order].set_index(np.zeros(len(more), int)), 60)
    assert {cell for cell in found if cell.startswith("p_")} == drawn(CELLS, 60)


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    assert drawn(CELLS, 20) < drawn(CELLS, 60) < drawn(CELLS, 400)


def test_a_draw_within_a_field_is_not_the_first_cells_of_the_image() -> None:
    numbers = np.flatnonzero(even_draw(CELLS.iloc[:400], 100))
    assert 150 < numbers.mean() < 250


def test_cells_without_a_well_count_as_one_well() -> None:
    cells = CELLS.assign(well=None)
    assert even_draw(cells, 60).sum() == 60


def test_a_split_of_some_plates_describes_the_wells_of_these_plates(chain: Chain) -> None:
    cells, split = wells({("p", "B02", 1): 2, ("q", "B02", 1): 3}), chain.made("split")
    some = replace(split, card=replace(split.card, section={**split.card.section, "plates": ["q"]}))
    assert rows_of_plates(some, cells)["plate"].tolist() == ["q"] * 3
    assert rows_of_plates(split, cells) is cells
    assert rows_of_plates(chain.made("segment"), cells) is cells


RECIPE = """
name = "gone"
[fetch]
max_failures = 0.5
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna" }
columns = { plate = "plate", well = "well", compound = "compound", dose_micromolar = "dose" }
[segment]
method = "watershed"
crop_px = 32
min_area_px = 50
workers = 1
"""


def test_a_well_whose_only_image_cannot_be_read_is_counted_with_no_cell(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "B02.tif", tiny_field("B02", "dna"))
    lines = ["plate,well,compound,dose,dna", "p,B02,DMSO,0,B02.tif", "p,C05,drug,3,gone.tif"]
    (tmp_path / "plate.csv").write_text("\n".join(lines))
    (tmp_path / "gone.toml").write_text(RECIPE)
    path = Path(say("run", tmp_path / "gone.toml", "--to", "segment", "--store", tmp_path / "store").line)
    segment = Store(path.parents[1]).get("segment", path.name)
    counts = count_wells(planned_fields(segment), read_cells(segment), None).set_index("well")
    assert counts["n"].tolist() == [6, 0] and counts["n_fields_quarantined"].tolist() == [0, 1]
    assert counts.loc["C05", ["compound", "dose_micromolar", "control"]].tolist() == ["drug", 3, False]
