"""cellprofiler: the channels of a field and label images of its objects in, CellProfiler's measurements of each out.

The numbers are those of cp_measure, which is CellProfiler's own code without the program around it. Only two kinds are
computed here: Overlap and K, because cp_measure fails where a channel is 0, and the radial distribution, because it
takes half of the time. Settings are CellProfiler's defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.radial_distribution import find_rings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int, Int32

COMPARTMENTS = ("Nuclei", "Cells", "Cytoplasm")
"""CellProfiler's names of the compartments, in the order of the columns."""
ZERNIKES = tuple(f"{n}_{m}" for n in range(10) for m in range(n % 2, n + 1, 2))
TEXTURES = (
    *("AngularSecondMoment", "Contrast", "Correlation", "Variance", "InverseDifferenceMoment", "SumAverage"),
    *("SumVariance", "SumEntropy", "Entropy", "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2"),
)
TEXTURE_PX, GREY_LEVELS, DIRECTIONS = 3, 256, 4
RINGS = 4
GRANULARITIES = 16
THRESHOLD_PERCENT = 15
"""Overlap, K, Manders and RWC count the pixels above this share of the object's brightest one."""
INTENSITIES = (
    *("IntegratedIntensity", "MeanIntensity", "StdIntensity", "MinIntensity", "MaxIntensity"),
    *("IntegratedIntensityEdge", "MeanIntensityEdge", "StdIntensityEdge", "MinIntensityEdge", "MaxIntensityEdge"),
    *("MassDisplacement", "LowerQuartileIntensity", "MedianIntensity", "MADIntensity", "UpperQuartileIntensity"),
)
SHAPES = (
    *("Area", "BoundingBoxArea", "Compactness", "ConvexArea", "Eccentricity", "EquivalentDiameter", "EulerNumber"),
    *("Extent", "FormFactor", "MajorAxisLength", "MaxFeretDiameter", "MaximumRadius", "MeanRadius", "MedianRadius"),
    *("MinFeretDiameter", "MinorAxisLength", "Orientation", "Perimeter", "Solidity"),
    *(f"SpatialMoment_{i}_{j}" for i in range(3) for j in range(4)),
    # moments of the first order about the centre are 0, and normalised ones below the second are not defined
    *(f"CentralMoment_{i}_{j}" for i in range(3) for j in range(4) if i + j != 1),
    *(f"NormalizedMoment_{i}_{j}" for i in range(4) for j in range(4) if i + j > 1),
    *(f"HuMoment_{i}" for i in range(7)),
    *(f"InertiaTensor_{i}_{j}" for i in range(2) for j in range(2)),
    *(f"InertiaTensorEigenvalues_{i}" for i in range(2)),
    *(f"Zernike_{one}" for one in ZERNIKES),
)
"""Area and shape of an object; where it lies in the field is left out, because it tells the well and not the cell."""


def columns(compartments: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Return the names of all measurements, as CellProfiler and pycytominer spell them, in the order of the numbers."""
    return [f"{compartment}_{name}" for compartment in compartments for name in _measured(channels)]


def _measured(channels: Sequence[str]) -> list[str]:
    """Return the names of the measurements of one object."""
    names = [f"AreaShape_{name}" for name in SHAPES]
    for channel in channels:
        names += [theirs.format(channel) for theirs in _CHANNEL_NAMES.values()]
    for pair in combinations(channels, 2):
        names += [theirs.format(*pair) for theirs in _PAIR_NAMES.values()]
    return names


_CHANNEL_NAMES = {
    **{f"Intensity_{name}": f"Intensity_{name}_{{}}" for name in INTENSITIES},
    **{
        f"RadialDistribution_{name}_{ring}of{RINGS}": f"RadialDistribution_{name}_{{}}_{ring}of{RINGS}"
        for ring in range(1, RINGS + 1)
        for name in ("FracAtD", "MeanFrac", "RadialCV")
    },
    **{
        f"RadialDistribution_ZernikeMagnitude_{one}": f"RadialDistribution_ZernikeMagnitude_{{}}_{one}"
        for one in ZERNIKES
    },
    **{
        f"{name}_{TEXTURE_PX}_{turn:02d}_{GREY_LEVELS}": f"Texture_{name}_{{}}_{TEXTURE_PX}_{turn:02d}_{GREY_LEVELS}"
        for turn in range(DIRECTIONS)
        for name in TEXTURES
    },
    **{f"Granularity_{number}": f"Granularity_{number}_{{}}" for number in range(1, GRANULARITIES + 1)},
}
"""Measurement of one channel in cp_measure -> its column, with a place for the channel."""
_PAIR_NAMES = {
    "Correlation_Pearson": "Correlation_Correlation_{0}_{1}",
    "Correlation_Slope": "Correlation_Slope_{0}_{1}",
    "Correlation_Overlap": "Correlation_Overlap_{0}_{1}",
    **{
        f"Correlation_{name}_{number}": f"Correlation_{name}_{pair}"
        for name in ("K", "Manders", "RWC")
        for number, pair in ((1, "{0}_{1}"), (2, "{1}_{0}"))
    },
}
"""Measurement of two channels in cp_measure -> its column, with places for both; the last six differ by their order."""


def measure_field(
    objects: Mapping[str, Int[np.ndarray, "y x"]],
    wanted: Int[np.ndarray, "n"],
    pixels: Float64[np.ndarray, "c y x"],
) -> Float32[np.ndarray, "n dim"]:
    """Measure the objects with the labels `wanted` in every compartment; nan where a measurement is not defined.

    `objects` holds a label image for each compartment, in the order of COMPARTMENTS, with one number for all objects of
    a cell. `pixels` are grey values from 0 to 1. No measurement depends on objects that are not wanted.
    """
    numbered = {name: _numbered(labels, wanted) for name, labels in objects.items()}
    n = len(wanted)
    if "Nuclei" in numbered and "Cytoplasm" in numbered:
        # they do not overlap, so that one pass over the field measures both; a pass costs more than its objects
        nuclei, cytoplasm = numbered.pop("Nuclei"), numbered.pop("Cytoplasm")
        both = measure_objects(np.where(cytoplasm > 0, cytoplasm + n, nuclei), 2 * n, pixels)
        measured = {"Nuclei": both[:n], "Cytoplasm": both[n:]}
    else:
        measured = {}
    measured |= {name: measure_objects(labels, n, pixels) for name, labels in numbered.items()}
    return np.asarray(np.concatenate([measured[name] for name in objects], axis=1), np.float32)


def _numbered(labels: Int[np.ndarray, "y x"], wanted: Int[np.ndarray, "n"]) -> Int32[np.ndarray, "y x"]:
    """Number the wanted labels 1..n in their order; every other one becomes background."""
    number = np.zeros(max(int(labels.max(initial=0)), int(wanted.max(initial=0))) + 1, np.int32)
    number[wanted] = np.arange(1, len(wanted) + 1)
    return np.asarray(number[labels])


def measure_objects(
    labels: Int[np.ndarray, "y x"], n: int, pixels: Float64[np.ndarray, "c y x"]
) -> Float64[np.ndarray, "n dim"]:
    """Measure objects 1..n; nan where a measurement is not defined, and for a number that does not occur."""
    there = np.flatnonzero(np.bincount(labels.ravel(), minlength=n + 1)[1:]) + 1
    if not len(there):
        return np.full((n, len(_measured(list(map(str, range(len(pixels))))))), np.nan)
    present = _numbered(labels, there)  # cp_measure needs numbers without gaps
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what is not defined becomes nan
        found = _shapes(present)
        rings, varies = find_rings(present, RINGS), []
        for channel in pixels:
            of_channel = {**_of_channel(present, channel), **rings.of_channel(channel)}
            varies.append(of_channel["Intensity_MinIntensity"] < of_channel["Intensity_MaxIntensity"])
            found += [of_channel[name] for name in _CHANNEL_NAMES]
        for first, second in combinations(range(len(pixels)), 2):
            of_pair = _of_pair(present, pixels[first], pixels[second], varies[first] & varies[second])
            found += [of_pair[name] for name in _PAIR_NAMES]
    measured = np.full((n, len(found)), np.nan)
    measured[there - 1] = np.stack(found, axis=1)
    measured[~np.isfinite(measured)] = np.nan
    return measured


Numbers = dict[str, "Float64[np.ndarray, 'n']"]


def _shapes(labels: Int32[np.ndarray, "y x"]) -> list[Float64[np.ndarray, "n"]]:
    from cp_measure.core.measureobjectsizeshape import get_feret, get_sizeshape, get_zernike

    found = {**get_sizeshape(labels, None, new_features=False), **get_feret(labels, None), **get_zernike(labels, None)}
    return [np.asarray(found[name], np.float64) for name in SHAPES]


def _of_channel(labels: Int32[np.ndarray, "y x"], pixels: Float64[np.ndarray, "y x"]) -> Numbers:
    """Return what is measured in one channel besides the rings, under the names of cp_measure."""
    from cp_measure.core.measuregranularity import get_granularity
    from cp_measure.core.measureobjectintensity import get_intensity
    from cp_measure.core.measureobjectintensitydistribution import get_radial_zernikes
    from cp_measure.core.measuretexture import get_texture

    return {
        **get_intensity(labels, pixels, legacy=True),  # quartiles as CellProfiler interpolates them
        **get_radial_zernikes(labels, pixels),
        **get_texture(labels, pixels, TEXTURE_PX, GREY_LEVELS),
        **get_granularity(labels, pixels, granular_spectrum_length=GRANULARITIES),
    }


def _of_pair(
    labels: Int32[np.ndarray, "y x"],
    first: Float64[np.ndarray, "y x"],
    second: Float64[np.ndarray, "y x"],
    vary: Bool[np.ndarray, "n"],
) -> Numbers:
    """Return what is measured in two channels; correlation and slope are nan where one of them does not vary."""
    from cp_measure.core.measurecolocalization import (
        get_correlation_manders_fold,
        get_correlation_pearson,
        get_correlation_rwc,
    )

    pearson = get_correlation_pearson(first, second, labels)
    folds = {
        **get_correlation_manders_fold(first, second, labels, THRESHOLD_PERCENT),
        **get_correlation_rwc(first, second, labels, THRESHOLD_PERCENT),
    }
    return {
        # rounding would give a constant some correlation
        **{name: np.where(vary, values, np.nan) for name, values in pearson.items()},
        **{name: np.asarray(values) for name, values in folds.items()},
        **overlap(labels, first, second),
    }


def overlap(
    labels: Int[np.ndarray, "y x"], first: Float64[np.ndarray, "y x"], second: Float64[np.ndarray, "y x"]
) -> Numbers:
    """Return Overlap and K of two channels in objects 1..n, as CellProfiler's MeasureColocalization defines them."""
    where = np.flatnonzero(labels)
    which, n = labels.ravel()[where].astype(np.int64) - 1, int(labels.max(initial=0))
    a, b = first.ravel()[where], second.ravel()[where]
    bright = np.ones(len(where), bool)
    for values in (a, b):
        highest = np.zeros(n)
        np.maximum.at(highest, which, values)
        bright &= values >= THRESHOLD_PERCENT / 100 * highest[which]

    def total(values: Float64[np.ndarray, "pixel"]) -> Float64[np.ndarray, "n"]:
        return np.bincount(which[bright], weights=values[bright], minlength=n)

    both, of_first, of_second = total(a * b), total(a * a), total(b * b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "Correlation_Overlap": both / np.sqrt(of_first * of_second),
            "Correlation_K_1": both / of_first,
            "Correlation_K_2": both / of_second,
        }
