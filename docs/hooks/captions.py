"""Turn a block and the caption under it into a figure: picture first.

`/// caption` under a fence says that the block is there to draw, or to make a
table. Its output comes first, then the caption, then its code, folded.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block as MarkdownBlock

from outputs import RenderedBlock
from shared import language


class Captions(BlocksExtension):  # type: ignore[misc]
    """A Markdown extension that knows `/// caption`."""

    def __init__(self, spoken: str) -> None:
        self.spoken = spoken
        super().__init__()

    def extendMarkdownBlocks(self, md: Any, manager: Any) -> None:  # noqa: N802
        """Register the block, with the language of the page."""
        manager.register(_Caption, {"language": self.spoken})


class _Caption(MarkdownBlock):  # type: ignore[misc]
    NAME = "caption"

    def on_create(self, parent: ET.Element) -> ET.Element:
        """Open a figure that begins with the output of the block above."""
        above = _block_above(self.md, parent)
        figure = ET.SubElement(parent, "figure", {"class": "shown"})
        # Without one the build fails, and `blocks.py` names the line.
        self.code = ""
        if above is not None:
            del parent[-2]
            self.code = above.folded(self.config["language"])
            self._insert(figure, above.output)
        ET.SubElement(figure, "figcaption")
        return figure

    def on_add(self, block: ET.Element) -> ET.Element:
        """Put what is written into the caption."""
        return block[-1]

    def on_end(self, block: ET.Element) -> None:
        """Hide the description from the eye, and fold the code."""
        for description in list(block[-1])[1:]:
            description.set("class", "described")
        self._insert(block, self.code)

    def _insert(self, figure: ET.Element, html: str) -> None:
        part = ET.SubElement(figure, "p")
        part.text = self.md.htmlStash.store(html)


def _block_above(md: Any, parent: ET.Element) -> RenderedBlock | None:
    """Return the block that stands last so far; None if it is no block."""
    text = (parent[-1].text or "").strip() if len(parent) else ""
    for number, html in enumerate(md.htmlStash.rawHtmlBlocks):
        if text == md.htmlStash.get_placeholder(number):
            return html if isinstance(html, RenderedBlock) else None
    return None


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let every page have captions."""
    extensions: list[Any] = config.markdown_extensions
    extensions.append(Captions(language(config)))
    return config
