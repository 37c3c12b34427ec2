"""Keep the theme's script off the listings.

It looks for `pre > code` and measures each one as the page starts: on a phone,
half of the time until the page answers. `site.js` gives them copy buttons.
"""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_LISTING = re.compile(r"<pre><span></span>(<code>.*?</code>)</pre>", re.DOTALL)


@event_priority(-90)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Put the code into the empty span that Pygments leaves before it."""
    return _LISTING.sub(r"<pre><span>\1</span></pre>", html)
