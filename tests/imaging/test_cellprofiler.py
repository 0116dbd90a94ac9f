"""CellProfiler's measurements agree with scikit-image, with loops, and with closed forms; what is undefined is nan."""

import numpy as np
import pytest
from skimage.measure import regionprops_table
from skimage.segmentation import expand_labels

from cellssl.imaging.cellprofiler import columns, measure_field, overlap
from cellssl.imaging.radial_distribution import find_rings
from cellssl.randomness import generator

pytest.importorskip("cp_measure", reason="the extra cellprofiler is not installed")
CHANNELS = ["dna", "tubulin"]
SHAPE = (96, 120)


@pytest.fixture(scope="module")
def nuclei() -> np.ndarray:
    """Return five ellipses, two of which touch and one of which lies at the edge."""
    rows, columns_ = np.mgrid[: SHAPE[0], : SHAPE[1]]
    labels = np.zeros(SHAPE, np.int32)
    for number, (row, column, a, b) in enumerate(
        ((20, 20, 9, 7), (20, 36, 8, 9), (60, 30, 12, 8), (2, 90, 9, 9), (70, 90, 10, 6)), 1
    ):
        inside = ((rows - row) / a) ** 2 + ((columns_ - column) / b) ** 2 < 1
        labels[inside & (labels == 0)] = number
    return labels


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Return two channels of noise that is smooth in part."""
    noise = generator("cellprofiler").random((2, *SHAPE))
    return 0.2 + 0.3 * noise + 0.3 * np.linspace(0, 1, SHAPE[1])


@pytest.fixture(scope="module")
def measured(nuclei: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measurements of the nuclei by their name."""
    values = measure_field({"Nuclei": nuclei}, np.arange(1, 6), pixels)
    return dict(zip(columns(["Nuclei"], CHANNELS), values.T, strict=True))


def test_every_number_has_a_name_of_its_own(measured: dict[str, np.ndarray]) -> None:
    names = columns(["Nuclei", "Cells"], ["dna", "tubulin", "actin"])
    assert len(set(names)) == len(names)
    assert {"Nuclei_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_dna", "Cells_Granularity_3_actin"} <= set(names)
    assert "Cells_Texture_Contrast_tubulin_3_01_256" in names
    assert "Nuclei_RadialDistribution_FracAtD_dna_1of4" in names
    assert all(np.isfinite(values).all() for values in measured.values())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("AreaShape_Area", "area"),
        ("AreaShape_Eccentricity", "eccentricity"),
        ("AreaShape_Solidity", "solidity"),
        ("AreaShape_MajorAxisLength", "axis_major_length"),
        ("AreaShape_Perimeter", "perimeter"),
        ("AreaShape_CentralMoment_2_1", "moments_central-2-1"),
        ("AreaShape_SpatialMoment_1_2", "moments-1-2"),
        ("AreaShape_HuMoment_1", "moments_hu-1"),
        ("Intensity_MeanIntensity_dna", "intensity_mean"),
        ("Intensity_MaxIntensity_dna", "intensity_max"),
        ("Intensity_StdIntensity_dna", "intensity_std"),
    ],
)
def test_shapes_and_intensities_agree_with_scikit_image(
    measured: dict[str, np.ndarray], nuclei: np.ndarray, pixels: np.ndarray, ours: str, theirs: str
) -> None:
    table = regionprops_table(nuclei, pixels[0], properties=(theirs.partition("-")[0],))
    np.testing.assert_allclose(measured[f"Nuclei_{ours}"], table[theirs], rtol=1e-4, atol=1e-6)


def test_correlation_and_radial_fractions_agree_with_their_definitions(
    measured: dict[str, np.ndarray], nuclei: np.ndarray, pixels: np.ndarray
) -> None:
    inside = [pixels[:, nuclei == number] for number in range(1, 6)]
    expected = [np.corrcoef(values)[0, 1] for values in inside]
    np.testing.assert_allclose(measured["Nuclei_Correlation_Correlation_dna_tubulin"], expected, rtol=1e-4)
    rings = [measured[f"Nuclei_RadialDistribution_FracAtD_dna_{ring}of4"] for ring in range(1, 5)]
    np.testing.assert_allclose(np.sum(rings, axis=0), 1, rtol=1e-5)


def test_the_rings_of_all_channels_are_those_that_cp_measure_finds_for_each(
    nuclei: np.ndarray, pixels: np.ndarray
) -> None:
    from cp_measure.core.measureobjectintensitydistribution import get_radial_distribution

    apart = nuclei.copy()
    apart[80:84, 5:12] = 3  # a further piece of an object
    for labels in (nuclei, apart):
        rings = find_rings(labels, 4)
        for channel in (*pixels, np.zeros(SHAPE)):
            theirs, ours = get_radial_distribution(labels, channel), rings.of_channel(channel)
            assert set(theirs) == set(ours)
            for name, values in theirs.items():
                np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_overlap_agrees_with_cp_measure(nuclei: np.ndarray, pixels: np.ndarray) -> None:
    from cp_measure.core.measurecolocalization import get_correlation_overlap

    theirs, ours = get_correlation_overlap(*pixels, nuclei), overlap(nuclei, *pixels)
    assert set(theirs) == set(ours)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-12)


def test_compartments_measured_together_give_the_bits_of_each_alone(nuclei: np.ndarray, pixels: np.ndarray) -> None:
    cells = expand_labels(nuclei, 5)
    objects = {"Nuclei": nuclei, "Cells": cells, "Cytoplasm": np.where(nuclei > 0, 0, cells)}
    wanted = np.arange(1, 6)
    alone = [measure_field({name: labels}, wanted, pixels) for name, labels in objects.items()]
    assert np.array_equal(measure_field(objects, wanted, pixels), np.concatenate(alone, axis=1), equal_nan=True)


def test_a_measurement_does_not_depend_on_objects_that_are_not_wanted(nuclei: np.ndarray, pixels: np.ndarray) -> None:
    every, some = (measure_field({"Nuclei": nuclei}, np.array(wanted), pixels) for wanted in ([1, 2, 3, 4, 5], [4, 2]))
    assert np.array_equal(every[[3, 1]], some)


@pytest.mark.parametrize("area", [np.s_[5:6, 5:6], np.s_[5:6, 5:7], np.s_[5:6, 5:25], np.s_[0:4, 0:4], np.s_[:, :]])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_what_is_not_defined_is_nan_and_never_an_error(area: tuple[slice, slice], value: float) -> None:
    labels, flat = np.zeros((40, 40), np.int32), np.full((2, 40, 40), value)
    labels[area] = 2
    values = measure_field({"Nuclei": labels}, np.array([2, 7]), flat)
    by_name = dict(zip(columns(["Nuclei"], CHANNELS), values.T, strict=True))
    assert by_name["Nuclei_AreaShape_Area"][0] == (labels == 2).sum()
    assert np.isnan(by_name["Nuclei_Correlation_Correlation_dna_tubulin"][0]), "a constant has no correlation"
    assert np.isnan(values[1]).all(), "the label 7 does not occur"
    assert not np.isinf(values).any()
