"""segmenter: the contract of every file in segmenters/: an image of stained nuclei in, a label image of its nuclei out.

To add a segmenter, write `cellssl/imaging/segmenters/NAME.py` with a `class Settings(SegmenterSettings)` that has a
docstring, one field per setting with a docstring each, and the method `segment`. A recipe then takes
`segment.method = "NAME"`. The other methods below have defaults; override them only for weights, a GPU, or label images
of other tools. When a change of the code gives other labels for the same settings, raise the module constant ALGORITHM
(1 where there is none). Import heavy libraries (torch, scipy, skimage) inside the functions that need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cellssl.config.settings import Plugin

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int32, Real


@dataclass(frozen=True)
class PublishedFile:
    """A published file that a segmenter needs, such as the weights of a network."""

    what: str
    """Its name in messages, such as "the weights of cellpose's 'nuclei'"."""
    place: str
    """Its path below the folder `weights` of a store, with forward slashes, such as "cellpose/nucleitorch_0"."""
    url: str
    """Where it is downloaded from."""


class Segmenter:
    """What finds the nuclei of one image at a time; it is pickled and sent to the worker processes."""

    def segment(self, image: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Return the label image of a field.

        `image` is the nucleus channel: two axes, rows first, uint8 or uint16, with the grey values of the camera or,
        where the recipe says so, with corrected illumination; floats must work too. It may have any size and any grey
        values, and must not be changed.

        `pixel_um` is the side of a pixel in micrometres, None where the data set does not say. A segmenter with a
        setting in micrometres raises UsageError where it is None; all others must work without it.

        The label image has the shape of `image` and the type int32. 0 is background; the nuclei are numbered 1..n
        without a gap, in any order. Every label is one nucleus, and labels do not overlap. Nuclei that touch the edge
        of the field and nuclei of any size are included: what is dropped is decided later, by the limits of the recipe.
        An image without nuclei, a constant one among them, gives zeros only.

        The result is deterministic: the same image, settings and weights give the same labels on every call, whatever
        was segmented before and however many threads or processes there are, because artifacts are compared byte by
        byte. Any random numbers come from `cellssl.randomness.generator` with fixed keys.

        Raise DataError for a fault of this image: its field is then listed in quarantine.csv, and the others go on.
        Every other error ends the command.
        """
        raise NotImplementedError

    def runs_on(self) -> str:
        """Return the device: "cpu", or "cuda" or "cuda:0"; on a GPU the fields are segmented in one process only."""
        return "cpu"

    def ran(self) -> dict[str, Any]:
        """Return what the card of the artifact shall record of this machine, such as a version, as JSON values."""
        return {}


class SegmenterSettings(Plugin, Segmenter):
    """Settings of one segmenter, and, where it needs nothing else, the segmenter itself."""

    reads_label_images: ClassVar[bool] = False
    """Whether the nuclei come from label images that exist already: `label_image` is called instead of `segment`."""

    def check(self) -> None:
        """Raise UsageError, with the cure as its hint, where this machine lacks what the segmenter needs.

        Called before any work is done: a package is missing, or the installed version does not have this network.
        """

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the given settings in micrometres, each with what to do where the size of a pixel is not known.

        Asked before any work is done, so that a missing size does not end a run half-way.
        """
        return {}

    def external_files(self) -> Mapping[str, Path]:
        """Return role -> file of the user that decides the result; its bytes are part of the fingerprint."""
        return {}

    def downloads(self) -> Sequence[PublishedFile]:
        """Return the published files that `segment` needs; `cellssl doctor RECIPE --download` gets them.

        Nothing is downloaded while a pipeline runs. Raise UsageError where `check` would.
        """
        return ()

    def prepare(self, downloaded: Sequence[Path], device: str) -> Segmenter:
        """Return what segments on this machine.

        `downloaded` holds the path of every file of `downloads()`, in that order; all exist. `device` is what the user
        chose: auto, cpu, cuda or cuda:N. Raise UsageError where this machine does not have that device.
        """
        return self

    def label_image(self, image: Path, field_id: str) -> Path | None:
        """Return where the label image of a field lies, given the path of its nucleus channel and its name.

        None, the default, where `reads_label_images` is false. The file need not exist: its field is then listed in
        quarantine.csv. It holds one plane of whole numbers with the shape of the field; 0 is background, every other
        number one nucleus, and numbers may be missing.
        """
        return None
