"""Fill the glossary's page from the one list of terms."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from shared import Term, language, terms

MARK = "<!-- terms -->"


def anchor(term: Term) -> str:
    """Return the name of a term's row, the same in both languages."""
    return re.sub(r"[^a-z0-9]+", "-", term.short.lower()).strip("-")


@event_priority(60)
def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Put the table of terms where the page asks for it."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, _table(terms(config), language(config)))


def _table(known: list[Term], spoken: str) -> str:
    """Return the terms as a Markdown table, the page's language first."""
    other = {"zh": "en", "en": "zh"}[spoken]
    heads = {"zh": "中文", "en": "English"}
    rows = [f"| {heads[spoken]} | {heads[other]} |", "| --- | --- |"]
    rows += [
        f'| <span id="{anchor(term)}">{getattr(term, spoken)}</span> '
        f"| {getattr(term, other)} |"
        for term in known
    ]
    return "\n".join(rows)
