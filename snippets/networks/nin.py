from collections.abc import Sequence

from torch import Tensor, fx, nn


@fx.wrap  # a traced network still checks its input
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

    `features` ends in as many maps as there are classes. `stds` are those of
    the convolutions' initial weights; biases start at zero. An input below
    `smallest`, or with other channels, raises `ValueError`. Lin et al. 2014,
    "Network in network".
    """

    def __init__(
        self,
        features: nn.Sequential,
        *,
        stds: Sequence[float],
        strides: tuple[int, ...],
        smallest: int,
    ) -> None:
        super().__init__()
        self.features, self.smallest = features, smallest
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        convs = [m for m in features.modules() if isinstance(m, nn.Conv2d)]
        for conv, std in zip(convs, stds, strict=True):
            nn.init.normal_(conv.weight, std=std)
            nn.init.zeros_(conv.get_parameter("bias"))
        self.in_channels, self.strides = convs[0].in_channels, strides
        self.channels = tuple(conv.out_channels for conv in convs[2::3])

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.features(x)  # (n, num_classes, h', w')
        x = self.avgpool(x)  # (n, num_classes, 1, 1)
        return x.flatten(1)

    # --8<-- [end:forward]
    # --8<-- [start:feature-maps]
    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return each block's maps: of `channels`, and `strides` apart."""
        _check_input(x, self.in_channels, self.smallest)
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.Sequential):
                maps.append(x)
        return maps


# --8<-- [end:feature-maps]
# --8<-- [start:factories]
def nin(*, num_classes: int = 1000, in_channels: int = 3) -> NiN:
    """Build the network for ImageNet, as its authors released it for Caffe.

    Caffe pools in `ceil_mode`. Train, test and initial weights:
    https://gist.github.com/mavenlin/d802a5849de39225bcc6
    """
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
    features = nn.Sequential(  # from (n, 3, 224, 224)
        nin_block(in_channels, (96, 96, 96), 11, stride=4),  # 54×54
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # 27×27
        nin_block(96, (256, 256, 256), 5, padding=2),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # 13×13
        nin_block(256, (384, 384, 384), 3, padding=1),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # 6×6
        nn.Dropout(0.5),
        nin_block(384, (1024, 1024, num_classes), 3, padding=1),
    )
    stds = [0.05] * 12
    stds[0] = stds[6] = stds[11] = 0.01
    return NiN(features, stds=stds, strides=(4, 8, 16, 32), smallest=39)


def nin_cifar10(*, num_classes: int = 10, in_channels: int = 3) -> NiN:
    """Build the network for CIFAR-10, as its authors released it for Caffe.

    https://gist.github.com/mavenlin/e56253735ef32c3c296d
    """
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
    return NiN(features, stds=[0.05] * 9, strides=(1, 2, 4), smallest=4)


# --8<-- [end:factories]
