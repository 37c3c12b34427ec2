"""Time the NumPy core against torch on the CPU, forward plus backward.

The two run in turn, so that whatever else the machine does slows both. A ratio
is NumPy's median time over torch's: 1 is as fast, 2 takes twice as long. Where
there are several ways, all are timed, and the fastest counts. Memory is the
peak that NumPy takes beyond the arguments, results included.
"""

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from threadpoolctl import threadpool_info, threadpool_limits

from snippets.core import (
    activation,
    avg_pool,
    conv,
    depthwise,
    pool,
    winograd,
)

Run = Callable[[], Any]


@dataclass
class Layer:
    name: str
    shape: tuple[int, int, int, int]
    kernel_size: int
    out_channels: int = 0
    settings: dict[str, int] = field(default_factory=dict)


CONVOLUTIONS = [
    Layer("LeNet conv1", (64, 1, 28, 28), 5, 6, {"padding": 2}),
    Layer(
        "AlexNet conv1", (8, 3, 224, 224), 11, 64, {"stride": 4, "padding": 2}
    ),
    Layer("VGG", (4, 64, 112, 112), 3, 64, {"padding": 1}),
    Layer("ResNet 1×1", (8, 256, 56, 56), 1, 64),
    Layer(
        "ResNet stride 2", (8, 128, 56, 56), 3, 128, {"stride": 2, "padding": 1}
    ),
    Layer("dilated", (4, 64, 56, 56), 3, 64, {"padding": 2, "dilation": 2}),
    Layer("deep", (4, 256, 28, 28), 3, 256, {"padding": 1}),
    Layer("depthwise", (4, 64, 56, 56), 3, 64, {"padding": 1, "groups": 64}),
]
MAX_POOL = Layer(
    "max pooling", (8, 64, 112, 112), 3, 0, {"stride": 2, "padding": 1}
)
AVG_POOL = Layer("average pooling", (8, 64, 112, 112), 2, 0, {"stride": 2})


@dataclass
class Way:
    name: str
    forward: Run
    backward: Run

    def __call__(self) -> None:
        self.forward()
        self.backward()


@dataclass
class Trial:
    name: str
    ways: list[Way]
    torch: Run
    im2col: int  # bytes of all windows, written out
    counts: bool = True  # in the geometric mean


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def arguments(layer: Layer) -> tuple[Any, Any, Any]:
    depth = layer.shape[1] // layer.settings.get("groups", 1)
    w = random(layer.out_channels, depth, *[layer.kernel_size] * 2)
    return random(*layer.shape), w, random(layer.out_channels)


def convolution(layer: Layer) -> Trial:
    (x, w, b), settings = arguments(layer), layer.settings
    forward = partial(conv.conv2d, x, w, b, **settings)
    dy = random(*forward().shape)
    backward = partial(conv.conv2d_backward, dy, x, w, **settings)
    ways = [Way("columns", forward, backward)]
    if layer.kernel_size == 3 and not {"stride", "groups"} & set(settings):
        ways += [
            Way(
                f"Winograd {tile}×{tile}",
                partial(
                    winograd.winograd_conv2d, x, w, b, tile=tile, **settings
                ),
                partial(
                    winograd.winograd_conv2d_backward,
                    *(dy, x, w),
                    tile=tile,
                    **settings,
                ),
            )
            for tile in (4, 2)
        ]
    if settings.get("groups") == len(w):
        others = {k: v for k, v in settings.items() if k != "groups"}
        shifts = partial(
            depthwise.depthwise_conv2d_backward, dy, x, w, **others
        )
        ways.append(Way("shifts", forward, shifts))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    pixels = dy.size // layer.out_channels
    return Trial(
        layer.name,
        ways,
        both(partial(F.conv2d, *leaves, **settings), leaves, torch.tensor(dy)),
        pixels * layer.shape[1] * layer.kernel_size**2 * x.itemsize,
    )


def pooling(layer: Layer) -> Iterator[Trial]:
    x = random(*layer.shape)
    k, settings = layer.kernel_size, layer.settings
    if layer is MAX_POOL:
        theirs = F.max_pool2d
        forward = partial(
            pool.max_pool2d, x, k, return_indices=True, **settings
        )
        y, indices = forward()
        dy = random(*y.shape)
        backward = partial(pool.max_pool2d_backward, dy, indices, x.shape)
    else:
        theirs = F.avg_pool2d
        forward = partial(avg_pool.avg_pool2d, x, k, **settings)
        y = forward()
        dy = random(*y.shape)
        backward = partial(
            avg_pool.avg_pool2d_backward, dy, x.shape, k, **settings
        )
    # torch is slow in its default layout: nothing is claimed from that.
    for layout, counts in (("channels_last", True), ("contiguous", False)):
        memory_format = {
            "channels_last": torch.channels_last,
            "contiguous": torch.contiguous_format,
        }[layout]
        leaf = torch.tensor(x).to(memory_format=memory_format).requires_grad_()
        gradient = torch.tensor(dy).to(memory_format=memory_format)
        yield Trial(
            f"{layer.name}, torch {layout}",
            [Way("", forward, backward)],
            both(partial(theirs, leaf, k, **settings), [leaf], gradient),
            y.nbytes * k * k,
            counts,
        )


def both(
    function: Callable[[], torch.Tensor],
    leaves: list[torch.Tensor],
    gradient: torch.Tensor,
) -> Run:
    return lambda: torch.autograd.grad(function(), leaves, gradient)


def milliseconds(run: Run, clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return (clock() - start) * 1e3


def compare(runs: list[Run], budget: float, threads: int = 1) -> list[float]:
    """Return the median time of each, run in turn until the time is spent.

    With one thread that is the processor's time, in which nobody else has a
    share.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    for run in runs:
        run()
    times = []
    end = time.perf_counter() + budget
    while len(times) < 7 or time.perf_counter() < end:
        times.append([milliseconds(run, clock) for run in runs])
    return [statistics.median(column) for column in zip(*times, strict=True)]


def peak(run: Run) -> int:
    tracemalloc.start()
    run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":")[1] for line in lines if "model name" in line)
    return next(names, platform.processor()).strip()


def kernels() -> list[str]:
    """Name the instructions of NumPy's BLAS, as OpenBLAS calls them."""
    return [
        library.get("architecture") or "unknown kernels"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def instructions() -> tuple[str, str]:
    """Name the instruction sets of NumPy's BLAS and of torch."""
    wide = {"SkylakeX", "Cooperlake", "SapphireRapids"}
    ours = "AVX512" if wide & set(kernels()) else "AVX2"
    return ours, torch.backends.cpu.get_cpu_capability()


def print_versions() -> None:
    print(processor())
    for library in threadpool_info():
        if library["user_api"] == "blas":
            print(
                f"NumPy {np.__version__}: {library['internal_api']} "
                f"{library['version']}, kernels for "
                f"{library.get('architecture')}"
            )
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}: kernels for {capability}")


def table(trials: list[Trial], threads: int, budget: float) -> None:
    named = f"{', '.join(kernels())} against {instructions()[1]}"
    print(f"\n{threads} thread{'s' * (threads > 1)}, {named}")
    print(
        f"{'forward + backward':52}{'NumPy':>9}{'torch':>9}{'ratio':>7}"
        f"{'extra memory, of a full im2col':>36}"
    )
    ratios, plain = [], []
    for trial in trials:
        with threadpool_limits(threads):
            torch.set_num_threads(threads)
            *ours, theirs = compare([*trial.ways, trial.torch], budget, threads)
        for way, taken in zip(trial.ways, ours, strict=True):
            memory = [peak(run) for run in (way.forward, way.backward)]
            shares = "".join(
                f"{m / 1e6:8.1f} MB {m / trial.im2col:6.2f}" for m in memory
            )
            name = ", ".join(filter(None, (trial.name, way.name)))
            best = "*" if len(ours) > 1 and taken == min(ours) else " "
            print(
                f"{name:50}{best} {taken:6.1f} ms{theirs:6.1f} ms"
                f"{taken / theirs:7.2f}{shares}",
                flush=True,
            )
        if trial.counts:
            ratios.append(min(ours) / theirs)
        if "pooling" not in trial.name:
            plain.append(min(ours) / theirs)
    for name, values in (("all", ratios), ("convolutions", plain)):
        if values:
            mean = math.exp(statistics.mean(map(math.log, values)))
            print(f"{'geometric mean, ' + name:70}{mean:7.2f}")


def plain_mean(x: Any, k: int) -> Any:
    """Pool by adding up all taps, as the definition says, and dividing."""
    taps = [x[:, :, u::k, v::k] for u in range(k) for v in range(k)]
    return sum(taps) / np.float32(k * k)


def plain_gelu(x: Any) -> Any:
    erfc = np.frompyfunc(math.erfc, 1, 1)
    return x * np.asarray(erfc(x / -math.sqrt(2)) / 2, x.dtype)


def levers() -> Iterator[tuple[str, Run, Run]]:
    """Yield what makes it fast: its name, without it, with it."""
    layers = {layer.name: layer for layer in CONVOLUTIONS}

    def prepared(name: str) -> tuple[Any, Any, Any, dict[str, int]]:
        layer = layers[name]
        x, w, b = arguments(layer)
        dy = random(*conv.conv2d(x, w, b, **layer.settings).shape)
        return x, w, dy, layer.settings

    x = random(*AVG_POOL.shape)
    yield (
        "mean: rows, then columns, times 1/k²",
        lambda: plain_mean(x, 2),
        lambda: avg_pool.avg_pool2d(x, 2),
    )
    yield (
        "maximum without its index",
        lambda: pool.max_pool2d(x, 3, stride=2, return_indices=True),
        lambda: pool.max_pool2d(x, 3, stride=2),
    )
    for name in ("VGG", "dilated"):
        x1, w1, dy1, s1 = prepared(name)
        to = conv._check_conv(
            x1, w1, None, 1, s1["padding"], s1.get("dilation", 1), 1
        )

        def apart(x: Any = x1, w: Any = w1, dy: Any = dy1, to: Any = to) -> Any:
            size = x.shape[2:]
            return (
                conv._kernel_gradient(dy, x, w, to),
                conv._spread(dy, w, size, to),
                dy.sum((0, 2, 3)),
            )

        yield (
            f"one set of columns for both gradients, {name}",
            apart,
            partial(conv.conv2d_backward, dy1, x1, w1, **s1),
        )
    for name in ("VGG", "dilated", "deep"):
        x2, w2, dy2, s2 = prepared(name)
        yield (
            f"Winograd forward, {name}",
            partial(conv.conv2d, x2, w2, **s2),
            partial(winograd.winograd_conv2d, x2, w2, **s2),
        )
        yield (
            f"Winograd kernel gradient, {name}",
            partial(
                conv.conv2d_backward, dy2, x2, w2, input_gradient=False, **s2
            ),
            partial(
                winograd.winograd_conv2d_backward,
                *(dy2, x2, w2),
                input_gradient=False,
                **s2,
            ),
        )
    x3, w3, dy3, _ = prepared("depthwise")
    to3 = conv._check_conv(x3, w3, None, 1, 1, 1, 64)
    yield (
        "kernel gradient by shifts, depthwise",
        partial(conv._kernel_gradient, dy3, x3, w3, to3),
        partial(depthwise._kernel_gradient, dy3, x3, w3, to3),
    )
    for name in ("LeNet conv1", "AlexNet conv1"):
        x4, w4, dy4, s4 = prepared(name)
        backward = partial(conv.conv2d_backward, dy4, x4, w4, **s4)
        yield (
            f"no gradient of the input, {name}",
            backward,
            partial(backward, input_gradient=False),
        )
    million = random(1_000_000)
    yield (
        "erfc as a polynomial, gelu of a million",
        lambda: plain_gelu(million),
        lambda: activation.gelu(million),
    )


def print_levers(budget: float) -> None:
    print(f"\n{'lever, 1 thread':52}{'without':>9}{'with':>9}{'ratio':>7}")
    for name, without, with_it in levers():
        with threadpool_limits(1):
            before, after = compare([without, with_it], budget)
        print(
            f"{name:52}{before:6.1f} ms{after:6.1f} ms{after / before:7.2f}",
            flush=True,
        )


def other_kernels() -> str | None:
    """Name kernels of the BLAS that make NumPy and torch alike, if any."""
    ours, theirs = instructions()
    if ours == theirs or "openblas" not in str(threadpool_info()):
        return None
    return {"AVX512": "SkylakeX", "AVX2": "Haswell"}.get(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1, help="per layer")
    parser.add_argument("--only", default="", help="layers with this name")
    parser.add_argument("--no-levers", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    trials = [convolution(layer) for layer in CONVOLUTIONS]
    trials += [*pooling(MAX_POOL), *pooling(AVG_POOL)]
    trials = [trial for trial in trials if options.only in trial.name]
    print_versions()
    for threads in options.threads:
        table(trials, threads, options.seconds)
    if not (options.no_levers or options.only):
        print_levers(options.seconds / 2)
    kind = other_kernels()
    if kind and not options.once:
        print(
            f"\nAgain with OPENBLAS_CORETYPE={kind}, where the CPU can: so "
            "NumPy and torch\nuse the same instructions.\n",
            flush=True,
        )
        command = [sys.executable, *sys.argv, "--once", "--no-levers"]
        subprocess.run(
            command, env={**os.environ, "OPENBLAS_CORETYPE": kind}, check=True
        )


if __name__ == "__main__":
    main()
