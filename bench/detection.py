"""Time the detection snippets against other libraries' code, in one run.

    python bench/detection.py [--only nms ...] [--runs 7] [--threads 1 ...]

Both take turns, and a time is the quickest of its runs, which other programs
on the machine disturb least: a ratio over the limit gets up to five times the
runs to come down. k-means runs as many rounds here as there, seeding included.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from snippets.modules import anchors

LIMIT = 1.5
ROUNDS = 15  # fewer than either needs to end by itself
Run = Callable[[], Any]


class Trial(NamedTuple):
    name: str
    ours: Run
    theirs: Run
    other: str


def boxes(n: int, *, side: float = 600) -> Tensor:
    """Scatter boxes over an image."""
    corner, size = torch.rand(n, 2) * side, torch.rand(n, 2) * 90 + 10
    return torch.cat([corner, corner + size], 1)


def detections(objects: int, each: int) -> Tensor:
    """Crowd boxes around objects, as a detector gives them."""
    centre = boxes(objects).repeat(each, 1)
    return centre + torch.randn_like(centre) * 6


def torchvision_boxes() -> Any:
    """Import `torchvision.ops.boxes`, whose operators may not load."""
    try:
        return importlib.import_module("torchvision.ops.boxes")
    except RuntimeError:
        spec = importlib.util.find_spec("torchvision")
        assert spec is not None
        sys.modules["torchvision"] = importlib.util.module_from_spec(spec)
        return importlib.import_module("torchvision.ops.boxes")


def greedy(corners: Any, scores: Any, threshold: float) -> list[int]:
    """Suppress by NumPy, one kept box at a time."""
    x1, y1, x2, y2 = np.ascontiguousarray(corners.T)
    area = (x2 - x1) * (y2 - y1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        i, rest = order[0], order[1:]
        kept.append(int(i))
        w = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        h = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        overlap = np.maximum(w, 0) * np.maximum(h, 0)
        order = rest[overlap / (area[i] + area[rest] - overlap) <= threshold]
    return kept


def intersections() -> Iterator[Trial]:
    a, b = boxes(10_000), boxes(1_000)
    ours = partial(anchors.box_iou, a, b)
    theirs = partial(torchvision_boxes().box_iou, a, b)
    torch.testing.assert_close(ours(), theirs())
    yield Trial("IoU 10,000 × 1,000", ours, theirs, "torchvision's Python")


def suppression() -> Iterator[Trial]:
    for name, rows in (
        ("scattered", boxes(10_000)),
        ("crowded", detections(100, 100)),
    ):
        scores = torch.rand(10_000)
        ours = partial(anchors.nms, rows, scores)
        kept = ours().tolist()
        loop = partial(greedy, rows.numpy(), scores.numpy(), 0.5)
        assert loop() == kept
        title = f"NMS 10,000 {name}, {len(kept):,} kept"
        yield Trial(title, ours, loop, "NumPy, greedy loop")
        try:
            compiled = partial(torchvision_boxes().nms, rows, scores, 0.5)
            compiled()
        except RuntimeError:
            print("torchvision's compiled nms does not load: left out")
        else:
            yield Trial(title, ours, compiled, "torchvision, compiled")


def rounds(run: Run, k: int) -> int:
    """Count the rounds of our k-means: one comparison each."""
    assign = anchors._nearest
    with patch.object(anchors, "_nearest", side_effect=assign) as spy:
        run()
    return spy.call_count - k - 1  # each seed takes one, all seeds one more


def clusters() -> Iterator[Trial]:
    sizes = (torch.rand(20_000, 2) * 3).exp() * 16
    for k in (5, 9):
        ours = partial(anchors.kmeans_anchors, sizes, k, iterations=ROUNDS)
        model = KMeans(k, n_init=1, max_iter=ROUNDS, tol=0, random_state=0)
        theirs = partial(model.fit, sizes.numpy())
        done = rounds(ours, k), theirs().n_iter_
        assert done == (ROUNDS, ROUNDS), done
        yield Trial(
            f"k-means 20,000, k={k}, {ROUNDS} rounds",
            ours,
            theirs,
            "scikit-learn, Euclidean",
        )


PARTS = {"iou": intersections, "nms": suppression, "kmeans": clusters}


def quickest(trial: Trial, runs: int) -> tuple[float, float]:
    """Measure seconds: ours, theirs."""
    best = [float("inf")] * 2
    for i in range(5 * runs + 1):  # the first warms up
        if i > runs and best[0] <= LIMIT * best[1]:
            break
        for who in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            (trial.ours, trial.theirs)[who]()
            seconds = time.perf_counter() - start
            if i:
                best[who] = min(best[who], seconds)
    return best[0], best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--runs", type=int, default=7, help="of each")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    torch.manual_seed(0)
    trials = [trial for part in args.only for trial in PARTS[part]()]
    over = 0
    for threads in args.threads:
        print(f"\n{threads} thread{'s' * (threads > 1)}, best of {args.runs}")
        print(f"{'':<40}{'ms':>8}{'other':>8}{'ratio':>7}")
        for trial in trials:
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                ours, theirs = quickest(trial, args.runs)
            slow = ours > LIMIT * theirs
            over += slow
            print(
                f"{trial.name:<40}{1e3 * ours:>8.1f}{1e3 * theirs:>8.1f}"
                f"{ours / theirs:>7.2f}  {trial.other}"
                f"{f'  over {LIMIT}' if slow else ''}",
                flush=True,
            )
    print(f"\n{over} rows over {LIMIT}")


if __name__ == "__main__":
    main()
