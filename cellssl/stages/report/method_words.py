"""method_words: a plugin by its name and settings in; what a paper calls it, with references, out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from cellssl.config import plugins
from cellssl.config.settings import FROM_CARD
from cellssl.errors import UsageError
from cellssl.stages.report.references import cite

Words = tuple[str, tuple[str, ...]]
"""What a paper calls it, and the keys of its references."""
DATASETS: Mapping[str, Words] = {
    "simulated": ("Images of cells were simulated by cellssl (data set “simulated”)", ()),
    "bbbc021": (
        "Images were those of image set BBBC021v1, from the Broad Bioimage Benchmark Collection",
        ("bbbc021", "bbbc"),
    ),
    "digits": ("Images were the handwritten digits that come with scikit-learn", ("sklearn",)),
    "mnist": ("Images were those of MNIST", ("mnist",)),
    "cifar10": ("Images were those of CIFAR-10", ("cifar",)),
    "cifar100": ("Images were those of CIFAR-100", ("cifar",)),
    "crop_stack": ("Crops of single cells were read from a stack of images (data set “crop_stack”)", ()),
}
SEGMENTERS: Mapping[str, Words] = {
    "watershed": ("by a watershed whose lengths scale with the measured diameter of the nuclei", ("blobs",)),
    "nuclei_net": (
        "by the network “nuclei_net” of cellssl, which predicts for every pixel whether it is of a nucleus, and where "
        "the centre of that nucleus lies",
        (),
    ),
    "cellpose": ("with Cellpose", ("cellpose",)),
    "label_images": ("in label images that came with the data", ()),
}
CELL_SEGMENTERS: Mapping[str, Words] = {
    "propagate": ("by propagation from the nuclei", ("propagation",)),
    "watershed": ("by a watershed from the nuclei", ()),
    "cellpose": ("with Cellpose", ("cellpose3",)),
}
ENCODERS: tuple[tuple[str, Words], ...] = (
    ("small", ("a small network of strided 3 × 3 convolutions with batch norm", ())),
    ("vgg", ("", ("vgg",))),
    ("resnet", ("", ("resnet",))),
    ("efficientnet", ("", ("efficientnet",))),
    ("convnext", ("", ("convnext",))),
    ("vit", ("a vision transformer", ("vit",))),
    ("dinov2", ("", ("dinov2",))),
    ("dinov3", ("", ("dinov3",))),
    ("timm", ("a network of timm", ("timm",))),
)
"""Beginning of the name of an encoder -> its words; without words it is called by its name."""
OBJECTIVES: Mapping[str, Words] = {
    "moco": ("MoCo v2", ("moco",)),
    "simclr": ("SimCLR", ("simclr",)),
    "byol": ("BYOL", ("byol",)),
    "nnbyol": ("BYOL with nearest neighbours as targets (NNBYOL)", ("byol", "nnclr")),
    "simsiam": ("SimSiam", ("simsiam",)),
    "vicreg": ("VICReg", ("vicreg",)),
    "vibcreg": ("VIbCReg", ("vibcreg",)),
    "barlow_twins": ("Barlow Twins", ("barlow_twins",)),
    "swav": ("SwAV", ("swav",)),
    "deepcluster_v2": ("DeepCluster v2", ("swav",)),
    "dino": ("DINO", ("dino",)),
    "nnclr": ("NNCLR", ("nnclr",)),
    "ressl": ("ReSSL", ("ressl",)),
    "looc": ("leave-one-out contrastive learning", ("looc",)),
    "supcon": ("supervised contrastive learning (SupCon)", ("supcon",)),
    "dose_aware": ("y-aware contrastive learning by dose", ("y_aware",)),
    "rotation": ("prediction of rotations", ("rotation",)),
    "mae": ("a masked autoencoder", ("mae",)),
    "denoising": ("a denoising autoencoder", ("denoising",)),
}
OPTIONS: Mapping[str, str] = {
    "class_prior": "debiased",
    "decoupled": "decoupled",
    "hardness": "hard_negatives",
    "ifm_epsilon": "ifm",
    "margin": "epsilon",
}
"""Setting of a contrastive objective -> its reference, which is cited where the setting is on."""
NAMED = ("temperature", "queue", "momentum", "dim", "hidden_dim", "symmetric", "sharpness", "prototypes")
"""Settings of an objective that a paper names although they are the defaults."""
OPTIMIZERS: Mapping[str, Words] = {
    "adam": ("Adam", ("adam",)),
    "adamw": ("AdamW", ("adamw",)),
    "sgd": ("stochastic gradient descent with a momentum of 0.9", ()),
    "lars": ("LARS with a momentum of 0.9", ("lars",)),
}
CLUSTERERS: Mapping[str, Words] = {
    "kmeans": ("K-Means", ("kmeans",)),
    "gmm": ("a Gaussian mixture", ()),
    "hdbscan": ("HDBSCAN", ("hdbscan",)),
    "leiden": ("Leiden community detection", ("leiden",)),
}
LINK_REFERENCES: Mapping[str, str] = {
    "tvn": "tvn",
    "sphering": "whitening",
    "robust_z": "robust_scaling",
    "percentile": "nsc",
}


def called(words: Mapping[str, Words], name: str) -> str:
    """Return what a paper calls a plugin, with its references; one that is not listed is called by its name."""
    text, keys = words.get(name, (f"“{name}”", ()))
    return f"{text}{cite(*keys)}"


def encoder_words(name: str, settings: Mapping[str, Any]) -> str:
    """Return what a paper calls an encoder, with all its settings."""
    text, keys = next((words for start, words in ENCODERS if name.startswith(start)), ("", ()))
    shown = listed(settings)
    return f"{text or f'the network “{name}”'}{f', {shown}' if shown else ''}{cite(*keys)}"


def differing(folder: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a plugin that are not the defaults of this version; all, where it has no such plugin."""
    try:
        chosen = plugins.load(folder, name).Settings.model_validate(dict(settings), context={FROM_CARD: True})
    except (UsageError, ValidationError):
        return dict(settings)
    return {key: settings.get(key, value) for key, value in chosen.non_default().items()}


def listed(settings: Mapping[str, Any]) -> str:
    """Return settings as a sentence lists them; those that are not set are left out."""
    return ", ".join(_setting(key.replace("_", " "), value) for key, value in settings.items() if value is not None)


def _setting(name: str, value: Any) -> str:
    """Return one setting; a flag is its name, with "not" where it is off."""
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {value_text(value)}"


def value_text(value: Any) -> str:
    """Return the value of a setting as text."""
    match value:
        case float():
            text = f"{value:.6g}"
        case {"name": str(name)}:
            more = listed({key: one for key, one in value.items() if key != "name"})
            text = f"{name} ({more})" if more else name
        case list() | tuple():
            text = ", ".join(map(value_text, value))
            text = f"({text})" if len(value) > 1 else text
        case dict():
            text = listed(value)
        case _:
            text = value if isinstance(value, str) else json.dumps(value)
    return text


def joined(words: Iterable[str]) -> str:
    """Return "a, b and c"; nothing for no words."""
    *first, last = [*words] or [""]
    return f"{', '.join(first)} and {last}" if first else last
