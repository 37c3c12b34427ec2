import pytest

from runner import keys
from runner.keys import imported_files, key, library_modules

BASE = 'import numpy as np\n\nx = np.ones(3)\nprint("sum", x.sum())\n'


@pytest.mark.parametrize(
    "same",
    [
        "# what this does\n" + BASE,
        BASE.replace("\n\n", "\n\n\n\n"),
        BASE.replace("ones(3)", "ones( 3 )  # three"),
        BASE.replace('"', "'"),
        BASE.replace('"sum"', '"""sum"""'),
        BASE.rstrip("\n"),
        BASE.replace("ones(3)", "ones(\n    3,\n)"),
    ],
)
def test_what_python_does_not_see_does_not_count(project, same):
    assert key(same, project) == key(BASE, project)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("sum", "Sum"),
        BASE.replace("3", "4"),
        BASE.replace("3", "3.0"),
        BASE.replace("as np", "as xp").replace("np.", "xp."),
        "import math\n" + BASE,
        BASE + "x\n",
        BASE.replace('"sum"', 'b"sum"'),
        "if True:\n    " + BASE.replace("\n", "\n    ") + "pass\n",
    ],
)
def test_everything_else_does(project, other):
    assert key(other, project) != key(BASE, project)


def test_the_key_is_a_name_for_a_file_and_always_the_same(project):
    name = key(BASE, project)
    assert name == key(BASE, project)
    assert len(name) == 64
    assert name.isalnum()


def test_the_place_of_the_project_does_not_count(tmp_path, write):
    for each in ("a", "b"):
        write(tmp_path / each / "snippets" / "m.py", "x = 1\n")
    block = "from snippets.m import x\n"
    assert key(block, tmp_path / "a") == key(block, tmp_path / "b")


def test_a_syntax_error_is_raised(project):
    with pytest.raises(SyntaxError):
        key("def f(:\n", project)


def test_a_syntax_error_in_an_imported_snippet_is_raised(project, write):
    write(project / "snippets" / "bad.py", "def f(:\n")
    with pytest.raises(SyntaxError):
        key("import snippets.bad\n", project)


@pytest.fixture
def tree(project, write):
    """Packages that import each other in every way Python has."""
    for path, text in {
        "__init__": "",
        "alone": "x = 1\n",
        "core/__init__": "from . import shared\n",
        "core/shared": "x = 1\n",
        "core/conv": "from .shared import x\n",
        "core/far": "from ..nets.base import x\n",
        "nets/__init__": "",
        "nets/base": "x = 1\n",
        "nets/deep": "from .base import x\n",
        "nets/deeper": "from . import deep\nx = deep.x\n",
        "nets/late": "def f():\n    import snippets.nets.deep as d\n    d.x\n",
        "nets/loop_a": "import snippets.nets.loop_b\nx = 1\n",
        "nets/loop_b": "import snippets.nets.loop_a\nx = 1\n",
        "nets/sub/__init__": "",
        "nets/sub/leaf": "from ..base import x\nfrom ...alone import x as y\n",
    }.items():
        write(project / "snippets" / f"{path}.py", text)
    return project


USES = {
    "x = 1\n": set(),
    "import numpy\nfrom numpy import linalg\n": set(),
    "from snippets.alone import x\n": {"__init__", "alone"},
    "from snippets import alone\n": {"__init__", "alone"},
    "import snippets.alone\n": {"__init__", "alone"},
    "import snippets.alone as a\n": {"__init__", "alone"},
    "import snippets\n": {"__init__"},
    "from snippets import *\n": {"__init__"},
    "def f():\n    from snippets.alone import x\n": {"__init__", "alone"},
    "try:\n    import snippets.alone\nexcept ImportError:\n    pass\n": {
        "__init__",
        "alone",
    },
    "from snippets.core.conv import x\n": {
        "__init__",
        "core/__init__",
        "core/shared",
        "core/conv",
    },
    "from snippets.core import shared\n": {
        "__init__",
        "core/__init__",
        "core/shared",
    },
    "from snippets.core.far import x\n": {
        "__init__",
        "core/__init__",
        "core/shared",
        "core/far",
        "nets/__init__",
        "nets/base",
    },
    "from snippets.nets import deeper as d\n": {
        "__init__",
        "nets/__init__",
        "nets/deeper",
        "nets/deep",
        "nets/base",
    },
    "import snippets.nets.late\n": {
        "__init__",
        "nets/__init__",
        "nets/late",
        "nets/deep",
        "nets/base",
    },
    "import snippets.nets.loop_a\n": {
        "__init__",
        "nets/__init__",
        "nets/loop_a",
        "nets/loop_b",
    },
    "from snippets.nets.sub import leaf\n": {
        "__init__",
        "alone",
        "nets/__init__",
        "nets/base",
        "nets/sub/__init__",
        "nets/sub/leaf",
    },
    "import snippets_of_others\nfrom snippetsx.alone import x\n": set(),
}


def names(project):
    files = (project / "snippets").rglob("*.py")
    return {
        file.relative_to(project / "snippets").with_suffix("").as_posix()
        for file in files
    }


@pytest.mark.parametrize("block", USES)
def test_the_files_a_block_uses_are_found(tree, block):
    top = tree / "snippets"
    found = imported_files(block, tree)
    assert found == sorted(found)
    assert {f.relative_to(top).with_suffix("").as_posix() for f in found} == (
        USES[block]
    )


def test_an_edited_snippet_changes_exactly_the_keys_of_its_users(tree):
    before = {block: key(block, tree) for block in USES}
    for name in names(tree):
        path = tree / "snippets" / f"{name}.py"
        old = path.read_text("utf-8")
        path.write_text(old + "y = 2\n", "utf-8")
        changed = {b for b in USES if key(b, tree) != before[b]}
        assert changed == {b for b, used in USES.items() if name in used}, name
        path.write_text(old, "utf-8")
    assert {block: key(block, tree) for block in USES} == before


def test_a_comment_in_a_snippet_counts_as_tracebacks_show_it(tree):
    block = "import snippets.alone\n"
    before = key(block, tree)
    (tree / "snippets" / "alone.py").write_text("x = 1  # one\n", "utf-8")
    assert key(block, tree) != before


def test_a_snippet_that_appears_or_goes_changes_the_key(project, write):
    block = "from snippets import later\n"
    before = key(block, project)
    path = write(project / "snippets" / "later.py", "")
    assert key(block, project) != before
    path.unlink()
    assert key(block, project) == before


def test_the_same_snippet_under_another_name_is_another(project, write):
    for name in ("a", "b"):
        write(project / "snippets" / f"{name}.py", "x = 1\n")
    assert key("import snippets.a as m\n", project) != (
        key("import snippets.b as m\n", project)
    )


@pytest.mark.parametrize("library", ["python", *keys.LIBRARIES])
def test_another_version_changes_the_key(project, monkeypatch, library):
    before = key(BASE, project)
    other = keys.versions() | {library: "0.0.1"}
    monkeypatch.setattr(keys, "versions", lambda: other)
    assert key(BASE, project) != before


def test_versions_are_those_installed():
    import matplotlib
    import numpy
    import torch

    found = keys.versions()
    assert found["numpy"] == numpy.__version__
    assert found["torch"] == torch.__version__
    assert found["matplotlib"] == matplotlib.__version__
    assert found["python"].startswith("3.")


def test_another_runner_changes_the_key(project, monkeypatch):
    before = key(BASE, project)
    monkeypatch.setattr(keys, "_own_digest", lambda: "other")
    assert key(BASE, project) != before


def test_another_package_can_be_followed(tmp_path, write):
    write(tmp_path / "mine" / "m.py", "")
    assert imported_files("import mine.m\n", tmp_path, package="mine") == (
        [tmp_path / "mine" / "m.py"]
    )
    assert imported_files("import mine.m\n", tmp_path) == []


def test_every_snippet_is_seen_by_a_block_that_imports_it(repository):
    for path in sorted((repository / "snippets").rglob("*.py")):
        module = ".".join(path.relative_to(repository).with_suffix("").parts)
        assert path in imported_files(f"import {module}\n", repository) or (
            path.name == "__init__.py"
        )


def test_modules_of_libraries_are_found_in_a_block_and_its_snippets(
    project, write
):
    write(project / "snippets" / "deep.py", "from torch.nn import functional\n")
    write(project / "snippets" / "top.py", "from . import deep\nimport numpy\n")
    block = "import json\nimport sklearn.datasets\nimport snippets.top\n"
    assert library_modules(block, project) == {
        "numpy",
        "sklearn.datasets",
        "torch.nn",
    }
