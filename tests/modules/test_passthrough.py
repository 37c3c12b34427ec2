import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from snippets.modules.passthrough import (
    darknet_reorg,
    darknet_reorg_inverse,
    depth_to_space,
    space_to_depth,
)

ORDERS = ["channel_major", "offset_major"]
SHAPES = [
    ((2, 3, 4, 6), 2),
    ((1, 4, 6, 3), 3),
    ((3, 1, 5, 2), 1),
    ((0, 4, 4, 4), 2),
    ((1, 64, 26, 26), 2),
]
REORG_SHAPES = [
    ((1, 4, 2, 2), 2),
    ((2, 8, 4, 6), 2),
    ((2, 4, 6, 10), 2),
    ((2, 9, 6, 3), 3),
    ((1, 18, 9, 6), 3),
    ((2, 3, 2, 5), 1),
    ((1, 64, 26, 26), 2),
]
numbered = pytest.mark.parametrize(("shape", "stride"), SHAPES, ids=str)
reorganized = pytest.mark.parametrize(
    ("shape", "stride"), REORG_SHAPES, ids=str
)


def count(shape):
    return torch.arange(float(np.prod(shape))).reshape(shape)


# PyTorch leaves the shape of an empty batch as it is.
@pytest.mark.parametrize(
    ("shape", "stride"), [s for s in SHAPES if s[0][0]], ids=str
)
def test_channel_major_is_pytorchs_pixel_unshuffle(shape, stride):
    x = count(shape)
    y = space_to_depth(x, stride)
    assert torch.equal(y, F.pixel_unshuffle(x, stride))
    assert torch.equal(space_to_depth(x, stride, order="channel_major"), y)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_channel_major_back_is_pytorchs_pixel_shuffle(stride):
    x = count((2, 2 * stride**2, 3, 4))
    assert torch.equal(depth_to_space(x, stride), F.pixel_shuffle(x, stride))


def run_onnx(operator, x, **attributes):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph)
    (y,) = reference.ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    return torch.tensor(y)


@pytest.mark.parametrize(("shape", "stride"), SHAPES[:3], ids=str)
def test_offset_major_is_onnxs_space_to_depth(shape, stride):
    x = count(shape)
    expected = run_onnx("SpaceToDepth", x, blocksize=stride)
    assert torch.equal(
        space_to_depth(x, stride, order="offset_major"), expected
    )


@pytest.mark.parametrize(
    ("order", "mode"), [("channel_major", "CRD"), ("offset_major", "DCR")]
)
def test_both_orders_are_modes_of_onnxs_depth_to_space(order, mode):
    for stride in (1, 2, 3):
        x = count((2, 2 * stride**2, 3, 4))
        expected = run_onnx("DepthToSpace", x, blocksize=stride, mode=mode)
        assert torch.equal(depth_to_space(x, stride, order=order), expected)


@pytest.mark.parametrize(("shape", "s"), SHAPES[:3], ids=str)
def test_each_pixel_of_a_block_has_the_channel_the_order_says(shape, s):
    x, c = count(shape), shape[1]
    by_channel = space_to_depth(x, s)
    by_offset = space_to_depth(x, s, order="offset_major")
    for k in range(c):
        for i in range(s):
            for j in range(s):
                pixels = x[:, k, i::s, j::s]
                assert torch.equal(by_channel[:, (k * s + i) * s + j], pixels)
                assert torch.equal(by_offset[:, (i * s + j) * c + k], pixels)


@pytest.mark.parametrize("order", ORDERS)
@numbered
def test_depth_to_space_undoes_space_to_depth(shape, stride, order):
    x = count(shape)
    y = space_to_depth(x, stride, order=order)
    n, c, h, w = shape
    assert y.shape == (n, c * stride**2, h // stride, w // stride)
    assert torch.equal(depth_to_space(y, stride, order=order), x)


def reorg_cpu(x, w, h, c, batch, stride, forward):
    """Run darknet's index arithmetic on a flat list."""
    out = [None] * len(x)
    out_c = c // stride**2
    for b in range(batch):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    in_index = i + w * (j + h * (k + c * b))
                    offset, c2 = divmod(k, out_c)
                    w2 = i * stride + offset % stride
                    h2 = j * stride + offset // stride
                    row = h2 + h * stride * (c2 + out_c * b)
                    out_index = w2 + w * stride * row
                    if forward:
                        out[out_index] = x[in_index]
                    else:
                        out[in_index] = x[out_index]
    return out


@reorganized
def test_darknet_reorg_equals_darknets_loop(shape, stride):
    n, c, h, w = shape
    x = count(shape)
    out = reorg_cpu(x.flatten().tolist(), w, h, c, n, stride, False)
    expected = torch.tensor(out).reshape(
        n, c * stride**2, h // stride, w // stride
    )
    y = darknet_reorg(x, stride)
    assert y.shape == expected.shape
    assert torch.equal(y, expected)


@reorganized
def test_darknet_reorg_is_a_permutation_that_its_inverse_undoes(shape, stride):
    x = count(shape)
    y = darknet_reorg(x, stride)
    assert torch.equal(y.flatten().sort().values, x.flatten())
    assert torch.equal(darknet_reorg_inverse(y, stride), x)
    z = x.reshape(y.shape)
    back = darknet_reorg_inverse(z, stride)
    assert torch.equal(darknet_reorg(back, stride), z)


@pytest.mark.parametrize(
    ("shape", "stride"), [r for r in REORG_SHAPES if r[1] > 1], ids=str
)
def test_darknet_reorg_is_neither_order_of_space_to_depth(shape, stride):
    x = count(shape)
    for order in ORDERS:
        y = space_to_depth(x, stride, order=order)
        assert y.shape == darknet_reorg(x, stride).shape
        assert not torch.equal(y, darknet_reorg(x, stride))


def test_darknet_reorg_tears_every_block_of_a_yolo_input_apart():
    x = count((1, 64, 26, 26))
    pixel = torch.arange(13 * 13.0).reshape(1, 1, 13, 13)
    for reorganize, kept in ((space_to_depth, True), (darknet_reorg, False)):
        places = torch.empty(x.numel())
        # Where, in the 13 × 13 output, each input value has gone.
        places[reorganize(x, 2).long()] = pixel.expand(1, 256, 13, 13)
        blocks = places.reshape(64, 13, 2, 13, 2).permute(0, 1, 3, 2, 4)
        blocks = blocks.flatten(3)
        together = (blocks == blocks[..., :1]).all(-1)
        assert together.all() if kept else not together.any()


def test_darknets_reverse_is_depth_to_space_not_the_inverse_of_reorg():
    n, c, h, w, s = 2, 16, 2, 3, 2
    x = count((n, c, h, w))
    out = reorg_cpu(x.flatten().tolist(), w, h, c, n, s, True)
    reverse = torch.tensor(out).reshape(n, c // s**2, h * s, w * s)
    assert torch.equal(reverse, depth_to_space(x, s, order="offset_major"))
    assert not torch.equal(reverse, darknet_reorg_inverse(x, s))


def test_darknet_sees_one_image_of_4x4_in_four_of_2x2():
    y = darknet_reorg(count((1, 4, 2, 2)), 2)
    corners = [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    assert y.reshape(4, 4).tolist() == corners


@pytest.mark.parametrize(
    "function",
    [
        space_to_depth,
        lambda x, s: space_to_depth(x, s, order="offset_major"),
        depth_to_space,
        lambda x, s: depth_to_space(x, s, order="offset_major"),
        darknet_reorg,
        darknet_reorg_inverse,
    ],
)
def test_each_gradient_goes_back_to_where_its_value_came_from(function):
    x = count((1, 16, 4, 6)).double().requires_grad_()
    y = function(x, 2)
    dy = torch.randn_like(y)
    y.backward(dy)
    source = y.detach().flatten().long()  # values are their own positions
    assert torch.equal(x.grad.flatten()[source], dy.flatten())


def test_every_layout_and_dtype_is_taken():
    x = count((2, 4, 4, 6)).long()
    last = x.to(memory_format=torch.channels_last)
    for function in (space_to_depth, depth_to_space, darknet_reorg):
        y = function(last, 2)
        assert y.dtype == torch.int64
        assert torch.equal(y, function(x, 2))


X = torch.ones(2, 16, 4, 6)
TWO = [space_to_depth, depth_to_space, darknet_reorg, darknet_reorg_inverse]


@pytest.mark.parametrize("function", TWO)
@pytest.mark.parametrize(
    ("x", "stride", "message"),
    [
        (X[0], 2, "`x` has shape (16, 4, 6); it must be (n, c, h, w)"),
        (X, 0, "stride=0 must be >= 1"),
        (X, -2, "stride=-2 must be >= 1"),
    ],
)
def test_bad_input_is_named(function, x, stride, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(x, stride)


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (
            space_to_depth,
            (2, 3, 5, 4),
            "(2, 3, 5, 4): h=5 must be a multiple of 2",
        ),
        (
            space_to_depth,
            (2, 3, 4, 7),
            "(2, 3, 4, 7): w=7 must be a multiple of 2",
        ),
        (
            depth_to_space,
            (2, 6, 4, 4),
            "(2, 6, 4, 4): c=6 must be a multiple of 4",
        ),
        (
            darknet_reorg,
            (2, 4, 5, 4),
            "(2, 4, 5, 4): h=5 must be a multiple of 2",
        ),
        (
            darknet_reorg,
            (2, 4, 4, 7),
            "(2, 4, 4, 7): w=7 must be a multiple of 2",
        ),
        (
            darknet_reorg,
            (2, 6, 4, 4),
            "(2, 6, 4, 4): c=6 must be a multiple of 4",
        ),
        (
            darknet_reorg_inverse,
            (2, 24, 4, 4),
            "(2, 24, 4, 4): c=24 must be a multiple of 16",
        ),
    ],
)
def test_a_size_that_does_not_divide_is_named(function, shape, message):
    with pytest.raises(ValueError, match=re.escape(f"`x` has shape {message}")):
        function(torch.ones(shape), 2)


@pytest.mark.parametrize("function", TWO[:2])
def test_an_unknown_order_raises_an_error_that_lists_the_known(function):
    message = "order='C' must be 'channel_major' or 'offset_major'"
    with pytest.raises(ValueError, match=message):
        function(X, 2, order="C")
