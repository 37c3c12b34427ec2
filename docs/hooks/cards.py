"""Give each page the picture that other sites show with a link to it."""

from __future__ import annotations

import base64
import html
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from runner.card import HEIGHT, WIDTH
from runner.fences import Block, find_blocks
from runner.keys import key
from runner.pool import run_blocks
from runner.store import Store
from shared import cache, language, pages, root, start, state

LOCALES = {"zh": ("zh_CN", "en_US"), "en": ("en_US", "zh_CN")}
HOME = "index.md"

# What a block does after its own work to leave a picture of it.
_SAVE = "\nfrom runner.card import save_card\nsave_card({path!r})\n"

_NAME = re.compile(r'aria-label="([^"]*)"')


@dataclass(frozen=True)
class _Card:
    """A picture, seen from one page of one language."""

    address: str
    alt: str
    width: int = WIDTH
    height: int = HEIGHT


# Pictures by page, and names of their figures by language and page.
_pictures: dict[str, bytes] = {}
_names: dict[tuple[str, str], str] = {}


@event_priority(-10)
def on_pre_build(config: MkDocsConfig) -> None:
    """Draw the first figure of each page once more, as a picture.

    The English one serves both languages: see `save_card`.
    """
    if state.inner:
        return
    _pictures.clear()
    _names.clear()
    english: dict[str, Block] = {}
    for spoken, page, block in _first_figures(config):
        figure = state.results[block.source].figures[0]
        name = _NAME.search(figure)
        _names[spoken, page] = html.unescape(name[1]) if name else ""
        if spoken == "en":
            english[page] = block
    _draw(english, config)


def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation
) -> dict[str, Any]:
    """Tell the template of the picture; of the home's where there is none."""
    spoken = language(config)
    context["locales"] = LOCALES[spoken]
    own = page.file.src_uri if page.file.src_uri in _pictures else HOME
    if own in _pictures:
        context["card"] = _Card(
            urljoin(start(config), _place(own)),
            _names.get((spoken, own)) or str(page.title),
        )
    return context


def on_post_build(config: MkDocsConfig) -> None:
    """Write the pictures."""
    if state.inner:
        return
    for page, picture in _pictures.items():
        path = Path(config.site_dir) / _place(page)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)


def _first_figures(config: MkDocsConfig) -> Iterator[tuple[str, str, Block]]:
    """Give language, page and block of the first figure of each page."""
    for path, text in pages(config):
        try:
            blocks = find_blocks(text, path)
        except ValueError:
            continue  # reported where the blocks are run
        for block in blocks:
            result = state.results.get(block.source)
            if result is not None and result.figures:
                _, spoken, page = path.split("/", 2)
                yield spoken, page, block
                break


def _draw(blocks: dict[str, Block], config: MkDocsConfig) -> None:
    """Fill in the pictures: those that are kept, and then the others."""
    store = Store(cache(config) / "cards")
    keys = {
        page: key(block.source + _SAVE.format(path=""), root(config))
        for page, block in blocks.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        missing: dict[str, Block] = {}
        for page, block in blocks.items():
            kept = store.get(keys[page])
            if kept is not None:
                _pictures[page] = base64.b64decode(kept)
                continue
            path = str(Path(folder) / f"{keys[page]}.png")
            source = block.source + _SAVE.format(path=path)
            missing[page] = Block(block.path, block.line, source)
        results = run_blocks(
            missing.values(),
            root=root(config),
            store=Store(Path(folder)),
            seconds=float(config.extra["block_seconds"]),
        )
        for page, block in missing.items():
            if failure := results[block.source].error:
                text = f"the picture of this block failed\n{failure}"
                state.report(block.path, block.line, text)
                continue
            picture = (Path(folder) / f"{keys[page]}.png").read_bytes()
            _pictures[page] = picture
            store.put(keys[page], base64.b64encode(picture).decode())


def _place(page: str) -> str:
    """Return where a page's picture lies, seen from the site's start."""
    return f"assets/cards/{page.removesuffix('.md')}.png"
