"""What `pip install .` gives, and what requirements.txt pins."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = ("pyproject.toml", "README.md", "LICENSE", "snippets")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from what git would hand out, beside folders to leave out."""
    tree = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *FILES],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    decoys = ["docs/hooks/a.py", "tests/__init__.py", "tools/a.py", "a/b.py"]
    for name in listed.stdout.split("\n")[:-1] + decoys:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / name
        (tree / name).write_bytes(
            source.read_bytes() if source.exists() else b""
        )
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tree), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = tree.glob("*.whl")
    return path


def test_wheel_holds_snippets_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"snippets", f"cnn_notes-{PROJECT['version']}.dist-info"}
    sources = (ROOT / "snippets").rglob("*.py")
    assert {str(p.relative_to(ROOT)) for p in sources} <= names
    assert "snippets/py.typed" in names


def test_wheel_needs_numpy_alone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (info,) = tmp_path.glob("*.dist-info")
    needs = metadata.PathDistribution(info).requires or []
    always = [Requirement(text) for text in needs if "extra ==" not in text]
    assert [need.name for need in always] == ["numpy"]
    core = (tmp_path / "snippets" / "core").glob("*.py")
    names = sorted(f"snippets.core.{path.stem}" for path in core)
    assert names
    absent = ["torch", "torchvision", "matplotlib", "sklearn", "scipy"]
    code = (
        f"import importlib, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"sys.modules |= dict.fromkeys({absent})\n"
        f"for name in {names}: module = importlib.import_module(name)\n"
        f"assert module.__file__.startswith({str(tmp_path)!r})"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().split("\n")
    wanted = [Requirement(line) for line in lines if re.match(r"\w", line)]
    found = {canonicalize_name(pin.name): pin for pin in wanted}
    assert len(found) == len(wanted)
    return found


def needs_of(name: str, extras: set[str]) -> Iterator[Requirement]:
    if name == "cnn-notes":  # the file counts, not what was once installed
        texts = list(PROJECT["dependencies"])
        for extra in extras:
            texts += PROJECT["optional-dependencies"][extra]
    else:
        texts = metadata.requires(name) or []
    for text in texts:
        need = Requirement(text)
        if need.marker is None or any(
            need.marker.evaluate({"extra": extra}) for extra in extras | {""}
        ):
            yield need


def closure() -> dict[str, list[Requirement]]:
    """Return what the extra `test` needs here, directly or not."""
    found: dict[str, list[Requirement]] = {}
    seen = set()
    todo = [("cnn-notes", frozenset({"test"}))]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for need in needs_of(name, set(extras)):
            key = canonicalize_name(need.name)
            # Its CUDA builds pin these themselves; requirements.txt says so.
            if name == "torch" and key.startswith(("nvidia", "cuda", "triton")):
                continue
            todo.append((key, frozenset(need.extras)))
            if key != "cnn-notes":
                found.setdefault(key, []).append(need)
    return found


def test_requirements_pin_all_that_is_needed_and_nothing_else() -> None:
    here = {
        name
        for name, pin in pins().items()
        if pin.marker is None or pin.marker.evaluate()
    }
    assert here == set(closure())


def test_pins_are_exact_and_within_every_range() -> None:
    exact = {}
    for name, pin in pins().items():
        (spec,) = pin.specifier
        assert spec.operator == "=="
        exact[name] = spec.version
    wrong = [
        f"{need} but pinned {exact[name]}"
        for name, needs in closure().items()
        for need in needs
        if not need.specifier.contains(exact[name], prereleases=True)
    ]
    assert not wrong


def test_what_is_installed_is_what_is_pinned() -> None:
    here = {
        name: str(pin.specifier)[2:]
        for name, pin in pins().items()
        if pin.marker is None or pin.marker.evaluate()
    }
    # 2.13.0+cpu is 2.13.0.
    found = {name: metadata.version(name).split("+")[0] for name in here}
    assert found == here
