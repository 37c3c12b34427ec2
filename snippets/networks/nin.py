from torch import Tensor, nn


def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:block]
def nin_block(
    in_channels: int,
    widths: tuple[int, int, int],
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
) -> nn.Sequential:
    """Slide a perceptron of three layers, `widths` wide, over the pixels.

    A k×k convolution is its first layer, 1×1 convolutions are the others.
    """
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(
            in_channels, first, kernel_size, stride=stride, padding=padding
        ),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(second, third, 1),
        nn.ReLU(inplace=True),
    )


# --8<-- [end:block]
# --8<-- [start:network]
class NiN(nn.Module):
    """Classify by the mean of one feature map for each class.

    `features` ends in as many maps as there are classes. An input below
    `smallest`, or with other channels, raises `ValueError`. Lin et al. 2014,
    "Network in network". It says only that weights were set by hand: here they
    are drawn after He et al. 2015, with biases of zero.
    """

    def __init__(
        self, features: nn.Sequential, *, in_channels: int, smallest: int
    ) -> None:
        super().__init__()
        self.in_channels, self.smallest = in_channels, smallest
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.features(x)  # (n, num_classes, h', w')
        x = self.avgpool(x)  # (n, num_classes, 1, 1)
        return x.flatten(1)


# --8<-- [end:network]
# --8<-- [start:factories]
def nin(*, num_classes: int = 1000, in_channels: int = 3) -> NiN:
    """Build the network for ImageNet, as its authors released it."""
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
    features = nn.Sequential(  # from (n, 3, 224, 224)
        nin_block(in_channels, (96, 96, 96), 11, stride=4),  # 54×54
        nn.MaxPool2d(3, stride=2),  # 26×26
        nin_block(96, (256, 256, 256), 5, padding=2),
        nn.MaxPool2d(3, stride=2),  # 12×12
        nin_block(256, (384, 384, 384), 3, padding=1),
        nn.MaxPool2d(3, stride=2),  # 5×5
        nn.Dropout(0.5),
        nin_block(384, (1024, 1024, num_classes), 3, padding=1),
    )
    return NiN(features, in_channels=in_channels, smallest=67)


def nin_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> NiN:
    """Build the network for CIFAR-10, as its authors released it."""
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
    features = nn.Sequential(  # from (n, 3, 32, 32)
        nin_block(in_channels, (192, 160, 96), 5, padding=2),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # 16×16
        nn.Dropout(0.5),
        nin_block(96, (192, 192, 192), 5, padding=2),
        nn.AvgPool2d(3, stride=2, ceil_mode=True),  # 8×8
        nn.Dropout(0.5),
        nin_block(192, (192, 192, num_classes), 3, padding=1),
    )
    return NiN(features, in_channels=in_channels, smallest=4)


# --8<-- [end:factories]
