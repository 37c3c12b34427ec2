"""Show what code put out in the classes of the theme."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET

import markdown
from markdown.treeprocessors import Treeprocessor

from photos import Photos
from runner.worker import Result

# A table that a block prints, as Markdown has it.
_TABLE = re.compile(
    r"(?:^\|.*\|\n)(?:^\|[ :|-]+\|\n)(?:^\|.*\|\n)*", re.MULTILINE
)

# Without a scheme an address is relative; a character of a scheme that is
# written as an entity would not match.
_SAFE = re.compile(r"https?://|#|(?!//)[\w./-]+(?:[#?]|$)")

_HEAD = re.compile(r"<th\b")

HOW = {
    "zh": {"figure": "画法", "table": "算法"},
    "en": {"figure": "How this is drawn", "table": "How this is computed"},
}

photos = Photos()


class RenderedBlock(str):
    """The HTML of a block: code first, and its parts for a figure."""

    code: str
    output: str
    draws: bool

    @classmethod
    def of(cls, code: str, result: Result) -> RenderedBlock:
        """Join highlighted code and what it put out."""
        output = render_result(result)
        block = cls(f'<div class="block">{code}{output}</div>')
        block.code, block.output = code, output
        block.draws = bool(result.figures)
        return block

    def folded(self, language: str) -> str:
        """Return the code, to be opened by those who want to read it."""
        summary = HOW[language]["figure" if self.draws else "table"]
        return (
            f'<details class="how"><summary>{summary}</summary>'
            f"{self.code}</details>"
        )


def captioned(block: RenderedBlock, caption: str, language: str) -> str:
    """Set output, caption and folded code in this order.

    caption: HTML of its paragraphs; all but the first are for the ear.
    """
    first, *more = caption.split("<p>")[1:]
    described = "".join(f'<p class="described">{each}' for each in more)
    return (
        f'<figure class="shown">{block.output}<figcaption><p>{first}'
        f"{described}</figcaption>{block.folded(language)}</figure>"
    )


def render_result(result: Result) -> str:
    """Return the HTML for what a block printed and drew, or why it failed."""
    parts = []
    if result.stdout.strip():
        parts.append(render_text(result.stdout))
    parts += [
        f'<div class="drawing">\n{photos.take_out(figure)}\n</div>'
        for figure in result.figures
    ]
    if result.error:
        parts.append(f'<pre class="failure">{html.escape(result.error)}</pre>')
    if not parts:
        return ""
    return f'<div class="output">{"".join(parts)}</div>'


def render_text(text: str) -> str:
    """Return printed text as HTML, its Markdown tables as tables."""
    parts = []
    at = 0
    text = text.rstrip("\n") + "\n"
    for table in _TABLE.finditer(text):
        parts.append(_preformatted(text[at : table.start()]))
        parts.append(
            '<div class="md-typeset__scrollwrap">'
            '<div class="md-typeset__table">'
            + _HEAD.sub('<th scope="col"', _converter().convert(table[0]))
            + "</div></div>"
        )
        at = table.end()
    parts.append(_preformatted(text[at:]))
    return "".join(parts)


class _SafeLinks(Treeprocessor):  # type: ignore[misc]
    """Unlink what leads neither to a page nor to a place on this one."""

    def run(self, root: ET.Element) -> None:
        for element in root.iter():
            for name in ("href", "src"):
                address = element.get(name)
                if address is not None and not _SAFE.match(address):
                    del element.attrib[name]


def _converter() -> markdown.Markdown:
    """Return a converter that takes `<` for what was printed, not for HTML."""
    converter = markdown.Markdown(extensions=["tables"])
    # After inline patterns have made the links, before characters return.
    converter.treeprocessors.register(_SafeLinks(), "safe_links", 5)
    converter.preprocessors.deregister("html_block")
    converter.inlinePatterns.deregister("html")
    return converter


def _preformatted(text: str) -> str:
    text = text.strip("\n")
    return f'<pre class="printed">{html.escape(text)}</pre>' if text else ""
