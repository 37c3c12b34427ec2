"""Darknet's networks, run layer by layer from what its `.cfg` files say.

An independent way from a `.weights` file to an output: a list of layers, one
buffer of numbers read from front to back, and torch's functions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Conv:
    filters: int
    size: int
    stride: int = 1
    normalized: bool = True


@dataclass(frozen=True)
class Route:
    layers: tuple[int, ...]  # relative where negative, else absolute


MAXPOOL, REORG, SHORTCUT, UPSAMPLE, YOLO = (
    "maxpool",
    "reorg",
    "shortcut",
    "upsample",
    "yolo",
)
Layer = Conv | Route | str


def conv(*widths: int) -> list[Layer]:
    """List 3×3 and 1×1 convolutions in turn."""
    return [Conv(w, 1 if i % 2 else 3) for i, w in enumerate(widths)]


DARKNET19_BODY: list[Layer] = [
    *conv(32),
    MAXPOOL,
    *conv(64),
    MAXPOOL,
    *conv(128, 64, 128),
    MAXPOOL,
    *conv(256, 128, 256),
    MAXPOOL,
    *conv(512, 256, 512, 256, 512),
    MAXPOOL,
    *conv(1024, 512, 1024, 512, 1024),
]
DARKNET53_BODY: list[Layer] = [Conv(32, 3)]
for width, depth in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
    block = [Conv(width // 2, 1), Conv(width, 3), SHORTCUT]
    DARKNET53_BODY += [Conv(width, 3, stride=2), *(depth * block)]

YOLOV2_VOC: list[Layer] = [
    *DARKNET19_BODY,
    Conv(1024, 3),
    Conv(1024, 3),
    Route((-9,)),
    Conv(64, 1),
    REORG,
    Route((-1, -4)),
    Conv(1024, 3),
    Conv(125, 1, normalized=False),
    YOLO,
]


def scale(width: int) -> list[Layer]:
    pair = [Conv(width, 1), Conv(2 * width, 3)]
    return [*(3 * pair), Conv(255, 1, normalized=False), YOLO]


YOLOV3: list[Layer] = [
    *DARKNET53_BODY,
    *scale(512),
    Route((-4,)),
    Conv(256, 1),
    UPSAMPLE,
    Route((-1, 61)),
    *scale(256),
    Route((-4,)),
    Conv(128, 1),
    UPSAMPLE,
    Route((-1, 36)),
    *scale(128),
]


def reorg(x: Tensor, stride: int = 2) -> Tensor:
    """Compute by the index arithmetic of Darknet's own layer."""
    n, c, h, w = x.shape
    source = []
    for k in range(c):
        c2, offset = k % (c // stride**2), k // (c // stride**2)
        for j in range(h):
            h2 = j * stride + offset // stride
            for i in range(w):
                w2 = i * stride + offset % stride
                source.append(w2 + w * stride * (h2 + h * stride * c2))
    y = x.flatten(1)[:, source]
    return y.view(n, c * stride**2, h // stride, w // stride)


def run(
    layers: list[Layer], numbers: Tensor, x: Tensor
) -> tuple[list[Tensor], list[Tensor], int]:
    """Return the detectors' inputs, all outputs, and how many numbers read."""
    read, outputs, found = 0, [], []

    def take(*shape: int) -> Tensor:
        nonlocal read
        count = torch.Size(shape).numel()
        read += count
        return numbers[read - count : read].view(shape)

    for layer in layers:
        if isinstance(layer, Conv):
            f = layer.filters
            bias, norm = take(f), [take(f) for _ in range(3 * layer.normalized)]
            weight = take(f, x.shape[1], layer.size, layer.size)
            options: dict[str, Any] = {
                "stride": layer.stride,
                "padding": layer.size // 2,
            }
            if norm:
                gain, mean, var = (t[:, None, None] for t in norm)
                x = functional.conv2d(x, weight, **options)
                x = (x - mean) / (var + 1e-5).sqrt() * gain
                x = x + bias[:, None, None]
                x = torch.where(x > 0, x, 0.1 * x)
            else:
                x = functional.conv2d(x, weight, bias, **options)
        elif isinstance(layer, Route):
            x = torch.cat([outputs[i] for i in layer.layers], 1)
        elif layer == MAXPOOL:
            x = functional.max_pool2d(x, 2)
        elif layer == SHORTCUT:
            x = x + outputs[-3]
        elif layer == REORG:
            x = reorg(x)
        elif layer == UPSAMPLE:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        elif layer == YOLO:
            found.append(x)
        outputs.append(x)
    return found, outputs, read


def count(layers: list[Layer], in_channels: int = 3) -> int:
    """Count the numbers that a file of these layers holds."""
    x = torch.empty(1, in_channels, 32, 32, device="meta")
    endless = torch.empty(10**9, device="meta")
    return run(layers, endless, x)[2]


def write(layers: list[Layer], seed: int = 0) -> Tensor:
    """Draw numbers that keep what runs through the layers of one size."""
    generator = torch.Generator().manual_seed(seed)
    chunks, channels = [], []
    c = 3

    def noise(size: int, scale: float, centre: float = 0.0) -> None:
        values = torch.randn(size, generator=generator)
        chunks.append(centre + scale * values)

    for layer in layers:
        if isinstance(layer, Conv):
            f, weights = layer.filters, layer.filters * c * layer.size**2
            noise(f, 0.1)
            if layer.normalized:
                noise(f, 0.1, 1.0)
                noise(f, 0.1)
                chunks.append(torch.rand(f, generator=generator) + 0.5)
            noise(weights, (2 / (c * layer.size**2)) ** 0.5)
            c = f
        elif isinstance(layer, Route):
            c = sum(channels[i] for i in layer.layers)
        elif layer == REORG:
            c *= 4
        channels.append(c)
    return torch.cat(chunks)
