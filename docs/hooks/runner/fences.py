"""Find the blocks of a Markdown file that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Block:
    """One fence whose info string is exactly `python`.

    `path` is relative to the project, `line` is the number of the first line
    of code, counted from 1.
    """

    path: str
    line: int
    source: str

    @property
    def place(self) -> str:
        """Path and line, as an editor takes them."""
        return f"{self.path}:{self.line}"


def find_blocks(markdown: str, path: str) -> list[Block]:
    """List the blocks of a page that run, in the order they stand in.

    Raises ValueError when a fence is never closed: what follows would
    silently become code.
    """
    return [
        Block(path, start + 1, code)
        for start, _, info, code in _fences(markdown, path)
        if info == "python"
    ]


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


def _dedent(line: str, width: int) -> str:
    return line[min(width, len(line) - len(line.lstrip(" "))) :]
