"""measurements: the features of the baselines, compared with numpy and scikit-image."""

import numpy as np
import pytest
from skimage.feature import graycomatrix, graycoprops

from cellssl.imaging.measurements import (
    DISTANCES_PX,
    LEVELS,
    MEASURED,
    PERCENTS,
    TEXTURES,
    feature_names,
    features,
    intensities,
)
from cellssl.randomness import generator


def crops(number: int = 4) -> np.ndarray:
    return generator("tests", "crops").gamma(2.0, 30.0, (number, 3, 31, 17)).clip(0, 255).astype(np.uint8)


def test_intensities_are_means_per_channel() -> None:
    assert np.allclose(intensities(crops()), crops().reshape(4, 3, -1).mean(axis=2))


def test_features_agree_with_numpy() -> None:
    pixels = crops().reshape(4, 3, -1)
    percentiles = [np.percentile(pixels, percent, axis=2, method="inverted_cdf") for percent in PERCENTS]
    known = np.stack([pixels.mean(axis=2), pixels.std(axis=2), *percentiles], axis=2)
    assert np.allclose(features(crops()).reshape(4, 3, -1)[:, :, :5], known)


@pytest.mark.parametrize("distance", DISTANCES_PX)
@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_agree_with_scikit_image(distance: int, texture: str) -> None:
    """Its diagonal neighbours lie on a circle; a distance times the square root of 2 gives ours."""
    crop = crops()[2, 1]
    pairs = np.zeros((LEVELS, LEVELS, 1, 1))
    for far, angle in ((1, 0), (1, np.pi / 2), (2**0.5, np.pi / 4), (2**0.5, 3 * np.pi / 4)):
        pairs += graycomatrix(crop // 16, [distance * far], [angle], LEVELS, symmetric=True)
    place = feature_names(["dna", "actin", "tubulin"]).index(f"actin_{texture}_{distance}px")
    known = graycoprops(pairs / pairs.sum(), texture)[0, 0]
    assert features(crops())[2, place] == pytest.approx(known, rel=1e-5)


def test_a_black_crop_has_a_texture_too() -> None:
    assert np.isfinite(features(np.zeros((1, 1, 9, 9), np.uint8))).all()


def test_every_feature_has_a_name_in_its_place() -> None:
    names = feature_names(["dna", "actin", "tubulin"])
    assert len(names) == len(set(names)) == features(crops()).shape[1] == 3 * len(MEASURED)
    assert names.index("actin_mean") == len(MEASURED)
    assert np.allclose(features(crops())[:, names.index("actin_mean")], intensities(crops())[:, 1])


def test_a_rotated_cell_has_the_same_features() -> None:
    assert (features(np.rot90(crops(), axes=(2, 3)).copy()) == features(crops())).all()


def test_no_cells_give_no_rows() -> None:
    assert intensities(crops(0)).shape == (0, 3)
    assert features(crops(0)).shape == (0, 3 * len(MEASURED))
