import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from snippets.plots.grids import WIDEST, Grid, Slide, number_grids, slides


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def words(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts]


def squares(fig):
    """Count the drawn cells by the colour of their fill."""
    found = {}
    for patch in (patch for ax in fig.axes for patch in ax.patches):
        if not isinstance(patch, Rectangle) and patch.get_fill():
            colour = tuple(round(c, 3) for c in patch.get_facecolor())
            count = int((patch.get_path().codes == 1).sum())
            found[colour] = found.get(colour, 0) + count
    return found


def fills(fig, role):
    return sum(
        count
        for colour, count in squares(fig).items()
        if colour[3] > 0 and np.allclose(colour[:3], to_rgb(role), atol=1e-3)
    )


def test_every_number_is_written_with_a_true_minus():
    values = np.array([[-1.0, 0.0], [2.5, 1234.5]])
    fig = number_grids([Grid(values, "x")], title="t")
    assert words(fig) == ["−1", "0", "2.5", "1.23e+03", "x"]


def test_cells_have_the_colour_of_their_role():
    grids = [
        Grid(np.ones((5, 5)), "x", "C0"),
        Grid(np.ones((3, 2)), "w", "C1"),
        Grid(np.ones((3, 4)), "y", "C2"),
    ]
    fig = number_grids(grids, signs="∗=", title="t")
    assert [fills(fig, role) for role in ("C0", "C1", "C2")] == [25, 6, 12]
    assert {"∗", "="} < set(words(fig))


def test_window_is_framed_and_its_cells_stand_out():
    plain = number_grids([Grid(np.ones((4, 4)), "x")], title="t")
    marked = number_grids(
        [Grid(np.ones((4, 4)), "x", window=(1, 0, 3, 2), frame="C3")], title="t"
    )
    assert list(squares(plain).values()) == [16]
    assert sorted(squares(marked).values()) == [6, 10]
    (frame,) = (
        patch
        for patch in marked.axes[0].patches
        if isinstance(patch, Rectangle)
    )
    assert (frame.get_width(), frame.get_height()) == (2, 3)
    assert np.allclose(frame.get_edgecolor()[:3], to_rgb("C3"))


def test_shaded_cells_are_darker_for_larger_numbers():
    grid = Grid(np.array([[1.0, 2.0, 4.0]]), "x", shaded=True)
    alphas = sorted(c[3] for c in squares(number_grids([grid], title="t")))
    assert alphas == [0.15, 0.3, 0.6]


def test_a_row_never_grows_wider_than_a_page():
    many = [Grid(np.ones((9, 12)), "x")] * 3
    fig = number_grids(many, title="t")
    assert fig.get_size_inches()[0] <= WIDEST + 1e-9
    assert fig.get_suptitle() == "t"


def test_a_long_title_fits_over_a_small_grid():
    title = "a title that is wider than its grid"
    fig = number_grids([Grid(np.ones((2, 2)), "x")], title=title)
    box = fig.suptitle(title).get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.x1


def test_chinese_is_counted_twice_as_wide():
    wide, narrow = (
        number_grids([Grid(np.ones((2, 2)), "x")], title=title)
        for title in ("从样例里学出来的卷积核", "abcdefghijk")
    )
    assert wide.get_size_inches()[0] > 1.4 * narrow.get_size_inches()[0]


def test_slides_show_input_kernel_and_output():
    panels = [
        Slide("a", 7, 3),
        Slide("b", 7, 3, padding=1),
        Slide("c", 7, 3, stride=2),
        Slide("d", 7, 3, dilation=2),
    ]
    fig = slides(panels, title="t")
    assert fills(fig, "C0") == 4 * 49
    assert fills(fig, "C1") == 4 * 9
    assert fills(fig, "C2") == 25 + 49 + 9 + 9
    assert [word for word in words(fig) if word] == ["a", "b", "c", "d"]


def test_a_slide_counts_the_places_of_its_window():
    x = np.zeros(9)
    for size in range(1, 9):
        for kernel in (1, 2, 3):
            for stride in (1, 2, 5):
                slide = Slide("", size, kernel, stride)
                starts = [
                    i
                    for i in range(size)
                    if len(x[:size][i:][:kernel]) == kernel
                ]
                if starts:
                    assert slide.output == len(starts[::stride])
                else:
                    with pytest.raises(ValueError, match="does not fit"):
                        slides([slide], title="t")


def test_each_grid_has_axes_of_its_own_and_cells_of_one_size():
    fig = number_grids(
        [Grid(np.ones((5, 5)), "x"), Grid(np.ones((2, 3)), "w")], title="t"
    )
    assert len(fig.axes) == 2
    sides = {
        round(
            float(np.diff(ax.transData.transform([(0, 0), (1, 0)])[:, 0])[0]), 6
        )
        for ax in fig.axes
    }
    assert len(sides) == 1


def test_a_single_window_has_no_second_one():
    once = slides([Slide("a", 3, 3)], title="t")
    twice = slides([Slide("a", 4, 3)], title="t")
    dashed = [
        sum(p.get_linestyle() not in ("-", "solid") for p in f.axes[0].patches)
        for f in (once, twice)
    ]
    assert dashed == [0, 2]
