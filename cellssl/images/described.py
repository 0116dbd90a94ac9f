"""described: what the header of one image of a file says, as one object that all formats fill in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageHeader:
    """What the header of one image of a file says; no pixel is decoded for it."""

    format: str
    """Name of the format in words, such as "TIFF", "OME-TIFF", "PNG", "OME-Zarr", "Zeiss CZI"."""
    rows: int
    """Height in pixels."""
    columns: int
    """Width in pixels."""
    dtype: str
    """numpy's name of the type of a pixel, such as "uint16"."""
    channels: int = 1
    """Number of channels; 1 for a grey plane."""
    z_planes: int = 1
    """Number of z planes."""
    time_points: int = 1
    """Number of time points."""
    samples: int = 1
    """Colours in each pixel: 3 for RGB."""
    series: int = 1
    """Number of images in the file: scenes, positions or series."""
    pages: int = 1
    """Number of pages of a TIFF that are no reduced copies of others; 1 for other formats."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels, in order; empty where the file gives none."""
    pixel_um: float | None = None
    """Side of a pixel in micrometres; None where the file does not say it."""
    objective: str | None = None
    """The objective, such as "20x"; None where the file does not say it."""
    acquired: str | None = None
    """When the image was taken, as the file says it; None where it does not."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further facts that a file states, such as its binning."""

    @property
    def has_unnamed_pages(self) -> bool:
        """Whether there are several pages of which the file does not say what they are."""
        return self.pages > 1 and self.channels * self.z_planes * self.time_points == 1 and self.series == 1

    @property
    def is_one_plane(self) -> bool:
        """Whether there is nothing to choose in the file."""
        axes = (self.channels, self.z_planes, self.time_points, self.series, self.pages)
        return max(axes) == 1
