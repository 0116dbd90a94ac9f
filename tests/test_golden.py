"""The values that results rest on equal a committed snapshot: defaults, fingerprints, and what of a recipe counts."""

import json
from pathlib import Path

import golden
import pytest

DEFAULTS = json.loads((golden.FOLDER / "defaults.json").read_text(encoding="utf-8"))
WRITE = "python tests/golden.py writes the snapshot anew, where the change is meant"


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_a_default_changes_only_with_a_higher_algorithm(name: str) -> None:
    now = json.loads(golden.as_text(golden.defaults())).get(name)
    assert now is not None, f"{name} is gone; {WRITE}"
    if now != DEFAULTS[name]:
        must = f"the ALGORITHM of {name} must rise above {DEFAULTS[name]['algorithm']}, because a default changed"
        assert now["algorithm"] > DEFAULTS[name]["algorithm"], must
        pytest.fail(f"the defaults of {name} changed; {WRITE}")


def test_every_stage_and_plugin_has_its_snapshot() -> None:
    assert sorted(golden.defaults()) == sorted(DEFAULTS), WRITE


def test_the_shipped_recipes_keep_their_fingerprints(tmp_path: Path) -> None:
    then = json.loads((golden.FOLDER / "fingerprints.json").read_text(encoding="utf-8"))
    now = golden.fingerprints(tmp_path)
    assert {name: now.get(name) for name in then} == then, f"results would bear other names; {WRITE}"


@pytest.mark.parametrize("name", golden.RECIPES)
def test_what_counts_of_a_shipped_recipe_stays(name: str) -> None:
    then = json.loads((golden.FOLDER / "sections.json").read_text(encoding="utf-8"))
    assert json.loads(golden.as_text(golden.sections()))[name] == then[name], WRITE
