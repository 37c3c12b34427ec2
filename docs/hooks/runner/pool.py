"""Run blocks side by side, each in a process of its own, and keep results."""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runner.fences import Block
from runner.keys import key, library_modules
from runner.store import Store
from runner.worker import Result, serve

# What every block needs, besides what it imports itself.
PRELOADED = [
    "__main__",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_svg",
]

# Two blocks side by side must not fight for the same cores.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "svg",
    # Sets are printed in the same order by every build.
    "PYTHONHASHSEED": "0",
}

Progress = Callable[[int, int], None]


def run_blocks(
    blocks: Iterable[Block],
    *,
    root: Path,
    store: Store,
    seconds: float = 60,
    processes: int | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Result]:
    """Give the result of every block, by its source.

    Only what the store does not hold is run, and equal blocks run once.
    Results without an error are stored as soon as they are there. `progress`
    is told how many of how many are done.
    """
    results: dict[str, Result] = {}
    waiting: dict[str, list[Block]] = {}
    for block in blocks:
        name = _key(block, root) or block.place
        stored = store.get(name)
        if stored is not None:
            results[block.source] = Result.from_json(stored)
        else:
            waiting.setdefault(name, []).append(block)

    done = 0

    def finish(name: str, result: Result) -> None:
        nonlocal done
        for block in waiting[name]:
            results[block.source] = result
        if not result.error and _key(waiting[name][0], root) == name:
            store.put(name, result.to_json())
        done += 1
        progress(done, len(waiting))

    if waiting:
        progress(0, len(waiting))
        jobs = {name: same[0] for name, same in waiting.items()}
        with _workers(root, _imports(jobs.values(), root)) as context:
            count = processes or min(os.cpu_count() or 1, 8)
            _run(jobs, context, finish, seconds, count)
    return results


def _key(block: Block, root: Path) -> str:
    """Return the key of a block; empty if it, or what it uses, is no Python.

    Running it then tells what is wrong, and where.
    """
    try:
        return key(block.source, root)
    except SyntaxError:
        return ""


@dataclass
class _Job:
    name: str
    block: Block
    process: Any
    connection: Connection
    deadline: float
    seconds: float
    heard: bool = False
    sent: Result | None = None

    def events(self) -> list[Any]:
        """Give what to wait for: its result, if still to come, and its end."""
        end = self.process.sentinel
        return [end] if self.heard else [self.connection, end]

    def result(self) -> Result | None:
        """Return the result, or why there is none; None while it runs."""
        ended = not self.process.is_alive()
        with suppress(EOFError, OSError):
            if not self.heard and self.connection.poll():
                self.heard = True
                self.sent = self.connection.recv()
        if ended:
            code = self.process.exitcode
            return self.sent or Result(
                error=f"the block killed its process (exit {code})"
            )
        if time.monotonic() > self.deadline:
            self.stop()
            return Result(
                error=f"the block ran longer than {self.seconds:g} seconds"
            )
        return None

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _run(
    jobs: dict[str, Block],
    context: Any,
    finish: Callable[[str, Result], None],
    seconds: float,
    processes: int,
) -> None:
    left = list(jobs.items())
    running: list[_Job] = []
    try:
        while left or running:
            while left and len(running) < processes:
                name, block = left.pop(0)
                running.append(_start(context, name, block, seconds))
            first = min(job.deadline for job in running)
            wait(
                [event for job in running for event in job.events()],
                max(0.0, first - time.monotonic()) + 0.01,
            )
            for job in list(running):
                result = job.result()
                if result is not None:
                    running.remove(job)
                    job.connection.close()
                    finish(job.name, result)
    finally:
        for job in running:
            job.stop()


def _start(context: Any, name: str, block: Block, seconds: float) -> _Job:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=serve,
        args=(block.source, block.path, block.line, sender),
        daemon=True,
    )
    process.start()
    # Only the child may hold the other end: its death then ends the pipe.
    sender.close()
    deadline = time.monotonic() + seconds
    return _Job(name, block, process, receiver, deadline, seconds)


def _imports(blocks: Iterable[Block], root: Path) -> list[str]:
    """List the modules of libraries that these blocks will load.

    Imported once, in the process that all others are forked from, they cost
    a block nothing.
    """
    found: set[str] = set()
    for block in blocks:
        with suppress(SyntaxError):
            found |= library_modules(block.source, root)
    return sorted(found)


@contextmanager
def _workers(root: Path, imports: list[str]) -> Iterator[Any]:
    """Give the way to start processes that find the runner and the package."""
    path = sys.path.copy()
    sys.path[:0] = [str(root), str(Path(__file__).parents[1])]
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        if (
            "forkserver" in mp.get_all_start_methods()
            and sys.platform == "linux"
        ):
            mp.set_forkserver_preload([*PRELOADED, *imports])
            yield mp.get_context("forkserver")
        else:
            yield mp.get_context("spawn")
    finally:
        sys.path[:] = path
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
