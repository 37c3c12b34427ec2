import time
from textwrap import dedent

import psutil
import pytest

from runner.fences import Block
from runner.pool import run_blocks
from runner.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "not" / "yet" / "there")


@pytest.fixture
def run(project, store):
    """Run blocks as a build does; `page` and `line` are those of the first."""

    def run(*sources, page="docs/en/a.md", line=7, seconds=60, **settings):
        blocks = [
            Block(page, line + 100 * n, block(source))
            for n, source in enumerate(sources)
        ]
        settings = {"root": project, "store": store} | settings
        results = run_blocks(blocks, seconds=seconds, **settings)
        return [results[each.source] for each in blocks]

    return run


@pytest.fixture
def entries(store):
    """Count what is stored."""
    return lambda: len(list(store.folder.glob("*.json")))


def block(source):
    return dedent(source).strip("\n") + "\n"


@pytest.fixture(scope="session")
def is_running():
    def is_running(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return is_running


@pytest.fixture(scope="session")
def until():
    """Wait until a condition holds."""

    def until(condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    return until
