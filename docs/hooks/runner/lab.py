"""Run a lab once and write it as one notebook per language.

Called with the path of a lab and the folder of results, this module runs the
lab and stores what came out: `python -m runner.lab LAB FOLDER`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.fences import paragraphs, wrong_caption
from runner.keys import key
from runner.languages import LANGUAGES, pick
from runner.store import Store

Outputs = list[list[dict[str, Any]]]


class LabError(Exception):
    """A lab that cannot be read or run; the message names file and line."""


@dataclass(frozen=True)
class Cell:
    """One cell of a lab; `language` is empty where it is code.

    A Markdown cell may be the caption of the code cell above it.
    """

    language: str
    source: str
    line: int
    caption: bool = False


@dataclass(frozen=True)
class Lab:
    """A lab as it stands in its file, in percent format."""

    path: Path
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The name of the lab, and of its page."""
        return self.path.stem

    @property
    def code(self) -> list[Cell]:
        """The cells that run."""
        return [cell for cell in self.cells if not cell.language]

    def key(self, root: Path) -> str:
        """Name the outputs: prose does not count, cell borders do."""
        border = "\n'next cell'\n"
        return key(border.join(cell.source for cell in self.code), root)


def read_lab(path: Path) -> Lab:
    """Read a lab.

    Raises LabError when a Markdown cell does not say `lang="zh"` or
    `lang="en"`.
    """
    import jupytext

    text = path.read_text("utf-8")
    starts = [
        n for n, s in enumerate(text.splitlines(), 1) if s.startswith("# %%")
    ]
    notebook = jupytext.reads(text, fmt="py:percent")
    cells = [c for c in notebook.cells if c.cell_type != "raw"]
    if len(starts) != len(cells):
        raise LabError(f"{path}:1: each cell must begin with a line `# %%`")
    found = []
    for start, cell in zip(starts, cells, strict=True):
        language = ""
        caption = bool(cell.metadata.get("caption", False))
        if cell.cell_type == "markdown":
            language = cell.metadata.get("lang", "")
            if language not in LANGUAGES:
                raise LabError(
                    f"{path}:{start}: a Markdown cell needs "
                    f'lang="zh" or lang="en", not lang="{language}"'
                )
        found.append(Cell(language, cell.source, start + 1, caption))
    return Lab(path, tuple(found))


def wrong_captions(lab: Lab, outputs: Outputs) -> Iterator[tuple[int, str]]:
    """Give line and problem of each code cell whose caption is not right."""
    place = {id(cell): n for n, cell in enumerate(lab.cells)}
    for cell, out in zip(lab.code, outputs, strict=False):
        after = lab.cells[place[id(cell)] + 1 :]
        captions = itertools.takewhile(lambda cell: cell.caption, after)
        found = {caption.language: caption.source for caption in captions}
        figures = [o for o in out if "image/svg+xml" in o.get("data", {})]
        for language in LANGUAGES:
            text = found.get(language, "")
            if problem := wrong_caption(
                paragraphs(text) if text else (),
                draws=bool(figures),
                prints=any("text" in o for o in out),
            ):
                yield cell.line, f"{language}: {problem}"


def run_lab(lab: Lab, root: Path, *, seconds: float = 600) -> Outputs:
    """Run the code cells in a fresh kernel and return what each put out.

    Raises LabError when a cell raises, writes to stderr (as warnings do) or
    runs longer than allowed.
    """
    import tempfile

    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import (
        CellExecutionError,
        CellTimeoutError,
        DeadKernelError,
    )

    make: Any = nbformat.v4
    new_code = make.new_code_cell
    prepare = new_code("from runner import kernel\nkernel.prepare()")
    notebook = make.new_notebook(
        cells=[prepare, *(new_code(cell.source) for cell in lab.code)]
    )
    hooks = Path(__file__).parents[1]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(hooks), str(root)]),
        "OMP_NUM_THREADS": str(min(2, os.cpu_count() or 1)),
        "OPENBLAS_NUM_THREADS": str(min(2, os.cpu_count() or 1)),
        "PYTHONWARNINGS": "default",
        "PYTHONHASHSEED": "0",
    }
    started: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            on_cell_start=lambda cell, cell_index: started.append(cell_index),
        )
        stopped = ""
        try:
            # The kernel's own log is not the lab's.
            client.execute(env=environment, stderr=subprocess.DEVNULL)
        except CellExecutionError as error:
            told = f"{error.ename}: {error.evalue}"
            stopped = _plain(error.traceback) or told
        except CellTimeoutError:
            stopped = f"the cell ran longer than {seconds:g} seconds"
        except DeadKernelError:
            stopped = "the cell killed its process"
    file = lab.path.relative_to(root)
    cells = zip(lab.code, notebook.cells[1:], strict=True)
    for number, (cell, done) in enumerate(cells, 1):
        here = stopped if started[-1:] == [number] else ""
        if failure := here or _complaint(done.outputs):
            raise LabError(f"{file}:{cell.line}: {failure}")
    if stopped:
        raise LabError(f"{file}:1: {stopped}")
    return [
        _joined([_portable(output) for output in cell.outputs])
        for cell in notebook.cells[1:]
    ]


def compose(lab: Lab, outputs: Outputs | None, language: str) -> str:
    """Return the lab as an `.ipynb` that holds one language.

    Without outputs it is the notebook as it was before it ran.
    """
    left = iter(outputs or [[]] * len(lab.code))
    cells: list[dict[str, Any]] = []
    for cell in lab.cells:
        if cell.language not in ("", language):
            continue
        number = len(cells)
        entry: dict[str, Any] = {
            "cell_type": "markdown" if cell.language else "code",
            "id": f"cell-{number}",
            "metadata": {"caption": True} if cell.caption else {},
            "source": _words(cell.source, language),
        }
        if not cell.language:
            entry["execution_count"] = None
            entry["outputs"] = _in_language(next(left), language)
        cells.append(entry)
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def _words(source: str, language: str) -> str:
    """Pick the words of a language, and drop literals that this empties."""
    picked = pick(source, language)
    if picked == source:
        return source
    return re.sub(r'^ *f?""\n', "", picked, flags=re.MULTILINE)


def _in_language(
    outputs: list[dict[str, Any]], language: str
) -> list[dict[str, Any]]:
    chosen = []
    for output in outputs:
        if output.get("metadata", {}).get("language", language) != language:
            continue
        output = dict(output)
        if "text" in output:
            output["text"] = pick(output["text"], language)
        if "metadata" in output:
            narrow = output["metadata"].get("narrow")
            output["metadata"] = {"narrow": narrow} if narrow else {}
        chosen.append(output)
    return chosen


def _portable(output: Any) -> dict[str, Any]:
    """Keep of an output what is the same whenever it is run."""
    plain: dict[str, Any] = json.loads(json.dumps(output))
    if "execution_count" in plain:
        plain["execution_count"] = None
    return plain


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join what was printed in a row: the kernel sends it in timed pieces."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        if joined and "text" in output and "text" in joined[-1]:
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _complaint(outputs: list[Any]) -> str:
    """Return what a cell that ran to its end complained about."""
    for output in outputs:
        if output.get("output_type") == "error":
            return _plain("\n".join(output.traceback))
        if output.get("name") == "stderr":
            return str(output.text).strip()
    return ""


def _plain(text: str) -> str:
    """Drop the colours of an IPython traceback."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


def main(arguments: Sequence[str]) -> int:
    """Run one lab and store its outputs; print why, when it fails."""
    path, folder, root = (Path(argument) for argument in arguments)
    try:
        lab = read_lab(path)
        name = lab.key(root)
        outputs = run_lab(lab, root)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    if lab.key(root) != name:
        print("a file that the lab uses changed as it ran", file=sys.stderr)
        return 1
    Store(folder).put(name, outputs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
