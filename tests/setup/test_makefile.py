"""The Makefile, with stand-ins for the tools that it calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("mkdocs", "mypy", "pytest", "python", "ruff")

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose `.venv` holds tools that only note how they are called.

    A tool called with the words in the file `fails` exits with code 5.
    """
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "fails").write_text("nothing")
    script = (
        f"#!/bin/sh\n"
        f"call=$(echo ${{0##*/}} $*)\n"
        f"cd '{tmp_path}'\n"
        f'echo "$call" >> calls\n'
        f'case "$call" in *"$(cat fails)"*) exit 5;; esac\n'
    )
    for name in [*(f".venv/bin/{tool}" for tool in TOOLS), "bin/python3"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(folder: Path, *words: str) -> tuple[int, list[str]]:
    inherited = ("MAKE", "MFLAGS", "PYTHON", "ARGS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
    kept["PATH"] = f"{folder / 'bin'}:{kept['PATH']}"
    done = subprocess.run(
        ["make", *words], cwd=folder, env=kept, capture_output=True
    )
    calls = folder / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return done.returncode, lines


SET_UP = "python3 tools/bootstrap.py --any-python"
TEST = [
    SET_UP,
    "ruff check",
    "ruff format --check",
    "mypy",
    "pytest tests -n 2 --dist loadgroup",
    "pytest --codeblocks docs/zh docs/en README.md README.zh.md",
]


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (["serve"], [SET_UP, "mkdocs serve"]),
        (
            ["serve", "ARGS=-a 127.0.0.1:9000"],
            [SET_UP, "mkdocs serve -a 127.0.0.1:9000"],
        ),
        (["build"], [SET_UP, "mkdocs build"]),
        (["bench"], [SET_UP, "python bench/run.py"]),
        (["lint"], TEST[:4]),
        (["test"], TEST),
        ([], []),
    ],
)
def test_target_sets_up_and_then_calls_its_tools(
    words: list[str], calls: list[str], folder: Path
) -> None:
    assert make(folder, *words) == (0, calls)


@pytest.mark.parametrize("last", range(len(TEST)))
def test_first_failure_ends_make_test(last: int, folder: Path) -> None:
    """A pytest that collects nothing ends with 5, as each stand-in does."""
    (folder / "fails").write_text(TEST[last])
    assert make(folder, "test") == (2, TEST[: last + 1])


def test_python_that_is_named_is_asked_for(folder: Path) -> None:
    shutil.move(folder / "bin" / "python3", folder / "bin" / "python3.12")
    code, calls = make(folder, "build", "PYTHON=python3.12")
    assert code == 0
    assert calls[0].split() == ["python3.12", "tools/bootstrap.py"]


def test_clean_keeps_venv_and_sources(folder: Path) -> None:
    for name in ["site/a", ".cache/a", "docs/__pycache__/a", "docs/a.md"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / ".venv" / "lib" / "__pycache__").mkdir(parents=True)
    assert make(folder, "clean") == (0, [])
    left = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {".venv/lib/__pycache__", "docs/a.md"} <= left
    assert not left & {"site", ".cache", "docs/__pycache__"}
