"""Show what code put out in the classes of the theme."""

from __future__ import annotations

import html
import re

import markdown

from runner.worker import Result

# A table that a block prints, as Markdown has it.
_TABLE = re.compile(
    r"(?:^\|.*\|\n)(?:^\|[ :|-]+\|\n)(?:^\|.*\|\n)*", re.MULTILINE
)


def render_result(result: Result) -> str:
    """Return the HTML for what a block printed and drew, or why it failed."""
    parts = []
    if result.stdout.strip():
        parts.append(render_text(result.stdout))
    parts += [
        f'<div class="drawing">\n{figure}\n</div>' for figure in result.figures
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
            + _converter().convert(table[0])
            + "</div></div>"
        )
        at = table.end()
    parts.append(_preformatted(text[at:]))
    return "".join(parts)


def _converter() -> markdown.Markdown:
    """Return a converter that takes `<` for what was printed, not for HTML."""
    converter = markdown.Markdown(extensions=["tables"])
    converter.preprocessors.deregister("html_block")
    converter.inlinePatterns.deregister("html")
    return converter


def _preformatted(text: str) -> str:
    text = text.strip("\n")
    return f'<pre class="printed">{html.escape(text)}</pre>' if text else ""
