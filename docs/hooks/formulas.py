"""Draw the formulas: TeX in the source, MathML in the page, no script."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from mathml import FormulaError, characters, convert_page, font
from shared import cache, root, state

_used: set[str] = set()


@event_priority(-50)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Convert the formulas of a page; name the line of one that fails."""
    html, errors = convert_page(html)
    for error in errors:
        path = Path(page.file.abs_src_path or "")
        text = path.read_text("utf-8")
        name = path.resolve()
        if name.is_relative_to(root(config)):
            name = name.relative_to(root(config))
        state.report(name.as_posix(), _line(text, error), str(error))
    _used.update(characters(html))
    return html


def on_post_build(config: MkDocsConfig) -> None:
    """Write the font, cut to the characters of this language's formulas."""
    path = Path(config.site_dir) / "assets" / "fonts" / "math.woff2"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(font(_used, cache(config) / "fonts"))


def _line(text: str, error: FormulaError) -> int:
    """Find the line that a formula begins in; 1 if it is not to be found."""
    at = text.find(error.tex)
    return text.count("\n", 0, max(at, 0)) + 1
