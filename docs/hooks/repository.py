"""Link to the repository, where the workflow says which it is."""

from __future__ import annotations

import os
from urllib.parse import quote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from shared import language


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the repository, and the branch to edit, from the environment."""
    server = os.environ.get("GITHUB_SERVER_URL", "")
    name = os.environ.get("GITHUB_REPOSITORY", "")
    if not server or not name:
        return config
    config.repo_url = f"{server}/{name}"
    config.repo_name = name
    branch = os.environ.get("GITHUB_REF_NAME", "")
    # A tag cannot be edited, nor can what a pull request would become.
    is_branch = os.environ.get("GITHUB_REF_TYPE") == "branch"
    if branch and is_branch and not os.environ.get("GITHUB_HEAD_REF"):
        config.edit_uri = f"edit/{quote(branch)}/docs/{language(config)}/"
    return config


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Have a lab edited in its own file, which both languages share."""
    if page.edit_url and page.file.src_uri.startswith("labs/"):
        base = f"{config.repo_url}/{config.edit_uri}"
        up = base.removesuffix(f"{language(config)}/")
        page.edit_url = f"{up}labs/{page.file.name}.py"
    return markdown
