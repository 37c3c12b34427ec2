import contextlib
import re
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from snippets.modules.skip import FPN, Add, Concat


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def test_add_sends_the_gradient_to_both_inputs_unchanged():
    x, skip = draw(2, 3, 4, 5), draw(2, 3, 4, 5)
    y = Add(3)(x, skip)
    assert torch.equal(y, x + skip)
    dy = torch.randn_like(y)
    y.backward(dy)
    assert torch.equal(x.grad, dy)
    assert torch.equal(skip.grad, dy)
    assert not list(Add(3).parameters())
    assert not list(Add(3, skip_channels=3).parameters())


def test_add_projects_a_skipping_path_of_other_channels():
    add = Add(3, skip_channels=4).double()
    x, skip = draw(2, 3, 4, 5), draw(2, 4, 4, 5)
    y, dy = add(x, skip), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y.backward(dy)
    (w,) = add.parameters()
    matrix = w[:, :, 0, 0]
    torch.testing.assert_close(
        y, x + torch.einsum("oc,nchw->nohw", matrix, skip)
    )
    assert torch.equal(x.grad, dy)
    back = torch.einsum("oc,nohw->nchw", matrix, dy)
    torch.testing.assert_close(skip.grad, back)


def test_concat_splits_the_gradient_between_its_inputs():
    x, skip = draw(2, 3, 4, 5), draw(2, 1, 4, 5)
    y = Concat()(x, skip)
    dy = torch.randn_like(y)
    y.backward(dy)
    assert torch.equal(y[:, :3], x)
    assert torch.equal(y[:, 3:], skip)
    assert torch.equal(x.grad, dy[:, :3])
    assert torch.equal(skip.grad, dy[:, 3:])


@pytest.mark.parametrize("more", [(0, 0), (1, 0), (4, 5), (3, 2)], ids=str)
def test_concat_crops_the_middle_of_what_skipped_as_unet_does(more):
    x, border = draw(2, 3, 4, 5), draw(2, 1, 4 + more[0], 5 + more[1])
    y = Concat(crop=True)(x, border)
    top, left = more[0] // 2, more[1] // 2
    middle = border[:, :, top : top + 4, left : left + 5]
    assert torch.equal(y, torch.cat([x, middle], 1))
    with (
        pytest.raises(ValueError, match="the same n, h and w")
        if any(more)
        else contextlib.nullcontext()
    ):
        Concat()(x, border)


def test_concat_cuts_no_less_than_it_was_given():
    message = "`skip` has shape (2, 1, 3, 9); it must be no smaller than `x`"
    with pytest.raises(ValueError, match=re.escape(message)):
        Concat(crop=True)(draw(2, 3, 4, 5), draw(2, 1, 3, 9))


def test_a_trace_computes_the_same_and_still_checks():
    x, skip = draw(2, 3, 4, 5), draw(2, 3, 4, 5)
    for merge in (Add(3), Concat(), Concat(crop=True)):
        traced = fx.symbolic_trace(merge)
        assert torch.equal(traced(x, skip), merge(x, skip))
        with pytest.raises(ValueError, match="`skip`"):
            traced(x, skip[:, :, :3])


def test_a_1x1_convolution_after_concat_can_be_add():
    add = Add(3, skip_channels=4).double()
    mix = nn.Conv2d(7, 3, 1, bias=False).double()
    x, skip = draw(2, 3, 4, 5), draw(2, 4, 4, 5)
    with torch.no_grad():
        mix.weight[:, :3, 0, 0] = torch.eye(3)
        mix.weight[:, 3:] = add.projection.weight
    torch.testing.assert_close(mix(Concat()(x, skip)), add(x, skip))


CHANNELS = (3, 4, 6)


def maps(*sizes):
    return [draw(2, c, *s) for c, s in zip(CHANNELS, sizes, strict=True)]


SIZES = [
    ((16, 12), (8, 6), (4, 3)),
    ((7, 9), (4, 5), (2, 3)),
    ((13, 5), (6, 3), (1, 1)),
    ((4, 4), (4, 4), (2, 4)),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_fpn_fits_torchvisions_pyramid_and_agrees(torchvision, sizes):
    pyramid = torchvision("ops.feature_pyramid_network").FeaturePyramidNetwork
    theirs, ours = pyramid(CHANNELS, 5).double(), FPN(CHANNELS, 5).double()
    for p in theirs.parameters():
        nn.init.normal_(p)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for p in theirs.parameters():
        nn.init.normal_(p)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = maps(*sizes)
    y = ours(x)
    expected = theirs(OrderedDict(zip("abc", x, strict=True))).values()
    dy = [torch.randn_like(a) for a in y]
    results = []
    for module, outputs in ((ours, y), (theirs, list(expected))):
        inputs = [*x, *module.parameters()]
        results.append([*outputs, *torch.autograd.grad(outputs, inputs, dy)])
    torch.testing.assert_close(*results)


def test_fpn_carries_the_coarse_to_the_fine_and_nothing_back():
    net, x = FPN(CHANNELS, 5).double(), maps(*SIZES[0])
    y = net(x)
    for i, out in enumerate(y):
        assert out.shape == (2, 5, *SIZES[0][i])
        dy = torch.randn_like(out)
        found = torch.autograd.grad(
            out, x, dy, retain_graph=True, allow_unused=True
        )
        assert [g is not None for g in found] == [j >= i for j in range(3)]


def test_fpn_equals_its_figure_where_sizes_halve():
    net, x = FPN(CHANNELS, 5).double(), maps(*SIZES[0])
    w = {
        k: (m.weight, m.bias)
        for k, m in net.named_modules()
        if isinstance(m, nn.Conv2d)
    }
    lateral = [F.conv2d(a, *w[f"inner_blocks.{i}.0"]) for i, a in enumerate(x)]
    p3 = lateral[2]
    p2 = lateral[1] + p3.repeat_interleave(2, 2).repeat_interleave(2, 3)
    p1 = lateral[0] + p2.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = [
        F.conv2d(p, *w[f"layer_blocks.{i}.0"], padding=1)
        for i, p in enumerate([p1, p2, p3])
    ]
    torch.testing.assert_close(net(x), expected)


def test_fpn_takes_a_single_map():
    net, x = FPN([3], 5), torch.randn(2, 3, 4, 4)
    (y,) = net([x])
    torch.testing.assert_close(y, net.layer_blocks[0](net.inner_blocks[0](x)))


X = torch.ones(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("merge", "x", "skip", "message"),
    [
        (
            Add(3),
            X[:, :2],
            X,
            "`x` has shape (2, 2, 4, 5); it must be (n, 3, h, w)",
        ),
        (
            Add(3),
            X,
            X[:, :1],
            "`skip` has shape (2, 1, 4, 5); it must be (n, 3, h, w)",
        ),
        (
            Add(3, skip_channels=4),
            X,
            X,
            "`skip` has shape (2, 3, 4, 5); it must be (n, 4, h, w)",
        ),
        (
            Add(3),
            X[0],
            X[0],
            "`x` has shape (3, 4, 5); it must be (n, 3, h, w)",
        ),
        *(
            (
                merge,
                X,
                X[index],
                f"`x` has shape (2, 3, 4, 5), `skip` {shape}; both must be",
            )
            for merge in (Add(3), Concat())
            for index, shape in (
                (slice(1), "(1, 3, 4, 5)"),
                ((slice(None), slice(None), slice(1)), "(2, 3, 1, 5)"),
                ((..., slice(1)), "(2, 3, 4, 1)"),
            )
        ),
        (
            Concat(),
            X,
            X[0],
            "`x` has shape (2, 3, 4, 5), `skip` (3, 4, 5); both",
        ),
        (
            Concat(),
            X[0, 0, 0],
            X[0, 0, 0],
            "`x` has shape (5,), `skip` (5,); both",
        ),
    ],
)
def test_paths_that_do_not_meet_are_named(merge, x, skip, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        merge(x, skip)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Add(0), "channels=0 and skip_channels=None must be >= 1"),
        (lambda: Add(3, skip_channels=0), "skip_channels=0 must be >= 1"),
        (lambda: FPN([], 5), "in_channels=[] and out_channels=5 must"),
        (lambda: FPN([3, 0], 5), "in_channels=[3, 0] and"),
        (lambda: FPN([3], 0), "out_channels=0 must be >= 1"),
    ],
)
def test_a_bad_option_is_named(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_one_channel_is_enough():
    x = torch.ones(1, 1, 2, 2)
    assert torch.equal(Add(1, skip_channels=1)(x, x), 2 * x)
    assert FPN([1], 1)([x])[0].shape == x.shape


def ones(*shapes):
    return [torch.ones(s) for s in shapes]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (ones((2, 3, 8, 8)), "`maps` holds 1; it must hold 2"),
        (
            ones((2, 3, 8, 8), (2, 3, 4, 4)),
            "`maps[1]` has shape (2, 3, 4, 4); it must be (n, 4, h, w)",
        ),
        (
            ones((2, 3, 8, 8), (4, 4, 4)),
            "`maps[1]` has shape (4, 4, 4); it must be (n, 4, h, w)",
        ),
        (
            ones((2, 3, 8, 8), (1, 4, 4, 4)),
            "`maps[1]` has shape (1, 4, 4, 4); after a map with n=2, h=8 and w=8",
        ),
        (
            ones((2, 3, 4, 4), (2, 4, 8, 4)),
            "`maps[1]` has shape (2, 4, 8, 4); after a map with n=2, h=4 and w=4",
        ),
        (
            ones((2, 3, 4, 4), (2, 4, 4, 8)),
            "`maps[1]` has shape (2, 4, 4, 8); after a map with n=2, h=4 and w=4",
        ),
    ],
)
def test_maps_that_do_not_fit_are_named(x, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FPN((3, 4), 5)(x)


def test_each_map_is_held_against_the_one_before():
    x = ones((2, 3, 8, 8), (2, 4, 2, 2), (2, 3, 4, 4))
    message = "`maps[2]` has shape (2, 3, 4, 4); after a map with n=2, h=2 and"
    with pytest.raises(ValueError, match=re.escape(message)):
        FPN((3, 4, 3), 5)(x)
