import itertools
import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from snippets.modules.upsampling import (
    bilinear,
    conv_transpose,
    nearest,
    pixel_shuffle,
)

# Sizes before and after: equal, up, down, by no integer, from and to one.
PAIRS = [(4, 4), (3, 6), (8, 4), (5, 7), (7, 5), (9, 2), (1, 5), (5, 1), (1, 1)]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def assert_same(ours, theirs, *inputs):
    """Compare values and the gradients of all inputs."""
    y, expected = ours(*inputs), theirs(*inputs)
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    dy = torch.randn_like(expected)
    found, expected = (
        [a, *torch.autograd.grad(a, inputs, dy)] for a in (y, expected)
    )
    tolerance = 1e-12 if y.dtype == torch.float64 else 1e-5
    for a, b in zip(found, expected, strict=True):
        atol = tolerance * max(1, b.abs().max().item())
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@DTYPES
@pytest.mark.parametrize("down", PAIRS, ids=str)
@pytest.mark.parametrize("along", PAIRS, ids=str)
def test_nearest_and_bilinear_equal_torchs(down, along, dtype):
    (h, oh), (w, ow) = down, along
    x, size = draw(2, 3, h, w, dtype=dtype), (oh, ow)
    assert_same(
        lambda x: nearest(x, size=size),
        lambda x: F.interpolate(x, size, mode="nearest"),
        x,
    )
    for corners in (True, False):
        options = {"align_corners": corners}
        assert_same(
            lambda x, o=options: bilinear(x, size, **o),
            lambda x, o=options: F.interpolate(x, size, mode="bilinear", **o),
            x,
        )


@DTYPES
def test_nearest_takes_the_columns_that_torch_takes(dtype):
    for size in range(1, 100):
        x = torch.arange(size, dtype=dtype).reshape(1, 1, 1, size)
        for out in range(1, 100):
            y = F.interpolate(x, (1, out), mode="nearest")
            assert torch.equal(nearest(x, size=(1, out)), y)


@DTYPES
def test_nearest_rounds_where_its_docstring_says(dtype):
    x = torch.arange(2, dtype=dtype).reshape(1, 1, 2, 1)
    for y in (
        nearest(x, size=(82, 1)),
        nearest(x, scale=(41, 1)),
        F.interpolate(x, scale_factor=(41.0, 1.0), mode="nearest"),
    ):
        assert y.flatten().tolist() == [0] * 42 + [1] * 40


@pytest.mark.parametrize("scale", [1, 2, 3, (2, 5), 16])
def test_nearest_by_a_scale_repeats_rows_and_columns(scale):
    x = draw(2, 3, 4, 2)
    sh, sw = scale if isinstance(scale, tuple) else (scale, scale)

    def theirs(x):
        return x.repeat_interleave(sh, 2).repeat_interleave(sw, 3)

    assert_same(lambda x: nearest(x, scale=scale), theirs, x)


def test_nearest_takes_integers():
    x = torch.arange(4).reshape(1, 1, 2, 2)
    y = nearest(x, size=4)
    assert y.dtype == torch.int64
    assert y[0, 0].tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


def test_bilinear_in_half_precision_stays_near():
    x = torch.randn(2, 3, 5, 300).bfloat16()
    expected = F.interpolate(x.float(), (9, 700), mode="bilinear")
    y = bilinear(x, (9, 700))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.05)


def test_bilinear_with_aligned_corners_keeps_a_slope_to_the_edge():
    x = torch.arange(3.0).expand(1, 1, 2, 3)
    y = bilinear(x, (2, 5), align_corners=True)
    assert y[0, 0].tolist() == [[0, 0.5, 1, 1.5, 2]] * 2
    y = bilinear(x, (2, 6))
    assert y[0, 0].tolist() == [[0, 0.25, 0.75, 1.25, 1.75, 2]] * 2


SETTINGS = [
    {},
    {"stride": 2},
    {"stride": (1, 3), "padding": (1, 2)},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": (2, 3), "output_padding": (1, 2), "padding": (0, 3)},
    {"dilation": 2, "output_padding": 1},
    {"stride": 2, "dilation": (1, 3), "padding": (1, 4)},
    {"stride": 4, "groups": 2},
    {"stride": 2, "groups": 4, "padding": 1},
]


@DTYPES
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kernel_size", [(3, 3), (3, 4), (4, 5)], ids=str)
@pytest.mark.parametrize("size", [(3, 4), (1, 5), (6, 2)], ids=str)
def test_conv_transpose_equals_torchs(size, kernel_size, settings, dtype):
    groups = settings.get("groups", 1)
    x = draw(2, 4, *size, dtype=dtype)
    w = draw(4, 6 // groups if groups < 4 else 2, *kernel_size, dtype=dtype)
    b = draw(groups * w.shape[1], dtype=dtype)
    for inputs in ((x, w), (x, w, b)):
        assert_same(
            lambda *a: conv_transpose(*a, **settings),
            lambda *a: F.conv_transpose2d(*a, **settings),
            *inputs,
        )


def test_conv_transpose_is_the_gradient_of_the_convolution():
    x, w = draw(2, 3, 9, 9), draw(5, 3, 3, 4)
    y = F.conv2d(x, w, stride=2, padding=1)
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    back = conv_transpose(dy, w, stride=2, padding=1, output_padding=(0, 1))
    torch.testing.assert_close(back, dx)


def test_conv_transpose_stamps_the_kernel_once_for_each_pixel():
    x = torch.tensor([[[[1.0, 10.0]]]])
    w = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    y = conv_transpose(x, w, stride=2)
    assert y.flatten().tolist() == [1, 2, 3 + 10, 20, 30]


def test_pixel_shuffle_equals_torchs():
    for factor, size in itertools.product([1, 2, 3], [(2, 3), (1, 1), (4, 1)]):
        x = draw(2, 3 * factor**2, *size)
        assert_same(
            lambda x, f=factor: pixel_shuffle(x, f),
            lambda x, f=factor: F.pixel_shuffle(x, f),
            x,
        )


FUNCTIONS = {
    "nearest": lambda x: nearest(x, size=(5, 2)),
    "nearest scale": lambda x: nearest(x, scale=(2, 3)),
    "bilinear": lambda x: bilinear(x, (5, 2)),
    "bilinear aligned": lambda x: bilinear(x, (2, 5), align_corners=True),
    "conv_transpose": lambda x: conv_transpose(
        x, torch.ones(4, 2, 3, 2).to(x), stride=2, padding=1
    ),
    "pixel_shuffle": lambda x: pixel_shuffle(x, 2),
}
functions = pytest.mark.parametrize(
    "function", FUNCTIONS.values(), ids=list(FUNCTIONS)
)


@functions
def test_gradients_equal_finite_differences(function):
    x = draw(1, 4, 3, 4)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_gradients_of_kernel_and_bias_equal_finite_differences():
    def function(x, w, b):
        return conv_transpose(x, w, b, stride=2, dilation=2, groups=2)

    inputs = draw(1, 4, 2, 2), draw(4, 1, 2, 2), draw(2)
    assert torch.autograd.gradcheck(function, inputs)


@functions
def test_an_empty_batch_gives_an_empty_batch(function):
    y = function(draw(0, 4, 3, 4))
    assert y.shape == (0, *function(draw(2, 4, 3, 4)).shape[1:])
    y.sum().backward()


@functions
def test_layout_of_the_input_changes_nothing(function):
    x = draw(2, 4, 3, 4)
    last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(function(last), function(x))


X, W = torch.ones(2, 4, 3, 3), torch.ones(4, 2, 3, 3)


@functions
@pytest.mark.parametrize(
    "shape", [(4, 3, 3), (2, 4, 0, 3), (2, 4, 3, 0), (2, 0, 3, 3)]
)
def test_a_wrong_shape_is_named(function, shape):
    message = f"`x` has shape {shape}; it must be (n, c, h, w) with c, h and w"
    with pytest.raises(ValueError, match=re.escape(message)):
        function(torch.ones(shape))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nearest(X),
            ValueError,
            "size=None, scale=None: one of the two",
        ),
        (
            lambda: nearest(X, size=4, scale=2),
            ValueError,
            "size=4, scale=2: one of",
        ),
        (lambda: nearest(X, size=0), ValueError, "`size=0` must be one or two"),
        (
            lambda: nearest(X, scale=0),
            ValueError,
            "`scale=0` must be one or two",
        ),
        (
            lambda: nearest(X, scale=1.5),
            TypeError,
            "`scale=1.5` must be one or two",
        ),
        (
            lambda: nearest(X, size=(4, 4, 4)),
            ValueError,
            "`size=(4, 4, 4)` must be",
        ),
        (
            lambda: bilinear(X, (4, 0)),
            ValueError,
            "`size=(4, 0)` must be one or two",
        ),
        (lambda: bilinear(X, 4.0), TypeError, "`size=4.0` must be one or two"),
        (
            lambda: bilinear(X.long(), 4),
            TypeError,
            "`x` holds torch.int64; it must",
        ),
        (
            lambda: conv_transpose(X, W[:3]),
            ValueError,
            "`w` has shape (3, 2, 3, 3); it must be (4, out/groups",
        ),
        (
            lambda: conv_transpose(X, W[0]),
            ValueError,
            "`w` has shape (2, 3, 3); it must",
        ),
        (
            lambda: conv_transpose(X, W[:, :0]),
            ValueError,
            "`w` has shape (4, 0, 3, 3); it",
        ),
        (
            lambda: conv_transpose(X, W.double()),
            TypeError,
            "`w` holds torch.float64; it must hold torch.float32",
        ),
        (
            lambda: conv_transpose(X, W, W[0, 0, 0].double()),
            TypeError,
            "`b` holds torch.float64; it must hold torch.float32",
        ),
        (
            lambda: conv_transpose(X, W, W[0, 0, 0]),
            ValueError,
            "`b` has shape (3,); it must be (2,)",
        ),
        (
            lambda: conv_transpose(X, W, W[0, 0, 0], groups=2),
            ValueError,
            "`b` has shape (3,); it must be (4,)",
        ),
        (
            lambda: conv_transpose(X, W, groups=3),
            ValueError,
            "groups=3 must divide the 4 channels",
        ),
        (
            lambda: conv_transpose(X, W, groups=0),
            ValueError,
            "groups=0 must divide the 4",
        ),
        (
            lambda: conv_transpose(X, W, stride=0),
            ValueError,
            "`stride=0` must be one or two",
        ),
        (
            lambda: conv_transpose(X, W, dilation=(1, 0)),
            ValueError,
            "`dilation=(1, 0)` must",
        ),
        (
            lambda: conv_transpose(X, W, padding=-1),
            ValueError,
            "`padding=-1` must be one or two integers >= 0",
        ),
        (
            lambda: conv_transpose(X, W, output_padding=-1),
            ValueError,
            "`output_padding=-1` must",
        ),
        (
            lambda: conv_transpose(X, W, output_padding=1),
            ValueError,
            "output_padding=1 must be below stride=1 or dilation=1",
        ),
        (
            lambda: conv_transpose(X, W, stride=(2, 1), output_padding=1),
            ValueError,
            "output_padding=1 must be below stride=(2, 1) or dilation=1",
        ),
        (
            lambda: conv_transpose(X, W, padding=3),
            ValueError,
            "padding=3 cuts all of 5 × 5 off",
        ),
        (
            lambda: conv_transpose(X, W, padding=(0, 3)),
            ValueError,
            "padding=(0, 3) cuts all of 5 × 5 off",
        ),
        (
            lambda: conv_transpose(X, W, padding=(3, 0)),
            ValueError,
            "padding=(3, 0) cuts all of 5 × 5 off",
        ),
        (
            lambda: conv_transpose(X, W[:, :, :2], padding=(2, 0)),
            ValueError,
            "padding=(2, 0) cuts all of 4 × 5 off",
        ),
        (
            lambda: conv_transpose(X, W[..., :2], padding=(0, 2)),
            ValueError,
            "padding=(0, 2) cuts all of 5 × 4 off",
        ),
        (
            lambda: conv_transpose(X, W, stride=(1, 2), output_padding=1),
            ValueError,
            "output_padding=1 must be below stride=(1, 2) or dilation=1",
        ),
        (
            lambda: pixel_shuffle(X, 3),
            ValueError,
            "factor=3 must be >= 1, and its square divide the 4 channels",
        ),
        (
            lambda: pixel_shuffle(X[:, :2], 2),
            ValueError,
            "factor=2 must be >= 1, and its square divide the 2 channels",
        ),
        (lambda: pixel_shuffle(X, 0), ValueError, "factor=0 must be >= 1"),
    ],
)
def test_a_bad_setting_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
