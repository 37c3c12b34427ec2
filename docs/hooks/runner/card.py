"""Draw a figure as the picture that other sites show with a link."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as PillowImage

WIDTH, HEIGHT = 1200, 630
_MARGIN = 50
_TRIAL = 72.0  # dots per inch


def save_card(path: str) -> None:
    """Save the first open figure, on white, as large as a card can hold it.

    Matplotlib's own font draws the text, and has no Chinese characters: the
    figure must be that of an English page. The same figure gives the same
    bytes.
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    figure = plt.figure(plt.get_fignums()[0])
    as_it_is = figure.get_layout_engine() is None
    # How large it is without its margins is known when it has been drawn.
    trial = _picture(figure, _TRIAL)
    if as_it_is:  # saving took "none" for "the default"
        figure.set_layout_engine("none")
    picture = _picture(
        figure,
        _TRIAL
        * min(
            (WIDTH - 2 * _MARGIN) / trial.width,
            (HEIGHT - 2 * _MARGIN) / trial.height,
        ),
    )
    card = Image.new("RGB", (WIDTH, HEIGHT), "white")
    left = (WIDTH - picture.width) // 2
    card.paste(picture, (left, (HEIGHT - picture.height) // 2))
    with Path(path).open("wb") as file:
        card.save(file, "png", optimize=True)
    plt.close("all")


def _picture(figure: Figure, dpi: float) -> PillowImage:
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        dpi=dpi,
        bbox_inches="tight",
        pad_inches=0,
        facecolor="white",
        transparent=False,
    )
    return Image.open(buffer).convert("RGB")
