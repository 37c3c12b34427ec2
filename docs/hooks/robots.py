"""Tell crawlers where the sitemaps of both languages are."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin

from mkdocs.config.defaults import MkDocsConfig

from shared import state


def on_post_build(config: MkDocsConfig) -> None:
    """Write `robots.txt` at the start of the site, once for both languages."""
    if state.inner:
        return
    start = config.site_url or ""
    sitemaps = (urljoin(start, f"{part}sitemap.xml") for part in ("", "en/"))
    lines = ["User-agent: *", "Allow: /", ""]
    lines += [f"Sitemap: {address}" for address in sitemaps]
    path = Path(config.site_dir) / "robots.txt"
    path.write_text("\n".join(lines) + "\n", "utf-8")
