import contextlib
import io
import math
import os
import random
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snippets.modules import detection_metrics as ours
from snippets.modules.detection_metrics import Detections, Objects

STABLE = settings(
    derandomize=True, deadline=None, database=None, max_examples=100
)
INF, NAN = math.inf, math.nan


def detections(rows):
    """Take rows of (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return Detections(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(labels, dtype=torch.int64),
    )


def objects(rows):
    """Take rows of (box, label)."""
    boxes, labels = zip(*rows, strict=True) if rows else ([], [])
    return Objects(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
    )


def random_images(seed, *, images=4, most=6, classes=2):
    """Draw rows of images: few places and scores, so that many are equal."""
    rng = random.Random(seed)

    def box():
        x, y = rng.randrange(0, 12, 2), rng.randrange(0, 4, 2)
        return [x, y, x + rng.randint(4, 8), y + rng.randint(4, 8)]

    predictions, targets = [], []
    for _ in range(images):
        here = [(box(), rng.randrange(classes))
                for _ in range(rng.randint(0, most))]  # fmt: skip
        found = [(box(), rng.randrange(6) / 8, rng.randrange(classes))
                 for _ in range(rng.randint(0, most))]  # fmt: skip
        for b, label in here:
            if rng.random() < 0.7:
                near = [v + rng.choice([0, 0, 1]) for v in b]
                found.append((near, rng.randrange(8) / 8, label))
        rng.shuffle(found)
        predictions.append(found)
        targets.append(here)
    return predictions, targets


def exact_iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return Fraction(w * h, sum(areas) - w * h)


def voc_hits(predictions, targets, label, threshold):
    """Go down the ranking of all images together, as VOC's kit does."""
    ranking = [
        (score, image, box)
        for image, rows in enumerate(predictions)
        for box, score, its in rows
        if its == label
    ]
    ranking.sort(key=lambda row: -row[0])  # stable
    found, hits = set(), []
    for _, image, box in ranking:
        best, which = Fraction(-1), None
        for i, (other, its) in enumerate(targets[image]):
            if its == label and exact_iou(box, other) > best:
                best, which = exact_iou(box, other), i
        hit = best > threshold and (image, which) not in found
        if hit:
            found.add((image, which))
        hits.append(hit)
    return hits


def exact_curve(hits, n):
    true = 0
    for seen, hit in enumerate(hits, 1):
        true += hit
        yield Fraction(true, seen), Fraction(true, n)


def exact_ap(hits, n, method):
    """Compute the average precision from its definition, in fractions."""
    curve = list(exact_curve(hits, n))

    def best(at):
        return max((p for p, r in curve if r >= at), default=Fraction(0))

    if method == "voc2007":
        return sum(best(Fraction(i, 10)) for i in range(11)) / 11
    # Precision is a step function of recall that changes at multiples of 1/n.
    return sum(best(Fraction(i, n)) for i in range(1, n + 1)) / n


# match


def test_the_second_detection_of_an_object_is_false():
    found = detections([([0, 0, 10, 9], 0.8, 1), ([0, 0, 10, 10], 0.9, 1)])
    there = objects([([0, 0, 10, 10], 1)])
    for rule in ("voc", "coco"):
        assert ours.match(found, there, rule=rule).tolist() == [-1, 0]


def test_voc_takes_the_largest_overlap_only_and_coco_the_best_that_is_free():
    there = objects([([0, 0, 10, 10], 1), ([2, 0, 12, 10], 1)])
    found = detections([([0, 0, 10, 10], 0.9, 1), ([0, 0, 11, 10], 0.8, 1)])
    assert ours.match(found, there, rule="voc").tolist() == [0, -1]
    assert ours.match(found, there, rule="coco").tolist() == [0, 1]


def test_voc_asks_for_more_than_the_threshold_and_coco_for_as_much():
    there = objects([([0, 0, 10, 10], 1)])
    for tenths in range(5, 10):
        found = detections([([0, 0, 10, tenths], 0.9, 1)])
        for less, hits in ((0, (-1, 0)), (1e-9, (0, 0)), (-1e-9, (-1, -1))):
            options = {"iou_threshold": tenths / 10 - less}
            for rule, hit in zip(("voc", "coco"), hits, strict=True):
                result = ours.match(found, there, rule=rule, **options)
                assert result.tolist() == [hit]


def test_of_equal_overlaps_voc_takes_the_first_and_coco_the_last():
    there = objects([([0, 0, 10, 10], 1)] * 3)
    found = detections([([0, 0, 10, 10], s, 1) for s in (0.9, 0.8, 0.7, 0.6)])
    assert ours.match(found, there, rule="voc").tolist() == [0, -1, -1, -1]
    assert ours.match(found, there, rule="coco").tolist() == [2, 1, 0, -1]


def test_of_equal_scores_the_first_detection_comes_first():
    there = objects([([0, 0, 10, 10], 1)])
    found = detections([([0, 0, 10, 9], 0.9, 1), ([0, 0, 10, 10], 0.9, 1)])
    for rule in ("voc", "coco"):
        assert ours.match(found, there, rule=rule).tolist() == [0, -1]


def test_a_detection_finds_objects_of_its_class_alone():
    box = [0, 0, 10, 10]
    there = objects([(box, 3), (box, 1), (box, 2)])
    found = detections([(box, 0.9, 2), (box, 0.8, 7), (box, 0.7, 3)])
    for rule in ("voc", "coco"):
        assert ours.match(found, there, rule=rule).tolist() == [2, -1, 0]


def test_coco_counts_the_best_100_of_each_class():
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    rows = [(far, i / 200 + 0.01, 1) for i in range(101)]
    rows += [(far, 0.001, 2)]
    found = detections([*rows, (box, 0.005, 1), (box, 0.0005, 2)])
    there = objects([(box, 1), (box, 2)])
    assert ours.match(found, there, rule="voc").tolist() == [-1] * 102 + [0, 1]
    expected = [-2] + [-1] * 101 + [-2, 1]
    assert ours.match(found, there, rule="coco").tolist() == expected
    # What does not count is no false positive either.
    result = ours.mean_average_precision([found], [there], method="coco")
    assert result.per_class == {1: 0, 2: 0.5}
    result = ours.mean_average_precision([found], [there], method="area")
    assert result.per_class == {1: 1 / 102, 2: 0.5}


@STABLE
@given(st.integers(0, 2**20), st.sampled_from([0.25, 0.5, 0.75]))
def test_voc_hits_equal_plain_loops(seed, threshold):
    predictions, targets = random_images(seed, images=1)
    rows = predictions[0]
    result = ours.match(
        detections(rows), objects(targets[0]), iou_threshold=threshold
    )
    assert result.dtype == torch.int64
    for label in (0, 1):
        mine = [i for i, row in enumerate(rows) if row[2] == label]
        mine.sort(key=lambda i: -rows[i][1])
        hits = [result[i].item() >= 0 for i in mine]
        assert hits == voc_hits(predictions, targets, label, threshold)


DEGENERATE = [
    [5, 5, 5, 9],
    [5, 5, 9, 5],
    [9, 9, 5, 5],
    [NAN, 0, 9, 9],
    [0, 0, 9, NAN],
    [0, 0, INF, 9],
    [-INF, -INF, INF, INF],
    [0, 0, 1e200, 1e200],
    [0, 0, 1e-200, 1e-200],
]


@pytest.mark.parametrize("box", DEGENERATE)
def test_a_degenerate_box_finds_nothing_and_is_not_found(box):
    good = [0, 0, 9, 9]
    found = detections([(box, 0.9, 1), (good, 0.8, 1)])
    there = objects([(box, 1), (good, 1), (box, 1)])
    for rule in ("voc", "coco"):
        result = ours.match(found, there, rule=rule, iou_threshold=1e-6)
        assert result.tolist() == [-1, 1]
    there = objects([(good, 1), (box, 1)])
    result = ours.mean_average_precision([found], [there])
    assert result.mean == 0.25  # one of two objects, at precision 1/2


# precision_recall, average_precision

HITS = [True, False, True, False, False, True]
SCORES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
PRECISION = [1, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6]
RECALL = [1 / 4, 1 / 4, 2 / 4, 2 / 4, 2 / 4, 3 / 4]


def test_precision_and_recall_by_hand():
    order = [3, 0, 5, 1, 4, 2]
    scores = torch.tensor([SCORES[i] for i in order])
    hits = torch.tensor([HITS[i] for i in order])
    precision, recall = ours.precision_recall(scores, hits, 4)
    assert precision.tolist() == PRECISION
    assert recall.tolist() == RECALL
    assert precision.dtype == recall.dtype == torch.float64


def test_equal_scores_come_in_one_by_one():
    hits = torch.tensor([False, True, True])
    precision, recall = ours.precision_recall(torch.ones(3), hits, 2)
    assert precision.tolist() == [0, 1 / 2, 2 / 3]
    assert recall.tolist() == [0, 1 / 2, 1]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # Monotone: 1 to recall 1/4, 2/3 to 1/2, 1/2 to 3/4, then 0.
        ("area", (1 + 2 / 3 + 1 / 2) / 4),
        ("voc2007", (3 * 1 + 3 * 2 / 3 + 2 * 1 / 2) / 11),
        ("coco", (26 * 1 + 25 * 2 / 3 + 25 * 1 / 2) / 101),
    ],
)
def test_average_precision_by_hand(method, expected):
    curve = torch.tensor(PRECISION), torch.tensor(RECALL)
    value = ours.average_precision(*curve, method=method)
    assert value == pytest.approx(expected, rel=1e-6)
    assert isinstance(value, float)


@pytest.mark.parametrize("method", ["area", "voc2007", "coco"])
def test_average_precision_is_0_without_detections_and_1_without_errors(
    method,
):
    nothing = ours.precision_recall(torch.empty(0), torch.empty(0) > 0, 3)
    assert ours.average_precision(*nothing, method=method) == 0
    for n in (1, 3, 7, 10, 20):
        all_ = ours.precision_recall(torch.rand(n), torch.ones(n) > 0, n)
        value = ours.average_precision(*all_, method=method)
        assert value == pytest.approx(1)


@STABLE
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 10))
def test_average_precision_equals_fractions(hits, missed):
    n = sum(hits) + missed
    if n == 0:
        return
    scores = -torch.arange(len(hits))
    curve = ours.precision_recall(scores, torch.tensor(hits).bool(), n)
    for values, exact in zip(
        curve, zip(*exact_curve(hits, n), strict=True), strict=False
    ):
        assert values.tolist() == [float(v) for v in exact]
    for method in ("area", "voc2007"):
        value = ours.average_precision(*curve, method=method)
        expected = float(exact_ap(hits, n, method))
        assert value == pytest.approx(expected, rel=1e-12)


def test_eleven_points_count_a_recall_of_exactly_3_tenths():
    # In floats 3 * 0.1 lies above 3/10.
    curve = ours.precision_recall(torch.rand(3), torch.ones(3) > 0, 10)
    value = ours.average_precision(*curve, method="voc2007")
    assert value == pytest.approx(4 / 11)


# mean_average_precision, coco_map


@STABLE
@given(
    st.integers(0, 2**20),
    st.sampled_from([0.25, 0.5, 0.75]),
    st.sampled_from(["area", "voc2007"]),
)
def test_voc_mean_equals_plain_loops_over_all_images(seed, threshold, method):
    predictions, targets = random_images(seed, classes=3)
    expected = {}
    for label in range(3):
        n = sum(its == label for rows in targets for _, its in rows)
        if n:
            hits = voc_hits(predictions, targets, label, threshold)
            expected[label] = exact_ap(hits, n, method)
    result = ours.mean_average_precision(
        [detections(rows) for rows in predictions],
        [objects(rows) for rows in targets],
        iou_threshold=threshold,
        method=method,
    )
    assert list(result.per_class) == sorted(expected)
    assert result.per_class == pytest.approx(
        {k: float(v) for k, v in expected.items()}, rel=1e-12
    )
    if expected:
        mean = float(sum(expected.values()) / len(expected))
        assert result.mean == pytest.approx(mean, rel=1e-12)
    else:
        assert math.isnan(result.mean)


@pytest.fixture
def coco_eval():
    """Evaluate with COCO's own code, or skip where it is missing."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the oracle is missing: {error}")

    def wide(box):
        x1, y1, x2, y2 = box
        return {"bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1)}  # fmt: skip

    def evaluate(predictions, targets, classes):
        """Return precisions: (thresholds, points, classes); -1 for none."""
        truth, results = COCO(), []
        truth.dataset = {
            "images": [{"id": i} for i in range(len(targets))],
            "categories": [{"id": label} for label in range(classes)],
            "annotations": [],
        }
        notes = truth.dataset["annotations"]
        for image, rows in enumerate(targets):
            for box, label in rows:
                note = {"id": len(notes) + 1, "iscrowd": 0, **wide(box)}
                notes.append(note | {"image_id": image, "category_id": label})
        for image, rows in enumerate(predictions):
            for box, score, label in rows:
                results.append(
                    {"score": score, "image_id": image, "category_id": label}
                    | wide(box)
                )
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.eval["precision"][..., 0, -1], evaluation.stats

    return evaluate


def equals_coco(coco_eval, predictions, targets, classes):
    precisions, stats = coco_eval(predictions, targets, classes)
    tensors = (
        [detections(rows) for rows in predictions],
        [objects(rows) for rows in targets],
    )
    result = ours.coco_map(*tensors)
    half = ours.mean_average_precision(
        *tensors, iou_threshold=0.5, method="coco"
    )
    three_quarters = ours.mean_average_precision(
        *tensors, iou_threshold=0.75, method="coco"
    )
    present = [label for label in range(classes)
               if (precisions[:, :, label] > -1).all()]  # fmt: skip
    assert list(result.per_class) == list(half.per_class) == present
    for label in present:
        theirs = precisions[:, :, label]
        assert result.per_class[label] == pytest.approx(theirs.mean())
        assert half.per_class[label] == pytest.approx(theirs[0].mean())
    if present:
        means = [result.mean, half.mean, three_quarters.mean]
        assert means == pytest.approx(stats[:3].tolist())
    else:
        assert stats[0] == -1
        assert math.isnan(result.mean)
    return result


@pytest.mark.parametrize("seed", range(30))
def test_coco_values_equal_cocos_own_code(coco_eval, seed):
    predictions, targets = random_images(seed, images=6, most=8, classes=3)
    result = equals_coco(coco_eval, predictions, targets, 4)
    assert 0 < result.mean < 1


@pytest.mark.parametrize("n", [1, 7, 10, 20, 25, 100])
def test_coco_values_equal_also_where_its_recall_points_are_rounded(
    coco_eval, n
):
    box = [0, 0, 10, 10]
    targets = [[(box, 0)]] * n
    for found in {1, n // 2, 7 * n // 10, n - 1, n} - {0}:
        predictions = [[(box, 1 - i / 200, 0)] * (i < found) for i in range(n)]
        equals_coco(coco_eval, predictions, targets, 1)


def test_coco_values_equal_with_more_than_100_detections(coco_eval):
    predictions, targets = random_images(5, images=2, most=400, classes=2)
    assert all(len(rows) > 250 for rows in predictions)
    equals_coco(coco_eval, predictions, targets, 2)


def test_coco_values_equal_where_the_overlap_is_a_threshold(coco_eval):
    for twentieths in range(9, 21):
        predictions = [[([0, 0, 20, twentieths], 0.5, 0)]]
        targets = [[([0, 0, 20, 20], 0)]]
        result = equals_coco(coco_eval, predictions, targets, 1)
        expected = max(0, min(10, twentieths - 9)) / 10
        assert result.mean == pytest.approx(expected)


def test_coco_finds_the_whole_box_at_threshold_1():
    box = [0.1, 0.2, 0.7, 0.9]
    found, there = [detections([(box, 0.5, 0)])], [objects([(box, 0)])]
    for method, expected in (("coco", 1), ("area", 0)):
        result = ours.mean_average_precision(
            found, there, iou_threshold=1, method=method
        )
        assert result.mean == pytest.approx(expected)
    # COCO takes as whole what lacks less than 1e-10.
    there = objects([([0, 0, 1e6, 1e6], 0)])
    for lacks, hit in ((1e-5, 0), (1e-3, -1)):
        near = detections([([0, 0, 1e6, 1e6 - lacks], 0.5, 0)])
        result = ours.match(near, there, iou_threshold=1, rule="coco")
        assert result.tolist() == [hit]


def test_classes_without_objects_are_left_out():
    box = [0, 0, 10, 10]
    found = [detections([(box, 0.9, 5), (box, 0.8, 1)]), detections([])]
    there = [objects([(box, 1)]), objects([(box, 3)])]
    for method in ("area", "voc2007", "coco"):
        result = ours.mean_average_precision(found, there, method=method)
        assert result.per_class == pytest.approx({1: 1, 3: 0})
        assert result.mean == pytest.approx(0.5)


def test_without_any_object_the_mean_is_nan():
    found = [detections([([0, 0, 9, 9], 0.9, 5)])]
    for arguments in ((found, [objects([])]), ([], [])):
        for result in (
            ours.mean_average_precision(*arguments),
            ours.coco_map(*arguments),
        ):
            assert math.isnan(result.mean)
            assert result.per_class == {}


def test_images_without_objects_count_their_detections_as_false():
    box = [0, 0, 10, 10]
    found = [detections([(box, 0.9, 1)]), detections([(box, 0.5, 1)])]
    there = [objects([]), objects([(box, 1)])]
    assert ours.mean_average_precision(found, there).mean == 0.5
    assert ours.coco_map(found, there).mean == pytest.approx(0.5)


@pytest.mark.parametrize("box", DEGENERATE)
def test_coco_map_with_a_degenerate_box_is_as_without_a_match(box):
    good = [0, 0, 9, 9]
    found = [detections([(good, 0.9, 1), (box, 0.8, 1)])]
    there = [objects([(good, 1), (box, 1)])]
    assert ours.coco_map(found, there).mean == pytest.approx(51 / 101)


def test_any_numbers_will_do():
    found = Detections(
        torch.tensor([[0, 0, 600, 600]], dtype=torch.int16),
        torch.tensor([1]),
        torch.tensor([300]),
    )
    there = Objects(
        torch.tensor([[0, 0, 600, 600]]).half(),
        torch.tensor([300], dtype=torch.int32),
    )
    assert ours.mean_average_precision([found], [there]).mean == 1
    # 300 is 44 in a byte: that is another class.
    other = there._replace(labels=torch.tensor([44], dtype=torch.uint8))
    assert ours.match(found, other).tolist() == [-1]
    # Plain tuples do as well.
    assert ours.coco_map([tuple(found)], [tuple(there)]).mean == pytest.approx(
        1
    )


# errors

BOX = [0, 0, 9, 9]
FOUND, THERE = detections([(BOX, 0.9, 1)]), objects([(BOX, 1)])
FIELDS = [
    ("boxes", torch.ones(4), ValueError,
     "boxes` has shape (4,); with 1 labels it must have (1, 4)"),
    ("boxes", torch.ones(2, 4), ValueError,
     "boxes` has shape (2, 4); with 1 labels it must have (1, 4)"),
    ("boxes", [BOX], TypeError, "boxes` is a list, no tensor"),
    ("labels", torch.ones(1, 1).int(), ValueError,
     "labels` has shape (1, 1); with 1 labels it must have (1,)"),
    ("labels", torch.ones(1), TypeError,
     "labels` holds torch.float32; it must hold integers"),
    ("labels", torch.ones(1) > 0, TypeError,
     "labels` holds torch.bool; it must hold integers"),
    ("scores", torch.ones(2), ValueError,
     "scores` has shape (2,); with 1 labels it must have (1,)"),
    ("scores", torch.tensor([NAN]), ValueError,
     "scores` holds NaN, which has no rank"),
    ("scores", [0.5], TypeError, "scores` is a list, no tensor"),
    ("labels", 1, TypeError, "labels` is a int, no tensor"),
    ("labels", torch.tensor(1), ValueError,
     "labels` has shape (); with 1 labels it must have (1,)"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "error", "message"), FIELDS)
def test_a_bad_field_is_named_with_its_image(field, value, error, message):
    bad = FOUND._replace(**{field: value})
    for text, call in (
        (f"`predictions[1].{message}",
         lambda: ours.coco_map([FOUND, bad], [THERE] * 2)),
        (f"`predictions[0].{message}",
         lambda: ours.mean_average_precision([bad], [THERE])),
        (f"`detections.{message}", lambda: ours.match(bad, THERE)),
    ):  # fmt: skip
        with pytest.raises(error, match=re.escape(text)):
            call()
    if field == "scores":
        return
    bad = THERE._replace(**{field: value})
    for text, call in (
        (f"`targets[1].{message}",
         lambda: ours.coco_map([FOUND] * 2, [THERE, bad])),
        (f"`objects.{message}", lambda: ours.match(FOUND, bad)),
    ):  # fmt: skip
        with pytest.raises(error, match=re.escape(text)):
            call()


ONES = torch.ones(2)
ERRORS = [
    (ours.match, (FOUND, THERE), {"rule": "area"},
     "`rule='area'` must be 'voc' or 'coco'"),
    (ours.match, (FOUND, THERE), {"iou_threshold": 0},
     "`iou_threshold=0` must be above 0 and at most 1"),
    (ours.match, (FOUND, THERE), {"iou_threshold": 1.01},
     "`iou_threshold=1.01` must be above 0 and at most 1"),
    (ours.match, (THERE, THERE), {},
     "`detections` must be (boxes, scores, labels)"),
    (ours.match, (FOUND, FOUND), {}, "`objects` must be (boxes, labels)"),
    (ours.mean_average_precision, ([FOUND], []), {},
     "`predictions` has 1 images, `targets` 0; they must be the same"),
    (ours.mean_average_precision, ([FOUND], [THERE]), {"method": "voc"},
     "`method='voc'` must be one of voc2007, area, coco"),
    (ours.mean_average_precision, ([FOUND], [THERE]), {"iou_threshold": -1},
     "`iou_threshold=-1` must be above 0 and at most 1"),
    (ours.coco_map, ([], [THERE]), {}, "`predictions` has 0 images"),
    (ours.precision_recall, (ONES, ONES[:1], 3), {},
     "`scores` has shape (2,), `hits` (1,); both must be (k,)"),
    (ours.precision_recall, (ONES[None], ONES[None], 3), {},
     "`scores` has shape (1, 2), `hits` (1, 2); both must be (k,)"),
    (ours.precision_recall, (ONES, ONES > 0, 1), {},
     "`objects=1` must be at least 1 and the 2 hits"),
    (ours.precision_recall, (ONES, ONES < 0, 0), {},
     "`objects=0` must be at least 1 and the 0 hits"),
    (ours.precision_recall, (ONES * NAN, ONES > 0, 3), {},
     "`scores` holds NaN, which has no rank"),
    (ours.average_precision, (ONES, ONES[:1]), {},
     "`precision` has shape (2,), `recall` (1,); both must be (k,)"),
    (ours.average_precision, (ONES[None], ONES[None]), {},
     "`precision` has shape (1, 2), `recall` (1, 2); both must be (k,)"),
    (ours.average_precision, (ONES, 2 * ONES), {},
     "`recall` has values outside 0 to 1"),
    (ours.average_precision, (NAN * ONES, ONES), {},
     "`precision` has values outside 0 to 1"),
    (ours.average_precision, (ONES, torch.tensor([1.0, 0.5])), {},
     "`recall` falls; it must be in the order of scores"),
    (ours.average_precision, (ONES, ONES), {"method": "eleven"},
     "`method='eleven'` must be one of voc2007, area, coco"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "given", "options", "message"), ERRORS)
def test_bad_input_is_named(function, given, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(*given, **options)


def test_what_is_no_tensor_is_named():
    with pytest.raises(TypeError, match="`hits` is a list, no tensor"):
        ours.precision_recall(ONES, [1, 1], 3)
    with pytest.raises(TypeError, match="`recall` is a float, no tensor"):
        ours.average_precision(ONES, 0.5)
