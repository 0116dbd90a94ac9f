"""The heat maps of plates: wells at their places, one scale for all plates, controls and missing values."""

import numpy as np
from matplotlib.colors import to_rgba

from cellssl.reporting.figures.plate_heatmaps import PlateMap, Shades, plate_heatmaps


def plate(name: str, values: list[float]) -> PlateMap:
    places = np.array([1, 1, 2]), np.array([1, 3, 2])
    return PlateMap(name, *places, np.array([True, False, False]), np.array([values]))


def test_wells_stand_at_their_places_with_the_same_scale_on_all_plates() -> None:
    plates = [plate("low", [1.0, 2.0, 3.0]), plate("high", [10.0, 20.0, np.nan])]
    figure = plate_heatmaps(plates, [Shades("effect", 0.0, 20.0, False)], rows=2, columns=3)
    images = [axis.get_images()[0] for axis in figure.axes if axis.get_images()]
    low, high = (np.ma.filled(image.get_array(), np.nan) for image in images)
    np.testing.assert_array_equal(low, [[1, np.nan, 2], [np.nan, 3, np.nan]])
    np.testing.assert_array_equal(high, [[10, np.nan, 20], [np.nan, np.nan, np.nan]])
    assert {image.norm.vmax for image in images} == {20.0}


def test_controls_are_outlined_and_wells_without_a_value_hatched() -> None:
    figure = plate_heatmaps([plate("P", [1.0, 2.0, np.nan])], [Shades("effect", 0, 2, False)], rows=2, columns=3)
    patches = figure.axes[0].patches
    hatched = [patch.get_center().tolist() for patch in patches if patch.get_hatch()]
    outlined = [patch.get_center().tolist() for patch in patches if patch.get_edgecolor() == to_rgba("black")]
    assert (hatched, outlined) == ([[2, 2]], [[1, 1]])
