import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb

from snippets.plots.lines import line_chart


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def chart(**options):
    curves = {"slow": [1, 2, 3], "fast": [2, 4, 8]}
    return line_chart(
        range(3), curves, title="t", xlabel="x", ylabel="y", **options
    )


def test_each_curve_is_named_at_its_end_in_its_colour():
    (ax,) = chart().axes
    for line, name in zip(ax.lines, ax.texts, strict=True):
        assert name.xy == tuple(line.get_xydata()[-1])
        assert to_rgb(name.get_color()) == to_rgb(line.get_color())
    assert [name.get_text() for name in ax.texts] == ["slow", "fast"]


def test_curves_of_one_role_share_a_colour_and_differ_in_marker():
    (ax,) = chart(colour="C2").axes
    assert {to_rgb(line.get_color()) for line in ax.lines} == {to_rgb("C2")}
    assert len({line.get_marker() for line in ax.lines}) == 2


def test_axes_and_figure_are_named():
    fig = chart()
    (ax,) = fig.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")
    assert fig.get_suptitle() == "t"
