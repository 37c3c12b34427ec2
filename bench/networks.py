"""Compare speed and memory with torchvision's models, in one run.

    python bench/networks.py [--quick] [--only resnet50 ...]

Both models hold the same weights and take turns. A time is the quickest of
its runs, which other programs on the machine disturb least: a ratio over the
limit gets up to five times the runs to come down. Memory is the peak of a
process of its own, less what it held before the model was built.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "networks")]

from oracle import torchvision_model  # noqa: E402

from snippets.networks import (  # noqa: E402
    alexnet,
    densenet,
    inception,
    resnet,
    vgg,
)

LIMIT = 1.05
# Give memory back at once: what glibc keeps for later differs by chance, by a
# tenth of the peak.
ALLOCATOR = os.environ | {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
}
LAYOUTS = {
    "default": torch.contiguous_format,
    "channels_last": torch.channels_last,
}
Build = Callable[[], nn.Module]


def pairs() -> dict[str, tuple[Build, Build]]:
    """Map each name to our network and torchvision's."""
    found: dict[str, tuple[Build, Build]] = {
        "alexnet": (
            alexnet.alexnet,
            partial(torchvision_model, "alexnet.alexnet"),
        ),
        "googlenet_bn": (
            partial(inception.googlenet_bn, aux=True),
            partial(
                torchvision_model, "googlenet.GoogLeNet", init_weights=True
            ),
        ),
    }
    for depth in (11, 13, 16, 19):
        for bn in (False, True):
            name = f"vgg{depth}" + "_bn" * bn
            found[name] = (
                partial(vgg.VGG, depth, batch_norm=bn),
                partial(torchvision_model, f"vgg.{name}"),
            )
    for module in (resnet, densenet):
        family = module.__name__.rpartition(".")[2]
        for name in vars(module):
            if re.fullmatch(rf"{family}\d+", name):
                theirs = partial(torchvision_model, f"{family}.{name}")
                found[name] = (getattr(module, name), theirs)
    return found


QUICK = ["alexnet", "vgg11", "googlenet_bn", "resnet18", "densenet121"]


def forward(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    with torch.inference_mode():
        model.eval()(x)


def train(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Take one step of plain gradient descent."""
    y = model.train()(x)
    outputs = [y] if isinstance(y, Tensor) else list(y)
    loss = sum(nn.functional.cross_entropy(o, labels) for o in outputs)
    model.zero_grad(set_to_none=True)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(p.grad, alpha=1e-6)


TASKS = {"forward": forward, "train": train}


def batch(layout: str, n: int, size: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 3, size, size)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    return x, torch.randint(1000, (n,))


def times(
    name: str, layout: str, n: int, size: int, runs: int
) -> dict[str, tuple[float, float]]:
    """Measure seconds of each task: ours, torchvision's."""
    ours, theirs = (build() for build in pairs()[name])
    ours.load_state_dict(theirs.state_dict(), strict=True)
    models = [m.to(memory_format=LAYOUTS[layout]) for m in (ours, theirs)]
    x, labels = batch(layout, n, size)
    best = {}
    for task, run in TASKS.items():
        quickest = [float("inf")] * 2
        for i in range(5 * runs + 1):  # the first warms up
            if i > runs and quickest[0] <= LIMIT * quickest[1]:
                break
            for who in (0, 1) if i % 2 else (1, 0):
                start = time.perf_counter()
                run(models[who], x, labels)
                seconds = time.perf_counter() - start
                if i:
                    quickest[who] = min(quickest[who], seconds)
        best[task] = quickest[0], quickest[1]
    return best


def peak() -> int:
    """Return this process's largest memory so far, in kB."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


def child(name: str, who: int, layout: str, n: int, size: int) -> None:
    """Print the peak of each task in kB."""
    x, labels = batch(layout, n, size)
    before = peak()
    model = pairs()[name][who]().to(memory_format=LAYOUTS[layout])
    for run in TASKS.values():
        run(model, x, labels)
        print(peak() - before)


def memory(name: str, layout: str, n: int, size: int) -> dict[str, Any]:
    """Measure MB of each task: ours, torchvision's; nothing beside Linux."""
    if not Path("/proc/self/status").exists():
        return {task: (float("nan"), float("nan")) for task in TASKS}
    sides = []
    for who in (0, 1):
        command = [sys.executable, __file__, "--child", name, str(who), layout]
        command += [str(n), str(size), str(torch.get_num_threads())]
        output = subprocess.run(
            command, check=True, capture_output=True, text=True, env=ALLOCATOR
        ).stdout
        sides.append([int(kb) / 1024 for kb in output.split()])
    return dict(zip(TASKS, zip(*sides, strict=True), strict=True))


def main() -> None:
    if "--child" in sys.argv:
        name, side, layout, *numbers, threads = sys.argv[2:]
        torch.set_num_threads(int(threads))
        child(name, int(side), layout, int(numbers[0]), int(numbers[1]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and few")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=pairs())
    parser.add_argument("--runs", type=int, help="of each task and model")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    n, size = (2, 96) if args.quick else (8, 224)
    runs = args.runs or (3 if args.quick else 5)
    names = args.only or (QUICK if args.quick else list(pairs()))
    print(f"batch {n} at {size}, {args.threads} threads, best of {runs} runs")
    print("ratio: ours to torchvision's; ms and MB: ours\n")
    print(
        f"{'network':<13}{'layout':<14}{'task':<9}"
        f"{'ms':>8}{'ratio':>7}{'MB':>8}{'ratio':>7}"
    )
    over = 0
    for name in names:
        for layout in LAYOUTS:
            seconds = times(name, layout, n, size, runs)
            megabytes = memory(name, layout, n, size)
            for task in TASKS:
                (t, t0), (m, m0) = seconds[task], megabytes[task]
                slow = max(t / t0, m / m0) > LIMIT
                over += slow
                print(
                    f"{name:<13}{layout:<14}{task:<9}"
                    f"{1e3 * t:>8.1f}{t / t0:>7.2f}{m:>8.0f}{m / m0:>7.2f}"
                    f"{f'  over {LIMIT}' if slow else ''}",
                    flush=True,
                )
    print(f"\n{over} rows over {LIMIT}")


if __name__ == "__main__":
    main()
