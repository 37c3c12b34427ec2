from torch import Tensor, nn


def _check_input(x: Tensor, in_channels: int, smallest: int) -> None:
    fits = x.ndim == 4 and x.shape[1] == in_channels
    if not fits or x.shape[2] < smallest or x.shape[3] < smallest:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


# --8<-- [start:network]
class AlexNet(nn.Module):
    """Classify with eight layers: convolutions, then three fully connected.

    `features` ends in 256 maps. They are averaged to 6×6, which changes
    nothing at the published size and lets other sizes in. An input below
    `smallest`, or with other channels, raises `ValueError`.
    """

    def __init__(
        self,
        features: nn.Sequential,
        *,
        smallest: int,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels, self.smallest = in_channels, smallest
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.features(x)  # (n, 256, 6, 6)
        x = self.avgpool(x)
        x = self.classifier(x.flatten(1))
        return x


# --8<-- [end:network]
# --8<-- [start:one-tower]
def alexnet(*, num_classes: int = 1000, in_channels: int = 3) -> AlexNet:
    """Build AlexNet in one tower; torchvision's checkpoint fits.

    Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
    networks", for 224×224; initialized as in torchvision: torch's defaults.
    """
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
    features = nn.Sequential(  # from (n, 3, 224, 224)
        nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),  # 55×55
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 27×27
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 13×13
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 6×6
    )
    return AlexNet(
        features, smallest=63, num_classes=num_classes, in_channels=in_channels
    )


# --8<-- [end:one-tower]
# --8<-- [start:response-norm]
class ResponseNorm(nn.Module):
    """Divide by how strong five neighbouring channels are (section 3.3)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, c, h, w)."""
        c = x.shape[1]
        squares = nn.functional.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, i : i + c] for i in range(5))
        return x / (2 + 1e-4 * total) ** 0.75


# --8<-- [end:response-norm]
# --8<-- [start:two-groups]
def alexnet_two_groups(
    *, num_classes: int = 1000, in_channels: int = 3
) -> AlexNet:
    """Build the AlexNet of 2012, cut in two where it ran on two GPUs.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional
    neural networks", for 227×227 (the paper's 224 does not give its 55×55);
    initialized as in its section 5.
    """
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
    features = nn.Sequential(  # from (n, 3, 227, 227)
        nn.Conv2d(in_channels, 96, 11, stride=4),  # 55×55
        nn.ReLU(inplace=True),
        ResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 27×27
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(inplace=True),
        ResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 13×13
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 6×6
    )
    model = AlexNet(
        features, smallest=67, num_classes=num_classes, in_channels=in_channels
    )
    layers = [
        m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    # A bias of 1 gives the ReLUs positive input to start from.
    for layer, bias in zip(layers, (0, 1, 0, 1, 1, 1, 1, 0), strict=True):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.constant_(layer.get_parameter("bias"), bias)
    return model


# --8<-- [end:two-groups]
