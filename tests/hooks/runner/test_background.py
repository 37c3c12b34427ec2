import os
import threading

import pytest

from runner.background import Background
from runner.lab import read_lab

pytestmark = pytest.mark.xdist_group("labs")


@pytest.fixture
def background():
    background = Background()
    yield background
    background.stop()


@pytest.fixture
def start(background, project, store, write):
    """Run a lab of one cell beside the test; return lab, key and its end."""

    def start(code):
        path = project / "docs" / "labs" / "tiny.py"
        lab = read_lab(write(path, f"# %%\n{code}\n"))
        key = lab.key(project)
        ended = threading.Event()
        background.start(lab, key, store.folder, project, ended.set)
        return lab, key, ended

    return start


def endless(pids):
    """Give a cell that notes its process and its parent, and never ends."""
    return (
        f"import os\nopen({str(pids)!r}, 'w').write("
        "f'{os.getpid()} {os.getppid()} ')\nwhile True: pass"
    )


@pytest.fixture
def started(until):
    """Wait for an endless cell; give the processes it runs in."""

    def started(pids):
        until(lambda: pids.exists() and pids.read_text().endswith(" "))
        return [int(pid) for pid in pids.read_text().split()]

    return started


def test_a_run_stores_its_result_and_once_more_if_that_is_lost(
    background, start, store
):
    code = "print('done')"
    for _ in range(2):
        lab, key, ended = start(code)
        background.wait()
        assert ended.is_set()
        [[output]] = store.get(key)
        assert output["text"] == "done\n"
        assert background.error(lab, key) == ""
        (store.folder / f"{key}.json").unlink()


def test_a_run_that_fails_is_reported_and_not_tried_again(
    background, start, store
):
    lab, key, ended = start("x = 1\n1 / 0")
    assert background.error(lab, key) == ""
    background.wait()
    assert ended.is_set()
    error = background.error(lab, key)
    assert "docs/labs/tiny.py:2: " in error
    assert "ZeroDivisionError: division by zero" in error
    assert background.error(lab, "the key of another version") == ""
    assert store.get(key) is None

    _, same, ended_again = start("x = 1\n1 / 0")
    background.wait()
    assert same == key
    assert not ended_again.is_set()
    assert background.error(lab, key) == error


def test_a_changed_lab_replaces_the_run_of_the_old_one(
    background, start, started, store, is_running, until, tmp_path
):
    pids = tmp_path / "pids"
    _, old_key, old_ended = start(endless(pids))
    old = started(pids)
    start(endless(pids))  # unchanged: goes on
    assert all(map(is_running, old))

    lab, key, ended = start("print('new')")
    background.wait()
    assert ended.is_set()
    assert not old_ended.is_set()
    assert store.get(key) is not None
    assert store.get(old_key) is None
    assert background.error(lab, key) == ""
    until(lambda: not any(map(is_running, old)), seconds=10)


def test_stopping_ends_every_process_and_tells_nobody(
    background, start, started, is_running, until, tmp_path
):
    pids = tmp_path / "pids"
    _, _, ended = start(endless(pids))
    kernel, runner = started(pids)
    assert runner != os.getpid()
    background.stop()
    until(lambda: not is_running(kernel) and not is_running(runner), 10)
    background.wait()
    assert not ended.is_set()


def test_the_environment_is_left_as_it_was(background, start, tmp_path):
    before = dict(os.environ)
    start("x = 1")
    assert dict(os.environ) == before
