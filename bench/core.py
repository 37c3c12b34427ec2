"""Time the NumPy core against torch on the CPU, forward plus backward.

The two run in turn, so that whatever else the machine does slows both. A ratio
is NumPy's median time over torch's: 1 is as fast, 2 takes twice as long.
Memory is the peak that NumPy takes beyond the arguments, results included.
"""

import argparse
import math
import platform
import statistics
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

from snippets.core import conv, pool

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
class Trial:
    name: str
    forward: Run
    backward: Run
    torch: Run
    im2col: int  # bytes of all windows, written out
    counts: bool = True  # in the geometric mean


def random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def convolution(layer: Layer) -> Trial:
    x = random(*layer.shape)
    k, settings = layer.kernel_size, layer.settings
    depth = layer.shape[1] // settings.get("groups", 1)
    w = random(layer.out_channels, depth, k, k)
    b = random(layer.out_channels)
    forward = partial(conv.conv2d, x, w, b, **settings)
    dy = random(*forward().shape)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    pixels = dy.size // layer.out_channels
    return Trial(
        layer.name,
        forward,
        partial(conv.conv2d_backward, dy, x, w, **settings),
        both(partial(F.conv2d, *leaves, **settings), leaves, torch.tensor(dy)),
        pixels * layer.shape[1] * k * k * x.itemsize,
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
        forward = partial(pool.avg_pool2d, x, k, **settings)
        y = forward()
        dy = random(*y.shape)
        backward = partial(pool.avg_pool2d_backward, dy, x.shape, k, **settings)
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
            forward,
            backward,
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


def milliseconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def compare(trial: Trial, budget: float) -> tuple[float, float]:
    """Return the median time of each, run in turn until the time is spent."""

    def ours() -> None:
        trial.forward()
        trial.backward()

    ours(), trial.torch()
    times = []
    end = time.perf_counter() + budget
    while len(times) < 7 or time.perf_counter() < end:
        times.append((milliseconds(ours), milliseconds(trial.torch)))
    a, b = zip(*times, strict=True)
    return statistics.median(a), statistics.median(b)


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


def print_versions() -> None:
    print(processor())
    kernels = []
    for library in threadpool_info():
        if library["user_api"] == "blas":
            kernels.append(library.get("architecture", ""))
            print(
                f"NumPy {np.__version__}: {library['internal_api']} "
                f"{library['version']}, kernels for {kernels[-1]}"
            )
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}: kernels for {capability}")
    if capability == "AVX512" and {"Haswell", "Zen"} & set(kernels):
        print(
            "NumPy's BLAS multiplies with AVX2, torch with AVX-512. Where the "
            "CPU can,\nOPENBLAS_CORETYPE=SkylakeX makes them alike."
        )


def table(trials: list[Trial], threads: int, budget: float) -> None:
    print(f"\n{threads} thread{'s' * (threads > 1)}")
    print(
        f"{'forward + backward':34}{'NumPy':>9}{'torch':>9}{'ratio':>7}"
        f"{'extra memory, of a full im2col':>36}"
    )
    ratios, plain = [], []
    for trial in trials:
        with threadpool_limits(threads):
            torch.set_num_threads(threads)
            ours, theirs = compare(trial, budget)
        memory = [peak(run) for run in (trial.forward, trial.backward)]
        shares = "".join(
            f"{m / 1e6:8.1f} MB {m / trial.im2col:6.2f}" for m in memory
        )
        print(
            f"{trial.name:34}{ours:6.1f} ms{theirs:6.1f} ms"
            f"{ours / theirs:7.2f}{shares}",
            flush=True,
        )
        if trial.counts:
            ratios.append(ours / theirs)
        if "pooling" not in trial.name:
            plain.append(ours / theirs)
    for name, values in (("all", ratios), ("convolutions", plain)):
        if values:
            mean = math.exp(statistics.mean(map(math.log, values)))
            print(f"{'geometric mean, ' + name:52}{mean:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1, help="per layer")
    parser.add_argument("--only", default="", help="layers with this name")
    options = parser.parse_args()
    trials = [convolution(layer) for layer in CONVOLUTIONS]
    trials += [*pooling(MAX_POOL), *pooling(AVG_POOL)]
    trials = [trial for trial in trials if options.only in trial.name]
    print_versions()
    for threads in options.threads:
        table(trials, threads, options.seconds)


if __name__ == "__main__":
    main()
