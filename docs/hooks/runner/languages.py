"""Pick one language out of text that is written in both."""

from __future__ import annotations

import re

LANGUAGES = ("zh", "en")

_PAIR = re.compile(r"〔([^〔〕｜]*)｜([^〔〕｜]*)〕")


def pick(text: str, language: str) -> str:
    """Keep one half of every `〔中文｜English〕` in a text."""
    return _PAIR.sub(lambda m: m[1 + LANGUAGES.index(language)], text)
