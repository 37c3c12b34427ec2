import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler, default_collate

from snippets.modules.multiscale import (
    MultiScaleBatchSampler,
    Resized,
    collate,
)

SIZES = [320, 352, 384, 416, 448, 480, 512, 544, 576, 608]


def images_of_many_shapes(n):
    """Return images known by value, and 0 to 3 boxes for each."""
    return [
        (
            torch.full((3, 10 + index % 3, 20), float(index)),
            torch.tensor([[1.0, 2, 3, 4]] * (index % 4)).reshape(-1, 4),
            index,
        )
        for index in range(n)
    ]


def sizes_of(batches):
    """Return each batch's one size."""
    found = []
    for batch in batches:
        (size,) = {size for _, size in batch}
        found.append(size)
    return found


def indices_of(batches):
    return [index for batch in batches for index, _ in batch]


def test_the_size_changes_every_ten_batches_and_only_then():
    sampler = MultiScaleBatchSampler(range(4000), 4)
    sizes = sizes_of(sampler)
    assert len(sizes) == len(sampler) == 1000
    rounds = [sizes[i : i + 10] for i in range(0, 1000, 10)]
    assert all(len(set(r)) == 1 for r in rounds)
    drawn = [r[0] for r in rounds]
    assert sorted(set(drawn)) == SIZES
    # By chance, one round in ten has the size of the one before.
    same = sum(a == b for a, b in pairwise(drawn))
    assert 1 <= same <= 25


def test_sizes_are_drawn_evenly():
    sampler = MultiScaleBatchSampler(range(5000), 1, every=1)
    sizes = sizes_of(sampler)
    assert all(400 < sizes.count(size) < 600 for size in SIZES)


def test_rounds_go_on_across_epochs():
    sampler = MultiScaleBatchSampler(range(28), 2, every=10)  # 14 batches
    sizes = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        sizes += sizes_of(sampler)
    whole = sizes_of(MultiScaleBatchSampler(range(280), 2, every=10))
    assert sizes == whole
    assert all(len(set(sizes[i : i + 10])) == 1 for i in range(0, 140, 10))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (9, 3), (2, 3), (0, 3)])
def test_each_index_comes_once_an_epoch(n, batch_size, shuffle, drop_last):
    sampler = MultiScaleBatchSampler(
        range(n), batch_size, shuffle=shuffle, drop_last=drop_last
    )
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        seen = indices_of(batches)
        lengths = [len(batch) for batch in batches]
        rest = n % batch_size
        expected = [batch_size] * (n // batch_size)
        if rest and not drop_last:
            expected.append(rest)
        assert lengths == expected
        assert len(sampler) == len(expected)
        assert len(set(seen)) == len(seen) == sum(expected)
        if not drop_last:
            assert sorted(seen) == list(range(n))
        if not shuffle:
            assert seen == list(range(sum(expected)))


def test_same_seed_same_batches_whatever_the_global_generator():
    def batches(seed=3, epoch=0):
        sampler = MultiScaleBatchSampler(range(300), 2, seed=seed, every=3)
        sampler.set_epoch(epoch)
        return list(sampler)

    torch.manual_seed(1)
    first = batches()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert batches() == first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (batches(seed=4), batches(epoch=1)):
        assert indices_of(other) != indices_of(first)
        assert sizes_of(other) != sizes_of(first)
    assert indices_of(first) != list(range(300))


def test_without_a_new_epoch_the_batches_repeat():
    sampler = MultiScaleBatchSampler(range(30), 4, every=2)
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 23, 24, 25, 40])
def test_processes_share_the_indices_and_draw_the_same_sizes(
    n, shuffle, drop_last
):
    samplers = [
        MultiScaleBatchSampler(
            range(n),
            3,
            every=2,
            shuffle=shuffle,
            drop_last=drop_last,
            num_replicas=4,
            rank=rank,
        )
        for rank in range(4)
    ]
    drawn = []
    for epoch in range(4):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        epochs = [list(sampler) for sampler in samplers]
        assert {len(batches) for batches in epochs} == {len(samplers[0])}
        shapes = [[len(batch) for batch in batches] for batches in epochs]
        assert all(shape == shapes[0] for shape in shapes)
        sizes = [sizes_of(batches) for batches in epochs]
        assert all(of_rank == sizes[0] for of_rank in sizes)
        drawn += sizes[0]
        seen = [i for batches in epochs for i in indices_of(batches)]
        if drop_last:
            assert len(set(seen)) == len(seen) == n // 12 * 12
        else:
            assert set(seen) == set(range(n))
            assert len(seen) - n < 4
    rounds = [drawn[i : i + 2] for i in range(0, len(drawn), 2)]
    assert all(len(set(r)) == 1 for r in rounds)
    assert len(set(drawn)) > 1 or n < 23


@pytest.mark.parametrize("n", [23, 24, 25])
def test_each_process_has_the_indices_of_a_distributed_sampler(n):
    for rank in range(4):
        sampler, theirs = (
            kind(range(n), *more, num_replicas=4, rank=rank, shuffle=False)
            for kind, *more in (
                (MultiScaleBatchSampler, 3),
                (DistributedSampler,),
            )
        )
        assert indices_of(sampler) == list(theirs)


def test_the_process_group_is_the_default():
    def batches(**options):
        return list(MultiScaleBatchSampler(range(50), 2, **options))

    distributed.init_process_group("fake", rank=2, world_size=4)
    try:
        ours, first = batches(), batches(rank=0)
        alone = batches(num_replicas=1, rank=0)
    finally:
        distributed.destroy_process_group()
    assert ours == batches(num_replicas=4, rank=2)
    assert first == batches(num_replicas=4, rank=0)
    assert alone == batches()
    assert sorted(indices_of(alone)) == list(range(50))


def test_sizes_and_stride_are_a_choice():
    sampler = MultiScaleBatchSampler(
        range(100), 1, sizes=[48, 96], stride=16, every=1
    )
    assert set(sizes_of(sampler)) == {48, 96}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [320, 330]}, "`sizes` holds 330, no positive multiple of "
         "stride=32"),
        ({"stride": 64}, "`sizes` holds 352, no positive multiple of stride=64"),
        ({"sizes": [0]}, "`sizes` holds 0, no positive multiple"),
        ({"sizes": [-32]}, "`sizes` holds -32, no positive multiple"),
        ({"sizes": []}, "`sizes` is empty"),
        ({"batch_size": 0}, "batch_size=0, every=10 and stride=32 must be"),
        ({"every": 0}, "batch_size=2, every=0 and stride=32 must be"),
        ({"stride": 0}, "batch_size=2, every=10 and stride=0 must be"),
        ({"num_replicas": 0}, "num_replicas=0 must be >= 1 and rank=0 from 0"),
        ({"num_replicas": 2, "rank": 2}, "rank=2 from 0 to num_replicas - 1"),
        ({"num_replicas": 2, "rank": -1}, "rank=-1 from 0 to num_replicas"),
        ({"rank": 1}, "num_replicas=1 must be >= 1 and rank=1 from 0 to"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiScaleBatchSampler(range(9), **{"batch_size": 2, **options})


def test_an_epoch_below_0_is_named():
    with pytest.raises(ValueError, match="epoch=-1 must be >= 0"):
        MultiScaleBatchSampler(range(9), 2).set_epoch(-1)


# Resized


def test_boxes_grow_with_the_image():
    image = torch.zeros(1, 50, 100)
    boxes = torch.tensor([[10, 20, 30, 40], [0, 0, 100, 50]])
    for given in (boxes, boxes.half()):
        data = Resized([(image, given, "cat")])
        resized, scaled, label = data[0, 200]
        assert resized.shape == (1, 200, 200)
        assert scaled.tolist() == [[20, 80, 60, 160], [0, 0, 200, 200]]
        assert scaled.dtype == torch.float32
        assert label == "cat"
    assert len(data) == 1
    exact = Resized([(torch.zeros(1, 70, 30), boxes.double())])[0, 64][1]
    assert exact.dtype == torch.float64
    assert exact[0].tolist() == pytest.approx(
        [10 * 64 / 30, 20 * 64 / 70, 64, 40 * 64 / 70], rel=1e-15
    )


@pytest.mark.parametrize("shape", [(40, 60), (16, 16), (90, 20), (64, 64)])
def test_the_image_is_resized_as_pillow_does_it(shape):
    image = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    resized, _ = Resized([(image, torch.empty(0, 4))])[0, 64]
    for ours, channel in zip(resized, image.numpy(), strict=True):
        theirs = Image.fromarray(channel).resize(
            (64, 64), Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-6)


def test_bytes_stay_bytes():
    image = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
    resized, boxes = Resized([(image, torch.empty(0, 4))])[0, 4]
    assert torch.equal(resized, image)
    assert boxes.shape == (0, 4)
    assert Resized([(image, boxes)])[0, 32][0].dtype == torch.uint8


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_gives_each_batch_in_its_size(num_workers):
    data = images_of_many_shapes(22)
    sampler = MultiScaleBatchSampler(
        data, 4, sizes=[32, 64, 96], every=2, seed=1
    )
    loader = DataLoader(
        Resized(data),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
    )
    assert len(loader) == 6
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(loader)
        assert len({images.shape for images, *_ in batches}) > 1
        for keys, (images, boxes, indices) in zip(
            sampler, batches, strict=True
        ):
            size = keys[0][1]
            assert indices == [index for index, _ in keys]
            values = torch.tensor(indices).reshape(-1, 1, 1, 1)
            expected = values.expand(-1, 3, size, size).float()
            torch.testing.assert_close(images, expected)
            for i, rows in zip(indices, boxes, strict=True):
                h = 10 + i % 3
                row = [size / 20, 2 * size / h, 3 * size / 20, 4 * size / h]
                expected = torch.tensor([row] * (i % 4)).reshape(-1, 4)
                torch.testing.assert_close(rows, expected)


def test_the_default_collate_works_where_images_have_as_many_boxes():
    data = Resized([(torch.ones(3, 5, 5), torch.ones(2, 4))] * 6)
    sampler = MultiScaleBatchSampler(data, 3, sizes=[32])
    for images, boxes in DataLoader(data, batch_sampler=sampler):
        assert images.shape == (3, 3, 32, 32)
        torch.testing.assert_close(boxes, torch.full((3, 2, 4), 6.4))
    samples = [data[i, 32] for i in range(3)]
    for ours, theirs in zip(
        collate(samples), default_collate(samples), strict=True
    ):
        torch.testing.assert_close(
            ours if isinstance(ours, torch.Tensor) else torch.stack(ours),
            theirs,
        )


IMAGE, BOXES = torch.ones(3, 5, 5), torch.ones(1, 4)


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ((IMAGE[0], BOXES), ValueError, "`image` 1 has shape (5, 5); it must "
         "be (c, h, w), all at least 1"),
        ((IMAGE[:, :0], BOXES), ValueError, "`image` 1 has shape (3, 0, 5);"),
        ((IMAGE.tolist(), BOXES), TypeError, "`image` 1 is a list, no tensor"),
        ((IMAGE, BOXES[0]), ValueError, "`boxes` 1 has shape (4,); it must be "
         "(m, 4)"),
        ((IMAGE, BOXES[:, :3]), ValueError, "`boxes` 1 has shape (1, 3); it"),
        ((IMAGE, [[1, 2, 3, 4]]), TypeError, "`boxes` 1 is a list, no tensor"),
    ],
)  # fmt: skip
def test_bad_samples_are_named(sample, error, message):
    data = Resized([(IMAGE, BOXES), sample])
    assert data[0, 32]
    with pytest.raises(error, match=re.escape(message)):
        data[1, 32]
