"""figures: plain arrays of scores, tiles and points -> matplotlib figures in the common look."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import offset_copy

from cellssl.randomness import generator
from cellssl.reporting.lettering import (
    LINE_INCH,
    all_fitted,
    room_below,
    room_beside,
    title,
    widest_inch,
    words_below,
    words_beside,
)
from cellssl.reporting.order import natural
from cellssl.reporting.style import COLOURS, GREY, LIGHT, LOOKS, SHADES, WIDTH_INCH, Look, look, styled
from cellssl.reporting.summary import spread

GAP_PX = 3
"""White between two tiles, in the tiles' own pixels at 100 px a tile."""
POINTS_DRAWN = 20_000
"""Points of a scatter; of more, so many are drawn by lot."""
PALE = "#D0D0D0"
CLASSES_SHOWN = 2 * len(COLOURS)
"""Of more, the most frequent are told apart, and the others are pale grey: eyes hold no more."""
CURVES_SHOWN = 5
"""Of more clusters than there are colours those whose share moves most with a compound's dose; wells.csv has all."""
CLASSES_WRITTEN = 12
"""Of more classes the numbers would not fit into their squares."""
GROUPS_IN_LARGE = 8
"""Cells of more groups are shown in half the size, or nobody would leaf through them."""
LOWEST_END = 0.1
"""Where the scale of scores ends at least, or chance would fill the page."""


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

    Many steps are drawn pale, with their running mean on top. A branch looks the same in all panels.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = WIDTH_INCH * columns / 2
    names = list(dict.fromkeys(name for branches in panels.values() for name in branches))
    looks = {name: look(place) for place, name in enumerate(names)}
    handles = [Line2D([], [], color=each.colour, linestyle=each.dash, label=name) for name, each in looks.items()]
    if chance:
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label="chance"))
    figure = Figure(figsize=(width, 2.4 * rows + _shared_inch(handles, width)))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axis, (metric, branches) in zip(axes, panels.items(), strict=False):
        for branch, values in branches.items():
            _curve(axis, steps, np.asarray(values, dtype=float), branch, looks[branch])
        if chance and metric in chance:
            axis.axhline(chance[metric], color="black", linestyle="--", linewidth=1, label="chance")
        title(axis, metric, width / columns - 0.55)
        axis.set_xlabel("step")
        axis.xaxis.set_tick_params(labelbottom=True)
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _hide(axes[len(panels) :])
    _shared_legend(figure, handles, width)
    return figure


@styled
def montage(
    groups: Mapping[str, UInt8[np.ndarray, "n y x 3"]], pixel_um: float | None, columns: int | None = None
) -> Figure:
    """Cells in groups (clusters, mostly), a title over each; a scale bar in the first cell of a group."""
    filled = {name: tiles for name, tiles in groups.items() if len(tiles)}
    columns = columns or (8 if len(filled) <= GROUPS_IN_LARGE else 16)
    heights = [-(-len(tiles) // columns) for tiles in filled.values()]
    tile_inch = WIDTH_INCH / columns
    figure = Figure(figsize=(WIDTH_INCH, sum(heights) * tile_inch + 0.3 * len(filled) + 0.1))
    axes = figure.subplots(len(filled), 1, squeeze=False, height_ratios=heights).ravel()
    for axis, (name, tiles) in zip(axes, filled.items(), strict=True):
        _sheet(axis, tiles, columns)
        title(axis, name, WIDTH_INCH)
        axis.set_anchor("NW")
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
    high = max(high, LOWEST_END)
    axis.set_xlim(min(low, -0.02 * (high - low)), high + 0.14 * (high - low))  # room for the numbers at the right
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.set_yticks(range(len(scores)), all_fitted([bar.label for bar in scores], 2.5))
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
    named: Collection[str] = (),
) -> Figure:
    """The same points once for every colouring (label, cluster, plate); missing values are pale grey.

    `amounts` (doses) are coloured by their logarithm, from blue to yellow; what is 0 or missing is pale grey too.
    Colourings that are `named` (of groups that lie apart) bear each group's name in its middle.
    """
    amounts = amounts or {}
    panels = len(colourings) + len(amounts)
    columns = min(3, panels)
    rows = -(-panels // columns)
    drawn = _drawn(len(points))
    words = {head: np.array([_word(value) for value in values], dtype=str) for head, values in colourings.items()}
    width = WIDTH_INCH if columns > 1 else 0.6 * WIDTH_INCH
    room_inch = width / columns - 0.3
    below_inch = max(_legend_inch(list(np.unique(each)), room_inch) for each in words.values())
    figure = Figure(figsize=(width, rows * (WIDTH_INCH / max(2, columns) + 0.5 + below_inch)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (head, each) in zip(axes, words.items(), strict=False):
        _coloured(axis, points[drawn], each[drawn], room_inch)
        if head in named:
            _name(axis, points[drawn], each[drawn])
    for axis, values in zip(axes[len(colourings) :], amounts.values(), strict=False):
        _shaded(axis, points[drawn], np.asarray(values, dtype=float)[drawn])
    for axis, head in zip(axes, (*colourings, *amounts), strict=False):
        title(axis, head, room_inch)
        axis.set(xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[])
    _hide(axes[panels:])
    return figure


@styled
def views(
    originals: UInt8[np.ndarray, "n y x 3"],
    draws: Mapping[str, UInt8[np.ndarray, "n draws y x 3"]],
    pixel_um: float | None = None,
) -> Figure:
    """What each branch makes of the same cells: a row a cell, first as it is, then the draws of every branch.

    Branches that would become too small beside each other go on below, where the cells stand once more.
    """
    lines = _lines(draws)
    widest = max(1 + sum(draws[name].shape[1] for name in line) for line in lines)
    most = max(1 + len(line) for line in lines)
    tile_inch = min(1.0, (WIDTH_INCH - 0.3 * most) / widest)
    figure = Figure(figsize=(tile_inch * widest + 0.3 * most, len(lines) * (tile_inch * len(originals) + 0.4)))
    for part, line in zip(figure.subfigures(len(lines), 1, squeeze=False).ravel(), lines, strict=True):
        blocks = {"cell": originals[:, None], **{name: draws[name] for name in line}}
        widths = [block.shape[1] for block in blocks.values()]
        spare = [widest - sum(widths)] if sum(widths) < widest else []
        axes = part.subplots(1, len(widths + spare), squeeze=False, width_ratios=widths + spare).ravel()
        _hide(axes[len(widths) :])
        for axis, (name, block) in zip(axes, blocks.items(), strict=False):
            _sheet(axis, block.reshape(-1, *block.shape[2:]), block.shape[1])
            title(axis, name, tile_inch * block.shape[1] + 0.1)
            axis.set_anchor("NW")
        if pixel_um is not None:
            _scale_bar(axes[0], originals.shape[1], originals.shape[2], pixel_um)
    return figure


def _lines(draws: Mapping[str, UInt8[np.ndarray, "n draws y x 3"]]) -> list[list[str]]:
    """Which branches stand side by side: as many as keep a tile at 0.7 inches."""
    lines: list[list[str]] = [[]]
    for name, block in draws.items():
        before = sum(draws[other].shape[1] for other in lines[-1])
        if lines[-1] and 1 + before + block.shape[1] > WIDTH_INCH / 0.7:
            lines.append([])
        lines[-1].append(name)
    return lines


@styled
def dose_curves(
    dose_micromolar: Float[np.ndarray, "wells"],
    shares: Float[np.ndarray, "wells clusters"],
    compound: Iterable[object],
    is_control: Bool[np.ndarray, "wells"],
) -> Figure:
    """Share of every cluster against dose: a panel a compound, a point a well, a line through the means per dose.

    At the left of each panel, set apart, the control wells: their mean and standard deviation. Of more clusters than
    colours, each panel has the `CURVES_SHOWN` at most whose share moves most in it.
    """
    names = np.array([_word(value) for value in compound], dtype=object)
    treated = ~is_control & (dose_micromolar > 0)
    compounds = sorted(set(names[treated]), key=natural)
    columns = min(3, max(1, len(compounds)))
    rows = -(-len(compounds) // columns) or 1
    width = WIDTH_INCH * max(0.5, columns / 3)
    clusters = {name: _moved_most(dose_micromolar, shares, treated & (names == name), is_control) for name in compounds}
    shown = sorted({cluster for each in clusters.values() for cluster in each})
    handles = [
        Line2D([], [], color=look(cluster).colour, linestyle=look(cluster).dash, label=f"cluster {cluster}")
        for cluster in shown
    ]
    height_inch = 2.5 if len(compounds) <= 9 else 2.2
    figure = Figure(figsize=(width, height_inch * rows + _shared_inch(handles, width)))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, name in zip(axes, compounds, strict=False):
        mine = treated & (names == name)
        left = _dose_axis(axis, dose_micromolar[mine])
        for place, cluster in enumerate(clusters[name]):
            _dose_curve(axis, dose_micromolar[mine], shares[mine, cluster], look(cluster), f"cluster {cluster}")
            apart = (dose_micromolar[mine].min() / left) ** (0.6 * ((place + 0.5) / len(clusters[name]) - 0.5))
            _control_mark(axis, left * apart, shares[is_control, cluster], look(cluster))
        title(axis, name, (width - 0.5) / columns - 0.15)
    _hide(axes[len(compounds) :])
    top = math.ceil(10 * max(0.1, float(shares[:, shown].max(initial=0)))) / 10
    axes[0].set_ylim(-0.03 * top, 1.03 * top)
    for axis in axes[::columns]:
        axis.set_ylabel("share of cells")
    _shared_legend(figure, handles, width)
    return figure


def _moved_most(dose: np.ndarray, shares: np.ndarray, mine: np.ndarray, is_control: np.ndarray) -> list[int]:
    """Clusters whose mean share moves most over the doses of one compound and its controls; all where they are few."""
    if shares.shape[1] <= len(COLOURS):
        return list(range(shares.shape[1]))
    levels = [mine & (dose == level) for level in np.unique(dose[mine])]
    means = np.array([shares[rows].mean(axis=0) for rows in (*levels, is_control) if rows.any()])
    moved = np.ptp(means, axis=0)[:LOOKS]
    most = np.argsort(-moved, kind="stable")[:CURVES_SHOWN]
    return sorted(most[moved[most] > 0].tolist())


@styled
def confusions(tables: Mapping[str, tuple[Sequence[str], Int[np.ndarray, "classes classes"]]]) -> Figure:
    """A panel a title: cells of every true class (rows) by the class that they were told to be (columns).

    Shades are shares of a row, so that rare classes are seen. Of four classes the cells are written with their percents
    where they fit, of up to `CLASSES_WRITTEN` the percents alone; of more, shades end at the largest share, and a scale
    says what they are.
    """
    most = max(len(classes) for classes, _ in tables.values())
    most_columns = 3 if most <= 4 else 2 if most <= 2 * CLASSES_WRITTEN else 1
    columns = min(len(tables), most_columns)
    rows = -(-len(tables) // columns)
    width = WIDTH_INCH * max(0.5, columns / most_columns)
    words = [name for classes, _ in tables.values() for name in classes]
    side_inch = width / columns - 0.66 - room_beside(words)
    shares = {head: counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) for head, (_, counts) in tables.items()}
    written = most <= CLASSES_WRITTEN
    scale = Normalize(0, 1 if written else max(float(each.max()) for each in shares.values()))
    height = rows * (side_inch + room_below(words, side_inch / most) + 0.72) + (0 if written else 0.6)
    figure = Figure(figsize=(width, height), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (head, (classes, counts)) in zip(axes, tables.items(), strict=False):
        _confusion(axis, classes, np.asarray(counts), scale, side_inch / len(classes))
        title(axis, head, side_inch)
        axis.set(xlabel="told", ylabel="true")
    _hide(axes[len(tables) :])
    if not written:
        bar = figure.colorbar(
            ScalarMappable(scale, SHADES), ax=list(axes), location="bottom", shrink=0.5, aspect=40, pad=0.02
        )
        bar.set_label("share of the true class's cells")
    return figure


def _confusion(
    axis: Axes, classes: Sequence[str], counts: Int[np.ndarray, "classes classes"], scale: Normalize, each_inch: float
) -> None:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap=SHADES, norm=scale)
    places = list(range(len(classes)))
    words_below(axis, places, classes, each_inch)
    words_beside(axis, places, classes, each_inch)
    with_counts = len(classes) <= 4 and widest_inch(f"{count:,}" for count in counts.flat) <= 0.95 * each_inch
    for row, column in np.ndindex(*counts.shape) if len(classes) <= CLASSES_WRITTEN else ():
        percent = f"{100 * shares[row, column]:.0f}"
        text = f"{counts[row, column]:,}\n{percent}%" if with_counts else percent
        colour = "black" if scale(shares[row, column]) > LIGHT else "white"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _curve(axis: Axes, steps: np.ndarray, values: np.ndarray, branch: str, mark: Look) -> None:
    window = len(values) // 50
    if window < 2:
        marker = "o" if len(values) < 3 else ""
        axis.plot(steps, values, mark.dash, color=mark.colour, label=branch, marker=marker)
        return
    axis.plot(steps, values, color=mark.colour, alpha=0.25, linewidth=0.8)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    centres = steps[window // 2 : window // 2 + len(smooth)]
    axis.plot(centres, smooth, mark.dash, color=mark.colour, label=branch)


def _shared_legend(figure: Figure, handles: Sequence[Line2D], width_inch_: float) -> None:
    """One legend below all panels, for what looks the same in each."""
    if handles:
        columns, room_inch = _shared_columns(handles, width_inch_)
        labels = all_fitted([str(handle.get_label()) for handle in handles], room_inch)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


def _shared_inch(handles: Sequence[Line2D], width_inch_: float) -> float:
    """Height of that legend."""
    return 0.15 + LINE_INCH * -(-len(handles) // _shared_columns(handles, width_inch_)[0]) if handles else 0.0


def _shared_columns(handles: Sequence[Line2D], width_inch_: float) -> tuple[int, float]:
    """How many names stand side by side, and the room for each."""
    line_inch = 0.5
    wanted = widest_inch(str(handle.get_label()) for handle in handles) + line_inch
    columns = max(1, min(len(handles), int((width_inch_ - 0.2) / wanted)))
    return columns, (width_inch_ - 0.2) / columns - line_inch


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
    """A white bar of a round length in the lower right of the first tile, its length above it."""
    length_um = _round_below(0.45 * width * pixel_um)
    right, low = 0.93 * width, 0.91 * height
    outline = [withStroke(linewidth=4.5, foreground="black")]
    left = right - length_um / pixel_um
    axis.plot([left, right], [low, low], color="white", linewidth=2.5, solid_capstyle="butt", path_effects=outline)
    axis.text(
        right,
        low - 0.05 * height,
        f"{length_um:g} µm",
        color="white",
        fontsize=7,
        ha="right",
        va="bottom",
        path_effects=[withStroke(linewidth=1.8, foreground="black")],
    )


def _round_below(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above."""
    power = float(f"1e{math.floor(math.log10(most))}")
    return max(each * power for each in (1, 2, 5) if each * power <= most or each == 1)


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


def _coloured(axis: Axes, points: Float[np.ndarray, "n 2"], words: np.ndarray, room_inch: float) -> None:
    names, counts = np.unique(words, return_counts=True)
    by_number = sorted((name for name in names if name), key=lambda name: -counts[names == name][0])
    shown = sorted(by_number[:CLASSES_SHOWN], key=natural)
    looks = {name: look(place) for place, name in enumerate(shown)}
    columns, letters_inch = _legend_columns(list(names), room_inch)
    size = _point_size(len(points))
    for marker in dict.fromkeys(["o", *(each.marker for each in looks.values())]):
        mine = np.array(
            [looks[word].marker == marker if word in looks else marker == "o" for word in words], dtype=bool
        )
        colours = [looks[word].colour if word in looks else PALE for word in words[mine]]
        axis.scatter(points[mine, 0], points[mine, 1], s=size, c=colours, marker=marker, linewidths=0, alpha=0.7)
    for label, each in zip(all_fitted(shown, letters_inch), looks.values(), strict=True):
        axis.scatter([], [], s=18, c=each.colour, marker=each.marker, label=label)
    if len(looks) < len(names):
        left_out = "others" if len(by_number) > len(shown) else "unknown"
        axis.scatter([], [], s=18, c=PALE, label=left_out)
    _legend_below(axis, columns)


def _name(axis: Axes, points: Float[np.ndarray, "n 2"], words: np.ndarray) -> None:
    """The name of each group where most of it lies: near the median of its points, and apart from other names."""
    extent = np.maximum(np.ptp(points, axis=0), 1e-9)
    taken: list[np.ndarray] = []
    halo = [withStroke(linewidth=2, foreground="white")]
    for name in sorted(filter(None, np.unique(words)), key=lambda name: -(words == name).sum()):
        mine = points[words == name]
        nearest = mine[np.abs((mine - np.median(mine, axis=0)) / extent).sum(axis=1).argsort(kind="stable")]
        free = (place for place in nearest if all(np.abs((place - other) / extent).max() > 0.07 for other in taken))
        taken.append(next(free, nearest[0]))
        axis.annotate(
            name,
            (float(taken[-1][0]), float(taken[-1][1])),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            fontweight="bold",
            path_effects=halo,
        )


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


def _legend_columns(words: Sequence[str], room_inch: float) -> tuple[int, float]:
    """How many words stand side by side below a panel, and how much room there is for each."""
    mark_inch = 0.27
    widest = widest_inch(words)
    few = 1 if len(words) <= 9 else 2
    columns = next((count for count in (3, 2) if widest <= room_inch / count - mark_inch), few)
    return columns, room_inch / columns - mark_inch


def _legend_inch(words: Sequence[str], room_inch: float) -> float:
    """Height of a legend with these words."""
    shown = min(len(words), CLASSES_SHOWN + 1)
    return LINE_INCH * -(-shown // _legend_columns(words, room_inch)[0])


def _dose_axis(axis: Axes, doses: np.ndarray) -> float:
    """Doses on a logarithmic axis; returns where the controls stand, a step left of the lowest dose."""
    levels = np.unique(doses)
    step = float(np.median(levels[1:] / levels[:-1])) if len(levels) > 1 else 3.0
    room = float(levels[-1] / levels[0]) ** 0.35  # for the word below
    left: float = float(levels[0]) / max(step**1.5, room)
    axis.set_xscale("log")
    axis.set_xlim(left / max(step**0.6, room**0.4), float(levels[-1]) * step**0.4)
    few = levels if len(levels) <= 5 else levels[:: -(-len(levels) // 5)]
    axis.set_xticks([left, *few], ["controls", *(f"{level:.3g}" for level in few)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("dose (µM)")
    return left


def _dose_curve(axis: Axes, doses: np.ndarray, shares: np.ndarray, mark: Look, label: str) -> None:
    levels = np.unique(doses)
    axis.plot(doses, shares, mark.marker, color=mark.colour, markersize=3, alpha=0.5, markeredgewidth=0)
    means = [shares[doses == level].mean() for level in levels]
    axis.plot(levels, means, color=mark.colour, linestyle=mark.dash, label=label)


def _control_mark(axis: Axes, left: float, shares: np.ndarray, mark: Look) -> None:
    if len(shares):
        spread = shares.std(ddof=1) if len(shares) > 1 else 0.0
        axis.errorbar(left, shares.mean(), yerr=spread, fmt=mark.marker, color=mark.colour, markersize=4, capsize=3)


def _hide(axes: Iterable[Axes]) -> None:
    for axis in axes:
        axis.set_visible(False)


def _word(value: object) -> str:
    """A label as text; empty where it is missing."""
    missing = value is None or str(value) in ("nan", "NaN", "<NA>", "NaT")
    if missing:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
