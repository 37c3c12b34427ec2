import textwrap

import pytest
import pytest_codeblocks
from markdown import Markdown

from runner.fences import Block, blank_fences, find_blocks, wrong_caption


def codes(markdown):
    return [block.source for block in find_blocks(markdown, "page.md")]


def test_a_fence_that_is_exactly_python_runs():
    assert codes("text\n\n```python\nx = 1\nx\n```\n\ntext\n") == ["x = 1\nx\n"]


@pytest.mark.parametrize(
    "info",
    [
        "",
        'python title="a.py"',
        'python linenums="1"',
        "python3",
        "py",
        "Python",
        "pycon",
        "text",
        "console",
        "{.python}",
        "{.python .numbers}",
        "pythonic",
    ],
)
def test_any_other_fence_does_not_run(info):
    assert codes(f"```{info}\nx = 1\n```\n") == []


def test_blanks_after_the_word_python_do_not_matter():
    assert codes("```python  \nx = 1\n```  \n") == ["x = 1\n"]


def test_blocks_come_in_the_order_they_stand_in():
    page = "```python\n1\n```\n```text\n2\n```\n```python\n3\n```\n"
    assert codes(page) == ["1\n", "3\n"]


def test_a_fence_in_an_admonition_is_dedented_by_its_own_indent():
    page = textwrap.dedent(
        """
        ??? question "Why?"

            Because:

            ```python
            for i in range(2):

                print(i)
            ```
        """
    )
    assert codes(page) == ["for i in range(2):\n\n    print(i)\n"]


def test_a_fence_of_four_ticks_holds_fences_of_three():
    page = "````markdown\n```python\nx\n```\n````\n\n```python\ny\n```\n"
    assert codes(page) == ["y\n"]


def test_a_python_fence_of_four_ticks_keeps_the_three_inside():
    assert codes('````python\ns = """\n```\n"""\n````\n') == [
        's = """\n```\n"""\n'
    ]


def test_ticks_in_running_text_open_nothing():
    assert codes("Write `` ```python `` here.\n```python``` too.\n") == []


def test_an_empty_fence_is_an_empty_block():
    assert codes("```python\n```\n") == ["\n"]


def test_line_numbers_are_those_of_the_file():
    page = "---\ntitle: x\n---\n\n# T\n\n```python\nfirst\n```\n\n" + (
        "!!! note\n\n    ```python\n    second\n    ```\n"
    )
    lines = page.split("\n")
    for block in find_blocks(page, "docs/zh/a.md"):
        assert lines[block.line - 1].strip() == block.source.strip()
    assert [block.line for block in find_blocks(page, "a.md")] == [8, 14]


def test_the_place_of_a_block_is_what_an_editor_takes():
    assert Block("docs/zh/a.md", 12, "x\n").place == "docs/zh/a.md:12"


@pytest.mark.parametrize(
    "page",
    [
        "a\n\n```python\nx = 1\n",
        "a\n\n````python\nx\n```\n",
        "a\n\n```python\nx\n``` text\n",
    ],
)
def test_an_unclosed_fence_is_named_with_path_and_line(page):
    with pytest.raises(ValueError, match=r"^docs/en/a\.md:3: .*never closed"):
        find_blocks(page, "docs/en/a.md")


def test_blanking_fences_keeps_every_other_line_in_its_place():
    page = "a\n```text\n$x$\n```\nb\n\n    ```python\n    y\n    ```\nc"
    assert blank_fences(page, "a.md").split("\n") == (
        ["a", "", "", "", "b", "", "", "", "", "c"]
    )


def pages(repository):
    return [
        *sorted((repository / "docs" / "zh").rglob("*.md")),
        *sorted((repository / "docs" / "en").rglob("*.md")),
        *sorted(repository.glob("*.md")),
    ]


def rendered(text):
    """Give the sources that the site's own Markdown takes for blocks."""
    found = []

    def collect(source, *_, **__):
        found.append(source.rstrip("\n") + "\n")
        return ""

    settings = {
        "name": "python",
        "class": "highlight",
        "format": collect,
        "validator": lambda language, inputs, *_: not inputs,
    }
    Markdown(
        extensions=["pymdownx.superfences", "admonition", "pymdownx.details"],
        extension_configs={
            "pymdownx.superfences": {"custom_fences": [settings]}
        },
    ).convert(text)
    return found


def filled_lines(code):
    """Leave out blank lines: pytest-codeblocks loses them where indented."""
    return [line for line in code.split("\n") if line]


def test_every_page_has_the_blocks_that_pytest_codeblocks_runs(repository):
    total = 0
    for path in pages(repository):
        expected = [
            (block.lineno + 1, filled_lines(block.code))
            for block in pytest_codeblocks.extract_from_file(path)
            if block.syntax == "python"
        ]
        blocks = find_blocks(path.read_text("utf-8"), path.name)
        found = [(block.line, filled_lines(block.source)) for block in blocks]
        assert found == expected, path
        total += len(blocks)
    assert total > 10


def test_every_page_has_the_blocks_that_the_site_renders(repository):
    for path in pages(repository):
        text = path.read_text("utf-8")
        assert rendered(text) == codes(text), path


def test_markdown_takes_the_same_fences_for_blocks():
    page = textwrap.dedent(
        """
        ```python
        plain
        ```

        ```python title="x.py"
        titled
        ```

        !!! note
            ```python
            if indented:
                too
            ```

        1.  item

            ```python

            leading = "blank line"

            ```

        ````text
        ```python
        shown
        ```
        ````

        ````python
        "```"
        ````
        """
    )
    assert rendered(page) == codes(page)
    assert len(rendered(page)) == 4


class TestCaptions:
    FENCE = "```python\nx = 1\n```\n"

    def caption(self, after, indent=""):
        lines = (self.FENCE + after).splitlines()
        text = "".join(f"{indent}{line}\n" for line in lines)
        (block,) = find_blocks(text, "p.md")
        return block.caption

    @pytest.mark.parametrize("gap", ["", "\n"])
    @pytest.mark.parametrize("indent", ["", "    "])
    def test_paragraphs_of_the_caption_under_a_block(self, gap, indent):
        after = f"{gap}/// caption\nOne\nmore.\n\nTwo.\n///\n"
        assert self.caption(after, indent) == ("One\nmore.", "Two.")

    @pytest.mark.parametrize(
        "after",
        ["", "text\n", "\n\n/// caption\nFar.\n///\n", "/// note\n///\n"],
    )
    def test_without_one_a_block_has_none(self, after):
        assert self.caption(after) == ()

    @pytest.mark.parametrize(
        ("caption", "draws", "prints", "told"),
        [
            ((), False, True, ""),
            ((), True, False, "no caption"),
            (("a", "b"), True, False, ""),
            (("a", "b"), True, True, ""),
            (("a",), True, True, "two paragraphs, not 1"),
            (("a", "b", "c"), True, False, "two paragraphs, not 3"),
            (("a",), False, True, ""),
            (("a", "b"), False, True, "one paragraph, not 2"),
            (("a",), False, False, "neither draws nor prints"),
        ],
    )
    def test_what_a_caption_owes(self, caption, draws, prints, told):
        found = wrong_caption(caption, draws=draws, prints=prints)
        assert told in found
        assert bool(found) == bool(told)
