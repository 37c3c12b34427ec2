import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint


@fx.wrap  # a traced network still checks its input
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
class LayerOptions(TypedDict, total=False):
    """Hold what all layers of a network share.

    With `memory_efficient`, training does not keep the concatenated and
    normalized maps for the backward pass, but makes them again. `dropout`
    silences that share of what leaves each convolution but the first one:
    0.2 in section 4.2, where training data are not augmented.
    """

    memory_efficient: bool
    dropout: float


class DenseLayer(nn.Module):
    """Make `growth_rate` new maps from all earlier ones."""

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        *,
        memory_efficient: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = 4 * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.memory_efficient = memory_efficient

    # --8<-- [end:layer]
    # --8<-- [start:layer-forward]
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
        x = self.relu(self.norm2(self.drop(x)))
        return self.drop(self.conv2(x))

    def drop(self, x: Tensor) -> Tensor:
        """Silence the chosen share, if any."""
        return x if self.dropout is None else self.dropout(x)

    # --8<-- [end:layer-forward]
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
        self,
        depth: int,
        c: int,
        growth_rate: int,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        for i in range(depth):
            layer = DenseLayer(c + i * growth_rate, growth_rate, **options)
            self[f"denselayer{i + 1}"] = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c + depth growth_rate, h, w)."""
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Transition(nn.Sequential):
    """Halve channels, height and width."""

    def __init__(self, c: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(c, c // 2, 1, bias=False)
        if dropout:
            self.dropout = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d(2)


# --8<-- [end:block]
# --8<-- [start:network]
class DenseNet(nn.Module):
    """Classify with dense blocks joined by transitions (DenseNet-BC).

    `small`: 32×32 images, and a 3×3 alone at the start. Too small an input, or
    other channels, raise `ValueError`. Huang et al. 2017, "Densely connected
    convolutional networks", Table 1. torchvision's checkpoints fit.
    """

    def __init__(
        self,
        growth_rate: int,
        depths: Sequence[int],
        *,
        small: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        _check_options(growth_rate, depths, num_classes, in_channels)
        self.in_channels, c = in_channels, 2 * growth_rate
        self.features = stem(in_channels, c, small)
        self.channels: tuple[int, ...] = ()  # of what leaves each block
        for i, depth in enumerate(depths, 1):
            block = DenseBlock(depth, c, growth_rate, **options)
            self.features.add_module(f"denseblock{i}", block)
            c += depth * growth_rate
            self.channels += (c,)
            if i < len(depths):
                transition = Transition(c, options.get("dropout", 0.0))
                self.features.add_module(f"transition{i}", transition)
                c //= 2
        self.features.norm5 = nn.BatchNorm2d(c)
        self.features.relu5 = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(c, num_classes)
        initialize(self)
        scale = 1 if small else 4
        self.strides = tuple(scale * 2**i for i in range(len(depths)))
        self.smallest = self.strides[-1] - (0 if small else 3)  # left 1×1

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.features(x)  # (n, c, 7, 7) at 224, (n, c, 8, 8) at 32
        x = self.avgpool(x).flatten(1)
        x = self.classifier(x)
        return x

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return what leaves each block, the last normalized and rectified.

        The maps have `channels` and lie `strides` apart.
        """
        _check_input(x, self.in_channels, self.smallest)
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, DenseBlock):
                maps.append(x)
        return [*maps[:-1], x]


# --8<-- [end:forward]
# --8<-- [start:stem]
def stem(in_channels: int, c: int, small: bool) -> nn.Sequential:
    """Build what stands before the first block, named as in torchvision."""
    features = nn.Sequential()
    k, stride = (3, 1) if small else (7, 2)
    features.conv0 = nn.Conv2d(in_channels, c, k, stride, k // 2, bias=False)
    if not small:
        features.norm0 = nn.BatchNorm2d(c)
        features.relu0 = nn.ReLU(inplace=True)
        features.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
    return features


def initialize(model: DenseNet) -> None:
    """Draw weights as torchvision does; the last bias starts at zero."""
    nn.init.zeros_(model.classifier.bias)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)


# --8<-- [end:stem]
def _check_options(
    growth_rate: int, depths: Sequence[int], num_classes: int, in_channels: int
) -> None:
    if not depths or min(growth_rate, *depths) < 1:
        raise ValueError(f"{growth_rate=} and {depths=} must be >= 1")
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")


# --8<-- [start:factories]
class Options(LayerOptions, total=False):
    """Hold what `DenseNet` takes as well."""

    num_classes: int
    in_channels: int


def densenet121(**options: Unpack[Options]) -> DenseNet:
    """Build DenseNet-121."""
    return DenseNet(32, (6, 12, 24, 16), **options)


def densenet161(**options: Unpack[Options]) -> DenseNet:
    """Build DenseNet-161."""
    return DenseNet(48, (6, 12, 36, 24), **options)


def densenet169(**options: Unpack[Options]) -> DenseNet:
    """Build DenseNet-169."""
    return DenseNet(32, (6, 12, 32, 32), **options)


def densenet201(**options: Unpack[Options]) -> DenseNet:
    """Build DenseNet-201."""
    return DenseNet(32, (6, 12, 48, 32), **options)


# --8<-- [end:factories]
# --8<-- [start:cifar]
def densenet_cifar(
    growth_rate: int, depth: int, **options: Unpack[Options]
) -> DenseNet:
    """Build the network of Table 2 with `depth` = 6n + 4 layers."""
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"{depth=} must be 6n + 4, from 10 on")
    chosen: Options = {"num_classes": 10}
    chosen.update(options)
    depths = ((depth - 4) // 6,) * 3
    return DenseNet(growth_rate, depths, small=True, **chosen)


def densenet100_cifar(**options: Unpack[Options]) -> DenseNet:
    """Build 100 layers for CIFAR-10."""
    return densenet_cifar(12, 100, **options)


def densenet250_cifar(**options: Unpack[Options]) -> DenseNet:
    """Build 250 layers for CIFAR-10."""
    return densenet_cifar(24, 250, **options)


def densenet190_cifar(**options: Unpack[Options]) -> DenseNet:
    """Build 190 layers for CIFAR-10."""
    return densenet_cifar(40, 190, **options)


# --8<-- [end:cifar]
