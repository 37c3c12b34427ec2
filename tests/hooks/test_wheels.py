import os
import zipfile

import pytest

from wheels import Wheel, WheelError

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "some-notes"
version = "1.2"
license-files = ["LICENSE"]
readme = "README.md"
[tool.setuptools.packages.find]
include = ["snippets*"]
[tool.setuptools.package-data]
snippets = ["py.typed"]
"""


@pytest.fixture
def sources(write, tmp_path):
    """Write the files of a package; return their folder."""

    def sources(name, value="1"):
        root = tmp_path / name
        write(root / "pyproject.toml", PYPROJECT)
        write(root / "README.md", "# 笔记\n")
        write(root / "LICENSE", "free\n")
        write(root / "docs" / "hooks" / "other.py", "")
        write(root / "snippets" / "__init__.py", "")
        write(root / "snippets" / "py.typed", "")
        write(root / "snippets" / "core" / "__init__.py", "")
        write(root / "snippets" / "core" / "one.py", f"VALUE = {value}\n")
        return root

    return sources


def build(root, folder):
    wheel = Wheel(root, folder)
    wheel.begin()
    return wheel, wheel.read()


def test_the_wheel_holds_the_package_under_a_version_of_its_own(
    sources, tmp_path
):
    wheel, data = build(sources("a"), tmp_path / "kept")
    path = tmp_path / wheel.file
    path.write_bytes(data)
    file = zipfile.ZipFile(path)
    info = f"some_notes-{wheel.version}.dist-info"
    assert wheel.version.startswith("1.2+h")
    assert wheel.file == f"some_notes-{wheel.version}-py3-none-any.whl"
    assert {name for name in file.namelist() if info not in name} == {
        "snippets/__init__.py",
        "snippets/py.typed",
        "snippets/core/__init__.py",
        "snippets/core/one.py",
    }
    metadata = file.read(f"{info}/METADATA").decode("utf-8")
    assert f"Version: {wheel.version}\n" in metadata
    assert "# 笔记" in metadata


def test_same_files_give_the_same_bytes_wherever_and_whenever(
    sources, tmp_path
):
    first, data = build(sources("a"), tmp_path / "one")
    other = sources("b")
    for path in other.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1, 10**9))
    before = os.umask(0o077)
    try:
        second, again = build(other, tmp_path / "two")
    finally:
        os.umask(before)
    assert first.file == second.file
    assert data == again


def test_another_file_gives_another_version(sources, tmp_path):
    first, _ = build(sources("a"), tmp_path)
    second, _ = build(sources("b", "2"), tmp_path)
    assert first.version != second.version


def test_the_sources_are_left_as_they_were(sources, tmp_path):
    root = sources("a")

    def seen():
        return {(path, path.stat().st_mtime_ns) for path in root.rglob("*")}

    before = seen()
    build(root, tmp_path / "kept")
    assert seen() == before


def test_a_wheel_is_kept_and_a_damaged_one_built_again(
    sources, tmp_path, monkeypatch
):
    root, folder = sources("a"), tmp_path / "kept"
    _, data = build(root, folder)
    (kept,) = folder.rglob("*.whl")
    with monkeypatch.context() as patched:
        patched.setattr(Wheel, "_build", None)
        assert build(root, folder)[1] == data
    kept.write_bytes(data[:-99])
    assert build(root, folder)[1] == data
    assert [path.name for path in folder.rglob("*.part")] == []


def test_a_wheel_that_cannot_be_built_says_why(sources, tmp_path, write):
    root = sources("a")
    text = PYPROJECT.replace('["LICENSE"]', "7")
    write(root / "pyproject.toml", text)
    wheel = Wheel(root, tmp_path / "kept")
    wheel.begin()
    with pytest.raises(WheelError, match="license-files"):
        wheel.read()
    assert not list((tmp_path / "kept").rglob("*.whl"))
