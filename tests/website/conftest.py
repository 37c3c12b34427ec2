"""The built site, a small project to break, and a real browser."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import browsing

ROOT = Path(__file__).parents[2]


def mkdocs(
    *arguments: str, folder: Path = ROOT, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run MkDocs as a user does, in a process of its own."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    if cache is not None:
        environment["CNN_NOTES_CACHE"] = str(cache)
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    )


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the real site, with whatever results are already known."""
    folder = tmp_path_factory.mktemp("built") / "site"
    built = mkdocs("build", "-q", "-d", str(folder))
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@dataclass
class Project:
    """A copy of the project with one short page, to be broken."""

    root: Path

    def page(self, text: str, language: str = "zh") -> None:
        path = self.root / "docs" / language / "index.md"
        path.write_text(text, "utf-8")

    def build(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return mkdocs("build", *arguments, folder=self.root)

    @property
    def built(self) -> Path:
        return self.root / "site"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    docs = root / "docs"
    for name in ("hooks", "theme", "assets"):
        shutil.copytree(
            ROOT / "docs" / name,
            docs / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "docs" / "terms.csv", docs)
    shutil.copy(ROOT / "mkdocs.yml", root / "base.yml")
    (root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md]\nextra: {block_seconds: 5}\n"
    )
    (root / "mkdocs.en.yml").write_text(
        "INHERIT: mkdocs.yml\ndocs_dir: docs/en\nsite_dir: site/en\n"
        "theme: {language: en}\nplugins: {search: {lang: en}}\n"
    )
    package = root / "snippets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text(
        "# --8<-- [start:value]\nVALUE = 1\n# --8<-- [end:value]\n"
    )
    (docs / "labs").mkdir()
    for language in ("zh", "en"):
        (docs / language).mkdir()
    made = Project(root)
    for language in ("zh", "en"):
        made.page("# 页 {#page}\n\n```python\nprint(6 * 7)\n```\n", language)
    return made


@dataclass
class Server:
    """A preview, as `mkdocs serve` gives it."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str = "") -> str:
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            text: str = answer.read().decode("utf-8")
            return text

    def wait(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something holds; fail with the log if it never does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text("utf-8")
            try:
                if holds():
                    return
            except OSError:
                pass
            time.sleep(0.1)
        pytest.fail(self.log.read_text("utf-8"))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], Server]]:
    """Start previews; end them with everything that they started."""
    running: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> Server:
        port = browsing.free_port()
        log = tmp_path / f"serve-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mkdocs",
                    "serve",
                    "-a",
                    f"127.0.0.1:{port}",
                ],
                cwd=folder,
                env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        running.append(process)
        return Server(f"http://127.0.0.1:{port}/", log, process)

    yield start
    for process in running:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def address(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Serve the built site from a folder below the root, as Pages does."""
    above = tmp_path_factory.mktemp("pages")
    (above / "cnn-notes").symlink_to(site, target_is_directory=True)
    with browsing.served(above) as start:
        yield f"{start}cnn-notes/"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start the Chromium of the machine; tests skip where there is none."""
    if browsing.find() is None:
        if os.environ.get("CI"):
            pytest.fail(browsing.MISSING)
        pytest.skip(browsing.MISSING)
    with browsing.chromium() as started:
        yield started
