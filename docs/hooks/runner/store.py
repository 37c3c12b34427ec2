"""Keep results on disk: whole, checked, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


class Store:
    """A folder of JSON values, each under a key.

    An entry is written beside its place and moved there, so that a killed
    build leaves none half-written. An entry whose checksum does not match
    counts as absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Any | None:
        """Return the value under `key`; None when absent or damaged."""
        try:
            text = self._path(key).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        checksum, _, body = text.partition("\n")
        if checksum != _checksum(body):
            return None
        return json.loads(body)

    def put(self, key: str, value: Any) -> Path:
        """Write `value`, made of what JSON knows, and return its file."""
        body = json.dumps(value, ensure_ascii=False)
        return write_whole(self._path(key), f"{_checksum(body)}\n{body}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def write_whole(path: Path, text: str) -> Path:
    """Write a text file in one move: readers see the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
