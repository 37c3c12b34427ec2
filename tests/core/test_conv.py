import re
import tracemalloc
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from agree import LAYOUTS, close, laid_out
from snippets.core import conv, conv_transpose, depthwise

# Relative to the sum of the sizes of all terms of a number.
TOLERANCES = {np.float64: 2e-15, np.float32: 1.1e-6}


@dataclass
class Case:
    x: Any
    w: Any
    b: Any
    settings: dict[str, Any]
    block: int
    rng: Any


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def cases(draw, transposed=False, few=False):
    groups = draw(st.integers(1, 3))
    n = draw(st.integers(0, 2 if few else 3))
    # Many output channels for few input channels take a path of their own.
    c_in = groups * draw(st.integers(1, 2 if few else 3))
    c_out = groups * draw(st.sampled_from([1, 2, 3] if few else [1, 2, 3, 8]))
    # At stride 1 the code takes another path.
    s = draw(st.just((1, 1)) | pairs(1, 4))
    k, d = draw(pairs(1, 3 if few else 4)), draw(pairs(1, 4))
    p = draw(pairs(0, 4))
    settings = {"stride": s, "padding": p, "dilation": d, "groups": groups}
    size = []
    for a in (0, 1):
        reach = d[a] * (k[a] - 1) + 1
        if transposed:
            extra = draw(st.integers(0, max(s[a], d[a]) - 1))
            settings.setdefault("output_padding", []).append(extra)
            least = -(-(2 * p[a] + 1 - reach - extra) // s[a]) + 1
        else:
            least = reach - 2 * p[a]
        size.append(max(1, least) + draw(st.integers(0, 2 if few else 7)))
    if transposed:
        settings["output_padding"] = tuple(settings["output_padding"])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (c_in, c_out // groups) if transposed else (c_out, c_in // groups)
    dtype = draw(st.sampled_from(list(TOLERANCES)))
    x, w = (
        rng.standard_normal((n, c_in, *size)),
        rng.standard_normal((*shape, *k)),
    )
    b = rng.standard_normal(c_out).astype(dtype)
    return Case(
        laid_out(x.astype(dtype), draw(LAYOUTS)),
        laid_out(w.astype(dtype), draw(LAYOUTS)),
        b if draw(st.booleans()) else None,
        settings,
        draw(st.sampled_from([1, 3000, 1 << 20])),
        rng,
    )


def by_torch(function, dy, x, w, b, settings):
    """Return output and gradients in double precision."""
    leaves = [
        torch.tensor(a.astype(float, "C"), requires_grad=True)
        for a in (x, w, b)
    ]
    y = function(*leaves, **settings)
    gradients = torch.autograd.grad(y, leaves, torch.tensor(dy.astype(float)))
    return [a.detach().numpy() for a in (y, *gradients)]


def agrees_with_torch(case, forward, backward, theirs):
    x, w, b, settings = case.x, case.w, case.b, case.settings
    before = x.copy(), w.copy()
    with patch.object(conv, "BLOCK", case.block):
        y = forward(x, w, b, **settings)
        dy = case.rng.standard_normal(y.shape).astype(x.dtype)
        results = [y, *backward(laid_out(dy, "read-only"), x, w, **settings)]
    b = np.zeros(y.shape[1]) if b is None else b
    expected = by_torch(theirs, dy, x, w, b, settings)
    sizes = by_torch(theirs, *(np.abs(a) for a in (dy, x, w, b)), settings)
    for ours, truth, size in zip(results, expected, sizes, strict=True):
        assert ours.dtype == x.dtype
        close(np.float64(ours), truth, TOLERANCES[x.dtype.type], size)
        assert ours.flags.c_contiguous
        assert ours.flags.writeable
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


@given(cases())
def test_conv2d_and_its_gradients_equal_torch(case):
    agrees_with_torch(case, conv.conv2d, conv.conv2d_backward, F.conv2d)


@given(cases(few=True))
def test_reference_and_its_gradients_equal_torch(case):
    agrees_with_torch(
        case,
        conv.conv2d_reference,
        conv.conv2d_backward_reference,
        F.conv2d,
    )


@given(cases(transposed=True))
def test_conv_transpose2d_and_its_gradients_equal_torch(case):
    agrees_with_torch(
        case,
        conv_transpose.conv_transpose2d,
        conv_transpose.conv_transpose2d_backward,
        F.conv_transpose2d,
    )


@given(cases(transposed=True, few=True))
def test_transposed_reference_equals_torch(case):
    agrees_with_torch(
        case,
        conv_transpose.conv_transpose2d_reference,
        conv_transpose.conv_transpose2d_backward,
        F.conv_transpose2d,
    )


@given(case=cases())
def test_stamping_alone_agrees_with_torch(case):
    with patch.object(conv, "_spread", conv._stamp):
        agrees_with_torch(case, conv.conv2d, conv.conv2d_backward, F.conv2d)


@given(case=cases(), channels=st.integers(1, 5), left_out=st.booleans())
def test_depthwise_gradients_equal_torch(case, channels, left_out):
    case.x = np.repeat(case.x[:, :1], channels, 1)
    case.w = np.repeat(case.w[:1, :1], channels, 0)
    case.settings["groups"], case.b = channels, None

    def backward(dy, x, w, groups, **settings):
        function = depthwise.depthwise_conv2d_backward
        dx, dw, db = function(dy, x, w, **settings)
        if left_out:
            nothing, dw, db = function(
                dy, x, w, **settings, input_gradient=False
            )
            assert nothing is None
        return dx, dw, db

    with patch.object(depthwise, "BLOCK", case.block):
        agrees_with_torch(case, conv.conv2d, backward, F.conv2d)


def test_kernels_of_more_than_one_channel_are_not_depthwise():
    message = "`w` has shape (4, 2, 3, 3); it must be (…, 1, kh, kw)"
    function = depthwise.depthwise_conv2d_backward
    arguments = {"x": np.ones((2, 8, 5, 6)), "w": W[:4, :2]}
    is_named(ValueError, message, function, dy=DY, **arguments, padding=0)


@given(case=cases(), transposed=st.booleans())
def test_gradient_of_the_input_can_be_left_out(case, transposed):
    forward, backward = conv.conv2d, conv.conv2d_backward
    if transposed:
        forward = conv_transpose.conv_transpose2d
        backward = conv_transpose.conv_transpose2d_backward
        case.w = laid_out(case.w.swapaxes(0, 1), "plain")
        case.settings |= {"groups": 1, "padding": 0}
        case.x = np.repeat(case.x[:, :1], len(case.w), 1)
    y = forward(case.x, case.w, **case.settings)
    dy = case.rng.standard_normal(y.shape).astype(y.dtype)
    dx, dw, db = backward(dy, case.x, case.w, **case.settings)
    nothing, *others = backward(
        dy, case.x, case.w, **case.settings, input_gradient=False
    )
    assert dx.shape == case.x.shape
    assert nothing is None
    # Left alone, dw may be summed in another order.
    close(others[0], dw, 6e-6 if dw.dtype == np.float32 else 1.6e-14)
    np.testing.assert_array_equal(others[1], db)


def test_settings_may_be_numpy_integers_and_lists():
    x, w = np.ones((1, 2, 5, 6)), np.ones((2, 1, 3, 3))
    expected = conv.conv2d(x, w, stride=(2, 1), padding=1, groups=2)
    ours = conv.conv2d(
        x, w, stride=[2, 1], padding=np.int64(1), groups=np.int8(2)
    )
    close(ours, expected, 0)


def test_kernel_is_not_flipped():
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    w = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert conv.conv2d(x, w).item() == 0 * 1 + 1 * 2 + 2 * 3 + 3 * 4
    assert conv.conv2d_reference(x, w).item() == 20


def test_kernel_as_large_as_the_padded_input_fits():
    y = conv.conv2d(X, np.ones((8, 4, 7, 8)), padding=1)
    assert y.shape == (2, 8, 1, 1)
    assert (y == 4 * 5 * 6).all()


def test_transposed_output_of_one_pixel_is_allowed():
    w = np.ones((4, 8, 3, 3))
    y = conv_transpose.conv_transpose2d(X, w, padding=(3, 3))
    assert y.shape == (2, 8, 1, 2)


@pytest.mark.parametrize(
    ("shape", "out_channels", "k", "settings", "most"),
    [  # in megabytes, forward and backward, as before the last rewrite
        ((64, 1, 28, 28), 6, 5, {"padding": 2}, (2.4, 1.7)),
        ((8, 3, 224, 224), 64, 11, {"stride": 4, "padding": 2}, (8.5, 12.5)),
        ((4, 64, 112, 112), 64, 3, {"padding": 1}, (20.5, 20.8)),
        ((8, 256, 56, 56), 64, 1, {}, (7.5, 26.6)),
        ((8, 128, 56, 56), 128, 3, {"stride": 2, "padding": 1}, (7.6, 15.6)),
        ((4, 256, 28, 28), 256, 3, {"padding": 1}, (6.1, 10.8)),
        ((4, 64, 56, 56), 64, 3, {"padding": 1, "groups": 64}, (6, 6)),
    ],
)
def test_memory_beyond_the_arguments_stays_small(
    shape, out_channels, k, settings, most
):
    x = np.ones(shape, np.float32)
    depth = shape[1] // settings.get("groups", 1)
    w = np.ones((out_channels, depth, k, k), np.float32)
    dy = conv.conv2d(x, w, **settings)
    for run, megabytes in zip(
        (
            lambda: conv.conv2d(x, w, **settings),
            lambda: conv.conv2d_backward(dy, x, w, **settings),
        ),
        most,
        strict=True,
    ):
        tracemalloc.start()
        run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= megabytes * 1.02e6


X = np.ones((2, 4, 5, 6))
W = np.ones((8, 4, 3, 3))
DY = np.ones((2, 8, 3, 4))
KINDS = "it must hold float32 or float64, in native byte order"


def is_named(error, message, function, **arguments):
    with pytest.raises(error, match="^" + re.escape(message)):
        function(**arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": X.tolist()}, "`x` is a list; it must be a plain NumPy array"),
        ({"x": np.ma.array(X)}, "`x` is a MaskedArray; it must be a plain"),
        ({"x": X.astype(int)}, f"`x` holds int64; {KINDS}"),
        ({"x": np.float16(X)}, f"`x` holds float16; {KINDS}"),
        ({"x": X.astype(X.dtype.newbyteorder())}, "`x` holds "),
        ({"w": W.astype(int)}, f"`w` holds int64; {KINDS}"),
        (
            {"w": np.float32(W)},
            "`w` holds float32; it must hold float64, as `x` does",
        ),
        ({"b": [0.0] * 8}, "`b` is a list; it must be a plain NumPy array"),
        ({"b": np.ones(8, int)}, f"`b` holds int64; {KINDS}"),
        ({"groups": True}, "`groups=True` must be an integer"),
        ({"groups": 1.0}, "`groups=1.0` must be an integer"),
        ({"stride": 1.0}, "`stride=1.0` must be one or two integers"),
        ({"stride": True}, "`stride=True` must be one or two integers"),
        ({"stride": (1, 2, 3)}, "`stride=(1, 2, 3)` must be one or two"),
        ({"stride": (1, True)}, "`stride=(1, True)` must be one or two"),
        ({"padding": "same"}, "`padding='same'` must be one or two"),
        ({"padding": None}, "`padding=None` must be one or two"),
    ],
)
def test_input_of_another_type_is_named(changed, message):
    is_named(TypeError, message, conv.conv2d, **{"x": X, "w": W, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"x": X[0]},
            "`x` has shape (4, 5, 6); it must have the axes (n, in_channels, "
            "h, w), and only n may be 0",
        ),
        ({"w": W[0]}, "`w` has shape (4, 3, 3); it must have the axes (out_"),
        ({"x": X[:, :, :0], "padding": 1}, "`x` has shape (2, 4, 0, 6); it"),
        ({"w": W[:, :, :0]}, "`w` has shape (8, 4, 0, 3); it must have"),
        ({"w": W[:0]}, "`w` has shape (0, 4, 3, 3); it must have the axes"),
        ({"b": np.ones((8, 1))}, "`b` has shape (8, 1); it must be (8,)"),
        ({"b": np.ones(7)}, "`b` has shape (7,); it must be (8,)"),
        ({"stride": 0}, "`stride=0` must be at least 1"),
        ({"stride": (1, 0)}, "`stride=(1, 0)` must be at least 1"),
        ({"dilation": 0}, "`dilation=0` must be at least 1"),
        ({"padding": (-1, 0)}, "`padding=(-1, 0)` must be at least 0"),
        ({"groups": 0}, "`groups=0` must be at least 1"),
        ({"groups": 3}, "`groups=3` does not divide in_channels=4"),
        (
            {"groups": 4, "w": np.ones((6, 1, 3, 3))},
            "`groups=4` does not divide out_channels=6",
        ),
        (
            {"w": np.ones((8, 3, 3, 3))},
            "`x` has 4 channels; `w` of shape (8, 3, 3, 3) with groups=1 needs "
            "3",
        ),
        ({"groups": 2}, "`x` has 4 channels; `w` of shape (8, 4, 3, 3) with "
                        "groups=2 needs 8"),
        (
            {"w": np.ones((8, 4, 6, 3))},
            "`w` covers 6×3 pixels with dilation=(1, 1); the padded input has "
            "only 5×6",
        ),
        ({"dilation": (1, 3), "padding": 0}, "`w` covers 3×7 pixels"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named(changed, message):
    is_named(ValueError, message, conv.conv2d, **{"x": X, "w": W, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": 3}, "`groups=3` does not divide in_channels=4"),
        (
            {"w": np.ones((3, 8, 3, 3))},
            "`x` has 4 channels; `w` of shape (3, 8, 3, 3) needs 3",
        ),
        ({"w": np.ones((4, 8, 3, 0))}, "`w` has shape (4, 8, 3, 0); it must "
                                       "have the axes (in_channels, out_"),
        ({"x": X[..., :0]}, "`x` has shape (2, 4, 5, 0); it must have"),
        ({"b": np.ones(7)}, "`b` has shape (7,); it must be (8,)"),
        ({"groups": 2, "b": np.ones(8)}, "`b` has shape (8,); it must be (16"),
        ({"stride": 0}, "`stride=0` must be at least 1"),
        ({"padding": -1}, "`padding=-1` must be at least 0"),
        ({"dilation": 0}, "`dilation=0` must be at least 1"),
        (
            {"output_padding": (0, 1)},
            "`output_padding=(0, 1)` must be less than the larger of "
            "stride=(1, 1) and dilation=(1, 1)",
        ),
        ({"output_padding": -1}, "`output_padding=-1` must be at least 0"),
        (
            {"padding": (0, 4)},
            "`padding=(0, 4)` leaves nothing of the output: its size would be "
            "7×0 for an input of 5×6",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_a_transposed_convolution_are_named(
    changed, message
):
    arguments = {"x": X, "w": W.swapaxes(0, 1), **changed}
    function = conv_transpose.conv_transpose2d
    is_named(ValueError, message, function, **arguments)


@pytest.mark.parametrize(
    "function",
    [
        conv.conv2d_reference,
        conv.conv2d_backward,
        conv.conv2d_backward_reference,
        conv_transpose.conv_transpose2d_reference,
        conv_transpose.conv_transpose2d_backward,
    ],
)
def test_every_function_checks_its_settings_and_arrays(function):
    transposed = "transpose" in function.__name__
    arguments = {"x": X, "w": W.swapaxes(0, 1) if transposed else W}
    if "backward" in function.__name__:
        arguments["dy"] = np.ones((2, 8, 7, 8)) if transposed else DY
        message = "`dy` has shape (2, 8, 1, 1); it must be (2, 8, "
        changed = {**arguments, "dy": DY[:, :, :1, :1]}
        is_named(ValueError, message, function, **changed)
        message = "`dy` holds float32; it must hold float64, as `x` does"
        changed = {**arguments, "dy": np.float32(arguments["dy"])}
        is_named(TypeError, message, function, **changed)
    else:
        message = "`b` has shape (1,); it must be (8,)"
        changed = {**arguments, "b": np.ones(1)}
        is_named(ValueError, message, function, **changed)
    for name in ("stride", "dilation", "groups"):
        message = f"`{name}=0` must be at least 1"
        is_named(ValueError, message, function, **{**arguments, name: 0})
    message = "`padding=-1` must be at least 0"
    is_named(ValueError, message, function, **arguments, padding=-1)
