import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


@contextmanager
def _frozen(norm: nn.BatchNorm2d) -> Iterator[None]:
    kept = norm.momentum, norm.num_batches_tracked
    norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        norm.momentum, norm.num_batches_tracked = kept


# --8<-- [start:layer]
class DenseLayer(nn.Module):
    """Make `growth_rate` new maps from all earlier ones.

    With `memory_efficient`, training does not keep the concatenated and
    normalized maps for the backward pass, but makes them again.
    """

    def __init__(
        self, in_channels: int, growth_rate: int, memory_efficient: bool
    ) -> None:
        super().__init__()
        width = 4 * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.memory_efficient = memory_efficient

    def bottleneck(self, *features: Tensor) -> Tensor:
        """Reduce all maps so far to (n, 4 growth_rate, h, w)."""
        x: Tensor = torch.cat(features, 1)
        x = self.conv1(self.relu(self.norm1(x)))
        return x

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map tensors (n, c_i, h, w) to (n, growth_rate, h, w)."""
        # torch.compile decides by itself what to keep.
        compiling = torch.compiler.is_compiling()
        if self.memory_efficient and self.training and not compiling:
            x = checkpoint(
                self.bottleneck,
                *features,
                use_reentrant=False,
                # Running statistics see each batch once, not twice.
                context_fn=lambda: (nullcontext(), _frozen(self.norm1)),
            )
        else:
            x = self.bottleneck(*features)
        y: Tensor = self.conv2(self.relu(self.norm2(x)))
        return y

    # --8<-- [end:layer]
    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        # torchvision's files still say norm.1 for norm1.
        for key in [k for k in state_dict if k.startswith(prefix)]:
            name = re.sub(r"^(norm|conv)\.", r"\1", key.removeprefix(prefix))
            state_dict[prefix + name] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


# --8<-- [start:block]
class DenseBlock(nn.ModuleDict):
    """Feed each layer with the block's input and all layers before it."""

    def __init__(
        self, depth: int, c: int, growth_rate: int, memory_efficient: bool
    ) -> None:
        super().__init__()
        for i in range(depth):
            layer = DenseLayer(
                c + i * growth_rate, growth_rate, memory_efficient
            )
            self[f"denselayer{i + 1}"] = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c + depth growth_rate, h, w)."""
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Transition(nn.Sequential):
    """Halve channels, height and width."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(c, c // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


# --8<-- [end:block]
# --8<-- [start:network]
class DenseNet(nn.Module):
    """Classify with dense blocks joined by transitions (DenseNet-BC).

    `small` starts with a 3×3 convolution alone, for 32×32 images.
    An input that is too small or has other channels raises `ValueError`.
    Huang et al. 2017, "Densely connected convolutional networks", Table 1.
    Initialized as in torchvision, whose checkpoints fit.
    """

    def __init__(
        self,
        growth_rate: int,
        depths: tuple[int, ...],
        *,
        small: bool = False,
        memory_efficient: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        self.in_channels = in_channels
        # What is left of the input after its stem must outlast the halvings.
        halvings = len(depths) - 1
        self.smallest = 2**halvings if small else 4 * 2**halvings - 3
        c = 2 * growth_rate
        k, stride = (3, 1) if small else (7, 2)
        self.features = nn.Sequential()
        self.features.conv0 = nn.Conv2d(
            in_channels, c, k, stride, k // 2, bias=False
        )
        if not small:
            self.features.norm0 = nn.BatchNorm2d(c)
            self.features.relu0 = nn.ReLU(inplace=True)
            self.features.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        for i, depth in enumerate(depths, 1):
            block = DenseBlock(depth, c, growth_rate, memory_efficient)
            self.features.add_module(f"denseblock{i}", block)
            c += depth * growth_rate
            if i < len(depths):
                self.features.add_module(f"transition{i}", Transition(c))
                c //= 2
        self.features.norm5 = nn.BatchNorm2d(c)
        self.features.relu5 = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(c, num_classes)
        nn.init.zeros_(self.classifier.bias)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.features(x)  # (n, c, 7, 7) at 224, (n, c, 8, 8) at 32
        x = self.avgpool(x).flatten(1)
        x = self.classifier(x)
        return x


# --8<-- [end:network]
# --8<-- [start:factories]
densenet121 = partial(DenseNet, 32, (6, 12, 24, 16))
densenet161 = partial(DenseNet, 48, (6, 12, 36, 24))
densenet169 = partial(DenseNet, 32, (6, 12, 32, 32))
densenet201 = partial(DenseNet, 32, (6, 12, 48, 32))
# Table 2: 6n + 4 layers.
cifar = partial(DenseNet, small=True, num_classes=10)
densenet100_cifar = partial(cifar, 12, (16, 16, 16))
densenet250_cifar = partial(cifar, 24, (41, 41, 41))
densenet190_cifar = partial(cifar, 40, (31, 31, 31))
# --8<-- [end:factories]
