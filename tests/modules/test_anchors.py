import math
import re
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snippets.modules import anchors as ours

STABLE = settings(
    derandomize=True, deadline=None, database=None, max_examples=100
)
INF, NAN = math.inf, math.nan


def random_boxes(n, seed=0, *, side=100, grid=None):
    """Draw boxes; on a grid, equal ones and equal IoUs come up often."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g, dtype=torch.float64) * side
    size = (0.05 + torch.rand(n, 2, generator=g, dtype=torch.float64)) * side
    if grid:
        corner, size = (corner / grid).floor(), (size / grid).ceil()
        corner, size = corner * grid, size * grid
    return torch.cat([corner, corner + size], 1)


def exact_iou(a, b):
    """Compute the IoU of two boxes in fractions."""
    a, b = ([Fraction(v) for v in box] for box in (a, b))
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return w * h / (sum(areas) - w * h)


# box_iou

integers = st.integers(-20, 20)
corners = st.tuples(
    integers, integers, st.integers(1, 30), st.integers(1, 30)
).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@STABLE
@given(st.lists(corners, max_size=5), st.lists(corners, max_size=5))
def test_iou_equals_fractions(a, b):
    tensors = [torch.tensor(rows).reshape(-1, 4) for rows in (a, b)]
    iou = ours.box_iou(*(t.double() for t in tensors))
    expected = [[float(exact_iou(x, y)) for y in b] for x in a]
    assert iou.tolist() == expected
    assert iou.shape == (len(a), len(b))
    single = ours.box_iou(*(t.long() for t in tensors))
    torch.testing.assert_close(single, iou.float())


def test_iou_equals_torchvision(torchvision):
    a, b = random_boxes(300, 1), random_boxes(200, 2)
    theirs = torchvision("ops.boxes").box_iou(a, b)
    torch.testing.assert_close(ours.box_iou(a, b), theirs)
    assert (theirs > 0).sum() > 10_000


def test_iou_is_symmetric_and_1_with_itself_alone():
    a = random_boxes(50)
    iou = ours.box_iou(a, a)
    assert torch.equal(iou, iou.T)
    assert (iou.diagonal() == 1).all()
    assert (iou.fill_diagonal_(0) < 1).all()


@pytest.mark.parametrize(
    ("given", "result"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_iou_of_any_type_is_at_least_float32(given, result):
    a = torch.tensor([[0, 0, 8, 4], [8, 2, 16, 4]]).to(given)
    b = torch.tensor([[4, 2, 12, 4]]).to(given)
    iou = ours.box_iou(a, b)
    assert iou.dtype == result
    torch.testing.assert_close(
        iou, torch.tensor([[8 / 40], [8 / 24]], dtype=result)
    )
    assert ours.box_iou(a.double(), b).dtype == torch.float64
    assert ours.box_iou(b, a.double()).dtype == torch.float64


def test_half_precision_does_not_overflow():
    a = torch.tensor([[0, 0, 1000, 1000], [0, 0, 1000, 500]]).half()
    assert ours.box_iou(a, a).tolist() == [[1, 0.5], [0.5, 1]]


DEGENERATE = [
    [5, 5, 5, 9],  # no width
    [5, 5, 9, 5],  # no height
    [5, 5, 5, 5],
    [9, 5, 5, 9],  # the corners the wrong way round
    [5, 9, 9, 5],
    [9, 9, 5, 5],
    [NAN, 0, 9, 9],
    [0, 0, NAN, 9],
    [0, NAN, 9, 9],
    [0, 0, 9, NAN],
    [0, 0, INF, 9],
    [-INF, 0, 9, 9],
    [-INF, -INF, INF, INF],
    [INF, INF, INF, INF],
    [-3e38, 0, 3e38, 9],  # the width overflows
    [0, 0, 1e20, 1e20],  # the area overflows
    [0, 0, 1e19, 3e19],  # the union with itself overflows
    [0, 0, 1e-30, 1e-30],  # the area underflows
]


@pytest.mark.parametrize("box", DEGENERATE)
def test_degenerate_box_has_iou_0_and_spoils_no_gradient(box):
    good = [[0.0, 0, 8, 8], [2, 2, 9, 9], [0, 0, 1, 1]]
    a = torch.tensor([*good, box], requires_grad=True)
    b = torch.tensor([box, *good], requires_grad=True)
    iou = ours.box_iou(a, b)
    assert (iou[3] == 0).all()
    assert (iou[:, 0] == 0).all()
    alone = torch.tensor(good, requires_grad=True)
    expected = ours.box_iou(alone, alone.detach())
    assert torch.equal(iou[:3, 1:], expected)
    iou.sum().backward()
    expected.sum().backward()
    assert torch.equal(a.grad[:3], alone.grad)
    assert (a.grad[3] == 0).all()
    assert (b.grad[0] == 0).all()
    assert b.grad.isfinite().all()


def test_huge_and_tiny_boxes_are_no_degenerate_ones():
    a = torch.tensor([[0, 0, 1e19, 1e19], [0, 0, 1e-18, 1e-18]])
    assert ours.box_iou(a, a).diagonal().tolist() == [1, 1]


def test_iou_has_the_gradient_of_finite_differences():
    a = random_boxes(4, 3).requires_grad_()
    b = random_boxes(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(ours.box_iou, (a, b))


# anchor_shapes, generate_anchors


def test_shapes_have_their_ratio_of_width_to_height_and_the_area_size_squared():
    shapes = ours.anchor_shapes([16, 30], [1, 2, 0.25])
    assert shapes.dtype == torch.float32
    expected = [(s * math.sqrt(r), s / math.sqrt(r)) for s in (16, 30)
                for r in (1, 2, 0.25)]  # fmt: skip
    torch.testing.assert_close(shapes, torch.tensor(expected))
    assert shapes[2].tolist() == [8, 32]
    torch.testing.assert_close(
        shapes.prod(1), torch.tensor([256.0] * 3 + [900.0] * 3)
    )


def test_shapes_equal_torchvision_whose_ratio_is_height_to_width(torchvision):
    module = torchvision("models.detection.anchor_utils")
    ratios = (0.5, 1.0, 3.0)
    make = module.AnchorGenerator(((32,),), ((1.0,),)).generate_anchors
    theirs = make([32, 64], [1 / r for r in ratios]).reshape(3, 2, 4)
    expected = (theirs[..., 2:] - theirs[..., :2]).transpose(0, 1)
    shapes = ours.anchor_shapes([32, 64], ratios).reshape(2, 3, 2)
    assert ((shapes - expected).abs() <= 1).all()  # theirs are rounded


def test_anchors_go_row_by_row_cell_by_cell_shape_by_shape():
    shapes = torch.tensor([[4.0, 2.0], [6.0, 8.0]])
    anchors = ours.generate_anchors((2, 3), 10, shapes)
    expected = []
    for row, column, (w, h) in product(range(2), range(3), shapes.tolist()):
        x, y = 10 * column + 5, 10 * row + 5
        expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    assert anchors.tolist() == expected


def test_a_head_comes_into_the_order_of_the_anchors():
    n, k, d, h, w = 2, 3, 5, 4, 6
    head = torch.arange(n * k * d * h * w).reshape(n, k * d, h, w)
    rows = head.unflatten(1, (k, d)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    shapes = torch.tensor([[2.0, 2], [4, 4], [6, 6]])
    anchors = ours.generate_anchors((h, w), 8, shapes)
    assert rows.shape == (n, len(anchors), d)
    for i, (x1, y1, x2, y2) in enumerate(anchors.tolist()):
        row, column = int((y1 + y2) / 16), int((x1 + x2) / 16)
        shape = int(x2 - x1) // 2 - 1
        for image in range(n):
            expected = head[image, shape * d : (shape + 1) * d, row, column]
            assert torch.equal(rows[image, i], expected)


def test_one_size_is_a_square_and_strides_may_be_fractions():
    shapes = torch.tensor([[30, 60]])
    assert torch.equal(
        ours.generate_anchors(3, 16, shapes),
        ours.generate_anchors((3, 3), 16, shapes),
    )
    last = ours.generate_anchors(38, 300 / 38, shapes.double())[-1]
    assert last.dtype == torch.float64
    edge = 300 - 150 / 38
    torch.testing.assert_close(
        last, last.new_tensor([edge - 15, edge - 30, edge + 15, edge + 30])
    )


# encode, decode


def sigmoid(t):
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


def decoded(t, anchor, kind, stride, variances):
    """Decode one row, straight from the papers."""
    x1, y1, x2, y2 = anchor
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    if kind == "yolo":
        x = (sigmoid(t[0]) + x // stride) * stride
        y = (sigmoid(t[1]) + y // stride) * stride
        v = 1
    else:
        x, y = x + t[0] * variances[0] * w, y + t[1] * variances[0] * h
        v = variances[1]
    w, h = w * math.exp(v * t[2]), h * math.exp(v * t[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


SETTINGS = [
    {"kind": "yolo", "stride": 16},
    {"kind": "yolo", "stride": 7.5},
    {"kind": "ssd"},
    {"kind": "ssd", "variances": (1, 1)},
]


@pytest.mark.parametrize("options", SETTINGS)
def test_decode_equals_the_papers_formula_row_by_row(options):
    g = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[20.0, 50], [70, 10]]).double()
    anchors = ours.generate_anchors((3, 4), 16, shapes)
    t = torch.randn(5, 24, 4, generator=g, dtype=torch.float64)
    boxes = ours.decode(t, anchors, **options)
    assert boxes.shape == (5, 24, 4)
    settings = {"stride": None, "variances": (0.1, 0.2)} | options
    expected = [
        [decoded(row, a, **settings) for row, a in zip(rows, anchors.tolist(),
                                                       strict=True)]
        for rows in t.tolist()
    ]  # fmt: skip
    torch.testing.assert_close(boxes, boxes.new_tensor(expected))
    assert torch.equal(ours.decode(t[2], anchors, **options), boxes[2])


def boxes_in_cells(seed, dtype=torch.float64):
    """Return anchors, and for each a box whose centre is in its cell."""
    g = torch.Generator().manual_seed(seed)
    shapes = torch.tensor([[20, 50], [7, 10]])
    anchors = ours.generate_anchors((3, 4), 16, shapes).to(dtype)
    size = torch.rand(24, 2, generator=g) * 200 + 1
    middle = (anchors[:, :2] + anchors[:, 2:]) / 2
    centre = middle + (torch.rand(24, 2, generator=g) - 0.5) * 15.9
    boxes = torch.cat([centre - size / 2, centre + size / 2], 1)
    return anchors, boxes.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("options", [SETTINGS[0], *SETTINGS[2:]])
@pytest.mark.parametrize("seed", range(3))
def test_decoding_what_was_encoded_gives_the_boxes_back(seed, options, dtype):
    anchors, boxes = boxes_in_cells(seed, dtype)
    t = ours.encode(boxes, anchors, **options)
    assert t.dtype == dtype
    tolerance = 1e-10 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(
        ours.decode(t, anchors, **options), boxes, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("options", [SETTINGS[0], *SETTINGS[2:]])
def test_encoding_what_was_decoded_gives_the_offsets_back(options):
    anchors, _ = boxes_in_cells(0)
    t = torch.randn(24, 4, generator=torch.Generator().manual_seed(1)).double()
    boxes = ours.decode(t, anchors, **options)
    torch.testing.assert_close(ours.encode(boxes, anchors, **options), t)


def test_ssd_offsets_equal_torchvision(torchvision):
    coder = torchvision("models.detection._utils").BoxCoder((10, 10, 5, 5))
    anchors, boxes = boxes_in_cells(0)
    t = ours.encode(boxes, anchors, kind="ssd")
    torch.testing.assert_close(t, coder.encode_single(boxes, anchors))
    t = t + 0.3
    torch.testing.assert_close(
        ours.decode(t, anchors, kind="ssd"), coder.decode_single(t, anchors)
    )


def test_encode_by_hand():
    anchors = torch.tensor([[0.0, 0, 40, 20]])  # centre (20, 10), cell (1, 0)
    boxes = torch.tensor([[8.0, -2, 48, 18]])  # centre (28, 8)
    yolo = ours.encode(boxes, anchors, kind="yolo", stride=16)
    expected = [math.log(3), 0, 0, 0]  # at 3/4 and 1/2 of the cell
    torch.testing.assert_close(yolo, torch.tensor([expected]))
    ssd = ours.encode(boxes, anchors, kind="ssd")
    torch.testing.assert_close(ssd, torch.tensor([[2.0, -1, 0, 0]]))
    paper = ours.encode(boxes, anchors, kind="ssd", variances=(1, 1))
    torch.testing.assert_close(paper, torch.tensor([[0.2, -0.1, 0, 0]]))


def test_yolo_centre_on_the_cells_upper_left_is_minus_infinity_and_comes_back():
    anchors = torch.tensor([[16.0, 16, 32, 32]])
    boxes = torch.tensor([[6.0, 12, 26, 20]])  # centre (16, 16)
    t = ours.encode(boxes, anchors, kind="yolo", stride=16)
    assert t[0, :2].tolist() == [-INF, -INF]
    again = ours.decode(t, anchors, kind="yolo", stride=16)
    torch.testing.assert_close(again, boxes)


@pytest.mark.parametrize("move", [(16, 0), (0, 16), (-0.5, 0), (0, -0.5)])
def test_yolo_refuses_a_centre_outside_the_cell(move):
    anchors = torch.tensor([[16.0, 16, 32, 32]] * 3)
    boxes = torch.tensor([[12.0, 12, 20, 20]] * 3)
    boxes[1:] += torch.tensor(move * 2)
    message = (
        "row 1 of `boxes` has its centre outside the cell around the centre of "
        "its anchor, 16 pixels wide; `assign(…, stride=16)` pairs no such two: "
        f"{boxes[1].tolist()}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        ours.encode(boxes, anchors, kind="yolo", stride=16)
    ours.encode(boxes, anchors, kind="ssd")


@pytest.mark.parametrize("kind", ["yolo", "ssd"])
@pytest.mark.parametrize("box", DEGENERATE)
def test_encode_refuses_degenerate_boxes_and_anchors(kind, box):
    good = torch.tensor([[0.0, 0, 16, 16]] * 4)
    bad = good.clone()
    bad[2:] = torch.tensor(box)
    options = {"kind": kind, "stride": 32}
    with pytest.raises(ValueError, match="row 2 of `boxes` is degenerate: "):
        ours.encode(bad, good, **options)
    with pytest.raises(ValueError, match="row 2 of `anchors` is degenerate: "):
        ours.encode(good, bad, **options)


@pytest.mark.parametrize("options", [SETTINGS[0], SETTINGS[2]])
def test_an_offset_that_overflows_gives_an_infinite_box(options):
    anchors = torch.tensor([[0.0, 0, 16, 16]] * 2)
    t = torch.tensor([[0.0, 0, 1e4, 0], [0, 0, 0, 0]])
    boxes = ours.decode(t, anchors, **options)
    assert boxes[0].tolist() == [-INF, 0, INF, 16]
    assert boxes[1].tolist() == [0, 0, 16, 16]
    assert ours.box_iou(boxes, boxes).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("options", SETTINGS)
def test_gradients_flow_through_decode(options):
    anchors, _ = boxes_in_cells(0)
    t = torch.randn(24, 4, generator=torch.Generator().manual_seed(2))
    t = t.double().requires_grad_()

    def decode(t):
        return ours.decode(t, anchors, **options)

    assert torch.autograd.gradcheck(decode, t)


def test_half_precision_offsets_decode_in_float32():
    anchors = torch.tensor([[0, 0, 16, 16]]).half()
    t = torch.tensor([[0.0, 0, 12, 0]]).half()
    boxes = ours.decode(t, anchors, kind="yolo", stride=16)
    assert boxes.dtype == torch.float32
    assert boxes[0, 2] == pytest.approx(8 + 8 * math.exp(12), rel=1e-6)


# assign


def cell(box, stride):
    x1, y1, x2, y2 = map(Fraction, box)
    return (x1 + x2) // (2 * stride), (y1 + y2) // (2 * stride)


def assigned(anchors, boxes, positive=0.5, negative=0.4, stride=None):
    """Assign in plain loops."""
    n, m = len(anchors), len(boxes)
    iou = [[exact_iou(a, b) for b in boxes] for a in anchors]
    result = []
    for a, row in zip(anchors, iou, strict=True):
        fallback = -2 if row and max(row) >= Fraction(negative) else -1
        for j, b in enumerate(boxes):
            if stride and cell(a, stride) != cell(b, stride):
                row[j] = 0
        best = max(row, default=-1)
        taken = row and best >= Fraction(positive)
        result.append(row.index(best) if taken else fallback)
    free_anchors, free_boxes = set(range(n)), set(range(m))
    while free_anchors and free_boxes:
        value, j, i = max(
            (iou[i][j], -j, -i) for i in free_anchors for j in free_boxes
        )
        if value == 0:
            break
        result[-i] = -j
        free_anchors.remove(-i)
        free_boxes.remove(-j)
    return result


@STABLE
@given(
    st.integers(0, 2**20),
    st.integers(0, 12),
    st.integers(0, 6),
    st.sampled_from([(0.5, 0.5), (0.5, 0.25), (0.75, 0), (1, 0.125)]),
    st.sampled_from([None, 25, 50]),
)
def test_assign_equals_plain_loops_also_with_ties(
    seed, n, m, thresholds, stride
):
    anchors = random_boxes(n, seed, grid=25)
    boxes = random_boxes(m, seed + 1, grid=25)
    positive, negative = thresholds
    result = ours.assign(
        anchors, boxes, positive=positive, negative=negative, stride=stride
    )
    assert result.dtype == torch.int64
    assert result.tolist() == assigned(
        anchors.tolist(), boxes.tolist(), positive, negative, stride
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_yolo_encodes_all_that_assign_pairs_by_cell(seed, dtype):
    shapes = torch.tensor([[20, 50], [40, 40], [70, 30]]).to(dtype)
    anchors = ours.generate_anchors(8, 16, shapes)
    boxes = random_boxes(40, seed).to(dtype)
    options = {"kind": "yolo", "stride": 16}
    result = ours.assign(anchors, boxes, stride=16)
    paired = result >= 0
    t = ours.encode(boxes[result[paired]], anchors[paired], **options)
    torch.testing.assert_close(
        ours.decode(t, anchors[paired], **options),
        boxes[result[paired]],
        rtol=0,
        atol=1e-3 if dtype == torch.float32 else 1e-10,
    )
    assert paired.sum() > 20
    anywhere = ours.assign(anchors, boxes)
    paired = anywhere >= 0
    with pytest.raises(ValueError, match="outside the cell"):
        ours.encode(boxes[anywhere[paired]], anchors[paired], **options)


def test_a_good_anchor_of_another_cell_is_ignored_not_background():
    anchors = ours.generate_anchors((1, 3), 16, torch.tensor([[32.0, 32]]))
    boxes = torch.tensor([[-1.0, -8, 31, 24]])  # IoU 25/39, 23/41 and 7/57
    assert ours.assign(anchors, boxes).tolist() == [0, 0, -1]
    assert ours.assign(anchors, boxes, stride=16).tolist() == [0, -2, -1]


def test_assign_by_hand():
    anchors = torch.tensor(
        [
            [0, 0, 10, 10],  # the box itself
            [0, 0, 10, 12],  # IoU 5/6 with box 0
            [0, 0, 10, 22],  # 5/11: ignored
            [0, 0, 10, 40],  # 1/4: background
            [90, 90, 99, 99],  # far away
            [50, 50, 90, 90],  # the best of box 1, at IoU 1/16
        ]
    )
    boxes = torch.tensor([[0, 0, 10, 10], [50, 50, 60, 60]])
    assert ours.assign(anchors, boxes).tolist() == [0, 0, -2, -1, -1, 1]


def test_two_boxes_with_one_best_anchor_do_not_share_it():
    anchors = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 30], [80, 80, 90, 90]])
    boxes = torch.tensor([[0, 0, 10, 12], [0, 0, 10, 11], [0, 0, 10, 13]])
    # Box 1 fits best, box 0 takes what is left, box 2 finds nothing.
    expected = [1, 2, -1]
    assert ours.box_iou(boxes, anchors).argmax(1).tolist() == [0, 0, 0]
    assert ours.assign(anchors, boxes).tolist() == expected


def test_equal_boxes_take_the_anchors_in_turn():
    anchors = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 4]])
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]])
    assert ours.assign(anchors, boxes).tolist() == [0, 1, 2]


def test_without_boxes_all_is_background_and_without_anchors_nothing():
    some, none = torch.tensor([[0.0, 0, 8, 8]] * 3), torch.empty(0, 4)
    assert ours.assign(some, none).tolist() == [-1, -1, -1]
    assert ours.assign(none, some).tolist() == []
    assert ours.assign(none, some).dtype == torch.int64


@pytest.mark.parametrize("box", [*DEGENERATE, [50, 50, 60, 60]])
def test_a_box_that_overlaps_nothing_is_assigned_to_none(box):
    anchors = torch.tensor([[0.0, 0, 8, 8], [2, 2, 10, 10], [0, 0, 30, 30]])
    boxes = torch.tensor([box, [0.0, 0, 8, 8]])
    assert ours.assign(anchors, boxes).tolist() == [1, -1, -1]


def test_a_degenerate_anchor_is_background():
    anchors = torch.tensor([[NAN, 0.0, 8, 8], [0, 0, 8, 8]])
    boxes = torch.tensor([[0.0, 0, 8, 8]])
    assert ours.assign(anchors, boxes).tolist() == [-1, 0]


def test_thresholds_are_met_at_equality():
    anchors = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 4]])
    boxes = torch.tensor([[0, 0, 10, 10]])
    options = {"positive": 0.7, "negative": 0.4}
    assert ours.assign(anchors, boxes, **options).tolist() == [0, 0, -2]
    options = {"positive": 0.71, "negative": 0.41}
    assert ours.assign(anchors, boxes, **options).tolist() == [0, -2, -1]


def test_assign_takes_boxes_that_want_gradients():
    anchors = random_boxes(5).requires_grad_()
    boxes = random_boxes(3, 1).requires_grad_()
    result = ours.assign(anchors, boxes)
    assert not result.requires_grad
    expected = ours.assign(anchors.detach(), boxes.detach())
    assert torch.equal(result, expected)


# kmeans_anchors, mean_iou


def shape_iou(a, b):
    overlap = min(a[0], b[0]) * min(a[1], b[1])
    return overlap / (a[0] * a[1] + b[0] * b[1] - overlap)


def random_sizes(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 2, generator=g).double() * 200 + 5


def test_mean_iou_equals_plain_loops():
    sizes, anchors = random_sizes(40), random_sizes(6, 1)
    best = [max(shape_iou(s, a) for a in anchors.tolist())
            for s in sizes.tolist()]  # fmt: skip
    value = ours.mean_iou(sizes, anchors)
    assert value == pytest.approx(sum(best) / len(best), rel=1e-12)
    assert isinstance(value, float)
    assert ours.mean_iou(torch.tensor([[2, 4], [4, 2]]),
                         torch.tensor([[4, 4]])) == 0.5  # fmt: skip


def seeds(sizes, k, seed):
    """Return the centres that `kmeans_anchors` starts from."""
    generator = torch.Generator().manual_seed(seed)
    return ours._seed_centres(sizes.T, k, generator).tolist()


def lloyd(sizes, centres, iterations=1000):
    """Run k-means by plain loops; return the best centres seen, and it all."""
    seen, empty = [], 0
    before = None
    for _ in range(iterations + 1):
        iou = [[shape_iou(s, c) for c in centres] for s in sizes]
        cluster = [row.index(max(row)) for row in iou]
        cover = [max(row) for row in iou]
        seen.append((sum(cover) / len(sizes), centres))
        if cluster == before:
            break
        before = cluster
        centres = []
        for i in range(len(iou[0])):
            mine = [s for s, c in zip(sizes, cluster, strict=True) if c == i]
            if mine:
                mean = [sum(v) / len(mine) for v in zip(*mine, strict=True)]
                centres.append(mean)
            else:
                centres.append(sizes[cover.index(min(cover))])
                empty += 1
    # Of equal values, the first counts.
    best = max(seen, key=lambda pair: pair[0])
    centres = sorted(best[1], key=math.prod)
    return centres, [value for value, _ in seen], empty


@pytest.mark.parametrize(("seed", "k"), [(0, 1), (1, 3), (2, 5), (3, 9)])
def test_kmeans_goes_the_way_of_plain_loops_from_its_seeds(seed, k):
    sizes = random_sizes(120, seed)
    centres = seeds(sizes, k, seed)
    for iterations in (0, 1, 2, 100):
        expected, _, _ = lloyd(sizes.tolist(), centres, iterations)
        found = ours.kmeans_anchors(sizes, k, seed=seed, iterations=iterations)
        torch.testing.assert_close(found, found.new_tensor(expected))


def test_kmeans_keeps_the_best_round_though_the_last_is_worse():
    falls = 0
    for seed in range(40):
        sizes = random_sizes(30, seed)
        _, values, _ = lloyd(sizes.tolist(), seeds(sizes, 3, seed))
        falls += values[-1] < max(values)
        found = ours.kmeans_anchors(sizes, 3, seed=seed)
        assert ours.mean_iou(sizes, found) == pytest.approx(max(values))
    assert falls, "no case in which the last round is worse"


def test_kmeans_finds_clusters_that_are_plain_to_see():
    centres = torch.tensor([[10.0, 30], [40, 40], [100, 20], [150, 200]])
    g = torch.Generator().manual_seed(0)
    spread = 1 + 0.05 * (torch.rand(4, 50, 2, generator=g) - 0.5)
    sizes = (centres[:, None] * spread).flatten(0, 1)
    sizes = sizes[torch.randperm(200, generator=g)]
    for seed in range(5):
        found = ours.kmeans_anchors(sizes, 4, seed=seed)
        torch.testing.assert_close(found, centres, rtol=0.02, atol=0)
        assert ours.mean_iou(sizes, found) > 0.95


def test_kmeans_ends_when_the_clusters_stay(monkeypatch):
    calls = 0
    plain = ours._nearest

    def watched(*args):
        nonlocal calls
        calls += 1
        return plain(*args)

    monkeypatch.setattr(ours, "_nearest", watched)
    ours.kmeans_anchors(torch.tensor([[1, 2], [1, 3], [9, 9], [8, 9]]), 2)
    assert calls <= 2 + 1 + 3  # seeds, first look, rounds


def test_a_mean_of_many_sizes_is_as_exact_as_its_type():
    g = torch.Generator().manual_seed(0)
    sizes = 1000 + 200 * torch.rand(300_000, 2, generator=g)
    found = ours.kmeans_anchors(sizes, 1, seed=1)
    expected = sizes.double().mean(0, keepdim=True).float()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_five_clusters_cover_typical_boxes_as_well_as_nine_by_hand():
    g = torch.Generator().manual_seed(0)
    size = 20 * 12 ** torch.rand(2000, generator=g)
    ratio = 0.45 * torch.exp(0.3 * torch.randn(2000, generator=g))
    sizes = torch.stack([size * ratio.sqrt(), size / ratio.sqrt()], 1)
    by_hand = ours.anchor_shapes([32, 64, 128], [0.5, 1, 2])
    five, nine = (ours.kmeans_anchors(sizes, k) for k in (5, 9))
    scores = [ours.mean_iou(sizes, a) for a in (by_hand, five, nine)]
    assert scores[0] <= scores[1] < scores[2]


def test_an_empty_cluster_takes_the_size_that_is_covered_worst():
    rows = [[11, 1], [7, 11], [5, 8], [11, 3], [10, 10]]
    sizes = torch.tensor(rows).double()
    centres = seeds(sizes, 3, 0)
    expected, _, empty = lloyd(sizes.tolist(), centres)
    assert empty == 1
    found = ours.kmeans_anchors(sizes, 3)
    torch.testing.assert_close(found, found.new_tensor(expected))
    assert [11, 1] in found.tolist()  # it was covered worst


def test_same_seed_same_clusters_whatever_the_global_generator():
    sizes = random_sizes(300)
    torch.manual_seed(1)
    first = ours.kmeans_anchors(sizes, 6, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(ours.kmeans_anchors(sizes, 6, seed=5), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(ours.kmeans_anchors(sizes, 6, seed=6), first)


def test_seeds_are_drawn_by_their_distance():
    # One size twice, one near, one far: the second seed from the first is the
    # near one with chance 1/8 : 3/4, the repeated one never.
    sizes = torch.tensor([[8.0, 8], [8, 8], [8, 7], [8, 2]]).double()
    drawn = {7.0: 0, 2.0: 0}
    for seed in range(600):
        (_, first), (_, second) = seeds(sizes, 2, seed)
        if first == 8:
            drawn[second] += 1
    share = drawn[7] / sum(drawn.values())
    assert sum(drawn.values()) > 200
    assert share == pytest.approx((1 / 8) / (1 / 8 + 3 / 4), abs=0.05)


def test_as_many_clusters_as_distinct_sizes_are_the_sizes():
    sizes = torch.tensor([[3, 4], [1, 2], [3, 4], [9, 9], [1, 2]])
    found = ours.kmeans_anchors(sizes, 3)
    assert found.tolist() == [[1, 2], [3, 4], [9, 9]]
    assert found.dtype == torch.float32
    next_to = math.nextafter(1, 2)
    close = torch.tensor([[1.0, 1], [next_to, 1]], dtype=torch.float64)
    assert ours.kmeans_anchors(close, 2).tolist() == close.tolist()


# nms


def suppressed(boxes, scores, threshold, labels=None):
    """Keep boxes by the plain double loop."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        rivals = [j for j in kept if labels is None or labels[i] == labels[j]]
        if all(exact_iou(boxes[i], boxes[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("block", [1, 2, 7, 256])
@STABLE
@given(
    st.integers(0, 2**20),
    st.integers(0, 25),
    st.sampled_from([0, 0.125, 0.5, 0.75, 1]),
    st.booleans(),
)
def test_nms_equals_the_double_loop_also_with_ties(
    block, seed, n, threshold, labelled
):
    boxes = random_boxes(n, seed, grid=25)
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 6, (n,), generator=g) / 5
    labels = torch.randint(0, 3, (n,), generator=g) if labelled else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "BLOCK", block)
        kept = ours.nms(boxes, scores, threshold=threshold, labels=labels)
    assert kept.dtype == torch.int64
    assert kept.tolist() == suppressed(
        boxes.tolist(),
        scores.tolist(),
        Fraction(threshold),
        None if labels is None else labels.tolist(),
    )


def test_nms_of_many_boxes_equals_a_greedy_loop():
    boxes = random_boxes(3000, side=600).float() / 3
    scores = torch.rand(3000, generator=torch.Generator().manual_seed(0))
    iou = ours.box_iou(boxes, boxes)
    alive, expected = torch.ones(3000, dtype=torch.bool), []
    for i in scores.argsort(descending=True).tolist():
        if alive[i]:
            expected.append(i)
            alive &= iou[i] <= 0.45
    assert ours.nms(boxes, scores, threshold=0.45).tolist() == expected
    assert 300 < len(expected) < 2700


def test_a_chain_of_boxes_keeps_every_other_one():
    left = torch.arange(600.0) * 3
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], 1)
    scores = -torch.arange(600)
    kept = ours.nms(boxes, scores, threshold=0.5)  # neighbours have 7/13
    assert kept.tolist() == list(range(0, 600, 2))


def test_box_at_the_threshold_stays():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 7]])
    scores = torch.tensor([0.9, 0.8])
    assert ours.nms(boxes, scores, threshold=0.7).tolist() == [0, 1]
    assert ours.nms(boxes, scores, threshold=0.69).tolist() == [0]


def test_labels_do_not_compete_however_far_their_boxes_lie():
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 4 + [[1e7, 0, 1e7 + 10, 10]] * 2)
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    labels = torch.tensor([7, -1, 7, -1, 7, 10**12])
    kept = ours.nms(boxes, scores, labels=labels)
    assert kept.tolist() == [5, 4, 3, 2]


@pytest.mark.parametrize("box", DEGENERATE)
def test_degenerate_boxes_remove_none_and_stay(box):
    boxes = torch.tensor([box, [0.0, 0, 8, 8], box, [0, 0, 8, 8]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert ours.nms(boxes, scores, threshold=0).tolist() == [0, 1, 2]


def test_nms_ranks_infinite_scores_and_takes_no_boxes():
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [20, 20, 28, 28]])
    scores = torch.tensor([-INF, INF, 0])
    assert ours.nms(boxes, scores).tolist() == [1, 2]
    empty = ours.nms(torch.empty(0, 4), torch.empty(0))
    assert empty.shape == (0,)
    assert empty.dtype == torch.int64


def test_few_values_are_in_memory_at_a_time(monkeypatch):
    most = 0
    plain = ours._iou_of_rows

    def watched(a, b):
        nonlocal most
        most = max(most, len(a) * len(b))
        return plain(a, b)

    monkeypatch.setattr(ours, "_iou_of_rows", watched)
    boxes = random_boxes(5000, side=1e6)
    boxes[:, 2:] = boxes[:, :2] + 1e4
    assert len(ours.nms(boxes, torch.zeros(5000))) > 1000
    ours.box_iou(boxes, boxes)
    assert 10_000 < most < 40_000


# errors

BOXES = torch.tensor([[0.0, 0, 8, 8], [4, 4, 12, 12]])
YOLO = {"kind": "yolo", "stride": 16}
ERRORS = [
    (ours.box_iou, (BOXES[0], BOXES), {}, ValueError,
     "`a` has shape (4,); it must be (n, 4)"),
    (ours.box_iou, (BOXES, BOXES[:, :3]), {}, ValueError,
     "`b` has shape (2, 3); it must be (n, 4)"),
    (ours.box_iou, (BOXES, BOXES[None]), {}, ValueError,
     "`b` has shape (1, 2, 4); it must be (n, 4)"),
    (ours.box_iou, ([[0, 0, 1, 1]], BOXES), {}, TypeError,
     "`a` is a list, no tensor"),
    (ours.box_iou, (BOXES, BOXES > 1), {}, TypeError,
     "`b` holds torch.bool; it must hold numbers"),
    (ours.box_iou, (BOXES * 1j, BOXES), {}, TypeError,
     "`a` holds torch.complex64; it must hold numbers"),
    (ours.anchor_shapes, ([16, 0], [1]), {}, ValueError,
     "`sizes=[16, 0]` must be positive, finite numbers"),
    (ours.anchor_shapes, ([16], [-1]), {}, ValueError,
     "`ratios=[-1]` must be positive, finite numbers"),
    (ours.anchor_shapes, ([INF], [1]), {}, ValueError, "`sizes=[inf]` must"),
    (ours.anchor_shapes, ([1], [NAN]), {}, ValueError, "`ratios=[nan]` must"),
    (ours.anchor_shapes, ([], [1]), {}, ValueError, "`sizes=[]` must be"),
    (ours.generate_anchors, (0, 8, BOXES[:, 2:]), {}, ValueError,
     "`feature_size=0` must be one or two integers >= 1"),
    (ours.generate_anchors, ((2, 0), 8, BOXES[:, 2:]), {}, ValueError,
     "`feature_size=(2, 0)` must be one or two integers >= 1"),
    (ours.generate_anchors, ((2, 2, 2), 8, BOXES[:, 2:]), {}, ValueError,
     "`feature_size=(2, 2, 2)` must be one or two integers >= 1"),
    (ours.generate_anchors, ((2, 1.5), 8, BOXES[:, 2:]), {}, ValueError,
     "`feature_size=(2, 1.5)` must be one or two integers >= 1"),
    (ours.generate_anchors, (2, 0, BOXES[:, 2:]), {}, ValueError,
     "`stride=0` must be a positive number of pixels"),
    (ours.generate_anchors, (2, INF, BOXES[:, 2:]), {}, ValueError,
     "`stride=inf` must be a positive number of pixels"),
    (ours.generate_anchors, (2, 8, BOXES), {}, ValueError,
     "`shapes` has shape (2, 4); it must be (n, 2)"),
    (ours.generate_anchors, (2, 8, BOXES[:, :2]), {}, ValueError,
     "row 0 of `shapes` is not positive with a finite area: [0.0, 0.0]"),
    (ours.generate_anchors, (2, 8, BOXES[:0, 2:]), {}, ValueError,
     "`shapes` is empty"),
    (ours.generate_anchors, (2, 8, [(1, 2)]), {}, TypeError,
     "`shapes` is a list, no tensor"),
    (ours.encode, (BOXES, BOXES[:1]), YOLO, ValueError,
     "`boxes` has shape (2, 4), `anchors` (1, 4); they must be the same"),
    (ours.encode, (BOXES[None], BOXES), YOLO, ValueError,
     "`boxes` has shape (1, 2, 4); it must be (n, 4)"),
    (ours.decode, (BOXES, BOXES[:1]), YOLO, ValueError,
     "`offsets` has shape (2, 4), `anchors` (1, 4); the last two axes must be"),
    (ours.decode, (BOXES[:, :3], BOXES), YOLO, ValueError,
     "`offsets` has shape (2, 3); it must be (..., n, 4)"),
    (ours.decode, (BOXES[0], BOXES), YOLO, ValueError,
     "`offsets` has shape (4,); it must be (..., n, 4)"),
    (ours.assign, (BOXES, BOXES), {"positive": 0.3}, ValueError,
     "negative=0.4 and positive=0.3 must be 0 <= negative <= positive"),
    (ours.assign, (BOXES, BOXES), {"positive": 1.1}, ValueError, "must be 0 <="),
    (ours.assign, (BOXES, BOXES), {"negative": -0.1}, ValueError, "must be 0"),
    (ours.assign, (BOXES, BOXES), {"positive": 0, "negative": 0}, ValueError,
     "positive above 0"),
    (ours.assign, (BOXES, BOXES[:0]), {"stride": 0}, ValueError,
     "`stride=0` must be a positive number of pixels"),
    (ours.assign, (BOXES[0], BOXES), {}, ValueError,
     "`anchors` has shape (4,); it must be (n, 4)"),
    (ours.assign, (BOXES, [1]), {}, TypeError, "`boxes` is a list, no tensor"),
    (ours.kmeans_anchors, (BOXES[:, 2:], 0), {}, ValueError,
     "k=0 must be >= 1 and iterations=100 >= 0"),
    (ours.kmeans_anchors, (BOXES[:, 2:], 1), {"iterations": -1}, ValueError,
     "k=1 must be >= 1 and iterations=-1 >= 0"),
    (ours.kmeans_anchors, (BOXES[[0, 1, 1], 2:], 3), {}, ValueError,
     "k=3 is more than the 2 distinct `sizes`"),
    (ours.kmeans_anchors, (BOXES[:, :2], 1), {}, ValueError,
     "row 0 of `sizes` is not positive with a finite area: [0.0, 0.0]"),
    (ours.kmeans_anchors, (torch.tensor([[1, 2], [3, NAN]]), 1), {}, ValueError,
     "row 1 of `sizes` is not positive with a finite area: [3.0, nan]"),
    (ours.kmeans_anchors, (torch.tensor([[INF, 2]]), 1), {}, ValueError,
     "row 0 of `sizes` is not positive with a finite area: [inf, 2.0]"),
    (ours.kmeans_anchors, (torch.tensor([[1e19, 3e19]]), 1), {}, ValueError,
     "row 0 of `sizes` is not positive with a finite area: ["),
    (ours.kmeans_anchors, (BOXES, 1), {}, ValueError,
     "`sizes` has shape (2, 4); it must be (n, 2)"),
    (ours.mean_iou, (BOXES[:0, 2:], BOXES[:, 2:]), {}, ValueError,
     "`sizes` is empty"),
    (ours.mean_iou, (BOXES[:, 2:], -BOXES[:, 2:]), {}, ValueError,
     "row 0 of `anchors` is not positive with a finite area: [-8.0, -8.0]"),
    (ours.nms, (BOXES, BOXES), {}, ValueError,
     "`scores` has shape (2, 4); 2 boxes need (2,)"),
    (ours.nms, (BOXES, [0.5, 0.4]), {}, TypeError,
     "`scores` is a list, no tensor"),
    (ours.nms, (BOXES, torch.tensor([0.5, NAN])), {}, ValueError,
     "`scores` holds NaN, which has no rank"),
    (ours.nms, (BOXES, BOXES[:, 0]), {"labels": torch.ones(3)}, ValueError,
     "`labels` has shape (3,); 2 boxes need (2,)"),
    (ours.nms, (BOXES, BOXES[:, 0]), {"labels": [1, 2]}, TypeError,
     "`labels` is a list, no tensor"),
    (ours.nms, (BOXES, BOXES[:, 0]), {"labels": torch.tensor([0, NAN])},
     TypeError, "`labels` holds torch.float32; it must hold integers"),
    (ours.nms, (BOXES, BOXES[:, 0]), {"labels": torch.ones(2) > 0},
     TypeError, "`labels` holds torch.bool; it must hold integers"),
    (ours.nms, (BOXES, BOXES[:, 0]), {"threshold": 1.5}, ValueError,
     "`threshold=1.5` must be from 0 to 1"),
    (ours.nms, (BOXES, BOXES[:, 0]), {"threshold": -0.1}, ValueError,
     "`threshold=-0.1` must be from 0 to 1"),
    (ours.nms, (BOXES[0], BOXES[:, 0]), {}, ValueError,
     "`boxes` has shape (4,); it must be (n, 4)"),
]  # fmt: skip
for function in (ours.encode, ours.decode):
    ERRORS += [
        (function, (BOXES, BOXES), {"kind": "rcnn"}, ValueError,
         "`kind='rcnn'` must be 'yolo' or 'ssd'"),
        (function, (BOXES, BOXES), {"kind": "yolo"}, ValueError,
         "`stride=None` must be a positive number of pixels"),
        (function, (BOXES, BOXES), YOLO | {"stride": -1}, ValueError,
         "`stride=-1` must be a positive number of pixels"),
        (function, (BOXES, BOXES), {"kind": "ssd", "variances": (0, 1)},
         ValueError, "`variances=(0, 1)` must be two positive numbers"),
        (function, (BOXES, BOXES), {"kind": "ssd", "variances": (1,)},
         ValueError, "`variances=(1,)` must be two positive numbers"),
        (function, (BOXES, [1]), YOLO, TypeError,
         "`anchors` is a list, no tensor"),
    ]  # fmt: skip


@pytest.mark.parametrize(("function", "given", "options", "error", "message"),
                         ERRORS)  # fmt: skip
def test_bad_input_is_named(function, given, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function(*given, **options)
