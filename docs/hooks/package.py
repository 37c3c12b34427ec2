"""Publish the code of the pages as a wheel, and say how to install it."""

from __future__ import annotations

import html as html_module
import re
from pathlib import Path
from urllib.parse import urljoin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from shared import cache, language, root, start, state, under_title
from wheels import Wheel, WheelError

INSTALL = {"zh": "运行本页代码：", "en": "To run this page’s code: "}
COPY = {"zh": "复制", "en": "Copy"}

# The extra that covers what the blocks import.
EXTRA = "pages"

_CODE = re.compile(r'class="(?:block|shown)"')

_wheel: Wheel | None = None


@event_priority(80)
def on_pre_build(config: MkDocsConfig) -> None:
    """Begin to build the wheel, beside the blocks."""
    global _wheel
    if state.inner:
        return
    _wheel = None
    if (root(config) / "pyproject.toml").is_file():
        _wheel = Wheel(root(config), cache(config) / "wheels")
        _wheel.begin()


@event_priority(-200)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Say under the title how to install what the page's code imports."""
    if _wheel is None or not config.site_url or not _CODE.search(html):
        return html
    address = urljoin(start(config), _wheel.file)
    wanted = f"{_wheel.project}[{EXTRA}] @ {address}"
    command = html_module.escape(f'pip install "{wanted}"')
    spoken = language(config)
    return under_title(
        html,
        f'<div class="install">{INSTALL[spoken]}'
        f'<code tabindex="0">{command}</code>'
        f'<button class="md-clipboard" type="button" title="{COPY[spoken]}" '
        f'data-clipboard-text="{command}"></button></div>',
    )


def on_post_build(config: MkDocsConfig) -> None:
    """Put the wheel at the start of the site."""
    if state.inner or _wheel is None:
        return
    try:
        (Path(config.site_dir) / _wheel.file).write_bytes(_wheel.read())
    except WheelError as error:
        raise PluginError(str(error)) from error
