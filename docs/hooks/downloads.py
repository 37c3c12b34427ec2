"""Link to the notebook of a lab from its page."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from shared import language, under_title

DOWNLOAD = {"zh": "下载本页的笔记本：", "en": "This page as a notebook: "}


@event_priority(-150)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Put the link under the title; the notebook lies beside the page."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    name = f"{page.file.name}.ipynb"
    return under_title(
        html,
        '<div class="install">'
        f"{DOWNLOAD[language(config)]}"
        f'<a href="{name}" download>{name}</a></div>',
    )
