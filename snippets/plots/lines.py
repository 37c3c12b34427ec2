"""Lines that carry their own names, so that no legend is needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.number[Any]]

MARKERS = "os^Dv"


def line_chart(
    x: Sequence[float] | Array,
    curves: Mapping[str, Sequence[float] | Array],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    colour: str | None = None,
) -> Figure:
    """Draw curves over the same x, each named at its right end.

    With `colour` all have the same one, for curves of one role; their
    markers tell them apart.
    """
    fig, ax = plt.subplots()
    for i, (name, y) in enumerate(curves.items()):
        marker = MARKERS[i % len(MARKERS)]
        (line,) = ax.plot(x, y, marker=marker, color=colour)
        ax.annotate(
            name,
            (x[-1], y[-1]),
            (8, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    fig.suptitle(title)
    ax.grid(visible=True)
    return fig
