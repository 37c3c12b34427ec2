"""Ask the search what readers ask, and weigh what it loads.

The queries stand in tests/website/search_queries.csv, each with the page that
answers it best. Times and bytes are those of the first search of a visit, with
a warm start of everything but the search, on this machine and on a phone as
Lighthouse imitates it: four times slower, 1.6 Mbit/s, 150 ms away.
"""

import contextlib
import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import browsing  # noqa: E402
from tests.website.searching import find, open_search, score  # noqa: E402

FIRST = {"zh": "卷积核", "en": "kernel"}
ROW = "{:<10}{:>8}{:>8}{:>10}{:>12}{:>9}{:>9}{:>9}{:>9}"


@contextlib.contextmanager
def opened(chromium: Any, url: str, *, phone: bool = False) -> Iterator[Any]:
    """Open a page that has all it needs before anybody searches."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    if phone:
        session = context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        session.send("Network.enable")
        session.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": 150,
                "downloadThroughput": 1.6e6 / 8,
                "uploadThroughput": 750e3 / 8,
            },
        )
    yield page
    context.close()


def first_result(chromium: Any, url: str, query: str, phone: bool) -> float:
    """Return the seconds from opening the search to the first result."""
    times = []
    for _ in range(3):
        with opened(chromium, url, phone=phone) as page:
            start = time.perf_counter()
            open_search(page)
            assert find(page, query)
            times.append(time.perf_counter() - start)
    return sorted(times)[1]


def weight(chromium: Any, url: str) -> tuple[int, int]:
    """Return the bytes that opening the search loads, plain and compressed."""
    bodies: list[bytes] = []
    with opened(chromium, url) as page:
        page.on(
            "response",
            lambda r: bodies.append(r.body()) if "search" in r.url else None,
        )
        open_search(page)
    return sum(map(len, bodies)), sum(len(gzip.compress(b)) for b in bodies)


def main() -> None:
    if browsing.find() is None:
        print(f"{browsing.MISSING}: nothing asked")
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "-q", "-d", folder],
            cwd=ROOT,
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
            check=True,
        )
        with (
            browsing.chromium() as chromium,
            browsing.served(Path(folder)) as base,
        ):
            print(
                ROW.format(
                    "language",
                    "asked",
                    "first",
                    "in three",
                    "sections",
                    "kB",
                    "gzip",
                    "s here",
                    "s phone",
                )
            )
            later = []
            for language, start in (("zh", base), ("en", base + "en/")):
                with opened(chromium, start) as page:
                    open_search(page)
                    got = score(page, start, language)
                plain, packed = weight(chromium, start)
                here, phone = (
                    first_result(chromium, start, FIRST[language], slow)
                    for slow in (False, True)
                )
                print(
                    ROW.format(
                        language,
                        got.asked,
                        got.first,
                        got.among_three,
                        f"{got.sections_shown}/{got.sections}",
                        f"{plain / 1000:.0f}",
                        f"{packed / 1000:.0f}",
                        f"{here:.2f}",
                        f"{phone:.2f}",
                    )
                )
                later += got.later
            print(
                "\nnot first:",
                *(line.replace(base, "") for line in later),
                sep="\n  ",
            )


if __name__ == "__main__":
    main()
