"""What a page shows of a file fits on a screen."""

import re
from pathlib import Path

import pytest

SNIPPETS = Path(__file__).parents[1] / "snippets"
LONGEST = 40
# Settled as the files are reworked; none may be added.
TO_DO = {
    "data",
    "measure",
    "plots",
    "modules/anchors.py",
    "modules/detection_metrics.py",
    "modules/multiscale.py",
    "networks/darknet.py",
    "networks/yolo.py",
}
FILES = [
    name
    for path in sorted(SNIPPETS.rglob("*.py"))
    if (name := path.relative_to(SNIPPETS).as_posix()) not in TO_DO
    and name.split("/")[0] not in TO_DO
]


def regions(text: str) -> dict[str, str]:
    """Give what stands between the marks of each name, marks left out."""
    found = {}
    marks = r"^ *# --8<-- \[(start|end):.*\]\n"
    for name in re.findall(r"# --8<-- \[start:([\w-]+)\]", text):
        start, end = (rf"# --8<-- \[{w}:{name}\]\n" for w in ("start", "end"))
        (body,) = re.findall(rf"{start}(.*?)^ *{end}", text, re.M | re.S)
        found[name] = re.sub(marks, "", body, flags=re.M).strip("\n")
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_region_has_at_most_forty_lines(name: str) -> None:
    found = regions((SNIPPETS / name).read_text("utf-8"))
    lengths = {part: len(body.splitlines()) for part, body in found.items()}
    assert {p: n for p, n in lengths.items() if n > LONGEST} == {}
