"""Build the wheel that the site offers: same files, same bytes."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

# What the backend reads, beside the package itself.
FILES = ("pyproject.toml", "README.md", "LICENSE")

# Nothing in a zip file can be older; a wheel dated by commits would change
# although no file of it did.
EPOCH = "315532800"

_BUILD = (
    "import sys, setuptools.build_meta as backend; "
    "print(backend.build_wheel(sys.argv[1]))"
)


class WheelError(Exception):
    """A wheel that could not be built; the message is the backend's."""


class Wheel:
    """The package as it stands in the files, to be built or already kept.

    Its version carries a digest of the files: pip takes an installed package
    of the same version for the same package, and would never renew it.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        self.project: str = project["project"]["name"]
        self._files = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in _sources(root)
        }
        digest = _digest(self._files)
        self._tag = f"+h{digest[:8]}"
        self.version = project["project"]["version"] + self._tag
        name = self.project.replace("-", "_")
        self.file = f"{name}-{self.version}-py3-none-any.whl"
        builder = f"{platform.python_version()} {version('setuptools')}"
        key = hashlib.sha256(f"{builder} {digest}".encode())
        self._kept = folder / key.hexdigest() / self.file
        self._built: Future[None] | None = None

    def begin(self) -> None:
        """Build the wheel beside what else goes on, unless it is kept."""
        if not _is_whole(self._kept):
            pool = ThreadPoolExecutor(1)
            self._built = pool.submit(self._build)
            pool.shutdown(wait=False)

    def read(self) -> bytes:
        """Wait for the wheel and return it.

        Raises WheelError when it cannot be built.
        """
        if self._built is not None:
            self._built.result()
        return self._kept.read_bytes()

    def _build(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            for name, content in self._files.items():
                path = tree / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(0o644)
            (tree / "setup.cfg").write_text(
                f"[egg_info]\ntag_build = {self._tag}\n"
            )
            done = subprocess.run(
                [sys.executable, "-I", "-c", _BUILD, folder],
                cwd=tree,
                env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
                umask=0o022,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            if done.returncode:
                raise WheelError(f"the wheel was not built:\n{done.stderr}")
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            part = self._kept.with_suffix(f".{os.getpid()}.part")
            part.write_bytes((Path(folder) / self.file).read_bytes())
            part.replace(self._kept)


def _sources(root: Path) -> list[Path]:
    package = [
        path
        for path in (root / "snippets").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    ]
    return sorted([*(root / name for name in FILES), *package])


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
