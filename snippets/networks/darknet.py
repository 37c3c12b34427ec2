import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn


@fx.wrap  # a traced network still checks its input
def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:unit]
class ConvUnit(nn.Sequential):
    """Convolve, normalize and activate: the layer that both networks repeat."""

    def __init__(
        self, c: int, out: int, kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(c, out, kernel_size, stride, padding, bias=False)
        # Darknet's running statistics keep 99 % of themselves at each step.
        self.norm = nn.BatchNorm2d(out, momentum=0.01)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        nn.init.kaiming_normal_(self.conv.weight)


def last_conv(c: int, out: int) -> nn.Conv2d:
    """Make the 1×1 convolution that ends a network: a bias, nothing after."""
    conv = nn.Conv2d(c, out, 1)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


# --8<-- [end:unit]
# --8<-- [start:block]
class Residual(nn.Module):
    """Halve the channels, look around at full width, add the input."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(c, c // 2, 1)
        self.conv2 = ConvUnit(c // 2, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        y: Tensor = x + self.conv2(self.conv1(x))
        return y


# --8<-- [end:block]
# --8<-- [start:bodies]
# Channels of each stage; 3×3 and 1×1 convolutions alternate.
DARKNET19 = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)
# Channels and residual blocks of each stage.
DARKNET53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))


def darknet19_body(in_channels: int = 3) -> nn.Sequential:
    """Build the six stages of Darknet-19: (n, 1024, h/32, w/32) at the end.

    Each stage but the first begins with the pooling that halves its input.
    Redmon and Farhadi 2017, "YOLO9000: better, faster, stronger", Table 6.
    """
    stages, c = nn.Sequential(), in_channels
    for n, widths in enumerate(DARKNET19):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if n else []
        for i, width in enumerate(widths):
            layers.append(ConvUnit(c, width, 1 if i % 2 else 3))
            c = width
        stages.append(nn.Sequential(*layers))
    return stages


def darknet53_body(in_channels: int = 3) -> nn.Sequential:
    """Build the six stages of Darknet-53: (n, 1024, h/32, w/32) at the end.

    Each stage but the first begins with a convolution of stride 2.
    Redmon and Farhadi 2018, "YOLOv3: an incremental improvement", Table 1.
    """
    c = 32
    stages = nn.Sequential(nn.Sequential(ConvUnit(in_channels, c, 3)))
    for width, depth in DARKNET53:
        blocks = (Residual(width) for _ in range(depth))
        stages.append(nn.Sequential(ConvUnit(c, width, 3, 2), *blocks))
        c = width
    return stages


# --8<-- [end:bodies]
# --8<-- [start:network]
class Darknet(nn.Module):
    """Classify images by what the last stage of a body holds.

    `smallest` is the least height and width; an input below it or of other
    channels raises `ValueError`.
    """

    def __init__(
        self, body: nn.Sequential, classifier: nn.Sequential, smallest: int
    ) -> None:
        super().__init__()
        self.stages, self.classifier = body, classifier
        self.smallest = smallest
        first = next(m for m in body.modules() if isinstance(m, nn.Conv2d))
        self.in_channels = first.in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.stages(x)  # (n, 1024, 7, 7) at 224
        x = self.classifier(x).flatten(1)
        return x


def darknet19(*, num_classes: int = 1000, in_channels: int = 3) -> Darknet:
    """Build Darknet-19, which classifies each place, then averages."""
    _check_options(num_classes, in_channels)
    last = last_conv(1024, num_classes)
    return Darknet(
        darknet19_body(in_channels),
        nn.Sequential(last, nn.AdaptiveAvgPool2d(1)),
        smallest=32,
    )


def darknet53(*, num_classes: int = 1000, in_channels: int = 3) -> Darknet:
    """Build Darknet-53, which averages over places, then classifies."""
    _check_options(num_classes, in_channels)
    last = last_conv(1024, num_classes)
    return Darknet(
        darknet53_body(in_channels),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), last),
        smallest=1,
    )


# --8<-- [end:network]
def _check_options(num_classes: int, in_channels: int) -> None:
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")


# --8<-- [start:weights]
class Header(NamedTuple):
    """What a `.weights` file says of itself."""

    version: tuple[int, int, int] = (0, 2, 0)
    seen: int = 0  # images that the weights were trained on


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> Header:
    """Fill a model with the numbers of a darknet `.weights` file.

    The file has a header (three int32: the version; then the images seen, an
    int64, before version 0.2 an int32) and float32 numbers, all little-endian:
    for each convolution, in order, its biases, or the biases, scales, means
    and variances of its batch normalization, then its weights. Models here
    define their convolutions in that order; a part of one, such as `stages`
    or a detector's `body`, loads a file that was cut off there
    (`darknet53.conv.74`).

    Raises ValueError, with the byte and the layer, where the file ends too
    early or too late, is of another format, or holds NaN, infinities or
    negative variances; the model then is as it was. Raises TypeError for a
    model with parameters that such a file cannot hold.
    """
    slots, data = list(_slots(model)), Path(path).read_bytes()
    header, offset = _read_header(data, path)
    found = []
    for name, tensor in slots:
        size = 4 * tensor.numel()
        if len(data) < offset + size:
            raise ValueError(
                f"{path} ends at byte {len(data)}, within {name}, which takes "
                f"bytes {offset} to {offset + size}; it is truncated, or of a "
                "smaller network"
            )
        values = np.frombuffer(data, "<f4", tensor.numel(), offset)
        bad = ~np.isfinite(values)
        if name.endswith("running_var"):
            bad |= values < 0
        if bad.any():
            i = int(bad.argmax())
            raise ValueError(
                f"{path} has {values[i]} at byte {offset + 4 * i}, in {name}; "
                "it is damaged, or of another network"
            )
        found.append(values)
        offset += size
    if offset < len(data):
        raise ValueError(
            f"{path} goes on for {len(data) - offset} bytes after byte "
            f"{offset}, where the model ends; it is of a larger network"
        )
    with torch.no_grad():
        for (_, tensor), values in zip(slots, found, strict=True):
            native = torch.from_numpy(values.astype(np.float32))
            tensor.copy_(native.view_as(tensor))
    return header


def save_weights(
    model: nn.Module, path: str | os.PathLike[str], *, seen: int = 0
) -> None:
    """Write a model as a darknet `.weights` file of version 0.2.0.

    The order is that of `load_weights`; `seen` is the number of images that
    the model was trained on. The file appears whole or not at all. Raises
    TypeError for a model with parameters that such a file cannot hold.
    """
    if not 0 <= seen < 2**63:
        raise ValueError(f"{seen=} must be from 0 to 2**63 - 1")
    header = Header(seen=seen)
    chunks = [struct.pack("<3iq", *header.version, header.seen)]
    for name, tensor in _slots(model):
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinities")
        values = tensor.detach().float().cpu().numpy().astype("<f4")
        chunks.append(values.tobytes())
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.writelines(chunks)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# --8<-- [end:weights]
def _read_header(
    data: bytes, path: str | os.PathLike[str]
) -> tuple[Header, int]:
    """Return the header and where it ends."""
    try:
        version = struct.unpack_from("<3i", data)
        if not all(0 <= part < 1000 for part in version[:2]):
            raise ValueError(
                f"{path} begins with {data[:8]!r}, which is no version: it is "
                "no darknet file"
            )
        counter = "<i" if version < (0, 2) else "<q"
        (seen,) = struct.unpack_from(counter, data, 12)
    except struct.error:
        raise ValueError(
            f"{path} ends at byte {len(data)}, within its header"
        ) from None
    if seen < 0:
        raise ValueError(
            f"{path} says at byte 12 that {seen} images were seen: it is no "
            "darknet file"
        )
    return Header(version, seen), 12 + struct.calcsize(counter)


def _slots(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """List names and tensors in the order of a file."""
    layers = [
        (f"{name}." if name else "", layer)
        for name, layer in model.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
    ]
    while layers:
        name, conv = layers.pop(0)
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(
                f"{name}weight belongs to a {type(conv).__name__}: a file "
                "holds convolutions, each with its batch normalization"
            )
        if conv.bias is not None:
            yield f"{name}bias", conv.bias
        elif layers and _has_statistics(layers[0][1]):
            prefix, norm = layers.pop(0)
            for part in ("bias", "weight", "running_mean", "running_var"):
                yield f"{prefix}{part}", getattr(norm, part)
        else:
            raise TypeError(
                f"{name}weight has neither a bias nor a batch normalization"
            )
        yield f"{name}weight", conv.weight


def _has_statistics(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats
