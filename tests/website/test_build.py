"""One command builds both languages, the same each time, or fails clearly."""

import filecmp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Project, mkdocs

pytestmark = pytest.mark.xdist_group("site")


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_both_languages_have_the_same_pages(site: Path) -> None:
    pages = {name for name in files(site) if name.endswith("index.html")}
    english = {n.removeprefix("en/") for n in pages if n.startswith("en/")}
    assert "networks/lenet/index.html" in english
    assert pages - {f"en/{name}" for name in english} == english


def test_a_build_from_clean_gives_the_same_bytes(
    site: Path, tmp_path: Path
) -> None:
    again = tmp_path / "site"
    built = mkdocs("build", "-q", "-d", str(again), cache=tmp_path / "cache")
    assert built.returncode == 0, built.stdout + built.stderr
    assert files(again) == files(site)
    different = [
        name
        for name in sorted(files(site))
        if not filecmp.cmp(site / name, again / name, shallow=False)
    ]
    assert different == []


FAILURES = {
    "raises": ("```python\nprint(1)\n1 / 0\n```", 4, "ZeroDivisionError"),
    "warns": (
        "```python\nimport warnings\nwarnings.warn('old')\n```",
        3,
        "UserWarning: old",
    ),
    "hangs": (
        "```python\nwhile True:\n    pass\n```",
        3,
        "longer than 5 seconds",
    ),
    "kills its process": (
        "```python\nimport os\nos._exit(7)\n```",
        3,
        "killed its process (exit 7)",
    ),
    "formula": ("$$\n\\frac{1\n$$", 3, "\\frac{1"),
    "no such file": (
        '```python title="x"\n--8<-- "snippets/two.py"\n```',
        3,
        "snippets/two.py: there is no such file",
    ),
    "no such region": (
        '```python title="x"\n--8<-- "snippets/one.py:other"\n```',
        3,
        "snippets/one.py:other: the file has no such region",
    ),
    "fence": ("```python\nprint(1)", 2, "never closed"),
    "explorer": (
        "//// explorer | conf\nA figure.\n////",
        2,
        "`explorer | conf`: the explorers there are: conv",
    ),
}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_failure_is_named_with_page_and_line(
    project: Project, language: str
) -> None:
    """All failures of all pages are told at once, and none is built."""
    folder = project.root / "docs" / language
    for name, (text, _, _) in FAILURES.items():
        page = folder / f"{name.replace(' ', '-')}.md"
        page.write_text(f"# {name}\n{text}\n", "utf-8")
    built = project.build()
    assert built.returncode != 0
    for name, (_, at, message) in FAILURES.items():
        path = f"docs/{language}/{name.replace(' ', '-')}.md"
        if name == "raises":
            assert f'File "{path}", line {at}' in built.stderr
        else:
            assert f"{path}:{at}: " in built.stderr, (name, built.stderr)
        assert message in built.stderr, name
    assert not project.built.exists()


def test_a_failed_build_leaves_the_old_site(project: Project) -> None:
    assert project.build().returncode == 0
    before = files(project.built)
    project.page("# 页\n\n```python\n1 / 0\n```\n", "en")
    assert project.build().returncode != 0
    assert files(project.built) == before
    assert [p.name for p in project.root.glob(".site*")] == []


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_bad_link_fails_the_build(project: Project, language: str) -> None:
    project.page("# 页\n\n[x](nowhere.md) [y](#nowhere)\n", language)
    built = project.build()
    assert built.returncode != 0
    assert "nowhere.md" in built.stderr
    assert "#nowhere" in built.stderr
    assert not project.built.exists()
    assert [p.name for p in project.root.glob(".site*")] == []


def test_a_lab_that_fails_is_named(project: Project) -> None:
    lab = project.root / "docs" / "labs" / "bad.py"
    lab.write_text('# %% [markdown] lang="zh"\n# # 坏\n# %%\n1 / 0\n', "utf-8")
    (project.root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md, labs/bad.ipynb]\n"
    )
    built = project.build()
    assert built.returncode != 0
    assert "docs/labs/bad.py:4" in built.stderr
    assert "ZeroDivisionError" in built.stderr


def test_an_edited_snippet_runs_again_only_what_uses_it(
    project: Project,
) -> None:
    seen = project.root / "seen.txt"
    note = f"open({str(seen)!r}, 'a').write"
    uses = f"from snippets.one import VALUE\n{note}('uses ')\nprint(VALUE)"
    plain = f"{note}('plain ')\nprint('no snippet')"
    project.page(f"# 页\n\n```python\n{uses}\n```\n\n```python\n{plain}\n```\n")
    assert project.build().returncode == 0
    assert sorted(seen.read_text().split()) == ["plain", "uses"]
    assert project.build().returncode == 0
    assert sorted(seen.read_text().split()) == ["plain", "uses"]
    (project.root / "snippets" / "one.py").write_text("VALUE = 22\n")
    assert project.build().returncode == 0
    assert sorted(seen.read_text().split()) == ["plain", "uses", "uses"]
    assert "22" in (project.built / "index.html").read_text("utf-8")


def test_a_truncated_cache_entry_is_run_again(project: Project) -> None:
    assert project.build().returncode == 0
    page = (project.built / "index.html").read_text("utf-8")
    entries = list((project.root / ".cache" / "blocks").glob("*.json"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-9])
    assert project.build().returncode == 0
    assert (project.built / "index.html").read_text("utf-8") == page


def test_a_killed_build_leaves_a_good_cache(project: Project) -> None:
    blocks = "\n".join(
        f"```python\nimport time\ntime.sleep(0.3)\nprint('block {n}')\n```\n"
        for n in range(30)
    )
    project.page(f"# 页\n\n{blocks}")
    cache = project.root / ".cache" / "blocks"
    process = subprocess.Popen(
        [sys.executable, "-m", "mkdocs", "build", "-q"],
        cwd=project.root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while len(list(cache.glob("*.json"))) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    known = {entry.name for entry in cache.glob("*.json")}
    assert 5 <= len(known) < 30
    assert project.build().returncode == 0
    page = (project.built / "index.html").read_text("utf-8")
    assert all(f"block {n}" in page for n in range(30))
    assert not list(cache.glob("*.part")) or known <= {
        entry.name for entry in cache.glob("*.json")
    }
