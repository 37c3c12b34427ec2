"""Images side by side, each under its title."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Array = NDArray[np.number[Any]]
Box = tuple[str, int, int, int, int]  # colour, top, left, height, width

LEVELS = 64  # shades of grey: finer ones are not seen, only downloaded


def image_row(
    images: Mapping[str, Array],
    *,
    title: str,
    boxes: Mapping[str, Box] | None = None,
    width: float = 6.4,
) -> Figure:
    """Draw images, given by their titles, in a row of one height.

    images: (h, w), or (h, w, 3) with values from 0 to 1. One that holds
    negative values is drawn with 0 as middle grey. `boxes` frames a part of
    an image. `width` of the row is in inches.
    """
    ratios = [image.shape[1] / image.shape[0] for image in images.values()]
    inner = width - 0.1 * len(ratios)
    height = inner / sum(ratios) + 0.6
    fig, axes = plt.subplots(
        1,
        len(ratios),
        figsize=(width, height),
        width_ratios=ratios,
        squeeze=False,
    )
    for ax, (name, image) in zip(axes[0], images.items(), strict=True):
        _draw(ax, name, image)
        if boxes and name in boxes:
            colour, top, left, h, w = boxes[name]
            corner = left - 0.5, top - 0.5
            ax.add_patch(
                Rectangle(corner, w, h, fill=False, edgecolor=colour, lw=2)
            )
    fig.suptitle(title)
    return fig


def _draw(ax: Axes, name: str, image: Array) -> None:
    if image.ndim == 3:
        ax.imshow(image)
    else:
        ax.imshow(_grey(image), cmap="gray", vmin=0, vmax=1)
    ax.set_title(name)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _grey(image: Array) -> Array:
    """Scale to 0 … 1 in a few levels; the rare extremes are cut off."""
    low, high = float(image.min()), float(image.max())
    if low < 0:
        high = float(np.quantile(np.abs(image), 0.995)) or 1.0
        low = -high
    scaled = (image - low) / ((high - low) or 1.0)
    grey: Array = np.round(scaled.clip(0, 1) * (LEVELS - 1)) / (LEVELS - 1)
    return grey
