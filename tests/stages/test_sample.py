"""Tests of fetch.sample: a first look takes fields of all plates, treatments and wells, and says that it is one."""

import json
from collections import Counter
from pathlib import Path

import pytest
from chain import say
from made_up_datasets import write_image_table

from cellssl.datasets.base import Field
from cellssl.stages.fetch.sample import sampled

RECIPE = """
name = "look"
[fetch]
sample = 6
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna", actin = "actin" }
columns = { plate = "plate", well = "well", site = "site", compound = "drug", dose_micromolar = "dose" }
"""


def plate_of(name: str, controls: int = 16, compounds: int = 8, doses: int = 5, sites: int = 9) -> list[Field]:
    """Return the fields of one plate: control wells, then two wells of every compound and dose."""
    treatments: list[tuple[str, float]] = [("DMSO", 0.0)] * controls
    treatments += [(f"drug-{c}", float(d)) for c in range(compounds) for d in range(1, doses + 1)] * 2
    return [
        Field(f"{name}-{number}-{site}", name, f"W{number:03d}", site, {}, compound=compound, dose_micromolar=dose)
        for number, (compound, dose) in enumerate(treatments)
        for site in range(sites)
    ]


def test_a_sample_is_spread_over_plates_treatments_controls_and_wells() -> None:
    fields = [field for name in ("P1", "P2", "P3") for field in plate_of(name)]
    taken = sampled(fields, 60, ["DMSO"])
    assert len(taken) == 60 and taken == [field for field in fields if field in taken]
    assert Counter(field.plate for field in taken) == {"P1": 20, "P2": 20, "P3": 20}
    of_one = [field for field in taken if field.plate == "P1"]
    assert sum(field.compound == "DMSO" for field in of_one) == 5
    assert len({field.well for field in of_one}) == 20
    assert len({(field.compound, field.dose_micromolar) for field in of_one}) == 16
    assert len({field.compound for field in of_one}) >= 6


@pytest.mark.parametrize("count", [1, 3, 7, 100, 863, 864, 5000])
def test_a_sample_has_as_many_fields_as_asked_and_a_smaller_one_is_part_of_it(count: int) -> None:
    fields = plate_of("P1")
    taken = sampled(fields, count, ["DMSO"])
    assert len(taken) == min(count, len(fields))
    smaller = sampled(fields, max(1, count // 2), ["DMSO"])
    assert {field.field_id for field in smaller} <= {field.field_id for field in taken}
    assert any(field.compound == "DMSO" for field in taken)


def test_another_plate_changes_how_many_fields_are_taken_and_not_which_come_first() -> None:
    alone = sampled(plate_of("P1"), 40, ["DMSO"])
    beside = [field for field in sampled([*plate_of("P1"), *plate_of("P2")], 40, ["DMSO"]) if field.plate == "P1"]
    assert len(beside) == 20 and set(map(id_of, beside)) <= set(map(id_of, alone))


def test_few_fields_of_many_plates_take_few_plates_with_controls_each() -> None:
    fields = [field for number in range(30) for field in plate_of(f"P{number:02d}")]
    taken = sampled(fields, 24, ["DMSO"])
    assert len(taken) == 24
    plates = Counter(field.plate for field in taken)
    assert set(plates.values()) == {4}
    assert {field.plate for field in taken if field.compound == "DMSO"} == set(plates)


def test_plates_of_one_field_without_compounds_are_all_taken() -> None:
    fields = [Field(f"f{number}", f"P{number}", "A01", 1, {}) for number in range(10)]
    assert len(sampled(fields, 9, ["DMSO"])) == 9


def id_of(field: Field) -> str:
    return field.field_id


def test_a_sample_is_said_in_the_log_the_card_and_by_status(tmp_path: Path) -> None:
    recipe = write_image_table(tmp_path) / "look.toml"
    recipe.write_text(RECIPE)
    said = say("fetch", recipe, "--store", tmp_path / "store")
    assert "a first look: 6 of 8 fields (fetch.sample), which is no result" in said.err
    metrics = json.loads((Path(said.line) / "artifact.json").read_text())["metrics"]
    assert (metrics["fields"], metrics["sampled_of"]) == (6, 8)
    status = say("status", recipe, "--store", tmp_path / "store", "--set", 'pretrain.branches.a.view=["rotate"]')
    assert "a first look: fetch.sample = 6" in status.err, status.err


def test_a_sample_of_all_fields_makes_the_same_plates_as_no_sample(tmp_path: Path) -> None:
    recipe = write_image_table(tmp_path) / "look.toml"
    recipe.write_text(RECIPE)
    made = [
        Path(say("fetch", recipe, "--store", tmp_path / "store", *words).line)
        for words in (["--set", "fetch.sample=100"], ["--set", "fetch.sample=8"])
    ]
    first, second = (json.loads((folder / "parts.json").read_text()) for folder in made)
    assert first == second and made[0] != made[1]
    assert "sampled_of" not in json.loads((made[0] / "artifact.json").read_text())["metrics"]
