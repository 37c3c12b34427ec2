"""What the built site holds, read without a browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from .test_pages import EN, PAGES, TOPICS, ZH, prose

pytestmark = pytest.mark.xdist_group("site")

NUMBER = re.compile(
    r"(?<![\w.])\d{1,3}(?:,\d{3})+|(?<![\w.])\d+\.\d+|(?<![\w.])\d{3,}"
)


def pages(site: Path) -> Iterator[tuple[Path, BeautifulSoup]]:
    for path in sorted(site.rglob("*.html")):
        yield path, BeautifulSoup(path.read_text("utf-8"), "html.parser")


def built(site: Path, page: str, language: str) -> BeautifulSoup:
    """Return the built page of a Markdown file."""
    folder = site if language == "zh" else site / "en"
    name = page.removesuffix("index.md").removesuffix(".md")
    path = folder / name / "index.html"
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def test_every_internal_link_and_anchor_leads_somewhere(site: Path) -> None:
    ids = {
        path: {tag["id"] for tag in soup.find_all(id=True)}
        for path, soup in pages(site)
    }
    broken = []
    count = 0
    for path, soup in pages(site):
        for tag in soup.find_all(["a", "link", "script", "img"]):
            link = tag.get("href") or tag.get("src")
            if (
                not link
                or urlsplit(link).scheme
                or "canonical" in (tag.get("rel") or ())
            ):
                continue
            count += 1
            parts = urlsplit(link)
            if path.name == "404.html" and parts.path.startswith("/"):
                target = site / unquote(parts.path).lstrip("/")
            else:
                target = (path.parent / unquote(parts.path)).resolve()
            if not parts.path:
                target = path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in ids[target]
            ):
                broken.append((path.relative_to(site), link))
    assert count > 100
    assert broken == []


def test_no_page_has_an_id_twice(site: Path) -> None:
    for path, soup in pages(site):
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        twice = {name for name in ids if ids.count(name) > 1}
        assert twice == set(), path


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_the_same_in_both_languages(site: Path, page: str) -> None:
    def counts(soup: BeautifulSoup) -> list[tuple[int, int, int]]:
        """Count figures, tables and printed texts under each block."""
        return [
            tuple(
                len(block.select(s)) for s in (".drawing", "table", ".printed")
            )
            for block in soup.select(".block, figure.shown")
        ]

    zh, en = built(site, page, "zh"), built(site, page, "en")
    assert counts(zh) == counts(en)
    assert len(zh.find_all("math")) == len(en.find_all("math"))


def test_every_figure_has_a_name(site: Path) -> None:
    seen = 0
    for path, soup in pages(site):
        for figure in soup.select("svg.figure"):
            assert figure["role"] == "img"
            assert figure["aria-label"].strip(), path
            seen += 1
    assert seen > 20


def test_every_figure_has_a_caption_and_a_description(site: Path) -> None:
    seen = 0
    for path, soup in pages(site):
        for drawing in soup.select(".drawing"):
            figure = drawing.find_parent("figure", class_="shown")
            assert figure is not None, path
            shown, described = figure.select("figcaption > p")
            assert not shown.has_attr("class")
            assert described["class"] == ["described"]
            assert len(described.get_text()) > 15, path
            seen += 1
    assert seen > 20


def test_photographs_are_files_and_load_when_they_are_seen(site: Path) -> None:
    used = set()
    for path, soup in pages(site):
        html = path.read_text("utf-8")
        assert not re.search(r"data:image/\w+;base64,[^\"]{2500}", html), path
        for image in soup.select(".photos img"):
            assert image["loading"] == "lazy"
            used.add((path.parent / image["src"]).resolve())
    kept = set((site / "assets" / "images").glob("*.webp"))
    assert {file.resolve() for file in kept} == used != set()


def test_formulas_are_mathml_and_nothing_is_left_as_tex(site: Path) -> None:
    formulas = 0
    for path, soup in pages(site):
        formulas += len(soup.find_all("math"))
        assert soup.select(".arithmatex, .failed") == [], path
        for tag in soup.select("pre, code, .highlight"):
            tag.decompose()
        assert not re.search(r"\$[^$]*\\\w+|\\[(\[]", soup.get_text()), path
    assert formulas > 50


@pytest.mark.parametrize("page", TOPICS)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_number_is_typed(site: Path, page: str, language: str) -> None:
    """A number in the prose stands in a block or in what one put out.

    Short whole numbers may be settings; a number of history stands in a
    paragraph that gives its source.
    """
    shown = built(site, page, language)
    computed = " ".join(
        tag.get_text(" ") for tag in shown.select(".block, figure.shown")
    )
    computed = computed.replace(",", "").replace("_", "")
    source = ({"zh": ZH, "en": EN}[language] / page).read_text("utf-8")
    typed = [
        number
        for paragraph in prose(source).split("\n\n")
        if "[^" not in paragraph and "](http" not in paragraph
        for number in NUMBER.findall(paragraph)
        if number.replace(",", "") not in computed
        and not re.fullmatch(r"(19|20)\d\d", number)
    ]
    assert typed == []


def test_labs_are_shown_in_one_language_and_can_be_downloaded(
    site: Path,
) -> None:
    found = 0
    for path, soup in pages(site):
        assert "〔" not in soup.get_text(), path
        if path.parent.parent.name != "labs":
            continue
        notebook = path.parent / f"{path.parent.name}.ipynb"
        nbformat.validate(json.loads(notebook.read_text("utf-8")))
        assert soup.select(".block .output, figure.shown .output")
        assert soup.select(f'article a[download][href="{notebook.name}"]')
        found += 1
    assert found >= 2


def test_no_lab_is_heavy_besides_its_figures(site: Path) -> None:
    for path, soup in pages(site):
        if path.parent.parent.name == "labs":
            for figure in soup.select("svg.figure"):
                figure.decompose()
            assert len(str(soup).encode()) < 150_000, path


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path, soup in pages(site):
        for tag in soup.find_all(["script", "img", "iframe", "link"]):
            link = tag.get("src") or tag.get("href") or ""
            if {"canonical", "alternate"} & set(tag.get("rel") or ()):
                continue
            assert not urlsplit(link).netloc, (path, link)
    for path in site.rglob("*.css"):
        text = path.read_text("utf-8")
        assert not re.search(r"url\(['\"]?(https?:)?//", text), path


def test_headings_of_tables_say_that_they_head_columns(site: Path) -> None:
    seen = 0
    for path, soup in pages(site):
        for heading in soup.select("article th"):
            assert heading["scope"] == "col", path
            seen += 1
    assert seen > 50


def test_the_theme_finds_no_listing_to_measure(site: Path) -> None:
    seen = 0
    for path, soup in pages(site):
        assert soup.select("pre > code") == [], path
        seen += len(soup.select("pre > span > code"))
    assert seen > 50


def test_robots_are_told_of_both_sitemaps(site: Path) -> None:
    lines = (site / "robots.txt").read_text("utf-8").splitlines()
    assert lines[:2] == ["User-agent: *", "Allow: /"]
    named = [x.split()[1] for x in lines if x.startswith("Sitemap: ")]
    assert [urlsplit(url).path for url in named] == [
        "/sitemap.xml",
        "/en/sitemap.xml",
    ]
    for url in named:
        assert (site / urlsplit(url).path.lstrip("/")).is_file()
