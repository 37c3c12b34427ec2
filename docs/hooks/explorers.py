"""Let a page ask for an explorer, and load the script of those it asks for.

`//// explorer | conv` puts what it encloses, a static figure, into an element
`<conv-explorer>`. `docs/assets/js/explorers/conv-explorer.js` brings it to
life; without script the figure stands as it is.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block as MarkdownBlock

from shared import root, state

SCRIPTS = "assets/js/explorers"

_OPENING = re.compile(r"^ */{3,} *explorer *(?:\| *(?P<name>.*?))? *$")
_ELEMENT = re.compile(r"<([a-z]+)-explorer[ >]")


class Explorers(BlocksExtension):  # type: ignore[misc]
    """A Markdown extension that knows `/// explorer | name`.

    `names` are the explorers there are; the others that pages asked for since
    `take_unknown` was called last are remembered.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.unknown: list[str] = []
        super().__init__()

    def extendMarkdownBlocks(self, md: Any, manager: Any) -> None:  # noqa: N802
        """Register the block."""
        manager.register(_Explorer, {"extension": self})

    def take_unknown(self) -> list[str]:
        """Return what was asked for in vain, and forget it."""
        unknown, self.unknown = self.unknown, []
        return unknown

    def missing(self, name: str) -> str:
        """Say that there is no such explorer, and which there are."""
        given = f"`explorer | {name}`" if name else "`explorer` without a name"
        there = ", ".join(self.names) or "none"
        return f"{given}: the explorers there are: {there}"


class _Explorer(MarkdownBlock):  # type: ignore[misc]
    NAME = "explorer"
    ARGUMENT = None  # one without a name is reported, not printed as text

    def on_create(self, parent: ET.Element) -> ET.Element:
        """Open the element, or say what is wrong in its place."""
        extension: Explorers = self.config["extension"]
        name = (self.argument or "").strip()
        if name in extension.names:
            kind = {"class": "explorable"}
            return ET.SubElement(parent, f"{name}-explorer", kind)
        extension.unknown.append(name)
        failure = escape(extension.missing(name))
        part = ET.SubElement(parent, "p")
        part.text = self.md.htmlStash.store(
            f'<pre class="failure">{failure}</pre>'
        )
        return ET.SubElement(parent, "div")

    def on_markdown(self) -> str:
        """Have the content read as that of a page."""
        return "block"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let every page have explorers: one for each script in the folder."""
    scripts = (root(config) / "docs" / SCRIPTS).glob("*-explorer.js")
    names = sorted(path.stem.removesuffix("-explorer") for path in scripts)
    config.markdown_extensions.append(Explorers(names))
    return config


def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Report the explorers that the page asks for in vain."""
    for extension in config.markdown_extensions:
        if isinstance(extension, Explorers):
            path = Path(page.file.abs_src_path or "").resolve()
            for name in dict.fromkeys(extension.take_unknown()):
                _report(extension.missing(name), name, path, root(config))
    return html


def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation
) -> dict[str, Any]:
    """Tell the template which explorers the page has."""
    found = _ELEMENT.findall(page.content or "")
    context["explorers"] = [
        f"{SCRIPTS}/{name}-explorer.js" for name in dict.fromkeys(found)
    ]
    return context


def _report(text: str, name: str, path: Path, top: Path) -> None:
    """Note the text for each line of the page that names the explorer."""
    shown = path.relative_to(top) if path.is_relative_to(top) else path
    lines = path.read_text("utf-8").split("\n")
    places = [
        number
        for number, line in enumerate(lines, 1)
        if (opening := _OPENING.match(line)) and (opening["name"] or "") == name
    ]
    for number in places or [1]:
        state.report(shown.as_posix(), number, text)
