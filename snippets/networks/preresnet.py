from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict, Unpack

from torch import Tensor, fx, nn
from torch.nn.functional import relu


@fx.wrap  # a traced network still checks its input
def _check_input(x: Tensor, in_channels: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least 1, "
            f"got {tuple(x.shape)}"
        )


# --8<-- [start:projection]
def make_projection(c: int, out: int, stride: int) -> nn.Conv2d | None:
    """Build the shortcut that is needed where shapes change."""
    if c == out and stride == 1:
        return None
    return nn.Conv2d(c, out, 1, stride, bias=False)


# --8<-- [end:projection]
# --8<-- [start:block]
class PreActivationBottleneck(nn.Module):
    """Normalize and activate before each of a 1×1, a 3×3 and a 1×1.

    Nothing follows the sum. Where shapes change, the shortcut projects the
    activated input. With `v1` the stride is on the first 1×1, else on the
    3×3. `zero_init`: no scale comes last, so the last convolution starts at
    zero. Figure 4e and appendix.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        v1: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        c, out, width = in_channels, out_channels, out_channels // 4
        s1, s2 = (stride, 1) if v1 else (1, stride)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv1 = nn.Conv2d(c, width, 1, s1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, s2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.projection = make_projection(c, out, stride)
        if zero_init:
            nn.init.zeros_(self.conv3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        y = relu(self.bn1(x))
        if self.projection is not None:
            x = self.projection(y)
        y = relu(self.bn2(self.conv1(y)))
        y = relu(self.bn3(self.conv2(y)))
        x = x + self.conv3(y)
        return x


# --8<-- [end:block]
# --8<-- [start:stage]
def make_stage(
    build: Callable[..., nn.Module], c: int, out: int, depth: int, stride: int
) -> nn.Sequential:
    """Chain `depth` blocks from `c` channels to `out`; the first strides."""
    rest = (build(out, out) for _ in range(depth - 1))
    return nn.Sequential(build(c, out, stride=stride), *rest)


# --8<-- [end:stage]
# --8<-- [start:network]
class PreResNet(nn.Module):
    """Classify 32×32 images with three stages of pre-activation bottlenecks.

    `depths` counts the blocks of each stage. `v1` has the stride where the
    authors' code has it, on the first 1×1 of a block. An input with other
    channels, or empty, raises `ValueError`. He et al. 2016, "Identity
    mappings in deep residual networks"; initialized as in the authors' code,
    https://github.com/KaimingHe/resnet-1k-layers.
    """

    channels, strides = (64, 128, 256), (1, 2, 4)

    def __init__(
        self,
        depths: Sequence[int],
        *,
        v1: bool = True,
        zero_init: bool = False,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if len(depths) != 3 or min(depths) < 1:
            raise ValueError(f"{depths=} must hold three numbers >= 1")
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        build = partial(PreActivationBottleneck, v1=v1)
        self.layer1 = make_stage(build, 16, 64, depths[0], 1)
        self.layer2 = make_stage(build, 64, 128, depths[1], 2)
        self.layer3 = make_stage(build, 128, 256, depths[2], 2)
        self.bn = nn.BatchNorm2d(256)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(256, num_classes)
        initialize(self, zero_init)

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return what leaves each stage, the last normalized and rectified.

        The maps have `channels` and lie `strides` apart.
        """
        _check_input(x, self.in_channels)
        x = self.conv1(x)  # (n, 16, 32, 32)
        c1 = self.layer1(x)  # (n, 64, 32, 32)
        c2 = self.layer2(c1)  # (n, 128, 16, 16)
        c3 = self.layer3(c2)  # (n, 256, 8, 8)
        return [c1, c2, relu(self.bn(c3))]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        x = self.feature_maps(x)[-1]
        x = self.fc(self.avgpool(x).flatten(1))
        return x


# --8<-- [end:forward]
def initialize(model: PreResNet, zero_init: bool) -> None:
    """Draw weights after He et al. 2015; the last bias starts at zero."""
    nn.init.zeros_(model.fc.bias)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out")
    for m in model.modules():
        if zero_init and isinstance(m, PreActivationBottleneck):
            nn.init.zeros_(m.conv3.weight)


# --8<-- [start:factories]
class Options(TypedDict, total=False):
    """Hold the options of `PreResNet`."""

    v1: bool
    zero_init: bool
    num_classes: int
    in_channels: int


def preresnet164_cifar(**options: Unpack[Options]) -> PreResNet:
    """Build 164 layers for CIFAR-10."""
    return PreResNet((18, 18, 18), **options)


def preresnet1001_cifar(**options: Unpack[Options]) -> PreResNet:
    """Build 1001 layers for CIFAR-10."""
    return PreResNet((111, 111, 111), **options)


# --8<-- [end:factories]
