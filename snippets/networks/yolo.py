# Copy darknet.py with this file: the bodies of both networks stand there.
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

try:
    from .darknet import ConvUnit, darknet19_body, darknet53_body, last_conv
except ImportError:  # copied into a folder that is no package
    from darknet import (  # type: ignore[import-not-found,no-redef]
        ConvUnit,
        darknet19_body,
        darknet53_body,
        last_conv,
    )

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# Widths and heights of the boxes that predictions start from, for each scale:
# of YOLOv2 in cells of 32 pixels, of YOLOv3 in pixels, as published.
Priors = Sequence[Sequence[tuple[float, float]]]
VOC_CELLS = (
    (1.3221, 1.73145),
    (3.19275, 4.00944),
    (5.05587, 8.09892),
    (9.47112, 4.84053),
    (11.2364, 10.0071),
)
COCO_CELLS = (
    (0.57273, 0.677385),
    (1.87446, 2.06253),
    (3.33843, 5.47434),
    (7.88282, 3.52778),
    (9.77052, 9.16828),
)
COCO_PIXELS = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)


# --8<-- [start:decode]
class Predictions(NamedTuple):
    """All boxes that a network proposes, xyxy in pixels of its input."""

    boxes: Tensor  # (n, m, 4)
    objectness: Tensor  # (n, m)
    classes: Tensor  # (n, m, num_classes): if there is an object, which

    def above(self, threshold: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """List boxes (k, 4), scores (k,) and labels (k,) of each image.

        A score is objectness times class probability. A box counts once for
        each class that scores more than `threshold`.
        """
        scores = self.objectness[..., None] * self.classes
        found = []
        for boxes, s in zip(self.boxes, scores, strict=True):
            box, label = (s > threshold).nonzero(as_tuple=True)
            found.append((boxes[box], s[box, label], label))
        return found


def split(y: Tensor, priors: int) -> Tensor:
    """View (n, priors·(5 + classes), h, w) as (n, priors, h, w, 5 + classes).

    The last axis holds t_x, t_y, t_w, t_h, t_o and the classes. Half
    precision becomes single, since it cannot tell pixels apart.
    """
    n, c, h, w = y.shape
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    return y.view(n, priors, c // priors, h, w).permute(0, 1, 3, 4, 2)


def decode_boxes(t: Tensor, priors: Tensor, stride: int) -> Tensor:
    """Turn t (n, k, h, w, 4 or more) into boxes (n, k, h, w, 4).

    A centre stays within its cell, a size is a multiple of its prior's:
    b_x = σ(t_x) + c_x in cells, b_w = p_w exp(t_w); `priors` is (k, 2).
    Source: Redmon and Farhadi 2017, section 2, "Direct location prediction".
    """
    h, w = t.shape[2:4]
    rows = torch.arange(h, device=t.device)
    cols = torch.arange(w, device=t.device)
    cells = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), -1)
    centre = (t[..., :2].sigmoid() + cells) * stride
    half = t[..., 2:4].exp() * priors[:, None, None] / 2
    return torch.cat([centre - half, centre + half], -1)


# --8<-- [end:decode]
# --8<-- [start:match]
# Of each image, boxes (m, 4) xyxy in pixels and labels (m,).
Targets = Sequence[tuple[Tensor, Tensor]]


class Truth(NamedTuple):
    """What the predictions (n, k, h, w) of one scale ought to be."""

    responsible: Tensor  # (n, k, h, w): whether it is to predict an object
    overlap: Tensor  # (n, k, h, w): the largest IoU with any object
    # Of the r responsible ones, in the order of t[responsible]:
    t: Tensor  # (r, 4): σ(t_x), σ(t_y), t_w, t_h
    iou: Tensor  # (r,): of the predicted box with its object
    area: Tensor  # (r,): of the object, as a share of the image
    classes: Tensor  # (r, num_classes): 1 for the object's own, else 0
    label: Tensor  # (r,)


@torch.no_grad()
def match(
    ts: Sequence[Tensor],
    priors: Tensor,
    strides: Sequence[int],
    targets: Targets,
) -> list[Truth]:
    """Make one prediction responsible for each object.

    It is that of the cell that holds the object's centre, and of the prior,
    among those of all scales (s, k, 2), whose shape has the largest IoU with
    the object's. Where two objects meet, the later is predicted, with the
    classes of both.
    """
    image, boxes, labels = _gather(ts[0], strides[0], targets)
    size, centre = boxes[:, 2:] - boxes[:, :2], boxes.view(-1, 2, 2).mean(1)
    shapes = priors.flatten(0, 1)
    common = torch.minimum(size[:, None], shapes).prod(-1)
    union = size.prod(-1)[:, None] + shapes.prod(-1) - common
    best = (common / union).argmax(1)
    truths = []
    for scale, (t, stride) in enumerate(zip(ts, strides, strict=True)):
        n, k, h, w, c = t.shape
        mine = (best // k == scale).nonzero()[:, 0]
        col, row = (centre[mine] / stride).long().T
        slot = ((image[mine] * k + best[mine] % k) * h + row) * w + col
        owner = torch.full((n * k * h * w,), -1, device=t.device)
        owner.scatter_reduce_(0, slot, mine, "amax")  # the later of two
        classes = t.new_zeros(len(boxes), c - 5)
        classes[owner[slot], labels[mine]] = 1

        owner = owner.view(n, k, h, w)
        responsible = owner >= 0
        own = owner[responsible]
        predicted = decode_boxes(t, priors[scale], stride)
        overlap = torch.zeros_like(t[..., 0])
        for i in range(n):
            if (image == i).any():
                ious = _iou(predicted[i, ..., None, :], boxes[image == i])
                overlap[i] = ious.amax(-1)
        xy = centre[own] / stride % 1
        wh = (size[own] / shapes[best[own]]).log()
        truths.append(
            Truth(
                responsible,
                overlap,
                t=torch.cat([xy, wh], 1),
                iou=_iou(predicted[responsible], boxes[own]),
                area=size[own].prod(1) / (h * w * stride**2),
                classes=classes[own],
                label=labels[own],
            )
        )
    return truths


# --8<-- [end:match]
def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of boxes (…, 4), not both empty, pair by pair."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    # Where nothing is common, a box of infinite width may have no height.
    return common.where(common == 0, common / (area_a + area_b - common))


def _gather(
    t: Tensor, stride: int, targets: Targets
) -> tuple[Tensor, Tensor, Tensor]:
    """Check all objects and list them: image (m,), box (m, 4), label (m,)."""
    n, _, h, w, c = t.shape
    if len(targets) != n or n == 0:
        raise ValueError(f"{len(targets)} `targets` for {n} images")
    for i, (boxes, labels) in enumerate(targets):
        m = len(boxes)
        if boxes.shape != (m, 4) or labels.shape != (m,):
            raise ValueError(
                f"targets[{i}] has boxes {tuple(boxes.shape)} and labels "
                f"{tuple(labels.shape)}; they must be (m, 4) and (m,)"
            )
        if labels.dtype not in INTEGERS:
            raise TypeError(
                f"targets[{i}] has labels of {labels.dtype}; they must be "
                "integers"
            )
        centre = boxes.float().view(m, 2, 2).mean(1)
        limit = centre.new_tensor([w * stride, h * stride])
        good = (boxes[:, 2:] > boxes[:, :2]) & (centre >= 0) & (centre < limit)
        for box in boxes[~good.all(1)].tolist():
            raise ValueError(
                f"targets[{i}] has the box {box}; it must have x1 < x2, "
                f"y1 < y2 and its centre in the image, {w * stride} wide and "
                f"{h * stride} high"
            )
        for label in labels[(labels < 0) | (labels >= c - 5)].tolist():
            raise ValueError(
                f"targets[{i}] has the label {label}; there are classes 0 to "
                f"{c - 6}"
            )
    counts = torch.tensor([len(labels) for _, labels in targets])
    image = torch.arange(n).repeat_interleave(counts)
    return (
        image.to(t.device),
        torch.cat([boxes for boxes, _ in targets]).to(t),
        torch.cat([labels for _, labels in targets]).to(t.device).long(),
    )


# --8<-- [start:base]
class Loss(NamedTuple):
    """Three sums over all predictions of a batch, divided by its images."""

    boxes: Tensor
    objectness: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """Add the three."""
        return self.boxes + self.objectness + self.classes


class YOLO(nn.Module):
    """Predict, in each cell of one or more grids, a box for each prior.

    Subclasses map images to one output for each scale, (n, k·(5 + classes),
    h/stride, w/stride), say what the classes' numbers mean, and compare one
    scale with the truth.
    """

    ignore: float

    def __init__(
        self,
        priors: Priors,
        strides: Sequence[int],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels) < 1:
            raise ValueError(f"{num_classes=} and {in_channels=} must be >= 1")
        counts = {len(of_scale) for of_scale in priors}
        if len(priors) != len(strides) or len(counts) != 1 or 0 in counts:
            raise ValueError(
                f"priors must be {len(strides)} lists of one length, got "
                f"lengths {[len(of_scale) for of_scale in priors]}"
            )
        if not all(0 < x < float("inf") for s in priors for p in s for x in p):
            raise ValueError(f"{priors=} must hold positive numbers alone")
        self.priors, self.strides = priors, strides
        self.num_priors = len(priors[0])
        self.num_outputs = self.num_priors * (5 + num_classes)
        self.in_channels = in_channels

    def check(self, x: Tensor) -> None:
        """Raise ValueError for an input that is no image of the right size."""
        fits = x.ndim == 4 and x.shape[1] == self.in_channels
        if (
            not fits
            or min(x.shape[2:]) < 32
            or any(s % 32 for s in x.shape[2:])
        ):
            raise ValueError(
                f"input must be (n, {self.in_channels}, h, w) with h and w "
                f"multiples of 32, got {tuple(x.shape)}"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn the classes' numbers (…, num_classes) into probabilities."""
        raise NotImplementedError

    def compare(
        self, t: Tensor, truth: Truth, weight: Tensor, ignore: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three sums of `Loss` for one scale."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Tensor]) -> Predictions:
        """Read boxes and probabilities off the outputs, scale by scale."""
        found = []
        for y, priors, stride in zip(
            outputs, self.priors, self.strides, strict=True
        ):
            t = split(y, self.num_priors)
            boxes = decode_boxes(t, t.new_tensor(priors), stride)
            classes = self.probabilities(t[..., 5:])
            parts = boxes, t[..., 4].sigmoid(), classes
            found.append([part.flatten(1, 3) for part in parts])
        return Predictions(*(torch.cat(p, 1) for p in zip(*found, strict=True)))

    def loss(
        self,
        outputs: Sequence[Tensor],
        targets: Targets,
        *,
        ignore: float | None = None,
        by_size: bool = False,
    ) -> Loss:
        """Compare the outputs with the objects of each image.

        A prediction that is responsible for no object is not told that there
        is none if its box has an IoU over `ignore` with one. With `by_size`,
        coordinates count 2 − (area of the object) / (area of the image) times,
        as in the authors' code: small objects more.
        Raises ValueError for a box or label that cannot be, and TypeError for
        labels that are not integers, and says which.
        """
        ts = [split(y, self.num_priors) for y in outputs]
        truths = match(ts, ts[0].new_tensor(self.priors), self.strides, targets)
        terms = []
        for t, truth in zip(ts, truths, strict=True):
            weight = 2 - truth.area if by_size else torch.ones_like(truth.area)
            level = self.ignore if ignore is None else ignore
            terms.append(self.compare(t, truth, weight[:, None], level))
        return Loss(*(sum(x) / len(targets) for x in zip(*terms, strict=True)))


# --8<-- [end:base]
# --8<-- [start:yolov2]
def darknet_reorg(x: Tensor, stride: int) -> Tensor:
    """Map (n, c, h, w) to (n, c·stride², h/stride, w/stride), as Darknet does.

    Darknet's layer reads the memory of x as (c/s², h·s, w·s), and of that
    takes the values at each of the s×s offsets together.
    """
    n, c, h, w = x.shape
    s = stride
    x = x.reshape(n, c // s**2, h, s, w, s).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * s**2, h // s, w // s)


class YOLOv2(YOLO):
    """Detect on one grid, beside whose coarse maps finer ones are laid.

    `priors` are in cells; those of COCO are `COCO_CELLS`. `passthrough` is
    the width to which a 1×1 convolution reduces the finer maps first, as in
    the authors' configuration; with None they pass as they are, 26×26×512 as
    13×13×2048, as the paper says.
    Redmon and Farhadi 2017, "YOLO9000: better, faster, stronger", section 2.
    """

    def __init__(
        self,
        *,
        num_classes: int = 20,
        priors: Sequence[tuple[float, float]] = VOC_CELLS,
        passthrough: int | None = 64,
        in_channels: int = 3,
    ) -> None:
        pixels = [(32 * w, 32 * h) for w, h in priors]
        super().__init__([pixels], [32], num_classes, in_channels)
        if passthrough is not None and passthrough < 1:
            raise ValueError(f"{passthrough=} must be None or >= 1")
        fine = passthrough or 512
        self.body = darknet19_body(in_channels)
        self.neck = nn.Sequential(
            ConvUnit(1024, 1024, 3), ConvUnit(1024, 1024, 3)
        )
        self.passthrough = (
            ConvUnit(512, fine, 1) if passthrough else nn.Identity()
        )
        self.head = nn.Sequential(
            ConvUnit(1024 + 4 * fine, 1024, 3),
            last_conv(1024, self.num_outputs),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images (n, in_channels, h, w) to one output in a tuple."""
        self.check(x)
        fine = self.body[:5](x)  # (n, 512, 26, 26) at 416
        x = self.neck(self.body[5](fine))  # (n, 1024, 13, 13)
        fine = darknet_reorg(self.passthrough(fine), 2)  # (n, 256, 13, 13)
        return (self.head(torch.cat([fine, x], 1)),)  # (n, 125, 13, 13)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Let one class of all be right."""
        return logits.softmax(-1)

    # The paper names the targets, the authors' code how far each is missed.
    ignore = 0.6

    def compare(
        self, t: Tensor, truth: Truth, weight: Tensor, ignore: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return halved squares, and the cross-entropy of the classes.

        Objectness aims at the IoU of the predicted box with its object, and
        that of a responsible prediction counts five times.
        """
        mine = t[truth.responsible]
        objectness = t[..., 4].sigmoid()
        wrong = ~truth.responsible & (truth.overlap <= ignore)
        xy = (mine[:, :2].sigmoid() - truth.t[:, :2]) ** 2
        wh = (mine[:, 2:4] - truth.t[:, 2:]) ** 2
        right = (objectness[truth.responsible] - truth.iou) ** 2
        return (
            (weight * (xy + wh)).sum() / 2,
            (5 * right.sum() + (objectness[wrong] ** 2).sum()) / 2,
            functional.cross_entropy(mine[:, 5:], truth.label, reduction="sum"),
        )


# --8<-- [end:yolov2]
# --8<-- [start:yolov3]
class Scale(nn.Module):
    """Predict on one grid, and hand on what the next finer one needs."""

    def __init__(self, in_channels: int, c: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvUnit(in_channels, c, 1),
            ConvUnit(c, 2 * c, 3),
            ConvUnit(2 * c, c, 1),
            ConvUnit(c, 2 * c, 3),
            ConvUnit(2 * c, c, 1),
        )
        self.head = nn.Sequential(
            ConvUnit(c, 2 * c, 3), last_conv(2 * c, outputs)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, in_channels, h, w) to (n, c, h, w) and (n, outputs, h, w)."""
        x = self.convs(x)
        return x, self.head(x)


class Merge(nn.Module):
    """Lay coarser features, halved in width and enlarged, on finer ones."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.reduce = ConvUnit(c, c // 2, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (n, c, h, w) and (n, d, 2h, 2w) to (n, c/2 + d, 2h, 2w)."""
        coarse = functional.interpolate(self.reduce(coarse), scale_factor=2)
        return torch.cat([coarse, fine], 1)


class YOLOv3(YOLO):
    """Detect on three grids, from coarse to fine.

    `priors` are in pixels, for strides 32, 16 and 8.
    Redmon and Farhadi 2018, "YOLOv3: an incremental improvement", section 2.
    """

    def __init__(
        self,
        *,
        num_classes: int = 80,
        priors: Priors = COCO_PIXELS,
        in_channels: int = 3,
    ) -> None:
        super().__init__(priors, [32, 16, 8], num_classes, in_channels)
        self.body = darknet53_body(in_channels)
        self.large = Scale(1024, 512, self.num_outputs)
        self.merge1 = Merge(512)
        self.medium = Scale(256 + 512, 256, self.num_outputs)
        self.merge2 = Merge(256)
        self.small = Scale(128 + 256, 128, self.num_outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map images (n, in_channels, h, w) to one output for each scale."""
        self.check(x)
        x8 = self.body[:4](x)  # (n, 256, 52, 52) at 416
        x16 = self.body[4](x8)  # (n, 512, 26, 26)
        x32 = self.body[5](x16)  # (n, 1024, 13, 13)
        x, large = self.large(x32)  # (n, 512, 13, 13), (n, 255, 13, 13)
        x, medium = self.medium(self.merge1(x, x16))  # 256 and 255 at 26×26
        x, small = self.small(self.merge2(x, x8))  # 128 and 255 at 52×52
        return large, medium, small

    def probabilities(self, logits: Tensor) -> Tensor:
        """Let several classes be right: labels may overlap."""
        return logits.sigmoid()

    ignore = 0.5

    def compare(
        self, t: Tensor, truth: Truth, weight: Tensor, ignore: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums whose gradient is prediction minus truth, throughout.

        For t_x and t_y it is taken after the sigmoid, as in the authors' code:
        inverted, a centre on the edge of its cell would be infinite.
        """
        mine = t[truth.responsible]
        certain = truth.responsible | (truth.overlap <= ignore)
        cross_entropy = functional.binary_cross_entropy_with_logits
        xy = cross_entropy(mine[:, :2], truth.t[:, :2], reduction="none")
        wh = (mine[:, 2:4] - truth.t[:, 2:]) ** 2 / 2
        objectness = cross_entropy(
            t[..., 4][certain],
            truth.responsible[certain].to(t),
            reduction="sum",
        )
        return (
            (weight * (xy + wh)).sum(),
            objectness,
            cross_entropy(mine[:, 5:], truth.classes, reduction="sum"),
        )


# --8<-- [end:yolov3]
yolov2, yolov3 = YOLOv2, YOLOv3
