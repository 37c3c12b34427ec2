"""Give each listing its copy button, and keep the theme's script off it.

The theme looks for `pre > code` and measures each one as the page starts:
on a phone, half of the time until the page answers.
"""

from __future__ import annotations

import re
from itertools import count

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from shared import language

COPY = {"zh": "复制代码", "en": "Copy this code"}

_LISTING = re.compile(
    r"<pre><span></span>(?P<code><code>.*?</code>)</pre>", re.DOTALL
)


@event_priority(-90)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Put the code into the empty span that Pygments leaves before it."""
    numbers = count(1)
    label = COPY[language(config)]

    def replaced(match: re.Match[str]) -> str:
        name = f"listing-{next(numbers)}"
        return (
            f'<pre><button type="button" class="md-code__button" '
            f'title="{label}" data-md-type="copy" '
            f'data-clipboard-target="#{name}"></button>'
            f'<span id="{name}">{match["code"]}</span></pre>'
        )

    return _LISTING.sub(replaced, html)
