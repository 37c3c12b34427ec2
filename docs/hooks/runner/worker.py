"""Run one block: the only module that executes what the pages say."""

from __future__ import annotations

import contextlib
import io
import linecache
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import traceback
import types
import warnings
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

# More than any reader reads, or any page should carry.
MOST_TEXT = 200_000  # bytes
MOST_DRAWN = 2_000_000


@dataclass(frozen=True)
class Result:
    """What a block printed and drew, or why it failed."""

    stdout: str = ""
    figures: tuple[str, ...] = ()
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Result:
        """Build the result again from what `to_json` gave."""
        return cls(value["stdout"], tuple(value["figures"]), value["error"])


class _Printed(io.BytesIO):
    """What a block wrote to stdout, even if it closed it."""

    _kept = b""

    def close(self) -> None:
        if not self.closed:
            self._kept = self.getvalue()
        super().close()

    def text(self) -> str:
        written = self._kept if self.closed else self.getvalue()
        return written.decode("utf-8", "replace")


def execute(source: str, path: str, line: int) -> Result:
    """Run a block alone, in an empty folder and a fresh namespace.

    Tracebacks name `path` and count lines from `line`, the block's first.
    A warning is an error; so is one that Matplotlib only logs.
    """
    import matplotlib.pyplot as plt

    from runner.figures import to_svgs, use_style

    printed = _Printed()
    stdout = io.TextIOWrapper(printed, "utf-8", newline="", write_through=True)
    figures: tuple[str, ...] = ()
    error = ""
    home = Path.cwd()
    main = types.ModuleType("__main__")
    main_before = sys.modules["__main__"]
    use_style()
    _show_source(source, path, line)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(stdout),
        warnings.catch_warnings(),
        _logged_warnings_raise("matplotlib"),
    ):
        warnings.simplefilter("error")
        os.chdir(folder)
        sys.modules["__main__"] = main
        try:
            code = compile(
                "\n" * (line - 1) + source, path, "exec", dont_inherit=True
            )
            exec(code, vars(main))
            figures = tuple(to_svgs(plt.figure(n)) for n in plt.get_fignums())
        except BaseException as problem:
            error = _cut_traceback(problem, path)
        finally:
            plt.close("all")
            sys.modules["__main__"] = main_before
            os.chdir(home)
    text = printed.text()
    if not error:
        error = _excess(text, figures)
        if error:
            text, figures = text[:1000], ()
    return Result(text, figures, error)


def _excess(text: str, figures: tuple[str, ...]) -> str:
    """Say what a page could not carry; nothing if it can."""
    printed = len(text.encode())
    if printed > MOST_TEXT:
        return f"the block printed {printed:,} bytes; {MOST_TEXT:,} at most"
    drawn = sum(len(figure.encode()) for figure in figures)
    if drawn > MOST_DRAWN:
        return f"the block drew {drawn:,} bytes; {MOST_DRAWN:,} at most"
    return ""


def serve(source: str, path: str, line: int, connection: Any) -> None:
    """Run a block in this process and send its result back."""
    _limit_threads()
    threading.Thread(target=_end_with_the_build, daemon=True).start()
    connection.send(execute(source, path, line))
    connection.close()


def _end_with_the_build() -> None:
    """End this process when the build is killed, whatever the block does."""
    if build := multiprocessing.parent_process():
        wait([build.sentinel])
        os._exit(1)


def _limit_threads() -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _show_source(source: str, path: str, line: int) -> None:
    """Let tracebacks quote the block: `path` is relative to elsewhere."""
    text = "\n" * (line - 1) + source
    linecache.cache[path] = (
        len(text),
        None,
        text.splitlines(keepends=True),
        path,
    )


def _cut_traceback(problem: BaseException, path: str) -> str:
    """Format an exception with the frames of the block and of `snippets`."""
    report = traceback.TracebackException.from_exception(problem)
    seen: set[int] = set()
    chain: list[traceback.TracebackException | None] = [report]
    while chain:
        part = chain.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if _is_ours(frame.filename, path)]
        )
        chain += [part.__cause__, part.__context__]
    return "".join(report.format()).rstrip()


def _is_ours(filename: str, path: str) -> bool:
    return filename == path or "snippets" in Path(filename).parts


@contextlib.contextmanager
def _logged_warnings_raise(name: str) -> Any:
    class Raise(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise UserWarning(record.getMessage())

    handler = Raise(level=logging.WARNING)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
