"""train_nuclei_net: fields with labelled nuclei in -> the weights of the detector `nuclei_net`, and their card, out.

    python scripts/train_nuclei_net.py ../shared/data/segmentation/dsb2018_stage1_fluo

Learns from the fluorescence fields of the 2018 Data Science Bowl (CC0; Caicedo et al. 2019,
doi:10.1038/s41592-019-0612-7; a fifth of them is held out) and from simulated plates. The same command with the same
seed and the same number of threads on the same kind of processor gives the same weights.
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
from cellssl.imaging.detection_scores import Errors, errors, overlaps
from cellssl.imaging.labels import label_areas, measure, relabel
from cellssl.imaging.segmenters import nuclei_net
from cellssl.imaging.segmenters._nuclei_net_input import in_two_ways, seen
from cellssl.imaging.segmenters._nuclei_net_unet import CENTRE_UNIT_PX, UNet, folded
from cellssl.learning.weight_init import init_weights
from cellssl.randomness import generator

CROP_PX = 256
HELD_OUT = 0.2
SIMULATED_SHARE, EMPTY_SHARE = 0.25, 0.04
SMALLEST_PX, LARGEST_PX = 8.0, 62.0  # diameters that the network is shown
AS_IT_IS = 0.5  # share of crops that are shown at about the size that they have
OVERLAPS = (0.5, 0.7, 0.9)
WARM_UP, SLOWING, AVERAGED = 200, 1000, 400  # steps


@dataclass(frozen=True)
class Field:
    """One field of nuclei with its truth; light is 0..1 between its extremes."""

    name: str
    group: str
    light: np.ndarray
    labels: np.ndarray
    diameter_px: float


def main() -> None:
    """Train, look at the held-out fields now and then, write weights and card."""
    given = parsed()
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    card_file = given.out / nuclei_net.CARD.name
    fields, held_out = bowl(given.fields)
    unseen = simulated(given.seed + 1, 8)
    card = json.loads(card_file.read_text(encoding="utf-8")) if given.score_only else train(given, fields, held_out)
    network = nuclei_net.network(given.out / nuclei_net.WEIGHTS.name)
    card["scores"] = scores(partial(labelled, network), held_out, unseen)
    card_file.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(card["scores"], indent=1))


def train(given: argparse.Namespace, fields: list[Field], held_out: list[Field]) -> dict[str, object]:
    """Write the weights; what their card says of how they were made."""
    began = time.monotonic()
    shown = simulated(given.seed, given.simulated)
    print(f"{len(fields)} fields and {len(shown)} simulated ones; {len(held_out)} held out", flush=True)
    network = trained(given, fields + shown, held_out)
    weights = as_bytes(network)
    for earlier in given.out.glob("nuclei_net.[0-9]*.safetensors"):
        earlier.unlink()
    (given.out / nuclei_net.WEIGHTS.name).write_bytes(weights)
    return {
        "command": f"python scripts/train_nuclei_net.py FIELDS --steps {given.steps} --seed {given.seed}",
        "data": describe_data(given, fields, held_out, shown),
        "seed": given.seed,
        "steps": given.steps,
        "crops": given.steps * given.batch,
        "crop_px": CROP_PX,
        "threads": given.threads,
        "torch": torch.__version__,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "weights": sum(value.numel() for value in network.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path, help="folder with index.csv, images/ and labels/")
    parser.add_argument("--out", type=Path, default=Path(nuclei_net.__file__).parent)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulated", type=int, default=24, help="simulated fields to learn from")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--look-every", type=int, default=250)
    parser.add_argument(
        "--score-only", action="store_true", help="renew the scores in the card of weights that are there"
    )
    return parser.parse_args()


# ---------------------------------------------------------------------------------------------------------------- data


def bowl(folder: Path) -> tuple[list[Field], list[Field]]:
    """The fields to learn from, and the held-out fifth: which it is follows from the file's name alone."""
    fields: tuple[list[Field], list[Field]] = ([], [])
    for path in sorted((folder / "images").glob("*.png")):
        image, labels = imread(path), relabel(imread(folder / "labels" / path.name))
        group = f"{image.shape[0]} x {image.shape[1]}"
        fields[is_held_out(path.stem)].append(as_field(path.stem, group, image, labels))
    return fields


def is_held_out(name: str) -> bool:
    """A fifth of all names."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < HELD_OUT


def as_field(name: str, group: str, image: np.ndarray, labels: np.ndarray) -> Field:
    """With light between 0 and 1, and its typical diameter."""
    dark, bright = np.percentile(image, (0.1, 99.95))
    light = (image - np.float32(dark)) / np.float32(max(bright - dark, 1))
    diameter = 2 * np.sqrt(np.median(label_areas(labels)) / np.pi) if labels.max() else 20.0
    return Field(name, group, light.astype(np.float32), labels, float(diameter))


def simulated(seed: int, count: int) -> list[Field]:
    """DNA channels of simulated fields; every other one untreated, the rest under one of three drugs, at any dose."""
    drugs = {"sim-nocodazole": 3.0, "sim-taxol": 3.0, "sim-cytochalasin": 30.0}
    fields = []
    for number in range(count):
        chance = generator("nuclei_net", seed, number)
        drug = list(drugs)[number // 2 % 3] if number % 2 else None
        dose = drugs[drug] * 10 ** -chance.uniform(0, 2) if drug else 0.0
        plate, cells = f"plate {number // 4}", float(np.exp(chance.uniform(np.log(60), np.log(400))))
        scene = Scene(seed, plate, f"well {number}", f"field {number}", drug, dose, 1024, 1280, cells, 0.35, 0.5, 0.85)
        rendered = render(scene)
        name, image = f"{number}, {'treated' if drug else 'untreated'}", rendered.images["dna"]
        fields.append(as_field(name, "simulated", image, rendered.labels.astype(int)))
    return fields


def describe_data(given: argparse.Namespace, *parts: list[Field]) -> dict[str, object]:
    """What was learned from, and what it was tried on."""
    names = ("learned", "held_out", "learned_simulated")
    counts = {name: len(part) for name, part in zip(names, parts, strict=True)}
    index = hashlib.sha256((given.fields / "index.csv").read_bytes()).hexdigest()
    return {"set": "2018 Data Science Bowl, stage 1, fluorescence (CC0)", "index_sha256": index, **counts}


# ------------------------------------------------------------------------------------------------------- augmentation


class Crops(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Crop number i, drawn anew from (seed, i): any number of workers gives the same crops."""

    def __init__(self, fields: Sequence[Field], seed: int, count: int) -> None:
        self.seed, self.count = seed, count
        self.groups: dict[str, list[Field]] = {}
        for field in fields:
            self.groups.setdefault(field.group, []).append(field)
        self.real = sorted(group for group in self.groups if group != "simulated")
        weights = np.array([len(self.groups[group]) for group in self.real]) ** 0.7  # the rare are shown more often
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        chance = generator("nuclei_net", self.seed, "crop", number)
        kind = chance.random()
        if kind < EMPTY_SHARE:
            light, labels, diameter = empty(chance), np.zeros((CROP_PX, CROP_PX), np.int32), 20.0
        else:
            group = "simulated" if kind < EMPTY_SHARE + SIMULATED_SHARE else chance.choice(self.real, p=self.shares)
            field = self.groups[group][chance.integers(len(self.groups[group]))]
            light, labels, diameter = warped(chance, field)
        light = photographed(chance, light, labels, diameter)
        return in_two_ways(exposed(chance, light)), targets(labels)


def warped(chance: np.random.Generator, field: Field) -> tuple[np.ndarray, np.ndarray, float]:
    """Another size, another angle, a little squeezed; beyond the edge it is dark."""
    wanted = np.exp(chance.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX)))
    if chance.random() < AS_IT_IS:
        wanted = field.diameter_px * np.exp(chance.normal(0, 0.2))
    covers = 0.8 * CROP_PX / min(field.light.shape)  # a smaller field would leave much of the crop black
    zoom = float(np.clip(wanted / field.diameter_px, max(0.4, covers), 2.5))
    squeeze = np.exp(chance.normal(0, 0.08))
    angle = chance.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([1.0, chance.choice([-1.0, 1.0])])
    matrix = flip @ turn @ np.diag([squeeze, 1 / squeeze]) / zoom
    middle = _somewhere(chance, field)
    offset = middle - matrix @ np.full(2, CROP_PX / 2)
    size = (CROP_PX, CROP_PX)
    light = ndimage.affine_transform(field.light, matrix, offset, size, order=1)
    labels = ndimage.affine_transform(field.labels, matrix, offset, size, order=0)
    return light, relabel(_without_slivers(labels)), field.diameter_px * zoom


def _somewhere(chance: np.random.Generator, field: Field) -> np.ndarray:
    """A pixel of the field, mostly one of a nucleus."""
    if field.labels.max() and chance.random() < 0.7:
        where = np.flatnonzero(field.labels)
        return np.array(np.divmod(where[chance.integers(len(where))], field.labels.shape[1]), float)
    return chance.uniform(0, field.labels.shape)


def _without_slivers(labels: np.ndarray, least_px: int = 8) -> np.ndarray:
    """What the edge of the crop left of a nucleus is no nucleus when it is a few pixels."""
    kept = np.bincount(labels.ravel()) >= least_px
    return np.where(kept[labels], labels, 0)


def empty(chance: np.random.Generator) -> np.ndarray:
    """Noise, grainy or blurred, over uneven light; no nucleus anywhere."""
    noise = ndimage.gaussian_filter(chance.standard_normal((CROP_PX, CROP_PX)), np.exp(chance.uniform(-2, 2.3)))
    light = 0.1 * noise / noise.std() + chance.uniform(0, 1) * slopes(chance, 3)
    return light.astype(np.float32)


def slopes(chance: np.random.Generator, knots: int) -> np.ndarray:
    """A smooth surface between 0 and 1 through random heights at knots."""
    return np.clip(ndimage.zoom(chance.random((knots, knots)), CROP_PX / knots, order=1), 0, 1)[:CROP_PX, :CROP_PX]


def photographed(chance: np.random.Generator, light: np.ndarray, labels: np.ndarray, diameter: float) -> np.ndarray:
    """Other stain, lamp, haze, debris, focus and noise."""
    if chance.random() < 0.5:
        spread = chance.uniform(0.1, 0.8)
        stain = np.exp(chance.normal(0, spread, labels.max() + 1))
        stain[0] = 1.0
        light = light * ndimage.gaussian_filter(stain[labels], 1.0)
    if chance.random() < 0.5:
        light = np.clip(light, 0, None) ** np.exp(chance.uniform(-0.5, 0.5))
    if chance.random() < 0.5:
        light = light * (1 - chance.uniform(0, 0.8) * slopes(chance, 3))
    if chance.random() < 0.4:
        light = light + chance.uniform(0, 0.4) * slopes(chance, int(chance.integers(2, 9)))
    if chance.random() < 0.3:
        light = light + debris(chance)
    if chance.random() < 0.6:
        light = ndimage.gaussian_filter(light, chance.uniform(0, 0.1) * diameter)
    if chance.random() < 0.8:
        light = light + grain(chance, light)
    return np.asarray(light, np.float32)


def debris(chance: np.random.Generator) -> np.ndarray:
    """Specks far smaller than a nucleus."""
    specks = np.zeros((CROP_PX, CROP_PX))
    for _ in range(int(chance.integers(1, 25))):
        specks[tuple(chance.integers(0, CROP_PX, 2))] = chance.uniform(0.2, 2.0)
    sigma = chance.uniform(0.5, 1.6)
    return ndimage.gaussian_filter(specks, sigma) * 2 * np.pi * sigma**2


def grain(chance: np.random.Generator, light: np.ndarray) -> np.ndarray:
    """Camera noise that grows with the light, sometimes blurred as by a resized image."""
    dark, shot = np.exp(chance.uniform(np.log(0.002), np.log(0.12), 2))
    noise = chance.standard_normal(light.shape) * np.sqrt(dark**2 + shot**2 * np.clip(light, 0, None))
    if chance.random() < 0.3:
        sigma = chance.uniform(0.4, 1.0)
        noise = ndimage.gaussian_filter(noise, sigma) * 2 * np.sqrt(np.pi) * sigma
    return noise


def exposed(chance: np.random.Generator, light: np.ndarray) -> np.ndarray:
    """As the network sees a field, but for a gain and an offset: a crop is not the field that it comes from."""
    plain = seen(light)[0]
    gain = np.exp(chance.normal(0, 0.25))
    return np.asarray(plain * gain + chance.normal(0, 0.03), np.float32)


def targets(labels: np.ndarray) -> np.ndarray:
    """What is to be told: nucleus, and rows and columns to its centre; and how much each pixel's way counts."""
    out = np.zeros((4, *labels.shape), np.float32)
    rows, columns = np.nonzero(labels)
    which = labels[rows, columns] - 1
    nuclei = measure(labels)
    out[0, rows, columns] = 1
    out[1, rows, columns] = (nuclei.row_px[which] - rows) / CENTRE_UNIT_PX
    out[2, rows, columns] = (nuclei.column_px[which] - columns) / CENTRE_UNIT_PX
    out[3, rows, columns] = 60 / nuclei.area_px[which] ** 0.75  # small nuclei have few pixels, and near neighbours
    return out


# ------------------------------------------------------------------------------------------------------------ training


def trained(given: argparse.Namespace, fields: list[Field], held_out: list[Field]) -> UNet:
    """The average of the network over its last steps; no step depends on how many there will be."""
    network = UNet()
    init_weights(network, given.seed, "nuclei_net")
    network = network.to(memory_format=torch.channels_last)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.0), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=given.learning_rate, weight_decay=1e-4)
    began = time.monotonic()
    for step, (images, wanted) in enumerate(batches(given, fields), start=1):
        for group in optimizer.param_groups:
            group["lr"] = given.learning_rate * pace(step)
        with torch.autocast("cpu", torch.bfloat16):
            told = network(images.contiguous(memory_format=torch.channels_last))
        parts = losses(told.float(), wanted)
        optimizer.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        averaged.multi_avg_fn = get_ema_multi_avg_fn(1 - 1 / min(AVERAGED, 1 + step / 5))
        averaged.update_parameters(network)
        if step % 50 == 0:
            rate = (time.monotonic() - began) / step
            shown = " ".join(f"{name} {part.item():.4f}" for name, part in parts.items())
            print(f"{step} {shown} {rate:.3f} s", flush=True)
        if step % given.look_every == 0:
            look(given, step, averaged.module, held_out[::3])
    return averaged.module


def pace(step: int) -> float:
    """Share of the learning rate: it rises for a while, then falls as one over the root of the steps."""
    return min(step / WARM_UP, 1.0) / (1 + step / SLOWING) ** 0.5


def look(given: argparse.Namespace, step: int, network: UNet, fields: list[Field]) -> None:
    """Print how well nuclei are found so far, and keep the weights: they are those of a training of so many steps."""
    (given.out / f"nuclei_net.{step}.safetensors").write_bytes(as_bytes(network))
    f1 = [overlaps(labelled(folded(network), field.light), field.labels).f1() for field in fields]
    print(f"step {step}: mean F1 {np.mean(f1):.4f} on every third held-out field", flush=True)


def as_bytes(network: UNet) -> bytes:
    """The weights that ship: batch norm folded away."""
    return save({name: value.contiguous() for name, value in folded(network).state_dict().items()})


def labelled(network: UNet, image: np.ndarray) -> np.ndarray:
    """The nuclei that the detector finds with its defaults and these weights."""
    method = nuclei_net.Settings()
    return nuclei_net.labelled(network, image, method.threshold, torch.bfloat16)


def batches(given: argparse.Namespace, fields: list[Field]) -> Iterator[tuple[Tensor, Tensor]]:
    """All crops in their order, drawn by a process beside."""
    crops = Crops(fields, given.seed, given.steps * given.batch)
    return iter(DataLoader(crops, given.batch, shuffle=False, num_workers=2, prefetch_factor=4))


def losses(told: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Cross entropy and overlap of nuclei, and the error of the way to the centre within nuclei."""
    inside, way, weight = wanted[:, 0], wanted[:, 1:3], wanted[:, 3:]
    chance = torch.sigmoid(told[:, 0])
    both = (chance * inside).sum((1, 2))
    dice = 1 - (2 * both + 50) / (chance.sum((1, 2)) + inside.sum((1, 2)) + 50)
    off = F.smooth_l1_loss(told[:, 1:], way, beta=0.1, reduction="none") * weight
    return {
        "nucleus": F.binary_cross_entropy_with_logits(told[:, 0], inside),
        "overlap": 0.5 * dice.mean(),
        "way": off.sum() / (weight.sum() + 1000.0),
    }


# -------------------------------------------------------------------------------------------------------------- scores


Find = Callable[[np.ndarray], np.ndarray]


def scores(find: Find, held_out: list[Field], unseen: list[Field]) -> dict[str, object]:
    """F1 of a detector on held-out fields, all and by size, and on simulated ones; and its errors."""
    return {name: of_fields(find, fields) for name, fields in in_groups(held_out, unseen).items()}


def in_groups(held_out: list[Field], unseen: list[Field]) -> dict[str, list[Field]]:
    """The fields that are looked at together; the labels of simulated ones are cells, which may have many nuclei."""
    groups = {"held_out": held_out}
    for field in sorted(held_out, key=lambda field: field.light.size):
        groups.setdefault(field.group, []).append(field)
    for field in unseen:
        groups.setdefault(f"simulated, {field.name.split(', ')[1]}", []).append(field)
    return groups


def of_fields(find: Find, fields: list[Field]) -> dict[str, object]:
    """Mean over fields and pooled F1 at each overlap, and the errors added up."""
    found = [find(field.light) for field in fields]
    shared = [overlaps(labels, field.labels) for labels, field in zip(found, fields, strict=True)]
    wrong = [errors(labels, field.labels) for labels, field in zip(found, fields, strict=True)]
    total = sum(one.n_found + one.n_true for one in shared)
    return {
        "fields": len(fields),
        "nuclei": sum(one.n_true for one in shared),
        "mean_f1": {str(at): round(float(np.mean([one.f1(at) for one in shared])), 4) for at in OVERLAPS},
        "pooled_f1": {str(at): round(2 * sum(one.pairs(at) for one in shared) / total, 4) for at in OVERLAPS},
        "errors": {name: sum(getattr(one, name) for one in wrong) for name in Errors.__annotations__},
    }


if __name__ == "__main__":
    main()
