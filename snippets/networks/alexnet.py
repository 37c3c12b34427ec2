import math

from torch import Tensor, fx, nn


@fx.wrap  # a traced network still checks its input
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
    nothing at the published size and lets other sizes in. Dropout silences
    half of what enters the first two fully connected layers, as in
    torchvision, or with `paper` half of what leaves them, as in the paper and
    Caffe. An input below `smallest`, or with other channels, raises
    `ValueError`.
    """

    def __init__(
        self,
        features: nn.Sequential,
        *,
        paper: bool,
        smallest: int,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.features, self.smallest = features, smallest
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        first, last = nn.Dropout(0.5), nn.ReLU(inplace=True)
        self.classifier = nn.Sequential(
            nn.Identity() if paper else first,
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.Sequential(last, nn.Dropout(0.5)) if paper else last,
            nn.Linear(4096, num_classes),
        )
        convs = [m for m in features if isinstance(m, nn.Conv2d)]
        self.in_channels = convs[0].in_channels
        self.channels = tuple(convs[i].out_channels for i in (0, 1, 4, 4))
        self.strides = 4, 8, 16, 32

    # --8<-- [end:network]
    # --8<-- [start:forward]
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        _check_input(x, self.in_channels, self.smallest)
        x = self.features(x)  # (n, 256, 6, 6)
        x = self.avgpool(x)
        x = self.classifier(x.flatten(1))
        return x

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return what enters each pooling and the last maps.

        They have `channels` and lie `strides` apart.
        """
        _check_input(x, self.in_channels, self.smallest)
        maps = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]


# --8<-- [end:forward]
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
    return AlexNet(features, paper=False, smallest=63, num_classes=num_classes)


# --8<-- [end:one-tower]
# --8<-- [start:response-norm]
class ResponseNorm(nn.Module):
    """Divide by how strong five neighbouring channels are.

    y = x / (k + alpha · Σ x²)^0.75, where the sum runs over the channel and
    two on each side: section 3.3. Caffe has k = 1, and divides its alpha by
    the five: 2e-5.
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
# --8<-- [start:two-groups]
def alexnet_two_groups(
    *, caffe: bool = False, num_classes: int = 1000, in_channels: int = 3
) -> AlexNet:
    """Build the AlexNet of 2012, cut in two where it ran on two GPUs.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional
    neural networks", for 227×227 (the paper's 224 does not give its 55×55);
    initialized as in its section 5. With `caffe`, normalization and initial
    weights are those of Caffe's models/bvlc_alexnet.
    """
    if min(num_classes, in_channels) < 1:
        raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
    k, alpha = (1.0, 2e-5) if caffe else (2.0, 1e-4)
    features = nn.Sequential(  # from (n, 3, 227, 227)
        nn.Conv2d(in_channels, 96, 11, stride=4),  # 55×55
        nn.ReLU(inplace=True),
        ResponseNorm(k=k, alpha=alpha),
        nn.MaxPool2d(3, stride=2),  # 27×27
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(inplace=True),
        ResponseNorm(k=k, alpha=alpha),
        nn.MaxPool2d(3, stride=2),  # 13×13
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # 6×6
    )
    model = AlexNet(features, paper=True, smallest=67, num_classes=num_classes)
    initialize_two_groups(model, caffe=caffe)
    return model


# --8<-- [end:two-groups]
# --8<-- [start:initialize]
def initialize_two_groups(model: AlexNet, *, caffe: bool) -> None:
    """Draw the weights from N(0, 0.01²); set biases to 0, or to `shift`."""
    # A positive bias gives the ReLUs positive input to start from. At Caffe
    # 1 left the loss flat; so says the readme of its model.
    shift = 0.1 if caffe else 1
    biases = (0, shift, 0, shift, shift, shift, shift, 0)
    stds = (0.01,) * 5 + ((0.005,) * 2 if caffe else (0.01,) * 2) + (0.01,)
    kinds = nn.Conv2d, nn.Linear
    layers = [m for m in model.modules() if isinstance(m, kinds)]
    for layer, bias, std in zip(layers, biases, stds, strict=True):
        nn.init.normal_(layer.weight, std=std)
        nn.init.constant_(layer.get_parameter("bias"), bias)


# --8<-- [end:initialize]
