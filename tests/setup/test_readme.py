import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh.md")


def fences(name: str) -> list[tuple[str, str]]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```(\S+)\n(.*?)^```$", text, flags=re.M | re.S)


def test_both_readmes_hold_the_same_code() -> None:
    chinese, english = (
        [
            ast.dump(ast.parse(code)) if kind == "python" else code
            for kind, code in fences(name)
            if "<" not in code  # a place to fill in, in words
        ]
        for name in READMES
    )
    assert chinese == english
    assert len(fences(READMES[0])) == len(fences(READMES[1])) >= 5


@pytest.mark.parametrize("name", READMES)
def test_a_fence_is_python_that_runs_or_text(name: str) -> None:
    """pytest-codeblocks would run `sh` and `bash` as well."""
    kinds = [kind for kind, _ in fences(name)]
    assert kinds.count("python") == 1
    assert set(kinds) == {"python", "text"}


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md"])
def test_relative_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readmes_name_the_pythons_that_the_set_up_accepts() -> None:
    source = (ROOT / "tools" / "bootstrap.py").read_text()
    minors = re.findall(r"^(?:OLDEST|NEWEST) = \(3, (\d+)\)", source, re.M)
    for name, words in zip(
        READMES, ("Python 3.{} to 3.{},", "Python 3.{} 至 3.{}、"), strict=True
    ):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert words.format(*minors) in text
