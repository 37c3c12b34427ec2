from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn


# --8<-- [start:recipes]
class Recipe(NamedTuple):
    """Hold what differs between the paper's network and torchvision's."""

    batch_norm: bool  # in place of biases and response normalization
    window: int  # of the widest branch
    pool4: int  # window of the last pooling
    dropout: float
    draw: Callable[[Tensor], Tensor]  # initial weights; the paper tells none
    smallest: int  # height and width that survive to the end


HE = partial(nn.init.kaiming_normal_, nonlinearity="relu")
TRUNCATED = partial(nn.init.trunc_normal_, std=0.01)
PAPER = Recipe(
    batch_norm=False, window=5, pool4=3, dropout=0.4, draw=HE, smallest=31
)
TORCHVISION = Recipe(
    batch_norm=True, window=3, pool4=2, dropout=0.2, draw=TRUNCATED, smallest=15
)
# --8<-- [end:recipes]


def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:response-norm]
class ResponseNorm(nn.Module):
    """Divide by how strong five neighbouring channels are (AlexNet, 3.3)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, c, h, w)."""
        c = x.shape[1]
        squares = nn.functional.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, i : i + c] for i in range(5))
        return x / (2 + 1e-4 * total) ** 0.75


# --8<-- [end:response-norm]
# --8<-- [start:block]
class Conv(nn.Module):
    """Convolve, normalize if asked to, rectify; keep the size at stride 1."""

    def __init__(self, c: int, out: int, k: int, bn: bool, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, out, k, s, padding=k // 2, bias=not bn)
        self.bn = nn.BatchNorm2d(out, eps=1e-3) if bn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, out, h/s, w/s)."""
        return nn.functional.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Look through four windows at once; concatenate what they see.

    `widths` is a row of Table 1: maps from 1×1; reduction before 3×3, 3×3;
    reduction before 5×5, 5×5; projection after pooling.
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
        bn = recipe.batch_norm

        def block(c: int, *widths: int) -> Inception:
            return Inception(c, widths, recipe)

        self.conv1 = Conv(in_channels, 64, 7, bn, 2)
        self.conv2 = Conv(64, 64, 1, bn)
        self.conv3 = Conv(64, 192, 3, bn)
        self.inception3a = block(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = block(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = block(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = block(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = block(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = block(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = block(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = block(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = block(832, 384, 192, 384, 48, 128, 128)
        self.aux1 = AuxiliaryHead(512, num_classes, recipe) if aux else None
        self.aux2 = AuxiliaryHead(528, num_classes, recipe) if aux else None
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = nn.MaxPool2d(recipe.pool4, stride=2, ceil_mode=True)
        self.norm = nn.Identity() if bn else ResponseNorm()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(recipe.dropout)
        self.fc = nn.Linear(1024, num_classes)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                recipe.draw(layer.weight)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.norm(self.pool(self.conv1(x)))  # (n, 64, 56, 56) at 224
        x = self.conv2(x)
        x = self.pool(self.norm(self.conv3(x)))  # (n, 192, 28, 28)
        x = self.inception3a(x)  # (n, 256, 28, 28)
        x = self.inception3b(x)  # (n, 480, 28, 28)
        x = self.inception4a(self.pool(x))  # (n, 512, 14, 14)
        aux1 = self.aux1(x) if self.training and self.aux1 else None
        x = self.inception4c(self.inception4b(x))  # (n, 512, 14, 14)
        x = self.inception4d(x)  # (n, 528, 14, 14)
        aux2 = self.aux2(x) if self.training and self.aux2 else None
        x = self.inception4e(x)  # (n, 832, 14, 14)
        x = self.inception5b(self.inception5a(self.pool4(x)))  # (…, 7, 7)
        x = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return x if aux1 is None or aux2 is None else Outputs(x, aux1, aux2)


# --8<-- [end:network]
# --8<-- [start:factories]
googlenet = partial(GoogLeNet, PAPER)
# torchvision's checkpoint fits with `aux=True` and wants (x - 0.5) / 0.5.
googlenet_bn = partial(GoogLeNet, TORCHVISION)
# --8<-- [end:factories]
