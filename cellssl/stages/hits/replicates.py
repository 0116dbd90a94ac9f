"""replicates: a study in; how often replicates find each other under every rule, as metrics and as a table, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from cellssl.stages.hits.metrics import RetrievalRule
from cellssl.stages.hits.study import Study

if TYPE_CHECKING:
    import pandas as pd


def find_replicates(study: Study, count_ratio: np.ndarray) -> tuple[dict[str, RetrievalRule], dict[str, str]]:
    """Return the retrieval under every rule that these wells allow, and the reason for the others."""
    from cellssl.profiling.replicate_retrieval import replicate_retrieval

    profiles = study.profiles
    wells, counts = profiles.wells, count_ratio[study.rows]
    is_counted = bool(np.isfinite(counts[~profiles.is_control]).all())
    found = replicate_retrieval(
        profiles.x,
        study.labels,
        profiles.is_control,
        wells["plate"],
        wells["well"],
        compounds=wells["compound"],
        batches=wells.get("batch"),
        sources=wells.get("source"),
        cell_counts=np.log(np.maximum(counts, 1e-6)) if is_counted else None,
        similarity=study.settings.similarity,
    )
    beside = " (plates without controls are left out)" if study.left_out else ""
    reasons = {name: f"{reason}{beside}" for name, reason in found.not_computed.items()}
    return {name: RetrievalRule(**asdict(rule)) for name, rule in found.rules.items()}, reasons


def retrieval_table(rules: Mapping[str, RetrievalRule], not_computed: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per rule; those that cannot be computed have only a remark."""
    import pandas as pd

    rows = [{"rule": name, **asdict(rule), "remark": ""} for name, rule in rules.items()]
    rows += [{"rule": name, "remark": reason} for name, reason in not_computed.items()]
    columns = ["rule", *RetrievalRule.__dataclass_fields__, "remark"]
    return pd.DataFrame(rows, columns=columns).astype({"queries": "Int64", "pairs": "Int64"})
