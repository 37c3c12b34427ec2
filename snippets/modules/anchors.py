"""Anchor boxes: shapes, offsets, assignment, clusters and suppression.

Boxes are corners x1, y1, x2, y2 in pixels, of any integer or float type.
Results are float32, or float64 where that came in: in half precision an area
of 256 × 256 would overflow.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["yolo", "ssd"]

BACKGROUND, IGNORED = -1, -2
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FEW = 32_000  # values that fit the cache, and that wake no second thread
BLOCK = 128  # boxes that suppress each other at a time


# --8<-- [start:box_iou]
def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Divide the intersection of each two boxes by their union.

    a: (n, 4); b: (m, 4). Returns (n, m), from 0 to 1. A degenerate box, which
    is one with x2 <= x1, y2 <= y1, a coordinate that is NaN or infinite, or
    an area that the float cannot hold twice, has IoU 0 with all boxes, itself
    included, and takes and gives no gradient.
    Raises ValueError for other shapes, TypeError for what holds no numbers.
    Source: Everingham et al. 2010 (The PASCAL VOC challenge), section 4.2.
    """
    a, b = _floats("a", a), _floats("b", b)
    dtype = torch.promote_types(a.dtype, b.dtype)
    return _iou(_apart(a.to(dtype)), _apart(b.to(dtype)))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([_iou_of_rows(some, b) for some in _blocks(a, b)])


def _blocks(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Split the rows of `a`: a few at a time, compared with all of `b`."""
    few = FEW if a.device.type == "cpu" else 1000 * FEW  # a GPU wants more
    blocks: tuple[Tensor, ...] = torch.split(a, max(1, few // max(1, len(b))))
    return blocks


def _iou_of_rows(a: Tensor, b: Tensor) -> Tensor:
    ax1, ay1, ax2, ay2 = a[..., None].unbind(1)  # (n, 1) each
    bx1, by1, bx2, by2 = b.T.contiguous().unbind()  # (m,) each
    w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    overlap = w * h
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    return overlap / union


def _apart(boxes: Tensor) -> Tensor:
    """Let degenerate boxes overlap nothing."""
    # Inside out, a box has the area 1 and no overlap: never 0 / 0.
    inside_out = boxes.new_tensor([1, 1, 0, 0])
    return torch.where(_is_proper(boxes)[:, None], boxes, inside_out)


def _is_proper(boxes: Tensor) -> Tensor:
    w, h = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    area = w * h
    return (w > 0) & (h > 0) & (area > 0) & (2 * area).isfinite()


# --8<-- [end:box_iou]


# --8<-- [start:anchors]
def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Give each size each ratio of width to height, at an area of size².

    sizes: in pixels. Returns (len(sizes) * len(ratios), 2), widths and
    heights; the ratios of the first size come first.
    Raises ValueError where one is not positive and finite, or none is given.
    Source: Liu et al. 2016 (SSD), section 2.2.
    """
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if not len(values) or not all(0 < v < math.inf for v in values):
            raise ValueError(
                f"`{name}={values!r}` must be positive, finite numbers"
            )
    return torch.tensor(
        [(s * r**0.5, s / r**0.5) for s in sizes for r in ratios]
    )


def generate_anchors(
    feature_size: int | tuple[int, int], stride: float, shapes: Tensor
) -> Tensor:
    """Centre all shapes on each cell of a feature map.

    feature_size: height and width in cells; stride: pixels a cell; shapes:
    (k, 2), widths and heights in pixels. Returns (h * w * k, 4): row by row,
    cell by cell, shape by shape. A head's output (n, k * d, h, w) comes into
    this order by `y.unflatten(1, (k, d)).permute(0, 3, 4, 1, 2)` and
    `.flatten(1, 3)`: (n, h * w * k, d).
    Raises ValueError where a number is not positive or a shape does not fit,
    TypeError where `shapes` holds no numbers.
    Source: Ren et al. 2015 (Faster R-CNN), section 3.1.1.
    """
    pair = [feature_size] * 2 if isinstance(feature_size, int) else feature_size
    if len(pair) != 2 or not all(isinstance(v, int) and v > 0 for v in pair):
        raise ValueError(f"`{feature_size=}` must be one or two integers >= 1")
    stride = _check_stride(stride)
    shapes = _check_sizes("shapes", shapes)
    h, w = pair
    x, y = ((torch.arange(cells).to(shapes) + 0.5) * stride for cells in (w, h))
    centres = torch.cartesian_prod(y, x).flip(1)[:, None]  # (h * w, 1, 2)
    anchors = torch.cat([centres - shapes / 2, centres + shapes / 2], -1)
    return anchors.reshape(-1, 4)


# --8<-- [end:anchors]


# --8<-- [start:encode]
def encode(
    boxes: Tensor,
    anchors: Tensor,
    *,
    kind: Kind,
    stride: float | None = None,
    variances: tuple[float, float] = (0.1, 0.2),
) -> Tensor:
    """Express boxes as offsets from their anchors.

    boxes, anchors: (n, 4). Returns (n, 4): tx, ty, tw, th. "yolo" needs the
    `stride`, and the centre of a box in the cell around the anchor's centre;
    on the cell's left or upper edge tx or ty is -inf. `assign` pairs such
    boxes alone if it is given the `stride`. "ssd" divides by `variances`,
    which are those of its authors' code; (1, 1) gives the paper's formula,
    which is R-CNN's.
    Raises ValueError that names the first row with a degenerate box or
    anchor, or a centre outside the cell; and as `decode`.
    Source: the inverse of `decode`.
    """
    boxes, anchors = _floats("boxes", boxes), _floats("anchors", anchors)
    stride = _check_kind(kind, stride, variances)
    if boxes.shape != anchors.shape:
        raise ValueError(
            f"`boxes` has shape {tuple(boxes.shape)}, `anchors` "
            f"{tuple(anchors.shape)}; they must be the same"
        )
    for name, rows in (("boxes", boxes), ("anchors", anchors)):
        _check_rows(_is_proper(rows), name, rows, "is degenerate")
    (centre, size), (origin, shape) = _centred(boxes), _centred(anchors)
    if kind == "yolo":
        place = _place(centre, origin, stride)
        _check_rows(
            _is_inside(place),
            "boxes",
            boxes,
            "has its centre outside the cell around the centre of its anchor, "
            f"{stride} pixels wide; `assign(…, {stride=})` pairs no such two",
        )
        return torch.cat([place.logit(), (size / shape).log()], 1)
    move = (centre - origin) / shape / variances[0]
    return torch.cat([move, (size / shape).log() / variances[1]], 1)


# --8<-- [end:encode]


# --8<-- [start:decode]
def decode(
    offsets: Tensor,
    anchors: Tensor,
    *,
    kind: Kind,
    stride: float | None = None,
    variances: tuple[float, float] = (0.1, 0.2),
) -> Tensor:
    """Apply offsets to anchors.

    offsets: (..., n, 4), tx, ty, tw, th; anchors: (n, 4). Returns boxes
    (..., n, 4). "yolo" keeps the centre in the cell, `stride` pixels wide,
    around the anchor's centre; "ssd" moves it by parts of the anchor's size.
    `stride` counts for "yolo" alone, `variances` for "ssd" alone. Nothing is
    clamped: an exponential that overflows gives an infinite box.
    Raises ValueError for another kind, shapes that do not fit, and settings
    that are not positive; TypeError for what holds no numbers.
    Source: Redmon and Farhadi 2017 (YOLO9000), section 2, "Direct location
    prediction"; Liu et al. 2016 (SSD), equation 2, solved for the box.
    """
    offsets = _floats("offsets", offsets, batched=True)
    anchors = _floats("anchors", anchors)
    stride = _check_kind(kind, stride, variances)
    if offsets.shape[-2:] != anchors.shape:
        raise ValueError(
            f"`offsets` has shape {tuple(offsets.shape)}, `anchors` "
            f"{tuple(anchors.shape)}; the last two axes must be the same"
        )
    origin, shape = _centred(anchors)
    t_centre, t_size = offsets[..., :2], offsets[..., 2:]
    if kind == "yolo":
        centre = (t_centre.sigmoid() + (origin / stride).floor()) * stride
        size = shape * t_size.exp()
    else:
        centre = origin + t_centre * variances[0] * shape
        size = shape * (t_size * variances[1]).exp()
    return torch.cat([centre - size / 2, centre + size / 2], -1)


# --8<-- [end:decode]


# --8<-- [start:assign]
def assign(
    anchors: Tensor,
    boxes: Tensor,
    *,
    positive: float = 0.5,
    negative: float = 0.4,
    stride: float | None = None,
) -> Tensor:
    """Decide which anchor learns which box.

    anchors: (n, 4); boxes: (m, 4). Returns (n,), int64: the box's index, -1
    for background, -2 for anchors to ignore. First each box takes the best
    anchor that is free, the largest IoU of all first and of equal ones the
    lower box, then the lower anchor. Of the other anchors, one with an IoU of
    at least `positive` takes its best box; one below `negative` is
    background. A box that overlaps no anchor, a degenerate one also, is
    assigned to none. Given a `stride`, in pixels, an anchor takes only boxes
    whose centre lies in the cell around its own, as `encode` wants them for
    "yolo"; a good anchor of another cell is ignored.
    Raises ValueError unless 0 <= negative <= positive <= 1 and 0 < positive,
    for a stride that is not positive, and as `box_iou`.
    Source: Liu et al. 2016 (SSD), section 2.2, "Matching strategy"; Ren et
    al. 2015 (Faster R-CNN), section 3.1.2, for ignoring; Redmon et al. 2016
    (YOLO), section 2, for the cells.
    """
    if not 0 <= negative <= positive <= 1 or positive == 0:
        raise ValueError(
            f"{negative=} and {positive=} must be 0 <= negative <= positive "
            "<= 1, and positive above 0"
        )
    if stride is not None:
        _check_stride(stride)
    anchors, boxes = _floats("anchors", anchors), _floats("boxes", boxes)
    iou = box_iou(boxes.detach(), anchors.detach())  # (m, n)
    result = iou.new_full((len(anchors),), BACKGROUND, dtype=torch.int64)
    if not iou.numel():
        return result
    result[iou.amax(0) >= negative] = IGNORED
    if stride is not None:
        centre, origin = (_centred(b.detach())[0] for b in (boxes, anchors))
        place = _place(centre[:, None], origin, stride)
        iou = iou.where(_is_inside(place), 0)
    best, box = iou.max(0)
    result = torch.where(best >= positive, box, result)

    best, anchor = iou.max(1)
    while best.max() > 0:
        i = best.argmax()
        taken = anchor[i].clone()
        result[taken] = i
        best[i] = 0  # this box is done
        iou[:, taken] = 0
        again = (anchor == taken) & (best > 0)
        best[again], anchor[again] = iou[again].max(1)
    return result


# --8<-- [end:assign]


# --8<-- [start:kmeans]
def kmeans_anchors(
    sizes: Tensor, k: int, *, seed: int = 0, iterations: int = 100
) -> Tensor:
    """Cluster the sizes of boxes by k-means with the distance 1 - IoU.

    sizes: (n, 2), widths and heights. Returns (k, 2), by area. Starts as
    k-means++, where the chance of a size is its distance: that is the cost
    here, as the squared distance is in the plain k-means++. A cluster's
    centre is its mean, which need not lower 1 - IoU: so of all rounds the
    centres of the best mean IoU are kept. A cluster left empty takes the size
    that is covered worst. Ends when no size changes its cluster.
    Raises ValueError where a size is not positive and finite, k < 1 or more
    than there are distinct sizes, or iterations < 0; TypeError where `sizes`
    holds no numbers.
    Source: Redmon and Farhadi 2017 (YOLO9000), section 2, "Dimension
    clusters"; Arthur and Vassilvitskii 2007 (k-means++).
    """
    given = _check_sizes("sizes", sizes)
    if k < 1 or iterations < 0:
        raise ValueError(f"{k=} must be >= 1 and {iterations=} >= 0")
    sides = given.detach().cpu().T.contiguous()  # (2, n)
    centres = _seed_centres(sides, k, torch.Generator().manual_seed(seed))
    best, cluster = _nearest(sides, centres)
    most, found = best.mean(), centres
    for _ in range(iterations):
        count = cluster.bincount(minlength=k)
        sums = [cluster.bincount(side, minlength=k) for side in sides.double()]
        centres = (torch.stack(sums, 1) / count[:, None]).to(sides)
        for empty in (count == 0).nonzero():
            worst = best.argmin()
            centres[empty], best[worst] = sides[:, worst], 1
        before = cluster
        best, cluster = _nearest(sides, centres)
        if best.mean() > most:
            most, found = best.mean(), centres
        if torch.equal(cluster, before):
            break
    return found[found.prod(1).argsort(stable=True)].to(given)


def _seed_centres(sides: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw k of the sizes, given as (2, n): (k, 2)."""
    centres, distance = sides.new_empty(0, 2), torch.ones_like(sides[0])
    for _ in range(k):
        ends = distance.double().cumsum(0)  # each has a stretch as its chance
        if ends[-1] == 0:
            raise ValueError(
                f"{k=} is more than the {len(centres)} distinct `sizes`"
            )
        point = torch.rand(1, generator=generator, dtype=ends.dtype) * ends[-1]
        last = sides[:, torch.searchsorted(ends, point, right=True)]
        centres = torch.cat([centres, last.T])
        # Rounding must not hide a size that differs in its last digit.
        to_last = (1 - _nearest(sides, last.T)[0]).clamp(min=1e-16)
        to_last = to_last * (sides != last).any(0)
        distance = torch.minimum(distance, to_last)
    return centres


def _nearest(sides: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return each size's best IoU, corners shared, and whose it is: (n,)."""
    w, h = sides
    area, best = w * h, torch.zeros_like(w)
    cluster = torch.zeros_like(w, dtype=torch.int32)
    for i, (centre_w, centre_h) in enumerate(centres.tolist()):
        overlap = w.clamp(max=centre_w) * h.clamp(max=centre_h)
        iou = overlap / (area + centre_w * centre_h - overlap)
        cluster = torch.maximum(cluster, (iou > best).int() * i)
        best = torch.maximum(best, iou)
    return best, cluster


def mean_iou(sizes: Tensor, anchors: Tensor) -> float:
    """Average the IoU of each size with its best anchor, centres aligned.

    sizes: (n, 2); anchors: (k, 2); widths and heights.
    Raises ValueError where a size is not positive and finite or there are
    none, TypeError for what holds no numbers.
    Source: Redmon and Farhadi 2017 (YOLO9000), figure 2.
    """
    sizes = _check_sizes("sizes", sizes).double()
    anchors = _check_sizes("anchors", anchors)
    return _nearest(sizes.T.contiguous(), anchors)[0].mean().item()


# --8<-- [end:kmeans]


# --8<-- [start:nms]
def nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    threshold: float = 0.5,
    labels: Tensor | None = None,
) -> Tensor:
    """Keep the best boxes, and drop those that overlap a better one kept.

    boxes: (n, 4); scores: (n,); labels: (n,). Returns the indices kept, by
    falling score, of equal scores the lower first. A box goes when its IoU
    with a kept one is over `threshold`; given `labels`, only a box of its own
    label can remove it. Degenerate boxes overlap nothing: they remove none
    and stay.
    Raises ValueError for NaN scores, a threshold outside 0 to 1 and shapes
    that do not fit, TypeError for labels that are not integers and for what
    holds no numbers.
    Source: Girshick et al. 2014 (R-CNN), section 2.2.
    """
    boxes = _apart(_floats("boxes", boxes).detach())
    _check_scores(boxes, scores, threshold, labels)
    order = scores.detach().argsort(descending=True, stable=True)
    groups = [order]
    if labels is not None:
        groups = [
            order[labels[order] == label] for label in set(labels.tolist())
        ]
    kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for rest in groups:
        while len(rest):
            block, rest = rest[:BLOCK], rest[BLOCK:]
            block = block[_survivors(boxes[block], threshold)]
            kept[block] = True
            rest = rest[~_overlaps(boxes[rest], boxes[block], threshold)]
    return order[kept[order]]


def _overlaps(boxes: Tensor, better: Tensor, threshold: float) -> Tensor:
    """Mark boxes that overlap one of the better ones: (n,)."""
    blocks = (_iou_of_rows(some, better) for some in _blocks(boxes, better))
    return torch.cat([(iou > threshold).any(1) for iou in blocks])


def _survivors(boxes: Tensor, threshold: float) -> Tensor:
    """Mark what is kept of a few boxes, the best first: (n,)."""
    removes = (_iou(boxes, boxes) > threshold).triu(1)
    # Round i settles the first i boxes at least, and mostly all.
    kept, before = ~removes.any(0), removes.new_ones(len(boxes))
    while not torch.equal(kept, before):
        kept, before = ~removes[kept].any(0), kept
    return kept


# --8<-- [end:nms]


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres and sizes, (n, 2) each."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + size / 2, size


def _place(centre: Tensor, origin: Tensor, stride: float) -> Tensor:
    """Say where in the cell around an origin a centre lies: 0 to 1 inside."""
    return centre / stride - (origin / stride).floor()


def _is_inside(place: Tensor) -> Tensor:
    return ((place >= 0) & (place < 1)).all(-1)


def _floats(
    name: str, rows: Tensor, columns: int = 4, *, batched: bool = False
) -> Tensor:
    """Return rows of numbers in float32, or float64 if they are that."""
    if not isinstance(rows, Tensor):
        raise TypeError(f"`{name}` is a {type(rows).__name__}, no tensor")
    if rows.is_complex() or rows.dtype is torch.bool:
        raise TypeError(f"`{name}` holds {rows.dtype}; it must hold numbers")
    fits = rows.ndim >= 2 if batched else rows.ndim == 2
    if not fits or rows.shape[-1] != columns:
        raise ValueError(
            f"`{name}` has shape {tuple(rows.shape)}; it must be "
            f"({'..., ' * batched}n, {columns})"
        )
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _check_sizes(name: str, sizes: Tensor) -> Tensor:
    sizes = _floats(name, sizes, 2)
    if not len(sizes):
        raise ValueError(f"`{name}` is empty")
    proper = (sizes > 0).all(1) & (2 * sizes.prod(1)).isfinite()
    _check_rows(proper, name, sizes, "is not positive with a finite area")
    return sizes


def _check_rows(good: Tensor, name: str, rows: Tensor, what: str) -> None:
    if not good.all():
        i = int(good.int().argmin())
        raise ValueError(f"row {i} of `{name}` {what}: {rows[i].tolist()}")


def _check_stride(stride: float | None) -> float:
    if stride is None or not 0 < stride < math.inf:
        raise ValueError(f"`{stride=}` must be a positive number of pixels")
    return stride


def _check_kind(
    kind: str, stride: float | None, variances: tuple[float, float]
) -> float:
    if kind not in ("yolo", "ssd"):
        raise ValueError(f"`{kind=}` must be 'yolo' or 'ssd'")
    if len(variances) != 2 or not all(0 < v < math.inf for v in variances):
        raise ValueError(f"`{variances=}` must be two positive numbers")
    return _check_stride(stride) if kind == "yolo" else 1


def _check_scores(
    boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None
) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"`{threshold=}` must be from 0 to 1")
    for name, values in (("scores", scores), ("labels", labels)):
        if values is None:
            continue
        if not isinstance(values, Tensor):
            raise TypeError(f"`{name}` is a {type(values).__name__}, no tensor")
        if values.shape != boxes.shape[:1]:
            raise ValueError(
                f"`{name}` has shape {tuple(values.shape)}; {len(boxes)} boxes "
                f"need ({len(boxes)},)"
            )
    if labels is not None and labels.dtype not in INTEGERS:
        raise TypeError(f"`labels` holds {labels.dtype}; it must hold integers")
    if scores.isnan().any():
        raise ValueError("`scores` holds NaN, which has no rank")
