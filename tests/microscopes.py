"""microscopes: cells in micrometres and an objective in -> the image that a camera takes, and its true labels, out.

The same culture can be photographed at any magnification, and every image, made up or real, can be put under conditions
that nuclei share a slide with: a tilted or glowing background, a meniscus, a vignette, blur, binning, 8 bits.

    culture = grow(60, height_um=240, width_um=300)
    photo = photograph(culture, OBJECTIVES["40x"])        # photo.image uint16, photo.labels int32, photo.pixel_um
    slope = tilted(photo.image, rise=3000, degrees=30)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage
from skimage.io import imread
from skimage.transform import resize

from cellssl.datasets.simulation.scene import Rendered, Scene, render
from cellssl.randomness import generator

LATTICE_UM = 0.25  # grid on which the texture of chromatin is known, whatever the magnification
DARK, NOISE_PER_LIGHT, READ_NOISE = 180.0, 1.25, 16.0  # as the camera of BBBC021: offset, variance per grey value, SD
REAL_DAPI = "Week1_150607_B02_s3_w1*.tif"


@dataclass(frozen=True)
class Objective:
    """The side of a pixel on the slide and the numerical aperture."""

    pixel_um: float
    aperture: float

    @property
    def blur_um(self) -> float:
        """Standard deviation of the blur: diffraction at 460 nm, and nuclei that are not quite in focus."""
        return float(np.hypot(0.21 * 0.46 / self.aperture, 0.3))


OBJECTIVES = {
    "4x": Objective(2.5, 0.13),
    "10x": Objective(1.0, 0.3),
    "20x": Objective(0.5, 0.75),
    "40x": Objective(0.25, 0.95),
    "60x": Objective(1 / 6, 1.4),
}


@dataclass(frozen=True)
class Culture:
    """Nuclei on a slide, one row each; lengths in micrometres, light relative to the average nucleus."""

    height_um: float
    width_um: float
    row_um: np.ndarray
    column_um: np.ndarray
    radius_um: np.ndarray
    ratio: np.ndarray
    angle: np.ndarray
    light: np.ndarray
    waves: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.row_um)


@dataclass(frozen=True)
class Photo:
    """The camera's image, the true labels 1..n, and the side of a pixel."""

    image: np.ndarray
    labels: np.ndarray
    pixel_um: float


def grow(
    count: int,
    height_um: float,
    width_um: float,
    diameter_um: float = 15.0,
    light_spread: float = 0.3,
    seed: int = 0,
    on_edge: bool = True,
) -> Culture:
    """Scatter nuclei, some of which touch; sizes vary by a tenth, light by `light_spread` (SD of its log).

    `on_edge` = False leaves a margin, so that the count does not depend on what of a nucleus is still visible.
    Fewer nuclei are placed where so many do not fit.
    """
    rng = generator("microscopes", seed, count)
    radius = diameter_um / 2 * np.exp(0.1 * rng.standard_normal(count))
    margin = 0.0 if on_edge else 0.8 * diameter_um
    places = np.empty((count, 2))
    placed = 0
    for _ in range(60 * count):
        if placed == count:
            break
        place = rng.uniform((margin, margin), (height_um - margin, width_um - margin))
        apart = np.hypot(*(places[:placed] - place).T) / (radius[:placed] + radius[placed])
        if (apart > rng.uniform(1.0, 1.3)).all():
            places[placed] = place
            placed += 1
    return Culture(
        height_um,
        width_um,
        row_um=places[:placed, 0],
        column_um=places[:placed, 1],
        radius_um=radius[:placed],
        ratio=1 + rng.gamma(3.0, 0.06, count)[:placed],
        angle=rng.uniform(0, np.pi, count)[:placed],
        light=np.exp(light_spread * rng.standard_normal(count))[:placed],
        waves=rng.normal(0, 0.02, (count, 3, 2))[:placed],
        seed=seed,
    )


def photograph(
    culture: Culture,
    objective: Objective,
    light: float = 1350.0,
    background: float | np.ndarray = 330.0,
    noise: float = 1.0,
    contrast_of_chromatin: float = 0.18,
) -> Photo:
    """Return the image of a culture: drawn finely, blurred by the optics, summed over pixels, with shot and read noise.

    `light` and `background` are grey values above the camera's offset; `background` may be an image, whose light has
    its shot noise too. `noise` multiplies all noise.
    """
    pixel_um = objective.pixel_um
    split = max(int(np.ceil(pixel_um / 0.4)), 1)  # so many fine pixels across one pixel of the camera
    rows, columns = int(culture.height_um / pixel_um), int(culture.width_um / pixel_um)
    fine, owner = _draw(culture, pixel_um / split, (rows * split, columns * split), contrast_of_chromatin)
    blurred = ndimage.gaussian_filter(fine, objective.blur_um * split / pixel_um)
    seen = blurred.reshape(rows, split, columns, split).mean(axis=(1, 3))
    photons = np.maximum(light * seen + background, 0)
    rng = generator("microscopes", "camera", culture.seed, rows)
    grain = rng.standard_normal(photons.shape) * np.sqrt(NOISE_PER_LIGHT * photons + READ_NOISE**2)
    image = np.clip(np.rint(photons + noise * grain + DARK), 0, 65_535).astype(np.uint16)
    return Photo(image, _without_gaps(owner[split // 2 :: split, split // 2 :: split]), pixel_um)


def _draw(culture: Culture, pixel_um: float, shape: tuple[int, int], contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the light of all nuclei and the number of the nucleus at every fine pixel; 0 for none."""
    texture = _chromatin(culture)
    light, owner, depth = np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for number in range(len(culture)):
        reach = 1.5 * culture.radius_um[number] * np.sqrt(culture.ratio[number])
        centre = (culture.row_um[number], culture.column_um[number])
        spans = [
            slice(max(int((middle - reach) / pixel_um), 0), min(int((middle + reach) / pixel_um) + 1, side))
            for middle, side in zip(centre, shape, strict=True)
        ]
        down, across = (
            (np.arange(span.start, span.stop, dtype=np.float32) + np.float32(0.5)) * np.float32(pixel_um)
            for span in spans
        )
        if not len(down) or not len(across):
            continue
        out = _outness(culture, number, down[:, None] - centre[0], across[None, :] - centre[1])
        thickness = np.sqrt(np.clip(1 - 0.8 * out**2, 0, None)) * np.clip(
            (1 - out) * culture.radius_um[number] / pixel_um + 0.5, 0, 1
        )
        lattice = np.meshgrid(down / LATTICE_UM, across / LATTICE_UM, indexing="ij")
        grain = ndimage.map_coordinates(texture, lattice, order=1, mode="nearest")
        here = tuple(spans)
        light[here] += culture.light[number] * thickness * np.clip(1 + contrast * grain, 0.3, None)
        deeper = (1 - out > depth[here]) & (out < 1)
        owner[here][deeper] = number + 1
        depth[here][deeper] = (1 - out)[deeper]
    return light, owner


def _outness(culture: Culture, number: int, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return how far out every pixel lies: 0 the centre, 1 the rim of a wavy ellipse."""
    cos, sin, ratio = np.cos(culture.angle[number]), np.sin(culture.angle[number]), np.sqrt(culture.ratio[number])
    along, beside = (across * cos + down * sin) / ratio, (down * cos - across * sin) * ratio
    theta = np.arctan2(beside, along)
    rim = 1 + sum(
        a * np.cos(wave * theta) + b * np.sin(wave * theta)
        for wave, (a, b) in enumerate(culture.waves[number], start=2)
    )
    return np.asarray(np.hypot(along, beside) / (culture.radius_um[number] * rim), np.float32)


def _chromatin(culture: Culture) -> np.ndarray:
    """Return grains of half a micrometre and clumps of two over the slide, with dark nucleoli; mean 0."""
    rng = generator("microscopes", "chromatin", culture.seed)
    shape = (int(culture.height_um / LATTICE_UM) + 2, int(culture.width_um / LATTICE_UM) + 2)
    noise = rng.standard_normal(shape, dtype=np.float32)
    grains, clumps = (ndimage.gaussian_filter(noise, size_um / LATTICE_UM) for size_um in (0.35, 1.4))
    return 0.6 * grains / grains.std() + 0.8 * clumps / clumps.std()


def _without_gaps(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32) + int(labels.min() > 0)


# ------------------------------------------------------------------------------------------------------- conditions
# Images of uint8, uint16 or float in, images of the same type out; made-up and real ones alike.


def tilted(image: np.ndarray, rise: float, degrees: float = 0.0) -> np.ndarray:
    """Add a background that rises by so many grey values across the field; 0 degrees: from left to right."""
    rows, columns = _unit_grid(image.shape)
    angle = np.deg2rad(degrees)
    plane = columns * np.cos(angle) + rows * np.sin(angle)
    return _added(image, rise * (plane - plane.min()) / np.ptp(plane))


def glowing(
    image: np.ndarray, height: float, width: float = 0.5, centre: tuple[float, float] = (0.5, 0.5)
) -> np.ndarray:
    """Add a Gaussian glow with a standard deviation of `width` times the field's width; `centre` in shares of it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(rows - centre[0] * image.shape[0], columns - centre[1] * image.shape[1])
    return _added(image, height * np.exp(-0.5 * (away / (width * image.shape[1])) ** 2))


def in_meniscus(image: np.ndarray, height: float) -> np.ndarray:
    """Add a background that rises towards the wall of the well beyond one corner, steeply at the end."""
    rows, columns = _unit_grid(image.shape)
    towards = (rows + columns + 2) / 4
    return _added(image, height * towards**4)


def vignetted(image: np.ndarray, falloff: float) -> np.ndarray:
    """Darken the corners by the share `falloff`; the camera's offset stays."""
    rows, columns = _unit_grid(image.shape)
    lamp = 1 - falloff * (rows**2 + columns**2) / 2
    return _as_type(image, DARK + (image.astype(np.float64) - DARK) * lamp)


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the image out of focus; noise is blurred with it, as where planes were averaged."""
    return _as_type(image, ndimage.gaussian_filter(image.astype(np.float64), sigma_px))


def binned(image: np.ndarray, side: int = 2) -> np.ndarray:
    """Return the mean over squares of pixels, as a camera that bins; an incomplete square is cut off."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    squares = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return _as_type(image, squares.mean(axis=(1, 3)))


def in_8_bits(image: np.ndarray) -> np.ndarray:
    """Return the image as software exports it: the brightest pixel is 255."""
    return np.rint(image * (255 / max(float(image.max()), 1))).astype(np.uint8)


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the image at another magnification: averaged where it shrinks, interpolated where it grows."""
    shape = tuple(max(round(side * factor), 1) for side in image.shape)
    return _as_type(image, resize(image.astype(np.float64), shape, order=1 if factor < 1 else 3, anti_aliasing=True))


def with_fibre(image: np.ndarray, height: float = 800.0, blur_px: float = 15.0, seed: int = 0) -> np.ndarray:
    """Add a bent fibre far out of focus, which crosses the field."""
    rng = generator("microscopes", "fibre", seed)
    rows, columns = image.shape
    along = np.linspace(0, 1, 4 * columns)
    path = rows * (rng.uniform(0.2, 0.8) + 0.25 * np.sin(rng.uniform(2, 5) * along + rng.uniform(0, 6)))
    drawn = np.zeros(image.shape)
    drawn[np.clip(path, 0, rows - 1).astype(int), np.minimum(along * columns, columns - 1).astype(int)] = 1
    drawn = ndimage.gaussian_filter(drawn, blur_px)
    return _added(image, height * drawn / drawn.max())


def blank(shape: tuple[int, int], level: float = 500.0, seed: int = 0, blur_px: float = 0.0) -> np.ndarray:
    """Return a well without cells: light of the medium and noise, which neighbouring pixels share where it is blurred.

    The noise has the standard deviation of the camera, blurred or not.
    """
    noise = generator("microscopes", "blank", seed).standard_normal(shape)
    noise = ndimage.gaussian_filter(noise, blur_px) if blur_px else noise
    sd = np.sqrt(NOISE_PER_LIGHT * level + READ_NOISE**2)
    return np.clip(np.rint(level + sd * noise / noise.std()), 0, 65_535).astype(np.uint16)


def _unit_grid(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns from -1 to 1."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    return rows, columns


def _added(image: np.ndarray, light: np.ndarray) -> np.ndarray:
    return _as_type(image, image.astype(np.float64) + light)


def _as_type(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    if image.dtype.kind == "f":
        return values.astype(image.dtype)
    return np.clip(np.rint(values), 0, np.iinfo(image.dtype).max).astype(image.dtype)


CONDITIONS = {
    "slope of 1,500": lambda image: tilted(image, 1500),
    "slope of 3,000": lambda image: tilted(image, 3000),
    "slope of 3,000, downwards": lambda image: tilted(image, 3000, 90),
    "slope of 3,000, oblique": lambda image: tilted(image, 3000, 215),
    "glow of 3,000": lambda image: glowing(image, 3000),
    "glow of 5,000, half the width across": lambda image: glowing(image, 5000, width=0.25),
    "glow of 3,000 beside": lambda image: glowing(image, 3000, 0.4, (0.2, 0.9)),
    "meniscus of 3,000": lambda image: in_meniscus(image, 3000),
    "vignette of a half": lambda image: vignetted(image, 0.5),
}
"""Name -> a background that must not change which nuclei are found in a field of grey values above some hundreds."""


# --------------------------------------------------------------------------------------- simulated and real fields


def simulated_field(number: int = 0, cells: float = 195.0, shape: tuple[int, int] = (1024, 1280)) -> Rendered:
    """Return a field as the simulated data set has them, at 20x: `images["dna"]` and `labels`; `cells` per 1280 x 1024.

    The images of one number have the same cells only where `cells` and `shape` are the same.
    """
    return render(Scene(7, "plate", f"well {number}", f"field {number}", None, 0.0, *shape, cells, 0.2, 0.2, 0.85))


def real_dapi(shared_data: Path) -> np.ndarray | None:
    """Return a real field of 1280 x 1024 px with about 195 nuclei of 37 px; None where the data are absent."""
    files = sorted((shared_data / "fields").glob(REAL_DAPI))
    return tifffile.imread(files[0]) if files else None


def annotated_fields(shared_data: Path, min_side_px: int = 256) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, image and true labels of the real annotated fields, in the order of their names."""
    folder = shared_data / "segmentation" / "dsb2018_stage1_fluo"
    for path in sorted((folder / "images").glob("*.png")):
        image = imread(path)
        if min(image.shape) >= min_side_px:
            yield path.stem, image, _without_gaps(imread(folder / "labels" / path.name))
