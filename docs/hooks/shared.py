"""What the hooks of one build know in common."""

from __future__ import annotations

import csv
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

from runner.languages import LANGUAGES
from runner.worker import Result

_TITLE = re.compile(r'<h1.*?</h1>(?:\s*<p class="lead">.*?</p>)?', re.DOTALL)

log = logging.getLogger("mkdocs.cnn-notes")


@dataclass(frozen=True)
class Problem:
    """Something wrong on a page: where, and what."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass
class State:
    """Lives as long as the process; one build refills it for both languages."""

    serving: bool = False
    inner: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    labs: list[Any] = field(default_factory=list)

    def report(self, path: str, line: int, text: str) -> None:
        """Note a problem, once."""
        problem = Problem(path, line, text)
        if problem not in self.problems:
            self.problems.append(problem)

    def settle(self) -> None:
        """Say what is wrong and forget it; a build fails, a preview goes on.

        Raises PluginError when the build is not a preview.
        """
        found, self.problems = self.problems, []
        if not found:
            return
        found.sort(key=lambda problem: (problem.path, problem.line))
        text = "\n".join(str(problem) for problem in found)
        if not self.serving:
            raise PluginError(f"{len(found)} on the pages:\n{text}")
        log.error("The pages show %d problems:\n%s", len(found), text)


state = State()


@dataclass(frozen=True)
class Term:
    """A term of the field, in both languages."""

    zh: str
    en: str

    @property
    def short(self) -> str:
        """The English without what stands in brackets."""
        return self.en.partition(" (")[0]


def root(config: MkDocsConfig) -> Path:
    """Return the folder of the project."""
    return Path(config.config_file_path).resolve().parent


def cache(config: MkDocsConfig) -> Path:
    """Return the folder of what can be made again."""
    chosen = os.environ.get("CNN_NOTES_CACHE")
    return Path(chosen).resolve() if chosen else root(config) / ".cache"


def language(config: MkDocsConfig) -> str:
    """Return the language that this configuration builds: zh or en."""
    name = Path(config.docs_dir).name
    if name not in LANGUAGES:
        raise PluginError(f"docs_dir is {name}; it must be one of {LANGUAGES}")
    return name


def start(config: MkDocsConfig) -> str:
    """Return the address that the site begins at, in whichever language."""
    up = "../" if language(config) == "en" else ""
    return urljoin(config.site_url or "", up)


def under_title(html: str, more: str) -> str:
    """Put something under a page's title, and under its lead if it has one."""
    title = _TITLE.search(html)
    at = title.end() if title else 0
    return html[:at] + more + html[at:]


def pages(config: MkDocsConfig) -> list[tuple[str, str]]:
    """List path in the project and text of every page in both languages."""
    top = root(config)
    return [
        (path.relative_to(top).as_posix(), path.read_text("utf-8"))
        for each in LANGUAGES
        for path in sorted((top / "docs" / each).rglob("*.md"))
    ]


def terms(config: MkDocsConfig) -> list[Term]:
    """List the terms of docs/terms.csv in the order of the English ones."""
    path = root(config) / "docs" / "terms.csv"
    with path.open(encoding="utf-8", newline="") as file:
        found = [Term(row["zh"], row["en"]) for row in csv.DictReader(file)]
    return sorted(found, key=lambda term: term.en.lower())
