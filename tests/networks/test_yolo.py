import math
import struct
from functools import partial

import darknet_cfg as cfg
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from snippets.networks.darknet import load_weights
from snippets.networks.yolo import (
    COCO_CELLS,
    COCO_PIXELS,
    VOC_CELLS,
    Loss,
    YOLOv2,
    YOLOv3,
    darknet_reorg,
    decode_boxes,
    split,
    yolov2,
    yolov3,
)

BUILDS = {"yolov2": yolov2, "yolov3": yolov3}
models = pytest.mark.parametrize("name", BUILDS)


def on_meta(build, **options):
    with torch.device("meta"):
        return build(**options).eval()


def outputs_like(
    model: YOLOv2 | YOLOv3, n: int, h: int, w: int, scale: float = 1.0
) -> list[Tensor]:
    """Draw what the network might put out for n images of h × w."""
    return [
        (scale * torch.randn(n, model.num_outputs, h // s, w // s))
        .double()
        .requires_grad_()
        for s in model.strides
    ]


@pytest.mark.parametrize(
    ("build", "parameters", "outputs"),
    [
        (yolov2, 50_655_389, [(1, 125, 13, 13)]),
        (
            yolov3,
            61_949_149,
            [(1, 255, 13, 13), (1, 255, 26, 26), (1, 255, 52, 52)],
        ),
    ],
)
def test_parameters_and_outputs(build, parameters, outputs):
    model = on_meta(build)
    ys = model(torch.empty(1, 3, 416, 416, device="meta"))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert [tuple(y.shape) for y in ys] == outputs


# "FLOPS" in the tables of the author's pages, pjreddie.com/darknet/yolo and
# yolov2. Those for VOC come out only without the passthrough's convolution.
@pytest.mark.parametrize(
    ("build", "size", "billions"),
    [
        (partial(yolov2, passthrough=None), 416, 34.90),
        (partial(yolov2, passthrough=None), 544, 59.68),
        (partial(yolov2, num_classes=80, priors=COCO_CELLS), 608, 62.94),
        (yolov3, 320, 38.97),
        (yolov3, 416, 65.86),
        (yolov3, 608, 140.69),
    ],
)
def test_operations_are_as_published(build, size, billions):
    model = on_meta(build)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    assert round(counter.get_total_flops() / 1e9, 2) == billions


def test_without_its_convolution_passthrough_brings_2048_maps():
    seen = []
    model = on_meta(yolov2, passthrough=None)
    model.head.register_forward_hook(lambda _, args, y: seen.append(args[0]))
    model(torch.empty(1, 3, 416, 416, device="meta"))
    assert seen[0].shape == (1, 2048 + 1024, 13, 13)


# Sizes in bytes of the authors' yolov2.weights and yolov3.weights, for COCO;
# the first has the shorter header of version 0.1.
@pytest.mark.parametrize(
    ("build", "size", "header"),
    [
        (partial(yolov2, num_classes=80), 203_934_260, 16),
        (yolov3, 248_007_048, 20),
    ],
)
def test_published_files_have_the_size_that_the_network_takes(
    build, size, header
):
    state = on_meta(build).state_dict()
    numbers = sum(
        t.numel() for n, t in state.items() if not n.endswith("tracked")
    )
    assert header + 4 * numbers == size


@pytest.mark.parametrize(
    ("build", "layers"), [(yolov2, cfg.YOLOV2_VOC), (yolov3, cfg.YOLOV3)]
)
def test_network_computes_what_the_layers_of_its_cfg_do(
    build, layers, tmp_path
):
    numbers, path = cfg.write(layers), tmp_path / "all.weights"
    header = struct.pack("<iiiq", 0, 2, 0, 0)
    path.write_bytes(header + numbers.numpy().tobytes())
    model = build().eval()
    load_weights(model, path)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, _, read = cfg.run(layers, numbers, x)
        ys = model(x)
    assert read == len(numbers)
    assert len(ys) == len(expected)
    for y, e in zip(ys, expected, strict=True):
        scale = e.abs().max()
        torch.testing.assert_close(y, e, rtol=0, atol=1e-4 * scale)


def test_reorg_follows_darknets_index_arithmetic():
    for c, h, w, s in ((64, 4, 6, 2), (18, 3, 9, 3)):
        x = torch.randn(2, c, h, w)
        assert torch.equal(darknet_reorg(x, s), cfg.reorg(x, s))


def test_output_is_split_into_priors_and_their_numbers():
    y = torch.arange(2 * 14 * 3 * 4.0).view(2, 14, 3, 4)  # 2 priors, 2 classes
    t = split(y, 2)
    assert t.shape == (2, 2, 3, 4, 7)
    for k in range(2):
        for entry in range(7):
            assert torch.equal(t[:, k, ..., entry], y[:, 7 * k + entry])


def test_boxes_are_decoded_as_the_paper_says():
    t = torch.randn(2, 3, 2, 5, 7).double()
    priors = torch.tensor([[10, 20], [30, 5], [7, 7]]).double()
    boxes = decode_boxes(t, priors, 16)
    assert boxes.shape == (2, 3, 2, 5, 4)
    for n, k, row, col in torch.ones(2, 3, 2, 5).nonzero().tolist():
        tx, ty, tw, th = t[n, k, row, col, :4].tolist()
        x = 16 * (col + 1 / (1 + math.exp(-tx)))
        y = 16 * (row + 1 / (1 + math.exp(-ty)))
        w = priors[k, 0].item() * math.exp(tw)
        h = priors[k, 1].item() * math.exp(th)
        expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        assert boxes[n, k, row, col].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("model", "priors"),
    [
        (on_meta(yolov2), [[[32 * w, 32 * h] for w, h in VOC_CELLS]]),
        (
            on_meta(yolov2, num_classes=80, priors=COCO_CELLS),
            [[[32 * w, 32 * h] for w, h in COCO_CELLS]],
        ),
        (on_meta(yolov3), COCO_PIXELS),
    ],
    ids=["yolov2", "yolov2_coco", "yolov3"],
)
def test_predictions_stand_scale_by_scale_prior_by_prior(model, priors):
    """All outputs 0: each box has its prior's size, in the cell's middle."""
    ys = [
        torch.zeros(1, model.num_outputs, 64 // s, 96 // s)
        for s in model.strides
    ]
    boxes, objectness, classes = model.decode(ys)
    expected = [
        [
            s * (col + 0.5) - w / 2,
            s * (row + 0.5) - h / 2,
            s * (col + 0.5) + w / 2,
            s * (row + 0.5) + h / 2,
        ]
        for s, of_scale in zip(model.strides, priors, strict=True)
        for w, h in of_scale
        for row in range(64 // s)
        for col in range(96 // s)
    ]
    torch.testing.assert_close(boxes, torch.tensor([expected]))
    assert torch.equal(objectness, torch.full(boxes.shape[:2], 0.5))
    classes_of = 80 if model.num_outputs % 85 == 0 else 20
    each = 0.5 if isinstance(model, YOLOv3) else 1 / classes_of
    assert classes.shape == (*boxes.shape[:2], classes_of)
    torch.testing.assert_close(classes, torch.full_like(classes, each))


@pytest.mark.parametrize(
    ("priors", "line"),
    [
        (
            VOC_CELLS,
            "1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, "
            "9.47112, 4.84053, 11.2364, 10.0071",
        ),
        (
            COCO_CELLS,
            "0.57273, 0.677385, 1.87446, 2.06253, 3.33843, 5.47434, "
            "7.88282, 3.52778, 9.77052, 9.16828",
        ),
        (
            # The finest grid has the first three.
            [p for of_scale in reversed(COCO_PIXELS) for p in of_scale],
            "10,13,  16,30,  33,23,  30,61,  62,45,  59,119,  116,90,  "
            "156,198,  373,326",
        ),
    ],
)
def test_priors_are_those_of_the_authors_configurations(priors, line):
    numbers = iter(map(float, line.split(",")))
    assert list(priors) == list(zip(numbers, numbers, strict=True))


def test_classes_of_yolov2_exclude_each_other_and_those_of_yolov3_do_not():
    logits = torch.tensor([[5.0, 5.0, -5.0]])
    assert on_meta(yolov2).probabilities(logits)[0, 0] == pytest.approx(
        0.5, abs=1e-4
    )
    both = on_meta(yolov3).probabilities(logits)[0]
    expected = [1 / (1 + math.exp(-5))] * 2 + [1 / (1 + math.exp(5))]
    assert both.tolist() == pytest.approx(expected)


@models
def test_decoding_keeps_pixels_apart_in_half_precision(name):
    model = on_meta(BUILDS[name])
    ys = [y.detach().bfloat16() for y in outputs_like(model, 1, 416, 416)]
    expected = model.decode([y.float() for y in ys])
    for found, e in zip(model.decode(ys), expected, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, e)


def test_what_scores_above_the_threshold_is_listed_for_each_image():
    model = on_meta(yolov3, num_classes=2)
    ys = [
        torch.full((2, model.num_outputs, 64 // s, 64 // s), -9.0)
        for s in model.strides
    ]
    # Second image, medium scale, last prior, third row, first column.
    ys[1][1, 14:21, 2, 0] = torch.tensor([0, 0, 0, 0, 3.0, 3.0, 2.0])
    none, some = model.decode(ys).above(0.5)
    assert [len(part) for part in none] == [0, 0, 0]
    boxes, scores, labels = some
    w, h = COCO_PIXELS[1][2]
    expected = [8 - w / 2, 40 - h / 2, 8 + w / 2, 40 + h / 2]
    assert boxes.tolist() == [pytest.approx(expected)] * 2
    p = [torch.sigmoid(torch.tensor(v)).item() for v in (3.0, 2.0)]
    assert scores.tolist() == pytest.approx([p[0] * p[0], p[0] * p[1]])
    assert labels.tolist() == [0, 1]
    assert len(model.decode(ys).above(p[0] * p[1])[1][0]) == 1


# --- losses ----------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of boxes given by centre and size."""
    sides = []
    for i in (0, 1):
        low = max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        high = min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        sides.append(high - low)
    if min(sides) <= 0:
        return 0.0
    common = sides[0] * sides[1]
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def centred(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def deltas(model, outputs, targets, ignore, by_size):
    """Compute Darknet's deltas: what it takes each output to lack.

    A loop over predictions, then a loop over objects that overwrites, as in
    its `region` and `yolo` layers; coordinates in shares of the image there,
    in pixels here.
    """
    v2 = isinstance(model, YOLOv2)
    priors = [tuple(p) for of_scale in model.priors for p in of_scale]
    k, entries = model.num_priors, model.num_outputs // model.num_priors
    found = [torch.zeros_like(y) for y in outputs]
    for i, (boxes, labels) in enumerate(targets):
        objects = [
            (centred(box), label)
            for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
        ]

        def predicted(scale, anchor, row, col, i=i):
            s = model.strides[scale]
            first = entries * anchor
            t = outputs[scale][i, first : first + 4, row, col].tolist()
            w, h = priors[scale * k + anchor]
            return [
                (col + sigmoid(t[0])) * s,
                (row + sigmoid(t[1])) * s,
                w * math.exp(t[2]),
                h * math.exp(t[3]),
            ]

        for scale, y in enumerate(outputs):
            for anchor in range(k):
                for row in range(y.shape[2]):
                    for col in range(y.shape[3]):
                        box = predicted(scale, anchor, row, col)
                        best = max(
                            (overlap(box, o) for o, _ in objects), default=0.0
                        )
                        if best <= ignore:
                            p = sigmoid(
                                y[i, entries * anchor + 4, row, col].item()
                            )
                            slope = p * (1 - p) if v2 else 1
                            found[scale][i, entries * anchor + 4, row, col] = (
                                -p * slope
                            )
        for o, label in objects:
            shapes = [
                overlap([0, 0, o[2], o[3]], [0, 0, *prior]) for prior in priors
            ]
            best = shapes.index(max(shapes))
            scale, anchor = divmod(best, k)
            y, s, delta = outputs[scale], model.strides[scale], found[scale]
            col, row = int(o[0] / s), int(o[1] / s)
            e = entries * anchor
            t = y[i, e : e + entries, row, col].tolist()
            area = o[2] * o[3] / (y.shape[2] * y.shape[3] * s * s)
            weight = 2 - area if by_size else 1
            for axis, cell in ((0, col), (1, row)):
                p = sigmoid(t[axis])
                slope = p * (1 - p) if v2 else 1
                lack = o[axis] / s - cell - p
                delta[i, e + axis, row, col] = weight * lack * slope
            for axis in (2, 3):
                aim = math.log(o[axis] / priors[best][axis - 2])
                delta[i, e + axis, row, col] = weight * (aim - t[axis])
            p = sigmoid(t[4])
            if v2:
                iou = overlap(predicted(scale, anchor, row, col), o)
                delta[i, e + 4, row, col] = 5 * (iou - p) * p * (1 - p)
                total = sum(math.exp(v) for v in t[5:])
                for c, v in enumerate(t[5:]):
                    aim = float(c == label)
                    delta[i, e + 5 + c, row, col] = aim - math.exp(v) / total
            else:
                delta[i, e + 4, row, col] = 1 - p
                again = delta[i, e + 5, row, col] != 0
                for c, v in enumerate(t[5:]):
                    if c == label or not again:
                        aim = float(c == label)
                        delta[i, e + 5 + c, row, col] = aim - sigmoid(v)
    return found


def objects(n: int, h: int, w: int, counts: list[int], classes: int):
    """Draw objects of all sizes; some share a cell, one has no company."""
    targets = []
    for m in counts[:n]:
        size = torch.exp(torch.rand(m, 2) * 2.5 + 2.0).double()
        centre = torch.rand(m, 2).double() * torch.tensor([w, h]).double()
        labels = torch.randint(classes, (m,))
        targets.append(
            (torch.cat([centre - size / 2, centre + size / 2], 1), labels)
        )
    return targets


@pytest.mark.parametrize("by_size", [False, True])
@models
def test_gradient_of_the_loss_is_what_darknet_calls_delta(name, by_size):
    model = on_meta(BUILDS[name], num_classes=3)
    targets = objects(3, 64, 96, [6, 0, 11], 3)
    ys = outputs_like(model, 3, 64, 96)
    # One prediction, responsible for nothing, covers an object.
    hit = (targets[0][0][0, :2] + targets[0][0][0, 2:]) / 2 / model.strides[-1]
    with torch.no_grad():
        x, y = hit.long().tolist()
        size = targets[0][0][0, 2:] - targets[0][0][0, :2]
        for k, prior in enumerate(model.priors[-1]):
            e = k * model.num_outputs // model.num_priors
            offset = torch.logit(hit % 1)
            ratio = (size / size.new_tensor(prior)).log()
            ys[-1][0, e : e + 4, y, x] = torch.cat([offset, ratio])
    model.loss(ys, targets, by_size=by_size).total.backward()
    ignore = 0.6 if name == "yolov2" else 0.5
    expected = deltas(model, [y.detach() for y in ys], targets, ignore, by_size)
    none = deltas(model, [y.detach() for y in ys], targets, 1.0, by_size)
    assert any(
        not torch.equal(a, b) for a, b in zip(expected, none, strict=True)
    )
    for y, delta in zip(ys, expected, strict=True):
        torch.testing.assert_close(-3 * y.grad, delta)


def test_loss_of_yolov2_is_the_sum_worked_out_by_hand():
    model = on_meta(yolov2, num_classes=2, priors=[(1, 1), (3, 2)])
    y = torch.zeros(1, 14, 1, 2)  # two cells, two priors each
    # Centre at a quarter of the second cell, size 64 × 64: of the second
    # prior, 96 × 64, whose IoU in shape is 2/3 against 1/4.
    box, label = torch.tensor([[8.0, -16.0, 72.0, 48.0]]), torch.tensor([1])
    loss = model.loss([y], [(box, label)])
    xy = (0.5 - 0.25) ** 2 + (0.5 - 0.5) ** 2
    wh = math.log(64 / 96) ** 2
    assert loss.boxes.item() == pytest.approx((xy + wh) / 2)
    # The predicted box is 96 × 64 around (48, 16), the object's centre (40, 16).
    iou = 64 / 96  # it lies within: 0 to 96 holds 8 to 72
    # Its neighbour, 96 × 64 around (16, 16), spans −32 to 64: 56 in common.
    other = 56 / (64 + 96 - 56)
    assert other < 0.6
    expected = (5 * (iou - 0.5) ** 2 + 3 * 0.5**2) / 2
    assert loss.objectness.item() == pytest.approx(expected)
    assert loss.classes.item() == pytest.approx(math.log(2))
    assert loss.total.item() == pytest.approx(sum(x.item() for x in loss))
    lenient = model.loss([y], [(box, label)], ignore=0.5)
    expected -= 0.5**2 / 2
    assert lenient.objectness.item() == pytest.approx(expected)


def test_loss_of_yolov3_is_the_sum_worked_out_by_hand():
    model = on_meta(yolov3, num_classes=2)
    ys = [torch.zeros(1, 21, 32 // s, 32 // s) for s in (32, 16, 8)]
    # Of the prior 33 × 23 and the finest grid, in its second row and column.
    box = torch.tensor([[12 - 33 / 2, 10 - 23 / 2, 12 + 33 / 2, 10 + 23 / 2]])
    loss = model.loss(ys, [(box, torch.tensor([0]))], ignore=1.0)
    # σ = 1/2 lacks nothing of x, and of y a quarter.
    xy = 2 * math.log(2)
    assert loss.boxes.item() == pytest.approx(xy)
    predictions = 3 * (1 + 4 + 16)
    assert loss.objectness.item() == pytest.approx(predictions * math.log(2))
    assert loss.classes.item() == pytest.approx(2 * math.log(2))


@models
def test_of_two_objects_that_meet_the_later_is_predicted(name):
    model = on_meta(BUILDS[name], num_classes=3)
    boxes = torch.tensor([[10.0, 10, 40, 40], [11.0, 12, 41, 38]])
    ys = outputs_like(model, 1, 64, 64)
    targets = [(boxes, torch.tensor([2, 0]))]
    model.loss(ys, targets).total.backward()
    expected = deltas(model, [y.detach() for y in ys], targets, model.ignore, 0)
    for y, delta in zip(ys, expected, strict=True):
        torch.testing.assert_close(-y.grad, delta)
    later = [(boxes[1:], torch.tensor([0]))]
    both, one = model.loss(ys, targets), model.loss(ys, later)
    assert both.boxes == one.boxes
    # YOLOv3 may say yes to both classes.
    assert (both.classes == one.classes) == (name == "yolov2")


@pytest.mark.parametrize("t_h", [-200.0, 0.0, 200.0])
@models
def test_a_box_of_infinite_width_overlaps_nothing_whatever_its_height(
    name, t_h
):
    model = on_meta(BUILDS[name], num_classes=3)
    ys = [y.detach().float() for y in outputs_like(model, 1, 64, 64)]
    for y in ys:
        t = y.view(model.num_priors, -1, *y.shape[2:])
        t[:, 2], t[:, 3] = 200.0, t_h
        y.requires_grad_()
    targets = [(torch.tensor([[10.0, 10, 40, 40]]), torch.tensor([2]))]
    loss = model.loss(ys, targets)
    assert loss.total.isfinite()
    # No overlap excuses a prediction, none is aimed at by the responsible.
    p = torch.cat([split(y, model.num_priors)[..., 4].flatten() for y in ys])
    p = p.detach().sigmoid()
    loss.objectness.backward()
    slopes = [split(y.grad, model.num_priors)[..., 4].flatten() for y in ys]
    slope = torch.cat(slopes)
    if name == "yolov2":
        one, five = p * p * (1 - p), 5 * p * p * (1 - p)
    else:
        one, five = p, p - 1
    mine = (slope - five).abs() < 1e-6
    assert mine.sum() == 1
    torch.testing.assert_close(slope, torch.where(mine, five, one))


@models
def test_loss_is_a_mean_over_images(name):
    model = on_meta(BUILDS[name], num_classes=4)
    targets = objects(2, 64, 64, [3, 5], 4)
    ys = [y.detach() for y in outputs_like(model, 2, 64, 64)]
    both = model.loss(ys, targets)
    each = [
        model.loss([y[i : i + 1] for y in ys], targets[i : i + 1])
        for i in range(2)
    ]
    for term, one, two in zip(both, *each, strict=True):
        torch.testing.assert_close(term, (one + two) / 2)


@models
def test_without_objects_only_objectness_is_at_fault(name):
    model = on_meta(BUILDS[name])
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    ys = outputs_like(model, 2, 32, 32)
    loss = model.loss(ys, [none, none])
    assert isinstance(loss, Loss)
    assert loss.boxes == 0
    assert loss.classes == 0
    assert loss.objectness > 0
    loss.total.backward()
    for y in ys:
        grad = split(y.grad, model.num_priors)
        assert (grad[..., 4] > 0).all()
        assert not grad[..., :4].any()
        assert not grad[..., 5:].any()


@models
def test_descending_the_loss_finds_the_objects(name):
    """The outputs themselves are fitted, without a network."""
    model = on_meta(BUILDS[name], num_classes=3)
    boxes = torch.tensor(
        [[4.0, 6, 52, 80], [70, 10, 120, 40], [60, 66, 74, 90]]
    )
    labels = torch.tensor([2, 0, 1])
    ys = [y.detach().requires_grad_() for y in outputs_like(model, 1, 128, 128)]
    optimizer = torch.optim.Adam(ys, lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(ys, [(boxes, labels)]).total.backward()
        optimizer.step()
    with torch.no_grad():
        found, scores, classes = model.decode(ys).above(0.5)[0]
    ious = torch.tensor(
        [
            [overlap(centred(a), centred(b)) for b in boxes.tolist()]
            for a in found.tolist()
        ]
    )
    for i, label in enumerate(labels):
        best = ious[:, i].argmax()
        assert ious[best, i] > 0.99
        assert classes[best] == label
        assert scores[best] > 0.9
    # Some may stay that cover an object: the loss leaves them alone.
    assert (ious.amax(1) > 0.5).all()


# --- errors ----------------------------------------------------------------


@models
def test_image_that_is_no_multiple_of_32_is_refused(name):
    model = on_meta(BUILDS[name])
    for shape in ((1, 3, 416, 400), (1, 4, 32, 32), (3, 32, 32), (1, 3, 0, 32)):
        with pytest.raises(ValueError, match=r"\(n, 3, h, w\).*32, got") as e:
            model(torch.empty(shape, device="meta"))
        assert str(shape) in str(e.value)


@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
@models
def test_an_option_below_one_is_named(name, option):
    with pytest.raises(ValueError, match=f"{option}=0"):
        on_meta(BUILDS[name], **{option: 0})


def test_priors_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"3 lists of one length, got .*\[1\]"):
        on_meta(yolov3, priors=[[(1, 1)]])
    with pytest.raises(ValueError, match=r"got lengths \[1, 2, 1\]"):
        on_meta(yolov3, priors=[[(1, 1)], [(1, 1), (2, 2)], [(1, 1)]])
    with pytest.raises(ValueError, match=r"got lengths \[0\]"):
        on_meta(yolov2, priors=[])
    with pytest.raises(ValueError, match="positive numbers"):
        on_meta(yolov2, priors=[(1, 0)])
    with pytest.raises(ValueError, match="passthrough=0"):
        on_meta(yolov2, passthrough=0)


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[8, 8, 8, 9]], [0], r"targets\[1\] has the box \[8.*x1 < x2"),
        ([[1, 1, 4, 4], [5, 9, 6, 8]], [0, 0], r"the box \[5.*y1 < y2"),
        ([[60, 0, 70, 9]], [0], r"centre in the image, 64 wide and 32 high"),
        ([[0, 31, 9, 33]], [0], r"centre in the image"),
        ([[-9, 0, 8, 9]], [0], r"centre in the image"),
        ([[0, 0, float("nan"), 9]], [0], r"the box \[0.*nan"),
        ([[0, 0, float("inf"), 9]], [0], r"the box \[0.*inf"),
        ([[0, float("nan"), 8, 9]], [0], r"the box \[0.*nan"),
        ([[float("-inf"), 0, 8, 9]], [0], r"the box \[-inf"),
        ([[0, 0, 9, 9]], [5], r"targets\[1\] has the label 5.*0 to 4"),
        ([[0, 0, 9, 9]], [-1], r"label -1"),
        ([[0, 0, 9, 9]], [0, 1], r"boxes \(1, 4\) and labels \(2,\)"),
        ([0, 0, 9, 9], [0], r"boxes \(4,\)"),
    ],
)
@models
def test_object_that_cannot_be_is_named(name, boxes, labels, message):
    model = on_meta(BUILDS[name], num_classes=5)
    fine = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0])
    bad = torch.tensor(boxes, dtype=torch.float), torch.tensor(labels)
    with pytest.raises(ValueError, match=message):
        model.loss(outputs_like(model, 2, 32, 64), [fine, bad])


@pytest.mark.parametrize("labels", [[1.7], [float("nan")], [], [True]])
@models
def test_labels_that_are_no_integers_are_refused(name, labels):
    model = on_meta(BUILDS[name], num_classes=5)
    fine = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0])
    bad = fine[0][: len(labels)], torch.tensor(labels)
    message = rf"targets\[1\] has labels of {bad[1].dtype}.*must be integers"
    with pytest.raises(TypeError, match=message):
        model.loss(outputs_like(model, 2, 32, 64), [fine, bad])


@models
def test_targets_for_other_images_are_refused(name):
    model = on_meta(BUILDS[name])
    with pytest.raises(ValueError, match="0 `targets` for 2 images"):
        model.loss(outputs_like(model, 2, 32, 32), [])


@models
def test_gradient_reaches_every_parameter(name):
    model = BUILDS[name](num_classes=2)
    targets = [(torch.tensor([[4.0, 4, 40, 50]]), torch.tensor([1]))] * 2
    model.loss(model(torch.randn(2, 3, 64, 64)), targets).total.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        assert p.grad.any(), parameter


@models
def test_compiles_and_exports(name):
    torch.compiler.reset()
    model, x = BUILDS[name](num_classes=2).eval(), torch.randn(2, 3, 32, 64)
    with torch.inference_mode():
        expected = model(x)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        batch = {0: torch.export.Dim("n")}
        program = torch.export.export(model, (x,), dynamic_shapes=(batch,))
        for ys in (compiled(x), program.module()(x)):
            for y, e in zip(ys, expected, strict=True):
                torch.testing.assert_close(y, e, rtol=0, atol=1e-4)
