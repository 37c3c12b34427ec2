"""The set-up of `.venv`, on a small project that needs no network."""

import ast
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "tools" / "bootstrap.py"

pytestmark = [
    pytest.mark.xdist_group("setup"),
    pytest.mark.skipif(os.name == "nt", reason="make needs a POSIX system"),
]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
"""

# setuptools is not in every venv, so the project brings a build of its own.
BACKEND = """\
from zipfile import ZipFile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    info = {
        "METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n",
        "WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny\\n"
        "Root-Is-Purelib: true\\nTag: py3-none-any\\n",
        "RECORD": "",
    }
    with ZipFile(folder + "/" + name, "w") as wheel:
        for key, text in info.items():
            wheel.writestr("tiny-1.dist-info/" + key, text)
    return name
"""


def make_project(folder: Path, requirements: str = "") -> Path:
    (folder / "tools").mkdir(parents=True)
    shutil.copy(BOOTSTRAP, folder / "tools")
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "requirements.txt").write_text(requirements)
    return folder


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    return kept | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def start(
    project: Path, *arguments: str, python: str | Path = sys.executable
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, project / "tools" / "bootstrap.py", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def bootstrap_of(project: Path) -> ModuleType:
    path = project / "tools" / "bootstrap.py"
    spec = importlib.util.spec_from_file_location("bootstrap", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("made") / "project")
    code, out, err = finish(start(project))
    assert (code, err) == (0, "")
    assert out.startswith("Setting up .venv")
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of a set-up project, which the bootstrap takes for whole."""
    copy = tmp_path / "project"
    shutil.copytree(made, copy, symlinks=True)
    bootstrap = bootstrap_of(copy)
    tag = sys.implementation.cache_tag
    bootstrap.STAMP.write_text(bootstrap.fingerprint(tag))
    assert bootstrap.is_whole("")
    return copy


def run_as(
    version: tuple[int, int, int], project: Path, *arguments: str
) -> tuple[int, str]:
    """Run the bootstrap in a Python that takes itself for another."""
    code = (
        f"import runpy, sys; sys.version_info = {(*version, 'final', 0)}; "
        f"sys.implementation.cache_tag = 'cpython-{version[0]}{version[1]}'; "
        f"sys.executable = '/usr/bin/python3'; sys.argv = {['', *arguments]}; "
        f"runpy.run_path({str(project / 'tools/bootstrap.py')!r}, "
        f"run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (
            (3, 9, 2),
            "CNN Notes needs Python 3.11 or newer; this is 3.9.2 "
            "(/usr/bin/python3). Point PYTHON at a newer one: "
            "make PYTHON=python3.12 serve\n",
        ),
        (
            (3, 99, 0),
            "CNN Notes needs Python 3.11 to 3.14; this is 3.99.0 "
            "(/usr/bin/python3). Point PYTHON at one: "
            "make PYTHON=python3.12 serve\n",
        ),
    ],
)
def test_unfit_python_is_refused_in_one_line(
    version: tuple[int, int, int], line: str, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project")
    assert run_as(version, project) == (1, line)
    assert not (project / ".venv").exists()


def test_oldest_python_is_that_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    wanted = tomllib.loads(text)["project"]["requires-python"]
    assert wanted == ">={}.{}".format(*bootstrap_of(ROOT).OLDEST)


def test_an_old_python_can_read_the_bootstrap() -> None:
    ast.parse(BOOTSTRAP.read_text(), feature_version=(3, 5))


def test_failed_install_leaves_no_venv_and_says_so_in_one_line(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path / "project", "no-such-package==1\n")
    code, _, err = finish(start(project))
    assert code == 1
    assert err == (
        "CNN Notes set-up failed: pip install -r requirements.txt: "
        "ERROR: No matching distribution found for no-such-package==1 "
        "(log: .cache/setup.log)\n"
    )
    assert not (project / ".venv").exists()
    assert "no-such-package" in (project / ".cache/setup.log").read_text()


def wait_for(project: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(project.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


STOPPED = (130, "CNN Notes set-up stopped; run it again.\n")


def test_set_up_stopped_early_leaves_no_venv(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    process = start(project)
    wait_for(project, ".venv/pyvenv.cfg")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert (code, err) == STOPPED
    assert not (project / ".venv").exists()


def test_set_up_stopped_late_leaves_no_venv_and_no_process(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path / "project")
    (project / "backend.py").write_text(
        "import pathlib, time\n"
        "pathlib.Path('begun').touch()\n"
        "time.sleep(2)\n"
        "pathlib.Path('.venv/late').mkdir(parents=True)\n"
    )
    process = start(project)
    wait_for(project, "begun")
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert (code, err) == STOPPED
    time.sleep(2.5)  # the backend, a child of pip, would write by now
    assert not (project / ".venv").exists()


def test_second_run_does_nothing_and_takes_under_a_second(
    made: Path,
) -> None:
    before = (made / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    times = []
    for _ in range(3):
        begin = time.monotonic()
        assert finish(start(made)) == (0, "", "")
        times.append(time.monotonic() - begin)
    assert min(times) < 1
    assert (made / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == before


def edit(name: str) -> Callable[[Path], object]:
    def append(project: Path) -> None:
        with (project / name).open("a") as handle:
            handle.write("# changed\n")

    return append


def break_python(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")


HARMS = {
    "changed requirements": edit("requirements.txt"),
    "changed pyproject": edit("pyproject.toml"),
    "no stamp": lambda project: (project / ".venv" / ".stamp").unlink(),
    "half a stamp": lambda project: os.truncate(project / ".venv/.stamp", 9),
    "Python gone": break_python,
    "moved": lambda project: project.rename(project.with_name("other")),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_stale_or_broken_venv_is_not_used(
    harm: Callable[[Path], object], project: Path
) -> None:
    harm(project)
    (now,) = project.parent.iterdir()
    assert not bootstrap_of(now).is_whole("")


def test_venv_of_another_python_is_used_unless_one_is_asked_for(
    made: Path,
) -> None:
    assert run_as((3, 9, 2), made, "--any-python") == (0, "")
    code, err = run_as((3, 9, 2), made)
    assert code == 1
    assert "this is 3.9.2" in err
    assert not bootstrap_of(made).is_whole("cpython-39")


def test_changed_requirements_are_set_up_anew_by_the_activated_venv(
    project: Path,
) -> None:
    """The Python that runs the set-up lies in the `.venv` it replaces."""
    left_over = project / ".venv" / "left-over"
    left_over.touch()
    python = project / ".venv" / "bin" / "python"
    edit("requirements.txt")(project)
    code, _, err = finish(start(project, python=python))
    assert (code, err) == (0, "")
    assert not left_over.exists()
    assert python.resolve().is_relative_to(sys.base_prefix)
    assert finish(start(project, python=python)) == (0, "", "")


def test_two_set_ups_at_once_make_one_venv(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    ends = [finish(p) for p in [start(project), start(project)]]
    assert [(code, err) for code, _, err in ends] == [(0, ""), (0, "")]
    outputs = sorted(out.split(" ", 1)[0] for _, out, _ in ends)
    assert outputs == ["Setting", "Waiting"]
