import markdown
import pytest
from bs4 import BeautifulSoup
from captions import Captions

from outputs import RenderedBlock
from runner.worker import Result

FIGURE = '<svg class="figure" role="img" aria-label="n"></svg>'
FIGURE_BLOCK = """\
```drawn
```

/// caption
Look at $x$ **here**.

The drawing shows a line.
///
"""


def rendered(text, language="en", result=None):
    """Render a page whose fences `drawn` are blocks with this result."""
    result = result or Result(figures=(FIGURE,))

    def format_block(source, *_, **__):
        return RenderedBlock.of("<pre>code</pre>", result)

    fences = [{"name": "drawn", "class": "x", "format": format_block}]
    html = markdown.markdown(
        text,
        extensions=[
            "pymdownx.superfences",
            "pymdownx.details",
            Captions(language),
        ],
        extension_configs={"pymdownx.superfences": {"custom_fences": fences}},
    )
    return BeautifulSoup(html, "html.parser")


def kinds(figure):
    return [child.name for child in figure.find_all(recursive=False)]


def test_picture_comes_first_then_its_caption_then_its_code_folded():
    page = rendered(FIGURE_BLOCK)
    figure = page.select_one("figure.shown")
    assert kinds(figure) == ["div", "figcaption", "details"]
    assert figure.div.find("svg")
    assert figure.details.summary.get_text() == "How this is drawn"
    assert not figure.details.has_attr("open")
    assert figure.details.pre.get_text() == "code"
    assert len(page.find_all("svg")) == 1


def test_second_paragraph_is_for_those_who_cannot_see():
    first, second = rendered(FIGURE_BLOCK).select("figcaption p")
    assert first.strong.get_text() == "here"
    assert not first.has_attr("class")
    assert second["class"] == ["described"]


def test_words_follow_the_language_and_what_is_shown():
    table = Result("| a |\n| --- |\n| 1 |\n")
    found = [
        rendered(FIGURE_BLOCK, language, result).summary.get_text()
        for language in ("zh", "en")
        for result in (None, table)
    ]
    assert found == [
        "画法",
        "算法",
        "How this is drawn",
        "How this is computed",
    ]


def test_a_figure_may_stand_in_a_folded_answer():
    inside = "".join(f"    {line}\n" for line in FIGURE_BLOCK.splitlines())
    page = rendered(f'??? question "q"\n\n    before\n\n{inside}\n    after\n')
    answer = page.select_one("details.question")
    assert kinds(answer) == ["summary", "p", "figure", "p"]


def test_a_block_without_caption_keeps_its_code_open_and_above():
    page = rendered("```drawn\n```\n\ntext\n")
    assert page.find("figure") is None
    assert kinds(page.select_one(".block")) == ["pre", "div"]


@pytest.mark.parametrize("above", ["", "text\n\n", "```text\nx\n```\n\n"])
def test_a_caption_under_nothing_takes_nothing_away(above):
    page = rendered(f"{above}/// caption\nLost.\n///\n")
    assert page.figcaption.get_text().strip() == "Lost."
    assert len(page.find_all(["pre"])) == above.count("```text")
