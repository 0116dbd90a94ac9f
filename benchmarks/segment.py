"""segment: prints how well nuclei are found and how fast fields become crops, against peers and against the disk.

    python benchmarks/segment.py --fields ../shared/data/segmentation/dsb2018_stage1_fluo     # F1, and then times
    python benchmarks/segment.py                                                              # times alone
    python benchmarks/segment.py --cellpose ../shared/data/weights/cellpose3_cyto_from_scellseg.pth   # and a network's

F1 is that of the fields which the training of nuclei_net held out, so each method sees the same. Times are of simulated
1280 x 1024 fields in three channels, one process and one thread a field: read, find, measure, read again and write the
crops, on the disk of --folder. Rounds are interleaved and the best of each is taken, so ratios hold on a busy machine.
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
import tifffile
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_local, threshold_otsu
from skimage.measure import label, regionprops_table
from skimage.morphology import h_maxima, remove_small_objects
from skimage.segmentation import clear_border, watershed
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from train_nuclei_net import bowl, in_groups, of_fields, simulated

from cellssl.artifacts.crops import reserve_crops
from cellssl.artifacts.hashing import sha256_of
from cellssl.config import plugins
from cellssl.datasets.simulation.scene import Scene, render
from cellssl.engine.process_pool import cores, parallel_map
from cellssl.imaging.segmenters.watershed import typical_diameter_px
from cellssl.stages.segment.field import CutTask, FieldTask, cut_field, segment_field
from cellssl.stages.segment.settings import Settings

CHANNELS = ("dna", "tubulin", "actin")
Find = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """F1 where labelled fields are given, then times."""
    given = parsed()
    methods = detectors(given.cellpose)
    if given.fields:
        show_agreement(given.fields, {**classical(), **methods})
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        tasks = [written(Path(folder), number) for number in range(given.count)]
        show_one_process(tasks, methods, given.rounds)
        show_all_cores(tasks)
        show_disk(Path(folder))


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, help="folder with images/ and labels/ of the 2018 Data Science Bowl")
    parser.add_argument("--cellpose", type=Path, help="weights of a cellpose network, which has to be installed")
    parser.add_argument("--folder", type=Path, help="where the times are taken; the system's temporary folder")
    parser.add_argument("--count", type=int, default=6, help="simulated fields")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def detectors(cellpose: Path | None) -> dict[str, Find]:
    """Those that a recipe can name."""
    room = "cellssl.imaging.segmenters"
    found: dict[str, Find] = {name: plugins.load(room, name).Settings().find for name in ("watershed", "nuclei_net")}
    if cellpose:
        found["cellpose"] = plugins.load(room, "cellpose").Settings(weights=cellpose).prepared(cellpose, "cpu").find
    return found


# ----------------------------------------------------------------------------------------------------------- agreement


def classical() -> dict[str, Find]:
    """Chains without weights, from scikit-image's parts, that `watershed` has to beat."""
    return {
        "otsu, distance": otsu_distance,
        "local threshold, h-maxima": local_h_maxima,
        "otsu, LoG seeds": otsu_log,
    }


def otsu_distance(image: np.ndarray) -> np.ndarray:
    """What a tutorial does: Otsu's threshold, and a watershed from the peaks of the distance to the background."""
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 1) > threshold_otsu(image))
    distance = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=7, labels=label(mask))
    return _parted(-distance, peaks, mask)


def local_h_maxima(image: np.ndarray) -> np.ndarray:
    """A threshold for every neighbourhood, seeds that stand out in distance and light by a height."""
    diameter = typical_diameter_px(image.astype(np.float32))
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 0.06 * diameter)
    window = 2 * int(1.5 * diameter) + 1
    mask = (smooth > threshold_local(smooth, window)) & (smooth > threshold_otsu(smooth) / 2)
    mask = remove_small_objects(ndimage.binary_fill_holes(mask), max_size=int(diameter**2 / 8))
    height = ndimage.distance_transform_edt(mask) / diameter + smooth / max(float(smooth.max()), 1e-9)
    seeds = label(h_maxima(ndimage.gaussian_filter(height, 0.1 * diameter), 0.03) & mask)
    return watershed(-height, seeds, mask=mask)


def otsu_log(image: np.ndarray) -> np.ndarray:
    """Otsu's threshold, and a seed wherever the image looks most like a blob of the typical size."""
    diameter = typical_diameter_px(image.astype(np.float32))
    blobs = -ndimage.gaussian_laplace(image.astype(np.float32), diameter / 4)
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 1) > threshold_otsu(image))
    peaks = peak_local_max(blobs, min_distance=max(int(diameter / 4), 1), labels=label(mask))
    return _parted(-blobs, peaks, mask)


def _parted(height: np.ndarray, peaks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(height, seeds, mask=mask)


def show_agreement(folder: Path, methods: dict[str, Find]) -> None:
    """F1 of every method on the held-out fields by size, and on simulated plates."""
    groups = in_groups(bowl(folder)[1], simulated(1, 8))
    print(f"{'':26}{'fields':>8}{'nuclei':>8}  mean F1 at 0.5 / 0.7 / 0.9   pooled at 0.5   merged split missed debris")
    for name, find in methods.items():
        for group, fields in groups.items():
            seen = of_fields(find, fields)
            mean = " / ".join(f"{value:.3f}" for value in seen["mean_f1"].values())
            wrong = "".join(f"{count:7d}" for count in seen["errors"].values())
            title = name if group == "held_out" else f"  {group}"
            print(f"{title:26}{seen['fields']:8}{seen['nuclei']:8}  {mean:29}{seen['pooled_f1']['0.5']:.3f}{wrong:>35}")


# --------------------------------------------------------------------------------------------------------------- times


def written(folder: Path, number: int) -> FieldTask:
    """A simulated field on the disk, and what a worker is told of it."""
    scene = Scene(7, "plate", f"well {number}", f"field {number}", None, 0.0, 1024, 1280, 195.0, 0.2, 0.2, 0.85)
    images = render(scene).images
    paths = tuple(folder / f"{number}-{channel}.tif" for channel in CHANNELS)
    for path, channel in zip(paths, CHANNELS, strict=True):
        tifffile.imwrite(path, images[channel])
    hashes = tuple(sha256_of(path) for path in paths)
    return FieldTask(f"field {number}", paths, hashes, 0, 0.4963, True, folder / f"{number}.npz")


def whole(task: FieldTask, settings: Settings, find: Find) -> int:
    """One field from its images to its crops; returns the bytes of these."""
    segment_field(task, settings, Detector(find))
    with np.load(task.result) as contents:
        kept = contents["lost"] == 0
        centres = np.stack([contents["row_px"], contents["column_px"]], axis=1)[kept]
    shape = (len(centres), len(CHANNELS), settings.crop_px, settings.crop_px)
    stack = task.result.with_suffix(".npy")
    reserve_crops(stack, shape)
    cut_field(CutTask(task, centres, stack, shape, 0, settings.border, task.result.with_suffix(".cut")))
    return int(2 * np.prod(shape))


class Detector:
    """A function that finds nuclei, as the stage asks for one."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def find(self, image: np.ndarray, pixel_um: float | None = None) -> np.ndarray:
        """Labels; the size of a pixel does not matter."""
        return self._find(image)


def plainly(task: FieldTask, settings: Settings) -> None:
    """The same steps as somebody writes them down with scikit-image."""
    pixels = np.stack([tifffile.imread(path) for path in task.images])
    labels = clear_border(otsu_distance(pixels[0]))
    names = ("label", "centroid", "area", "eccentricity", "solidity", "intensity_mean")
    table = regionprops_table(labels, pixels[0], properties=names)
    half = settings.crop_px // 2
    wide = np.pad(pixels, ((0, 0), (half, half), (half, half)), mode="reflect")
    starts = zip(table["centroid-0"].astype(int), table["centroid-1"].astype(int), strict=True)
    crops = np.stack([wide[:, row : row + 2 * half, column : column + 2 * half] for row, column in starts])
    np.save(task.result.with_suffix(".plain.npy"), crops)
    np.savez(task.result.with_suffix(".plain.npz"), **table)


def bound(task: FieldTask) -> None:
    """What nobody can do without: read the three images and go over one of them once."""
    pixels = [tifffile.imread(path) for path in task.images]
    ndimage.gaussian_filter(pixels[0].astype(np.float32), 1.0)


def show_one_process(tasks: list[FieldTask], methods: dict[str, Find], rounds: int) -> None:
    """Seconds a field on one thread, everything interleaved."""
    settings = Settings()
    work: dict[str, Callable[[FieldTask], object]] = {
        name: partial(whole, settings=settings, find=find) for name, find in methods.items()
    }
    finding = {f"  {name}, finding alone": partial(_find_in, find=find) for name, find in methods.items()}
    work |= {"plain scikit-image": partial(plainly, settings=settings), "bound": bound, **finding}
    best = dict.fromkeys(work, np.inf)
    with threadpool_limits(1):
        for round_ in range(rounds):
            task = tasks[round_ % len(tasks)]
            for name, do in work.items():
                began = time.perf_counter()
                do(task)
                best[name] = min(best[name], time.perf_counter() - began)
    print("\nseconds a field, one process, one thread (best of rounds); times the bound")
    for name, seconds in best.items():
        print(f"  {name:30}{seconds:8.3f}{seconds / best['bound']:8.1f}")


def _find_in(task: FieldTask, find: Find) -> None:
    find(tifffile.imread(task.images[0]))


def show_all_cores(tasks: list[FieldTask]) -> None:
    """Fields a second on all cores, for the detectors that ship."""
    print(f"\nseconds a field, {cores()} processes, finding and measuring, without their start")
    for name in ("watershed", "nuclei_net"):
        settings = Settings(method=name)
        many = [task for task in tasks for _ in range(4)]
        starts = []
        for _ in parallel_map(partial(segment_field, settings=settings, detector=settings.method), many, None):
            starts.append(time.perf_counter())
        # the first results come when the processes have started, so the clock runs from there
        print(f"  {name:30}{(starts[-1] - starts[1]) / (len(starts) - 2):8.3f}")


def show_disk(folder: Path) -> None:
    """MB a second of crops written, against the same bytes written plainly to the same disk."""
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
