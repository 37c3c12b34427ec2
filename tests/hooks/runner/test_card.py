import io
import warnings

import numpy as np
import pytest
from PIL import Image

from runner.card import HEIGHT, WIDTH, save_card
from runner.figures import use_style

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def card(tmp_path):
    """Draw figures, then return the card of the first."""

    def card(draw):
        use_style()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw()
            save_card(str(tmp_path / "card.png"))
        assert plt.get_fignums() == []
        return (tmp_path / "card.png").read_bytes()

    return card


def strip(width, height):
    """Draw panels with titles, and then another figure."""
    figure, axes = plt.subplots(1, 3, figsize=(width, height))
    for ax in axes:
        ax.imshow(np.eye(4))
        ax.set_title("title")
    figure.suptitle("All of them", color="red")
    plt.figure()


@pytest.mark.parametrize("size", [(6.4, 1.5), (6.4, 3), (3, 6), (2, 2)])
def test_a_card_holds_the_whole_figure_on_white(card, size):
    data = card(lambda: strip(*size))
    image = Image.open(io.BytesIO(data))
    assert image.size == (WIDTH, HEIGHT)
    pixels = np.asarray(image.convert("RGB")).astype(int)
    drawn = (pixels != 255).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    left, right = columns[0], WIDTH - 1 - columns[-1]
    top, bottom = rows[0], HEIGHT - 1 - rows[-1]
    # The margin, and no more than that on two sides.
    assert min(left, right, top, bottom) >= 40
    assert min(left, top) <= 60
    # In the middle, but for the room that a font keeps below its letters.
    assert abs(left - right) <= 8
    assert abs(top - bottom) <= 16
    # The title is whole: it stands free, and above all panels.
    red = (pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(axis=2)
    assert np.flatnonzero(red.any(1))[0] - top <= 2


def test_same_figure_same_bytes(card):
    first, again = (card(lambda: strip(6.4, 2)) for _ in range(2))
    assert first == again
    assert b"Software" not in first


def test_a_figure_that_lays_itself_out_is_left_as_it_is(card):
    def draw():
        figure = plt.figure(figsize=(4, 2), layout="none")
        figure.add_axes((0.1, 0.1, 0.3, 0.8)).plot([0, 1])
        figure.add_axes((0.5, 0.1, 0.4, 0.8)).plot([1, 0])

    pixels = np.asarray(Image.open(io.BytesIO(card(draw))))
    assert (pixels != 255).any()
