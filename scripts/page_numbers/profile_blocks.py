"""profile_blocks: CellProfiler's well profiles -> NSC and NSCB of nucleus, neighbours and both, chain by chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from cellssl.randomness import generator
from page_numbers import markdown, real_cells
from page_numbers.workplace import Workplace, sets

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = "_Neighbors_"
PATTERNS = {"nucleus": ["Nuclei_[!N]*", "Nuclei_Number_*"], "neighbours": ["*_Neighbors_*"]}
"""Blocks of the table `both`, as evaluate.table.blocks takes them."""
TABLES = ("nucleus", "neighbours", "both")
RULES = ("nsc", "nscb")
CHAINS: tuple[tuple[str, ...], ...] = (
    ("center_plate", "scale_pooled"),
    (),
    ("zscore",),
    ("robust_z",),
    ("percentile",),
    ("zscore", "l2", "center_plate"),
    ("center_plate", "scale_pooled", "sphering"),
    ("tvn",),
)
"""The default of profiles first. nsc.csv always has some of the others, too."""
WHITENING = ("sphering", "tvn")
DRAWS, HALVES, CONFIDENCE = 10_000, 20, 0.95


@dataclass(frozen=True)
class Answers:
    """For one table, chain and rule: the compound of every treatment that is asked for, and whether it was right."""

    compound: np.ndarray
    right: np.ndarray

    def percent(self, compounds: np.ndarray | None = None) -> float:
        """Return the percentage of right answers, of all treatments or of those of some compounds."""
        right = self.right if compounds is None else self.right[np.isin(self.compound, compounds)]
        return 100 * float(right.mean())


Found = Mapping[tuple[str, str, str], Answers]
"""(table, chain, rule) -> answers."""


def table(work: Workplace) -> str:
    """Return NSC and NSCB of every table after every chain, and what the neighbours add, with its interval."""
    found = _found(work)
    body = []
    for chain in map(_text, CHAINS):
        cells = [" / ".join(f"{found[name, chain, rule].percent():.0f}" for rule in RULES) for name in TABLES]
        body.append([f"`{chain}`", *cells, *(_gain(found, chain, rule) for rule in RULES)])
    of_both = [f"both - nucleus, {rule.upper()} (points)" for rule in RULES]
    return markdown.table(["`normalise`", *(f"{name}, NSC / NSCB (%)" for name in TABLES), *of_both], body)


def halves(work: Workplace) -> str:
    """Return what the neighbours add on one half of the compounds, under a chain that the other half chose."""
    found = _found(work)
    every = [_text(chain) for chain in CHAINS]
    plain = [_text(chain) for chain in CHAINS if not set(WHITENING) & set(chain)]
    body = []
    for candidates, chains in (("all of the table", every), ("those that do not whiten", plain)):
        for title, choose in WAYS.items():
            body.append([candidates, title, *_over_halves(found, partial(choose, found, chains))])
    body.append(["none: the default of profiles", "", *_over_halves(found, lambda _: (every[0], every[0]))])
    header = ["chains to choose from", "chosen by", "both - nucleus, NSC (points)", "both - nucleus, NSCB (points)"]
    return markdown.table(header, body)


def _found(work: Workplace) -> Found:
    """Return the answers of every table under every chain, by the tool's own evaluation."""
    columns = real_cells.write_profiles(work.folder / "profiles.csv")
    named = [f"evaluate.table.columns.{name}={column}" for name, column in columns.items()]
    answers: dict[tuple[str, str, str], Answers] = {}
    for name in TABLES:
        path = _write_columns(work, name)
        for chain in CHAINS:
            if (name, _text(chain), "nsc") not in answers:
                blocks = [f"evaluate.table.blocks={_toml(PATTERNS)}"] if name == "both" else []
                chosen = [f"evaluate.table.path={path}", f"evaluate.profiles.normalise={json.dumps(chain)}"]
                made = work.cellssl("evaluate", "profiles", *sets(*chosen, *named, *blocks, *CHEAP))
                answers |= {(name, *key): one for key, one in _answers(made / "neighbours.csv")}
    return answers


CHEAP = ("evaluate.retrieval.null_size=100", "evaluate.leave_out=[]")
"""Nothing but NSC and NSCB is read."""


def _write_columns(work: Workplace, name: str) -> str:
    """Write the columns of one table, and what describes the wells."""
    import pandas as pd

    whole: pd.DataFrame = pd.read_csv(work.folder / "profiles.csv")
    measured = whole.columns.str.startswith(("Nuclei_", "Cells_", "Cytoplasm_"))
    near = whole.columns.str.contains(NEIGHBOURS)
    nucleus = whole.columns.str.startswith("Nuclei_") & ~near
    kept = {"nucleus": nucleus, "neighbours": near, "both": nucleus | near}[name]
    path = work.folder / f"{name}.csv"
    whole.loc[:, kept | ~measured].to_csv(path, index=False)
    return str(path)


def _answers(path: object) -> Iterator[tuple[tuple[str, str], Answers]]:
    """Yield (chain, rule) and answers of every part of neighbours.csv."""
    import pandas as pd

    near: pd.DataFrame = pd.read_csv(str(path), dtype=str)
    for (rule, chain), rows in near.groupby(["rule", "normalise"], sort=False):
        right = (rows["moa"] == rows["nearest_moa"]).to_numpy(bool)
        yield (str(chain), str(rule)), Answers(rows["compound"].to_numpy(str), right)


def _gain(found: Found, chain: str, rule: str) -> str:
    """Return the difference of both to the nucleus, with the interval of a bootstrap that draws compounds."""
    nucleus, both = found["nucleus", chain, rule], found["both", chain, rule]
    compounds, number = np.unique(both.compound, return_inverse=True)
    treatments = np.bincount(number)
    gained = np.bincount(number, both.right.astype(float) - nucleus.right)
    rng = generator("compounds drawn", rule)
    drawn = rng.multinomial(len(compounds), np.full(len(compounds), 1 / len(compounds)), size=DRAWS)
    edges = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(100 * (drawn @ gained) / (drawn @ treatments), edges)
    return f"{both.percent() - nucleus.percent():+.0f} ({low:.0f} to {high:.0f})"


def _by_both(found: Found, chains: Sequence[str], half: np.ndarray) -> tuple[str, str]:
    best = max(chains, key=lambda chain: _score(found, "both", chain, half))
    return best, best


def _by_mean(found: Found, chains: Sequence[str], half: np.ndarray) -> tuple[str, str]:
    best = max(chains, key=lambda chain: sum(_score(found, name, chain, half) for name in ("nucleus", "both")))
    return best, best


def _by_each(found: Found, chains: Sequence[str], half: np.ndarray) -> tuple[str, str]:
    nucleus, both = (max(chains, key=lambda chain: _score(found, name, chain, half)) for name in ("nucleus", "both"))
    return nucleus, both


WAYS: Mapping[str, Callable[[Found, Sequence[str], np.ndarray], tuple[str, str]]] = {
    "both": _by_both,
    "the mean of nucleus and both": _by_mean,
    "each for itself": _by_each,
}
"""How one half of the compounds chooses the chains of nucleus and both: by the mean of NSC and NSCB."""


def _score(found: Found, name: str, chain: str, half: np.ndarray) -> float:
    return fmean(found[name, chain, rule].percent(half) for rule in RULES)


def _over_halves(found: Found, choose: Callable[[np.ndarray], tuple[str, str]]) -> list[str]:
    """Return per rule the mean and the lowest gain on the other half."""
    compounds = np.unique(found["both", _text(CHAINS[0]), "nsc"].compound)
    gains: dict[str, list[float]] = {rule: [] for rule in RULES}
    for number in range(HALVES):
        order = generator("halves of compounds", number).permutation(compounds)
        chosen_on, scored_on = np.split(order, [len(order) // 2])
        of_nucleus, of_both = choose(chosen_on)
        for rule in RULES:
            nucleus = found["nucleus", of_nucleus, rule].percent(scored_on)
            gains[rule].append(found["both", of_both, rule].percent(scored_on) - nucleus)
    return [f"{fmean(one):+.1f}, worst half {min(one):+.1f}" for one in gains.values()]


def _text(chain: Sequence[str]) -> str:
    return ", ".join(chain) or "none"


def _toml(patterns: Mapping[str, list[str]]) -> str:
    return "{ " + ", ".join(f"{name} = {json.dumps(some)}" for name, some in patterns.items()) + " }"
