"""`mkdocs serve` shows both languages, survives errors, waits for no lab."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Project, Server

pytestmark = pytest.mark.xdist_group("site")

Serve = Callable[[Path], Server]


def text(page: str) -> str:
    """Drop the tags that highlighting puts between words."""
    return re.sub(r"<[^>]*>", "", page)


def test_a_preview_survives_every_failure_and_shows_it(
    project: Project, serve: Serve
) -> None:
    server = serve(project.root)
    server.wait(lambda: "42" in server.get())
    assert "42" in server.get("en/")

    project.page("# 页\n\n```python\n1 / 0\n```\n", "en")
    server.wait(lambda: "ZeroDivisionError" in server.get("en/"))
    assert 'class="failure"' in server.get("en/")

    project.page("# 页\n\n$$\n\\frac{1\n$$\n", "en")
    server.wait(lambda: 'class="formula failed"' in server.get("en/"))

    project.page('# 页\n\n```python title="x"\n--8<-- "snippets/no.py"\n```\n')
    server.wait(lambda: "there is no such file" in text(server.get()))

    project.page("# 页\n\n```python\nimport os\nos._exit(1)\n```\n")
    server.wait(lambda: "killed its process" in server.get())

    project.page("# 页\n\n```python\nprint('well again')\n```\n")
    server.wait(lambda: "well again" in server.get())


def test_a_preview_starts_although_a_page_is_broken(
    project: Project, serve: Serve
) -> None:
    project.page("# 页\n\n```python\n1 / 0\n```\n\n[x](no.md)\n")
    server = serve(project.root)
    server.wait(lambda: "ZeroDivisionError" in server.get())


def test_a_lab_runs_beside_the_preview(project: Project, serve: Serve) -> None:
    lab = project.root / "docs" / "labs" / "slow.py"
    go = project.root / "go"
    lab.write_text(
        '# %% [markdown] lang="zh"\n# # 慢 {#slow}\n'
        '# %% [markdown] lang="en"\n# # Slow {#slow}\n'
        f"# %%\nimport os, time\nwhile not os.path.exists({str(go)!r}):\n"
        "    time.sleep(0.1)\nprint('〔算完了｜all done〕')\n",
        "utf-8",
    )
    (project.root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md, labs/slow.ipynb]\n"
    )
    server = serve(project.root)
    server.wait(lambda: "lab-running" in server.get("labs/slow/"))
    assert "lab-running" in server.get("en/labs/slow/")
    assert 'class="printed"' not in server.get("labs/slow/")
    epoch = server.get("labs/slow/").split("livereload(")[1].split(",")[0]
    go.touch()
    server.wait(lambda: "lab-running" not in server.get("labs/slow/"))
    assert '<pre class="printed">算完了</pre>' in server.get("labs/slow/")
    assert '<pre class="printed">all done</pre>' in server.get("en/labs/slow/")
    # The page's own poller learns that there is something newer.
    assert float(server.get(f"livereload/{epoch}/0")) > float(epoch)


# Holds a preview between its first build and its first look for changes.
LATE = """
import time
from pathlib import Path

def on_serve(server, config, builder):
    folder = Path(config.config_file_path).parent
    page = Path(config.site_dir) / "labs" / "late" / "index.html"
    assert "lab-running" in page.read_text("utf-8")
    (folder / "go").touch()
    while not (folder / ".cache" / "signal" / "labs").exists():
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("ending", "expected"),
    [("print('all done')", ">all done<"), ("1 / 0", "ZeroDivisionError")],
    ids=["well", "badly"],
)
def test_a_lab_that_ends_before_anybody_watches_is_shown(
    project: Project, serve: Serve, ending: str, expected: str
) -> None:
    root = project.root
    (root / "docs" / "labs" / "late.py").write_text(
        '# %% [markdown] lang="zh"\n# # 晚\n'
        '# %% [markdown] lang="en"\n# # Late\n'
        f"# %%\nimport os, time\nwhile not os.path.exists({str(root / 'go')!r}):\n"
        f"    time.sleep(0.05)\n{ending}\n",
        "utf-8",
    )
    (root / "late.py").write_text(LATE)
    hooks = re.findall(r"docs/hooks/\w+\.py", (root / "base.yml").read_text())
    (root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md, labs/late.ipynb]\n"
        f"hooks: [{', '.join(hooks)}, late.py]\n"
    )
    server = serve(root)
    server.wait(lambda: expected in server.get("labs/late/"))
    assert expected in server.get("en/labs/late/")


def test_a_lab_that_fails_shows_why_in_the_preview(
    project: Project, serve: Serve
) -> None:
    lab = project.root / "docs" / "labs" / "bad.py"
    lab.write_text('# %% [markdown] lang="zh"\n# # 坏\n# %%\n1 / 0\n', "utf-8")
    (project.root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md, labs/bad.ipynb]\n"
    )
    server = serve(project.root)
    server.wait(lambda: "ZeroDivisionError" in server.get("labs/bad/"))
    assert "docs/labs/bad.py:4" in server.get("labs/bad/")
