"""Mirrors that flip bits, cut answers short and send pages, many seeds: the bytes of a clean fetch, or exit 4."""

import json
from pathlib import Path

import pytest
from chain import say
from made_up_screen import write_screen
from misbehaving_server import ServerBehaviour, alter_some, cached, flips_a_bit, reset, send_a_page, serving, truncate

SEEDS = range(40)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["flips", "all faults", "whole archives", "a cache that keeps damaged answers"])
def test_nothing_is_quarantined_whatever_the_mirror_does(kind: str, tmp_path: Path) -> None:
    recipe = write_screen(tmp_path) / "recipe.toml"
    words = ("fetch", recipe, "--set", "fetch.max_failures=0.3")
    clean = files_in(tmp_path / "clean") if say(*words, "--store", tmp_path / "clean").code == 0 else {}
    for seed in SEEDS:
        faults = (flips_a_bit(seed), *((truncate, reset, send_a_page) if kind == "all faults" else ()))
        alter, store = alter_some(0.2, seed, *faults), tmp_path / str(seed)
        behaviour = ServerBehaviour(tmp_path / "there", grants_ranges=kind != "whole archives")
        behaviour.alter = cached(alter, heeds_requests=bool(seed % 2)) if "cache" in kind else alter
        with serving(behaviour) as address:
            codes = [4]
            while codes[-1] == 4 and len(codes) < 20:
                codes.append(say(*words, "--store", store, "--mirror", address).code)
        if "cache" in kind and codes[-1] in (3, 5):  # the cache keeps a damaged table for ever
            continue
        assert codes[-1] == 0, (seed, codes)
        assert files_in(store) == clean, seed


def files_in(store: Path) -> dict[str, bytes]:
    """Return the files of all fetch artifacts, without their cards and the sums of whole archives."""
    cards = [json.loads(card.read_text()) for card in store.glob("fetch/*/artifact.json")]
    return {
        f"{card['fingerprint']}/{name}": (store / "fetch" / card["fingerprint"] / name).read_bytes()
        for card in cards
        for name in card["files"]
    }
