"""Draw a network as the shapes that pass through it."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Shape = tuple[int, ...]

WIDEST = 6.4  # inches: what a page's column holds
TALL = 2.0  # units: the longest side of a map
ARROW = 1.1  # units: room for a layer between two shapes


def draw_stages(
    shapes: Sequence[Shape],
    layers: Sequence[str],
    *,
    title: str,
    names: Sequence[str] = (),
) -> Figure:
    """Draw each shape as a stack of maps, and name the layers in between.

    shapes: (channels, height, width), or (features,) for a vector, first the
    input; layers: one name for each step from a shape to the next; names:
    one for each shape, drawn above it. Sides of maps are to scale, and a
    stack grows with its channels, though more slowly. Each shape has axes of
    its own, with the arrow that leads to it.
    Raises ValueError when the numbers of shapes, layers and names disagree,
    or a shape has neither one nor three positive sizes.
    """
    if not shapes:
        raise ValueError("shapes is empty; give at least the input's")
    if len(layers) != len(shapes) - 1:
        raise ValueError(
            f"layers has {len(layers)} names; {len(shapes)} shapes "
            f"need {len(shapes) - 1}"
        )
    if names and len(names) != len(shapes):
        raise ValueError(f"names has {len(names)} of {len(shapes)} names")
    for shape in shapes:
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise ValueError(
                f"shapes holds {shape}; allowed are (channels, height, "
                "width) and (features,), all positive"
            )
    sides = [side for shape in shapes for side in shape[1:]]
    scale = TALL / max(sides, default=1)
    rooms = [max(_width(shape, scale), 0.9) for shape in shapes]
    total = sum(rooms) + ARROW * len(layers)
    unit = min(0.42, WIDEST / (total + 0.4))
    width, height = max((total + 0.4) * unit, 3.4), 4.1 * unit + 0.4
    figure = plt.figure(figsize=(width, height), layout="none")
    left = (width - total * unit) / 2
    for i, (shape, room) in enumerate(zip(shapes, rooms, strict=True)):
        before = ARROW if i else 0.0
        inches = (before + room) * unit
        ax = figure.add_axes((left / width, 0, inches / width, 1))
        ax.set(xlim=(-before, room), ylim=(-1.95, 2.15 + 0.4 / unit - 0.2))
        ax.set_axis_off()
        _draw_shape(ax, shape, room, scale, "C2" if i else "C0")
        label = "×".join(map(str, shape[1:])) or str(shape[0])
        if len(shape) == 3:
            label = f"{shape[0]} @ {label}"
        _write(ax, room / 2, -1.72, label)
        if names:
            _write(ax, room / 2, 1.72, names[i])
        if i:
            _draw_arrow(ax, layers[i - 1])
        left += inches
    figure.suptitle(title, y=1 - 0.05 / height)
    return figure


def _write(ax: Axes, x: float, y: float, text: str) -> None:
    ax.text(x, y, text, ha="center", va="center", fontsize=9)


def _draw_arrow(ax: Axes, layer: str) -> None:
    """Draw a layer to the left of the shape that it makes."""
    ax.annotate(
        "",
        xy=(-0.12, 0),
        xytext=(-0.98, 0),
        arrowprops={"arrowstyle": "->", "color": "C1", "lw": 1.5},
    )
    middle, above = -ARROW / 2, 0.12
    style: dict[str, Any] = {"color": "C1", "ha": "center", "va": "bottom"}
    ax.text(middle, above, layer, fontsize=9, **style)


def _sheets(channels: int) -> int:
    return max(1, round(math.sqrt(channels)))


def _step(shape: Shape, scale: float) -> float:
    return min(0.14, shape[2] * scale / 4)


def _width(shape: Shape, scale: float) -> float:
    """Return in units how wide a shape is drawn."""
    if len(shape) == 1:
        return 0.16
    return shape[2] * scale + (_sheets(shape[0]) - 1) * _step(shape, scale)


def _draw_shape(
    ax: Axes, shape: Shape, room: float, scale: float, colour: str
) -> None:
    """Draw one shape in the middle of its room."""
    left = (room - _width(shape, scale)) / 2
    if len(shape) == 1:
        height = 0.4 + 2.2 * min(shape[0], 120) / 120
        bar = Rectangle((left, -height / 2), 0.16, height, fc=colour, alpha=0.6)
        ax.add_patch(bar)
        return
    channels, *sides = shape
    height, width = (side * scale for side in sides)
    sheets, step = _sheets(channels), _step(shape, scale)
    for k in reversed(range(sheets)):
        shift = (k - (sheets - 1) / 2) * step
        for fill in (True, False):
            ax.add_patch(
                Rectangle(
                    (left + k * step, shift - height / 2),
                    width,
                    height,
                    facecolor=colour if fill else "none",
                    edgecolor="none" if fill else colour,
                    alpha=0.25 if fill else 1.0,
                    linewidth=1,
                    clip_on=False,
                )
            )
