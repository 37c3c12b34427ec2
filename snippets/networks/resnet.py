from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypedDict, Unpack

from torch import Tensor, fx, nn

# How a block's input reaches its output (section 3.3). Where shapes differ, A
# subsamples and adds channels of zeros, and B projects; C projects everywhere.
# None leaves the shortcut out: a plain network.
Shortcut = Literal["A", "B", "C"] | None


@fx.wrap  # a traced network still checks its input
def _check_input(x: Tensor, in_channels: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least 1, "
            f"got {tuple(x.shape)}"
        )


# --8<-- [start:shortcut]
class Pad(nn.Module):
    """Subsample, then add channels of zeros: no parameters."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        if channels < 0:
            raise ValueError(f"{channels=}: zeros add channels, and drop none")
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c + channels, h/stride, w/stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.channels))


def make_shortcut(
    in_channels: int, out_channels: int, stride: int, option: Shortcut
) -> nn.Module | None:
    """Build the path around the residual, as `option` says."""
    if option not in ("A", "B", "C", None):
        raise ValueError(f"shortcut={option!r} must be 'A', 'B', 'C' or None")
    differs = in_channels != out_channels or stride != 1
    if option == "C" or (option == "B" and differs):
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    if option == "A" and differs:
        return Pad(out_channels - in_channels, stride)
    return nn.Identity() if option else None


# --8<-- [end:shortcut]
# --8<-- [start:basic]
class BasicBlock(nn.Module):
    """Learn a residual with two 3×3 convolutions (figure 5, left).

    `zero_init`: starts as relu(shortcut). `v1` makes no difference here.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        shortcut: Shortcut = "B",
        v1: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        c, out = in_channels, out_channels
        self.conv1 = nn.Conv2d(c, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(c, out, stride, shortcut)
        if zero_init:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            y += self.downsample(x)
        return nn.functional.relu(y, inplace=True)


# --8<-- [end:basic]
# --8<-- [start:bottleneck]
class Bottleneck(nn.Module):
    """Learn a residual with a 3×3 between two 1×1 (figure 5, right).

    The 1×1 reduce to a quarter of `out_channels` and come back. The stride is
    on the 3×3, as in torchvision ("v1.5"). In the paper (`v1`) it is on the
    first 1×1, which so skips three pixels of four. `zero_init`: starts as
    relu(shortcut).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        shortcut: Shortcut = "B",
        v1: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        c, out, width = in_channels, out_channels, out_channels // 4
        s1, s2 = (stride, 1) if v1 else (1, stride)
        self.conv1 = nn.Conv2d(c, width, 1, s1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, s2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(c, out, stride, shortcut)
        if zero_init:
            nn.init.zeros_(self.bn3.weight)

    # --8<-- [end:bottleneck]
    # --8<-- [start:bottleneck-forward]
    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            y += self.downsample(x)
        return nn.functional.relu(y, inplace=True)


# --8<-- [end:bottleneck-forward]
# --8<-- [start:stage]
class BlockOptions(TypedDict, total=False):
    """Hold what all blocks of a network share."""

    shortcut: Shortcut
    v1: bool
    zero_init: bool


def make_stage(
    build: Callable[..., nn.Module], c: int, out: int, depth: int, stride: int
) -> nn.Sequential:
    """Chain `depth` blocks from `c` channels to `out`; the first strides."""
    rest = (build(out, out) for _ in range(depth - 1))
    return nn.Sequential(build(c, out, stride=stride), *rest)


# --8<-- [end:stage]
# --8<-- [start:network]
class ResNet(nn.Module):
    """Classify with up to four stages of residual blocks, `depths` in each.

    `small` puts a 3×3 in place of the 7×7 and its pooling, for 32×32 images.
    An input with other channels, or empty, raises `ValueError`. He et al.
    2016, "Deep residual learning for image recognition", Table 1. Initialized
    as in torchvision, whose checkpoints fit where there are any.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        small: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        **options: Unpack[BlockOptions],
    ) -> None:
        super().__init__()
        _check_options(depths, widths, num_classes, in_channels)
        self.in_channels, c = in_channels, widths[0]
        k, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, c, k, stride, k // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.channels = tuple(w * block.expansion for w in widths)
        scale = 1 if small else 4
        self.strides = tuple(scale * 2**n for n in range(len(depths)))
        stages = [nn.Sequential() for _ in range(4)]
        build = partial(block, **options)
        for n, (out, d) in enumerate(zip(self.channels, depths, strict=True)):
            stages[n] = make_stage(build, c, out, d, 2 if n else 1)
            c = out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c, num_classes)
        self.apply(_initialize)

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return C2 to C5, of `channels`, and `strides` apart."""
        _check_input(x, self.in_channels)
        x = self.relu(self.bn1(self.conv1(x)))  # (n, 64, 112, 112) at 224
        x = self.maxpool(x)  # (n, 64, 56, 56)
        c2 = self.layer1(x)  # (n, 64, 56, 56), in bottlenecks four times 64
        c3 = self.layer2(c2)  # (n, 128, 28, 28)
        c4 = self.layer3(c3)  # (n, 256, 14, 14)
        c5 = self.layer4(c4)  # (n, 512, 7, 7)
        return [c2, c3, c4, c5][: len(self.channels)]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        x = self.feature_maps(x)[-1]
        x = self.fc(self.avgpool(x).flatten(1))
        return x


# --8<-- [end:forward]
def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")


def _check_options(
    depths: Sequence[int],
    widths: Sequence[int],
    num_classes: int,
    in_channels: int,
) -> None:
    if len(depths) != len(widths) or not 1 <= len(depths) <= 4:
        raise ValueError(
            f"{depths=} and {widths=} must hold one number a stage, for one "
            "to four stages"
        )
    if min(*depths, *widths) < 1:
        raise ValueError(f"{depths=} and {widths=} must be >= 1")
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")


# --8<-- [start:factories]
class Options(BlockOptions, total=False):
    """Hold what `ResNet` takes as well."""

    small: bool
    num_classes: int
    in_channels: int


def resnet18(**options: Unpack[Options]) -> ResNet:
    """Build ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **options)


def resnet34(**options: Unpack[Options]) -> ResNet:
    """Build ResNet-34."""
    return ResNet(BasicBlock, (3, 4, 6, 3), **options)


def resnet50(**options: Unpack[Options]) -> ResNet:
    """Build ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **options)


def resnet101(**options: Unpack[Options]) -> ResNet:
    """Build ResNet-101."""
    return ResNet(Bottleneck, (3, 4, 23, 3), **options)


def resnet152(**options: Unpack[Options]) -> ResNet:
    """Build ResNet-152."""
    return ResNet(Bottleneck, (3, 8, 36, 3), **options)


# --8<-- [end:factories]
