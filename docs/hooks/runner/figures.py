"""Turn Matplotlib figures into inline SVG that follows the page."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import re
import unicodedata
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.languages import pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_drawn_language: ContextVar[str] = ContextVar("language", default="zh")

STYLE = Path(__file__).with_name("notes.mplstyle")

NARROW = 3.4  # inches: what the column of a phone holds
_GAP = 0.16  # inches between panels that were moved

# What the colours of the style are called in the site's style sheet.
COLOURS = {
    "#0072b2": "--figure-input",
    "#d55e00": "--figure-kernel",
    "#009e73": "--figure-output",
    "#b0508c": "--figure-gradient",
    "#7a6200": "--figure-fifth",
    "#5b5bd6": "--figure-sixth",
    "#8a8f98": "--figure-frame",
}

# What stands between tags is text: it is the author's, and stays as it is.
_TAG = re.compile(r"<[^>]*>")

# Two decimals of a point are enough; of a factor they are not.
_DECIMALS = re.compile(r"(?:matrix|scale)\([^)]*\)|(-?\d+\.\d\d)\d+")

# What a line may be broken before: a word, or a hanzi with its punctuation.
_PIECE = re.compile(
    r" *(?:[\u3400-\u9fff]|[^\s\u3400-\u9fff]+)[，。、：；！？）”]*"
)

# Matplotlib turns every text, most by nothing.
_UPRIGHT = re.compile(r' transform="rotate\(-?0 [^"]*"')

_PATH = re.compile(r' d="([^"]*)"')
_STEP = re.compile(r"[MLz]|-?\d+(?:\.\d+)?")

_REFERENCE = re.compile(r'(url\(#|href="#)([\w.-]+)')


def use_style() -> None:
    """Draw from now on as the site draws, into SVG."""
    import matplotlib
    import matplotlib.style

    matplotlib.use("svg")
    matplotlib.style.use(STYLE)
    _adapt_renderer()


def to_svgs(figure: Figure, language: str = "zh") -> str:
    """Return the figure for wide screens and, where it is wider, for phones.

    On a phone the same panels stand in rows that fit, each as large as
    before, so that no text shrinks. An empty line stands between the two.
    """
    wide = to_svg(figure, language)
    if figure.get_figwidth() <= NARROW or not figure.axes:
        return wide
    name = title(figure)
    with _packed(figure, language):
        narrow = to_svg(figure, language, name=name)
    return (
        wide.replace('class="figure', 'class="figure wide', 1)
        + "\n\n"
        + narrow.replace('class="figure', 'class="figure narrow', 1)
    )


def to_svg(
    figure: Figure, language: str = "zh", *, name: str | None = None
) -> str:
    """Return the figure as an `<svg>` element to be put into a page.

    Of words given as `〔中文｜English〕` only those of `language` are drawn.

    Text stays text in the page's own font, black follows the page's text
    colour, and the colours of the style become CSS variables. The element is
    called `name`, else after the figure's title or those of its axes.

    Raises ValueError when there is no title: such a figure would be silent
    in a screen reader.
    """
    name = pick(name or title(figure), language)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    _drawn_language.set(language)
    figure.savefig(buffer, format="svg", metadata=nothing)
    return clean_svg(buffer.getvalue(), name)


def title(figure: Figure) -> str:
    """Return what the figure is called; raises ValueError if nothing."""
    heading: str = figure.get_suptitle()
    names = (
        [heading]
        if heading
        else [
            axes.get_title(place)
            for axes in figure.axes
            for place in ("left", "center", "right")
        ]
    )
    name = "; ".join(" ".join(name.split()) for name in names if name)
    if not name:
        raise ValueError(
            "a figure has no title: set one with `fig.suptitle` or "
            "`ax.set_title`, it is also read out to those who cannot see"
        )
    return name


def clean_svg(svg: str, name: str) -> str:
    """Make a standalone SVG file fit for a page that holds others."""
    svg = svg[svg.index("<svg") :]
    # In a page this rule would reach every element; the site's sheet has it.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _TAG.sub(lambda tag: _clean_tag(tag[0]), svg)
    svg = _set_root(_own_ids(svg, name), name)
    # A blank line would end the HTML block that Markdown keeps as it is.
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _clean_tag(tag: str) -> str:
    tag = re.sub(r" ?font-family: [^;\"]*;?", "", tag)
    tag = _DECIMALS.sub(lambda number: number[1] or number[0], tag)
    tag = _UPRIGHT.sub("", tag)
    tag = _PATH.sub(lambda path: f' d="{_shorter(path[1])}"', tag)
    tag = re.sub(r"#0{6}\b", "currentColor", tag)
    for colour, variable in COLOURS.items():
        tag = re.sub(
            rf"{colour}\b", f"var({variable}, {colour})", tag, flags=re.I
        )
    return tag


def _shorter(path: str) -> str:
    """Write a path of straight lines as steps: they repeat, and pack well."""
    words = path.split()
    if not all(_STEP.fullmatch(word) for word in words):
        return " ".join(words)
    steps: list[str] = []
    at = start = (0.0, 0.0)
    for n, word in enumerate(words):
        if word == "z":
            steps.append("z")
            at = start
        if word not in "ML":
            continue
        to = float(words[n + 1]), float(words[n + 2])
        across, down = (round(b - a, 2) for a, b in zip(at, to, strict=True))
        if word == "M":
            steps.append(f"M{to[0]:g} {to[1]:g}")
            start = to
        elif not down:
            steps.append(f"h{across:g}")
        elif not across:
            steps.append(f"v{down:g}")
        else:
            steps.append(f"l{across:g} {down:g}")
        at = to
    return "".join(steps)


def _set_root(svg: str, name: str) -> str:
    root = svg[: svg.index(">") + 1]
    width, height = (
        float(value)
        for value in re.findall(r'(?:width|height)="([\d.]+)pt"', root)
    )
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" class="figure" '
        f'role="img" aria-label="{html.escape(name)}" '
        f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}" '
        f'viewBox="0 0 {width:g} {height:g}">'
    )
    return opening + svg[len(root) :]


@dataclass
class _Panel:
    """Axes that belong together, and the box in inches that they fill."""

    axes: list[Axes]
    box: Bbox
    row: int


@contextlib.contextmanager
def _packed(figure: Figure, language: str) -> Iterator[None]:
    """Set the panels of a figure in rows no wider than `NARROW`."""
    old = figure.get_figwidth(), figure.get_figheight()
    engine = figure.get_layout_engine()
    text = figure.get_suptitle()
    before = [
        (ax, ax.get_position(True), ax.get_position(), ax.get_in_layout())
        for ax in figure.axes
    ]
    lines = _wrapped(pick(text, language)) if text else []
    above = 0.04 + 0.21 * len(lines)
    rows = _rows(_panels(figure, language))
    figure.set_layout_engine("none")
    try:
        heights = [max(panel.box.height for panel in row) for row in rows]
        height = above + sum(heights) + _GAP * len(rows)
        width = max(NARROW if text else 0.0, *map(_across, rows)) + 0.04
        top = height - above
        for row, tall in zip(rows, heights, strict=True):
            left = (width - _across(row)) / 2
            for panel in row:
                _move(panel, left, top, old, (width, height))
                left += panel.box.width + _GAP
            top -= tall + _GAP
        figure.set_size_inches(width, height)
        if text:
            figure.suptitle("\n".join(lines), y=1 - 0.04 / height, va="top")
        yield
    finally:
        figure.set_size_inches(old)
        if text:
            figure.suptitle(text)
        for ax, asked, place, in_layout in before:
            ax.set_position(asked, "original")
            ax.set_position(place, "active")
            ax.set_in_layout(in_layout)
        figure.set_layout_engine(engine)


def _panels(figure: Figure, language: str) -> list[_Panel]:
    """Find what must stay together: axes that overlap, and colour bars."""
    from matplotlib.backends.backend_svg import RendererSVG
    from matplotlib.transforms import Bbox

    _drawn_language.set(language)
    figure.set_dpi(72)
    width, height = figure.get_size_inches()
    svg: Any = RendererSVG
    renderer = svg(width * 72, height * 72, io.StringIO(), None, 72)
    panels: list[_Panel] = []
    for ax in figure.axes:
        tight = ax.get_tightbbox(renderer)
        if tight is None:
            continue
        box = Bbox(tight.get_points() / 72)
        place = ax.get_subplotspec()
        row = place.rowspan.start if place else 0
        with_last = panels and (
            ax.get_label() == "<colorbar>"
            or ax.get_position().fully_overlaps(
                panels[-1].axes[0].get_position()
            )
        )
        if with_last:
            panels[-1].axes.append(ax)
            panels[-1].box = Bbox.union([panels[-1].box, box])
        else:
            panels.append(_Panel([ax], box, row))
    return panels


def _rows(panels: list[_Panel]) -> list[list[_Panel]]:
    """Fill rows one after the other, each from one row of the figure."""
    rows: list[list[_Panel]] = []
    for panel in panels:
        fits = (
            rows
            and rows[-1][0].row == panel.row
            and _across([*rows[-1], panel]) <= NARROW + 0.02
        )
        if fits:
            rows[-1].append(panel)
        else:
            rows.append([panel])
    return rows


def _across(row: list[_Panel]) -> float:
    """Return the width of a row; a panel that is too wide gets squeezed."""
    widths = [min(panel.box.width, NARROW) for panel in row]
    return sum(widths) + _GAP * (len(row) - 1)


def _move(
    panel: _Panel,
    left: float,
    top: float,
    old: tuple[float, float],
    new: tuple[float, float],
) -> None:
    """Put a panel's top left corner to a place given in inches.

    One that is too wide has its axes made narrower, not their text smaller.
    """
    places = [ax.get_position() for ax in panel.axes]
    start = min(place.x0 for place in places) * old[0]
    inner = max(place.x1 for place in places) * old[0] - start
    kept = min(1.0, 1 - (panel.box.width - NARROW) / inner)
    for ax, place in zip(panel.axes, places, strict=True):
        x = left + start - panel.box.x0 + (place.x0 * old[0] - start) * kept
        y = top - panel.box.y1 + place.y0 * old[1]
        w, h = place.width * old[0] * kept, place.height * old[1]
        ax.set_position((x / new[0], y / new[1], w / new[0], h / new[1]))


def _wrapped(text: str) -> list[str]:
    """Break a title into lines that fit: at spaces, or between hanzi."""
    room = NARROW * 72 / 11.5 - 1  # in widths of a hanzi
    lines, width = [""], 0.0
    for piece in _PIECE.findall(text.replace("\n", " ")):
        wide = sum(
            1.0 if unicodedata.east_asian_width(c) in "WF" else 0.56
            for c in piece
        )
        if lines[-1] and width + wide > room:
            lines.append("")
            width = 0.0
        lines[-1] += piece if lines[-1] else piece.lstrip()
        width += wide
    return [line.rstrip() for line in lines]


def _own_ids(svg: str, name: str) -> str:
    """Keep the ids that something refers to, unlike those of other figures."""
    tags = "".join(_TAG.findall(svg))
    # Matplotlib digests coordinates to all their digits: numbers are steadier.
    number: dict[str, int] = {}
    for reference in _REFERENCE.finditer(tags):
        number.setdefault(reference[2], len(number))

    def rename(prefix: str) -> str:
        def declared(match: re.Match[str]) -> str:
            known = match[1] in number
            return f' id="{prefix}-{number[match[1]]}"' if known else ""

        def referred(match: re.Match[str]) -> str:
            return f"{match[1]}{prefix}-{number[match[2]]}"

        def owned(tag: re.Match[str]) -> str:
            text = re.sub(r' id="([^"]*)"', declared, tag[0])
            return _REFERENCE.sub(referred, text)

        return _TAG.sub(owned, svg)

    digest = hashlib.sha256((name + rename("")).encode()).hexdigest()
    return rename("i" + digest[:8])


def _adapt_renderer() -> None:
    """Let the renderer draw one language, and measure Chinese rightly.

    No font here has Chinese characters: the page's font draws them, and the
    layout needs only to know that each is about as wide as it is high.
    """
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_svg import RendererSVG

    if hasattr(RendererSVG, "draws_one_language"):
        return
    measure: Any = RendererSVG.get_text_width_height_descent
    draw: Any = RendererSVG.draw_text

    def measure_one(self: Any, s: str, *rest: Any) -> Any:
        narrow = "".join(
            "W" if unicodedata.east_asian_width(c) in "WF" else c
            for c in pick(s, _drawn_language.get())
        )
        return measure(self, narrow, *rest)

    def draw_one(
        self: Any, gc: Any, x: float, y: float, s: str, *rest: Any, **more: Any
    ) -> Any:
        one = pick(s, _drawn_language.get())
        return draw(self, gc, x, y, one, *rest, **more)

    adapted: Any = RendererSVG
    adapted.get_text_width_height_descent = measure_one
    adapted.draw_text = draw_one
    adapted.draws_one_language = True
    # `plt.show()` is for readers, who have windows; here it would warn.
    manager: Any = FigureManagerBase
    manager.show = lambda self: None
