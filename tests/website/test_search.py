"""Readers find the right page, and pay for search only when they use it."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from .conftest import ROOT, Project, Server
from .searching import find, open_search, queries, score

pytestmark = pytest.mark.xdist_group("site")

PREFIX = {"zh": "", "en": "en/"}
HOOKS = ROOT / "docs" / "hooks"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def scores(browser: Any, address: str) -> dict[str, Any]:
    """Ask every query once for all tests."""
    found = {}
    for language, prefix in PREFIX.items():
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(address + prefix)
        open_search(opened)
        found[language] = score(opened, address + prefix, language)
        context.close()
    return found


def index(site: Path, language: str) -> list[dict[str, Any]]:
    path = site / PREFIX[language] / "search" / "search_index.json"
    entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["docs"]
    return entries


def test_forty_queries_of_every_kind_are_asked_in_each_language() -> None:
    for language in PREFIX:
        asked = [q for q in queries() if q.language == language]
        assert len({q.query for q in asked}) == len(asked) == 40
        kinds = Counter(q.kind for q in asked)
        assert kinds["typo"] == 4
        assert min(kinds.values()) >= 3
        assert set(kinds) == {
            "term",
            "other language",
            "name",
            "abbreviation",
            "mixed",
            "typo",
        }


def test_every_answer_is_there(site: Path) -> None:
    for each in queries():
        path = site / PREFIX[each.language] / each.page / "index.html"
        soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
        if each.anchor:
            assert soup.find(id=each.anchor), each


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_right_page_comes_first_or_soon(
    scores: dict[str, Any], language: str
) -> None:
    result = scores[language]
    assert result.asked == 40
    assert result.among_three >= 38, result.later
    assert result.first >= 32, result.later


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_right_section_is_shown_below_its_page(
    scores: dict[str, Any], language: str
) -> None:
    result = scores[language]
    assert result.sections >= 10
    assert result.sections_shown / result.sections >= 0.8


@pytest.mark.parametrize("prefix", PREFIX.values(), ids=PREFIX)
def test_search_is_loaded_when_it_is_first_opened(
    page: Any, address: str, prefix: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("", "concepts/convolution/"):
        page.goto(address + prefix + path)
        page.wait_for_load_state("networkidle")
    assert asked
    assert [url for url in asked if "search" in url] == []
    asked.clear()
    open_search(page)
    loaded = [url for url in asked if "search" in url]
    assert all(url.startswith(address + prefix) for url in loaded)
    assert sorted(url.rpartition("/")[2].split(".")[0] for url in loaded) == [
        "search",
        "search_index",
    ]


def test_a_word_found_is_marked_on_its_page(page: Any, address: str) -> None:
    page.goto(address + "en/")
    open_search(page)
    find(page, "cross-corelation")
    page.locator(".md-search-result__link", has_text="Convolution or").click()
    page.wait_for_url("**/concepts/convolution/**")
    marks = page.locator("article mark")
    marks.first.wait_for()
    words = {text.lower() for text in marks.all_text_contents()}
    assert words <= {"cross", "correlation"}
    assert "correlation" in words


@pytest.mark.parametrize(
    ("language", "name"), [("zh", "搜索"), ("en", "Search")]
)
def test_the_dialog_has_a_name_and_says_how_much_it_found(
    page: Any, address: str, language: str, name: str
) -> None:
    page.goto(address + PREFIX[language])
    open_search(page)
    dialog = page.get_by_role("dialog", name=name, exact=True)
    assert dialog.count() == 1
    find(page, "LeNet")
    status = dialog.get_by_role("status")
    links = page.locator(".md-search-result__item")
    assert str(links.count()) in status.inner_text()


def test_a_section_found_by_another_name_is_shown_in_short(
    page: Any, address: str
) -> None:
    page.goto(address)
    open_search(page)
    find(page, "cross-correlation")
    shown = page.locator(".md-search-result__item").first
    assert shown.locator("article p").count() == 1


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_index_has_prose_and_no_code(site: Path, language: str) -> None:
    entries = index(site, language)
    text = " ".join(e["text"] for e in entries).replace("\u200b", "")
    assert "import numpy" not in text
    assert len(text) > 10_000
    places = [e["location"] for e in entries]
    assert len(set(places)) == len(places)
    for entry in entries:
        path, _, anchor = entry["location"].partition("#")
        html = (site / PREFIX[language] / path / "index.html").read_text(
            "utf-8"
        )
        assert not anchor or f'id="{anchor}"' in html


def test_topics_come_before_the_glossary_and_home(site: Path) -> None:
    boosts = {e["location"]: e["boost"] for e in index(site, "en")}
    topic = boosts["concepts/convolution/"]
    assert topic > boosts["labs/lenet-digits/"] > boosts["glossary/#kernel"]
    assert boosts["glossary/#kernel"] > boosts[""]
    assert topic > 5 * boosts["concepts/convolution/#references"]


@pytest.fixture
def prepare(page: Any) -> Callable[[str, list[str]], list[str]]:
    """Read a query as the worker does, with an index of these words."""
    page.evaluate(
        """source => {
          globalThis.lunr = {
            tokenizer: { separator: /[\\s\\-]+/ },
            stopWordFilter: (word) => (word === "the" ? undefined : word),
          };
          (0, eval)(source + ";globalThis.prepareQuery = prepareQuery");
        }""",
        (HOOKS / "search_query.js").read_text("utf-8"),
    )

    def read(query: str, words: list[str]) -> list[str]:
        index = {word: {"title": {}} for word in words}
        text: str = page.evaluate(
            "([query, index]) => prepareQuery(query, index)", [query, index]
        )
        return text.split()

    return read


@pytest.mark.parametrize(
    ("query", "words", "expected"),
    [
        ("卷积核", ["卷积", "卷积核", "核"], ["卷积核^4", "卷积核*"]),
        ("步幅", ["步", "步幅"], ["步幅^4", "步幅*"]),
        ("空洞卷积核", ["空洞", "卷积", "卷积核"], ["空洞^4", "卷积核^4"]),
        ("卷机核", ["卷积核", "卷", "核"], ["卷积核"]),
        ("残差层", ["残差", "层", "残差块"], ["残差^4", "层^4"]),
        ("池化", ["卷积"], []),
        ("1×1卷积", ["1×1", "卷积"], ["1×1^4", "1×1*", "卷积^4", "卷积*"]),
        ("1*1", ["1×1"], ["1×1^4", "1×1*"]),
        ("3 x 3", ["3×3"], ["3×3^4", "3×3*"]),
        ("The Kernel", ["kernel"], ["kernel^4", "kernel*"]),
        ("kern", ["kernel"], ["kern*"]),
        ("kernels", ["kernel", "stride"], ["kernel^4"]),
        ("lente", ["lenet", "lens"], ["lenet^4"]),
        ("bakpropogation", ["backpropagation"], ["backpropagation^4"]),
        ("nsm", ["nms"], ["nsm*"]),
        ("ＭＡＣ", ["mac"], ["mac^4", "mac*"]),
        ('+LeNet:"5~', ["lenet5"], ["lenet5^4", "lenet5*"]),
        ("", ["kernel"], []),
    ],
)
def test_a_query_is_read_as_it_was_meant(
    prepare: Callable[[str, list[str]], list[str]],
    query: str,
    words: list[str],
    expected: list[str],
) -> None:
    assert sorted(prepare(query, words)) == sorted(expected)


def test_of_words_as_near_those_in_titles_are_taken(
    page: Any, prepare: Callable[[str, list[str]], list[str]]
) -> None:
    words = ["数值", "数学", "数组", "数字"]
    assert len(prepare("数子", words)) == 3
    found = page.evaluate(
        "index => prepareQuery('数子', index)",
        {w: {"title": {"a": 1} if w == "数字" else {}} for w in words},
    )
    assert found.split()[0] == "数字"


def test_a_page_pasted_as_a_query_is_read_in_a_moment(
    page: Any, prepare: Callable[[str, list[str]], list[str]]
) -> None:
    words = [chr(0x4E00 + n) + chr(0x5E00 + n % 97) for n in range(3000)]
    prepare("卷积", words)
    milliseconds = page.evaluate(
        """words => {
          const index = Object.fromEntries(words.map((w) => [w, { title: {} }]));
          const start = performance.now();
          prepareQuery("平移等变性来自权值共享".repeat(500), index);
          return performance.now() - start;
        }""",
        words,
    )
    assert milliseconds < 2000


def test_a_theme_that_has_changed_fails_the_build(project: Project) -> None:
    import material

    scripts = Path(material.__file__).parent / "templates/assets/javascripts"
    (worker,) = (scripts / "workers").glob("search.*.min.js")
    changed = worker.read_text("utf-8").replace("sc=Han", "sc=Hani")
    copy = project.root / "docs/theme/assets/javascripts/workers" / worker.name
    copy.parent.mkdir(parents=True)
    copy.write_text(changed, "utf-8")
    failed = project.build()
    assert failed.returncode != 0
    assert worker.name in failed.stderr
    assert "docs/hooks/search.py" in failed.stderr
    assert not project.built.exists()
    shutil.rmtree(copy.parent)
    assert project.build().returncode == 0


def test_the_preview_searches_both_languages(
    project: Project, serve: Callable[[Path], Server]
) -> None:
    project.page("# Page {#page}\n\nA word: zebra.\n", "en")
    server = serve(project.root)
    server.wait(lambda: "zebra" in server.get("en/"))
    entries = json.loads(server.get("en/search/search_index.json"))["docs"]
    assert "zebra" in entries[0]["text"]
    assert "zebra" not in server.get("search/search_index.json")
    worker = re.search(r'"search": *"(?:\.\./)?([^"]+)"', server.get("en/"))
    assert worker
    assert server.get("en/" + worker[1]).startswith("// Runs in front of")
