"""Say of each heading in a table's first row that it heads a column."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_HEADING = re.compile(r"<th(?=[\s>])(?![^>]*\sscope=)")


@event_priority(-90)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Give `scope` to the headings that Markdown makes, all of columns."""
    return _HEADING.sub('<th scope="col"', html)
