#!/usr/bin/env python3
# ruff: noqa: UP031
"""Make `.venv`, in which the site is built and tested, or keep a good one.

Every target of the Makefile that needs `.venv` runs this first. The stamp is
written last: a `.venv` with a valid stamp is whole, one without is never used.

This file keeps to the standard library and to syntax that Python 3.5 knows, so
that a Python that is too old gets far enough to say so.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

OLDEST = (3, 11)  # as requires-python in pyproject.toml
NEWEST = (3, 14)  # torch and onnxruntime, as pinned, have builds up to here

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".stamp"
LOG = ROOT / ".cache" / "setup.log"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# What ends a set-up from outside; Windows has no SIGHUP.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]


class SetupError(Exception):
    """What kept `.venv` from being made, in one line."""


def complaint(version: tuple, executable: str) -> str:
    """Say why this Python cannot build the site; return "" if it can."""
    minor = tuple(version[:2])
    if minor < OLDEST:
        wanted, other = "Python %d.%d or newer" % OLDEST, "a newer one"
    elif minor > NEWEST:
        wanted, other = "Python %d.%d to %d.%d" % (OLDEST + NEWEST), "one"
    else:
        return ""
    return (
        "CNN Notes needs %s; this is %d.%d.%d (%s). "
        "Point PYTHON at %s: make PYTHON=python3.12 serve"
    ) % (wanted, *version[:3], executable, other)


def tag_of_venv() -> str:
    """Return the tag of the Python in `.venv`, "" where none runs."""
    code = "import sys; print(sys.implementation.cache_tag)"
    try:
        output = subprocess.check_output(
            [str(PYTHON), "-I", "-S", "-c", code], stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return output.decode().strip()


def fingerprint(tag: str) -> str:
    """Digest what `.venv` is made from.

    The place counts too, for the scripts in `.venv` hold its absolute path.
    """
    digest = hashlib.sha256()
    for part in (tag, str(ROOT)):
        digest.update(part.encode() + b"\0")
    for name in ("requirements.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


def is_whole(wanted: str) -> bool:
    """Tell whether `.venv` is whole and up to date.

    wanted: the tag its Python must have, "" for any.
    """
    if not STAMP.is_file():
        return False
    found = tag_of_venv()
    if not found or wanted not in ("", found):
        return False
    return STAMP.read_bytes().decode() == fingerprint(found)


@contextlib.contextmanager
def alone():
    """Hold off a second set-up in this folder until the first has ended."""
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:  # Windows
        yield
        return
    with (ROOT / "pyproject.toml").open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for the set-up that already runs here ...")
            sys.stdout.flush()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield


def run(step: str, *command: object) -> None:
    """Run a command; show its progress where a person watches."""
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=str(ROOT),
        stdin=subprocess.DEVNULL,
        stdout=None if sys.stdout.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            stderr = process.communicate()[1]
        except BaseException:
            # Its children too, or they go on writing into `.venv`.
            if hasattr(os, "killpg"):
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            raise
    with LOG.open("ab") as log:
        log.write(stderr)
    if process.returncode:
        lines = stderr.decode(errors="replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error:")]
        reason = (errors or lines or ["exit code %d" % process.returncode])[-1]
        name = LOG.relative_to(ROOT)
        raise SetupError("%s: %s (log: %s)" % (step, reason, name))


def remove() -> None:
    """Remove `.venv`, its stamp first: what is left half way has none."""
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        if STAMP.exists():
            STAMP.unlink()
        for _ in range(20):  # a child just killed may still end a write
            shutil.rmtree(str(VENV), ignore_errors=True)
            if not VENV.exists():
                return
            time.sleep(0.1)
        shutil.rmtree(str(VENV))


def build() -> None:
    """Make `.venv` from nothing; leave none where a step fails."""
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            "this Python cannot make a venv with pip; on Debian and Ubuntu "
            "install the package python%d.%d-venv" % sys.version_info[:2]
        )
    print(
        "Setting up .venv with Python %d.%d.%d; this takes minutes, once."
        % sys.version_info[:3]
    )
    sys.stdout.flush()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_bytes(b"")
    # The Python that runs this may be that of the `.venv` to be replaced.
    python = getattr(sys, "_base_executable", None) or sys.executable
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    pip += ["--log", LOG, "install"]
    try:
        remove()
        run("python -m venv .venv", python, "-m", "venv", VENV)
        run(
            "pip install -r requirements.txt",
            *pip,
            *["--use-pep517", "-r", "requirements.txt"],
        )
        run(
            "pip install -e .",
            *pip,
            *["--no-deps", "--no-build-isolation", "-e", "."],
        )
        STAMP.write_bytes(fingerprint(tag_of_venv()).encode())
    except BaseException:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        remove()
        raise


def interrupt(number: int, frame: object) -> None:
    """Let each signal end the set-up as Ctrl-C does."""
    raise KeyboardInterrupt


def main(arguments: list) -> int:
    """Make `.venv` if it is not whole; return the exit code."""
    wanted = sys.implementation.cache_tag
    if "--any-python" in arguments:  # nobody asked for this very Python
        wanted = ""
    if is_whole(wanted):
        return 0
    problem = complaint(sys.version_info, sys.executable)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores one
            signal.signal(number, interrupt)
    try:
        with alone():
            if not is_whole(wanted):
                build()
    except (SetupError, OSError) as error:
        print("CNN Notes set-up failed: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("CNN Notes set-up stopped; run it again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
