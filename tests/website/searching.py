"""Type what readers type into the search of a page; used by `make bench` too."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUERIES = Path(__file__).with_name("search_queries.csv")


@dataclass(frozen=True)
class Query:
    """What somebody types, and the page that answers it best."""

    language: str
    kind: str
    query: str
    page: str
    anchor: str


def queries() -> list[Query]:
    with QUERIES.open(encoding="utf-8", newline="") as file:
        return [Query(**row) for row in csv.DictReader(file)]


def open_search(page: Any) -> None:
    """Open the search and wait until it can answer."""
    page.wait_for_load_state("load")
    label = page.locator("label.md-header__button[for=__search]")
    if label.is_visible():
        label.click()
    page.locator("input[name=query]").click()
    page.wait_for_function(
        """() => document.querySelector(".md-search-result__meta").textContent.trim()
          === JSON.parse(document.querySelector("#__config").textContent)
            .translations["search.result.placeholder"]"""
    )


def find(page: Any, query: str) -> list[list[str]]:
    """Return the links that are shown, page by page, best page first.

    Of each page its own link comes first, then its best sections. The search
    must be open.
    """
    page.evaluate(
        """() => {
          document.querySelector(".md-search-result__list").textContent = "";
          document.querySelector(".md-search-result__meta").textContent = "?";
        }"""
    )
    page.locator("input[name=query]").fill(query)
    page.wait_for_function(
        "document.querySelector('.md-search-result__meta').textContent !== '?'"
    )
    links: list[list[str]] = page.evaluate(
        """() => [...document.querySelectorAll(".md-search-result__item")].map(
          (item) => [...item.querySelectorAll("a")]
            .filter((link) => !link.closest("details"))
            .map((link) => {
              const url = new URL(link.href);
              return url.origin + url.pathname + url.hash;
            }))"""
    )
    return links


@dataclass
class Score:
    """How often the right page came first or soon, and what did not."""

    asked: int = 0
    first: int = 0
    among_three: int = 0
    sections: int = 0
    sections_shown: int = 0
    later: list[str] = field(default_factory=list)


def score(page: Any, start: str, language: str) -> Score:
    """Ask all queries of a language.

    start: the address that the language's pages lie below.
    """
    result = Score()
    for each in queries():
        if each.language != language:
            continue
        found = find(page, each.query)
        pages = [links[0].partition("#")[0] for links in found]
        right = start + each.page
        place = pages.index(right) if right in pages else len(pages)
        result.asked += 1
        result.first += place == 0 and bool(pages)
        result.among_three += place < min(3, len(pages))
        if place or not pages:
            result.later.append(f"{each.query}: {pages[:3]}")
        if each.anchor:
            result.sections += 1
            shown = found[place] if place < len(found) else []
            result.sections_shown += f"{right}#{each.anchor}" in shown
    return result
