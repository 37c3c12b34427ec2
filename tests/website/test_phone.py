"""What a phone's narrow screen must not do to a page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("site")

OPEN = """() => {
  for (const folded of document.querySelectorAll('details'))
    folded.open = true;
  const style = document.createElement('style');
  style.textContent = '* { content-visibility: visible !important }';
  document.head.append(style);
}"""

# Words, numbers and names whose characters do not stand on one line. Hanzi
# may be parted anywhere but in headings, a hyphen may end a line.
BROKEN = r"""() => {
  const broken = [];
  const check = (node, text, start) => {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, start + text.length);
    const lines = new Set(
      [...range.getClientRects()]
        .filter(box => box.width > 0)
        .map(box => Math.round(box.bottom)));
    if (lines.size > 1) broken.push(text);
  };
  let seen = 0;
  for (const cell of document.querySelectorAll('article :is(td, th)')) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest('math, svg')) continue;
      const whole = cell.tagName == 'TH' ? '\\p{Script=Han}' : '';
      const word = new RegExp(`[${whole}a-zA-Z0-9_.,×²³]+`, 'gu');
      for (const match of node.data.matchAll(word)) {
        check(node, match[0], match.index);
        seen++;
      }
      const whole_text = node.parentElement.closest('.verdict')
        || cell.parentElement.querySelector('.verdict')
          && cell == cell.parentElement.firstElementChild;
      const text = node.data.trimEnd();
      if (whole_text && text) check(node, text, 0);
    }
  }
  return [seen, broken];
}"""

# Boxes that scroll sideways, but for code and tables; and what hangs over.
SCROLLS = """() => [...document.querySelectorAll('.md-container *')]
  .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1
    && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
    && !e.matches('pre, code, table, .md-typeset__scrollwrap'))
  .map(e => e.outerHTML.slice(0, 120))"""

# A box that scrolls and that the keyboard cannot reach.
UNREACHED = """() => [...document.querySelectorAll('article *')]
  .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1
    && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
    && e.tabIndex < 0 && !e.querySelector('a, button'))
  .map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def phone(browser: Any) -> Iterator[Any]:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def paths(site: Path) -> list[str]:
    return [
        path.relative_to(site).as_posix().removesuffix("index.html")
        for path in sorted(site.rglob("*.html"))
    ]


def on_every_page(
    phone: Any, address: str, paths: list[str], script: str
) -> dict[str, Any]:
    found = {}
    for path in paths:
        phone.goto(address + path)
        phone.evaluate(OPEN)
        phone.wait_for_timeout(200)
        found[path] = phone.evaluate(script)
    return found


def test_no_word_in_a_table_is_broken(
    phone: Any, address: str, paths: list[str]
) -> None:
    found = on_every_page(phone, address, paths, BROKEN)
    assert sum(seen for seen, _ in found.values()) > 300
    assert {p: broken for p, (_, broken) in found.items() if broken} == {}


def test_nothing_scrolls_sideways_but_code_and_tables(
    phone: Any, address: str, paths: list[str]
) -> None:
    found = on_every_page(phone, address, paths, SCROLLS)
    assert {path: boxes for path, boxes in found.items() if boxes} == {}


def test_what_scrolls_sideways_takes_the_focus(
    phone: Any, address: str, paths: list[str]
) -> None:
    for path in paths:
        phone.goto(address + path)
        # First as the page opens, what is far from the window included.
        for prepare in ("() => {}", OPEN):
            phone.evaluate(prepare)
            for _ in range(40):
                if not (boxes := phone.evaluate(UNREACHED)):
                    break
                phone.wait_for_timeout(250)
            assert boxes == [], path
