"""Fill the glossary's page from the one list of terms."""

from __future__ import annotations

import csv
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from shared import language, root

MARK = "<!-- terms -->"


@event_priority(60)
def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Put the table of terms where the page asks for it."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(
        MARK, _table(root(config) / "docs" / "terms.csv", language(config))
    )


def _table(path: Path, spoken: str) -> str:
    """Return the terms as a Markdown table, the page's language first."""
    other = {"zh": "en", "en": "zh"}[spoken]
    heads = {"zh": "中文", "en": "English"}
    with path.open(encoding="utf-8", newline="") as file:
        terms = sorted(
            csv.DictReader(file), key=lambda term: term["en"].lower()
        )
    rows = [f"| {heads[spoken]} | {heads[other]} |", "| --- | --- |"]
    rows += [f"| {term[spoken]} | {term[other]} |" for term in terms]
    return "\n".join(rows)
