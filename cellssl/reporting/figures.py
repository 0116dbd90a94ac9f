"""figures: plain arrays of scores, tiles and points -> matplotlib figures in the common look."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator
from matplotlib.transforms import offset_copy

from cellssl.randomness import generator
from cellssl.reporting.style import COLOURS, GREY, WIDTH_INCH, styled
from cellssl.reporting.summary import spread

GAP_PX = 3
"""White between two tiles, in the tiles' own pixels at 100 px a tile."""
POINTS_DRAWN = 20_000
"""Points of a scatter; of more, so many are drawn by lot."""
PALE = "#D0D0D0"
SHADES = "viridis"
"""Told apart with every common colour blindness, and on grey paper."""
MARKERS = ("o", "^")
CLASSES_SHOWN = len(COLOURS) * len(MARKERS)
"""Of more, the most frequent are told apart, and the others are pale grey: eyes hold no more."""
CLASSES_WRITTEN = 8
"""Of more classes the numbers would not fit into their squares."""
_BARS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Bar:
    """A score of one arm or baseline."""

    label: str
    values: Sequence[float]
    """One a seed; drawn as points over the bar, which ends at their mean."""
    is_baseline: bool = False


@styled
def curves(
    steps: Float[np.ndarray, "n"],
    panels: Mapping[str, Mapping[str, Float[np.ndarray, "n"]]],
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Training over steps: a panel a metric, in it a line a branch; `chance` is a panel's level of knowing nothing.

    Many steps are drawn pale, with their running mean on top.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH_INCH * columns / 2, 2.4 * rows))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axis, (metric, branches) in zip(axes, panels.items(), strict=False):
        for place, (branch, values) in enumerate(branches.items()):
            _curve(axis, steps, np.asarray(values, dtype=float), branch, COLOURS[place % len(COLOURS)])
        if chance and metric in chance:
            axis.axhline(chance[metric], color="black", linestyle="--", linewidth=1, label="chance")
        axis.set_title(metric)
        axis.set_xlabel("step")
        axis.xaxis.set_tick_params(labelbottom=True)
        axis.legend()
    _hide(axes[len(panels) :])
    return figure


@styled
def montage(groups: Mapping[str, UInt8[np.ndarray, "n y x 3"]], pixel_um: float | None, columns: int = 8) -> Figure:
    """Cells in groups (clusters, mostly), a title over each; a scale bar in the first cell of a group."""
    filled = {title: tiles for title, tiles in groups.items() if len(tiles)}
    heights = [-(-len(tiles) // columns) for tiles in filled.values()]
    tile_inch = WIDTH_INCH / columns
    figure = Figure(figsize=(WIDTH_INCH, sum(heights) * tile_inch + 0.3 * len(filled) + 0.1))
    axes = figure.subplots(len(filled), 1, squeeze=False, height_ratios=heights).ravel()
    for axis, (title, tiles) in zip(axes, filled.items(), strict=True):
        _sheet(axis, tiles, columns)
        empty = columns - len(tiles)
        axis.set_title(title)
        axis.set_anchor("W" if empty <= 0 else "NW")
        if pixel_um is not None:
            _scale_bar(axis, tiles.shape[1], tiles.shape[2], pixel_um)
    return figure


@styled
def bars(scores: Sequence[Bar], metric: str, shuffled: float | None = None) -> Figure:
    """Scores side by side: the mean over seeds with its standard deviation, and a point a seed; baselines are grey."""
    figure = Figure(figsize=(WIDTH_INCH, 0.36 * len(scores) + 1.0))
    axis = figure.subplots()
    for row, bar in enumerate(scores):
        _bar(axis, row, np.asarray(bar.values, dtype=float), GREY if bar.is_baseline else COLOURS[0])
    if shuffled is not None:
        axis.axvline(shuffled, color="black", linestyle="--", linewidth=1.2, label="shuffled labels")
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -0.02 * (high - low)), high + 0.14 * (high - low))  # room for the numbers at the right
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.set_yticks(range(len(scores)), [_short(bar.label, 40) for bar in scores])
    axis.invert_yaxis()
    axis.set_xlabel(metric)
    _bars_legend(axis, scores)
    return figure


@styled
def scatter(
    points: Float[np.ndarray, "n 2"],
    colourings: Mapping[str, Iterable[object]],
    axis_names: tuple[str, str] = ("component 1", "component 2"),
    amounts: Mapping[str, Float[np.ndarray, "n"]] | None = None,
) -> Figure:
    """The same points once for every colouring (label, cluster, plate); missing values are pale grey.

    `amounts` (doses) are coloured by their logarithm, from blue to yellow; what is 0 or missing is pale grey too.
    """
    amounts = amounts or {}
    panels = len(colourings) + len(amounts)
    columns = min(3, panels)
    rows = -(-panels // columns)
    drawn = _drawn(len(points))
    words = {title: np.array([_word(value) for value in values], dtype=str) for title, values in colourings.items()}
    below_inch = max(_legend_inch(list(np.unique(each))) for each in words.values())
    width = WIDTH_INCH if columns > 1 else 0.6 * WIDTH_INCH
    figure = Figure(figsize=(width, rows * (WIDTH_INCH / max(2, columns) + 0.5 + below_inch)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, each) in zip(axes, words.items(), strict=False):
        _coloured(axis, points[drawn], each[drawn])
        axis.set(title=title, xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[])
    for axis, (title, values) in zip(axes[len(colourings) :], amounts.items(), strict=False):
        _shaded(axis, points[drawn], np.asarray(values, dtype=float)[drawn])
        axis.set(title=title, xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[])
    _hide(axes[panels:])
    return figure


@styled
def views(
    originals: UInt8[np.ndarray, "n y x 3"],
    draws: Mapping[str, UInt8[np.ndarray, "n draws y x 3"]],
    pixel_um: float | None = None,
) -> Figure:
    """What each branch makes of the same cells: a row a cell, first as it is, then the draws of every branch."""
    blocks = {"cell": originals[:, None], **draws}
    widths = [block.shape[1] for block in blocks.values()]
    tile_inch = min(1.0, WIDTH_INCH / (sum(widths) + 0.3 * len(widths)))
    width = min(WIDTH_INCH, tile_inch * sum(widths) + 0.3 * len(widths))
    figure = Figure(figsize=(width, tile_inch * len(originals) + 0.4))
    axes = figure.subplots(1, len(blocks), squeeze=False, width_ratios=widths).ravel()
    for axis, (title, block) in zip(axes, blocks.items(), strict=True):
        _sheet(axis, block.reshape(-1, *block.shape[2:]), block.shape[1])
        axis.set_title(_short(title, 8 + 12 * (block.shape[1] - 1)))
        axis.set_anchor("NW")
    if pixel_um is not None:
        _scale_bar(axes[0], originals.shape[1], originals.shape[2], pixel_um)
    return figure


@styled
def dose_curves(
    dose_micromolar: Float[np.ndarray, "wells"],
    shares: Float[np.ndarray, "wells clusters"],
    compound: Iterable[object],
    is_control: Bool[np.ndarray, "wells"],
) -> Figure:
    """Share of every cluster against dose: a panel a compound, a point a well, a line through the means per dose.

    At the left of each panel, set apart, the control wells: their mean and standard deviation.
    """
    names = np.array([_word(value) for value in compound], dtype=object)
    treated = ~is_control & (dose_micromolar > 0)
    compounds = sorted(set(names[treated]))
    columns = min(3 if len(compounds) <= 9 else 4, max(1, len(compounds)))
    rows = -(-len(compounds) // columns) or 1
    height_inch = 2.5 if columns <= 3 else 2.0
    figure = Figure(figsize=(WIDTH_INCH * max(0.5, min(1, columns / 3)), height_inch * rows + 0.4))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, name in zip(axes, compounds, strict=False):
        mine = treated & (names == name)
        left = _dose_axis(axis, dose_micromolar[mine])
        for cluster in range(shares.shape[1]):
            colour = COLOURS[cluster % len(COLOURS)]
            _dose_curve(axis, dose_micromolar[mine], shares[mine, cluster], colour, f"cluster {cluster}")
            beside = left * 1.08 ** (2 * cluster - shares.shape[1] + 1)  # so that no cluster hides another
            _control_mark(axis, beside, shares[is_control, cluster], colour)
        axis.set_title(_short(name, 30))
    _hide(axes[len(compounds) :])
    for axis in axes[::columns]:
        axis.set_ylabel("share of cells")
    if compounds:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(8, shares.shape[1]))
    return figure


@styled
def confusions(tables: Mapping[str, tuple[Sequence[str], Int[np.ndarray, "classes classes"]]]) -> Figure:
    """A panel a title: cells of every true class (rows) by the class that they were told to be (columns).

    Shades are shares of a row, so that rare classes are seen; up to `CLASSES_WRITTEN` classes the cells are written.
    """
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    width = WIDTH_INCH if columns > 1 else 0.5 * WIDTH_INCH
    figure = Figure(figsize=(width, rows * (0.8 * width / columns + 0.2)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, (classes, counts)) in zip(axes, tables.items(), strict=False):
        _confusion(axis, classes, np.asarray(counts))
        axis.set(title=_short(title, 60 // columns), xlabel="told", ylabel="true")
    _hide(axes[len(tables) :])
    return figure


def _confusion(axis: Axes, classes: Sequence[str], counts: Int[np.ndarray, "classes classes"]) -> None:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap=SHADES, vmin=0, vmax=1)
    places, names = range(len(classes)), [_short(name, 14) for name in classes]
    few = len(classes) <= CLASSES_WRITTEN
    axis.set_xticks(places, names, rotation=0 if len(classes) <= 3 else 90)
    axis.set_yticks(places, names)
    for row, column in np.ndindex(*counts.shape) if few else ():
        text = (
            f"{counts[row, column]:,}\n{shares[row, column]:.0%}" if len(classes) <= 4 else f"{counts[row, column]:,}"
        )
        colour = "black" if shares[row, column] > 0.6 else "white"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _curve(axis: Axes, steps: np.ndarray, values: np.ndarray, branch: str, colour: str) -> None:
    window = len(values) // 50
    if window < 2:
        axis.plot(steps, values, color=colour, label=branch, marker="o" if len(values) < 3 else "")
        return
    axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    axis.plot(steps[window // 2 : window // 2 + len(smooth)], smooth, color=colour, label=branch)


def _sheet(axis: Axes, tiles: UInt8[np.ndarray, "n y x 3"], columns: int) -> None:
    """Tiles row by row on white, as one picture."""
    count, height, width, _ = tiles.shape
    gap = max(1, round(GAP_PX * width / 100))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    axis.imshow(sheet, interpolation="antialiased")
    axis.set_axis_off()


def _scale_bar(axis: Axes, height: int, width: int, pixel_um: float) -> None:
    """A white bar of a round length in the lower right of the first tile, its length beside it."""
    most = 0.45 * width * pixel_um
    length_um = max((each for each in _BARS_UM if each <= most), default=_BARS_UM[0])
    right, low = 0.93 * width, 0.91 * height
    outline = [withStroke(linewidth=4.5, foreground="black")]
    left = right - length_um / pixel_um
    axis.plot([left, right], [low, low], color="white", linewidth=2.5, solid_capstyle="butt", path_effects=outline)
    axis.text(
        (left + right) / 2,
        low - 0.05 * height,
        f"{length_um} µm",
        color="white",
        fontsize=7,
        ha="center",
        va="bottom",
        path_effects=[withStroke(linewidth=1.8, foreground="black")],
    )


def _bar(axis: Axes, row: int, values: Float[np.ndarray, "seeds"], colour: str) -> None:
    score = spread(values)
    reach = np.nan_to_num(score.sd)
    axis.barh(row, score.mean, height=0.65, color=colour, alpha=0.7)
    if score.n > 1:
        offsets = np.linspace(-0.2, 0.2, len(values))
        axis.errorbar(score.mean, row, xerr=reach, color="black", linewidth=1.2, capsize=3)
        axis.plot(values, row + offsets, "o", color="white", markeredgecolor="black", markersize=4, linestyle="none")
    end = np.nanmax([0.0, score.mean + reach, *values])
    axis.annotate(str(score), (end, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)


def _bars_legend(axis: Axes, scores: Sequence[Bar]) -> None:
    handles, labels = axis.get_legend_handles_labels()
    for is_baseline, name, colour in ((False, "trained", COLOURS[0]), (True, "baseline", GREY)):
        if any(bar.is_baseline == is_baseline for bar in scores):
            handles.append(Patch(color=colour, alpha=0.75))
            labels.append(name)
    axis.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _drawn(count: int) -> np.ndarray:
    """Which points to draw, in an order drawn by lot, so that no class lies on top of the others."""
    return generator("scatter").permutation(count)[:POINTS_DRAWN]


def _coloured(axis: Axes, points: Float[np.ndarray, "n 2"], words: np.ndarray) -> None:
    names, counts = np.unique(words, return_counts=True)
    by_number = sorted((name for name in names if name), key=lambda name: -counts[names == name][0])
    shown = sorted(by_number[:CLASSES_SHOWN], key=_natural)
    looks = {name: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS)]) for i, name in enumerate(shown)}
    columns, letters = _legend_columns(list(names))
    size = _point_size(len(points))
    for marker in MARKERS:
        mine = np.array([looks.get(word, ("", "o"))[1] == marker for word in words], dtype=bool)
        colours = [looks.get(word, (PALE, ""))[0] for word in words[mine]]
        axis.scatter(points[mine, 0], points[mine, 1], s=size, c=colours, marker=marker, linewidths=0, alpha=0.7)
    for name, (colour, marker) in looks.items():
        axis.scatter([], [], s=18, c=colour, marker=marker, label=_short(name, letters))
    if len(looks) < len(names):
        left_out = "others" if len(by_number) > len(shown) else "unknown"
        axis.scatter([], [], s=18, c=PALE, label=left_out)
    _legend_below(axis, columns)


def _shaded(axis: Axes, points: Float[np.ndarray, "n 2"], values: Float[np.ndarray, "n"]) -> None:
    """Points by the logarithm of their value, with a scale of round numbers below."""
    given = values > 0  # false for NaN too
    size = _point_size(len(points))
    axis.scatter(points[~given, 0], points[~given, 1], s=size, c=PALE, linewidths=0, alpha=0.7)
    if not given.any():
        return
    x, y = points[given].T
    shades = axis.scatter(x, y, s=size, c=values[given], norm=LogNorm(), cmap=SHADES, linewidths=0, alpha=0.7)
    levels = np.unique(values[given])
    few = levels if len(levels) <= 5 else levels[np.linspace(0, len(levels) - 1, 5).round().astype(int)]
    figure = axis.get_figure(root=True)
    assert figure is not None
    scale = figure.colorbar(shades, cax=axis.inset_axes((0.05, -0.15, 0.9, 0.04)), orientation="horizontal", alpha=1.0)
    scale.ax.xaxis.set_minor_locator(NullLocator())
    scale.set_ticks(few.tolist(), labels=[f"{level:.3g}" for level in few])


def _point_size(points: int) -> float:
    return float(np.clip(8000 / max(1, points), 2, 16))


def _legend_below(axis: Axes, columns: int) -> None:
    below = offset_copy(
        axis.transAxes, axis.get_figure(root=True), y=-0.22, units="inches"
    )  # the name of the axis lies between
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=columns,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _legend_columns(words: Sequence[str]) -> tuple[int, int]:
    """How many words stand side by side below a panel, and how many letters there is room for in each."""
    longest = max(map(len, words), default=0)
    if longest <= 7:
        return 3, 7
    return (1, 30) if longest > 13 and len(words) <= 9 else (2, 13)


def _legend_inch(words: Sequence[str]) -> float:
    """Height of a legend with these words."""
    shown = min(len(words), CLASSES_SHOWN + 1)
    return 0.19 * -(-shown // _legend_columns(words)[0])


def _dose_axis(axis: Axes, doses: np.ndarray) -> float:
    """Doses on a logarithmic axis; returns where the controls stand, a step left of the lowest dose."""
    levels = np.unique(doses)
    step = float(np.median(levels[1:] / levels[:-1])) if len(levels) > 1 else 3.0
    room = float(levels[-1] / levels[0]) ** 0.3  # for the word below
    left: float = float(levels[0]) / max(step**1.5, room)
    axis.set_xscale("log")
    axis.set_xlim(left / max(step**0.6, room**0.4), float(levels[-1]) * step**0.4)
    few = levels if len(levels) <= 6 else levels[:: -(-len(levels) // 6)]
    axis.set_xticks([left, *few], ["controls", *(f"{level:g}" for level in few)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("dose (µM)")
    axis.set_ylim(-0.03, 1.03)
    return left


def _dose_curve(axis: Axes, doses: np.ndarray, shares: np.ndarray, colour: str, label: str) -> None:
    levels = np.unique(doses)
    axis.plot(doses, shares, "o", color=colour, markersize=3, alpha=0.5, markeredgewidth=0)
    axis.plot(levels, [shares[doses == level].mean() for level in levels], color=colour, label=label)


def _control_mark(axis: Axes, left: float, shares: np.ndarray, colour: str) -> None:
    if len(shares):
        spread = shares.std(ddof=1) if len(shares) > 1 else 0.0
        axis.errorbar(left, shares.mean(), yerr=spread, fmt="D", color=colour, markersize=4, capsize=3)


def _hide(axes: Iterable[Axes]) -> None:
    for axis in axes:
        axis.set_visible(False)


def _word(value: object) -> str:
    """A label as text; empty where it is missing."""
    missing = value is None or str(value) in ("nan", "NaN", "<NA>", "NaT")
    if missing:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    try:
        return (False, float(name), name)
    except ValueError:
        return (True, 0.0, name)
