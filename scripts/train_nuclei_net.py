"""train_nuclei_net: fields with labelled nuclei in -> the weights of the segmenter `nuclei_net`, and their card, out.

    python scripts/train_nuclei_net.py ../shared/data/segmentation/dsb2018_stage1_fluo

It continues from the weights that ship (or from other ones: --start), and replaces them; the card keeps what is known
of the training before. The training data are the fluorescence fields of the 2018 Data Science Bowl (CC0; Caicedo et al.
2019, doi:10.1038/s41592-019-0612-7; a fifth of them is held out) and simulated plates. The same command with the same
start, seed and number of threads on the same kind of processor gives the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from scipy import ndimage
from skimage.io import imread
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from cellssl.datasets.simulation.scene import Scene, render
from cellssl.imaging.detection_scores import ErrorCounts, count_errors, overlaps
from cellssl.imaging.labels import label_areas, measure, relabel
from cellssl.imaging.segmenters import nuclei_net
from cellssl.imaging.segmenters._nuclei_net_input import normalised_light, with_compressed
from cellssl.imaging.segmenters._nuclei_net_unet import OFFSET_UNIT_PX, UNet
from cellssl.randomness import generator

CROP_PX = 192
HELD_OUT = 0.2
SIMULATED_SHARE, EMPTY_SHARE = 0.2, 0.04
SMALLEST_PX, LARGEST_PX = 11.0, 56.0  # diameters in the training crops
CROWDED_SHARE = 0.25  # share of crops in which a second crop is laid over the first
USUAL_SIZE_SHARE = 0.7  # share of crops in which nuclei have about the size at which the segmenter shows them
OVERLAPS = (0.5, 0.7, 0.9)
LOOKED_AT = (
    "the training fields, at half, once and three times their size: the coarse measure of diameters",
    "the held-out fields: the sizes at which the network is shown nuclei, and which of two trainings is taken",
    "a DAPI field of BBBC021, simulated plates and made-up fields at 4x to 60x on slopes and in glows: their counts",
)
"""What the constants of the segmenter were chosen on; a score on these is no score on unseen data."""
WARMUP_STEPS, AVERAGED_STEPS = 100, 300


@dataclass(frozen=True)
class Field:
    """One field of nuclei with its true labels; light is 0..1 between its extremes."""

    name: str
    group: str
    light: np.ndarray
    labels: np.ndarray
    diameter_px: float


def main() -> None:
    """Train, score the held-out fields, and write weights and card."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    card_file = options.out / nuclei_net.CARD.name
    fields, held_out = read_bowl(options.fields)
    unseen = simulate_fields(options.seed + 1, 8)
    card = json.loads(card_file.read_text(encoding="utf-8")) if options.score_only else train(options, fields, held_out)
    network = nuclei_net.read_network(options.out / nuclei_net.WEIGHTS.name)
    card["scores"] = score_groups(partial(segment, network), held_out, unseen)
    card_file.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(card["scores"], indent=1))


def train(options: argparse.Namespace, fields: list[Field], held_out: list[Field]) -> dict[str, object]:
    """Train and write the weights; return what their card records of the training."""
    began = time.monotonic()
    in_training = simulate_fields(options.seed, options.simulated)
    print(f"{len(fields)} fields and {len(in_training)} simulated ones; {len(held_out)} held out", flush=True)
    start = options.start.read_bytes()
    network = fit(options, fields + in_training, held_out)
    weights = as_bytes(network)
    for earlier in options.out.glob("nuclei_net.[0-9]*.safetensors"):
        earlier.unlink()
    (options.out / nuclei_net.WEIGHTS.name).write_bytes(weights)
    return {
        "command": f"python scripts/train_nuclei_net.py FIELDS --steps {options.steps} --seed {options.seed}",
        "start": describe_start(start),
        "looked_at": LOOKED_AT,
        "data": describe_data(options, fields, held_out, in_training),
        "seed": options.seed,
        "steps": options.steps,
        "crops": options.steps * options.batch,
        "crop_px": CROP_PX,
        "threads": options.threads,
        "torch": torch.__version__,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "weights": sum(value.numel() for value in network.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


def describe_start(weights: bytes) -> dict[str, object]:
    """Return the hash of the weights from which a training began, and their own training where the card knows it."""
    sha256 = hashlib.sha256(weights).hexdigest()
    card = json.loads(nuclei_net.CARD.read_text(encoding="utf-8"))
    known = {name: card[name] for name in ("command", "start", "data", "steps", "crops", "crop_px") if name in card}
    return {"sha256": sha256, **(known if card["sha256"] == sha256 else {})}


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path, help="folder with index.csv, images/ and labels/")
    parser.add_argument("--out", type=Path, default=Path(nuclei_net.__file__).parent)
    parser.add_argument(
        "--start", type=Path, default=nuclei_net.WEIGHTS, help="weights from which the training goes on"
    )
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulated", type=int, default=24, help="number of simulated fields in the training data")
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--score-every", type=int, default=500)
    parser.add_argument("--score-only", action="store_true", help="update the scores in the card of existing weights")
    return parser.parse_args()


# ---------------------------------------------------------------------------------------------------------------- data


def read_bowl(folder: Path) -> tuple[list[Field], list[Field]]:
    """Read the training fields and the held-out fifth; the file's name alone decides which one a field is in."""
    fields: tuple[list[Field], list[Field]] = ([], [])
    for path in sorted((folder / "images").glob("*.png")):
        image, labels = imread(path), relabel(imread(folder / "labels" / path.name))
        group = f"{image.shape[0]} x {image.shape[1]}"
        fields[is_held_out(path.stem)].append(as_field(path.stem, group, image, labels))
    return fields


def is_held_out(name: str) -> bool:
    """Return true for a fifth of all names."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < HELD_OUT


def as_field(name: str, group: str, image: np.ndarray, labels: np.ndarray) -> Field:
    """Scale the light to 0..1, and measure the typical diameter."""
    dark, bright = np.percentile(image, (0.1, 99.95))
    light = (image - np.float32(dark)) / np.float32(max(bright - dark, 1))
    diameter = 2 * np.sqrt(np.median(label_areas(labels)) / np.pi) if labels.max() else 20.0
    return Field(name, group, light.astype(np.float32), labels, float(diameter))


def simulate_fields(seed: int, count: int) -> list[Field]:
    """Simulate DNA channels; every other field is untreated, the rest has one of three drugs at a random dose."""
    drugs = {"sim-nocodazole": 3.0, "sim-taxol": 3.0, "sim-cytochalasin": 30.0}
    fields = []
    for number in range(count):
        rng = generator("nuclei_net", seed, number)
        drug = list(drugs)[number // 2 % 3] if number % 2 else None
        dose = drugs[drug] * 10 ** -rng.uniform(0, 2) if drug else 0.0
        plate, cells = f"plate {number // 4}", float(np.exp(rng.uniform(np.log(60), np.log(400))))
        scene = Scene(seed, plate, f"well {number}", f"field {number}", drug, dose, 1024, 1280, cells, 0.35, 0.5, 0.85)
        rendered = render(scene)
        name, image = f"{number}, {'treated' if drug else 'untreated'}", rendered.images["dna"]
        fields.append(as_field(name, "simulated", image, rendered.labels.astype(int)))
    return fields


def describe_data(options: argparse.Namespace, *parts: list[Field]) -> dict[str, object]:
    """Return the sizes of the training and the held-out data, and the hash of their index."""
    names = ("learned", "held_out", "learned_simulated")
    counts = {name: len(part) for name, part in zip(names, parts, strict=True)}
    index = hashlib.sha256((options.fields / "index.csv").read_bytes()).hexdigest()
    return {"set": "2018 Data Science Bowl, stage 1, fluorescence (CC0)", "index_sha256": index, **counts}


# ------------------------------------------------------------------------------------------------------- augmentation


class Crops(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Training crops; crop i depends on (seed, i) only, so any number of workers gives the same crops."""

    def __init__(self, fields: Sequence[Field], seed: int, count: int) -> None:
        self.seed, self.count = seed, count
        self.groups: dict[str, list[Field]] = {}
        for field in fields:
            self.groups.setdefault(field.group, []).append(field)
        self.real = sorted(group for group in self.groups if group != "simulated")
        weights = np.array([len(self.groups[group]) for group in self.real]) ** 0.7  # rare groups are drawn more often
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = generator("nuclei_net", self.seed, "crop", number)
        kind = rng.random()
        if kind < EMPTY_SHARE:
            light, labels, diameter = empty_field(rng), np.zeros((CROP_PX, CROP_PX), np.int32), 20.0
        else:
            group = "simulated" if kind < EMPTY_SHARE + SIMULATED_SHARE else rng.choice(self.real, p=self.shares)
            field = self.groups[group][rng.integers(len(self.groups[group]))]
            light, labels, diameter = warp(rng, field)
            if rng.random() < CROWDED_SHARE:
                light, labels = crowd(light, labels, *warp(rng, field, diameter)[:2])
        light = imaging_conditions(rng, light, labels, diameter)
        return with_compressed(jitter_exposure(rng, light)), targets(labels)


def random_diameter_px(rng: np.random.Generator) -> float:
    """Return the size at which a crop shows its nuclei, mostly about that at which the segmenter shows them."""
    if rng.random() < USUAL_SIZE_SHARE:
        return float(nuclei_net.WORKING_PX * np.exp(rng.normal(0, 0.25)))
    return float(np.exp(rng.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX))))


def warp(rng: np.random.Generator, field: Field, diameter: float | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    """Crop at a random size (or a given one) and angle, slightly squeezed; beyond the edge of the field it is dark."""
    diameter = diameter or random_diameter_px(rng)
    min_zoom = 0.8 * CROP_PX / min(field.light.shape)  # a smaller field would leave much of the crop black
    zoom = float(np.clip(diameter / field.diameter_px, max(0.35, min_zoom), 3.5))
    squeeze = np.exp(rng.normal(0, 0.08))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([1.0, rng.choice([-1.0, 1.0])])
    matrix = flip @ turn @ np.diag([squeeze, 1 / squeeze]) / zoom
    middle = _random_position(rng, field)
    offset = middle - matrix @ np.full(2, CROP_PX / 2)
    size = (CROP_PX, CROP_PX)
    light = ndimage.affine_transform(field.light, matrix, offset, size, order=1)
    labels = ndimage.affine_transform(field.labels, matrix, offset, size, order=0)
    return light, relabel(_without_slivers(labels)), field.diameter_px * zoom


def crowd(
    light: np.ndarray, labels: np.ndarray, other_light: np.ndarray, other_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the nuclei of a second crop beside and against those of the first, never over them."""
    overlapped = np.unique(other_labels[(labels > 0) & (other_labels > 0)])
    deep = [
        one for one in overlapped if ((other_labels == one) & (labels > 0)).sum() > 0.15 * (other_labels == one).sum()
    ]
    free = (other_labels > 0) & (labels == 0) & ~np.isin(other_labels, deep)
    soft = ndimage.gaussian_filter(free.astype(np.float32), 0.7)
    mixed = light * (1 - soft) + np.maximum(light, other_light) * soft
    return mixed.astype(np.float32), relabel(_without_slivers(np.where(free, other_labels + labels.max(), labels)))


def _random_position(rng: np.random.Generator, field: Field) -> np.ndarray:
    """Return a random pixel of the field, mostly one of a nucleus."""
    if field.labels.max() and rng.random() < 0.7:
        where = np.flatnonzero(field.labels)
        return np.array(np.divmod(where[rng.integers(len(where))], field.labels.shape[1]), float)
    return rng.uniform(0, field.labels.shape)


def _without_slivers(labels: np.ndarray, min_area_px: int = 8) -> np.ndarray:
    """Drop nuclei of which the edge of the crop leaves a few pixels only."""
    kept = np.bincount(labels.ravel()) >= min_area_px
    return np.where(kept[labels], labels, 0)


def empty_field(rng: np.random.Generator) -> np.ndarray:
    """Return noise, grainy or blurred, over uneven light, without a nucleus."""
    noise = ndimage.gaussian_filter(rng.standard_normal((CROP_PX, CROP_PX)), np.exp(rng.uniform(-2, 2.3)))
    light = 0.1 * noise / noise.std() + rng.uniform(0, 1) * smooth_surface(rng, 3)
    return light.astype(np.float32)


def smooth_surface(rng: np.random.Generator, knots: int) -> np.ndarray:
    """Return a smooth surface between 0 and 1 through random heights at knots."""
    return np.clip(ndimage.zoom(rng.random((knots, knots)), CROP_PX / knots, order=1), 0, 1)[:CROP_PX, :CROP_PX]


def imaging_conditions(rng: np.random.Generator, light: np.ndarray, labels: np.ndarray, diameter: float) -> np.ndarray:
    """Vary stain, illumination, haze, debris, focus and noise."""
    if rng.random() < 0.5:
        spread = rng.uniform(0.1, 0.8)
        stain = np.exp(rng.normal(0, spread, labels.max() + 1))
        stain[0] = 1.0
        light = light * ndimage.gaussian_filter(stain[labels], 1.0)
    if rng.random() < 0.5:
        light = np.clip(light, 0, None) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.5:
        light = light * (1 - rng.uniform(0, 0.8) * smooth_surface(rng, 3))
    if rng.random() < 0.3:
        light = textured(rng, light, labels, diameter)
    if rng.random() < 0.4:
        light = light + rng.uniform(0, 0.4) * smooth_surface(rng, int(rng.integers(2, 9)))
    if rng.random() < 0.2:
        light = light + np.exp(rng.uniform(np.log(0.3), np.log(4.0))) * smooth_surface(rng, 2)
    if rng.random() < 0.3:
        light = light + debris(rng)
    if rng.random() < 0.6:
        light = ndimage.gaussian_filter(light, rng.uniform(0, 0.1) * diameter)
    if rng.random() < 0.15:
        light = binned(light)
    if rng.random() < 0.8:
        light = light + grain(rng, light)
    if rng.random() < 0.15:
        levels = np.exp(rng.uniform(np.log(12), np.log(128)))  # of an 8-bit camera that is used in part
        light = np.round(light * levels) / levels
    return np.asarray(light, np.float32)


def textured(rng: np.random.Generator, light: np.ndarray, labels: np.ndarray, diameter: float) -> np.ndarray:
    """Give nuclei chromatin: grains or dark nucleoli, as of other cells and of higher magnifications."""
    grains = ndimage.gaussian_filter(rng.standard_normal(light.shape), np.exp(rng.uniform(-2.8, -1.2)) * diameter)
    grains = np.exp(rng.uniform(0.1, 0.5) * np.clip(grains / grains.std(), -2.5, 2.5))
    return np.where(labels > 0, light * grains, light)


def binned(light: np.ndarray) -> np.ndarray:
    """Average squares of 2 x 2 pixels, and enlarge them again as the segmenter enlarges small nuclei."""
    small = light.reshape(light.shape[0] // 2, 2, light.shape[1] // 2, 2).mean(axis=(1, 3))
    return ndimage.zoom(small, 2, order=1, grid_mode=True, mode="nearest")


def debris(rng: np.random.Generator) -> np.ndarray:
    """Return specks that are far smaller than a nucleus."""
    specks = np.zeros((CROP_PX, CROP_PX))
    for _ in range(int(rng.integers(1, 25))):
        specks[tuple(rng.integers(0, CROP_PX, 2))] = rng.uniform(0.2, 2.0)
    sigma = rng.uniform(0.5, 1.6)
    return ndimage.gaussian_filter(specks, sigma) * 2 * np.pi * sigma**2


def grain(rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
    """Return camera noise that grows with the light, sometimes blurred as in a resized image."""
    dark, shot = np.exp(rng.uniform(np.log(0.002), np.log(0.12), 2))
    noise = rng.standard_normal(light.shape) * np.sqrt(dark**2 + shot**2 * np.clip(light, 0, None))
    if rng.random() < 0.3:
        sigma = rng.uniform(0.4, 1.0)
        noise = ndimage.gaussian_filter(noise, sigma) * 2 * np.sqrt(np.pi) * sigma
    return noise


def jitter_exposure(rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
    """Normalise the crop and vary gain and offset: the percentiles of a crop are not those of its field."""
    normalised = normalised_light(light)
    gain = np.exp(rng.normal(0, 0.25))
    return np.asarray(normalised * gain + rng.normal(0, 0.03), np.float32)


def targets(labels: np.ndarray) -> np.ndarray:
    """Return the targets: nucleus, rows and columns to its centre, and the weight of each pixel's offset."""
    out = np.zeros((4, *labels.shape), np.float32)
    rows, columns = np.nonzero(labels)
    which = labels[rows, columns] - 1
    nuclei = measure(labels)
    out[0, rows, columns] = 1
    out[1, rows, columns] = (nuclei.row_px[which] - rows) / OFFSET_UNIT_PX
    out[2, rows, columns] = (nuclei.column_px[which] - columns) / OFFSET_UNIT_PX
    out[3, rows, columns] = 60 / nuclei.area_px[which] ** 0.75  # small nuclei have few pixels and close neighbours
    return out


# ------------------------------------------------------------------------------------------------------------ training


def fit(options: argparse.Namespace, fields: list[Field], held_out: list[Field]) -> UNet:
    """Return the average of the network over its last steps."""
    network = nuclei_net.read_network(options.start)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.0))
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    began = time.monotonic()
    for step, (images, target) in enumerate(batches(options, fields), start=1):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * learning_rate_factor(step, options.steps)
        parts = losses(network(images.contiguous(memory_format=torch.channels_last)), target)
        optimizer.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        averaged.multi_avg_fn = get_ema_multi_avg_fn(1 - 1 / min(AVERAGED_STEPS, 1 + step / 5))
        averaged.update_parameters(network)
        if step % 50 == 0:
            rate = (time.monotonic() - began) / step
            values = " ".join(f"{name} {part.item():.4f}" for name, part in parts.items())
            print(f"{step} {values} {rate:.3f} s", flush=True)
        if step % options.score_every == 0:
            checkpoint(options, step, averaged.module, held_out[::3])
    return averaged.module


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warmup, then half a cosine down to 0."""
    return float(min(step / WARMUP_STEPS, 1.0) * (1 + np.cos(np.pi * step / (steps + 1))) / 2)


def checkpoint(options: argparse.Namespace, step: int, network: UNet, fields: list[Field]) -> None:
    """Print F1 on held-out fields and write the weights, which are those of a training of so many steps."""
    (options.out / f"nuclei_net.{step}.safetensors").write_bytes(as_bytes(network))
    scores = score_fields(partial(segment, network), fields)
    print(f"step {step}: mean F1 {scores['mean_f1']} on every third held-out field", flush=True)


def as_bytes(network: UNet) -> bytes:
    """Return the weights that ship, with fused batch norm, as bytes."""
    return save({name: value.contiguous() for name, value in network.state_dict().items()})


def segment(network: UNet, image: np.ndarray) -> np.ndarray:
    """Return the labels that the segmenter gives with its defaults and these weights."""
    method = nuclei_net.Settings()
    return nuclei_net.segment_with(network, image, method.threshold, torch.float32)


def batches(options: argparse.Namespace, fields: list[Field]) -> Iterator[tuple[Tensor, Tensor]]:
    """Return all batches in order, made by worker processes."""
    crops = Crops(fields, options.seed, options.steps * options.batch)
    return iter(DataLoader(crops, options.batch, shuffle=False, num_workers=2, prefetch_factor=4))


def losses(predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return cross entropy and Dice loss of nuclei, and the error of the offsets to the centre within nuclei."""
    inside, offsets, weight = target[:, 0], target[:, 1:3], target[:, 3:]
    probability = torch.sigmoid(predicted[:, 0])
    both = (probability * inside).sum((1, 2))
    dice = 1 - (2 * both + 50) / (probability.sum((1, 2)) + inside.sum((1, 2)) + 50)
    errors = F.smooth_l1_loss(predicted[:, 1:], offsets, beta=0.1, reduction="none") * weight
    return {
        "nucleus": F.binary_cross_entropy_with_logits(predicted[:, 0], inside),
        "dice": 0.5 * dice.mean(),
        "offsets": errors.sum() / (weight.sum() + 1000.0),
    }


# -------------------------------------------------------------------------------------------------------------- scores


Segment = Callable[[np.ndarray], np.ndarray]
"""A function from an image of nuclei to its label image."""


def score_groups(segment: Segment, held_out: list[Field], unseen: list[Field]) -> dict[str, object]:
    """Score a segmenter on held-out fields, all and by image size, and on simulated ones."""
    return {name: score_fields(segment, fields) for name, fields in group_fields(held_out, unseen).items()}


def group_fields(held_out: list[Field], unseen: list[Field]) -> dict[str, list[Field]]:
    """Group the fields that are scored together; the labels of simulated ones are cells, which may have many nuclei."""
    groups = {"held_out": held_out}
    for field in sorted(held_out, key=lambda field: field.light.size):
        groups.setdefault(field.group, []).append(field)
    for field in unseen:
        groups.setdefault(f"simulated, {field.name.split(', ')[1]}", []).append(field)
    return groups


def score_fields(segment: Segment, fields: list[Field]) -> dict[str, object]:
    """Return mean F1 over fields and pooled F1 at each overlap, and the sum of each kind of error."""
    found = [segment(field.light) for field in fields]
    pairs = [overlaps(labels, field.labels) for labels, field in zip(found, fields, strict=True)]
    errors = [count_errors(labels, field.labels) for labels, field in zip(found, fields, strict=True)]
    total = sum(one.n_found + one.n_true for one in pairs)
    return {
        "fields": len(fields),
        "nuclei": sum(one.n_true for one in pairs),
        "mean_f1": {str(at): round(float(np.mean([one.f1(at) for one in pairs])), 4) for at in OVERLAPS},
        "pooled_f1": {str(at): round(2 * sum(one.matches(at) for one in pairs) / total, 4) for at in OVERLAPS},
        "errors": {name: sum(getattr(one, name) for one in errors) for name in ErrorCounts.__annotations__},
    }


if __name__ == "__main__":
    main()
