"""Run labs in processes of their own, beside whatever else goes on."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.lab import Lab

Done = Callable[[], None]


@dataclass
class _Run:
    key: str
    process: subprocess.Popen[str]
    watcher: threading.Thread | None = None
    error: str = ""

    def runs(self) -> bool:
        return self.watcher is None or self.watcher.is_alive()


class Background:
    """At most one run for each lab; a changed lab replaces its run."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        atexit.register(self.stop)

    def start(
        self, lab: Lab, key: str, folder: Path, root: Path, done: Done
    ) -> None:
        """Run a lab unless this very version runs or has failed.

        `done` is called from another thread when the run has ended; the
        outputs then lie in `folder`, or `error` tells why they do not.
        """
        old = self._runs.get(lab.name)
        if old is not None:
            if old.key == key and (old.error or old.runs()):
                return
            del self._runs[lab.name]
            _kill(old.process)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "runner.lab",
                str(lab.path),
                str(folder),
                str(root),
            ],
            env=os.environ
            | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        run = self._runs[lab.name] = _Run(key, process)

        def watch() -> None:
            _, errors = process.communicate()
            if self._runs.get(lab.name) is not run:
                return  # replaced by a newer version, whose end will tell
            if process.returncode:
                run.error = errors.strip() or (
                    f"the run ended with exit {process.returncode}"
                )
            done()

        run.watcher = threading.Thread(target=watch, daemon=True)
        run.watcher.start()

    def error(self, lab: Lab, key: str) -> str:
        """Return why this version of the lab failed; empty if it did not."""
        run = self._runs.get(lab.name)
        return run.error if run is not None and run.key == key else ""

    def wait(self) -> None:
        """Wait until no lab runs any more."""
        for run in list(self._runs.values()):
            if run.watcher is not None:
                run.watcher.join()

    def stop(self) -> None:
        """End every run."""
        runs, self._runs = self._runs, {}
        for run in runs.values():
            _kill(run.process)


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it ended this moment
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
