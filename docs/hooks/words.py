"""Teach the search of the Chinese site the words of the field."""

from __future__ import annotations

import logging

import jieba
from mkdocs.config.defaults import MkDocsConfig

from shared import cache, language, terms


def on_pre_build(config: MkDocsConfig) -> None:
    """Have 感受野 found as one word, not as three."""
    if language(config) != "zh":
        return
    jieba.setLogLevel(logging.WARNING)
    folder = cache(config) / "jieba"
    folder.mkdir(parents=True, exist_ok=True)
    jieba.dt.tmp_dir = str(folder)
    for term in terms(config):
        jieba.add_word(term.zh)
