import torch
from torch import Tensor, fx, nn

# Which maps of S2 (rows) feed which maps of C3 (columns): Table I.
# --8<-- [start:c3-table]
C3_TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)
# --8<-- [end:c3-table]

# The ten targets, 7 wide and 12 high as in the paper, drawn anew.
# --8<-- [start:bitmaps]
DIGITS = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
.#####. ...##.. .#####. .#####. ....##. ####### .#####. ####### .#####. .#####.
##...## ..###.. ##...## ##...## ...###. ##..... ##...## .....## ##...## ##...##
##...## .####.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ######. ######. ....##. .#####. .######
##...## ...##.. ...##.. .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. ..##... .....## ....##. .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## ##...##
.#####. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .#####.
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def bitmaps() -> Tensor:
    """Return the ten digits as +1 (ink) and -1 (ground), (10, 12, 7)."""
    rows = [line.split() for line in DIGITS.strip().split("\n")]
    digits = zip(*rows, strict=True)
    ink = [[[c == "#" for c in row] for row in d] for d in digits]
    return 2 * torch.tensor(ink).float() - 1


# --8<-- [end:bitmaps]


@fx.wrap  # a traced network still checks its input
def _check_input(x: Tensor, in_channels: int, low: int, high: int) -> None:
    size_fits = all(low <= size <= high for size in x.shape[2:])
    if x.ndim != 4 or x.shape[1] != in_channels or not size_fits:
        raise ValueError(
            f"input must be (n, {in_channels}, h, w) with h and w from {low} "
            f"to {high}, got {tuple(x.shape)}"
        )


# --8<-- [start:lenet5-layers]
def squash(x: Tensor) -> Tensor:
    """Map to (-1.7159, 1.7159), with f(1) = 1 and f(-1) = -1."""
    return 1.7159 * torch.tanh(2 / 3 * x)


class Subsample(nn.Module):
    """Add up 2×2 windows; scale and shift each map by trained scalars."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width: (n, c, h, w) to (n, c, h/2, w/2)."""
        return 4 * nn.functional.avg_pool2d(x, 2) * self.weight + self.bias


class SparseConv2d(nn.Module):
    """Convolve 5×5, each output map with only its inputs in `C3_TABLE`."""

    def __init__(self) -> None:
        super().__init__()
        columns = zip(*C3_TABLE, strict=True)
        self.inputs = [[i for i in range(6) if c[i] == "X"] for c in columns]
        self.maps = nn.ModuleList(nn.Conv2d(len(i), 1, 5) for i in self.inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Make 16 maps from 6: (n, 6, h, w) to (n, 16, h-4, w-4)."""
        pairs = zip(self.maps, self.inputs, strict=True)
        return torch.cat([conv(x[:, inputs]) for conv, inputs in pairs], 1)


# --8<-- [end:lenet5-layers]
# --8<-- [start:rbf]
class RBF(nn.Module):
    """Measure squared distances to the digits, which are fixed, not trained."""

    targets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("targets", bitmaps().flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Compare with each target: (n, 84) to (n, 10)."""
        return (x[:, None] - self.targets).square().sum(-1)


# --8<-- [end:rbf]
# --8<-- [start:lenet5]
class LeNet5(nn.Module):
    """Measure how far an image is from each digit: the nearest wins.

    Pixels run from -0.1 (ground) to 1.175 (ink). Other shapes than
    (n, 1, 32, 32) raise `ValueError`. LeCun et al. 1998, "Gradient-based
    learning applied to document recognition", section II.B.
    """

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = Subsample(6)
        self.c3 = SparseConv2d()
        self.s4 = Subsample(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = RBF()
        for layer in self.modules():  # within ±2.4 / fan-in: appendix A
            if isinstance(layer, (nn.Conv2d, nn.Linear, Subsample)):
                pools = isinstance(layer, Subsample)
                bound = 2.4 / (4 if pools else layer.weight[0].numel())
                for p in layer.parameters():
                    nn.init.uniform_(p, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return distances (n, 10); their negatives serve as logits."""
        _check_input(x, 1, 32, 32)
        x = squash(self.c1(x))  # (n, 6, 28, 28)
        x = squash(self.s2(x))  # (n, 6, 14, 14)
        x = squash(self.c3(x))  # (n, 16, 10, 10)
        x = squash(self.s4(x))  # (n, 16, 5, 5)
        x = squash(self.c5(x))  # (n, 120, 1, 1)
        x = squash(self.f6(x.flatten(1)))  # (n, 84)
        x = self.output(x)  # (n, 10)
        return x


def lenet5() -> LeNet5:
    """Build LeNet-5."""
    return LeNet5()


# --8<-- [end:lenet5]
# --8<-- [start:loss]
def lenet5_loss(distances: Tensor, labels: Tensor, *, j: float) -> Tensor:
    """Pull towards the right digit, push away from all digits nearer than j.

    distances: (n, 10), as `LeNet5` returns them; labels: (n,), whole numbers.
    Returns the mean of y_label + log(exp(-j) + Σ exp(-y_i)) over the images.
    The paper gives no value for j. Raises `ValueError` where it is not > 0.
    LeCun et al. 1998, equation 9.
    """
    if not j > 0:
        raise ValueError(f"{j=} must be > 0")
    right = distances.gather(1, labels[:, None])  # (n, 1)
    bound = torch.full_like(right, j)
    push = torch.cat([bound, distances], 1).neg().logsumexp(1)  # (n,)
    return (right[:, 0] + push).mean()


# --8<-- [end:loss]
# --8<-- [start:connections]
def connections(model: LeNet5) -> dict[str, int]:
    """Count the connections into each layer, those from biases included.

    A convolution uses each parameter once at each position of its output.
    """
    counts = {}
    x = torch.zeros(1, 1, 32, 32)
    for name, layer in model.named_children():
        x = layer(x.flatten(1) if name == "f6" else x)
        parameters = sum(p.numel() for p in layer.parameters())
        counts[name] = parameters * x[0, 0].numel()
        if isinstance(layer, Subsample):  # one weight for four inputs
            counts[name] = (4 + 1) * x.numel()
    counts["output"] = model.output.targets.numel()
    return counts


# --8<-- [end:connections]
# --8<-- [start:lenet]
class LeNet(nn.Module):
    """Classify 28×28 images (up to 31×31) with LeNet as it is taught today.

    Other shapes raise `ValueError`. Zhang et al., "Dive into Deep Learning",
    7.6, has `activation=nn.Sigmoid, pooling=nn.AvgPool2d`. Default weights.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        activation: type[nn.Module] = nn.ReLU,
        pooling: type[nn.Module] = nn.MaxPool2d,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.activation = activation()
        self.pooling = pooling(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes)."""
        _check_input(x, self.in_channels, 28, 31)
        x = self.pooling(self.activation(self.conv1(x)))  # (n, 6, 14, 14)
        x = self.pooling(self.activation(self.conv2(x)))  # (n, 16, 5, 5)
        x = self.activation(self.fc1(x.flatten(1)))  # (n, 120)
        x = self.activation(self.fc2(x))  # (n, 84)
        x = self.fc3(x)  # (n, num_classes)
        return x


# --8<-- [end:lenet]
