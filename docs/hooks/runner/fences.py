"""Find the blocks of a Markdown file that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CAPTION = re.compile(r"^ *(?P<slashes>/{3,}) *caption *$")
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Block:
    """One fence whose info string is exactly `python`.

    `path` is relative to the project, `line` is the number of the first line
    of code, counted from 1. `caption` holds the paragraphs of the caption
    that follows: the first is for everybody, the second describes a figure
    to those who cannot see it. Without one, the block is code to be read.
    """

    path: str
    line: int
    source: str
    caption: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Path and line, as an editor takes them."""
        return f"{self.path}:{self.line}"


def find_blocks(markdown: str, path: str) -> list[Block]:
    """List the blocks of a page that run, in the order they stand in.

    Raises ValueError when a fence is never closed: what follows would
    silently become code.
    """
    lines = markdown.split("\n")
    return [
        Block(path, start + 1, code, _caption(lines[end:]))
        for start, end, info, code in _fences(markdown, path)
        if info == "python"
    ]


def wrong_caption(
    caption: tuple[str, ...], *, draws: bool, prints: bool
) -> str:
    """Say what is wrong with the caption of a block; nothing if all is well."""
    if not caption:
        return "this block draws and has no caption" if draws else ""
    if draws and len(caption) != 2:
        return (
            f"the caption of a figure has two paragraphs, not {len(caption)}: "
            "what to look at, and a description for those who cannot see it"
        )
    if not draws and not prints:
        return "this block has a caption, and neither draws nor prints"
    if not draws and len(caption) != 1:
        return f"the caption of a table has one paragraph, not {len(caption)}"
    return ""


def blank_fences(markdown: str, path: str) -> str:
    """Empty every line that stands in a fence, keeping the line numbers."""
    lines = markdown.split("\n")
    for start, end, _, _ in _fences(markdown, path):
        lines[start - 1 : end] = [""] * (end - start + 1)
    return "\n".join(lines)


def _fences(markdown: str, path: str) -> Iterator[tuple[int, int, str, str]]:
    """Give first and last line, info string and code of each fence."""
    lines = markdown.split("\n")
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        at += 1
        if opening is None:
            continue
        indent, ticks, info = opening.group("indent", "ticks", "info")
        start = at
        closing = re.compile(rf"^ *{ticks}`* *$")
        while at < len(lines) and not closing.match(lines[at]):
            at += 1
        if at == len(lines):
            raise ValueError(f"{path}:{start}: this fence is never closed")
        body = [_dedent(line, len(indent)) for line in lines[start:at]]
        at += 1
        code = "\n".join(body).rstrip("\n") + "\n"
        yield start, at, info.strip(), code


def _caption(lines: list[str]) -> tuple[str, ...]:
    """Return the paragraphs of the caption that these lines begin with."""
    at = 1 if lines and not lines[0].strip() else 0
    opening = _CAPTION.match(lines[at]) if at < len(lines) else None
    if opening is None:
        return ()
    body = []
    for line in lines[at + 1 :]:
        if line.strip() == opening["slashes"]:
            break
        body.append(line.strip())
    return paragraphs("\n".join(body))


def paragraphs(text: str) -> tuple[str, ...]:
    """Cut a text at its empty lines."""
    return tuple(re.split(r"\n\s*\n", text.strip()))


def _dedent(line: str, width: int) -> str:
    return line[min(width, len(line) - len(line.lstrip(" "))) :]
