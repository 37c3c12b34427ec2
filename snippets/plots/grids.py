"""Grids of numbers, and windows that move over them.

The colours of the style sheet carry a meaning: C0 input, C1 kernel,
C2 output, C3 gradient.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

Array = NDArray[np.number[Any]]
Box = tuple[int, int, int, int]  # top, left, height, width

WIDEST = 6.3  # inches: what a page's column holds
PALE, STRONG = 0.13, 0.5  # how opaque a cell is, and one that matters


@dataclass(frozen=True)
class Grid:
    """A matrix to draw: one number a cell, in the colour of its role.

    `window` marks some cells, framed in `frame`. With `shaded`, a cell is
    the darker the larger its number is.
    """

    values: Array
    label: str
    colour: str = "C0"
    window: Box | None = None
    frame: str = "C1"
    shaded: bool = False


@dataclass(frozen=True)
class Slide:
    """A window on its way over a square input, with the output it leaves.

    All sizes count cells along one side.
    """

    label: str
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def output(self) -> int:
        """Count the places that the window fits into."""
        last = self.size + 2 * self.padding
        last -= self.dilation * (self.kernel - 1) + 1
        places = len(range(0, last + 1, self.stride))
        if not places:
            raise ValueError(
                f"a window of {self.kernel} cells, {self.dilation} apart, "
                f"does not fit into {self.size} + 2·{self.padding}"
            )
        return places


def number_grids(
    grids: Sequence[Grid], *, title: str, signs: str = "", cell: float = 0.42
) -> Figure:
    """Draw grids in a row, with one sign between each and the next.

    Each grid has axes of its own. `cell` is the side of a cell in inches; it
    shrinks where the row would be wider than a page.
    """
    gap = 1.3 if signs.strip() else 0.9
    wide = [float(grid.values.shape[1]) for grid in grids]
    height = max(len(grid.values) for grid in grids)
    lines = max(grid.label.count("\n") for grid in grids) + 1
    fig, row = _row(wide, gap, height, 0.55 * lines, title, cell)
    for i, (ax, grid) in enumerate(zip(row, grids, strict=True)):
        _draw_numbers(ax, grid, (height - len(grid.values)) / 2)
        if 0 < i <= len(signs):
            ax.text(-gap / 2, height / 2, signs[i - 1], size=15, **_CENTRED)
    return fig


def slides(panels: Sequence[Slide], *, title: str) -> Figure:
    """Draw inputs in a row, each with its output below.

    The first window is filled, the second one dashed, and so are the output
    cells that they fill. Padding is dotted. Each input has axes of its own.
    Raises ValueError where a window does not fit into its padded input.
    """
    wide = [max(p.size + 2 * p.padding, p.output, 7.0) for p in panels]
    above = max(p.size + 2 * p.padding for p in panels)
    height = above + 1.7 + max(p.output for p in panels)
    lines = max(p.label.count("\n") for p in panels) + 1
    fig, row = _row(wide, 1.6, height, 1.15 * lines, title, 0.24)
    for ax, panel, room in zip(row, panels, wide, strict=True):
        middle = room / 2
        ax.text(middle, -0.5, panel.label, ha="center", va="bottom")
        _draw_input(ax, panel, (above - panel.size) / 2, middle)
        ax.annotate(
            "",
            (middle, above + 1.4),
            (middle, above + 0.3),
            arrowprops={"arrowstyle": "->", "color": _frame()},
        )
        _draw_output(ax, panel, above + 1.7, middle)
    return fig


_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}


@dataclass(frozen=True)
class _Look:
    """How some cells are drawn; with `opaque=0` only their outline is."""

    colour: str
    opaque: float
    lines: str = "-"


class _Cells:
    """Squares to draw, those that look the same in one piece."""

    def __init__(self) -> None:
        self.places: dict[_Look, list[tuple[float, float]]] = {}

    def add(
        self,
        top: float,
        left: float,
        colour: str,
        opaque: float,
        lines: str = "-",
    ) -> None:
        look = _Look(colour, round(opaque, 2), lines)
        self.places.setdefault(look, []).append((left, top))

    def draw(self, ax: Axes) -> None:
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
        for look, places in self.places.items():
            fill = to_rgba(look.colour, look.opaque) if look.opaque else "none"
            pieces = [Path(square + place, closed=True) for place in places]
            ax.add_patch(
                PathPatch(
                    Path.make_compound_path(*pieces),
                    clip_on=False,
                    facecolor=fill,
                    edgecolor=_frame(),
                    linewidth=0.6,
                    linestyle=look.lines,
                )
            )


def _row(
    wide: Sequence[float],
    gap: float,
    height: float,
    header: float,
    title: str,
    cell: float,
) -> tuple[Figure, list[Axes]]:
    """Open axes side by side, each measured in cells from its top left."""
    width = sum(wide) + gap * (len(wide) - 1)
    cell = min(cell, WIDEST / (width + 0.3))
    across = max((width + 0.3) * cell, min(_title_width(title), WIDEST))
    down = (height + header + 0.3) * cell + 0.4
    fig = plt.figure(figsize=(across, down), layout="none")
    left = (across - width * cell) / 2
    row = []
    for each in wide:
        place = (left / across, 0.02, each * cell / across, 1 - 0.4 / down)
        ax = fig.add_axes(place)
        ax.set(xlim=(0, each), ylim=(height + 0.15, -header - 0.15))
        ax.set_aspect("equal", anchor="S")
        ax.axis("off")
        left += (each + gap) * cell
        row.append(ax)
    fig.suptitle(title, y=1 - 0.05 / down)
    return fig, row


def _title_width(title: str) -> float:
    """Estimate in inches: no font need be at hand that has the characters."""
    points = FontProperties(
        size=plt.rcParams["figure.titlesize"]
    ).get_size_in_points()
    wide = [unicodedata.east_asian_width(c) in "WF" for c in title]
    return points / 72 * sum(1.0 if w else 0.62 for w in wide) + 0.2


def _frame() -> str:
    """Return the colour of lines that belong to no role."""
    return str(plt.rcParams["axes.edgecolor"])


def _draw_numbers(ax: Axes, grid: Grid, top: float) -> None:
    values = grid.values
    largest = max(float(np.abs(values).max()), 1e-12)
    inside = np.zeros(values.shape, bool)
    if grid.window:
        y, x, h, w = grid.window
        inside[y : y + h, x : x + w] = True
    cells = _Cells()
    for row, column in np.ndindex(*values.shape):
        value = float(values[row, column])
        opaque = STRONG if inside[row, column] else PALE
        if grid.shaded:
            opaque = 0.6 * abs(value) / largest
        cells.add(top + row, column, grid.colour, opaque)
        number = f"{value:.3g}".replace("-", "−")
        ax.text(column + 0.5, top + row + 0.5, number, **_CENTRED)
    cells.draw(ax)
    if grid.window:
        style: dict[str, Any] = {"fill": False, "linewidth": 2.2}
        frame = Rectangle((x, top + y), w, h, clip_on=False, **style)
        frame.set_edgecolor(grid.frame)
        ax.add_patch(frame)
    middle = values.shape[1] / 2
    ax.text(middle, top - 0.15, grid.label, ha="center", va="bottom")


def _draw_input(ax: Axes, panel: Slide, top: float, middle: float) -> None:
    left = middle - panel.size / 2
    pad = panel.padding
    cells = _Cells()
    for row, column in np.ndindex(panel.size + 2 * pad, panel.size + 2 * pad):
        y, x = row - pad, column - pad
        if min(y, x) >= 0 and max(y, x) < panel.size:
            cells.add(top + y, left + x, "C0", 0.25)
        else:
            cells.add(top + y, left + x, "C0", 0, ":")
    second = []
    for tap in np.ndindex(panel.kernel, panel.kernel):
        y, x = (i * panel.dilation - pad for i in tap)
        cells.add(top + y, left + x, "C1", 0.65)
        second.append((left + x + panel.stride, top + y))
    cells.draw(ax)
    if panel.output > 1:
        _draw_dashed(ax, second, "C1")


def _draw_output(ax: Axes, panel: Slide, top: float, middle: float) -> None:
    left = middle - panel.output / 2
    cells = _Cells()
    for row, column in np.ndindex(panel.output, panel.output):
        first = row == column == 0
        cells.add(top + row, left + column, "C2", 0.65 if first else 0.2)
    cells.draw(ax)
    if panel.output > 1:
        _draw_dashed(ax, [(left + 1, top)], "C2")


def _draw_dashed(
    ax: Axes, corners: Sequence[tuple[float, float]], colour: str
) -> None:
    """Mark cells by dashed squares a little smaller than themselves."""
    low, high = 0.16, 0.84
    square = np.array(
        [(low, low), (high, low), (high, high), (low, high), (low, low)]
    )
    pieces = [Path(square + corner, closed=True) for corner in corners]
    ax.add_patch(
        PathPatch(
            Path.make_compound_path(*pieces),
            fill=False,
            edgecolor=colour,
            linewidth=1.2,
            linestyle=(0, (2, 1.2)),
        )
    )
