"""What a page says to install runs what stands on it, away from here."""

import ast
import html
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Project, Server
from .test_pages import EN, PAGES, ZH, fences

pytestmark = pytest.mark.xdist_group("site")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINE = re.compile(r'<div class="install".*?data-clipboard-text="([^"]*)"')

# Runs blocks given as JSON, each as a reader would, and tells where their
# package came from.
RUNNER = """
import json, sys, warnings
import matplotlib.pyplot as plt
import snippets

warnings.simplefilter("error")
for place, source in json.load(sys.stdin):
    try:
        exec(compile(source, place, "exec"), {"__name__": "__main__"})
    except BaseException as error:
        raise SystemExit(f"{place}: {error!r}")
    plt.close("all")
print(snippets.__file__)
"""


def line(page: str) -> str:
    """Return what a page says to run; empty where it says nothing."""
    found = LINE.search(page)
    return html.unescape(found[1]) if found else ""


def imports(path: Path) -> str:
    """Return the imports of a lab, which is too long to be run here."""
    tree = ast.parse(path.read_text("utf-8"))
    kept = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return ast.unparse(ast.Module(kept, []))


def everything() -> list[tuple[str, str]]:
    """Give place and source of every block, and the imports of every lab."""
    found = [
        (f"{folder.name}/{page} block {number}", code)
        for folder in (ZH, EN)
        for page in PAGES
        for number, (_, code) in enumerate(
            fences((folder / page).read_text("utf-8"), "python"), 1
        )
    ]
    labs = sorted((ROOT / "docs" / "labs").glob("*.py"))
    return found + [(path.name, imports(path)) for path in labs]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Make an environment that has NumPy and all, but not this project."""
    folder = tmp_path / "fresh"
    venv.create(folder, symlinks=os.name != "nt")
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    # A path in a .pth file is searched, its own .pth files are not read: so
    # the libraries are there, and the checkout is not.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return Path(sysconfig.get_path("scripts", "venv", paths)) / "python"


def test_a_fresh_environment_runs_every_block_of_the_preview(
    serve: Callable[[Path], Server], python: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    settings: dict[str, object] = {
        "cwd": empty,
        "env": {
            "PATH": os.environ["PATH"],
            "MPLBACKEND": "agg",
            "MPLCONFIGDIR": str(tmp_path),
            "OMP_NUM_THREADS": "1",
        },
        "text": True,
        "encoding": "utf-8",
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    server = serve(ROOT)
    # Without a cache the preview first runs the blocks itself.
    server.wait(lambda: line(server.get("networks/lenet/")) != "", 600)
    command = shlex.split(line(server.get("networks/lenet/")))
    assert command[:2] == ["pip", "install"]
    assert f" @ {server.url}cnn_notes-" in command[2]
    assert server.get("en/networks/lenet/").count(server.url) > 1
    installed = subprocess.run(
        [python, "-m", *command, "--no-index", "-q"], **settings
    )
    assert installed.returncode == 0, installed.stderr

    blocks = everything()
    assert len(blocks) > 50
    halves = [blocks[::2], blocks[1::2]]
    running = [
        subprocess.Popen(
            [python, "-I", "-c", RUNNER], stdin=subprocess.PIPE, **settings
        )
        for _ in halves
    ]
    ends = [
        process.communicate(json.dumps(half), timeout=300)
        for process, half in zip(running, halves, strict=True)
    ]
    for process, (told, complaint) in zip(running, ends, strict=True):
        assert process.returncode == 0, complaint
        package = Path(told.splitlines()[-1])
        assert package.is_relative_to(python.parent.parent)


def test_the_line_has_the_address_of_the_site_and_stands_where_code_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_URL", "https://example.org/notes")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (project.root / name).write_bytes((ROOT / name).read_bytes())
    for language in ("zh", "en"):
        plain = project.root / "docs" / language / "plain.md"
        plain.write_text("# 字 {#words}\n\n`x`\n", "utf-8")
    (project.root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md, plain.md]\n"
    )
    before = sorted(project.root.iterdir())
    built = project.build()
    assert built.returncode == 0, built.stderr
    made = set(project.root.iterdir()) - set(before)
    assert {path.name for path in made} - {".cache"} == {"site"}
    assert not list((project.root / "snippets").glob("*.egg-info"))
    (wheel,) = project.built.rglob("*.whl")
    assert wheel.parent == project.built
    expected = (
        'pip install "cnn-notes[pages] @ '
        f'https://example.org/notes/{wheel.name}"'
    )
    said = []
    for folder in (project.built, project.built / "en"):
        page = (folder / "index.html").read_text("utf-8")
        assert line(page) == expected
        assert page.index("</h1>") < page.index('class="install"')
        assert page.index('class="install"') < page.index('class="block"')
        said += re.findall(r"<div class=\"install\"[^>]*>([^<]*)<", page)
        assert line((folder / "plain" / "index.html").read_text("utf-8")) == ""
        index = (folder / "search" / "search_index.json").read_text("utf-8")
        assert "pip install" not in index
    assert said == ["运行本页代码：", "To run this page’s code: "]


def test_the_extra_covers_what_the_blocks_import() -> None:
    """Or the line would install too little where nothing is installed yet."""
    names = {
        name.split(".")[0]
        for _, code in everything()
        for node in ast.walk(ast.parse(code))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["torch"], *extras["plots"]]
    wanted += [name for name in extras["pages"] if "cnn-notes" not in name]
    covered = {re.split("[^a-z-]", name)[0] for name in wanted} | {"snippets"}
    names = {"scikit-learn" if n == "sklearn" else n for n in names}
    assert names - set(sys.stdlib_module_names) <= covered
