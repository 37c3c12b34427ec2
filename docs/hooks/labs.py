"""Run the labs and give each a page in both languages."""

from __future__ import annotations

import functools
import html as html_module
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mkdocs_jupyter.config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import AnchorLink
from nbconvert.exporters.templateexporter import default_filters
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from tqdm import tqdm

from outputs import RenderedBlock, captioned
from runner.background import Background
from runner.lab import (
    Lab,
    LabError,
    Outputs,
    compose,
    read_lab,
    wrong_captions,
)
from runner.store import Store, write_whole
from runner.worker import Result
from shared import cache, language, root, state

background = Background()

_closing = threading.Event()

RUNNING = {
    "zh": (
        "实验正在运行",
        "结果还没有算出来。算完之后，本页会自动刷新。",
    ),
    "en": (
        "This lab is running",
        "Its results are not there yet. This page reloads when they are.",
    ),
}


@dataclass
class _Shown:
    """A lab in this build: outputs, or why there are none."""

    lab: Lab
    key: str
    outputs: Outputs | None = None
    error: str = ""

    def waits(self) -> bool:
        """Tell whether its page can only say that the lab is running."""
        return self.outputs is None and not self.error


@dataclass
class _Current:
    """The page being rendered; templates are not told which it is."""

    page: Page | None = None
    config: MkDocsConfig | None = None
    files: Files | None = None
    anchors: set[str] = field(default_factory=set)
    links: dict[Any, Any] = field(default_factory=dict)
    toc: list[AnchorLink] = field(default_factory=list)


_current = _Current()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have notebooks rendered by the template beside this file."""
    templates = Path(__file__).resolve().parent / "notebook"
    mkdocs_jupyter.config.settings.templates_dir = str(templates)
    default_filters["page_markdown"] = _render_markdown
    default_filters["page_code"] = _render_code
    return config


@event_priority(50)
def on_pre_build(config: MkDocsConfig) -> None:
    """Start the labs whose results are not known, beside the blocks."""
    if state.inner:
        return
    top = root(config)
    folder = cache(config) / "labs"
    state.labs = []
    for path in sorted((top / "docs" / "labs").glob("*.py")):
        try:
            lab = read_lab(path)
            shown = _Shown(lab, lab.key(top))
        except (LabError, SyntaxError) as error:
            state.report(path.relative_to(top).as_posix(), 1, str(error))
            continue
        state.labs.append(shown)
        shown.outputs = Store(folder).get(shown.key)
        shown.error = background.error(lab, shown.key)
        if shown.waits():
            told = functools.partial(_tell, shown.key, _signal(config))
            background.start(
                lab,
                shown.key,
                folder,
                top,
                told if state.serving else _no_one_waits,
            )


@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a notebook for each lab; a build first waits for the results."""
    if not state.inner:
        _collect(config)
    spoken = language(config)
    folder = cache(config) / "notebooks" / spoken
    for shown in state.labs:
        uri = f"labs/{shown.lab.name}.ipynb"
        write_whole(folder / uri, compose(shown.lab, shown.outputs, spoken))
        files.append(File(uri, str(folder), config.site_dir, True))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Remember the page for the template's filters."""
    global _current
    _current = _Current(page, config, files)
    return markdown


@event_priority(100)
def on_page_content(
    html: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Give a lab's page its contents, its title and, if need be, a notice."""
    shown = _lab_of(page)
    if shown is None:
        return html
    page.toc.items = _current.toc
    page.title = _current.toc[0].title if _current.toc else shown.lab.name
    page.present_anchor_ids = _current.anchors
    page.links_to_anchors = _current.links
    spoken = language(config)
    if shown.error:
        problem = html_module.escape(shown.error)
        return f'<pre class="failure">{problem}</pre>{html}'
    if shown.outputs is None:
        title, text = RUNNING[spoken]
        return (
            f'<div class="admonition info lab-running" role="status">'
            f'<p class="admonition-title">{title}</p><p>{text}</p></div>{html}'
        )
    return html


def on_serve(server: Any, config: MkDocsConfig, builder: Any) -> Any:
    """Build again when a lab has ended."""
    server.watch(str(_signal(config).parent))
    return server


def on_shutdown() -> None:
    """End what still runs."""
    _closing.set()
    background.stop()


def _tell(key: str, signal: Path) -> None:
    """Touch the signal until a build knows what became of a lab.

    Once is not enough: MkDocs watches only when its first build is done.
    """
    while any(shown.key == key and shown.waits() for shown in state.labs):
        signal.touch()
        if _closing.wait(2):
            break


def _no_one_waits() -> None:
    """Tell nobody: a build has its own way to wait for its labs."""


def _collect(config: MkDocsConfig) -> None:
    store = Store(cache(config) / "labs")
    missing = [shown for shown in state.labs if shown.outputs is None]
    if missing and not state.serving:
        with tqdm(
            desc="Labs",
            total=len(missing),
            unit="lab",
            leave=False,
            disable=not sys.stderr.isatty(),
        ) as bar:
            background.wait()
            bar.update(len(missing))
    for shown in missing:
        shown.outputs = store.get(shown.key)
        shown.error = background.error(shown.lab, shown.key)
        if shown.error:
            path = shown.lab.path.relative_to(root(config)).as_posix()
            state.report(path, 1, f"this lab failed\n{shown.error}")
    for shown in state.labs:
        for line, problem in wrong_captions(shown.lab, shown.outputs or []):
            path = shown.lab.path.relative_to(root(config)).as_posix()
            state.report(path, line, problem)


def _signal(config: MkDocsConfig) -> Path:
    """Return the file that a preview watches, in a folder of its own."""
    signal = cache(config) / "signal" / "labs"
    signal.parent.mkdir(parents=True, exist_ok=True)
    return signal


def _lab_of(page: Page) -> _Shown | None:
    shown: _Shown
    for shown in state.labs:
        if page.file.src_uri == f"labs/{shown.lab.name}.ipynb":
            return shown
    return None


def _render_markdown(source: str) -> str:
    """Render a cell as MkDocs renders a page: same extensions, same links."""
    page, config, files = _current.page, _current.config, _current.files
    assert page is not None
    assert config is not None
    assert files is not None
    part = Page("", page.file, config)
    page.file.page = page
    part.markdown = source
    part.render(config, files)
    _current.anchors |= part.present_anchor_ids or set()
    _current.links.update(part.links_to_anchors or {})
    for item in part.toc.items:
        _hang(item, _current.toc)
    return part.content or ""


def _hang(item: AnchorLink, toc: list[AnchorLink]) -> None:
    """Put a heading under the last one that is higher than it."""
    if toc and toc[-1].level < item.level:
        _hang(item, toc[-1].children)
    else:
        toc.append(item)


def _render_code(cell: Any, caption: str) -> str:
    """Render code and outputs as those of a page's block."""
    formatter = HtmlFormatter(cssclass="highlight", wrapcode=True)
    code = highlight(cell["source"], PythonLexer(), formatter)
    printed, figures = "", []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text" in output:
            printed += output["text"]
        elif "image/svg+xml" in data:
            narrow = output["metadata"].get("narrow", "")
            figures.append(f"{data['image/svg+xml']}\n\n{narrow}".strip())
        elif "text/plain" in data:
            printed += data["text/plain"] + "\n"
    block = RenderedBlock.of(code, Result(printed, tuple(figures)))
    if not caption:
        return block
    assert _current.config is not None
    return captioned(
        block, _render_markdown(caption), language(_current.config)
    )
