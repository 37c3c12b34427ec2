import json
import subprocess
import sys
from textwrap import dedent

import nbformat
import pytest

from runner.lab import LabError, compose, main, read_lab, run_lab

pytestmark = pytest.mark.xdist_group("labs")

TINY = """\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] lang="zh"
# # 标题
#
# 公式 $x^2$。

# %% [markdown] lang="en"
# # Heading
#
# The formula $x^2$.

# %%
import sys
import time

from snippets.core import half

assert __name__ == "__main__"
print("〔开始｜start〕")
time.sleep(0.5)  # longer than the kernel keeps what was printed
print("| 〔大小｜size〕 |", half(6))
{str(n) for n in range(30)}

# %% [markdown] lang="zh"
# 画图。

# %% [markdown] lang="en"
# Draw.

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots()
ax.plot([1, 2], label="〔损失｜loss〕")
ax.set_title("〔训练｜training〕")
ax.legend()
plt.show()
print("〔画完｜drawn〕", half(9))
"""


@pytest.fixture
def lab(project, write):
    """Write a lab into a project with one snippet, and read it."""
    write(project / "snippets" / "core.py", "def half(x):\n    return x / 2\n")

    def lab(text, name="tiny"):
        path = project / "docs" / "labs" / f"{name}.py"
        return read_lab(write(path, text))

    return lab


# Reading


def test_prose_has_a_language_and_code_is_shared(lab):
    read = lab(TINY)
    assert read.name == "tiny"
    assert [cell.language for cell in read.cells] == (
        ["zh", "en", "", "zh", "en", ""]
    )
    assert read.cells[0].source == "# 标题\n\n公式 $x^2$。"
    assert [cell.source.split("\n")[0] for cell in read.code] == (
        ["import sys", "import matplotlib.pyplot as plt"]
    )


def test_each_cell_knows_its_first_line(lab):
    lines = TINY.split("\n")
    for cell in lab(TINY).cells:
        assert cell.source.split("\n")[0] in lines[cell.line - 1]


@pytest.mark.parametrize(
    ("attribute", "told"),
    [("", 'lang=""'), (' lang="fr"', 'lang="fr"'), (' lang="ZH"', 'lang="ZH"')],
)
def test_prose_without_a_language_is_named_with_its_line(lab, attribute, told):
    text = f"# %%\nx = 1\n\n# %% [markdown]{attribute}\n# text\n"
    with pytest.raises(LabError, match=rf"tiny\.py:4: .*not {told}"):
        lab(text)


@pytest.mark.parametrize("text", ["x = 1\n", "# text\n\n# %%\nx = 1\n"])
def test_what_stands_before_the_first_border_is_an_error(lab, text):
    with pytest.raises(LabError, match=r"tiny\.py:1: "):
        lab(text)


# Key

CODE = '# %% [markdown] lang="zh"\n# 文\n# %%\nx = 1\n# %%\nprint(x)\n'


@pytest.mark.parametrize(
    "same",
    [
        CODE.replace("文", "另一段文字"),
        CODE.replace("print(x)", "print( x )  # comment"),
        CODE + '# %% [markdown] lang="en"\n# more\n',
        CODE.replace("x = 1\n", "# why\n\nx = 1\n"),
    ],
)
def test_prose_and_comments_do_not_change_the_key(lab, project, same):
    assert lab(CODE).key(project) == lab(same).key(project)


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("x = 1", "x = 2"),
        CODE.replace("x = 1\n# %%\n", "x = 1\n"),
        CODE.replace("x = 1\n", "x = 1\n# %%\n"),
        CODE + "# %%\nx\n",
        CODE.replace("x = 1\n", "import snippets.core\nx = 1\n"),
    ],
)
def test_code_and_the_borders_of_its_cells_change_the_key(lab, project, other):
    assert lab(CODE).key(project) != lab(other).key(project)


def test_a_snippet_that_the_lab_uses_changes_the_key(lab, project, write):
    read = lab(TINY)
    before = read.key(project)
    write(project / "snippets" / "other.py", "x = 1\n")
    assert read.key(project) == before
    write(project / "snippets" / "core.py", "def half(x):\n    return x\n")
    assert read.key(project) != before


# Running


@pytest.fixture(scope="module")
def done(tmp_path_factory, write):
    """Run the tiny lab once, for all tests that look at what it gave."""
    root = tmp_path_factory.mktemp("labs")
    write(root / "snippets" / "__init__.py", "")
    write(root / "snippets" / "core.py", "def half(x):\n    return x / 2\n")
    read = read_lab(write(root / "docs" / "labs" / "tiny.py", TINY))
    return read, root, run_lab(read, root)


@pytest.fixture(scope="module", params=["zh", "en"])
def composed(request, done):
    read, _, outputs = done
    return request.param, compose(read, outputs, request.param)


def test_the_notebook_is_valid_and_holds_one_language(composed):
    language, text = composed
    notebook = nbformat.reads(text, 4)
    nbformat.validate(notebook)
    prose = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    assert (
        prose
        == {
            "zh": ["# 标题\n\n公式 $x^2$。", "画图。"],
            "en": ["# Heading\n\nThe formula $x^2$.", "Draw."],
        }[language]
    )
    code = [c.source for c in notebook.cells if c.cell_type == "code"]
    assert [source.split("\n")[0] for source in code] == (
        ["import sys", "import matplotlib.pyplot as plt"]
    )
    for mark in ("〔", "｜", "〕"):
        assert mark not in text


def test_what_is_printed_in_a_row_is_one_output(composed):
    language, text = composed
    first, _ = code_cells(text)
    printed, value = first["outputs"]
    assert printed["output_type"] == "stream"
    assert (
        printed["text"]
        == {
            "zh": "开始\n| 大小 | 3.0\n",
            "en": "start\n| size | 3.0\n",
        }[language]
    )
    assert value["output_type"] == "execute_result"


def test_a_figure_is_drawn_once_in_the_language_of_the_notebook(composed):
    language, text = composed
    _, second = code_cells(text)
    drawings = [o for o in second["outputs"] if o["output_type"] != "stream"]
    [drawing] = drawings
    assert list(drawing["data"]) == ["image/svg+xml"]
    svg = drawing["data"]["image/svg+xml"]
    words = {"zh": ("训练", "损失"), "en": ("training", "loss")}
    other = {"zh": "en", "en": "zh"}[language]
    assert f'aria-label="{words[language][0]}"' in svg
    assert all(word in svg for word in words[language])
    assert not any(word in svg for word in words[other])
    assert svg.startswith("<svg")


def code_cells(text):
    cells = json.loads(text)["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_nothing_random_stands_in_the_notebook(composed):
    _, text = composed
    cells = json.loads(text)["cells"]
    assert [cell["id"] for cell in cells] == [f"cell-{n}" for n in range(4)]
    for cell in code_cells(text):
        assert cell["execution_count"] is None
        for output in cell["outputs"]:
            assert output.get("execution_count") is None
            assert not {"transient", "display_id"} & set(output)
            assert set(output.get("metadata", {})) <= {"narrow"}


def test_running_leaves_the_project_as_it_was(done):
    _, root, _ = done
    files = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {
        "snippets/__init__.py",
        "snippets/core.py",
        "docs/labs/tiny.py",
    }


def test_without_outputs_the_notebook_is_that_of_before_the_run(lab):
    read = lab(TINY)
    notebook = nbformat.reads(compose(read, None, "en"), 4)
    nbformat.validate(notebook)
    assert [c.outputs for c in notebook.cells if c.cell_type == "code"] == (
        [[], []]
    )


@pytest.fixture
def fail(lab, project):
    """Run a lab of these cells and return why it failed."""

    def fail(*cells, seconds=60):
        text = "".join(f"# %%\n{dedent(cell).strip()}\n\n" for cell in cells)
        with pytest.raises(LabError) as caught:
            run_lab(lab(text), project, seconds=seconds)
        return str(caught.value)

    return fail


def test_an_error_is_named_with_file_and_line_of_its_cell(fail):
    error = fail("x = 1", "y = 2\nprint(x / 0)", "print('never')")
    assert error.startswith("docs/labs/tiny.py:5: ")
    assert "ZeroDivisionError: division by zero" in error
    assert "print(x / 0)" in error
    assert "\x1b" not in error


def test_a_warning_is_named_even_if_a_later_cell_raises(fail):
    error = fail("x = 1", "import warnings\nwarnings.warn('careful')", "1 / 0")
    assert error.startswith("docs/labs/tiny.py:5: ")
    assert "UserWarning: careful" in error
    assert "ZeroDivisionError" not in error


def test_a_figure_without_title_is_named(fail):
    error = fail("x = 1", "import matplotlib.pyplot as plt\nplt.plot([1]);")
    assert error.startswith("docs/labs/tiny.py:5: ")
    assert "has no title" in error


def test_a_cell_that_never_ends_is_stopped(fail):
    error = fail("x = 1", "while True: pass", seconds=5)
    assert error == ("docs/labs/tiny.py:5: the cell ran longer than 5 seconds")


def test_a_cell_that_kills_its_kernel_is_named(fail):
    error = fail("x = 1", "import os\nos._exit(1)", "y = 2")
    assert error == "docs/labs/tiny.py:5: the cell killed its process"


# The command


@pytest.fixture
def command(store, hooks_environment):
    """Run a lab as the build does, in a process of its own."""

    def command(read, root):
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "runner.lab",
                str(read.path),
                str(store.folder),
                str(root),
            ],
            env=hooks_environment | {"PYTHONHASHSEED": "1"},
            capture_output=True,
            text=True,
        )

    return command


def test_the_command_stores_what_any_other_run_gave(done, store, command):
    read, root, outputs = done
    ran = command(read, root)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert store.get(read.key(root)) == outputs
    for language in ("zh", "en"):
        stored = compose(read, store.get(read.key(root)), language)
        assert stored == compose(read, outputs, language)


def test_the_command_stores_nothing_of_a_lab_that_changed_as_it_ran(
    lab, project, store, command
):
    core = project / "snippets" / "core.py"
    read = lab(
        "# %%\nfrom pathlib import Path\n\nfrom snippets.core import half\n\n"
        f"Path({str(core)!r}).write_text('half = None')\n"
    )
    before = read.key(project)
    ran = command(read, project)
    assert ran.returncode == 1
    assert "changed as it ran" in ran.stderr
    assert store.get(before) is None
    assert store.get(read.key(project)) is None


def test_the_command_says_why_it_failed_and_stores_nothing(
    project, write, store, capsys
):
    path = project / "docs" / "labs" / "tiny.py"
    write(path, "# %% [markdown]\n# text\n")
    assert main([str(path), str(store.folder), str(project)]) == 1
    assert "tiny.py:1: a Markdown cell needs" in capsys.readouterr().err
    assert not store.folder.exists()
