import csv
import re

import pytest
from markdown import markdown
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

from glossary import MARK, on_page_markdown

TERMS = "en,zh,note\nkernel,卷积核,\nChannel,通道,not 频道\nbias,偏置,\n"


@pytest.fixture
def fill(tmp_path, write):
    """Fill a page of a project that has these terms."""

    def fill(page, language, terms=TERMS):
        write(tmp_path / "docs" / "terms.csv", terms)
        config = MkDocsConfig(str(tmp_path / "mkdocs.yml"))
        config.docs_dir = str(tmp_path / "docs" / language)
        return on_page_markdown(page, None, config, None)

    return fill


def rows(table):
    return [
        [
            re.sub("<.*?>", "", cell).strip()
            for cell in line.strip("|").split("|")
        ]
        for line in table.strip().split("\n")
    ]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "zh",
            [
                ["中文", "English"],
                ["---", "---"],
                ["偏置", "bias"],
                ["通道", "Channel"],
                ["卷积核", "kernel"],
            ],
        ),
        (
            "en",
            [
                ["English", "中文"],
                ["---", "---"],
                ["bias", "偏置"],
                ["Channel", "通道"],
                ["kernel", "卷积核"],
            ],
        ),
    ],
)
def test_terms_stand_in_a_table_with_the_pages_language_first(
    fill, language, expected
):
    assert rows(fill(MARK, language)) == expected


def test_the_rest_of_the_page_stays(fill):
    page = fill(f"# Words\n\n{MARK}\n\nEnd.\n", "en")
    assert page.startswith("# Words\n\n| English |")
    assert page.endswith(" |\n\nEnd.\n")


def test_a_page_that_does_not_ask_gets_none(fill):
    assert fill("# Words\n", "en", terms="not even a table") == "# Words\n"


def test_notes_for_writers_are_not_shown(fill):
    assert "频道" not in fill(MARK, "zh")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_all_terms_of_the_notes_are_in_the_table(fill, repository, language):
    text = (repository / "docs" / "terms.csv").read_text("utf-8")
    terms = list(csv.DictReader(text.splitlines()))
    html = markdown(fill(MARK, language, text), extensions=["tables"])
    assert html.count("<tr>") == len(terms) + 1 > 20
    cells = set(re.findall("<td>(.*?)</td>", re.sub("</?span.*?>", "", html)))
    for term in terms:
        assert {term["en"], term["zh"]} <= cells


def test_rows_have_the_same_anchors_in_both_languages(fill, repository):
    text = (repository / "docs" / "terms.csv").read_text("utf-8")
    zh, en = (
        re.findall('id="(.*?)"', fill(MARK, language, text))
        for language in ("zh", "en")
    )
    assert zh == en
    assert len(set(en)) == len(en) == text.count("\n") - 1
    assert "cross-correlation" in en
    assert "intersection-over-union" in en


def test_a_third_language_is_an_error(fill):
    with pytest.raises(PluginError, match="fr"):
        fill(MARK, "fr")
