import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor, fx, nn


# --8<-- [start:response-norm]
class ResponseNorm(nn.Module):
    """Divide by how strong five neighbouring channels are (AlexNet, 3.3).

    y = x / (k + alpha · Σ x²)^0.75, where the sum runs over the channel and
    two on each side. Caffe has k = 1 and divides its alpha by five: 2e-5.
    """

    def __init__(self, *, k: float = 2.0, alpha: float = 1e-4) -> None:
        super().__init__()
        self.k, self.scale = k, math.sqrt(alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, c, h, w)."""
        c = x.shape[1]
        # Scaled before it is squared: 300² is no number of half precision.
        squares = nn.functional.pad((self.scale * x) ** 2, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, i : i + c] for i in range(5))
        return x / (self.k + total) ** 0.75


# --8<-- [end:response-norm]
# --8<-- [start:recipes]
class Recipe(NamedTuple):
    """Hold what differs between the paper's network, Caffe's, torchvision's."""

    batch_norm: bool  # in place of biases and response normalization
    norm: Callable[[], nn.Module]
    window: int  # of the widest branch
    pool4: int  # window of the last pooling
    dropout: float
    init: Callable[[Tensor], Tensor]  # of weights; the paper tells none
    bias: float | None  # initial, but in classifiers; None: as torch has it
    smallest: int  # height and width that survive to the end


HE = partial(nn.init.kaiming_normal_, nonlinearity="relu")
XAVIER = partial(nn.init.kaiming_uniform_, nonlinearity="linear")  # Caffe's
TRUNCATED = partial(nn.init.trunc_normal_, std=0.01)
CAFFE_NORM = partial(ResponseNorm, k=1.0, alpha=2e-5)
PAPER = Recipe(False, ResponseNorm, 5, 3, 0.4, HE, None, 31)
CAFFE = Recipe(False, CAFFE_NORM, 5, 3, 0.4, XAVIER, 0.2, 31)
TORCHVISION = Recipe(True, nn.Identity, 3, 2, 0.2, TRUNCATED, None, 15)
# --8<-- [end:recipes]
# --8<-- [start:table]
# Table 1. Maps that enter, and that leave the branches: 1×1; reduction before
# 3×3, 3×3; reduction before 5×5, 5×5; projection after pooling.
TABLE = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
# --8<-- [end:table]


@fx.wrap  # a traced network still checks its input
def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:conv]
class Conv(nn.Module):
    """Convolve, normalize if asked to, rectify; keep the size at stride 1."""

    def __init__(self, c: int, out: int, k: int, bn: bool, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, out, k, s, padding=k // 2, bias=not bn)
        self.bn = nn.BatchNorm2d(out, eps=1e-3) if bn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, out, h/s, w/s)."""
        return nn.functional.relu(self.bn(self.conv(x)), inplace=True)


# --8<-- [end:conv]
# --8<-- [start:block]
class Inception(nn.Module):
    """Look through four windows at once; concatenate what they see.

    `widths` are those of a row of Table 1.
    """

    def __init__(self, c: int, widths: tuple[int, ...], recipe: Recipe) -> None:
        super().__init__()
        bn, k = recipe.batch_norm, recipe.window
        n1, r3, n3, r5, n5, p = widths
        self.branch1 = Conv(c, n1, 1, bn)
        self.branch2 = nn.Sequential(Conv(c, r3, 1, bn), Conv(r3, n3, 3, bn))
        self.branch3 = nn.Sequential(Conv(c, r5, 1, bn), Conv(r5, n5, k, bn))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), Conv(c, p, 1, bn)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, n1 + n3 + n5 + p, h, w)."""
        return torch.cat([branch(x) for branch in self.children()], 1)


# --8<-- [end:block]
# --8<-- [start:head]
class AuxiliaryHead(nn.Module):
    """Classify from half way, to bring gradients there in training."""

    def __init__(
        self, in_channels: int, num_classes: int, recipe: Recipe
    ) -> None:
        super().__init__()
        # The paper pools 14×14 to 4×4: other sizes are brought to 14 first.
        paper = nn.Sequential(nn.AdaptiveAvgPool2d(14), nn.AvgPool2d(5, 3))
        self.pool = nn.AdaptiveAvgPool2d(4) if recipe.batch_norm else paper
        self.conv = Conv(in_channels, 128, 1, recipe.batch_norm)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to logits (n, num_classes)."""
        x = self.conv(self.pool(x))  # (n, 128, 4, 4)
        x = nn.functional.relu(self.fc1(x.flatten(1)), inplace=True)
        x = self.fc2(self.dropout(x))
        return x


class Outputs(NamedTuple):
    """Hold logits of the network and its heads, whose losses weigh 0.3."""

    logits: Tensor
    aux1: Tensor
    aux2: Tensor


# --8<-- [end:head]
# --8<-- [start:network]
class GoogLeNet(nn.Module):
    """Classify with nine inception blocks.

    Returns logits, in training with `aux` `Outputs`. An input that is too
    small or has other channels raises `ValueError`. Szegedy et al. 2015,
    "Going deeper with convolutions", Table 1.
    """

    channels, strides = (192, 480, 832, 1024), (4, 8, 16, 32)

    def __init__(
        self,
        recipe: Recipe,
        *,
        aux: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        self.in_channels, self.smallest = in_channels, recipe.smallest
        self.conv1 = Conv(in_channels, 64, 7, recipe.batch_norm, 2)
        self.conv2 = Conv(64, 64, 1, recipe.batch_norm)
        self.conv3 = Conv(64, 192, 3, recipe.batch_norm)
        for name, (c, *widths) in TABLE.items():
            block = Inception(c, tuple(widths), recipe)
            self.add_module(f"inception{name}", block)
        self.aux1 = AuxiliaryHead(512, num_classes, recipe) if aux else None
        self.aux2 = AuxiliaryHead(528, num_classes, recipe) if aux else None
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = nn.MaxPool2d(recipe.pool4, stride=2, ceil_mode=True)
        self.norm = recipe.norm()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(recipe.dropout)
        self.fc = nn.Linear(1024, num_classes)
        initialize(self, recipe)

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def blocks(self, x: Tensor, *names: str) -> Tensor:
        """Run `x` through blocks that are named as in Table 1."""
        for name in names:
            x = self.get_submodule(f"inception{name}")(x)
        return x

    def stages(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what leaves the stem, 3b, 4a, 4d, 4e and 5b."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.norm(self.pool(self.conv1(x)))  # (n, 64, 56, 56) at 224
        c2 = self.norm(self.conv3(self.conv2(x)))  # (n, 192, 56, 56)
        c3 = self.blocks(self.pool(c2), "3a", "3b")  # (n, 480, 28, 28)
        a4 = self.blocks(self.pool(c3), "4a")  # (n, 512, 14, 14)
        d4 = self.blocks(a4, "4b", "4c", "4d")  # (n, 528, 14, 14)
        c4 = self.blocks(d4, "4e")  # (n, 832, 14, 14)
        c5 = self.blocks(self.pool4(c4), "5a", "5b")  # (n, 1024, 7, 7)
        return c2, c3, a4, d4, c4, c5

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return C2 to C5, of `channels`, and `strides` apart."""
        c2, c3, _, _, c4, c5 = self.stages(x)
        return [c2, c3, c4, c5]

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _, _, a4, d4, _, c5 = self.stages(x)
        aux1 = self.aux1(a4) if self.training and self.aux1 else None
        aux2 = self.aux2(d4) if self.training and self.aux2 else None
        x = self.fc(self.dropout(self.avgpool(c5).flatten(1)))
        return x if aux1 is None or aux2 is None else Outputs(x, aux1, aux2)


# --8<-- [end:forward]
# --8<-- [start:initialize]
def initialize(model: GoogLeNet, recipe: Recipe) -> None:
    """Draw initial weights and set biases as a recipe says."""
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            recipe.init(layer.weight)
            if recipe.bias is not None and layer.bias is not None:
                classifies = name.endswith(("fc", "fc2"))
                nn.init.constant_(layer.bias, 0 if classifies else recipe.bias)


# --8<-- [end:initialize]
# --8<-- [start:factories]
class Options(TypedDict, total=False):
    """Hold the options of `GoogLeNet`."""

    aux: bool
    num_classes: int
    in_channels: int


def googlenet(**options: Unpack[Options]) -> GoogLeNet:
    """Build the network of the paper."""
    return GoogLeNet(PAPER, **options)


def googlenet_caffe(**options: Unpack[Options]) -> GoogLeNet:
    """Build Caffe's models/bvlc_googlenet: other norm and initial weights."""
    return GoogLeNet(CAFFE, **options)


def googlenet_bn(**options: Unpack[Options]) -> GoogLeNet:
    """Build torchvision's.

    Its checkpoint fits with `aux=True`, and wants (x - 0.5) / 0.5.
    """
    return GoogLeNet(TORCHVISION, **options)


# --8<-- [end:factories]
