from functools import partial

from torch import Tensor, nn

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


def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:stage]
def vgg_stage(
    in_channels: int, out_channels: int, depth: int, batch_norm: bool
) -> list[nn.Module]:
    """List `depth` 3×3 convolutions with ReLU, then halve height and width."""
    layers: list[nn.Module] = []
    for i in range(depth):
        c = out_channels if i else in_channels
        layers.append(nn.Conv2d(c, out_channels, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return [*layers, nn.MaxPool2d(2)]


# --8<-- [end:stage]
# --8<-- [start:network]
class VGG(nn.Module):
    """Classify with stages of 3×3 convolutions and three linear layers.

    `depth` is 11, 13, 16 or 19. An input below 32×32, or with other channels,
    raises `ValueError`. Simonyan and Zisserman 2015, "Very deep convolutional
    networks for large-scale image recognition", Table 1. Initialized as in
    torchvision, whose checkpoints fit.
    """

    def __init__(
        self,
        depth: int,
        *,
        batch_norm: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"{depth=} must be one of {tuple(DEPTHS)}")
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        self.in_channels = in_channels
        layers: list[nn.Module] = []
        c = in_channels
        for width, n in zip(WIDTHS, DEPTHS[depth], strict=True):
            layers += vgg_stage(c, width, n, batch_norm)
            c = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)  # for sizes other than 224
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, num_classes),
        )
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, 32)
        x = self.features(x)  # (n, 512, 7, 7) at 224
        x = self.avgpool(x)
        x = self.classifier(x.flatten(1))
        return x


# --8<-- [end:network]
def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.zeros_(layer.get_parameter("bias"))


# --8<-- [start:factories]
vgg11 = partial(VGG, 11)
vgg13 = partial(VGG, 13)
vgg16 = partial(VGG, 16)
vgg19 = partial(VGG, 19)
# --8<-- [end:factories]
