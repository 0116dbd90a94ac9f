"""metrics: the scores of one evaluation as frozen objects; JSON of evaluation.json and of the card out, and back in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cellssl.stages.shared.block_gains import BlockGains
from cellssl.stages.shared.block_words import empty_blocks_words
from cellssl.stages.shared.fitted_link import FittedLink, links_in, links_json

CLASSIFIERS = ("knn", "linear")
"""The classifiers of every scheme: k nearest neighbours, and the linear probe."""
SCHEMES = ("split", "leave_one_plate_out", "leave_one_well_out")
"""Schemes of training and testing: the train and test part of the split, and two cross-validations."""
NSC_RULES = ("nsc", "nscb")
"""NSC and NSCB: whether the nearest treatment has the same mechanism of action."""
RETRIEVAL_TASKS = ("map_replicates", "map_mechanism")
"""Mean average precision of replicates among controls, and of a mechanism among other treatments."""
OF_FEATURES = ("features", "constant_in_controls", "constant_examples", "without_scale", "copied_vectors")
"""Counts of features, which evaluations of earlier versions do not have."""
Bounds = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


@dataclass(frozen=True)
class ClassifierAccuracy:
    """How often the predictions of one classifier are right, under one scheme."""

    accuracy: float
    accuracy_interval: Bounds | None
    """None where a class has one well only, so that nothing can be resampled."""
    balanced_accuracy: float
    """The mean over classes of the share of their cells that is predicted correctly."""
    balanced_accuracy_interval: Bounds | None
    per_class: Mapping[str, float]
    """Class -> share of its cells that is predicted correctly."""
    per_class_interval: Mapping[str, Bounds | None]
    resampled: str
    """What the bootstrap draws: wells, or cells where the wells are not known."""
    shuffled_mean: float
    """Mean balanced accuracy with shuffled labels."""
    shuffled_sd: float | None
    """Its standard deviation over shuffles; None for one shuffle."""
    classes: tuple[str, ...]
    """Names along both axes of `confusion`."""
    confusion: tuple[tuple[int, ...], ...]
    """Number of cells by label (rows) and predicted label (columns)."""

    def cells_per_class(self) -> dict[str, int]:
        """Return the number of test cells of each class that has some."""
        return {name: sum(row) for name, row in zip(self.classes, self.confusion, strict=True) if sum(row)}

    def to_json(self) -> dict[str, Any]:
        """Return the accuracies ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": _list(self.accuracy_interval),
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_accuracy_interval": _list(self.balanced_accuracy_interval),
            "per_class": dict(self.per_class),
            "per_class_interval": {name: _list(bounds) for name, bounds in self.per_class_interval.items()},
            "resampled": self.resampled,
            "shuffled_balanced_accuracy": {"mean": self.shuffled_mean, "sd": self.shuffled_sd},
            "classes": list(self.classes),
            "confusion": [list(row) for row in self.confusion],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClassifierAccuracy:
        """Return the accuracies that `to_json` wrote."""
        shuffled = content["shuffled_balanced_accuracy"]
        return cls(
            accuracy=content["accuracy"],
            accuracy_interval=_bounds(content["accuracy_interval"]),
            balanced_accuracy=content["balanced_accuracy"],
            balanced_accuracy_interval=_bounds(content["balanced_accuracy_interval"]),
            per_class=content["per_class"],
            per_class_interval={name: _bounds(pair) for name, pair in content["per_class_interval"].items()},
            resampled=content["resampled"],
            shuffled_mean=shuffled["mean"],
            shuffled_sd=shuffled["sd"],
            classes=tuple(content["classes"]),
            confusion=tuple(tuple(row) for row in content["confusion"]),
        )


@dataclass(frozen=True)
class PlateAccuracy:
    """Balanced accuracies on one plate, predicted by classifiers that are trained on the other plates."""

    cells: int
    """Number of cells of the plate."""
    balanced_accuracy: Mapping[str, float]
    """Classifier -> balanced accuracy."""

    def to_json(self) -> dict[str, Any]:
        """Return the accuracies ready for JSON."""
        return {"cells": self.cells, **self.balanced_accuracy}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PlateAccuracy:
        """Return the accuracies that `to_json` wrote."""
        return cls(content["cells"], {name: content[name] for name in CLASSIFIERS})


@dataclass(frozen=True)
class SchemeMetrics:
    """The accuracies of all classifiers under one scheme."""

    cells: int
    """Number of test cells."""
    folds: int
    classifiers: Mapping[str, ClassifierAccuracy]
    """Each of CLASSIFIERS."""
    left_out: str | None = None
    """What cross-validation leaves out, plate or well; None for one split."""
    classes_in_one_group_only: tuple[str, ...] = ()
    """Classes of a single plate or well: no training fold has them, so all their cells count as wrong."""
    plates: Mapping[str, PlateAccuracy] | None = None
    """Plate -> its accuracies, where plates are left out."""
    copies: int = 0
    """Test cells whose vector is also that of a training cell: they are found again, not predicted."""
    without_copies: Mapping[str, float | None] = field(default_factory=dict)
    """Classifier -> balanced accuracy without these cells, where there are any; None where no other cell is left."""
    neighbours: int | None = None
    """Number of neighbours of kNN; None in evaluations of earlier versions, which did not look for copies either."""
    small_classes: Mapping[str, int] = field(default_factory=dict)
    """Classes with fewer training cells than that, in the fold with the fewest -> number of training cells."""
    fitted_by: tuple[FittedLink, ...] = ()
    """Who fitted the normalisation of the first fold; empty in evaluations of earlier versions."""
    untrained_plates: tuple[str, ...] = ()
    """Plates whose controls are all tested in one fold: where a cell of them is tested, none of them trains."""
    empty_blocks: tuple[str, ...] = ()
    """Blocks of joined vectors that are 0 for all training cells of a fold, and count for nothing."""
    block_gains: BlockGains | None = None
    """What each block of joined vectors adds; None where there are no blocks, and in schemes that do not drop them."""

    def cautions(self, name: str) -> list[str]:
        """Return sentences on copies and on classes that are too small; `name` is that of the scheme."""
        found = []
        if self.copies:
            scores = "; ".join(
                f"{classifier} {self.classifiers[classifier].balanced_accuracy:.2f} with them, "
                + ("not known" if (other := self.without_copies.get(classifier)) is None else f"{other:.2f}")
                + " without"
                for classifier in CLASSIFIERS
            )
            found.append(
                f"{name}: {self.copies:,} of {self.cells:,} test cells are copies of training cells (equal vectors), "
                f"so balanced accuracy is too high: {scores}"
            )
        if self.small_classes:
            sizes = ", ".join(f"{label} {size}" for label, size in list(self.small_classes.items())[:5])
            found.append(
                f"{name}: {len(self.small_classes)} classes have fewer training cells than the {self.neighbours} "
                f"neighbours of kNN ({sizes}), which can hardly predict them; lower evaluate.neighbours, or read the "
                "linear probe"
            )
        if self.untrained_plates:
            plates = _first(self.untrained_plates[:3], len(self.untrained_plates))
            found.append(
                f"{name}: all controls of a plate are tested at once ({plates}), and they normalise it, so none of its "
                "cells trains where one is tested; a second control well on the plate would let them"
            )
        return found + [f"{name}: {words}" for words in empty_blocks_words(self.empty_blocks)]

    def to_json(self) -> dict[str, Any]:
        """Return the accuracies ready for JSON."""
        content: dict[str, Any] = {"cells": self.cells, "folds": self.folds}
        if self.neighbours is not None:
            content["neighbours"] = self.neighbours
            content["classes_below_neighbours"] = dict(self.small_classes)
            content["copies_of_training_cells"] = self.copies
        if self.copies:
            content["balanced_accuracy_without_copies"] = dict(self.without_copies)
        content |= {name: self.classifiers[name].to_json() for name in CLASSIFIERS}
        if self.left_out is not None:
            content[f"classes_in_one_{self.left_out}_only"] = list(self.classes_in_one_group_only)
        if self.plates is not None:
            content["plates"] = {name: plate.to_json() for name, plate in self.plates.items()}
        if self.untrained_plates:
            content["plates_not_trained_on_where_tested"] = list(self.untrained_plates)
        if self.empty_blocks:
            content["empty_blocks"] = list(self.empty_blocks)
        if self.block_gains is not None:
            content["blocks"] = self.block_gains.to_json()
        return content | links_json(self.fitted_by)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SchemeMetrics:
        """Return the accuracies that `to_json` wrote."""
        left_out = next((group for group in ("plate", "well") if f"classes_in_one_{group}_only" in content), None)
        plates = content.get("plates")
        return cls(
            cells=content["cells"],
            folds=content["folds"],
            classifiers={name: ClassifierAccuracy.from_json(content[name]) for name in CLASSIFIERS},
            left_out=left_out,
            classes_in_one_group_only=tuple(content[f"classes_in_one_{left_out}_only"]) if left_out else (),
            plates=None if plates is None else {name: PlateAccuracy.from_json(each) for name, each in plates.items()},
            copies=content.get("copies_of_training_cells", 0),
            without_copies=content.get("balanced_accuracy_without_copies", {}),
            neighbours=content.get("neighbours"),
            small_classes=content.get("classes_below_neighbours", {}),
            fitted_by=links_in(content),
            untrained_plates=tuple(content.get("plates_not_trained_on_where_tested", ())),
            empty_blocks=tuple(content.get("empty_blocks", ())),
            block_gains=BlockGains.from_json(content["blocks"]) if "blocks" in content else None,
        )


@dataclass(frozen=True)
class ProfileCounts:
    """How many profiles there are, and their length."""

    wells: int
    control_wells: int
    dim: int
    """Number of features of a profile."""
    treatments: int | None = None
    """None where no well has a treatment."""
    features: int | None = None
    """Number of features of a cell, before the normalisation; None in evaluations of earlier versions."""
    constant_in_controls: int = 0
    """Features that do not vary among the controls of a plate, and get their scale from other plates or all cells."""
    constant_examples: Mapping[str, int] = field(default_factory=dict)
    """The first of them that have a scale -> number of plates on which they do not vary among controls."""
    copied_vectors: int = 0
    """Cells (or rows of an external table) whose vector is exactly that of an earlier one."""
    without_scale: int = 0
    """Those that vary nowhere, and count for nothing."""
    fitted_by: tuple[FittedLink, ...] = ()
    """Who fitted the normalisation; empty in evaluations of earlier versions."""
    empty_blocks: tuple[str, ...] = ()
    """Blocks of joined vectors that are 0 for all cells that fit the normalisation, and count for nothing."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts ready for JSON."""
        left_out = {"fitted_by", *(OF_FEATURES if self.features is None else ())}
        left_out |= {"empty_blocks"} if not self.empty_blocks else set()
        counts = {name: value for name, value in asdict(self).items() if value is not None and name not in left_out}
        return counts | links_json(self.fitted_by)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProfileCounts:
        """Return the counts that `to_json` wrote."""
        counts = {name: value for name, value in content.items() if name in cls.__dataclass_fields__}
        known = {"fitted_by": links_in(content), "empty_blocks": tuple(content.get("empty_blocks", ()))}
        return cls(**{**counts, **known})

    def cautions(self) -> list[str]:
        """Return sentences on copies, on features that controls give no scale, on those that nothing gives one, and on
        blocks that count for nothing."""
        found = [f"profiles: {words}" for words in empty_blocks_words(self.empty_blocks)]
        if self.copied_vectors:
            found.append(f"{self.copied_vectors:,} vectors are exactly equal to that of another cell or row")
        if scaled := self.constant_in_controls - self.without_scale:
            named = _first(self.constant_examples, scaled)
            found.append(
                f"{scaled:,} of {self.features:,} features {'varies' if scaled == 1 else 'vary'}, but not among the "
                f"controls of a plate ({named}); the scale is taken from other plates or from all cells"
            )
        if self.without_scale:
            found.append(
                f"{self.without_scale:,} of {self.features:,} features {'has' if self.without_scale == 1 else 'have'} "
                "no variation that could set a scale, and count for nothing"
            )
        return found


def _first(names: Iterable[str], total: int) -> str:
    shown = list(names)
    return ", ".join(shown) + (", …" if total > len(shown) else "")


@dataclass(frozen=True)
class NscMetrics:
    """How often the nearest treatment has the same mechanism of action, by NSC or NSCB."""

    normalise: str
    """The chain that the recipe chooses: its links with commas between them, or `none`."""
    treatments: int
    """Number of treatments whose mechanism is predicted."""
    right: int
    """Number of them whose nearest treatment has the same mechanism."""
    accuracy: float
    accuracy_after: Mapping[str, float]
    """Chain -> accuracy, for the chosen one and others that these plates allow."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts and accuracies ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> NscMetrics:
        """Return the counts and accuracies that `to_json` wrote."""
        return cls(
            normalise=content["normalise"],
            treatments=content["treatments"],
            right=content["right"],
            accuracy=content["accuracy"],
            accuracy_after=content["accuracy_after"],
        )


@dataclass(frozen=True)
class RetrievalMetrics:
    """Mean average precision of one retrieval task."""

    groups: int
    """Number of treatments or mechanisms that are searched for."""
    mean_average_precision: float
    """The mean over groups."""
    found: int
    """Number of groups whose corrected p-value is below `retrieval.alpha`."""
    share_found: float
    fitted_by: tuple[FittedLink, ...] = ()
    """Who fitted the normalisation, with the first half of the controls where halves are ranked; empty in evaluations
    of earlier versions."""

    def to_json(self) -> dict[str, Any]:
        """Return the scores ready for JSON."""
        scores = {name: value for name, value in asdict(self).items() if name != "fitted_by"}
        return scores | links_json(self.fitted_by)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RetrievalMetrics:
        """Return the scores that `to_json` wrote."""
        return cls(
            groups=content["groups"],
            mean_average_precision=content["mean_average_precision"],
            found=content["found"],
            share_found=content["share_found"],
            fitted_by=links_in(content),
        )


PartMetrics = SchemeMetrics | ProfileCounts | NscMetrics | RetrievalMetrics
"""What one part of an evaluation finds."""


@dataclass(frozen=True)
class EvaluationMetrics:
    """All scores of one evaluation, as evaluation.json has them; a part that was not computed is absent."""

    schemes: Mapping[str, SchemeMetrics] = field(default_factory=dict)
    """Some of SCHEMES."""
    profiles: ProfileCounts | None = None
    nsc: Mapping[str, NscMetrics] = field(default_factory=dict)
    """Some of NSC_RULES."""
    retrieval: Mapping[str, RetrievalMetrics] = field(default_factory=dict)
    """Some of RETRIEVAL_TASKS."""
    not_computed: Mapping[str, str] = field(default_factory=dict)
    """Part -> the reason why these cells do not allow it, with the cure."""

    @classmethod
    def of_parts(cls, parts: Mapping[str, PartMetrics], not_computed: Mapping[str, str]) -> EvaluationMetrics:
        """Return the metrics of the parts that were computed, by name."""
        profiles = parts.get("profiles")
        return cls(
            schemes={name: part for name, part in parts.items() if isinstance(part, SchemeMetrics)},
            profiles=profiles if isinstance(profiles, ProfileCounts) else None,
            nsc={name: part for name, part in parts.items() if isinstance(part, NscMetrics)},
            retrieval={name: part for name, part in parts.items() if isinstance(part, RetrievalMetrics)},
            not_computed=not_computed,
        )

    def fitted_by(self) -> dict[str, tuple[FittedLink, ...]]:
        """Return who fitted the normalisation for every part that has one."""
        profiles = {} if self.profiles is None else {"profiles": self.profiles.fitted_by}
        parts = {**{name: part.fitted_by for name, part in self.schemes.items()}, **profiles}
        return parts | {name: part.fitted_by for name, part in self.retrieval.items()}

    def cautions(self) -> list[str]:
        """Return sentences on what makes these scores too high, or leaves features out of them."""
        of_schemes = [one for name, each in self.schemes.items() for one in each.cautions(name.replace("_", " "))]
        return of_schemes + (self.profiles.cautions() if self.profiles is not None else [])

    def to_json(self) -> dict[str, Any]:
        """Return what evaluation.json holds."""
        parts: dict[str, PartMetrics] = {**self.schemes}
        if self.profiles is not None:
            parts["profiles"] = self.profiles
        parts |= {**self.nsc, **self.retrieval}
        return {**{name: part.to_json() for name, part in parts.items()}, "not_computed": dict(self.not_computed)}

    def card_json(self) -> dict[str, Any]:
        """Return the metrics of the card: evaluation.json, and the accuracies of the split repeated at its top."""
        content = self.to_json()
        return {**content, **content.get("split", {})}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EvaluationMetrics:
        """Return the metrics of evaluation.json or of a card."""
        return cls(
            schemes={name: SchemeMetrics.from_json(content[name]) for name in SCHEMES if name in content},
            profiles=ProfileCounts.from_json(content["profiles"]) if "profiles" in content else None,
            nsc={name: NscMetrics.from_json(content[name]) for name in NSC_RULES if name in content},
            retrieval={name: RetrievalMetrics.from_json(content[name]) for name in RETRIEVAL_TASKS if name in content},
            not_computed=content.get("not_computed", {}),
        )


def _list(bounds: Bounds | None) -> list[float] | None:
    return None if bounds is None else list(bounds)


def _bounds(pair: list[float] | None) -> Bounds | None:
    return None if pair is None else (pair[0], pair[1])
