import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Rectangle

from snippets.plots.stages import draw_stages


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def outlines(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle)]


def test_each_shape_has_axes_of_its_own_with_the_layer_that_makes_it():
    fig = draw_stages([(1, 8, 8), (4, 4, 4), (10,)], ["conv", "fc"], title="t")
    words = [[text.get_text() for text in ax.texts] for ax in fig.axes]
    assert words == [["1 @ 8×8"], ["4 @ 4×4", "", "conv"], ["10", "", "fc"]]
    assert fig.get_suptitle() == "t"


def test_maps_are_drawn_to_scale_and_need_not_be_square():
    fig = draw_stages([(1, 10, 40), (1, 5, 20)], ["half"], title="t")
    (large, small) = (outlines(ax)[0] for ax in fig.axes)
    assert large.get_width() / large.get_height() == pytest.approx(4)
    assert large.get_width() / small.get_width() == pytest.approx(2)
    assert large.get_height() / small.get_height() == pytest.approx(2)


def test_vectors_alone_can_be_drawn():
    fig = draw_stages([(8,), (2,)], ["fc"], title="t")
    assert [len(outlines(ax)) for ax in fig.axes] == [1, 1]


@pytest.mark.parametrize(
    ("shapes", "layers", "names", "told"),
    [
        ([], [], (), "shapes is empty"),
        ([(1, 2, 2)], ["a"], (), "1 shapes need 0"),
        ([(1, 2, 2)], [], ("a", "b"), "names has 2 of 1"),
        ([(2, 2)], [], (), r"shapes holds \(2, 2\)"),
        ([(1, 0, 2)], [], (), r"shapes holds \(1, 0, 2\)"),
    ],
)
def test_what_cannot_be_drawn_is_named(shapes, layers, names, told):
    with pytest.raises(ValueError, match=told):
        draw_stages(shapes, layers, title="t", names=names)
