"""What search engines, other sites and lost readers are told."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from PIL import Image

import browsing

from .conftest import Project
from .test_pages import PAGES
from .test_site import built, pages

pytestmark = pytest.mark.xdist_group("site")

START = "http://127.0.0.1:8000/"
LOCALES = {"zh": "zh_CN", "en": "en_US"}


def meta(soup: BeautifulSoup) -> dict[str, str]:
    """Give the tags that other sites read; none may stand twice."""
    tags = soup.select('meta[property^="og:"], meta[name^="twitter:"]')
    names = [tag.get("property") or tag.get("name") for tag in tags]
    assert len(set(names)) == len(names)
    return {n: t["content"] for n, t in zip(names, tags, strict=True)}


def alternates(soup: BeautifulSoup) -> dict[str, str]:
    return {
        tag["hreflang"]: tag["href"] for tag in soup.select("link[hreflang]")
    }


def file_of(site: Path, address: str) -> Path:
    assert address.startswith(START)
    path = site / address.removeprefix(START)
    return path / "index.html" if path.is_dir() else path


def test_every_page_says_what_it_is_to_other_sites(site: Path) -> None:
    seen = 0
    for path, soup in pages(site):
        if path.name == "404.html":
            assert meta(soup) == {}
            continue
        told = meta(soup)
        canonical = soup.select_one("link[rel=canonical]")
        assert canonical is not None
        assert told["og:url"] == canonical["href"]
        assert file_of(site, told["og:url"]) == path
        language = soup.html["lang"]
        assert told["og:locale"] == LOCALES[language]
        assert {told["og:locale"], told["og:locale:alternate"]} == set(
            LOCALES.values()
        )
        assert told["og:title"] in soup.title.get_text()
        assert told["og:description"]
        assert told["og:image:alt"]
        assert told["twitter:card"] == "summary_large_image"
        with Image.open(file_of(site, told["og:image"])) as image:
            assert image.format == "PNG"
            size = told["og:image:width"], told["og:image:height"]
            assert size == tuple(map(str, image.size))
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        seen += 1
    assert seen >= 2 * len(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_picture_of_a_page_is_its_first_figure(
    site: Path, page: str
) -> None:
    zh, en = (built(site, page, language) for language in ("zh", "en"))
    own = START + f"assets/cards/{page.removesuffix('.md')}.png"
    for soup in (zh, en):
        told = meta(soup)
        figure = soup.select_one("article svg.figure")
        if figure is None:
            assert told["og:image"] == START + "assets/cards/index.png"
        else:
            assert told["og:image"] == own
            assert told["og:image:alt"] == figure["aria-label"]


def test_each_language_is_told_of_the_other(site: Path) -> None:
    for path, soup in pages(site):
        links = alternates(soup)
        if path.name == "404.html":
            assert links == {}
            continue
        assert set(links) == {"zh", "en", "x-default"}
        assert links["x-default"] == links["en"]
        canonical = soup.select_one("link[rel=canonical]")
        assert canonical is not None
        assert links[soup.html["lang"]] == canonical["href"]
        for language in ("zh", "en"):
            twin = file_of(site, links[language]).read_text("utf-8")
            there = BeautifulSoup(twin, "html.parser")
            assert there.html["lang"] == language
            assert alternates(there) == links


@pytest.mark.parametrize("folder", [".", "en"], ids=["zh", "en"])
def test_the_sitemap_lists_each_page_in_both_languages(
    site: Path, folder: str
) -> None:
    text = (site / folder / "sitemap.xml").read_text("utf-8")
    root = ElementTree.fromstring(text)
    names = {
        "s": "http://www.sitemaps.org/schemas/sitemap/0.9",
        "x": "http://www.w3.org/1999/xhtml",
    }
    listed = {}
    for url in root.findall("s:url", names):
        address = url.findtext("s:loc", namespaces=names)
        assert address is not None
        listed[address] = {
            link.attrib["hreflang"]: link.attrib["href"]
            for link in url.findall("x:link", names)
        }
    for address, links in listed.items():
        page = file_of(site, address).read_text("utf-8")
        assert links == alternates(BeautifulSoup(page, "html.parser"))
    in_folder = [
        path
        for path in (site / folder).rglob("index.html")
        if folder == "en" or not path.is_relative_to(site / "en")
    ]
    assert len(listed) == len(in_folder)


class _AsPages(SimpleHTTPRequestHandler):
    """Answers as GitHub Pages does: one page for whatever is missing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send_error(self, code: int, *args: Any, **more: Any) -> None:
        page = Path(self.directory, "notes", "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def published(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Build the small project for an address and serve it there."""
    servers = []

    def publish() -> str:
        port = browsing.free_port()
        start = f"http://127.0.0.1:{port}/notes/"
        monkeypatch.setenv("SITE_URL", start)
        made = project.build()
        assert made.returncode == 0, made.stderr
        above = tmp_path / "pages"
        above.mkdir()
        (above / "notes").symlink_to(project.built, target_is_directory=True)
        handler = functools.partial(_AsPages, directory=str(above))
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return start

    yield publish
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_missing_page_helps_readers_of_both_languages(
    published: Any, browser: Any
) -> None:
    start = published()
    for path, first in (("no/", "zh"), ("en/no/", "en"), ("enough/", "zh")):
        context = browser.new_context(color_scheme="dark")
        page = context.new_page()
        answers: list[tuple[int, str]] = []
        page.on("response", lambda r, to=answers: to.append((r.status, r.url)))
        answer = page.goto(start + path)
        assert answer.status == 404
        page.wait_for_load_state("networkidle")
        assert [a for a in answers if a[0] >= 400] == [(404, start + path)]
        found = page.locator(".not-found section")
        assert found.evaluate_all("all => all.map(e => e.lang)") == [
            first,
            "en" if first == "zh" else "zh",
        ]
        assert found.locator("h1:visible").count() == 2
        links = found.locator("a").evaluate_all("all => all.map(a => a.href)")
        assert sorted(links) == [start, start + "en/"]
        assert page.locator("meta[name=robots]").count() == 1
        scheme = "document.body.getAttribute('data-md-color-scheme')"
        assert page.evaluate(scheme) == "slate"
        context.close()


LAB = '# %% [markdown] lang="zh"\n# # 试\n# %% [markdown] lang="en"\n# # Lab\n'


def test_links_lead_to_the_repository_that_the_workflow_names(
    published: Any,
    project: Project,
    browser: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project.root / "docs" / "labs" / "try.py").write_text(LAB, "utf-8")
    (project.root / "mkdocs.yml").write_text(
        "INHERIT: base.yml\nnav: [index.md, labs/try.ipynb]\n"
    )
    repository = "https://git.example.org/somebody/some-notes"
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.org")
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/some-notes")
    monkeypatch.setenv("GITHUB_REF_TYPE", "branch")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    monkeypatch.delenv("GITHUB_HEAD_REF", raising=False)
    start = published()
    page = browser.new_page()
    foreign: list[str] = []
    page.on(
        "request",
        lambda r: None if r.url.startswith(start) else foreign.append(r.url),
    )
    for path, source in {
        "": "zh/index.md",
        "en/": "en/index.md",
        "labs/try/": "labs/try.py",
        "en/labs/try/": "labs/try.py",
    }.items():
        page.goto(start + path)
        page.wait_for_load_state("networkidle")
        link = page.locator(".md-header__source a")
        assert link.get_attribute("href") == repository
        assert link.inner_text().strip() == "somebody/some-notes"
        edit = page.locator("article a[rel=edit]").get_attribute("href")
        assert edit == f"{repository}/edit/main/docs/{source}"
    page.close()
    assert foreign == []


@pytest.mark.parametrize(
    ("environment", "has_source"),
    [
        ({}, False),
        ({"GITHUB_REPOSITORY": "a/b"}, False),
        (
            {
                "GITHUB_REPOSITORY": "a/b",
                "GITHUB_SERVER_URL": "https://git.example.org",
                "GITHUB_REF_TYPE": "tag",
                "GITHUB_REF_NAME": "v1",
            },
            True,
        ),
    ],
    ids=["nothing", "no server", "a tag"],
)
def test_no_link_is_made_up(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    has_source: bool,
) -> None:
    for name in ("SERVER_URL", "REPOSITORY", "REF_TYPE", "REF_NAME"):
        monkeypatch.delenv(f"GITHUB_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert project.build().returncode == 0
    page = (project.built / "en" / "index.html").read_text("utf-8")
    assert ('class="md-source"' in page) == has_source
    assert 'rel="edit"' not in page


def test_addresses_are_those_of_the_published_site(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_URL", "https://example.org/notes/")
    for language in ("zh", "en"):
        project.page(
            "# T {#t}\n\n```python\nimport matplotlib.pyplot as plt\n"
            "plt.plot([1, 2])\nplt.title('line')\n```\n\n/// caption\nA line.\n\n"
            "It rises.\n///\n",
            language,
        )
    built = project.build()
    assert built.returncode == 0, built.stderr
    text = (project.built / "en" / "index.html").read_text("utf-8")
    told = meta(BeautifulSoup(text, "html.parser"))
    assert told["og:url"] == "https://example.org/notes/en/"
    assert told["og:image"] == urljoin(
        "https://example.org/notes/", "assets/cards/index.png"
    )
    assert (project.built / "assets" / "cards" / "index.png").is_file()
