"""Run the blocks of the pages and put what they give under them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from pymdownx.superfences import SuperFencesException
from tqdm import tqdm

from outputs import RenderedBlock
from runner.fences import Block, find_blocks, wrong_caption
from runner.pool import run_blocks
from runner.store import Store
from shared import cache, pages, root, state

_INCLUDE = re.compile(
    r'^(?P<indent> *)--8<-- "(?P<file>[^":]+)(?::(?P<part>[\w-]+))?"$'
)


# What Pygments marks although it is read as other code is: names, spaces,
# operators and punctuation, which are half of all marks.
_PLAIN = re.compile(r'<span class="[nopw]">([^<]*)</span>')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have fences that are exactly `python` rendered here."""
    settings = config.mdx_configs.setdefault("pymdownx.superfences", {})
    settings.setdefault("custom_fences", []).append(
        {
            "name": "python",
            "class": "highlight",
            "validator": _has_no_options,
            "format": _render,
        }
    )
    return config


def on_pre_build(config: MkDocsConfig) -> None:
    """Run the blocks of both languages that are not yet known."""
    if state.inner:
        return
    state.problems.clear()
    blocks: list[Block] = []
    for path, text in pages(config):
        try:
            blocks += find_blocks(text, path)
        except ValueError as error:
            place, _, message = str(error).partition(": ")
            state.report(path, int(place.rpartition(":")[2]), message)
    with tqdm(
        desc="Blocks",
        unit="block",
        leave=False,
        disable=not sys.stderr.isatty(),
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        state.results = run_blocks(
            blocks,
            root=root(config),
            store=Store(cache(config) / "blocks"),
            seconds=float(config.extra["block_seconds"]),
            progress=progress,
        )
    for block in blocks:
        if failure := state.results[block.source].error:
            text = f"this block failed\n{failure}"
            state.report(block.path, block.line, text)
            continue
        result = state.results[block.source]
        if problem := wrong_caption(
            block.caption,
            draws=bool(result.figures),
            prints=bool(result.stdout.strip()),
        ):
            state.report(block.path, block.line, problem)


@event_priority(100)
def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Check each inclusion, so that a missing one is named with its line."""
    top = root(config)
    path = Path(page.file.abs_src_path or "").resolve()
    if not path.is_relative_to(top) or path.suffix != ".md":
        return markdown
    shift = path.read_text("utf-8").count("\n") - markdown.count("\n")
    lines = markdown.split("\n")
    for number, line in enumerate(lines):
        if not (include := _INCLUDE.match(line)):
            continue
        if missing := _missing(top, include["file"], include["part"]):
            name = path.relative_to(top).as_posix()
            state.report(name, number + 1 + shift, missing)
            lines[number] = f"{include['indent']}{missing}"
    return "\n".join(lines)


@event_priority(-100)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Drop the tags around what needs no colour of its own."""
    return _PLAIN.sub(r"\1", html)


def _missing(top: Path, file: str, part: str | None) -> str:
    """Say what an inclusion asks for in vain; nothing if all is there."""
    path = top / file
    if not path.is_file():
        return f"cannot include {file}: there is no such file"
    if part and f"--8<-- [start:{part}]" not in path.read_text("utf-8"):
        return f"cannot include {file}:{part}: the file has no such region"
    return ""


def _has_no_options(language: str, inputs: dict[str, str], *_: Any) -> bool:
    """Accept only a fence that is exactly `python`; others do not run."""
    return not inputs


def _render(
    source: str,
    language: str,
    css_class: str,
    options: Any,
    md: Any,
    **more: Any,
) -> str:
    """Return a block's code and, under it, what it put out."""
    result = state.results.get(source.rstrip("\n") + "\n")
    if result is None:
        # Any other exception would be taken for "not a fence" and ignored.
        raise SuperFencesException(
            f"a block was not found before the build:\n{source}"
        )
    code = md.preprocessors["fenced_code_block"].highlight(
        src=source, language=language, options=options, md=md, **more
    )
    return RenderedBlock.of(code, result)
