from functools import partial
from typing import Literal

from torch import Tensor, nn

# How a block's input reaches its output (section 3.3). Where shapes differ, A
# subsamples and adds channels of zeros, and B projects; C projects everywhere.
# None leaves the shortcut out: a plain network.
Shortcut = Literal["A", "B", "C"] | None


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
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c + channels, h/stride, w/stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.channels))


def make_shortcut(
    c: int, out: int, stride: int, option: Shortcut
) -> nn.Module | None:
    """Build the path from `c` channels to `out`, as `option` says."""
    if option == "C" or (option == "B" and (c != out or stride != 1)):
        return nn.Sequential(
            nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )
    if option == "A" and (c != out or stride != 1):
        return Pad(out - c, stride)
    return nn.Identity() if option else None


# --8<-- [end:shortcut]
# --8<-- [start:basic]
class BasicBlock(nn.Module):
    """Learn a residual with two 3×3 convolutions (figure 5, left)."""

    expansion = 1

    def __init__(
        self, c: int, width: int, stride: int, option: Shortcut, v1: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(c, width, stride, option)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, width, h/stride, w/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            y += self.downsample(x)
        return nn.functional.relu(y, inplace=True)


# --8<-- [end:basic]
# --8<-- [start:bottleneck]
class Bottleneck(nn.Module):
    """Learn a residual with a 3×3 between two 1×1 (figure 5, right).

    The stride is on the 3×3, as in torchvision ("v1.5"). In the paper (`v1`)
    it is on the first 1×1, which so skips three pixels of four.
    """

    expansion = 4

    def __init__(
        self, c: int, width: int, stride: int, option: Shortcut, v1: bool
    ) -> None:
        super().__init__()
        s1, s2 = (stride, 1) if v1 else (1, stride)
        self.conv1 = nn.Conv2d(c, width, 1, s1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, s2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(c, 4 * width, stride, option)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, 4 width, h/stride, w/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            y += self.downsample(x)
        return nn.functional.relu(y, inplace=True)


# --8<-- [end:bottleneck]
# --8<-- [start:network]
class ResNet(nn.Module):
    """Classify with four stages of residual blocks, `depths` of them each.

    `small` puts a 3×3 in place of the 7×7 and its pooling, for 32×32 images.
    `zero_init` starts blocks as the identity (Goyal et al. 2017). An input
    with other channels, or empty, raises `ValueError`. He et al. 2016, "Deep
    residual learning for image recognition", Table 1. Initialized as in
    torchvision, whose checkpoints fit where there are any.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, ...],
        *,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        small: bool = False,
        shortcut: Shortcut = "B",
        v1: bool = False,
        zero_init: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if shortcut not in ("A", "B", "C", None):
            raise ValueError(f"{shortcut=} must be 'A', 'B', 'C' or None")
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        self.in_channels = in_channels
        c = widths[0]
        k, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, c, k, stride, k // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        stages = [nn.Sequential() for _ in range(4)]
        for n, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for i in range(depth):
                stride = 2 if n > 0 and i == 0 else 1
                stages[n].append(block(c, width, stride, shortcut, v1))
                c = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
            elif zero_init and isinstance(m, BasicBlock):
                nn.init.zeros_(m.bn2.weight)
            elif zero_init and isinstance(m, Bottleneck):
                nn.init.zeros_(m.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels)
        x = self.relu(self.bn1(self.conv1(x)))  # (n, 64, 112, 112) at 224
        x = self.maxpool(x)  # (n, 64, 56, 56)
        x = self.layer1(x)  # (n, 64, 56, 56), in bottlenecks four times 64
        x = self.layer2(x)  # (n, 128, 28, 28)
        x = self.layer3(x)  # (n, 256, 14, 14)
        x = self.layer4(x)  # (n, 512, 7, 7)
        x = self.fc(self.avgpool(x).flatten(1))
        return x


# --8<-- [end:network]
# --8<-- [start:factories]
resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
# --8<-- [end:factories]
# --8<-- [start:cifar]
# Section 4.2: 6n + 2 layers.
_small = partial(ResNet, BasicBlock, widths=(16, 32, 64), small=True)
cifar = partial(_small, shortcut="A", num_classes=10)
resnet20_cifar = partial(cifar, (3, 3, 3))
resnet32_cifar = partial(cifar, (5, 5, 5))
resnet44_cifar = partial(cifar, (7, 7, 7))
resnet56_cifar = partial(cifar, (9, 9, 9))
resnet110_cifar = partial(cifar, (18, 18, 18))
plain20_cifar = partial(cifar, (3, 3, 3), shortcut=None)
plain32_cifar = partial(cifar, (5, 5, 5), shortcut=None)
plain44_cifar = partial(cifar, (7, 7, 7), shortcut=None)
plain56_cifar = partial(cifar, (9, 9, 9), shortcut=None)
plain110_cifar = partial(cifar, (18, 18, 18), shortcut=None)
# --8<-- [end:cifar]
