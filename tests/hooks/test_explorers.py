from types import SimpleNamespace

import pytest
from explorers import (
    Explorers,
    on_config,
    on_page_content,
    on_page_context,
)
from markdown import Markdown
from mkdocs.config.defaults import MkDocsConfig

from shared import Problem, state


@pytest.fixture
def convert():
    """Convert Markdown as a page with the explorers `conv` and `pool` is."""
    extension = Explorers(["conv", "pool"])

    def convert(source):
        md = Markdown(
            extensions=["attr_list", "pymdownx.superfences", extension]
        )
        return md.convert(source), extension.take_unknown()

    return convert


@pytest.fixture
def build(tmp_path, write):
    """Convert a page of a project that has one explorer, `conv`."""
    write(tmp_path / "mkdocs.yml", "")
    write(tmp_path / "docs/assets/js/explorers/conv-explorer.js", "")
    write(tmp_path / "docs/assets/js/explorers/explorer.js", "")
    config = MkDocsConfig(str(tmp_path / "mkdocs.yml"))
    config.markdown_extensions = []
    on_config(config)

    def build(source):
        path = write(tmp_path / "docs/en/a.md", source)
        page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(path)))
        page.content = on_page_content(
            Markdown(extensions=config.markdown_extensions).convert(source),
            page,
            config,
            None,
        )
        found, state.problems = state.problems, []
        context = on_page_context({}, page, config, None)
        return page.content, found, context["explorers"]

    return build


def test_the_element_stands_around_its_figure(convert):
    html, unknown = convert(
        "Before.\n\n//// explorer | conv\n\nA *figure*.\n\n"
        "```text\ncode\n```\n\n////\n\nAfter.\n"
    )
    before, rest = html.split('<conv-explorer class="explorable">')
    inside, after = rest.split("</conv-explorer>")
    assert "Before." in before
    assert "<p>A <em>figure</em>.</p>" in inside
    assert "<code>code" in inside
    assert after.strip() == "<p>After.</p>"
    assert unknown == []


def test_shorter_blocks_stand_inside(convert):
    html, _ = convert(
        "//// explorer | conv\n\nOne.\n\n/// explorer | pool\n\nTwo.\n\n///\n\n"
        "////\n"
    )
    assert html.index("<conv-explorer") < html.index("<pool-explorer")
    assert html.index("</pool-explorer>") < html.index("</conv-explorer>")


def test_first_settings_are_attributes(convert):
    html, _ = convert(
        "//// explorer | conv\n    attrs: {height: '9', stride: '2'}\n\nA.\n\n////\n"
    )
    assert '<conv-explorer class="explorable" height="9" stride="2">' in html


@pytest.mark.parametrize("name", ["con", "conv2", "", "<b>"])
def test_an_unknown_name_shows_the_names_there_are(convert, name):
    html, unknown = convert(f"//// explorer | {name}\n\nA figure.\n\n////\n")
    assert unknown == [name]
    assert "-explorer" not in html
    assert '<pre class="failure">' in html
    assert "conv, pool" in html
    assert "<b>" not in html
    assert "A figure." in html


def test_a_page_is_told_where_it_asks_in_vain(build):
    source = (
        "---\ntitle: a\n---\n\n//// explorer | convv\nA.\n////\n\n"
        "///// explorer\nB.\n/////\n\n//// explorer | convv\nC.\n////\n"
    )
    _, found, _ = build(source)
    there = "the explorers there are: conv"
    assert sorted(found, key=lambda problem: problem.line) == [
        Problem("docs/en/a.md", 5, f"`explorer | convv`: {there}"),
        Problem("docs/en/a.md", 9, f"`explorer` without a name: {there}"),
        Problem("docs/en/a.md", 13, f"`explorer | convv`: {there}"),
    ]


def test_an_error_is_told_once_and_not_of_the_next_page(build):
    build("//// explorer | convv\nA.\n////\n")
    assert build("Plain.\n")[1] == []


def test_only_a_page_with_an_explorer_loads_its_script(build):
    twice = "//// explorer | conv\nA.\n////\n\n"
    _, found, scripts = build(twice * 2)
    assert found == []
    assert scripts == ["assets/js/explorers/conv-explorer.js"]
    for source in ("Plain.\n", "`<conv-explorer>`\n", "//// explorer | x\n"):
        assert build(source)[2] == []


def test_every_script_of_the_project_defines_its_element(repository):
    folder = repository / "docs" / "assets" / "js" / "explorers"
    scripts = list(folder.glob("*-explorer.js"))
    assert scripts
    for script in scripts:
        text = script.read_text("utf-8")
        assert f'customElements.define("{script.stem}", ' in text
