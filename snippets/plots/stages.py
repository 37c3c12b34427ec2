"""Draw a network as the shapes that pass through it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Shape = tuple[int, ...]


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
    stack grows with its channels, though more slowly.
    Raises ValueError when the numbers of shapes, layers and names disagree.
    """
    if len(layers) != len(shapes) - 1:
        raise ValueError(
            f"layers has {len(layers)} names; {len(shapes)} shapes "
            f"need {len(shapes) - 1}"
        )
    if names and len(names) != len(shapes):
        raise ValueError(f"names has {len(names)} of {len(shapes)} names")
    figure, ax = plt.subplots(figsize=(6.4, 2.5))
    scale = 2.0 / max(shape[-1] for shape in shapes if len(shape) == 3)
    left = 0.0
    for i, shape in enumerate(shapes):
        colour = "C0" if i == 0 else "C2"
        if i:
            left += 1.1
            ax.annotate(
                "",
                xy=(left - 0.12, 0),
                xytext=(left - 0.98, 0),
                arrowprops={"arrowstyle": "->", "color": "C1", "lw": 1.5},
            )
            ax.text(
                left - 0.55,
                0.12,
                layers[i - 1],
                color="C1",
                ha="center",
                va="bottom",
                fontsize=9,
            )
        start = left
        left = _draw_shape(ax, shape, left, scale, colour)
        label = "×".join(map(str, shape[1:])) or str(shape[0])
        if len(shape) == 3:
            label = f"{shape[0]} @ {label}"
        middle = (start + left) / 2
        ax.text(middle, -1.72, label, ha="center", va="center", fontsize=9)
        if names:
            ax.text(middle, 1.72, names[i], ha="center", va="center")
    ax.set(xlim=(-0.1, left + 0.1), ylim=(-1.95, 1.95), title=title)
    ax.set_axis_off()
    return figure


def _draw_shape(
    ax: Axes, shape: Shape, left: float, scale: float, colour: str
) -> float:
    """Draw one shape and return where it ends."""
    if len(shape) == 1:
        height = 0.4 + 2.2 * min(shape[0], 120) / 120
        bar = Rectangle((left, -height / 2), 0.16, height, fc=colour, alpha=0.6)
        ax.add_patch(bar)
        return left + 0.16
    channels, _, width = shape
    side = width * scale
    sheets = round(channels**0.5) if channels > 1 else 1
    step = min(0.14, side / 4)
    for k in reversed(range(sheets)):
        shift = (k - (sheets - 1) / 2) * step
        for fill in (True, False):
            ax.add_patch(
                Rectangle(
                    (left + k * step, shift - side / 2),
                    side,
                    side,
                    facecolor=colour if fill else "none",
                    edgecolor="none" if fill else colour,
                    alpha=0.25 if fill else 1.0,
                    linewidth=1,
                )
            )
    return left + side + (sheets - 1) * step
