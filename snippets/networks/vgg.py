from collections.abc import Mapping
from typing import TypedDict, Unpack

from torch import Tensor, fx, nn

# Convolutions in each of the five stages: Table 1, columns A, B, D, E.
# --8<-- [start:depths]
DEPTHS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)
# --8<-- [end:depths]


@fx.wrap  # a traced network still checks its input
def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:stage]
def vgg_stage(
    in_channels: int,
    out_channels: int,
    kernel_sizes: tuple[int, ...],
    batch_norm: bool,
) -> list[nn.Module]:
    """List convolutions with ReLU, then halve height and width."""
    layers: list[nn.Module] = []
    c = in_channels
    for k in kernel_sizes:
        layers.append(nn.Conv2d(c, out_channels, k, padding=k // 2))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
        c = out_channels
    return [*layers, nn.MaxPool2d(2)]


# --8<-- [end:stage]
# --8<-- [start:network]
class VGG(nn.Module):
    """Classify with stages of 3×3 convolutions and three linear layers.

    `depth` is 11, 13, 16 or 19. With `column_c`, for 16 only, the third
    convolution of a stage looks through 1×1. An input below 32×32, or with
    other channels, raises `ValueError`. Simonyan and Zisserman 2015, "Very
    deep convolutional networks for large-scale image recognition", Table 1.
    Initialized as in torchvision, whose checkpoints fit.
    """

    channels, strides = (256, 512, 512, 512), (4, 8, 16, 32)

    def __init__(
        self,
        depth: int,
        *,
        batch_norm: bool = False,
        column_c: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        _check_options(depth, column_c, num_classes, in_channels)
        self.in_channels = in_channels
        layers: list[nn.Module] = []
        c = in_channels
        for width, n in zip(WIDTHS, DEPTHS[depth], strict=True):
            sizes = (3, 3, 1)[:n] if column_c else (3,) * n
            layers += vgg_stage(c, width, sizes, batch_norm)
            c = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)  # for sizes other than 224
        self.classifier = vgg_classifier(num_classes)
        self.apply(_initialize)

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, 32)
        x = self.features(x)  # (n, 512, 7, 7) at 224
        x = self.avgpool(x)
        x = self.classifier(x.flatten(1))
        return x

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return what leaves the last three stages, before and after pooling.

        The maps have `channels` and lie `strides` apart.
        """
        _check_input(x, self.in_channels, 32)
        maps = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps[2:], x]


# --8<-- [end:forward]
# --8<-- [start:classifier]
def vgg_classifier(num_classes: int) -> nn.Sequential:
    """Build the three linear layers, for (n, 512 · 7 · 7)."""
    return nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(4096, num_classes),
    )


# --8<-- [end:classifier]
# --8<-- [start:timm]
TIMM = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}


def from_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name a checkpoint of timm's as it is named here.

    timm has the first two linear layers as convolutions, 7×7 and 1×1.
    ResNets and DenseNets have the same names in timm as here.
    """
    found = {}
    for key, t in state_dict.items():
        layer, _, kind = key.rpartition(".")
        flat = t.flatten(1) if layer in TIMM and kind == "weight" else t
        found[f"{TIMM.get(layer, layer)}.{kind}"] = flat
    return found


# --8<-- [end:timm]
def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.zeros_(layer.get_parameter("bias"))


def _check_options(
    depth: int, column_c: bool, num_classes: int, in_channels: int
) -> None:
    if depth not in DEPTHS:
        raise ValueError(f"{depth=} must be one of {tuple(DEPTHS)}")
    if column_c and depth != 16:
        raise ValueError(f"{column_c=} has 16 layers, not {depth=}")
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")


# --8<-- [start:factories]
class Options(TypedDict, total=False):
    """Hold the options of `VGG`."""

    batch_norm: bool
    num_classes: int
    in_channels: int


def vgg11(**options: Unpack[Options]) -> VGG:
    """Build column A."""
    return VGG(11, **options)


def vgg13(**options: Unpack[Options]) -> VGG:
    """Build column B."""
    return VGG(13, **options)


def vgg16_c(**options: Unpack[Options]) -> VGG:
    """Build column C, which few libraries have."""
    return VGG(16, column_c=True, **options)


def vgg16(**options: Unpack[Options]) -> VGG:
    """Build column D."""
    return VGG(16, **options)


def vgg19(**options: Unpack[Options]) -> VGG:
    """Build column E."""
    return VGG(19, **options)


# --8<-- [end:factories]
