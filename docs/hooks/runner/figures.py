"""Turn Matplotlib figures into inline SVG that follows the page."""

from __future__ import annotations

import hashlib
import html
import io
import re
import unicodedata
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.languages import pick

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_drawn_language: ContextVar[str] = ContextVar("language", default="zh")

STYLE = Path(__file__).with_name("notes.mplstyle")

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

_REFERENCE = re.compile(r'(url\(#|href="#)([\w.-]+)')


def use_style() -> None:
    """Draw from now on as the site draws, into SVG."""
    import matplotlib
    import matplotlib.style

    matplotlib.use("svg")
    matplotlib.style.use(STYLE)
    _adapt_renderer()


def to_svg(figure: Figure, language: str = "zh") -> str:
    """Return the figure as an `<svg>` element to be put into a page.

    Of words given as `〔中文｜English〕` only those of `language` are drawn.

    Text stays text in the page's own font, black follows the page's text
    colour, and the colours of the style become CSS variables. The element is
    named after the figure's title, else after the titles of its axes.

    Raises ValueError when there is no title: such a figure would be silent
    in a screen reader.
    """
    name = pick(title(figure), language)
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
    tag = re.sub(r"#0{6}\b", "currentColor", tag)
    for colour, variable in COLOURS.items():
        tag = re.sub(
            rf"{colour}\b", f"var({variable}, {colour})", tag, flags=re.I
        )
    return tag


def _set_root(svg: str, name: str) -> str:
    root = svg[: svg.index(">") + 1]
    width, height = (
        float(value)
        for value in re.findall(r'(?:width|height)="([\d.]+)pt"', root)
    )
    pixels = round(width * 4 / 3)
    # On a narrow screen a figure shrinks only as far as it can be read.
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" class="figure" '
        f'role="img" aria-label="{html.escape(name)}" '
        f'width="{pixels}" height="{height * 4 / 3:.0f}" '
        f'style="min-width: min({pixels}px, 27em)" '
        f'viewBox="0 0 {width:g} {height:g}">'
    )
    return opening + svg[len(root) :]


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
