"""explain: types, units, bounds and choices of every setting, which is found by its name or its path."""

import json

import pytest
from chain import say

from cellssl.cli.explain import PLUGIN_FOLDERS, _everything
from cellssl.config import plugins


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("moco", ["queue = 1024", "whole number, at least 1"]),
        ("pretrain.epochs", ["pretrain.epochs = 400", "number (epochs), at least 0"]),
        ("pretrain.branches.objective", ['= "moco"', "one of barlow_twins, byol", "cellssl explain objectives"]),
        ("pretrain.branches.context.objective.moco.queue", ["moco.queue = 1024"]),
        ("segment.scale.pool", ['one of "none", "batch"', "one scale"]),
        ("segment.crop_um", ["number (micrometres), more than 0"]),
        ("crop_px", ["segment.crop_px = 196", "whole number (pixels), at least 8"]),
        ("hits", ["[hits]", "alpha = 0.05", "more than 0, less than 1"]),
        ("hits.permute_within", ['a list of any of "plate", "edge", "row", "column"']),
        ("watershed", ["segmenters.watershed", "cell_segmenters.watershed"]),
        ("momentum", ["cellssl explain byol.momentum", "cellssl explain moco.momentum"]),
        ("rotate.degrees", ["number or list of 2 numbers (degrees)"]),
        ("pretrain encoder", ["pretrain.encoder", "cellssl explain"]),
        ("pretrain branches objective", ["pretrain.branches.NAME.objective = "]),
        ("moco nuclei_net momentum", ["moco Recognise", "nuclei_net Find", "cellssl explain byol.momentum"]),
    ],
)
def test_a_word_or_a_path_finds_its_settings(words: str, found: list[str]) -> None:
    said = say("explain", *words.split())
    assert said.code == 0, said.err
    text = " ".join(said.out.split())
    assert all(" ".join(one.split()) in text for one in found), said.out
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("mocco", "did you mean 'moco'?"),
        ("pretrain.epoch", "did you mean 'epochs'?"),
        ("segment.scale.pol", "did you mean 'pool'?"),
        ("moco.quue", "did you mean 'queue'?"),
        ("zzzzzz", "without a word"),
        ("moco quue", "did you mean 'queue'?"),
        ("moco cluster klusters", "did you mean 'cluster'?"),
    ],
)
def test_an_unknown_word_names_the_nearest_known_one(words: str, cure: str) -> None:
    said = say("explain", *words.split())
    assert said.code == 2 and cure in said.err


def test_explain_alone_lists_all_that_can_be_asked_for() -> None:
    out = say("explain").out
    for folder, place in PLUGIN_FOLDERS.items():
        assert folder in out and all(name in out for name in plugins.names(place))


def test_every_setting_says_what_it_takes() -> None:
    settings = [(whole.title, one) for whole in _everything() for one in whole.settings()]
    silent = [f"{title}.{one.name}" for title, one in settings if not one.kind()]
    assert len(settings) > 200 and silent == []


def test_json_holds_type_unit_bounds_and_choices() -> None:
    (setting,) = json.loads(say("explain", "segment.crop_px", "--json").out)["segment.crop_px"]
    assert (setting["type"], setting["unit"], setting["bounds"]) == ("whole number", "pixels", ["at least 8"])
    (setting,) = json.loads(say("explain", "hits.null", "--json").out)["hits.null"]
    assert setting["choices"] == ['"permutation"', '"random_ranks"']
