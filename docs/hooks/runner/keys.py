"""Name a result by everything that it depends on."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path

# The names that libraries are imported by, and those they are installed by.
LIBRARIES = {
    "numpy": "numpy",
    "torch": "torch",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
}


def key(source: str, root: Path, *, package: str = "snippets") -> str:
    """Digest what decides the output of a piece of code.

    That is its syntax tree (so neither comments nor blank lines), every
    module of `package` under `root` that it imports, directly or not, the
    versions of Python and of the libraries, and the runner's own files.

    Raises SyntaxError when the source cannot be parsed.
    """
    parts = {
        "tree": ast.dump(ast.parse(source)),
        "modules": {
            str(path.relative_to(root)): _digest(path)
            for path in imported_files(source, root, package=package)
        },
        "versions": versions(),
        "runner": _own_digest(),
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def imported_files(
    source: str, root: Path, *, package: str = "snippets"
) -> list[Path]:
    """List the files of `package` that running `source` loads, sorted."""
    found: set[Path] = set()
    waiting = list(_imports(source, "", package))
    while waiting:
        for path in _files(waiting.pop(), root):
            if path in found:
                continue
            found.add(path)
            inside = path.relative_to(root).with_suffix("").parts
            parent = ".".join(inside[:-1])
            waiting += _imports(path.read_text("utf-8"), parent, package)
    return sorted(found)


def library_modules(
    source: str, root: Path, *, package: str = "snippets"
) -> set[str]:
    """Name the modules of libraries that running `source` loads.

    Raises SyntaxError when the source, or a file of `package` that it
    imports, cannot be parsed.
    """
    files = imported_files(source, root, package=package)
    found: set[str] = set()
    for text in (source, *(path.read_text("utf-8") for path in files)):
        found |= _library_modules(text)
    return found


@functools.lru_cache(maxsize=4096)
def _library_modules(source: str) -> frozenset[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return frozenset(n for n in names if n.split(".")[0] in LIBRARIES)


@functools.cache
def versions() -> dict[str, str]:
    """Give the versions of Python and of the libraries that are installed."""
    found = {"python": sys.version.split()[0]}
    for library in LIBRARIES.values():
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "absent"
    return found


# Every block asks anew about the same few files.
@functools.lru_cache(maxsize=4096)
def _imports(source: str, parent: str, package: str) -> tuple[str, ...]:
    """Give the dotted names that may be modules of the package."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = parent.split(".")
                kept = above[: len(above) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [
            name
            for name in names
            if name == package or name.startswith(f"{package}.")
        ]
    return tuple(found)


def _files(name: str, root: Path) -> Iterator[Path]:
    """Give the files that importing a dotted name loads, packages first."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:end])
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                yield path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _own_digest() -> str:
    own = Path(__file__).parent
    files = [*own.glob("*.py"), *own.glob("*.mplstyle")]
    return hashlib.sha256(
        "".join(map(_digest, sorted(files))).encode()
    ).hexdigest()
