"""Residual blocks: each learns what to add to its input.

With `zero_init` the last layer of what is added starts at zero: the block
starts as its shortcut, which is the identity where no shape changes.
"""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu


# --8<-- [start:shortcut]
def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build the path around the residual: a projection where shapes change."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


# --8<-- [end:shortcut]
# --8<-- [start:basic]
class BasicBlock(nn.Module):
    """Learn a residual with two 3×3 convolutions.

    `zero_init`: starts as relu(shortcut). State dicts of torchvision's fit.
    Source: He et al. 2016, "Deep residual learning for image recognition",
    figure 5, left.
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
        _check_options(in_channels, out_channels, stride)
        c, out = in_channels, out_channels
        self.conv1 = nn.Conv2d(c, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = _shortcut(c, out, stride)
        if zero_init:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        _check_input(x, self.conv1)
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return relu(y + self.downsample(x))


# --8<-- [end:basic]
# --8<-- [start:bottleneck]
class Bottleneck(nn.Module):
    """Learn a residual with a 3×3 between two 1×1, on a quarter of the width.

    The stride is on the 3×3, as in torchvision; in the paper it is on the
    first 1×1, which so skips pixels. `zero_init`: starts as relu(shortcut).
    State dicts of torchvision's fit. Raises ValueError for `out_channels`
    that four does not divide.
    Source: He et al. 2016, "Deep residual learning for image recognition",
    figure 5, right.
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
        _check_options(in_channels, out_channels, stride)
        if out_channels % 4:
            raise ValueError(f"{out_channels=} must be a multiple of 4")
        c, out, width = in_channels, out_channels, out_channels // 4
        self.conv1 = nn.Conv2d(c, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = _shortcut(c, out, stride)
        if zero_init:
            nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        _check_input(x, self.conv1)
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return relu(y + self.downsample(x))


# --8<-- [end:bottleneck]
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
        _check_options(in_channels, out_channels, stride)
        c, out = in_channels, out_channels
        self.bn1 = nn.BatchNorm2d(c)
        self.conv1 = nn.Conv2d(c, out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.projection = (
            nn.Conv2d(c, out, 1, stride, bias=False)
            if stride != 1 or c != out
            else None
        )
        if zero_init:
            nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h/stride, w/stride), rounded up."""
        _check_input(x, self.conv1)
        y = relu(self.bn1(x))
        if self.projection is not None:
            x = self.projection(y)
        y = relu(self.bn2(self.conv1(y)))
        x = x + self.conv2(y)
        return x


# --8<-- [end:preactivation]
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
        _check_input(x, self.conv1)
        y = leaky_relu(self.bn1(self.conv1(x)), 0.1)
        y = leaky_relu(self.bn2(self.conv2(y)), 0.1)
        return x + y


# --8<-- [end:darknet]
def _check_options(in_channels: int, out_channels: int, stride: int) -> None:
    if min(in_channels, out_channels, stride) < 1:
        raise ValueError(
            f"{in_channels=}, {out_channels=} and {stride=} must be >= 1"
        )


def _check_input(x: Tensor, first: nn.Conv2d) -> None:
    c = first.in_channels
    if x.ndim != 4 or x.shape[1] != c or 0 in x.shape[2:]:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; it must be (n, {c}, h, w) with h "
            "and w at least 1"
        )
