import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from snippets.data.scenes import draw_scene
from snippets.modules.anchors import (
    assign,
    box_iou,
    decode,
    encode,
    generate_anchors,
    kmeans_anchors,
    nms,
)
from snippets.modules.detection_metrics import (
    Detections,
    Objects,
    mean_average_precision,
)


def scenes(n, **options):
    return [draw_scene(i, **options) for i in range(n)]


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


def test_a_scene_depends_on_seed_and_index_alone():
    first = scenes(5)
    torch.manual_seed(1)
    draw_scene(99)
    for a, b in zip(first, scenes(5), strict=True):
        assert_equal(a, b)
    images = [*(s.image for s in first), draw_scene(0, seed=1).image]
    for i, a in enumerate(images):
        for b in images[i + 1 :]:
            assert not torch.equal(a, b)


def test_images_boxes_and_labels_are_what_detectors_take():
    for image, boxes, labels in scenes(50, size=80):
        assert image.shape == (1, 80, 80)
        assert image.dtype == boxes.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert image.min() == 0
        assert 0.5 < image.max() <= 1
        m = len(labels)
        assert 1 <= m <= 5
        assert boxes.shape == (m, 4)
        assert boxes.min() >= 0
        assert boxes.max() <= 80
        assert 0 <= labels.min() <= labels.max() <= 9


def test_boxes_hold_all_ink_and_touch_it_on_four_sides():
    for image, boxes, _ in scenes(30):
        outside = image[0].clone()
        for x1, y1, x2, y2 in boxes.int().tolist():
            ink = image[0, y1:y2, x1:x2]
            for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
                assert edge.max() > 0.1
            outside[y1:y2, x1:x2] = 0
        assert not outside.any()


def test_boxes_do_not_hide_each_other():
    for _, boxes, _ in scenes(100):
        iou = box_iou(boxes, boxes).fill_diagonal_(0)
        assert iou.max() < 0.3


def test_label_is_that_of_the_sample():
    digits = load_digits()
    for sample in (0, 5, 1796):
        one = draw_scene(
            0, pool=range(sample, sample + 1), count=(1, 1), side=(8, 8)
        )
        assert one.labels.tolist() == [digits.target[sample]]
        x1, y1, x2, y2 = one.boxes[0].int().tolist()
        ink = one.image[0, y1:y2, x1:x2]
        # At side 8 nothing is enlarged: the very pixels stand on the canvas.
        original = torch.from_numpy(digits.images[sample] / 16).float()
        rows = original.gt(0.1).any(1).nonzero()[:, 0]
        cols = original.gt(0.1).any(0).nonzero()[:, 0]
        cut = original[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        assert torch.equal(ink, cut)


def test_pools_without_common_samples_share_no_digit():
    even = {
        draw_scene(i, pool=range(0, 2, 2), count=(1, 1)).labels.item()
        for i in range(9)
    }
    odd = {
        draw_scene(i, pool=range(1, 3, 2), count=(1, 1)).labels.item()
        for i in range(9)
    }
    target = load_digits().target
    assert (even, odd) == ({target[0]}, {target[1]})


def test_counts_sizes_labels_and_places_all_occur():
    drawn = scenes(400)
    boxes = torch.cat([s.boxes for s in drawn])
    assert {len(s.labels) for s in drawn} == {1, 2, 3, 4, 5}
    assert torch.cat([s.labels for s in drawn]).unique().tolist() == [
        *range(10)
    ]
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights.min() < 16
    assert heights.max() > 36
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    cells = (centres // 32).long()
    assert len(cells.unique(dim=0)) == 9


def test_full_canvas_takes_fewer_digits():
    one = draw_scene(0, size=20, side=(20, 20), count=(9, 9))
    assert 1 <= len(one.labels) < 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": (0, 2)}, r"count=\(0, 2\)"),
        ({"count": (3, 2)}, r"count=\(3, 2\)"),
        ({"side": (7, 9)}, r"side=\(7, 9\).*from 8"),
        ({"side": (20, 10)}, r"side=\(20, 10\)"),
        ({"size": 30}, r"side=\(14, 40\).*size=30"),
        ({"pool": range(0)}, r"pool=range\(0, 0\)"),
        ({"pool": range(1700, 1798)}, r"within 0 to 1796"),
        ({"pool": range(-1, 5)}, r"pool=range\(-1, 5\)"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bounds_that_make_no_sense_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(0, **options)
    with pytest.raises(ValueError, match="index=-1"):
        draw_scene(-1)


class Detector(nn.Module):
    """Find digits on one grid of 12 × 12 cells."""

    def __init__(self, priors: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c = 1
        for width, stride in ((16, 2), (32, 2), (64, 2), (96, 1), (96, 1)):
            layers += [
                nn.Conv2d(c, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            c = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(c, priors * 15, 3, padding=1)

    def forward(self, x):
        """Map (n, 1, 96, 96) to offsets (n, a, 4) and logits (n, a, 11)."""
        y = self.head(self.body(x))
        y = y.unflatten(1, (-1, 15)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        return y[..., :4], y[..., 4:]


def test_a_small_detector_learns_fifty_scenes_by_heart():
    torch.manual_seed(0)
    drawn = scenes(50)
    sizes = torch.cat([s.boxes[:, 2:] - s.boxes[:, :2] for s in drawn])
    anchors = generate_anchors(12, 8, kmeans_anchors(sizes, 3))
    images = torch.stack([s.image for s in drawn])
    owners = torch.stack([assign(anchors, s.boxes) for s in drawn])
    classes = torch.full_like(owners, 10)  # background
    aims = torch.zeros(*owners.shape, 4)
    for i, (_, boxes, labels) in enumerate(drawn):
        mine = owners[i] >= 0
        classes[i, mine] = labels[owners[i, mine]]
        aims[i, mine] = encode(
            boxes[owners[i, mine]], anchors[mine], kind="ssd"
        )
        classes[i, owners[i] == -2] = -100  # cross-entropy passes over these

    detector = Detector(3)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    epochs = 60
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-2, total_steps=epochs * 5
    )
    for _ in range(epochs):
        for batch in torch.randperm(50).split(10):
            offsets, logits = detector(images[batch])
            found = owners[batch] >= 0
            loss = functional.cross_entropy(
                logits.flatten(0, 1), classes[batch].flatten(), reduction="sum"
            ) + functional.smooth_l1_loss(
                offsets[found], aims[batch][found], reduction="sum"
            )
            optimizer.zero_grad()
            (loss / found.sum()).backward()
            optimizer.step()
            schedule.step()

    detector.eval()
    with torch.no_grad():
        offsets, logits = detector(images)
        boxes = decode(offsets, anchors, kind="ssd")
        scores, labels = logits.softmax(-1)[..., :10].max(-1)
    predictions = []
    for b, s, k in zip(boxes, scores, labels, strict=True):
        b, s, k = (x[s > 0.05] for x in (b, s, k))
        kept = nms(b, s, labels=k, threshold=0.5)
        predictions.append(Detections(b[kept], s[kept], k[kept]))
    truth = [Objects(s.boxes, s.labels) for s in drawn]
    result = mean_average_precision(predictions, truth)
    assert sorted(result.per_class) == list(range(10))
    assert result.mean > 0.9
