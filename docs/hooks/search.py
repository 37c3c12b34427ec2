"""Let readers find the right section, and load search only when it is used.

The theme's plugin writes the index and its script shows the results; what is
in the index, and how a query is read, is decided here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jieba
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from glossary import anchor
from sections import Section, sections
from shared import Term, language, terms

# How much a hit counts, by the first part of a page's path: a topic's own page
# comes before a row of the glossary, and that before a mention elsewhere.
BOOSTS = {"labs": 0.8, "claims.md": 0.4, "glossary.md": 0.3, "index.md": 0.2}
ASIDES = {"references": 0.1, "from-the-notes": 0.5, "questions": 0.7}

_HAN = re.compile(r"[\u3400-\u9fff]+")

# What is changed in the theme's scripts, which are minified: names of one
# letter differ from version to version, the rest has to be there, once.
_SCRIPTS = {
    "bundle.*.min.js": (
        "search_later.js",
        [
            (r"=new Worker\((\w+)\)", r"=new LaterWorker(\1)"),
            (r'location\.protocol!=="file:"(?=\),\w+\("search"\))', "!1"),
            # A character picked with the mouse, or pasted, brings no key up.
            (r'(?<=,)(\w+\(\w+,)"keyup"\)(?=,\w+\)\.pipe)', r'\1"input")'),
            (
                r'(\w+\("search\.highlight"\))\?',
                r'\1&&new URLSearchParams(location.search).get("h")?',
            ),
        ],
    ),
    "workers/search.*.min.js": (
        "search_query.js",
        [
            (
                r"(?<=search\()(\w+)(\)\{if\()\1=\1\.replace\(new RegExp\("
                r'"\\\\p\{sc=Han\}\+","gu"\),[^;]{1,80}?\.join\("\* "\)\),',
                r"\1\2\1=prepareQuery(\1,this.index.invertedIndex),",
            ),
            # A section with no hit in its text would be shown in full.
            (
                r"(for\(let (\w) of this\.index\.fields\)\{"
                r'if\(typeof (\w)\[\2\]=="undefined"\)continue;'
                r"let (\w)=\[\];[^;]{20,120};if\(!\4\.length\))continue;",
                r'\1{if(\2=="text")\3[\2]=firstParagraph(\3[\2]);continue}',
            ),
        ],
    ),
}

_entries: list[dict[str, Any]] = []


def on_pre_build(config: MkDocsConfig) -> None:
    """Begin a new index."""
    _entries.clear()


@event_priority(100)
def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation
) -> dict[str, Any]:
    """Take down the sections of a page; the plugin's own way is not used."""
    page.meta["search"] = {"exclude": True}
    found = sections(page.content or "")
    if not any(section.title or section.paragraphs for section in found):
        return context
    found[0].title = found[0].title or str(page.title)
    glossary = page.file.src_uri == "glossary.md"
    boost = BOOSTS.get(page.file.src_uri.partition("/")[0], 1.0)
    known = terms(config)
    if glossary:
        del found[0].paragraphs[1:]
    _entries.extend(
        _entry(
            section,
            page.url + (f"#{section.anchor}" if section.anchor else ""),
            found[0].title,
            boost * ASIDES.get(section.anchor, 1.0),
            _twins(section.title, known, language(config)),
        )
        for section in found
    )
    if glossary:
        _entries.extend(
            _entry(row, f"{page.url}#{row.anchor}", "", boost, [])
            for row in _rows(known, language(config))
        )
    return context


@event_priority(50)
def on_post_build(config: MkDocsConfig) -> None:
    """Hand the index to the plugin, and change the theme's two scripts."""
    for name, plugin in config.plugins.items():
        if name.rpartition("/")[2] == "search":
            plugin.search_index.entries = list(_entries)
    scripts = Path(config.site_dir) / "assets" / "javascripts"
    for pattern, (own, changes) in _SCRIPTS.items():
        paths = list(scripts.glob(pattern))
        if len(paths) != 1:
            raise PluginError(f"the theme has {len(paths)} scripts {pattern}")
        text = paths[0].read_text("utf-8")
        before = (Path(__file__).parent / own).read_text("utf-8")
        if text.startswith(before):
            continue  # a preview that builds only what changed
        for old, new in changes:
            text, count = re.subn(old, new, text)
            if count != 1:
                raise PluginError(
                    f"{paths[0].name} has {count} places like {old}, not one: "
                    "the theme has changed, see docs/hooks/search.py"
                )
        paths[0].write_text(before + text, "utf-8")


def _entry(
    section: Section, location: str, page: str, boost: float, twins: list[str]
) -> dict[str, Any]:
    """Return one document of the index.

    Its fields are weighed in mkdocs.yml: `twins` are other names of what the
    title says, `near` is what a reader may also have in mind.
    """
    near = [*section.called, page if section.anchor else ""]
    return {
        "location": location,
        "title": _segmented(section.title),
        "text": "".join(f"<p>{_segmented(p)}</p>" for p in section.paragraphs),
        "twins": _segmented(" ".join([*twins, *section.defined])),
        "near": _segmented(" ".join(filter(None, near))),
        "boost": round(boost, 3),
    }


def _rows(known: list[Term], spoken: str) -> list[Section]:
    """Return the glossary's terms as sections of their own."""
    both = [
        (term, (term.zh, term.en) if spoken == "zh" else (term.en, term.zh))
        for term in known
    ]
    return [Section(2, anchor(term), " · ".join(pair)) for term, pair in both]


def _twins(title: str, known: list[Term], spoken: str) -> list[str]:
    """Return the other language's words for the terms in a title."""
    found = []
    rest = title
    for term in sorted(known, key=lambda t: -len(getattr(t, spoken))):
        if spoken == "zh":
            pattern = re.escape(term.zh)
        else:
            pattern = rf"\b{re.escape(term.short)}s?\b"
        rest, count = re.subn(pattern, "|", rest, flags=re.IGNORECASE)
        if count:
            found.append(term.en if spoken == "zh" else term.zh)
    return found


def _segmented(text: str) -> str:
    """Put a mark of no width between the words of Chinese text."""
    return _HAN.sub(
        lambda run: "\u200b" + "\u200b".join(jieba.cut(run[0])) + "\u200b",
        text,
    ).strip("\u200b")
