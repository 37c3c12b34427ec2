import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / "docs" / "hooks"

sys.path.insert(0, str(HOOKS))


@pytest.fixture(scope="session")
def repository():
    return ROOT


@pytest.fixture
def project(tmp_path):
    """A project whose package `snippets` holds what the test needs."""
    root = tmp_path / "project"
    _write(root / "snippets" / "__init__.py", "")
    return root


@pytest.fixture(scope="session")
def write():
    """Write a file, with the folders it stands in."""
    return _write


@pytest.fixture(scope="session")
def hooks_environment():
    """The environment of a process of its own that imports the hooks."""
    return os.environ | {"PYTHONPATH": str(HOOKS)}


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path
