"""segment: fields of nuclei in -> F1 of every segmenter and its time from images to crops, beside other methods, out.

    python benchmarks/segment.py --fields ../shared/data/segmentation/dsb2018_stage1_fluo     # F1, then times
    python benchmarks/segment.py                                                              # times only
    python benchmarks/segment.py --cellpose ../shared/data/weights/cellpose3_cyto_from_scellseg.pth   # cellpose too

F1 is measured on the fields that the training of nuclei_net held out, the same for every method. Times are those of
simulated 1280 x 1024 fields in three channels, in one process with one thread: read, segment, measure, read again and
write the crops, on the disk of --folder. Rounds are interleaved and the best of each method is taken, so that ratios
hold on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_local, threshold_otsu
from skimage.measure import label, regionprops_table
from skimage.morphology import h_maxima, remove_small_objects
from skimage.segmentation import clear_border, watershed
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from train_nuclei_net import Segment, group_fields, read_bowl, score_fields, simulate_fields

from cellssl.artifacts.crops import reserve_crops
from cellssl.artifacts.hashing import sha256_of
from cellssl.config import plugins
from cellssl.datasets.simulation.scene import Scene, render
from cellssl.device import allowed_cores
from cellssl.engine.process_pool import parallel_map
from cellssl.images.reference import ImageReference
from cellssl.imaging.segmenter import Segmenter
from cellssl.imaging.segmenters.watershed import typical_diameter_px
from cellssl.stages.segment.field import FetchedImage, FieldTask, segment_field
from cellssl.stages.segment.field_crops import CropTask, crop_field
from cellssl.stages.segment.nuclei import nuclei_table
from cellssl.stages.segment.selection import reject_by_limits
from cellssl.stages.segment.settings import Settings

CHANNELS = ("dna", "tubulin", "actin")
FIELDS = pd.DataFrame({"pixel_um": [0.4963], "field_height_px": [1024], "field_width_px": [1280]})


def main() -> None:
    """Print F1 where labelled fields are options, then times."""
    options = parse_options()
    methods = shipped(options.cellpose)
    if options.fields:
        show_f1(options.fields, {**classical(), **methods})
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tasks = [write_field(Path(folder), number) for number in range(options.count)]
        show_one_process(tasks, methods, options.rounds)
        show_all_cores(tasks)
        show_disk(Path(folder))


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, help="folder with images/ and labels/ of the 2018 Data Science Bowl")
    parser.add_argument("--cellpose", type=Path, help="weights of a cellpose network; cellpose must be installed")
    parser.add_argument(
        "--folder", type=Path, help="where the times are measured; default: the system's temporary folder"
    )
    parser.add_argument("--count", type=int, default=6, help="number of simulated fields")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def shipped(cellpose: Path | None) -> dict[str, Segment]:
    """Return the segmenters that a recipe can name."""
    folder = "cellssl.imaging.segmenters"
    names = ("watershed", "nuclei_net")
    methods: dict[str, Segment] = {name: plugins.load(folder, name).Settings().segment for name in names}
    if cellpose:
        settings = plugins.load(folder, "cellpose").Settings(weights=cellpose)
        methods["cellpose"] = settings.prepare((), "cpu").segment
    return methods


# ------------------------------------------------------------------------------------------------------------------ F1


def classical() -> dict[str, Segment]:
    """Return methods without weights, made of scikit-image functions, that `watershed` has to beat."""
    return {
        "otsu, distance": otsu_distance,
        "local threshold, h-maxima": local_h_maxima,
        "otsu, LoG seeds": otsu_log,
    }


def otsu_distance(image: np.ndarray) -> np.ndarray:
    """Segment as in a tutorial: Otsu's threshold, and a watershed from the peaks of the distance to the background."""
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 1) > threshold_otsu(image))
    distance = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=7, labels=label(mask))
    return _watershed_from(-distance, peaks, mask)


def local_h_maxima(image: np.ndarray) -> np.ndarray:
    """Segment by a local threshold, with seeds at the h-maxima of distance and light."""
    diameter = typical_diameter_px(image.astype(np.float32))
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 0.06 * diameter)
    window = 2 * int(1.5 * diameter) + 1
    mask = (smooth > threshold_local(smooth, window)) & (smooth > threshold_otsu(smooth) / 2)
    mask = remove_small_objects(ndimage.binary_fill_holes(mask), max_size=int(diameter**2 / 8))
    height = ndimage.distance_transform_edt(mask) / diameter + smooth / max(float(smooth.max()), 1e-9)
    seeds = label(h_maxima(ndimage.gaussian_filter(height, 0.1 * diameter), 0.03) & mask)
    return watershed(-height, seeds, mask=mask)


def otsu_log(image: np.ndarray) -> np.ndarray:
    """Segment by Otsu's threshold, with a seed at every blob of the typical size."""
    diameter = typical_diameter_px(image.astype(np.float32))
    blobs = -ndimage.gaussian_laplace(image.astype(np.float32), diameter / 4)
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 1) > threshold_otsu(image))
    peaks = peak_local_max(blobs, min_distance=max(int(diameter / 4), 1), labels=label(mask))
    return _watershed_from(-blobs, peaks, mask)


def _watershed_from(height: np.ndarray, peaks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(height, seeds, mask=mask)


def show_f1(folder: Path, methods: dict[str, Segment]) -> None:
    """Print F1 of every method on the held-out fields by size, and on simulated plates."""
    groups = group_fields(read_bowl(folder)[1], simulate_fields(1, 8))
    print(f"{'':26}{'fields':>8}{'nuclei':>8}  mean F1 at 0.5 / 0.7 / 0.9   pooled at 0.5   merged split missed debris")
    for name, segment in methods.items():
        for group, fields in groups.items():
            scores = score_fields(segment, fields)
            mean = " / ".join(f"{value:.3f}" for value in scores["mean_f1"].values())
            errors = "".join(f"{count:7d}" for count in scores["errors"].values())
            title = name if group == "held_out" else f"  {group}"
            pooled = scores["pooled_f1"]["0.5"]
            print(f"{title:26}{scores['fields']:8}{scores['nuclei']:8}  {mean:29}{pooled:.3f}{errors:>35}")


# --------------------------------------------------------------------------------------------------------------- times


def write_field(folder: Path, number: int) -> FieldTask:
    """Simulate a field, write its images, and return its task."""
    scene = Scene(7, "plate", f"well {number}", f"field {number}", None, 0.0, 1024, 1280, 195.0, 0.2, 0.2, 0.85)
    images = render(scene).images
    paths = tuple(folder / f"{number}-{channel}.tif" for channel in CHANNELS)
    for path, channel in zip(paths, CHANNELS, strict=True):
        tifffile.imwrite(path, images[channel])
    fetched = tuple(FetchedImage(ImageReference((str(path),)), sha256_of(path)) for path in paths)
    return FieldTask(f"field {number}", fetched, 0, 0.4963, folder / f"{number}.npz", folder / f"{number}-labels.tif")


def files_of(task: FieldTask) -> list[str]:
    """Return the files of a field, one per channel."""
    return [image.reference.files[0] for image in task.images]


def whole_field(task: FieldTask, settings: Settings, segment: Segment) -> int:
    """Process one field from its images to its crops; return the number of bytes of the crops."""
    segment_field(task, settings.detection(), FunctionSegmenter(segment))
    nuclei = nuclei_table([task])
    within = reject_by_limits(nuclei, FIELDS.assign(field_id=task.field_id), settings) == 0
    centres = nuclei[["row_px", "column_px"]].to_numpy()[within]
    shape = (len(centres), len(CHANNELS), settings.crop_px, settings.crop_px)
    stack, done = task.result.with_suffix(".npy"), task.result.with_suffix(".cropped")
    reserve_crops(stack, shape)
    window_px = float(settings.crop_px)
    crop_field(CropTask(task.field_id, task.images, (), centres, window_px, stack, shape, 0, settings.border, done))
    return int(2 * np.prod(shape))


class FunctionSegmenter(Segmenter):
    """A segmenter made of a function that needs no pixel size."""

    def __init__(self, function: Segment) -> None:
        self._function = function

    def segment(self, image: np.ndarray, pixel_um: float | None = None) -> np.ndarray:
        """Return the labels that the function gives."""
        return self._function(image)


def scikit_image_field(task: FieldTask, settings: Settings) -> None:
    """Process a field by the same steps as a short script with scikit-image would."""
    pixels = np.stack([tifffile.imread(path) for path in files_of(task)])
    labels = clear_border(otsu_distance(pixels[0]))
    names = ("label", "centroid", "area", "eccentricity", "solidity", "intensity_mean")
    table = regionprops_table(labels, pixels[0], properties=names)
    half = settings.crop_px // 2
    padded = np.pad(pixels, ((0, 0), (half, half), (half, half)), mode="reflect")
    starts = zip(table["centroid-0"].astype(int), table["centroid-1"].astype(int), strict=True)
    crops = np.stack([padded[:, row : row + 2 * half, column : column + 2 * half] for row, column in starts])
    np.save(task.result.with_suffix(".plain.npy"), crops)
    np.savez(task.result.with_suffix(".plain.npz"), **table)


def lower_bound(task: FieldTask) -> None:
    """Do the least that any method must do: read the three images and filter one of them once."""
    pixels = [tifffile.imread(path) for path in files_of(task)]
    ndimage.gaussian_filter(pixels[0].astype(np.float32), 1.0)


def show_one_process(tasks: list[FieldTask], methods: dict[str, Segment], rounds: int) -> None:
    """Print seconds per field on one thread."""
    best = measure_one_process(tasks, methods, rounds)
    print("\nseconds per field, one process, one thread (best of rounds); multiple of the lower bound")
    for name, seconds in best.items():
        print(f"  {name:30}{seconds:8.3f}{seconds / best['lower bound']:8.1f}")


def measure_one_process(tasks: list[FieldTask], methods: dict[str, Segment], rounds: int) -> dict[str, float]:
    """Return seconds per field on one thread, by method: the best of interleaved rounds."""
    settings = Settings()
    work: dict[str, Callable[[FieldTask], object]] = {
        name: partial(whole_field, settings=settings, segment=segment) for name, segment in methods.items()
    }
    segmenting = {
        f"  {name}, segmentation only": partial(_segment_image, segment=segment) for name, segment in methods.items()
    }
    work |= {
        "plain scikit-image": partial(scikit_image_field, settings=settings),
        "lower bound": lower_bound,
        **segmenting,
    }
    best = dict.fromkeys(work, np.inf)
    with threadpool_limits(1):
        for round_ in range(rounds):
            task = tasks[round_ % len(tasks)]
            for name, function in work.items():
                began = time.perf_counter()
                function(task)
                best[name] = min(best[name], time.perf_counter() - began)
    return best


def _segment_image(task: FieldTask, segment: Segment) -> None:
    segment(tifffile.imread(files_of(task)[0]))


def show_all_cores(tasks: list[FieldTask]) -> None:
    """Print seconds per field on all cores for the segmenters that ship."""
    print(f"\nseconds per field, {allowed_cores()} processes, segmenting and measuring, without their start")
    for name in ("watershed", "nuclei_net"):
        settings = Settings(method=name)
        repeated = [task for task in tasks for _ in range(4)]
        finished = []
        for _ in parallel_map(
            partial(segment_field, settings=settings.detection(), segmenter=settings.method), repeated, None
        ):
            finished.append(time.perf_counter())
        # the first results come when the processes have started, so the clock runs from there
        print(f"  {name:30}{(finished[-1] - finished[1]) / (len(finished) - 2):8.3f}")


def show_disk(folder: Path) -> None:
    """Print MB per second of crops written, and of the same bytes written plainly to the same disk."""
    rows, shape = 200, (200, 3, 196, 196)
    from cellssl.artifacts.crops import write_rows

    crops = np.random.Generator(np.random.Philox(0)).integers(0, 65_536, shape).astype(np.uint16)
    best = {"write_rows": np.inf, "plain": np.inf}
    for round_ in range(5):
        stack = folder / f"stack{round_}.npy"
        reserve_crops(stack, (rows, *shape[1:]))
        began = time.perf_counter()
        write_rows(stack, 0, crops)
        best["write_rows"] = min(best["write_rows"], time.perf_counter() - began)
        began = time.perf_counter()
        with (folder / f"plain{round_}").open("wb") as file:
            file.write(crops.data)
            file.flush()
            os.fsync(file.fileno())
        best["plain"] = min(best["plain"], time.perf_counter() - began)
    rates = {name: crops.nbytes / seconds / 1e6 for name, seconds in best.items()}
    print(f"\ncrops to the disk: {rates['write_rows']:.0f} MB/s; the same bytes plainly: {rates['plain']:.0f} MB/s")


if __name__ == "__main__":
    main()
