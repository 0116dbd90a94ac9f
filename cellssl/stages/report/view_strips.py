"""view_strips: trained arms in; one cell as it is, and under random views of every branch, as small pictures, out.

It is the same cell in every arm, and the same random numbers, so that what differs are the settings of the views.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells
from cellssl.config.settings import json_ready
from cellssl.reporting.html import Images
from cellssl.stages.pretrain.card_settings import pretrain_settings
from cellssl.stages.report.runs import Part, Run
from cellssl.stages.shared.scaled_crops import scaled_crops

if TYPE_CHECKING:
    from PIL import Image

DRAWS = 4
"""Random views of a strip."""
TILE_PX, GAP_PX, NAME_PX = 48, 2, 13
"""Side of a cell, gap between two, and height of the line with the name of the branch."""
POINTS_PX = 10
QUALITY = 88


@dataclass
class ViewStrips:
    """Makes the strips of the arms of one page, and keeps what was rendered, because arms share views."""

    store: Store
    preferred: str = ""
    """The cell that is shown: that of the first arm, which all others take if they have it."""
    _crops: dict[str, tuple[np.ndarray, list[str]]] = field(default_factory=dict)
    _tiles: dict[tuple[str, str], list[Any]] = field(default_factory=dict)

    def of(self, run: Run) -> Images:
        """Return the strips of an arm, one per different list of transforms; branches with the same list share it."""
        strips, words = [], []
        for part in run.trained:
            for names, transforms in _views(part).items():
                strips.append(_strip(self._rendered(part, transforms), names))
                words.append(names)
        return Images(strips, f"a cell, and {DRAWS} random views of it, for {'; '.join(words)}")

    def _rendered(self, part: Part, transforms: Any) -> list[Image.Image]:
        """Return the cell and its views, as small pictures."""
        import torch
        from PIL import Image

        from cellssl.imaging.colour import named_colours, to_rgb
        from cellssl.learning.view import View
        from cellssl.randomness import Keys, cell_keys

        key = (part.segment.fingerprint, _as_text(transforms))
        if key not in self._tiles:
            crop, channels = self._crop(part.segment)
            pixels, keys = torch.from_numpy(crop), Keys(torch.from_numpy(cell_keys([self.preferred])))
            view, side = View(transforms), crop.shape[-1]
            drawn = [view.render(pixels, keys.fold("strip", draw), side) for draw in range(DRAWS)]
            levels = [(one.clamp(0, 1) * 255).round().byte().numpy() for one in drawn]
            shown = to_rgb(np.concatenate([crop, *levels]), named_colours(channels))
            self._tiles[key] = [
                Image.fromarray(one).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS) for one in shown
            ]
        return self._tiles[key]

    def _crop(self, segment: Artifact) -> tuple[np.ndarray, list[str]]:
        """Return the pixels of the cell that is shown, or of another one where these cells do not have it."""
        if segment.fingerprint not in self._crops:
            cells = read_cells(segment)
            same = cells[cells["cell_id"] == self.preferred]
            chosen = same if len(same) else cells.iloc[[_typical(cells)]]
            self.preferred = self.preferred or str(chosen["cell_id"].iloc[0])
            crops = scaled_crops(segment, self.store, chosen)
            self._crops[segment.fingerprint] = crops.read(np.arange(1)), list(crops.channels)
        return self._crops[segment.fingerprint]


def _typical(cells: Any) -> int:
    """Return the row of a cell of the median area, or the middle row where no area is known."""
    if "area_px" not in cells or cells["area_px"].isna().all():
        return len(cells) // 2
    areas = cells["area_px"].to_numpy(float)
    return int(np.nanargmin(np.abs(areas - np.nanmedian(areas))))


def _views(part: Part) -> Mapping[str, Any]:
    """Return names of branches, such as "context, centre", -> the transforms of one of their views."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for name, branch in pretrain_settings(part.trained, "branches").active().items():
        pair = branch.views is not None
        kinds = (": query", ": key") if pair else ("",)
        for kind, transforms in zip(kinds, branch.view_transforms(len(kinds)), strict=True):
            _, names = found.setdefault(_as_text(transforms), (transforms, []))
            names.append(f"{part.named(name)}{kind}")
    return {", ".join(names): transforms for transforms, names in found.values()}


def _as_text(transforms: Any) -> str:
    return json.dumps(json_ready(list(transforms), full=True), sort_keys=True)


def _strip(tiles: Sequence[Image.Image], name: str) -> bytes:
    """Return the tiles side by side below a name, as a JPEG; a gap is wider behind the cell itself."""
    from matplotlib.font_manager import FontProperties, findfont
    from PIL import Image, ImageDraw, ImageFont

    from cellssl.reporting.text_fitting import shorten
    from cellssl.reporting.theme import FONT

    lefts = [place * (TILE_PX + GAP_PX) + (2 * GAP_PX if place else 0) for place in range(len(tiles))]
    whole = Image.new("RGB", (lefts[-1] + TILE_PX, NAME_PX + TILE_PX), "white")
    letters = ImageFont.truetype(findfont(FontProperties(family=FONT)), POINTS_PX)
    text = shorten(name, whole.width / 72, POINTS_PX)
    ImageDraw.Draw(whole).text((0, 0), text, fill="#1a1a1a", font=letters)
    for left, tile in zip(lefts, tiles, strict=True):
        whole.paste(tile, (left, NAME_PX))
    buffer = io.BytesIO()
    whole.save(buffer, format="jpeg", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()
