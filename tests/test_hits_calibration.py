"""Screens without any effect seldom have a hit, and treatments that change cells are found."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from chain import say
from conftest import REPOSITORY
from made_up_vectors import Design, made_up_screen

sys.path.insert(0, str(REPOSITORY / "scripts"))
from page_numbers import hits_null

DEFAULTS = dict[str, object]()
FIXED = Design(plates=4, wells_per_treatment=1, treatments=20, layout="fixed", edge_effect=2.0, gradient=1.0)


def test_few_screens_without_an_effect_have_a_hit() -> None:
    design = Design(treatments=8, cells_per_well=12, dim=24, dead=2)
    found = hits_null.calls(design, {"null_size": 500}, screens=12)
    assert found["screens_with_a_call"] <= 1 and found["p_below_005"] < 0.08


def test_four_wells_with_a_third_of_changed_cells_are_found() -> None:
    made = made_up_screen(Design(active=10, changed_share=0.35, shift=5.0, well_effect=0.2), seed=7)
    _, q = hits_null.tested(made, DEFAULTS)
    assert (q[:10] < 0.05).mean() >= 0.8 and (q[10:] < 0.05).sum() <= 1


def test_a_layout_that_is_the_same_on_all_plates_makes_an_edge_effect_a_hit() -> None:
    _, q = hits_null.tested(made_up_screen(FIXED, seed=1), DEFAULTS)
    assert (q < 0.05).any(), "no treatment does anything"


@pytest.mark.soak
@pytest.mark.parametrize("title", list(hits_null.DESIGNS)[:5])
def test_at_most_eight_percent_of_200_screens_without_an_effect_have_a_hit(title: str) -> None:
    """By the upper 95 % limit, in every design with a shuffled layout."""
    found = hits_null.calls(*hits_null.DESIGNS[title], screens=200, first_seed=100_000)
    assert hits_null.upper_limit(found) <= 0.08, found


PIXELS = """
name = "no-effect"
[fetch.dataset]
name = "simulated"
plates = 1
compounds = ["sim-nocodazole"]
inactive = 3
doses = 4
wells_per_treatment = 4
control_wells = 12
sites_per_well = 1
layout = "shuffled"
edge_effect = 0.5
height_px = 512
width_px = 640
workers = 1
[segment]
method = "watershed"
crop_px = 68
workers = 1
[pretrain]
encoder = "small"
input_px = 48
[hits]
[embed]
model = "features"
[arm.intensities.embed]
model = "intensities"
[arm.random.embed]
model = "random"
"""


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(201, 206))
def test_compounds_that_do_nothing_to_pixels_are_seldom_called(seed: int, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(PIXELS)
    for arm in ("main", "intensities", "random"):
        words = ("--to", "hits", "--arm", arm, "--store", tmp_path / "store", "--set", f"fetch.dataset.seed={seed}")
        table = pd.read_csv(Path(say("run", tmp_path / "r.toml", *words).line) / "hits.csv")
        inactive = table[table["compound"].str.startswith("sim-inactive")]
        assert len(inactive) == 12 and inactive["active"].sum() <= 1
