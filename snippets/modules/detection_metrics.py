"""Precision, recall and average precision of detections: VOC's and COCO's.

Boxes are corners x1, y1, x2, y2 in pixels, without the extra pixel that VOC's
kit adds to each side. Everything is computed in float64 on the CPU. "Difficult"
and "crowd" objects, whose detections VOC and COCO do not count, are not known.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

Method = Literal["voc2007", "area", "coco"]
Rule = Literal["voc", "coco"]

RULES: dict[Method, Rule] = {"voc2007": "voc", "area": "voc", "coco": "coco"}
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
MISSED, NOT_COUNTED = -1, -2
COCO_LIMIT = 100
COCO_THRESHOLDS = tuple(i / 20 for i in range(10, 20))  # 0.50, 0.55 … 0.95
ELEVEN_POINTS = torch.arange(11, dtype=torch.float64) / 10
# As COCO's code rounds them: its 0.35 lies above 7/20, its 0.7 above 7/10.
COCO_POINTS = torch.arange(101, dtype=torch.float64) * 0.01


# --8<-- [start:types]
class Detections(NamedTuple):
    """Hold what was found in one image: (k, 4), (k,), (k,)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Objects(NamedTuple):
    """Hold what is in one image: (m, 4), (m,)."""

    boxes: Tensor
    labels: Tensor


class MeanAveragePrecision(NamedTuple):
    """Hold the mean over classes, and the value of each class."""

    mean: float
    per_class: dict[int, float]


# --8<-- [end:types]


# --8<-- [start:match]
def match(
    detections: Detections,
    objects: Objects,
    *,
    iou_threshold: float = 0.5,
    rule: Rule = "voc",
) -> Tensor:
    """Decide which object of its class each detection has found.

    Returns (k,), int64: the object's index, -1 for a false positive. By
    falling score, of equal scores the first, each detection takes one object
    that no other has taken. "voc": the object of the largest IoU, which must
    be over the threshold; if it is taken the detection is false, even where
    another object would do. "coco": the best object still free, of equal ones
    the last; its IoU may equal the threshold; beyond the best 100 detections
    of a class they do not count and get -2. A degenerate box has IoU 0.
    Raises ValueError for shapes that do not fit, NaN scores and a threshold
    outside 0 to 1, TypeError for labels that are not integers.
    Source: Everingham et al. 2010 (The PASCAL VOC challenge), section 4.2;
    Lin et al. 2014 (COCO) and its code, `COCOeval.evaluateImg`.
    """
    if rule not in ("voc", "coco"):
        raise ValueError(f"`{rule=}` must be 'voc' or 'coco'")
    _check_threshold(iou_threshold)
    detections = _check_image("detections", detections, Detections)
    objects = _check_image("objects", objects, Objects)
    return _match(detections, objects, (iou_threshold,), rule)[0]


def _match(
    detections: Detections,
    objects: Objects,
    thresholds: Sequence[float],
    rule: Rule,
) -> Tensor:
    """Return (thresholds, k)."""
    found = torch.full((len(thresholds), len(detections.scores)), MISSED)
    iou = _iou(detections.boxes, objects.boxes)
    order = detections.scores.argsort(descending=True, stable=True)
    for label in set(detections.labels.tolist()):
        rows = order[detections.labels[order] == label]
        if rule == "coco":
            found[:, rows[COCO_LIMIT:]] = NOT_COUNTED
            rows = rows[:COCO_LIMIT]
        columns = (objects.labels == label).nonzero()[:, 0]
        if len(columns):
            table = iou[rows][:, columns].tolist()
            for i, threshold in enumerate(thresholds):
                taken = torch.tensor(_take(table, threshold, rule))
                found[i, rows] = columns[taken].where(taken >= 0, MISSED)
    return found


def _take(table: list[list[float]], threshold: float, rule: Rule) -> list[int]:
    """Choose a column or -1 for each row, the best detection first."""
    chosen: list[int] = []
    free = set(range(len(table[0])))
    for iou in table:
        if rule == "voc":
            best = max(range(len(iou)), key=iou.__getitem__)
            hit = best in free and iou[best] > threshold
        else:
            best = max(
                sorted(free, reverse=True), key=iou.__getitem__, default=-1
            )
            hit = bool(free) and iou[best] >= min(threshold, 1 - 1e-10)
        chosen.append(best if hit else MISSED)
        free.discard(chosen[-1])
    return chosen


# --8<-- [end:match]


# --8<-- [start:precision_recall]
def precision_recall(
    scores: Tensor, hits: Tensor, objects: int
) -> tuple[Tensor, Tensor]:
    """Follow precision and recall while detections come in, the best first.

    scores: (k,); hits: (k,), whether each has found an object; objects: how
    many there are. Returns two of (k,), float64. Detections of equal scores
    come in one by one, the first first.
    Raises ValueError where the shapes differ, a score is NaN, or there are no
    objects or fewer than hits.
    Source: Everingham et al. 2010 (The PASCAL VOC challenge), section 4.2.
    """
    _check_alike(scores=scores, hits=hits)
    _check_scores("scores", scores)
    if objects < max(1, int(hits.sum())):
        raise ValueError(
            f"`{objects=}` must be at least 1 and the {int(hits.sum())} hits"
        )
    order = scores.cpu().argsort(descending=True, stable=True)
    true = hits.cpu()[order].double().cumsum(0)
    return true / torch.arange(1, len(true) + 1), true / objects


# --8<-- [end:precision_recall]


# --8<-- [start:average_precision]
def average_precision(
    precision: Tensor, recall: Tensor, *, method: Method = "area"
) -> float:
    """Summarize a precision-recall curve, made monotone first.

    precision, recall: (k,), as `precision_recall` gives them. At each recall
    counts the best precision at that recall or a higher one, 0 where none is
    reached. "area": the area under that curve (VOC since 2010); "voc2007":
    its mean at recall 0, 0.1 … 1; "coco": its mean at 0, 0.01 … 1.
    Raises ValueError for another method, for shapes that differ, and for
    values that are no such curve.
    Source: Everingham et al. 2010 (The PASCAL VOC challenge), section 4.2,
    and the VOC 2010 development kit; `COCOeval.accumulate`.
    """
    _check_curve(precision, recall)
    rule = _rule(method)
    precision, recall = precision.double().cpu(), recall.double().cpu()
    best = precision.flip(0).cummax(0).values.flip(0)
    if method == "area":
        steps = recall.diff(prepend=recall.new_zeros(1))
        return (steps * best).sum().item()
    points = COCO_POINTS if rule == "coco" else ELEVEN_POINTS
    reached = torch.searchsorted(recall, points)  # k where it never is
    return torch.cat([best, best.new_zeros(1)])[reached].mean().item()


# --8<-- [end:average_precision]


# --8<-- [start:mean_average_precision]
def mean_average_precision(
    predictions: Sequence[Detections],
    targets: Sequence[Objects],
    *,
    iou_threshold: float = 0.5,
    method: Method = "area",
) -> MeanAveragePrecision:
    """Average the average precision over the classes that have objects.

    predictions, targets: one of each for every image. "voc2007" and "area"
    match by VOC's rule, "coco" by COCO's (see `match`). The mean is NaN where
    there are no objects at all (COCO's own code says -1).
    Raises as `match`, naming the image, and ValueError where the numbers of
    images differ.
    Source: as `match` and `average_precision`.
    """
    _check_threshold(iou_threshold)
    (result,) = _evaluate(predictions, targets, (iou_threshold,), method)
    return result


def coco_map(
    predictions: Sequence[Detections], targets: Sequence[Objects]
) -> MeanAveragePrecision:
    """Average COCO's value over the IoU thresholds 0.50, 0.55 … 0.95.

    Arguments and errors as for `mean_average_precision`.
    Source: Lin et al. 2014 (COCO) and its code, `COCOeval`: "AP".
    """
    results = _evaluate(predictions, targets, COCO_THRESHOLDS, "coco")
    return _mean(
        {
            label: fmean(result.per_class[label] for result in results)
            for label in results[0].per_class
        }
    )


def _evaluate(
    predictions: Sequence[Detections],
    targets: Sequence[Objects],
    thresholds: Sequence[float],
    method: Method,
) -> list[MeanAveragePrecision]:
    """Return one result for each threshold."""
    rule = _rule(method)
    images = _pair_up(predictions, targets)
    if not images:
        return [_mean({}) for _ in thresholds]
    scores = torch.cat([detections.scores for detections, _ in images])
    labels = torch.cat([detections.labels for detections, _ in images])
    counts = Counter(
        i for _, objects in images for i in objects.labels.tolist()
    )
    found = torch.cat([_match(*im, thresholds, rule) for im in images], 1)
    results = []
    for row in found:
        per_class = {}
        for label, count in sorted(counts.items()):
            mine = (labels == label) & (row != NOT_COUNTED)
            curve = precision_recall(scores[mine], row[mine] >= 0, count)
            per_class[label] = average_precision(*curve, method=method)
        results.append(_mean(per_class))
    return results


def _mean(per_class: dict[int, float]) -> MeanAveragePrecision:
    mean = fmean(per_class.values()) if per_class else math.nan
    return MeanAveragePrecision(mean, per_class)


# --8<-- [end:mean_average_precision]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Divide intersections by unions: (n, 4), (m, 4) to (n, m)."""
    a, b = a.double(), b.double()
    start = torch.maximum(a[:, None, :2], b[:, :2])
    end = torch.minimum(a[:, None, 2:], b[:, 2:])
    overlap = (end - start).clamp(min=0).prod(2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    iou = overlap / (area_a[:, None] + area_b - overlap)
    return iou.nan_to_num(0)  # NaN comes of degenerate boxes alone


def _rule(method: Method) -> Rule:
    if method not in RULES:
        raise ValueError(f"`{method=}` must be one of {', '.join(RULES)}")
    return RULES[method]


def _check_threshold(iou_threshold: float) -> None:
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"`{iou_threshold=}` must be above 0 and at most 1")


def _pair_up(
    predictions: Sequence[Detections], targets: Sequence[Objects]
) -> list[tuple[Detections, Objects]]:
    if len(predictions) != len(targets):
        raise ValueError(
            f"`predictions` has {len(predictions)} images, `targets` "
            f"{len(targets)}; they must be the same"
        )
    return [
        (
            _check_image(f"predictions[{i}]", detections, Detections),
            _check_image(f"targets[{i}]", objects, Objects),
        )
        for i, (detections, objects) in enumerate(
            zip(predictions, targets, strict=True)
        )
    ]


Image = TypeVar("Image", Detections, Objects)


def _check_image(name: str, image: Image, kind: type[Image]) -> Image:
    """Check the fields, and bring them to the CPU."""
    if len(image) != len(kind._fields):
        raise ValueError(f"`{name}` must be ({', '.join(kind._fields)})")
    fields = dict(zip(kind._fields, image, strict=True))
    for field, values in fields.items():
        _check_tensor(f"{name}.{field}", values)
    n = fields["labels"].numel()
    for field, values in fields.items():
        shape = (n, 4) if field == "boxes" else (n,)
        if values.shape != shape:
            raise ValueError(
                f"`{name}.{field}` has shape {tuple(values.shape)}; with {n} "
                f"labels it must have {shape}"
            )
        fields[field] = values.detach().cpu()
    if fields["labels"].dtype not in INTEGERS:
        raise TypeError(
            f"`{name}.labels` holds {fields['labels'].dtype}; it must hold "
            "integers"
        )
    fields["labels"] = fields["labels"].long()  # as bytes 300 equals 44
    if "scores" in fields:
        _check_scores(f"{name}.scores", fields["scores"])
    return kind(**fields)


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` is a {type(value).__name__}, no tensor")


def _check_scores(name: str, scores: Tensor) -> None:
    if scores.isnan().any():
        raise ValueError(f"`{name}` holds NaN, which has no rank")


def _check_alike(**pair: Tensor) -> None:
    for name, values in pair.items():
        _check_tensor(name, values)
    shapes = {name: tuple(values.shape) for name, values in pair.items()}
    (a, shape_a), (b, shape_b) = shapes.items()
    if len(shape_a) != 1 or shape_a != shape_b:
        raise ValueError(
            f"`{a}` has shape {shape_a}, `{b}` {shape_b}; both must be (k,)"
        )


def _check_curve(precision: Tensor, recall: Tensor) -> None:
    _check_alike(precision=precision, recall=recall)
    for name, values in (("precision", precision), ("recall", recall)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"`{name}` has values outside 0 to 1")
    if (recall.diff() < 0).any():
        raise ValueError("`recall` falls; it must be in the order of scores")
