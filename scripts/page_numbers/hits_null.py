"""hits_null: made-up screens on which nothing happens -> how many of them have a hit, design by design."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from page_numbers import markdown
from page_numbers.workplace import REPOSITORY, Workplace

sys.path.insert(0, str(REPOSITORY / "tests"))
from made_up_vectors import Design, made_up_screen
from made_up_vectors import Screen as MadeUpScreen

if TYPE_CHECKING:
    from cellssl.stages.hits.screen import Screen

SCREENS, FIRST_SEED = 200, 5000
STRONG_EDGES = {"edge_effect": 2.0, "gradient": 1.0}
FOUR = {"plates": 4, "wells_per_treatment": 1, "treatments": 40}
DESIGNS: Mapping[str, tuple[Design, dict[str, Any]]] = {
    "one plate of 96, 12 controls": (Design(), {}),
    "one plate of 96, 12 controls, strong edge effect": (Design(**STRONG_EDGES), {}),
    "one plate of 96, 8 controls": (Design(control_wells=8), {}),
    "one plate of 384, 32 controls": (Design(plate_wells=384, control_wells=32, treatments=80), {}),
    "four plates, 8 controls each": (Design(control_wells=8, **FOUR), {}),
    "four plates, 12 controls each, the same wells on all, strong edge effect": (
        Design(control_wells=12, layout="fixed", **FOUR, **STRONG_EDGES),
        {},
    ),
    'the same, `permute_within = ["plate", "edge"]`': (
        Design(control_wells=12, layout="fixed", **FOUR, **STRONG_EDGES),
        {"permute_within": ("plate", "edge")},
    ),
    "one plate of 96, 12 controls, with `sphering`": (
        Design(),
        {"normalise": ["center_plate", "scale_pooled", "sphering"]},
    ),
}
"""What a screen is -> its design, and the settings of [hits] that differ from their defaults."""


def table(work: Workplace) -> str:
    """Return per design the share of screens with a call, its upper limit, and the share of small p-values."""
    rows = []
    for title, (design, settings) in DESIGNS.items():
        found = work.kept(f"null-{len(rows)}", lambda d=design, s=settings: calls(d, s, SCREENS))
        share = f"{100 * found['p_below_005']:.1f} %"
        rows.append(
            [title, f"{found['screens_with_a_call']} of {found['screens']}", f"{upper_limit(found):.2f}", share]
        )
    return markdown.table(["screens without any effect", "with a call", "upper 95 % limit", "p below 0.05"], rows)


def upper_limit(found: Mapping[str, Any]) -> float:
    """Return the one-sided upper 95 % limit of the share of screens with a call (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    hit, count = found["screens_with_a_call"], found["screens"]
    return float(beta.ppf(0.95, hit + 1, count - hit)) if hit < count else 1.0


def calls(design: Design, settings: Mapping[str, Any], screens: int, first_seed: int = FIRST_SEED) -> dict[str, Any]:
    """Return how many of these screens have a treatment with q below alpha, as the stage finds them."""
    p_values, hits = [], 0
    for seed in range(first_seed, first_seed + screens):
        p, q = tested(made_up_screen(design, seed), settings)
        p_values += p.tolist()
        hits += int((q < 0.05).any())
    below = float((np.array(p_values) <= 0.05).mean())
    return {"screens": screens, "screens_with_a_call": hits, "p_below_005": below, "design": asdict(design)}


def tested(made: MadeUpScreen, settings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return p- and q-values of the treatments of one screen, as the stage computes them, but with 2,000 draws."""
    from cellssl.profiling.activity import activity, q_values
    from cellssl.stages.hits.settings import Settings
    from cellssl.stages.hits.study import Study

    chosen = Settings.model_validate({"null_size": 2000, **settings})
    of_wells = Study.of(screen_of(made), chosen)
    found = activity(
        of_wells.profiles.x,
        of_wells.labels,
        of_wells.profiles.is_control,
        of_wells.profiles.wells["plate"],
        blocks=[of_wells.blocks[row] for row in of_wells.rows.tolist()],
        controls=chosen.controls,
        null_size=chosen.null_size,
    )
    p_value = np.minimum(1, chosen.p_value_factor() * found.p_value)
    return p_value, q_values(p_value)


def screen_of(made: MadeUpScreen) -> Screen:
    """Return a made-up screen as the stage reads one."""
    from cellssl.stages.hits.screen import Screen

    wells = made.cells.drop_duplicates(["plate", "well"]).sort_values(["plate", "well"], ignore_index=True)
    counts = made.cells.groupby(["plate", "well"], sort=True).size().to_numpy(float)
    names = [f"emb_{number:04d}" for number in range(made.x.shape[1])]
    return Screen(made.cells, made.x, names, (), wells.assign(cells=counts), rows_are_cells=True)
