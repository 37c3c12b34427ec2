"""The built site in a real Chromium, as readers meet it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("site")

PATHS = [
    "",
    "concepts/convolution/",
    "networks/lenet/",
    "labs/lenet-digits/",
    "claims/",
    "glossary/",
]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Any]:
    """Open pages and note foreign requests and errors."""
    contexts = []

    def start(
        path: str, *, scheme: str = "light", viewport: dict[str, int] = WIDE
    ) -> tuple[Any, list[str]]:
        context = browser.new_context(
            color_scheme=scheme,
            viewport=viewport,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        troubles: list[str] = []
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((address, "data:", "blob:"))
                else troubles.append(f"request to {r.url}")
            ),
        )
        page.on(
            "console",
            lambda m: (
                troubles.append(f"console: {m.text}")
                if m.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
        page.on(
            "response",
            lambda r: (
                troubles.append(f"{r.status}: {r.url}")
                if r.status >= 400
                else None
            ),
        )
        page.goto(address + path)
        return page, troubles

    yield start
    for context in contexts:
        context.close()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_asks_no_other_site_and_fits_its_window(
    open_page: Any,
    path: str,
    prefix: str,
    scheme: str,
    viewport: dict[str, int],
) -> None:
    page, troubles = open_page(prefix + path, scheme=scheme, viewport=viewport)
    page.wait_for_load_state("networkidle")
    # Open what is folded: it must fit as well.
    page.evaluate(
        "document.querySelectorAll('details').forEach(d => d.open = true)"
    )
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"]
    assert troubles == []
    shown = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
    assert shown == {"light": "default", "dark": "slate"}[scheme]


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
@pytest.mark.parametrize("path", PATHS)
def test_a_figure_fits_a_phone_and_its_text_can_be_read_there(
    open_page: Any, path: str, prefix: str
) -> None:
    page, _ = open_page(prefix + path, viewport={"width": 390, "height": 800})
    page.evaluate(
        "document.querySelectorAll('details').forEach(d => d.open = true)"
    )
    found = page.evaluate(
        """() => {
          const seen = [...document.querySelectorAll('.drawing svg')]
            .filter(svg => svg.getBoundingClientRect().width);
          const small = [], wide = [];
          for (const svg of seen) {
            const box = svg.closest('.drawing');
            if (box.scrollWidth > box.clientWidth + 1) wide.push(svg.ariaLabel);
            const scale = svg.getBoundingClientRect().width
              / svg.viewBox.baseVal.width;
            for (const text of svg.querySelectorAll('text')) {
              const size = parseFloat(getComputedStyle(text).fontSize) * scale;
              if (size < 11.95) small.push([svg.ariaLabel, size]);
            }
          }
          return {seen: seen.length, small, wide};
        }"""
    )
    assert (found["small"], found["wide"]) == ([], [])
    assert found["seen"] or path in ("claims/", "glossary/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_figures_can_be_read_in_light_and_dark(
    open_page: Any, scheme: str
) -> None:
    page, _ = open_page("networks/lenet/", scheme=scheme)
    colours = page.evaluate(
        """() => {
          const of = (e, p) => getComputedStyle(e)[p].match(/[\\d.]+/g).map(Number);
          const text = document.querySelector('svg.figure text');
          return [of(text, 'fill'), of(document.body, 'backgroundColor')];
        }"""
    )
    text, ground = (sum(colour[:3]) / 3 for colour in colours)
    assert abs(text - ground) > 150


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
def test_the_copy_button_copies_the_block(open_page: Any, prefix: str) -> None:
    page, _ = open_page(prefix + "networks/lenet/")
    figure = page.locator("figure.shown").first
    figure.locator("summary").click()
    block = figure.locator(".highlight")
    code = block.locator("code").inner_text()
    assert "draw_stages(" in code
    block.hover()
    block.locator(
        "button[data-md-type='copy'], button.md-clipboard, .md-code__button"
    ).first.click()
    page.wait_for_timeout(200)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == code.strip()


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
def test_each_listing_has_a_button_that_copies_this_listing(
    open_page: Any, prefix: str
) -> None:
    page, _ = open_page(prefix + "labs/lenet-digits/")
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('article .highlight pre')].map(
          pre => [...pre.querySelectorAll('button[title]')].map(button => {
            const target = button.dataset.clipboardTarget;
            return document.querySelector(target).closest('pre') === pre;
          }))"""
    )
    assert len(pairs) > 10
    assert pairs == [[True]] * len(pairs)


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
def test_the_line_to_install_is_copied_whole(
    open_page: Any, prefix: str
) -> None:
    page, troubles = open_page(prefix + "networks/lenet/", viewport=PHONE)
    shown = page.locator(".install code").inner_text()
    page.locator(".install button").click()
    page.wait_for_timeout(200)
    assert page.evaluate("navigator.clipboard.readText()") == shown
    assert shown.endswith('.whl"')
    assert troubles == []


@pytest.mark.parametrize(
    ("prefix", "query", "expected"),
    [
        ("", "卷积", "concepts/convolution/"),
        ("", "互相关", "concepts/convolution/"),
        ("", "膨胀率", "concepts/convolution/"),
        ("en/", "convolution", "en/concepts/convolution/"),
        ("en/", "cross-correlation", "en/concepts/convolution/"),
    ],
)
def test_search_finds_a_word_in_its_language(
    open_page: Any, address: str, prefix: str, query: str, expected: str
) -> None:
    page, troubles = open_page(prefix)
    page.wait_for_load_state("networkidle")
    page.locator("input[name=query]").click()
    page.locator("input[name=query]").fill(query)
    page.keyboard.press("End")  # as an input method does, a key goes up last
    results = page.locator(".md-search-result__link")
    results.first.wait_for(timeout=15_000)
    links = results.evaluate_all("links => links.map(link => link.href)")
    assert any(link.startswith(address + expected) for link in links)
    others = [link for link in links if ("/en/" in link) != (prefix == "en/")]
    assert others == []
    assert troubles == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_language_switch_stays_on_the_page(
    open_page: Any, address: str, path: str, viewport: dict[str, int]
) -> None:
    page, _ = open_page(path, viewport=viewport)
    page.locator(".language-switch").click()
    page.wait_for_url(address + "en/" + path)
    assert page.evaluate("document.documentElement.lang") == "en"
    page.locator(".language-switch").click()
    page.wait_for_url(address + path)
    assert page.evaluate("document.documentElement.lang") == "zh"


def test_the_language_switch_keeps_the_section(
    open_page: Any, address: str
) -> None:
    page, _ = open_page("networks/lenet/#cost")
    page.locator(".language-switch").click()
    page.wait_for_url(address + "en/networks/lenet/#cost")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("anchor", ["code", "cost", "use"])
def test_the_language_switch_keeps_the_place_that_was_scrolled_to(
    open_page: Any, address: str, anchor: str, viewport: dict[str, int]
) -> None:
    page, _ = open_page("networks/lenet/#idea", viewport=viewport)
    top = f"document.getElementById('{anchor}').getBoundingClientRect().top"
    page.evaluate(f"scrollBy({{top: {top} + 50, behavior: 'instant'}})")
    page.wait_for_timeout(300)
    page.locator(".language-switch").click()
    page.wait_for_url(f"{address}en/networks/lenet/#{anchor}")
    page.wait_for_timeout(300)
    assert 0 <= page.evaluate(top) < viewport["height"] / 3


def test_the_language_switch_stays_at_the_top(
    open_page: Any, address: str
) -> None:
    page, _ = open_page("networks/lenet/")
    page.locator(".language-switch").click()
    page.wait_for_url(address + "en/networks/lenet/")
    assert page.evaluate("scrollY") == 0


def test_formulas_are_drawn_in_the_font_that_was_cut(open_page: Any) -> None:
    page, _ = open_page("concepts/convolution/")
    page.wait_for_load_state("networkidle")
    loaded = page.evaluate(
        "document.fonts.ready.then(() => [...document.fonts]"
        ".filter(f => f.family.includes('Notes Math')).map(f => f.status))"
    )
    assert loaded == ["loaded"]
    height = page.evaluate(
        "document.querySelector('math[display=block]').getBoundingClientRect().height"
    )
    assert height > 30


def test_colours_can_be_switched_and_are_remembered(open_page: Any) -> None:
    page, _ = open_page("networks/lenet/")
    seen = set()
    for _ in range(3):
        page.locator("form.colours label:visible").click()
        page.wait_for_timeout(100)
        chosen = page.evaluate(
            "document.body.getAttribute('data-md-color-scheme')"
        )
        seen.add(chosen)
    assert seen == {"default", "slate"}
    page.reload()
    again = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
    assert again == chosen


def test_colours_survive_the_change_of_language(
    open_page: Any, address: str
) -> None:
    chosen = "document.body.getAttribute('data-md-color-scheme')"
    page, troubles = open_page("networks/lenet/", scheme="light")
    switch = page.locator("form.colours label:visible")
    while page.evaluate(chosen) != "slate":
        switch.click()
        page.wait_for_timeout(100)
    for path in ("en/networks/lenet/", "networks/lenet/"):
        page.locator(".language-switch").click()
        page.wait_for_url(address + path)
        assert page.evaluate(chosen) == "slate"
    page.goto(address + "en/")
    while page.evaluate(chosen) != "default":
        switch.click()
        page.wait_for_timeout(100)
    page.goto(address)
    assert page.evaluate(chosen) == "default"
    assert troubles == []


@pytest.fixture
def print_page(open_page: Any) -> Any:
    """Open a page as the browser lays it out for paper."""

    def start(path: str, scheme: str = "light") -> Any:
        page, _ = open_page(path, scheme=scheme)
        page.emulate_media(media="print", color_scheme=scheme)
        return page

    return start


COLOURS = """[...document.querySelectorAll('article, article *')].map(e => {
  const style = getComputedStyle(e);
  return ['color', 'backgroundColor', 'borderTopColor', 'fill', 'stroke']
    .map(name => style[name]).join();
})"""


@pytest.mark.parametrize("path", ["networks/lenet/", "labs/lenet-digits/"])
def test_dark_mode_prints_as_light_mode_does(
    open_page: Any, print_page: Any, path: str
) -> None:
    light = print_page(path).evaluate(COLOURS)
    dark = print_page(path, "dark").evaluate(COLOURS)
    assert len(light) > 500
    assert dark == light
    on_screen, _ = open_page(path, scheme="dark")
    assert on_screen.evaluate(COLOURS) != light


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_printed_that_is_there_to_be_clicked(
    print_page: Any, path: str
) -> None:
    page = print_page(path)
    page.wait_for_load_state("networkidle")
    shown = page.evaluate(
        """() => [...document.querySelectorAll(
          'header, nav, footer, button, input, .md-skip, .md-top, .headerlink, '
          + '.md-sidebar, .md-tabs, .md-clipboard, .md-code__button, .install, '
          + '.md-search, .language-switch, .md-content__button'
        )].filter(e => e.checkVisibility() && e.getClientRects().length)
          .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert shown == []


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
def test_answers_are_open_on_paper(print_page: Any, prefix: str) -> None:
    page = print_page(prefix + "networks/lenet/")
    heights = page.evaluate(
        """() => [...document.querySelectorAll('details.question')].map(d => {
          d.open = false;
          return d.lastElementChild.getBoundingClientRect().height;
        })"""
    )
    assert heights
    assert min(heights) > 0


def test_what_is_read_on_paper_is_whole(print_page: Any) -> None:
    """No box scrolls, so none is cut; no code, figure or row is split."""
    page = print_page("concepts/convolution/")
    wrong = page.evaluate(
        """() => [...document.querySelectorAll(
          'article :is(pre, tr, figure, .drawing, .formula, .block)'
        )].filter(e => {
          const style = getComputedStyle(e);
          const split = !e.matches('.block, span')
            && style.breakInside !== 'avoid';
          return split || style.overflowX !== 'visible';
        }).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert wrong == []
    assert page.pdf().startswith(b"%PDF")


def test_a_page_reads_well_without_script(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "en/networks/lenet/")
    assert re.search("three moves", page.locator("article").inner_text())
    assert page.locator("article svg.figure").count() >= 3
    assert page.locator("article math").first.is_visible()
    context.close()


def test_a_dark_system_gets_a_dark_page_before_the_theme_runs(
    browser: Any, address: str
) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.route("**/bundle.*.js", lambda route: route.abort())
    page.goto(address)
    chosen = "document.body.getAttribute('data-md-color-scheme')"
    assert page.evaluate(chosen) == "slate"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{chosen} === 'default'")
    context.close()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_an_anchor_far_down_is_met_though_what_is_above_is_not_drawn(
    open_page: Any, viewport: dict[str, int]
) -> None:
    page, _ = open_page("concepts/convolution/#pitfalls", viewport=viewport)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    top = page.evaluate(
        "document.getElementById('pitfalls').getBoundingClientRect().top"
    )
    assert 0 <= top < 150
