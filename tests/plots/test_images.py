import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from snippets.plots.images import LEVELS, image_row


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def shown(fig, i=0):
    (image,) = fig.axes[i].images
    return np.asarray(image.get_array())


def test_each_image_stands_under_its_title():
    fig = image_row({"a": np.eye(4), "b": np.ones((4, 8, 3))}, title="both")
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    assert fig.get_suptitle() == "both"
    assert shown(fig, 1).shape == (4, 8, 3)


def test_darkest_and_brightest_are_black_and_white():
    grey = shown(image_row({"a": np.array([[2.0, 3.0, 6.0]])}, title="t"))
    assert grey[0, 0] == 0
    assert grey[0, 2] == 1
    assert len(np.unique(np.round(grey * (LEVELS - 1), 9) % 1)) == 1


def test_zero_is_middle_grey_where_values_are_signed():
    grey = shown(image_row({"a": np.array([[-4.0, 0.0, 1.0]])}, title="t"))
    assert abs(grey[0, 1] - 0.5) < 1 / LEVELS
    assert grey[0, 0] == 0
    assert 0.5 < grey[0, 2] < 0.7


def test_even_image_is_drawn():
    assert shown(image_row({"a": np.full((3, 3), 7.0)}, title="t")).max() == 0


def test_a_box_frames_whole_pixels():
    fig = image_row(
        {"a": np.eye(9)}, boxes={"a": ("C1", 2, 3, 4, 5)}, title="t"
    )
    (box,) = fig.axes[0].patches
    assert box.get_xy() == (2.5, 1.5)
    assert (box.get_width(), box.get_height()) == (5, 4)
    assert np.allclose(box.get_edgecolor()[:3], to_rgb("C1"))
