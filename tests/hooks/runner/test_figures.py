import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from runner.figures import (
    COLOURS,
    STYLE,
    _packed,
    _shorter,
    _wrapped,
    clean_svg,
    title,
    to_svg,
    to_svgs,
    use_style,
)

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture(autouse=True)
def drawn_as_the_site_draws():
    backend = matplotlib.get_backend()
    with matplotlib.rc_context():
        use_style()
        yield
        plt.close("all")
    matplotlib.use(backend)


def figure(name="A title"):
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3], [0.1, 0.7, 0.2])
    ax.set_title(name)
    return fig


def rich():
    """A figure with everything that has an id or refers to one."""
    fig, (left, right) = plt.subplots(1, 2)
    fig.suptitle("Rich")
    left.imshow(np.arange(6).reshape(2, 3))
    left.bar([0, 1], [1, 2], hatch="//")
    right.scatter([1, 2], [3, 4], label="points")
    right.annotate("here", (1, 3), (1.5, 3.5), arrowprops={"arrowstyle": "->"})
    right.fill_between([1, 2], [3, 4], [2, 2], alpha=0.3)
    right.legend()
    return fig


def words(svg):
    """Give what is written in a figure."""
    return [
        "".join(t.itertext()) for t in ET.fromstring(svg).iter(f"{SVG}text")
    ]


def ids(svg):
    return [e.get("id") for e in ET.fromstring(svg).iter() if e.get("id")]


def references(svg):
    found = set(re.findall(r"url\(#([^)]*)\)", svg))
    for element in ET.fromstring(svg).iter():
        target = element.get(HREF, "") or element.get("href", "")
        if target.startswith("#"):
            found.add(target[1:])
    return found


def label(svg):
    return ET.fromstring(svg).get("aria-label")


# What is in the page


def test_a_figure_is_one_element_without_blank_lines():
    svg = to_svg(rich())
    assert ET.fromstring(svg).tag == f"{SVG}svg"
    assert svg.startswith("<svg ")
    assert svg.endswith("</svg>")
    assert "\n\n" not in svg
    assert not any(line.strip() == "" for line in svg.split("\n"))


def test_text_is_text_in_the_pages_font():
    svg = to_svg(figure("Loss 损失"))
    assert "Loss 损失" in words(svg)
    assert "0.7" in words(svg)
    for font in ("font-family", "DejaVu", "sans-serif"):
        assert font not in svg


def test_mathtext_is_text_in_the_pages_font():
    svg = to_svg(figure("$x^2 + 1$"))
    assert "x" in "".join(words(svg))
    assert "DejaVu" not in svg


@pytest.mark.parametrize(
    "unwanted",
    ["<style", "<metadata", "<?xml", "<!DOCTYPE", "dc:", "Matplotlib"],
)
def test_nothing_reaches_beyond_the_figure_or_dates_it(unwanted):
    assert unwanted not in to_svg(rich())


def test_the_ground_is_transparent():
    svg = to_svg(figure())
    assert not re.search(r"#fff|white", svg, re.I)
    whole = ET.fromstring(svg).find(f".//{SVG}path")
    assert "fill: none" in whole.get("style")


def test_black_becomes_the_colour_of_the_text():
    fig = figure()
    fig.axes[0].axhline(0.3, color="black")
    svg = to_svg(fig)
    assert "currentColor" in svg
    assert "#000000" not in svg


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_with_a_role_become_variables(colour):
    fig = figure()
    fig.axes[0].axhline(0.3, color=colour)
    fig.axes[0].axhline(0.4, color=colour.upper())
    svg = to_svg(fig)
    assert f"stroke: var({COLOURS[colour]}, {colour})" in svg
    assert (
        colour not in svg.replace(f"({COLOURS[colour]}, {colour})", "").lower()
    )


def test_every_colour_of_the_style_has_a_variable_and_the_sheet_sets_it(
    repository,
):
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert {f"#{c.lstrip('#')}" for c in cycle} <= set(COLOURS)
    sheets = (repository / "docs" / "assets" / "css").glob("*.css")
    css = "".join(sheet.read_text("utf-8") for sheet in sheets)
    for variable in COLOURS.values():
        assert f"{variable}:" in css


def test_any_other_colour_stays():
    fig = figure()
    fig.axes[0].axhline(0.3, color="#123456")
    assert "#123456" in to_svg(fig)


@pytest.mark.parametrize(
    "text",
    [
        "3.14159",
        "#000000 and #0072b2",
        'an id="a" and href="#a" and url(#a)',
        "font-family: serif; x",
        "a < b & c > d",
        "matrix(0.123456)",
        "-0.98765e-3",
    ],
)
def test_words_are_drawn_and_named_as_they_were_written(text):
    fig = figure(text)
    fig.axes[0].set_xlabel(text)
    svg = to_svg(fig)
    assert words(svg).count(text) == 2
    assert label(svg) == text


def test_a_picture_fills_its_frame():
    fig, ax = plt.subplots()
    ax.set_title("Picture")
    ax.imshow(np.zeros((427, 640)))
    svg = to_svg(fig)
    image = ET.fromstring(svg).find(f".//{SVG}image")
    a, _, _, d, _, _ = map(
        float, re.search(r"matrix\((.*?)\)", image.get("transform"))[1].split()
    )
    box = ax.get_window_extent()
    points = 72 / fig.dpi
    assert a * 640 == pytest.approx(box.width * points, abs=0.05)
    assert abs(d) * 427 == pytest.approx(box.height * points, abs=0.05)


def test_coordinates_have_two_decimals():
    long = re.compile(r"\d\.\d{3,}")
    for element in ET.fromstring(to_svg(figure())).iter():
        for name in ("d", "x", "y"):
            assert not long.search(element.get(name, ""))


def test_the_size_is_that_of_the_figure_and_the_box_keeps_its_shape():
    fig = figure()
    fig.set_size_inches(6, 3)
    root = ET.fromstring(to_svg(fig))
    assert (root.get("width"), root.get("height")) == ("576", "288")
    assert root.get("viewBox") == "0 0 432 216"


# Names


def test_a_figure_is_named_after_its_suptitle():
    fig = rich()
    fig.axes[0].set_title("not this")
    svg = to_svg(fig)
    assert label(svg) == "Rich"
    assert ET.fromstring(svg).get("role") == "img"


def test_without_suptitle_it_is_named_after_its_axes():
    fig, axes = plt.subplots(1, 3)
    axes[0].set_title("one\ntwo")
    axes[2].set_title("three")
    assert label(to_svg(fig)) == "one two; three"


@pytest.mark.parametrize("place", ["left", "center", "right"])
def test_a_title_may_stand_at_any_place(place):
    fig, ax = plt.subplots()
    ax.set_title("aside", loc=place)
    assert title(fig) == "aside"


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_a_figure_without_title_is_an_error(name):
    fig = figure(name)
    with pytest.raises(ValueError, match=r"no title: set one with .*suptitle"):
        to_svg(fig)


def test_a_name_cannot_break_out_of_its_attribute():
    name = """"><script>alert('x')</script>&amp;"""
    svg = to_svg(figure(name))
    assert label(svg) == name
    assert "<script" not in svg


# Ids


def test_every_reference_resolves_within_the_figure():
    svg = to_svg(rich())
    assert references(svg)
    assert references(svg) <= set(ids(svg))


def test_only_what_is_referred_to_has_an_id_and_each_id_is_there_once():
    svg = to_svg(rich())
    assert set(ids(svg)) == references(svg)
    assert len(ids(svg)) == len(set(ids(svg)))


def test_ids_of_different_figures_never_meet():
    drawings = [to_svg(figure("A")), to_svg(figure("B")), to_svg(rich())]
    other = rich()
    other.axes[1].set_xlim(0, 9)
    drawings.append(to_svg(other))
    found = [set(ids(svg)) for svg in drawings]
    assert all(found)
    assert sum(map(len, found)) == len(set.union(*found))


def test_ids_of_figures_that_differ_only_in_name_do_not_meet():
    svg = '<svg width="9pt" height="9pt"><g id="a"/><use href="#a"/></svg>'
    assert not set(ids_of(clean_svg(svg, "one"))) & set(
        ids_of(clean_svg(svg, "two"))
    )


def ids_of(svg):
    return re.findall(r' id="([^"]*)"', svg)


# Chinese, and both languages


def test_chinese_needs_no_font_and_raises_no_warning(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = figure("卷积核滑过输入，每次做一次乘加：𠮷，かな，한국어")
        fig.axes[0].set_ylabel("损失")
        svg = to_svg(fig)
    assert "卷积核滑过输入，每次做一次乘加：𠮷，かな，한국어" in words(svg)
    assert "损失" in words(svg)
    assert caplog.records == []


def width(text, language="zh"):
    """Measure a text by the frame that the layout draws around it."""
    fig = figure()
    fig.axes[0].text(0, 0, text, bbox={"facecolor": "#123456", "pad": 0})
    svg = to_svg(fig, language)
    [patch] = [
        e.get("d")
        for e in ET.fromstring(svg).iter(f"{SVG}path")
        if "#123456" in e.get("style", "")
    ]
    across = [float(n) for n in re.findall(r"[hl](-?[\d.]+)", patch)]
    x = np.cumsum([0, *across])
    return x.max() - x.min()


def test_a_chinese_character_is_about_as_wide_as_high():
    one = width("卷" * 11) - width("卷" * 10)
    assert 0.8 * 10 < one < 1.25 * 10  # the size of the font is 10 points


@pytest.mark.parametrize(
    ("language", "drawn", "not_drawn"),
    [("zh", "损失 1", "loss"), ("en", "loss 1", "损失")],
)
def test_one_language_is_drawn_and_named(language, drawn, not_drawn):
    fig = figure("〔损失｜loss〕 1")
    fig.axes[0].plot([1], label="〔损失｜loss〕 1")
    fig.axes[0].legend()
    svg = to_svg(fig, language)
    assert words(svg).count(drawn) == 2
    assert not_drawn not in svg
    assert "〔" not in svg
    assert label(svg) == drawn


def test_one_language_is_measured():
    both = "〔损失｜the value of the loss〕"
    assert width(both, "zh") == width("损失", "zh")
    assert width(both, "en") == width("the value of the loss", "en")
    assert width(both, "en") > width(both, "zh") + 20


def test_a_figure_can_be_drawn_in_both_languages_in_turn():
    fig = figure("〔损失｜loss〕")
    first = [to_svg(fig, language) for language in ("zh", "en")]
    again = [to_svg(fig, language) for language in ("zh", "en")]
    assert first == again
    assert first[0] != first[1]


# Always the same

SCRIPT = f"""
import sys
sys.path.insert(0, {str(STYLE.parents[1])!r})
sys.path.insert(0, sys.argv[1])
import matplotlib.pyplot as plt
from runner.figures import to_svg, use_style
from test_figures import rich
use_style()
sys.stdout.buffer.write(to_svg(rich()).encode())
"""


def test_another_process_draws_the_same_bytes(request):
    other = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(request.path.parent)],
        capture_output=True,
        check=True,
    )
    assert other.stdout == to_svg(rich()).encode()


def test_the_style_is_set_twice_as_well_as_once():
    before = to_svg(figure())
    use_style()
    assert to_svg(figure()) == before


class TestOnAPhone:
    """A figure too wide for a phone is packed anew, panel by panel."""

    @staticmethod
    def texts(svg):
        """Give each word of a figure with its size in points."""
        return re.findall(
            r'<text style="font-size: ([\d.]+)px|>([^<>]+)</text>', svg
        )

    @staticmethod
    def widths(svgs):
        return [float(w) for w in re.findall(r'<svg[^>]* width="(\d+)"', svgs)]

    def row(self, panels, width=6.4):
        fig, axes = plt.subplots(1, panels, figsize=(width, 2))
        for n, ax in enumerate(np.atleast_1d(axes)):
            ax.imshow(np.eye(3))
            ax.set_title(f"panel {n}")
        fig.suptitle("A row of panels")
        return fig

    def test_a_figure_that_fits_is_drawn_once(self):
        assert self.widths(to_svgs(self.row(1, width=3))) == [288]

    def test_a_wide_one_is_drawn_for_both(self):
        wide, narrow = self.widths(to_svgs(self.row(4)))
        assert wide == 614
        assert narrow <= 332

    def test_every_panel_and_word_is_kept_at_its_size(self):
        wide, narrow = to_svgs(self.row(4)).split("\n\n")
        assert words(wide) == words(narrow)
        sizes = [
            set(re.findall(r"font-size: ([\d.]+)px", s)) for s in (wide, narrow)
        ]
        assert sizes[0] == sizes[1] != set()

    def test_four_panels_stand_two_by_two(self):
        fig = self.row(4)
        with _packed(fig, "en"):
            places = [ax.get_position() for ax in fig.axes]
        tops = [round(place.y1, 3) for place in places]
        assert tops[0] == tops[1] > tops[2] == tops[3]
        assert places[0].x1 < places[1].x0
        assert places[2].x1 < places[3].x0

    def test_nothing_reaches_over_the_edge(self):
        fig = self.row(3)
        with _packed(fig, "en"):
            for ax in fig.axes:
                box = ax.get_tightbbox()
                assert box.x0 >= -1
                assert box.x1 <= fig.bbox.x1 + 1
                assert box.y0 >= -1
                assert box.y1 <= fig.bbox.y1 + 1

    def test_a_wide_panel_gets_narrower_axes_and_the_same_text(self):
        fig, ax = plt.subplots()
        ax.plot([1, 2], [3, 4])
        fig.suptitle("one")
        wide, narrow = to_svgs(fig).split("\n\n")
        assert self.widths(narrow)[0] <= 332
        sizes = [
            set(re.findall(r"font-size: ([\d.]+)px", s)) for s in (wide, narrow)
        ]
        assert sizes[0] == sizes[1] != set()

    def test_a_colour_bar_stays_with_its_axes(self):
        fig, ax = plt.subplots()
        fig.colorbar(ax.imshow(np.eye(9)))
        fig.suptitle("one")
        with _packed(fig, "en"):
            image, bar = (ax.get_position() for ax in fig.axes)
        assert image.x1 <= bar.x0
        assert bar.y1 <= image.y1 + 0.02

    def test_a_broken_title_is_read_out_as_one(self):
        fig = self.row(4)
        fig.suptitle("一个数字的特征图，从输入一直到第二次池化，逐层看过去")
        wide, narrow = to_svgs(fig).split("\n\n")
        names = [
            re.search('aria-label="([^"]*)"', s)[1] for s in (wide, narrow)
        ]
        assert names[0] == names[1] == fig.get_suptitle()

    def test_the_figure_is_left_as_it_was(self):
        fig = self.row(4)
        once = to_svgs(fig)
        assert to_svgs(fig) == once
        assert fig.get_figwidth() == pytest.approx(6.4)

    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            ("short", ["short"]),
            ("one two " * 8, None),
            ("四张图并排，在手机上两两成行：标题太长时自动换行，不缩小", None),
        ],
    )
    def test_a_long_title_is_broken_and_loses_nothing(self, text, lines):
        found = _wrapped(text)
        assert "".join(found).replace(" ", "") == text.replace(" ", "")
        assert lines in (None, found)
        assert lines or len(found) > 1
        assert all(line[0] not in "，。、：；？！）”" for line in found)


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("M 1 2 L 4 2 L 4 6.5 L 1 6.5 z", "M1 2h3v4.5h-3z"),
        ("M 0 0\nL 1.25 -2.5\n", "M0 0l1.25 -2.5"),
        ("M 1 1 L 2 1 z M 5 5 L 5 4", "M1 1h1zM5 5v-1"),
        ("M 1 2\nC 3 4 5 6 7 8", "M 1 2 C 3 4 5 6 7 8"),
    ],
)
def test_straight_lines_are_written_as_steps(path, short):
    assert _shorter(path) == short


def test_steps_lead_to_where_the_lines_did():
    rng = np.random.default_rng(0)
    points = rng.uniform(-400, 400, (300, 2)).round(2)
    words = [f"{'L' if n else 'M'} {x} {y}" for n, (x, y) in enumerate(points)]
    found = np.zeros(2)
    for n, step in enumerate(
        re.findall(r"[Mhvl][^Mhvl]*", _shorter(" ".join(words)))
    ):
        numbers = [float(number) for number in step[1:].split()]
        move = {"h": [*numbers, 0], "v": [0, *numbers]}.get(step[0], numbers)
        found = np.array(move) if step[0] == "M" else found + move
        assert np.allclose(found, points[n], atol=1e-9)
    assert n == len(points) - 1
