"""metrics: the scores of one clustering as frozen objects; JSON of scores.json and of the card out, and back in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cellssl.profiling.spread import VectorSpread
from cellssl.stages.shared.block_gains import BlockGains
from cellssl.stages.shared.block_words import empty_blocks_words
from cellssl.stages.shared.fitted_link import FittedLink, links_in, links_json

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.cluster_scores import Comparison

AGREEMENT_SCORES = ("ami", "ami_max", "nmi", "ari", "homogeneity")
"""Scores that compare two groupings of the same cells."""


@dataclass(frozen=True)
class ColumnAgreement:
    """How well the clusters agree with one column of the cell table; a score that is not defined is NaN."""

    agreement: Mapping[str, float]
    """Each of AGREEMENT_SCORES: `ami` is the adjusted mutual information, `ami_max` is normalised by the maximum."""
    shuffled_mean: float
    """Mean AMI with shuffled labels."""
    shuffled_sd: float
    """Standard deviation of the AMI over the shuffles."""
    ami_low: float
    """Lower end of the 95 % bootstrap interval of the AMI over cells."""
    ami_high: float
    """Upper end of that interval."""
    cells: int
    """Number of cells that have a value in the column."""
    classes: int
    """Number of different values in the column."""

    @classmethod
    def of(cls, compared: Comparison) -> ColumnAgreement:
        """Return the agreement that a comparison of labels and clusters has found."""
        return cls(compared.agreement, *compared.shuffled, *compared.interval, compared.cells, compared.classes)

    @property
    def ami(self) -> float:
        """The adjusted mutual information, normalised by the arithmetic mean."""
        return self.agreement["ami"]

    @property
    def ami_max(self) -> float:
        """The adjusted mutual information, normalised by the maximum."""
        return self.agreement["ami_max"]

    def to_json(self) -> dict[str, Any]:
        """Return the agreement ready for JSON; null where a score is not defined."""
        return {
            **{name: _or_null(self.agreement[name]) for name in AGREEMENT_SCORES},
            **self.shuffled_and_interval(),
            "cells": self.cells,
            "classes": self.classes,
        }

    def shuffled_and_interval(self) -> dict[str, Any]:
        """Return the AMI of shuffled labels and the interval of the AMI, ready for JSON."""
        return {
            "shuffled_ami": {"mean": _or_null(self.shuffled_mean), "sd": _or_null(self.shuffled_sd)},
            "ami_interval": [_or_null(self.ami_low), _or_null(self.ami_high)],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ColumnAgreement:
        """Return the agreement that `to_json` wrote."""
        low, high = content["ami_interval"]
        return cls(
            agreement={name: _or_nan(content[name]) for name in AGREEMENT_SCORES},
            shuffled_mean=_or_nan(content["shuffled_ami"]["mean"]),
            shuffled_sd=_or_nan(content["shuffled_ami"]["sd"]),
            ami_low=_or_nan(low),
            ami_high=_or_nan(high),
            cells=content["cells"],
            classes=content["classes"],
        )


@dataclass(frozen=True)
class ClusterScores:
    """All scores of one clustering, as scores.json has them."""

    silhouette: float
    """Mean silhouette; NaN where it is not defined."""
    against: Mapping[str, ColumnAgreement]
    """Column of the cell table -> how well the clusters agree with it."""
    ceiling_ami: float | None = None
    """Upper bound of the AMI with the label, given the true phenotypes of simulated cells; None where these are not
    known."""
    silhouette_of_k: Mapping[str, float] | None = None
    """Number of clusters -> silhouette, where the number was chosen from a range."""

    @property
    def label(self) -> ColumnAgreement | None:
        """The agreement with the label, where the cells have one."""
        return self.against.get("label")

    def to_json(self) -> dict[str, Any]:
        """Return what scores.json holds; shuffled labels and interval of the label are repeated at the top level."""
        content: dict[str, Any] = {}
        if self.silhouette_of_k is not None:
            content["silhouette_of_k"] = {k: _or_null(value) for k, value in self.silhouette_of_k.items()}
        content["silhouette"] = _or_null(self.silhouette)
        content["against"] = {name: column.to_json() for name, column in self.against.items()}
        if self.label is not None:
            content |= self.label.shuffled_and_interval()
        if self.ceiling_ami is not None:
            content["ceiling_ami"] = _or_null(self.ceiling_ami)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClusterScores:
        """Return the scores that `to_json` wrote; other keys are ignored, such as those of a card."""
        by_k = content.get("silhouette_of_k")
        return cls(
            silhouette=_or_nan(content["silhouette"]),
            against={name: ColumnAgreement.from_json(column) for name, column in content["against"].items()},
            ceiling_ami=_or_nan(content["ceiling_ami"]) if "ceiling_ami" in content else None,
            silhouette_of_k=None if by_k is None else {k: _or_nan(value) for k, value in by_k.items()},
        )


@dataclass(frozen=True)
class WellCounts:
    """How many wells and cells wells.csv describes."""

    wells: int
    """Wells of the segment artifact."""
    empty: int
    """Wells without any cell."""
    kept: int
    """Cells that segmentation kept in these wells."""
    drawn: int
    """Cells that were drawn from them, evenly per well."""

    @classmethod
    def of(cls, wells: pd.DataFrame) -> WellCounts:
        """Return the sums of the table wells.csv."""
        n, n_drawn = wells["n"], wells["n_drawn"]
        return cls(len(wells), int((n == 0).sum()), int(n.sum()), int(n_drawn.sum()))

    def to_json(self) -> dict[str, int]:
        """Return the counts ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ClusterMetrics:
    """The metrics on the card of a cluster artifact: what was clustered and how, and all scores."""

    cells: int
    """Cells that the clusters are fitted and scored on."""
    k: int
    """Number of clusters."""
    method: Mapping[str, Any]
    """The clusterer: its name and all its settings."""
    normalise: tuple[str, ...]
    """The links of the chain that normalised the embeddings before."""
    scores: ClusterScores
    filled: int | None = None
    """Number of clusters that hold cells, where some are empty."""
    distinct: int | None = None
    """Number of different embeddings, where some clusters are empty."""
    wells: WellCounts | None = None
    """None on cards of earlier versions."""
    spread: VectorSpread | None = None
    """How far the vectors of the clustered cells differ; None on cards of earlier versions."""
    fitted_by: tuple[FittedLink, ...] = ()
    """Who fitted the links of the chain; empty on cards of earlier versions."""
    empty_blocks: tuple[str, ...] = ()
    """Blocks of the vectors that are all 0 after the chain, and so count for nothing."""
    block_gains: BlockGains | None = None
    """What each block adds to the AMI of clusters and label; None where there are no blocks or labels."""
    map_axes: tuple[str, str] | None = None
    """Names of the axes of the map, with the share of variance of a component; None on cards of earlier versions."""

    def cautions(self) -> list[str]:
        """Return sentences on empty clusters, and on blocks that count for nothing."""
        found = empty_blocks_words(self.empty_blocks)
        if self.filled is None:
            return found
        cells = f"; {self.cells:,} cells have {self.distinct:,} different embeddings" if self.distinct else ""
        return [f"only {self.filled:,} of {self.k:,} clusters hold cells{cells}", *found]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics ready for the card."""
        empty = {"clusters_with_cells": self.filled, "distinct_embeddings": self.distinct}
        return {
            "cells": self.cells,
            "k": self.k,
            "method": dict(self.method),
            "normalise": list(self.normalise),
            **links_json(self.fitted_by),
            **({"empty_blocks": list(self.empty_blocks)} if self.empty_blocks else {}),
            **({"blocks": self.block_gains.to_json()} if self.block_gains else {}),
            **(empty if self.filled is not None else {}),
            **({"wells": self.wells.to_json()} if self.wells else {}),
            **({"spread": self.spread.to_json()} if self.spread else {}),
            **({"map_axes": list(self.map_axes)} if self.map_axes else {}),
            **self.scores.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClusterMetrics:
        """Return the metrics of a card."""
        return cls(
            cells=content["cells"],
            k=content["k"],
            method=content["method"],
            normalise=links_of(content),
            fitted_by=links_in(content),
            empty_blocks=tuple(content.get("empty_blocks", ())),
            block_gains=BlockGains.from_json(content["blocks"]) if "blocks" in content else None,
            scores=ClusterScores.from_json(content),
            filled=content.get("clusters_with_cells"),
            distinct=content.get("distinct_embeddings"),
            wells=WellCounts(**content["wells"]) if "wells" in content else None,
            spread=VectorSpread(**content["spread"]) if "spread" in content else None,
            map_axes=_axes_in(content),
        )


def _axes_in(content: Mapping[str, Any]) -> tuple[str, str] | None:
    if "map_axes" not in content:
        return None
    first, second = content["map_axes"]
    return str(first), str(second)


def method_of(content: Mapping[str, Any]) -> Any:
    """Return the clusterer that a card names; the oldest cards name none: they used K-Means."""
    return content.get("method", "kmeans")


def links_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the links of the chain on a card; on cards of earlier versions it is one name, or "none"."""
    names = content["normalise"]
    if isinstance(names, str):
        return () if names == "none" else (names,)
    return tuple(names)


def _or_null(value: float) -> float | None:
    """Return None for NaN and infinite numbers, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
