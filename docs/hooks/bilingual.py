"""Build both languages with one command, and replace the site in one move."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

from mkdocs import utils
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from shared import language, root, start, state

_target: Path | None = None


def on_startup(
    command: Literal["build", "gh-deploy", "serve"], **_: Any
) -> None:
    """Remember whether this is a preview, which lives on when a page fails."""
    state.serving = command == "serve"
    os.environ.setdefault("SOURCE_DATE_EPOCH", _committed())


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build beside the site's folder: a failed build leaves the old site."""
    global _target
    if state.serving:
        _warnings_do_not_stop(logging.getLogger("mkdocs"))
    elif not state.inner:
        _target = Path(config.site_dir)
        config.site_dir = str(_part(_target))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what both languages have: the site's assets, and the snippets."""
    top = root(config)
    for folder, suffixes in {
        "docs/assets": {".css", ".js", ".svg", ".png"},
        "snippets": {".py"},
    }.items():
        for path in sorted((top / folder).rglob("*")):
            if path.suffix in suffixes and path.name != "__init__.py":
                base = top / "docs" if folder.startswith("docs/") else top
                files.append(
                    File(
                        path.relative_to(base).as_posix(),
                        str(base),
                        config.site_dir,
                        use_directory_urls=False,
                    )
                )
    return files


def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation
) -> dict[str, Any]:
    """Have the language switch lead to this very page."""
    _share(config, context["base_url"], page.url)
    return context


def on_template_context(
    context: dict[str, Any], template_name: str, config: MkDocsConfig
) -> dict[str, Any]:
    """Have the switch of a page without a twin, as 404, lead to the start."""
    _share(config, context["base_url"], "")
    return context


@event_priority(-100)
def on_post_build(config: MkDocsConfig) -> None:
    """Build English into `en`, then put the whole site into its place.

    Only now are the problems of all pages told: at once, in both languages.
    """
    if state.inner:
        return
    state.inner = True
    try:
        build(
            english := _english(config),
            serve_url=english.site_url if state.serving else None,
        )
    except Abort:
        state.settle()
        raise
    finally:
        state.inner = False
    state.settle()
    if _target is not None:
        if config.strict and _warned():
            return  # MkDocs now fails the build, and `on_build_error` tidies
        if _target.exists():
            shutil.rmtree(_target)
        Path(config.site_dir).rename(_target)
        config.site_dir = str(_target)


def on_build_error(error: Exception, **_: Any) -> None:
    """Leave nothing half-built behind."""
    if _target is not None:
        shutil.rmtree(_part(_target), ignore_errors=True)


def _committed() -> str:
    """Return the time of the last commit: what a build may be dated by."""
    try:
        return subprocess.run(
            ["git", "log", "-1", "--format=%ct"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "0"


def _share(config: MkDocsConfig, base: str, url: str) -> None:
    """Tell the theme what the languages have in common on a page."""
    config.extra["alternate"] = alternates(config, base, url)
    # Settings such as light or dark are kept for what lies below this.
    config.extra["scope"] = _up(config, base)


def alternates(
    config: MkDocsConfig, base: str, url: str
) -> list[dict[str, str]]:
    """Give name, code, address and relative path of a page in each language.

    base: the way from the page up to the start of its language.
    """
    url = url.removeprefix("./")
    return [
        {
            "name": name,
            "lang": code,
            "link": start(config) + part,
            "path": _up(config, base) + part,
        }
        for name, code, part in (
            ("中文", "zh", url),
            ("English", "en", f"en/{url}"),
        )
    ]


def _up(config: MkDocsConfig, base: str) -> str:
    """Return the way from a page up to the start of the site."""
    return f"{base.rstrip('/')}/{'../' if language(config) == 'en' else ''}"


def _english(config: MkDocsConfig) -> MkDocsConfig:
    return load_config(
        str(root(config) / "mkdocs.en.yml"),
        site_dir=str(Path(config.site_dir) / "en"),
        site_url=urljoin(config.site_url or "", "en/"),
        strict=config.strict,
    )


def _warned() -> bool:
    return any(
        handler.get_counts()
        for handler in logging.getLogger("mkdocs").handlers
        if isinstance(handler, utils.CountHandler)
    )


def _part(target: Path) -> Path:
    """Return the folder that a build for `target` is made in."""
    return target.with_name(f".{target.name}.part")


def _warnings_do_not_stop(logger: logging.Logger) -> None:
    for handler in list(logger.handlers):
        if isinstance(handler, utils.CountHandler):
            logger.removeHandler(handler)
