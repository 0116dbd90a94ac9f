"""hits: activity, effects and tables of a screen whose answer is known, and of designs that labs have."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import Chain, Said, say
from copairs.map import average_precision
from made_up_vectors import Design, made_up_screen

from cellssl.artifacts.tables import read_table
from cellssl.randomness import generator
from cellssl.stages.hits.metrics import HitsMetrics

FAST = ("hits.null_size=1000", "hits.bootstrap_draws=100")
STRONG = {"changed_share": 0.8, "shift": 6.0, "dim": 24, "dead": 2}
DESIGN = Design(plates=4, control_wells=12, treatments=10, wells_per_treatment=1, active=4, **STRONG)
ALONE = ["Metadata_Plate", "Metadata_Well"]


def screen(design: Design = DESIGN, seed: int = 3) -> pd.DataFrame:
    """Return a table of cells as `embed` writes it."""
    made = made_up_screen(design, seed)
    names = {"plate": "Metadata_Plate", "well": "Metadata_Well"}
    cells = made.cells.rename(columns=lambda name: names.get(name, f"Metadata_{name}"))
    return pd.concat([cells, pd.DataFrame(made.x).add_prefix("emb_")], axis=1)


def profiles_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per well."""
    keys = [name for name in table if str(name).startswith("Metadata_")]
    return table.groupby(keys, dropna=False, sort=False).median().reset_index()


def search(folder: Path, table: pd.DataFrame, *knobs: str) -> Said:
    """Search a table for hits."""
    path = folder / "cells.parquet"
    table.to_parquet(path)
    words = [word for knob in (f"hits.table.path={path}", *FAST, *knobs) for word in ("--set", knob)]
    return say("hits", "profiles", "--store", folder / "store", *words)


def hits_of(said: Said) -> pd.DataFrame:
    """Return the table of treatments."""
    return read_table(Path(said.line) / "hits.parquet")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact of the screen with four active treatments."""
    return Path(search(tmp_path_factory.mktemp("hits"), screen()).line)


def test_active_treatments_come_first_and_the_others_are_not_active(found: Path) -> None:
    table = read_table(found / "hits.parquet")
    assert sorted(table["compound"][:4]) == ["drug-001", "drug-002", "drug-003", "drug-004"]
    assert table["active"].tolist() == [True] * 4 + [False] * 6
    assert (table["q_value"][:4] < 0.05).all() and table["q_value"].is_monotonic_increasing
    assert table["effect"][:4].min() > 1 > table["effect"][4:].max()
    assert table["changed_share"][:4].min() > 0.4 > table["changed_share"][4:].max()


def test_hits_csv_says_the_same_with_fewer_digits(found: Path) -> None:
    written, table = pd.read_csv(found / "hits.csv"), read_table(found / "hits.parquet")
    assert written.columns.tolist() == table.columns.tolist()
    np.testing.assert_allclose(written["effect"], table["effect"], rtol=1e-3)
    assert written["active"].tolist() == table["active"].tolist()


def test_mean_average_precision_is_that_of_copairs_on_the_written_profiles(found: Path) -> None:
    profiles = read_table(found / "profiles.parquet")
    meta = profiles.filter(like="Metadata_")
    meta = meta.assign(own=np.where(meta["Metadata_control"], np.arange(len(meta)), -1))
    theirs = average_precision(
        meta,
        profiles.filter(like="emb_").to_numpy(),
        pos_sameby=["Metadata_compound", "own"],
        pos_diffby=[],
        neg_sameby=[],
        neg_diffby=["Metadata_control"],
        progress_bar=False,
    )
    theirs = theirs[~theirs["Metadata_control"]].groupby("Metadata_compound")["average_precision"].mean()
    ours = read_table(found / "hits.parquet").set_index("compound")["mean_average_precision"]
    np.testing.assert_allclose(ours.sort_index(), theirs.sort_index(), atol=1e-6)


def test_control_wells_lie_around_zero_on_every_plate(found: Path) -> None:
    profiles = read_table(found / "profiles.parquet")
    controls = profiles[profiles["Metadata_control"]]
    means = controls.groupby("Metadata_Plate")[list(profiles.filter(like="emb_"))].mean()
    np.testing.assert_allclose(means, 0, atol=1e-9)


def test_the_card_counts_what_the_table_has_and_reads_back(found: Path) -> None:
    metrics = HitsMetrics.from_json(json.loads((found / "hits.json").read_text()))
    assert (metrics.treatments, metrics.tested, metrics.active) == (10, 10, 4)
    assert (metrics.wells, metrics.control_wells, metrics.plates) == (88, 48, 4)
    assert HitsMetrics.from_json(metrics.to_json()) == metrics
    assert metrics.retrieval["other_batch_and_position"].recall_at_1 > 2 * metrics.retrieval["any"].chance
    assert "another batch and another well position" in metrics.is_it_real


def test_the_same_search_twice_is_up_to_date_and_forced_again_it_has_the_same_bytes(tmp_path: Path) -> None:
    first = search(tmp_path, screen())
    card = json.loads((Path(first.line) / "artifact.json").read_text())["files"]
    assert "up to date" in search(tmp_path, screen()).err
    words = [word for knob in (f"hits.table.path={tmp_path / 'cells.parquet'}", *FAST) for word in ("--set", knob)]
    again = say("hits", "profiles", "--store", tmp_path / "store", "--force", *words)
    assert json.loads((Path(again.line) / "artifact.json").read_text())["files"] == card


def test_the_order_of_the_rows_changes_nothing(found: Path, tmp_path: Path) -> None:
    table = screen()
    there = hits_of(search(tmp_path, table.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(there, read_table(found / "hits.parquet"), rtol=1e-5)


def test_one_well_per_treatment_has_effects_and_ranks_and_says_why_no_q_value(tmp_path: Path) -> None:
    said = search(tmp_path, screen()[lambda cells: cells["Metadata_Plate"] == "P01"])
    table = hits_of(said)
    assert "effects and ranks, but no q-values" in said.err
    assert table["q_value"].isna().all() and table["active"].isna().all()
    assert table["effect_rank"].tolist() == list(range(1, 11))
    assert set(table["remark"]) == {"one well: effect and rank only, no q-value"}


def test_no_controls_is_an_error_with_the_cure_and_the_cure_works(tmp_path: Path) -> None:
    table = screen()[lambda cells: cells["Metadata_compound"] != "DMSO"].drop(columns="Metadata_control")
    said = search(tmp_path, table)
    assert said.code == 2 and 'hits.reference = "all"' in said.err
    hits = hits_of(search(tmp_path, table, "hits.reference=all"))
    assert set(hits["compound"][hits["active"].fillna(False)]) <= {f"drug-00{number}" for number in range(1, 5)}
    assert hits["active"].sum() >= 2


def test_one_control_well_per_plate_gives_no_q_values_and_effects_in_a_unit_that_is_named(tmp_path: Path) -> None:
    table = screen(Design(plates=4, control_wells=1, treatments=10, wells_per_treatment=1, active=4, **STRONG))
    said = search(tmp_path, table)
    hits = hits_of(said)
    assert hits["p_value"].isna().all() and hits["effect"].notna().all() and hits["changed_share"].isna().all()
    cautions = HitsMetrics.from_json(json.loads((Path(said.line) / "hits.json").read_text())).cautions
    assert "not as far as a typical control well" in said.err and any("median of all wells" in one for one in cautions)
    assert hits["remark"].str.contains("too few control wells").all()


def test_plates_without_controls_are_left_out_and_named(tmp_path: Path) -> None:
    table = screen()
    lost = table["Metadata_control"] & (table["Metadata_Plate"] == "P04")
    said = search(tmp_path, table[~lost])
    assert "1 plate with 10 treated wells left out, for no control well: P04" in said.err
    hits = hits_of(said)
    assert hits["remark"].str.contains("1 well left out: no control well on the plate").all()
    assert hits["active"].sum() >= 1


def test_a_design_that_cannot_reach_significance_says_so(tmp_path: Path) -> None:
    design = Design(plates=1, control_wells=3, treatments=6, wells_per_treatment=2, active=2, **STRONG)
    said = search(tmp_path, screen(design))
    assert "no treatment can have a q-value below 0.05: the smallest possible p-value is 0.2" in said.err
    assert not hits_of(said)["active"].any()


def test_profiles_of_wells_give_the_same_activity_as_their_cells(found: Path, tmp_path: Path) -> None:
    hits = hits_of(search(tmp_path, profiles_of(screen())))
    assert hits["active"].tolist() == [True] * 4 + [False] * 6
    assert hits["changed_share"].isna().all() and hits["cell_count_ratio"].isna().all()


def test_a_column_of_cell_counts_shows_what_number_alone_would_find(tmp_path: Path) -> None:
    table = profiles_of(screen())
    is_toxic = table["Metadata_compound"] == "drug-010"
    table["Metadata_cells"] = np.where(is_toxic, 40, 100) + np.arange(len(table)) % 7
    hits = hits_of(search(tmp_path, table)).set_index("compound")
    assert hits["cell_count_ratio"]["drug-010"] == pytest.approx(0.42, abs=0.03)
    assert hits.index[hits["cell_count_q_value"] < 0.05].tolist() == ["drug-010"]


def test_positive_controls_give_a_robust_z_prime_per_plate(tmp_path: Path) -> None:
    design = Design(plates=2, control_wells=8, treatments=6, wells_per_treatment=4, active=1, **STRONG)
    table = profiles_of(screen(design))
    kinds = {"DMSO": "negative", "drug-001": "positive"}
    table["Metadata_control_type"] = table["Metadata_compound"].map(kinds).fillna("treatment")
    plates = pd.read_csv(Path(search(tmp_path, table).line) / "plates.csv")
    assert plates["plate"].tolist() == ["P01", "P02"] and plates["positive_controls"].tolist() == [4, 4]
    assert plates["robust_z_prime"].notna().all() and (plates["ssmd"] > 2).all()


def test_controls_at_the_edge_and_treatments_inside_are_named(tmp_path: Path) -> None:
    design = Design(control_wells=16, treatments=5, wells_per_treatment=4, layout="controls_in_columns", dim=24, dead=2)
    said = search(tmp_path, screen(design))
    assert "2 columns with controls have hardly a treated well" in said.err


def test_treatments_in_the_same_well_on_all_plates_are_named(tmp_path: Path) -> None:
    design = Design(plates=3, treatments=5, wells_per_treatment=1, layout="fixed", dim=24, dead=2)
    said = search(tmp_path, screen(design))
    assert "most treatments lie in the same wells on all plates" in said.err
    assert "not known" in said.err


def test_labels_change_only_within_the_edge_where_that_is_asked_for(tmp_path: Path) -> None:
    hits = hits_of(search(tmp_path, screen(), 'hits.permute_within=["plate", "edge"]'))
    assert hits["active"].sum() >= 3
    table = screen().assign(Metadata_Well=lambda cells: "position-" + cells["Metadata_Well"])
    said = search(tmp_path, table, 'hits.permute_within=["plate", "edge"]')
    assert said.code == 2 and "does not say where it lies" in said.err


@pytest.mark.parametrize("knob", ["aggregate=quantiles", "aggregate=mean", "similarity=euclidean", "controls=plate"])
def test_every_way_to_combine_and_compare_finds_the_active_treatments(knob: str, tmp_path: Path) -> None:
    hits = hits_of(search(tmp_path, screen(), f"hits.{knob}"))
    active = set(hits["compound"][hits["active"]])
    assert active <= {f"drug-00{number}" for number in range(1, 5)} and len(active) >= 2


def test_quantiles_have_a_name_each(tmp_path: Path) -> None:
    folder = Path(search(tmp_path, screen(), "hits.aggregate=quantiles").line)
    names = read_table(folder / "profiles.parquet").filter(like="emb_").columns
    assert len(names) == 3 * 24 and {"emb_3_q10", "emb_3_q50", "emb_3_q90"} < set(names)


def test_wells_of_an_embedding_are_counted_by_field(chain: Chain) -> None:
    made = chain.made("hits")
    wells = pd.read_csv(made.file("wells.csv"))
    fields = read_table(chain.made("segment").file("fields.parquet"))
    kept = read_table(chain.made("segment").file("cells.parquet")).groupby("field_id").size()
    of_field = fields.assign(kept=fields["field_id"].map(kept).fillna(0)).groupby(["plate", "well"])["kept"].mean()
    found = wells.set_index(["plate", "well"])["cell_count"]
    np.testing.assert_allclose(found, of_field.loc[found.index], rtol=1e-3)


def test_hits_of_an_embedding_use_the_even_draw_of_its_wells(chain: Chain) -> None:
    made = chain.made("hits")
    drawn = read_table(chain.made("embed").file("embeddings.parquet"))["Metadata_drawn"]
    table = read_table(made.file("hits.parquet"))
    profiles = read_table(made.file("profiles.parquet"))
    assert profiles["Metadata_rows"].sum() == drawn.sum()
    assert table["profiled_cells"].sum() == profiles.loc[~profiles["Metadata_control"], "Metadata_rows"].sum()


def test_a_collapsed_encoder_is_named(tmp_path: Path) -> None:
    table = profiles_of(screen())
    table[list(table.filter(like="emb_"))] = 1.0
    said = search(tmp_path, table)
    assert "the encoder has collapsed" in said.err and not hits_of(said)["active"].any()


def test_two_mechanisms_of_one_treatment_are_an_error(tmp_path: Path) -> None:
    table = profiles_of(screen()).assign(Metadata_moa=lambda wells: wells["Metadata_Plate"])
    said = search(tmp_path, table)
    assert said.code == 3 and "more than one mechanism" in said.err


def test_without_treatments_there_is_nothing_to_search(tmp_path: Path) -> None:
    said = search(tmp_path, screen()[lambda cells: cells["Metadata_control"]])
    assert said.code == 2 and "no well has a treatment" in said.err


def test_wells_with_few_cells_are_left_out_and_named(tmp_path: Path) -> None:
    table = screen()
    is_toxic = (table["Metadata_compound"] == "drug-001") & (table["Metadata_Plate"] == "P01")
    few = table[is_toxic].head(5)
    hits = hits_of(search(tmp_path, pd.concat([table[~is_toxic], few]))).set_index("compound")
    assert hits["wells"]["drug-001"] == 3 and hits["wells"]["drug-002"] == 4
    assert hits["remark"]["drug-001"] == "1 well left out: fewer than 10 cells"


def test_positive_controls_that_are_flagged_as_controls_are_treatments(tmp_path: Path) -> None:
    table = screen()
    is_positive = table["Metadata_compound"] == "drug-001"
    types = np.where(table["Metadata_control"], "negcon", np.where(is_positive, "poscon", None))
    flagged = table.assign(Metadata_control_type=types, Metadata_control=table["Metadata_control"] | is_positive)
    hits = hits_of(search(tmp_path, flagged))
    assert hits["compound"].tolist().count("drug-001") == 1 and hits["control_type"].notna().sum() == 1


def test_counts_of_fields_are_summed_over_a_well(tmp_path: Path) -> None:
    table = profiles_of(screen())
    fields = pd.concat([table.assign(Metadata_Object_Count=300), table.assign(Metadata_Object_Count=100)])
    folder = Path(search(tmp_path, fields).line)
    assert set(pd.read_csv(folder / "wells.csv")["cell_count"]) == {400}
    assert hits_of(search(tmp_path, fields))["changed_share"].isna().all()


def test_doses_that_differ_by_rounding_are_one_dose_and_stay_as_given(tmp_path: Path) -> None:
    table = profiles_of(screen())
    table["Metadata_dose_micromolar"] = np.where(table["Metadata_Plate"] == "P01", 0.1 + 0.2, 0.3)
    said = search(tmp_path, table)
    assert len(hits_of(said)) == 10
    assert set(pd.read_csv(Path(said.line) / "hits.csv")["dose_micromolar"]) == {0.3}


def test_a_treatment_that_is_not_active_has_no_nearest_treatment_in_the_table(found: Path) -> None:
    table = read_table(found / "hits.parquet")
    assert table["nearest_treatment"].notna().tolist() == table["active"].tolist()
    assert pd.read_csv(found / "neighbours.csv")["compound"].nunique() == 10


def test_names_that_are_probably_not_read_as_meant_are_named(tmp_path: Path) -> None:
    table = profiles_of(screen()).drop(columns="Metadata_control")
    table = table.rename(columns={"Metadata_dose_micromolar": "Metadata_Concentration"})
    table.loc[table["Metadata_compound"] == "drug-010", "Metadata_compound"] = "dmso"
    said = search(tmp_path, table)
    assert "the column Concentration looks like a dose" in said.err
    assert "dmso is tested as a treatment, though it looks like DMSO" in said.err


def test_two_spellings_of_a_well_are_one_well(tmp_path: Path) -> None:
    table = profiles_of(screen())
    other = table.assign(Metadata_Well=table["Metadata_Well"].str.replace(r"^([A-H])0", r"\1", regex=True))
    said = search(tmp_path, pd.concat([table, other[other["Metadata_Well"] != table["Metadata_Well"]]]))
    assert hits_of(said)["wells"].tolist() == [4] * 10 and "up to 2 rows of one plate and well are combined" in said.err


def test_replicates_that_vary_more_than_controls_are_named(tmp_path: Path) -> None:
    table = profiles_of(
        screen(Design(plates=4, control_wells=12, treatments=10, wells_per_treatment=1, dim=24, dead=2))
    )
    features = list(table.filter(like="emb_"))[:20]
    spread = np.where(table["Metadata_control"], 0, 4 * generator("spread").normal(size=len(table)))
    table[features] += spread[:, None] * table.loc[table["Metadata_control"], features].std().to_numpy()
    assert "times as much as control wells" in search(tmp_path, table).err
    assert "times as much as control wells" not in search(tmp_path, screen()).err
