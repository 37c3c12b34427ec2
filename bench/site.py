"""Time the build, measure the pages, and have Lighthouse judge them.

Prints how long a build takes without and with what is known from before, how
soon a saved change of prose shows in a browser, how high each page is and what
it is filled with, what a first visit fetches, and Lighthouse's scores. A `!`
marks what misses its limit.
"""

import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import browsing  # noqa: E402

KINDS = {
    "home": "",
    "concept": "concepts/convolution/",
    "network": "networks/lenet/",
    "lab": "labs/lenet-digits/",
}
TOPICS = ("concepts/", "modules/", "networks/")
HEIGHT, CODE, FIGURES = 12_000, 35, 20  # px; % of the height
HTML, HOME = 60_000, 15_000  # bytes, compressed
LIGHTHOUSE = "lighthouse@12"  # scores of other versions are not comparable
SCORES = {
    "performance": 95,
    "accessibility": 100,
    "best-practices": 100,
    "seo": 100,
}
RUNS = 3

# Shares of the page's height: each piece counts once, for its outermost kind.
MEASURE = """() => {
  const kinds = {
    figures: '.drawing, figcaption, article img, [data-explorer], svg.figure',
    code: '.highlight, pre',
    tables: 'table, .md-typeset__scrollwrap',
    prose: 'p, ul, ol, dl, h1, h2, h3, h4, .formula, .admonition, summary',
  };
  const all = Object.values(kinds).join();
  const heights = {figures: 0, code: 0, tables: 0, prose: 0};
  const visit = element => {
    for (const child of element.children) {
      const explorer = child.localName.endsWith('-explorer');
      const kind = explorer ? 'figures'
        : Object.keys(kinds).find(kind => child.matches(kinds[kind]));
      const box = child.getBoundingClientRect();
      if (!child.checkVisibility() || box.width < 2) continue;
      const mixed = kind == 'prose' && child.querySelector(
        [kinds.figures, kinds.code, kinds.tables].join());
      if (kind && !mixed) heights[kind] += box.height;
      else visit(child);
    }
  };
  visit(document.querySelector('article'));
  heights.page = document.documentElement.scrollHeight;
  return heights;
}"""


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
            f"{cell!s:>15}" if n else f"{cell!s:<36}"
            for n, cell in enumerate(cells)
        )
    )


def limited(value: float, limit: float, *, least: bool = False) -> str:
    """Return a number as text, with a `!` where it misses its limit."""
    missed = value < limit if least else value > limit
    return f"{'! ' if missed else ''}{value:,.0f}"


def pages(site: Path) -> list[str]:
    """List the addresses of all pages, relative to the site."""
    return [
        path.relative_to(site).as_posix().removesuffix("index.html")
        for path in sorted(site.rglob("index.html"))
    ]


def measure(site: Path, base: str, chromium: Any) -> None:
    """Print how high each page is, and what it is filled with."""
    row(
        "at a width of 1360 px",
        *("height", "prose %", "code %", "figures %", "tables %"),
    )
    page = chromium.new_page(viewport={"width": 1360, "height": 900})
    for path in pages(site):
        page.goto(base + path)
        page.wait_for_load_state("networkidle")
        # Else what is far from the window has a height that is guessed.
        page.add_style_tag(content="* {content-visibility: visible !important}")
        heights = page.evaluate(MEASURE)
        share = {k: 100 * v / heights["page"] for k, v in heights.items()}
        topic = path.removeprefix("en/").startswith(TOPICS)
        far = float("inf")
        row(
            f"  /{path}",
            limited(heights["page"], HEIGHT if topic else far),
            limited(share["prose"], far),
            limited(share["code"], CODE if topic else far),
            limited(share["figures"], FIGURES if topic else 0, least=True),
            limited(share["tables"], far),
        )
    page.close()
    print(
        f"  limits of topics: {HEIGHT:,} px, code {CODE} %, "
        f"figures at least {FIGURES} %"
    )


def weigh(site: Path, base: str, chromium: Any) -> None:
    """Print the bytes of each page, and of all that its first visit fetches."""
    row("first visit, bytes", "HTML", "gzip", "all", "gzip", "requests")
    for path in pages(site):
        bodies: list[bytes] = []
        context = chromium.new_context()
        page = context.new_page()
        page.on("response", lambda r, seen=bodies: seen.append(r.body()))
        page.goto(base + path)
        page.wait_for_load_state("networkidle")
        context.close()
        html = (site / path / "index.html").read_bytes()
        home = path in ("", "en/")
        row(
            f"  /{path}",
            f"{len(html):,}",
            limited(len(gzip.compress(html)), HOME if home else HTML),
            f"{sum(map(len, bodies)):,}",
            f"{sum(len(gzip.compress(b)) for b in bodies):,}",
            len(bodies),
        )
    print(f"  limits, compressed: {HTML:,}; home {HOME:,}")


def judge(base: str, browser: str) -> None:
    """Print Lighthouse's scores as a phone of middling speed gets them."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: no scores of Lighthouse")
        return
    with tempfile.TemporaryDirectory() as folder:
        installed = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", LIGHTHOUSE],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if installed.returncode:
            print(f"npm cannot install {LIGHTHOUSE}: no scores of Lighthouse")
            print(installed.stderr.strip()[-500:])
            return
        row(f"Lighthouse, phone, median of {RUNS}", *SCORES, "each run")
        for kind, path in KINDS.items():
            for language, prefix in (("zh", ""), ("en", "en/")):
                url = f"{base}{prefix}{path}"
                runs = [_scores(folder, url, browser) for _ in range(RUNS)]
                row(
                    f"  {kind} ({language})",
                    *(
                        limited(
                            statistics.median(run[name] for run in runs),
                            least,
                            least=True,
                        )
                        for name, least in SCORES.items()
                    ),
                    "/".join(f"{run['performance']:.0f}" for run in runs),
                )


def _scores(folder: str, url: str, browser: str) -> dict[str, float]:
    report = subprocess.run(
        [
            "node",
            f"{folder}/node_modules/lighthouse/cli/index.js",
            url,
            "--quiet",
            "--output=json",
            f"--only-categories={','.join(SCORES)}",
            f"--chrome-flags=--headless=new {' '.join(browsing.FLAGS)}",
        ],
        env=os.environ | {"CHROME_PATH": browser},
        capture_output=True,
        text=True,
    )
    if report.returncode:
        raise RuntimeError(f"Lighthouse fails on {url}: {report.stderr}")
    found = json.loads(report.stdout)["categories"]
    return {name: 100 * found[name]["score"] for name in SCORES}


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
        port = browsing.free_port()
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
        found = browsing.find()
        if found is None:
            print(f"{browsing.MISSING}: nothing measured")
            return
        with browsing.chromium() as chromium, browsing.served(site) as base:
            row(
                "  saved prose until seen",
                f"{change_prose(cache, chromium):.1f}",
                "< 4",
            )
            print()
            measure(site, base, chromium)
            print()
            weigh(site, base, chromium)
        print()
        with browsing.served(site) as base:
            judge(base, found)


if __name__ == "__main__":
    main()
