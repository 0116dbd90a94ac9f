"""Mean average precision against controls, and its permutation test: equal to loops, to copairs and to enumeration."""

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from copairs.map import average_precision
from copairs.map import mean_average_precision as their_mean
from scipy.stats import false_discovery_control

from cellssl.profiling.activity import Activity, activity, centred, q_values
from cellssl.profiling.activity_comparison import with_all, with_controls
from cellssl.profiling.activity_design import ActivityDesign, smallest_p_value
from cellssl.profiling.retrieval import mean_average_precision, random_average_precision, replicate_average_precision
from cellssl.randomness import generator

DESIGNS = {
    "one well per plate": (("A", "B", "C", "D"), 1),
    "all on one plate": (("A",), 4),
    "two on each plate": (("A", "B"), 2),
}
"""Name -> plates, and wells of every treatment on each."""


def screen(plates: tuple[str, ...], each: int, controls: int = 6, treatments: int = 5, dim: int = 8) -> pd.DataFrame:
    """Return plates with control wells and treated wells; the first treatments have no effect, and plates differ."""
    rows = [(plate, None, True) for plate in plates for _ in range(controls)]
    rows += [(plate, f"t{n}", False) for plate in plates for n in range(treatments) for _ in range(each)]
    table = pd.DataFrame(rows, columns=["plate", "treatment", "control"])
    rng = generator("screen", len(plates), each, controls, treatments)
    effect = table["treatment"].map({f"t{n}": 0.5 * n for n in range(treatments)}).fillna(0).to_numpy()
    direction = rng.normal(size=(treatments, dim))[table["treatment"].fillna("t0").str[1:].astype(int)]
    of_plate = rng.normal(size=(len(plates), dim))[table["plate"].map({p: n for n, p in enumerate(plates)})]
    x = rng.normal(size=(len(table), dim)) + effect[:, None] * direction + 3 * of_plate
    return table.assign(x=list(x))


def of(table: pd.DataFrame, **options: object) -> Activity:
    """Return the activity in a table."""
    control = table["control"].to_numpy(bool)
    return activity(np.stack(table["x"]), table["treatment"], control, table["plate"], **options)


def naive(table: pd.DataFrame, treated: list[int], pool: list[int], **options: str) -> float:
    """Centre plates on those of the pool that are not treated, rank by loops, and return the mean."""
    x, plate = np.stack(table["x"]).copy(), table["plate"].to_numpy()
    controls = [row for row in pool if row not in treated]
    centre_of = pool if options.get("reference") == "all" else controls
    for name in set(plate[pool]):
        x[plate == name] -= x[[row for row in centre_of if plate[row] == name]].mean(axis=0)
    scores = []
    for query in treated:
        near = {row: -_distance(x[query], x[row], options.get("similarity", "cosine")) for row in pool if row != query}
        negatives = [row for row in controls if options.get("controls") == "all" or plate[row] == plate[query]]
        compared = sorted([*negatives, *(row for row in treated if row != query)], key=lambda row: -near[row])
        ranks = [rank for rank, row in enumerate(compared, 1) if row in treated]
        scores.append(np.mean([place / rank for place, rank in enumerate(ranks, 1)]))
    return float(np.mean(scores))


def agreement(table: pd.DataFrame, treated: list[int], pool: list[int]) -> float:
    """Return the mean inner product of two treated wells, centred on the others of the pool."""
    x, plate = np.stack(table["x"]).copy(), table["plate"].to_numpy()
    for name in set(plate[pool]):
        x[plate == name] -= x[[row for row in pool if row not in treated and plate[row] == name]].mean(axis=0)
    return float(np.mean([x[one] @ x[other] for one in treated for other in treated if one != other]))


def _distance(one: np.ndarray, other: np.ndarray, similarity: str) -> float:
    if similarity == "euclidean":
        return float(np.linalg.norm(one - other))
    return float(-(one @ other) / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize(
    "options", [{}, {"controls": "all"}, {"similarity": "euclidean"}, {"reference": "all"}], ids=str
)
@pytest.mark.parametrize("name", DESIGNS)
def test_every_relabeling_gives_the_mean_of_a_loop_that_centres_again(name: str, options: dict[str, str]) -> None:
    table = screen(*DESIGNS[name])
    if last := set(table["plate"]) - {"A"}:  # then the last plate has no well of the treatment
        table = table[(table["plate"] != max(last)) | (table["treatment"] != "t1")].reset_index(drop=True)
    control = table["control"].to_numpy(bool)
    design = ActivityDesign.of(table["treatment"], control, table["plate"], None, options.get("reference", "controls"))
    x, everywhere = np.stack(table["x"]), options.get("controls") == "all"
    similarity = options.get("similarity", "cosine")
    if options.get("reference") == "all":
        compare = with_all(centred(x, table["plate"], control, "all"), design, similarity, all_plates=everywhere)
        rows = np.arange(len(table))
    else:
        compare = with_controls(x, design, similarity, all_plates=everywhere)
        rows = design.compared(1, all_plates=everywhere)
    one = compare(1)
    draws = np.concatenate([one.treated[None], one.relabelings.draw(generator("draws"), 12)])
    expected = [naive(table, rows[treated].tolist(), rows.tolist(), **options) for treated in draws]
    for comparison in (one, one.for_many()):
        np.testing.assert_allclose(comparison.ranking.average_precision(draws).mean(axis=1), expected, atol=1e-12)


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("controls", ["plate", "all"])
def test_average_precision_equals_that_of_centred_profiles_and_copairs(name: str, controls: str) -> None:
    table = screen(*DESIGNS[name])
    found, control = of(table, controls=controls, null_size=100).ranked, table["control"].to_numpy(bool)
    x = centred(np.stack(table["x"]), table["plate"], control)
    same = controls == "plate"
    expected = replicate_average_precision(x, table["treatment"], control, table["plate"], same_plate=same)
    np.testing.assert_allclose(found.average_precision, expected.average_precision, atol=1e-12)
    np.testing.assert_array_equal(found.positives[~control], expected.positives[~control])
    np.testing.assert_array_equal(found.pairs[~control], expected.pairs[~control])
    meta = table[["plate", "control"]].assign(group=table["treatment"].fillna(pd.Series(table.index.astype(str))))
    theirs = average_precision(meta, x, ["group"], [], ["plate"] if same else [], ["control"], progress_bar=False)
    np.testing.assert_allclose(found.average_precision[~control], theirs["average_precision"][~control], atol=1e-6)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_small_design_is_enumerated(name: str) -> None:
    plates, each = DESIGNS[name]
    table = screen(plates, each, controls=3, treatments=3)
    found = of(table, null_size=10_000)
    for number, treatment in enumerate(found.treatments):
        wells = np.flatnonzero(table["control"] | (table["treatment"] == treatment))
        of_plate = [[row for row in wells if table["plate"][row] == plate] for plate in plates]
        relabeled = [
            [row for part in chosen for row in part] for chosen in product(*(combinations(o, each) for o in of_plate))
        ]
        own = np.flatnonzero(table["treatment"] == treatment).tolist()
        observed, agreed = naive(table, own, wells.tolist()), agreement(table, own, wells.tolist())
        means = np.array([naive(table, treated, wells.tolist()) for treated in relabeled])
        agrees = np.array([agreement(table, treated, wells.tolist()) for treated in relabeled])
        assert found.draws[number] == len(relabeled)
        assert found.smallest_p_value[number] == 1 / len(relabeled)
        better, equal = (means > observed + 1e-9) & (agrees > 0), np.abs(means - observed) <= 1e-9
        expected = (better | (equal & (agrees >= agreed - 1e-9))).mean() if agreed > 0 else 1
        assert found.p_value[number] == pytest.approx(expected)


@pytest.mark.parametrize("name", DESIGNS)
def test_p_values_of_treatments_without_effect_are_uniform(name: str) -> None:
    plates, each = DESIGNS[name]
    p_values = []
    for plate in range(12):
        table = screen(plates, each, controls=8, treatments=10)
        x = generator("nothing", name, plate).normal(size=(len(table), 6))
        p_values.append(of(table.assign(x=list(x)), null_size=300).p_value)
    found = np.concatenate(p_values)
    assert (found <= 0.3).mean() == pytest.approx(0.3, abs=0.1)  # above it are those whose wells do not agree
    assert (found <= 0.05).mean() == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize("options", [{}, {"null": "random_ranks"}, {"reference": "all"}], ids=str)
def test_an_offset_of_a_plate_changes_nothing(options: dict[str, str]) -> None:
    table = screen(("A", "B", "C", "D"), 1)
    x = np.stack(table["x"]) + table["plate"].map({"A": -5.0, "B": 0.5, "C": 1e3, "D": 0.0}).to_numpy()[:, None]
    before, after = of(table, null_size=500, **options), of(table.assign(x=list(x)), null_size=500, **options)
    np.testing.assert_allclose(before.mean_average_precision, after.mean_average_precision)
    np.testing.assert_allclose(before.p_value, after.p_value)


def test_a_drawn_p_value_is_near_that_of_all_relabelings_and_stops_early() -> None:
    table = screen(("A",), 3, controls=12, treatments=8)
    exact, drawn = of(table, null_size=1000), of(table, null_size=454)
    assert (exact.draws == 455).all()
    assert (drawn.draws <= 454).all()
    assert (drawn.draws[exact.p_value > 0.4] < 300).all()
    np.testing.assert_allclose(drawn.p_value, exact.p_value, atol=0.08)


def test_p_values_of_random_ranks_are_those_of_mean_average_precision() -> None:
    table = screen(("A", "B"), 2)
    found = of(table, null="random_ranks", null_size=700, seed=3)
    expected = mean_average_precision(table[["treatment"]], found.ranked, null_size=700, seed=3)
    assert list(found.treatments) == expected["treatment"].tolist()
    np.testing.assert_array_equal(found.p_value, expected["p_value"])
    np.testing.assert_allclose(found.mean_average_precision, expected["mean_average_precision"])
    chance = math.comb(3 + 6, 3) ** -4  # all four wells of a treatment rank perfectly
    np.testing.assert_allclose(found.smallest_p_value, max(1 / 701, chance))
    rough = of(screen(("A",), 2, controls=2), null="random_ranks")
    np.testing.assert_allclose(rough.smallest_p_value, 1 / 9)


def test_p_values_of_random_ranks_are_those_of_copairs_with_the_same_draws(tmp_path: Path) -> None:
    """copairs reads our draws; it counts those above the observed mean, in float32, and we also count equal ones."""
    table, size = screen(("A", "B"), 2, controls=9), 3000
    found = of(table, null="random_ranks", null_size=size)
    draws, cache = random_average_precision(size, 3, 12), tmp_path / "seed0" / f"ns{size}"
    cache.mkdir(parents=True)
    np.save(cache / "n12_k3.npy", draws)
    ranked = table.assign(
        average_precision=found.ranked.average_precision,
        normalized_average_precision=0.0,
        n_pos_pairs=found.ranked.positives,
        n_total_pairs=found.ranked.pairs,
    )[~table["control"]]
    theirs = their_mean(ranked, ["treatment"], size, 0.05, 0, False, None, tmp_path).sort_values("treatment")
    assert theirs["treatment"].tolist() == list(found.treatments)
    equal = np.abs(draws[:, None] - theirs["mean_average_precision"].to_numpy()) < 1e-6
    assert (~equal.any(axis=0)).sum() >= 3  # those whose mean no draw equals
    np.testing.assert_allclose(found.p_value - theirs["p_value"], 0, atol=(equal.sum(axis=0) / (size + 1)).max() + 1e-9)
    np.testing.assert_allclose(found.p_value[~equal.any(axis=0)], theirs["p_value"][~equal.any(axis=0)], rtol=1e-6)


def test_treatments_without_replicates_and_plates_with_one_control_are_not_tested() -> None:
    table = screen(("A", "B", "C"), 1, controls=4, treatments=3)
    lone = (table["plate"] == "C") & table["control"] & table.duplicated(["plate", "control"])
    single = (table["treatment"] == "t1") & (table["plate"] == "B")
    table = table[~lone & ~single].reset_index(drop=True)
    found = of(table, null_size=100)
    assert found.wells.tolist() == [2, 0, 2]  # t1 is left on plate A, and on C, whose only control is its own centre
    assert np.isnan(found.ranked.average_precision[table["plate"] == "C"]).all()
    assert np.isnan(found.p_value).tolist() == [False, True, False]
    assert found.smallest_p_value.tolist() == [1 / 25, 1, 1 / 25]
    design = ActivityDesign.of(table["treatment"], table["control"].to_numpy(), table["plate"])
    assert {name: smallest_p_value(design, number, 20) for number, name in enumerate(design.names)} == {
        "t0": 1 / 21,
        "t1": 1.0,
        "t2": 1 / 21,
    }


def test_without_controls_the_reference_is_all_wells_or_nothing_is_tested() -> None:
    table = screen(("A", "B"), 2)
    table = table[~table["control"]].reset_index(drop=True)
    assert np.isnan(of(table).p_value).all()
    found = of(table, reference="all", null_size=200)
    assert not np.isnan(found.p_value).any()
    assert (found.ranked.pairs == 3 + 8).all()


def test_labels_change_within_blocks_only() -> None:
    """A treatment at the edge, where wells look alike, is not active when it is compared with controls at the edge."""
    table = screen(("A",), 4, controls=24, treatments=1)
    edge = np.r_[np.arange(24) % 4 == 0, np.ones(4, bool)]
    table["x"] = list(generator("edge").normal(size=(28, 8)) + 4 * edge[:, None])
    assert of(table, null_size=2000).p_value[0] < 0.02
    assert of(table, null_size=2000, blocks=edge).p_value[0] > 0.1


def test_a_well_in_a_block_without_controls_stays_treated() -> None:
    table = screen(("A",), 4, controls=6, treatments=1)
    blocks = ["inside"] * 6 + ["inside", "inside", "edge", "edge"]
    found = of(table, blocks=blocks)
    assert found.draws.tolist() == [28]  # 2 of 8 wells inside
    alone = of(table, blocks=["inside"] * 6 + ["edge"] * 4)
    assert np.isnan(alone.p_value).all()
    assert alone.smallest_p_value.tolist() == [1.0]
    np.testing.assert_allclose(alone.mean_average_precision, found.mean_average_precision)


@pytest.mark.parametrize("options", [{}, {"reference": "all"}, {"similarity": "euclidean"}], ids=str)
def test_equal_profiles_are_ranked_last_and_not_active(options: dict[str, str]) -> None:
    for design in DESIGNS.values():
        table = screen(*design, controls=6, treatments=2)
        found = of(table.assign(x=[np.ones(3)] * len(table)), null_size=300, **options)
        np.testing.assert_array_equal(found.p_value, 1)
        assert (found.mean_average_precision < 0.4).all()


def test_the_draws_of_a_treatment_depend_on_its_name_and_the_seed_only() -> None:
    table = screen(("A", "B"), 2, controls=10)
    fewer = table[table["treatment"].isna() | table["treatment"].isin(["t0", "t2"])].reset_index(drop=True)
    every, some = of(table, null_size=400, seed=1), of(fewer, null_size=400, seed=1)
    assert every.p_value[[0, 2]].tolist() == some.p_value.tolist()
    assert of(table, null_size=400, seed=2).p_value.tolist() != every.p_value.tolist()


def test_q_values_leave_out_what_was_not_tested() -> None:
    p_values = np.array([0.01, np.nan, 0.04, 0.5])
    np.testing.assert_allclose(q_values(p_values)[[0, 2, 3]], false_discovery_control(p_values[[0, 2, 3]]))
    assert np.isnan(q_values(p_values)[1])


@pytest.mark.parametrize("options", [{}, {"controls": "all"}, {"scaled": True}, {"reference": "all"}], ids=str)
def test_two_replicates_far_from_all_controls_have_the_smallest_p_value(options: dict[str, str | bool]) -> None:
    """Any two wells that are nearest to each other rank perfectly; the strongest treatment must not tie with them."""
    table = screen(("A",), 2, controls=14, treatments=6)
    x = generator("two replicates").normal(size=(len(table), 8))
    x[(table["treatment"] == "t0").to_numpy()] += 30
    found = of(table.assign(x=list(x)), **options)
    assert found.p_value[0] == found.smallest_p_value[0] < 0.02
    assert found.p_value[1:].min() > found.p_value[0]


def test_a_scale_that_few_controls_set_makes_no_treatment_active() -> None:
    """Features are divided by the spread of two control wells per plate, which treated wells did not set."""
    p_values = []
    for seed in range(12):
        table = screen(("A", "B", "C", "D"), 1, controls=2, treatments=20)
        x = generator("few controls", seed).standard_t(4, size=(len(table), 60))
        is_control = table["control"].to_numpy()
        p_values.append(of(table.assign(x=list(x / x[is_control].std(axis=0))), null_size=400, scaled=True).p_value)
    assert (np.concatenate(p_values) <= 0.05).mean() < 0.08
