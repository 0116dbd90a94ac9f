"""What a model, a clustering or first weights expect of cells is compared before any work."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import Chain, say

from cellssl.artifacts.store import Artifact, Store
from cellssl.stages.segment.settings import Settings
from cellssl.stages.shared.preparation import EXPECTS, check_same, differences, of_model, of_section, resampled, unknown

EXPECTED = {"reference": "controls", "low_percentile": 0.1, "crop_px": 48, "pixel_um": [0.5], "algorithm": 3}
REFUSED = {
    "the reference": ('segment.reference="all"', 'segment.reference = "controls", but these have "all"'),
    "the headroom": ("segment.scale.headroom=2", 'segment.scale = { headroom = 3.0, of = "cells" }, but'),
    "the illumination": ('segment.illumination="mean"', 'segment.illumination = "off", but these have "mean"'),
    "the border": ('segment.border="pad"', 'segment.border = "reflect", but these have "pad"'),
    "the crops": ("segment.crop_px=40", "on crops of 48 px, but these are 40 px"),
}


def with_model(chain: Chain, *words: str) -> list[str]:
    """Return the flags for another plate, whose cells go through the chain's model."""
    settings = [f"embed.model={chain.made('pretrain').path}", "embed.cells=segment", "fetch.dataset.doses=1", *words]
    return [flag for setting in settings for flag in ("--set", setting)]


COMMANDS = [("status", case) for case in REFUSED] + [(name, "the reference") for name in ("run", "segment", "doctor")]


@pytest.mark.parametrize("command, case", COMMANDS)
def test_cells_prepared_otherwise_than_the_model_s_are_refused_before_any_work(
    chain: Chain, tmp_path: Path, command: str, case: str
) -> None:
    setting, sentence = REFUSED[case]
    said = say(command, chain.recipe, "--store", tmp_path, "--store", chain.root, *with_model(chain, setting))
    assert said.code == 2 and sentence in said.err and "cure: set segment." in said.err
    assert not list(tmp_path.glob("*/*"))


def test_a_difference_that_is_accepted_is_no_error(chain: Chain, tmp_path: Path) -> None:
    flags = with_model(chain, 'segment.reference="all"', 'embed.accept=["scale"]')
    assert say("status", chain.recipe, "--store", tmp_path, "--store", chain.root, *flags).code == 0


def test_an_older_model_is_known_by_its_inputs_and_one_without_them_by_its_own_card(
    chain: Chain, tmp_path: Path
) -> None:
    model = chain.made("pretrain")
    older = replace(model, card=replace(model.card, metrics={**model.card.metrics, EXPECTS: None}))
    del older.card.metrics[EXPECTS]
    expected = of_model(model, chain.store)
    assert {
        **of_model(older, chain.store),
        "pixel_um": expected["pixel_um"],
        "crop_um": expected["crop_um"],
    } == expected
    alone = Artifact(tmp_path / "pretrain" / "copied", older.card)
    assert of_model(alone, Store(tmp_path)) == {"channels": ["dna", "tubulin", "actin"], "crop_px": 48}
    assert unknown(of_model(alone, Store(tmp_path)), expected) == ["their intensity scale", "the size of a pixel"]
    assert of_model(Artifact(alone.path, model.card), Store(tmp_path)) == expected


@pytest.mark.parametrize(
    "here, words",
    [
        ({}, []),
        ({"pixel_um": [0.4963]}, []),
        ({"pixel_um": [0.5, 0.25]}, ["pixels of 0.5 um, but these are of 0.5 and 0.25 um"]),
        ({"algorithm": 1}, []),
        ({"algorithm": 4}, []),
        ({"algorithm": 99}, ["pixels as segment's ALGORITHM 3 makes them, but these are made by 99"]),
        ({"border": "drop"}, []),
    ],
)
def test_only_what_is_known_and_changes_pixels_is_a_difference(here: dict[str, Any], words: list[str]) -> None:
    assert list(differences({**EXPECTED, "border": "pad"}, here)) == words


def test_cells_of_another_magnification_are_refused_with_the_window_that_fits() -> None:
    plain = {"crop_px": 48, "border": "reflect", "pixel_um": [0.25]}
    ((words, cure),) = differences(EXPECTED, plain).items()
    assert words == "pixels of 0.5 um, but these are of 0.25 um"
    assert "set segment.crop_um = 24 and segment.crop_px = 48" in cure
    assert not differences(EXPECTED, resampled(plain, {"crop_um": 24.0, "crop_px": 48}))
    (cure,) = differences(EXPECTED, {"crop_px": 48, "pixel_um": [0.25]}).values()
    assert "crop_um" not in cure  # these are finished crops, which are not cut


def test_another_size_of_resampled_crops_is_cured_together_with_their_window() -> None:
    plain = {"crop_px": 32, "border": "reflect", "pixel_um": [0.25]}
    resampled_to_32 = resampled(plain, {"crop_um": 16.0, "crop_px": 32})
    (cure,) = differences(EXPECTED, resampled_to_32).values()
    assert cure.startswith("set segment.crop_um = 24 and segment.crop_px = 48")
    (cure,) = differences(EXPECTED, {**plain, "pixel_um": [0.5]}).values()
    assert cure == "set segment.crop_px = 48"


def test_a_model_whose_scale_was_set_by_pixels_names_the_line_that_its_cells_need() -> None:
    older = {"reference": "controls", "low_percentile": 0.1, "high_percentile": 99.9}  # as in a card of ALGORITHM 4
    expected = of_section(older, 4, finished_crops=True)
    here = of_section(Settings().all_values(), Settings.algorithm(), finished_crops=True)
    (cure,) = differences(expected, here).values()
    assert cure == 'set segment.scale = { of = "pixels", low_percentile = 0.1, high_percentile = 99.9 }'
    scale = tomllib.loads(cure.removeprefix("set segment."))["scale"]
    today = Settings.model_validate({"scale": scale})
    assert not differences(expected, of_section(today.all_values(), today.algorithm(), finished_crops=True))


def test_plates_that_share_a_scale_fit_a_model_whose_plates_had_their_own() -> None:
    alone, shared = (Settings.model_validate({"scale": {"pool": pool}}) for pool in ("none", "batch"))
    prepared = [of_section(one.all_values(), one.algorithm(), finished_crops=True) for one in (alone, shared)]
    assert not differences(*prepared)


def test_percentiles_do_not_count_where_the_range_is_given() -> None:
    section = {"reference": "range", "low_percentile": 1.0, "crop_px": 196}
    assert of_section(section, 3, finished_crops=True) == {"reference": "range", "algorithm": 3}


def test_a_clustering_of_another_model_is_refused_before_any_work(chain: Chain, tmp_path: Path) -> None:
    flags = ("--arm", "intensities", "--set", f"cluster.assign_to={chain.made('cluster').path}")
    said = say("status", chain.recipe, "--store", tmp_path, "--store", chain.root, *flags)
    assert said.code == 2 and "the earlier clustering used embeddings of the model" in said.err


STACK = """
name = "stack"
[fetch.dataset]
name = "crop_stack"
stack = "a.npy"
table = "a.csv"
channels = CHANNELS
[segment]
reference = "all"
[pretrain]
encoder = { name = "small", widths = [8, 16] }
branches.v.view = ["horizontal_flip"]
"""


@pytest.mark.parametrize("channels, code", [(["dna", "tubulin", "actin"], 0), (["actin", "tubulin", "dna"], 2)])
@pytest.mark.parametrize("command", ["status", "segment"])
@pytest.mark.parametrize("setting", ["pretrain.init_from", "embed.model"])
def test_another_order_of_channels_is_refused_before_any_work(
    chain: Chain, tmp_path: Path, setting: str, command: str, channels: list[str], code: int
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 48, 48, 3), np.uint16))
    (tmp_path / "a.csv").write_text("plate,well\nP,A01\nP,A02\n")
    (tmp_path / "stack.toml").write_text(STACK.replace("CHANNELS", str(channels)))
    model = f"{setting}={chain.made('pretrain').path}"
    accept = ("--set", 'embed.accept=["scale"]') if setting == "embed.model" else ()
    stores = ("--store", tmp_path / "s", "--store", chain.root)
    said = say(command, tmp_path / "stack.toml", *stores, "--set", model, *accept)
    is_planned = command == "segment" and code == 0  # only the images are missing
    assert said.code == (2 if is_planned else code), said.err
    assert not is_planned or "segment needs the fetch artifact" in said.err
    assert code == 0 or "trained on the channels dna, tubulin, actin, but the" in said.err


def test_the_error_names_the_model_and_every_setting_to_write(chain: Chain) -> None:
    with pytest.raises(Exception, match="was trained on cells with") as caught:
        check_same(chain.made("pretrain"), EXPECTED, {"reference": "all", "crop_px": 40})
    assert caught.value.hint == 'set segment.reference = "controls"; set segment.crop_px = 48'
