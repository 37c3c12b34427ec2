"""Cut the HTML of a page into the sections that its search can find."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser

_HEADINGS = {"h1", "h2", "h3", "h4"}
_VOID = {"area", "br", "col", "hr", "img", "input", "link", "source", "wbr"}

# What separates one hit from the next in the list of results.
_PARAGRAPHS = {"p", "li", "tr", "dt", "dd", "summary", "blockquote"}

# Their letters are labels, numbers and symbols, which nobody looks for.
_SILENT_TAGS = {"pre", "svg", "math", "script", "style", "button"}
_SILENT_CLASSES = {"output", "filename", "headerlink", "footnote-ref"}
_SILENT_CLASSES |= {"footnote-backref", "planned", "how", "install"}

_DEFINED = re.compile(r"^[ \t]*(?:def|class)[ \t]+([A-Za-z]\w*)", re.MULTILINE)
_CALLED = re.compile(r"\b([A-Za-z]\w{2,})\(")
_PLAIN = {*keyword.kwlist, "print", "range", "len", "zip", "super", "tuple"}
_PLAIN |= {"enumerate", "float", "int", "list", "dict", "set", "map", "sum"}


@dataclass
class Section:
    """A heading, and what stands below it up to the next.

    defined, called: names of functions and classes in the code blocks.
    """

    level: int
    anchor: str
    title: str = ""
    paragraphs: list[str] = field(default_factory=list)
    defined: dict[str, None] = field(default_factory=dict)
    called: dict[str, None] = field(default_factory=dict)


def sections(html: str) -> list[Section]:
    """Return the sections of a page in their order, the page's own first."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    parser.end_paragraph()
    return parser.found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found = [Section(1, "")]
        self.stack: list[tuple[str, bool]] = []
        self.heading = ""
        self.code: list[str] | None = None
        self.text: list[str] = []

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        if tag in _VOID:
            return
        given = dict(attrs)
        classes = set((given.get("class") or "").split())
        silent = tag in _SILENT_TAGS or bool(classes & _SILENT_CLASSES)
        self.stack.append((tag, silent or self._silent()))
        if tag in _HEADINGS and given.get("id"):
            self.end_paragraph()
            self.heading = tag
            if tag != "h1":
                section = Section(int(tag[1]), given["id"] or "")
                self.found.append(section)
        elif tag in _PARAGRAPHS:
            self.end_paragraph()
        elif tag in ("td", "th"):
            self.text.append(" ")
        elif tag == "math" and not self._silent(1):
            self.text.append("…")
        elif tag == "pre" and "printed" not in classes:
            self.code = []

    def handle_endtag(self, tag: str) -> None:
        if tag not in (open_tag for open_tag, _ in self.stack):
            return
        while self.stack.pop()[0] != tag:
            pass
        if tag == self.heading:
            self.found[-1].title = _collapse(self.text)
            self.text = []
            self.heading = ""
        elif tag in _PARAGRAPHS:
            self.end_paragraph()
        elif tag == "pre" and self.code is not None:
            self._note_names("".join(self.code))
            self.code = None

    def handle_data(self, data: str) -> None:
        if self.code is not None:
            self.code.append(data)
        if not self._silent():
            self.text.append(data)

    def end_paragraph(self) -> None:
        """Add what was read since the last paragraph to its section."""
        text = _collapse(self.text)
        if text.strip(" …"):
            self.found[-1].paragraphs.append(escape(text, quote=False))
        self.text = []

    def _silent(self, above: int = 0) -> bool:
        return len(self.stack) > above and self.stack[-1 - above][1]

    def _note_names(self, code: str) -> None:
        section = self.found[-1]
        defined = _DEFINED.findall(code)
        section.defined |= dict.fromkeys(defined)
        section.called |= dict.fromkeys(
            name for name in _CALLED.findall(code) if name not in _PLAIN
        )


def _collapse(parts: list[str]) -> str:
    return " ".join("".join(parts).split())
