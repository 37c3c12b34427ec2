"""Nothing on any page, however it is shown, shuts a reader out."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import browsing

pytestmark = pytest.mark.xdist_group("site")

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
WAYS = {
    "wide": {"viewport": {"width": 1360, "height": 900}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
    },
}

# What is folded is opened, what is far is drawn. Of the many words in code that have one colour,
# one is looked at: to look at each takes ten times as long.
PREPARE = """() => {
  for (const folded of document.querySelectorAll('details'))
    folded.open = true;
  const seen = new Set();
  for (const span of document.querySelectorAll('pre span')) {
    const kind = `${span.parentElement.className}/${span.className}`;
    if (seen.has(kind)) span.replaceWith(...span.childNodes);
    seen.add(kind);
  }
  const style = document.createElement('style');
  style.textContent = '* { content-visibility: visible !important }';
  document.head.append(style);
  return new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)));
}"""

RUN = "() => axe.run({resultTypes: ['violations']})"


@pytest.fixture(scope="module")
def start(site: Path) -> Iterator[str]:
    """Serve the site where its page for what is missing looks for styles."""
    with browsing.served(site) as address:
        yield address


@pytest.fixture(scope="module")
def page_as(browser: Any) -> Iterator[Callable[[str, str], Any]]:
    contexts = []

    def new(way: str, scheme: str) -> Any:
        context = browser.new_context(color_scheme=scheme, **WAYS[way])
        contexts.append(context)
        return context.new_page()

    yield new
    for context in contexts:
        context.close()


def violations(page: Any) -> list[str]:
    """Return what axe-core objects to, with the first element of each kind."""
    page.evaluate(AXE)
    found = page.evaluate(RUN)
    assert len(found["passes"]) > 15  # it has looked
    return [
        f"{each['id']}, {len(each['nodes'])} times: {each['nodes'][0]['html']}"
        f"\n  {each['nodes'][0]['failureSummary']}"
        for each in found["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("way", WAYS)
def test_axe_finds_no_violation_on_any_page(
    page_as: Callable[[str, str], Any],
    site: Path,
    start: str,
    way: str,
    scheme: str,
) -> None:
    page = page_as(way, scheme)
    found = {}
    paths = sorted(path.relative_to(site) for path in site.rglob("*.html"))
    assert len(paths) > 10
    for path in paths:
        page.goto(start + path.as_posix().removesuffix("index.html"))
        page.evaluate(PREPARE)
        if objections := violations(page):
            found[path.as_posix()] = objections
    assert found == {}


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("way", "toggle"),
    [("wide", "__search"), ("phone", "__search"), ("phone", "__drawer")],
)
def test_axe_finds_no_violation_in_what_the_header_opens(
    page_as: Callable[[str, str], Any],
    start: str,
    prefix: str,
    scheme: str,
    way: str,
    toggle: str,
) -> None:
    page = page_as(way, scheme)
    page.goto(start + prefix)
    page.wait_for_load_state("networkidle")
    if toggle == "__search":
        if way == "phone":
            page.locator("header > nav > label[for=__search]").click()
        page.locator("input[name=query]").click()
        page.keyboard.type("conv")
        page.locator(".md-search-result__link").first.wait_for()
    else:
        page.locator("header > nav > label[for=__drawer]").click()
    assert page.locator(f"#{toggle}").is_checked()
    page.wait_for_timeout(500)  # until it stands still
    assert violations(page) == []
