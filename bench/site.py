"""Time the build and weigh the pages.

Prints how long a build takes without and with what is known from before, how
soon a saved change of prose shows in a browser, and what a first visit of each
kind of page fetches.
"""

import functools
import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KINDS = {
    "home": "",
    "concept": "concepts/convolution/",
    "network": "networks/lenet/",
    "lab": "labs/lenet-digits/",
    "table": "claims/",
}
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


def build(site: Path, cache: Path) -> float:
    environment = os.environ | {
        "CNN_NOTES_CACHE": str(cache),
        "NO_MKDOCS_2_WARNING": "1",
    }
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(site)],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    return time.perf_counter() - start


def row(*cells: object) -> None:
    print(
        "".join(
            f"{cell!s:>14}" if n else f"{cell!s:<44}"
            for n, cell in enumerate(cells)
        )
    )


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def weigh(site: Path, chromium: Any) -> None:
    """Print the bytes of each kind of page, plain and compressed."""
    row("first visit of a page, kB", "HTML", "gzip", "all", "gzip", "requests")
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/"
        for language, prefix in (("zh", ""), ("en", "en/")):
            for kind, path in KINDS.items():
                bodies: list[bytes] = []
                context = chromium.new_context()
                page = context.new_page()
                page.on(
                    "response", lambda r, seen=bodies: seen.append(r.body())
                )
                page.goto(base + prefix + path)
                page.wait_for_load_state("networkidle")
                html = (site / prefix / path / "index.html").read_bytes()
                context.close()
                row(
                    f"  {kind} ({language})",
                    f"{len(html) / 1000:.0f}",
                    f"{len(gzip.compress(html)) / 1000:.0f}",
                    f"{sum(map(len, bodies)) / 1000:.0f}",
                    f"{sum(len(gzip.compress(b)) for b in bodies) / 1000:.0f}",
                    len(bodies),
                )
        server.shutdown()


def change_prose(cache: Path, chromium: Any) -> float:
    """Return the seconds from a saved sentence to its sight in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        tracked = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
        ).stdout.decode()
        for name in filter(None, tracked.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mkdocs",
                    "serve",
                    "-a",
                    f"127.0.0.1:{port}",
                ],
                cwd=copy,
                env=os.environ
                | {"CNN_NOTES_CACHE": str(cache), "NO_MKDOCS_2_WARNING": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            page = chromium.new_page()
            url = f"http://127.0.0.1:{port}/concepts/convolution/"
            for _ in range(600):
                try:
                    page.goto(url)
                    break
                except Exception:  # the server is not up yet
                    time.sleep(0.1)
            source = copy / "docs/zh/concepts/convolution.md"
            times = []
            for number in range(3):
                page.wait_for_timeout(1500)
                mark = f"改动第{number}次。"
                text = source.read_text("utf-8")
                start = time.perf_counter()
                source.write_text(
                    text.replace("{ .lead }", f"{mark}\n{{ .lead }}", 1)
                )
                page.get_by_text(mark).first.wait_for(timeout=30_000)
                times.append(time.perf_counter() - start)
            page.close()
            return sorted(times)[1]
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site, cache = Path(folder) / "site", Path(folder) / "cache"
        row("build", "seconds", "goal")
        row(
            "  nothing known, the labs included",
            f"{build(site, cache):.1f}",
            "< 90",
        )
        warm = sorted(build(site, cache) for _ in range(3))[1]
        row("  all known", f"{warm:.1f}", "< 6")
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            print(f"no browser found ({', '.join(BROWSERS)}): nothing weighed")
            return
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=found,
                args=[
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-background-networking",
                ],
            )
            row(
                "  saved prose until seen",
                f"{change_prose(cache, chromium):.1f}",
                "< 4",
            )
            print()
            weigh(site, chromium)
            chromium.close()


if __name__ == "__main__":
    main()
