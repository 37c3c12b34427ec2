"""Residual blocks: each learns what to add to its input.

With `zero_init` the last layer of what is added starts at zero: the block
starts as its shortcut, which is the identity where no shape changes.
"""

from typing import Literal

from torch import Tensor, fx, nn
from torch.nn.functional import leaky_relu, relu

# How a block's input reaches its output (section 3.3). Where shapes differ, A
# subsamples and adds channels of zeros, and B projects; C projects everywhere.
# None leaves the shortcut out: a plain network.
Shortcut = Literal["A", "B", "C"] | None


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
    State dicts of torchvision's fit. He et al. 2016, "Deep residual learning
    for image recognition".
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
        _check_block(in_channels, out_channels, stride)
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
        _check_input(x, self.conv1.in_channels)
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
        _check_block(in_channels, out_channels, stride, multiple=4)
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
        _check_input(x, self.conv1.in_channels)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            y += self.downsample(x)
        return nn.functional.relu(y, inplace=True)


# --8<-- [end:bottleneck-forward]
# --8<-- [start:preactivation]
class PreActivation(nn.Module):
    """Normalize and activate before each convolution, nothing after the sum.

    Where shapes change, the shortcut projects the activated input.
    `zero_init`: no scale comes last, so the last convolution starts at zero.
    Source: He et al. 2016, "Identity mappings in deep residual networks",
    figure 4e and appendix.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        _check_block(in_channels, out_channels, stride)
        c, out = in_channels, out_channels
        self.bn1 = nn.BatchNorm2d(c)
        self.conv1 = nn.Conv2d(c, out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.projection = make_projection(c, out, stride)
        if zero_init:
            nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        _check_input(x, self.conv1.in_channels)
        y = relu(self.bn1(x))
        if self.projection is not None:
            x = self.projection(y)
        y = relu(self.bn2(self.conv1(y)))
        x = x + self.conv2(y)
        return x


# --8<-- [end:preactivation]
# --8<-- [start:projection]
def make_projection(c: int, out: int, stride: int) -> nn.Conv2d | None:
    """Build the shortcut that is needed where shapes change."""
    if c == out and stride == 1:
        return None
    return nn.Conv2d(c, out, 1, stride, bias=False)


# --8<-- [end:projection]
# --8<-- [start:preactivation-bottleneck]
class PreActivationBottleneck(nn.Module):
    """Normalize and activate before each of a 1×1, a 3×3 and a 1×1.

    As `PreActivation`, on a quarter of `out_channels`. With `v1` the stride
    is on the first 1×1, as in the authors' code, else on the 3×3.
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
        _check_block(in_channels, out_channels, stride, multiple=4)
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
        _check_input(x, self.conv1.in_channels)
        y = relu(self.bn1(x))
        if self.projection is not None:
            x = self.projection(y)
        y = relu(self.bn2(self.conv1(y)))
        y = relu(self.bn3(self.conv2(y)))
        x = x + self.conv3(y)
        return x


# --8<-- [end:preactivation-bottleneck]
# --8<-- [start:darknet]
class DarknetBlock(nn.Module):
    """Learn a residual with a 1×1 to half the channels and a 3×3 back.

    `zero_init`: starts exactly as the identity. Raises ValueError for an odd
    number of channels.
    Source: Redmon and Farhadi 2018, "YOLOv3", table 1; activations as in
    darknet's yolov3.cfg, where the sum has none.
    """

    def __init__(self, channels: int, *, zero_init: bool = False) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"{channels=} must be even and >= 2")
        half = channels // 2
        self.conv1 = nn.Conv2d(channels, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        if zero_init:
            # At zero a ReLU would pass no gradient on, and this scale would
            # stay; a leaky one passes a tenth.
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        _check_input(x, self.conv1.in_channels)
        y = leaky_relu(self.bn1(self.conv1(x)), 0.1)
        y = leaky_relu(self.bn2(self.conv2(y)), 0.1)
        return x + y


# --8<-- [end:darknet]
def _check_block(
    in_channels: int, out_channels: int, stride: int, multiple: int = 1
) -> None:
    if min(in_channels, out_channels, stride) < 1:
        raise ValueError(
            f"{in_channels=}, {out_channels=} and {stride=} must be >= 1"
        )
    if out_channels % multiple:
        raise ValueError(f"{out_channels=} must be a multiple of {multiple}")


@fx.wrap  # a traced block still checks its input
def _check_input(x: Tensor, c: int) -> None:
    if x.ndim != 4 or x.shape[1] != c or 0 in x.shape[2:]:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; it must be (n, {c}, h, w) with h "
            "and w at least 1"
        )
