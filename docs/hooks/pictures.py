"""Publish the photographs that the figures of both languages share."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from outputs import photos
from shared import state


@event_priority(-80)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Say where each photograph is, seen from this page."""
    start = get_relative_url(".", page.url).rstrip("/") + "/"
    return photos.address(html, f"{start}../" if state.inner else start)


def on_post_build(config: MkDocsConfig) -> None:
    """Write each photograph once, for both languages."""
    site = Path(config.site_dir)
    photos.write(site.parent if state.inner else site)
