import re
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from snippets.core import conv


@dataclass
class Case:
    x: Any
    w: Any
    b: Any
    settings: dict[str, Any]
    block: int
    rng: Any


def laid_out(a, layout):
    """Return the same values as a view that is not contiguous, or read-only."""
    if layout == "reversed":
        return a[..., ::-1, ::-1].copy()[..., ::-1, ::-1]
    if layout == "transposed":
        return a.swapaxes(0, -1).copy().swapaxes(0, -1)
    if layout == "read-only":
        a = a.copy()
        a.flags.writeable = False
    return a


LAYOUTS = st.sampled_from(["plain", "reversed", "transposed", "read-only"])


@st.composite
def cases(draw, transposed=False, few=False):
    def pair(low, high):
        pairs = st.tuples(st.integers(low, high), st.integers(low, high))
        return draw(pairs)

    groups = draw(st.integers(1, 3))
    n = draw(st.integers(0, 2 if few else 3))
    # Many output channels for few input channels take a path of their own.
    c_in = groups * draw(st.integers(1, 2 if few else 3))
    c_out = groups * draw(st.sampled_from([1, 2, 3] if few else [1, 2, 3, 8]))
    k, s, d, p = pair(1, 3 if few else 4), pair(1, 4), pair(1, 4), pair(0, 4)
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
    w = rng.standard_normal((*shape, *k))
    b = rng.standard_normal(c_out) if draw(st.booleans()) else None
    return Case(
        laid_out(rng.standard_normal((n, c_in, *size)), draw(LAYOUTS)),
        laid_out(w, draw(LAYOUTS)),
        b,
        settings,
        draw(st.sampled_from([1, 3000, 1 << 20])),
        rng,
    )


def close(ours, theirs, tolerance=1e-10):
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def agrees_with_torch(case, forward, backward, theirs):
    leaves = [
        None if a is None else torch.tensor(a.copy(), requires_grad=True)
        for a in (case.x, case.w, case.b)
    ]
    expected = theirs(*leaves, **case.settings)
    dy = case.rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    before = case.x.copy(), case.w.copy()
    with patch.object(conv, "BLOCK", case.block):
        y = forward(case.x, case.w, case.b, **case.settings)
        dx, dw, db = backward(
            laid_out(dy, "read-only"), case.x, case.w, **case.settings
        )
    close(y, expected)
    close(dx, leaves[0].grad)
    close(dw, leaves[1].grad)
    close(db, dy.sum((0, 2, 3)) if case.b is None else leaves[2].grad)
    for result in (y, dx, dw, db):
        assert result.flags.c_contiguous
        assert result.flags.writeable
    np.testing.assert_array_equal(case.x, before[0])
    np.testing.assert_array_equal(case.w, before[1])


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
        conv.conv_transpose2d,
        conv.conv_transpose2d_backward,
        F.conv_transpose2d,
    )


@given(cases(transposed=True, few=True))
def test_transposed_reference_equals_torch(case):
    agrees_with_torch(
        case,
        conv.conv_transpose2d_reference,
        conv.conv_transpose2d_backward,
        F.conv_transpose2d,
    )


@pytest.mark.parametrize("path", ["_stamp", "_gather"])
@given(case=cases())
def test_both_ways_to_spread_a_gradient_agree_with_torch(path, case):
    with patch.object(conv, "_spread", getattr(conv, path)):
        agrees_with_torch(case, conv.conv2d, conv.conv2d_backward, F.conv2d)


@pytest.mark.parametrize("transposed", [False, True])
@given(data=st.data())
def test_gradients_equal_finite_differences(transposed, data):
    case = data.draw(cases(transposed=transposed, few=True))
    forward = conv.conv_transpose2d if transposed else conv.conv2d
    backward = (
        conv.conv_transpose2d_backward if transposed else conv.conv2d_backward
    )
    b = np.zeros(1) if case.b is None else case.b
    b = np.resize(b, forward(case.x, case.w, **case.settings).shape[1])
    arrays = [case.x, case.w, b]
    dy = case.rng.standard_normal(forward(*arrays, **case.settings).shape)
    gradients = backward(dy, case.x, case.w, **case.settings)
    for i, gradient in enumerate(gradients):
        step = case.rng.standard_normal(arrays[i].shape) * 1e-3

        def loss(sign, i=i, step=step):
            moved = list(arrays)
            moved[i] = arrays[i] + sign * step
            return np.sum(dy * forward(*moved, **case.settings))

        # The layer is linear in each: the central difference has no error
        # but rounding.
        slope = (loss(1) - loss(-1)) / 2
        assert slope == pytest.approx(np.sum(gradient * step), abs=1e-11)


@given(cases())
def test_transposed_convolution_is_the_adjoint_of_convolution(case):
    settings = case.settings
    y = conv.conv2d(case.x, case.w, **settings)
    dy = case.rng.standard_normal(y.shape)
    extra = tuple(
        (case.x.shape[a + 2] + 2 * settings["padding"][a]
         - settings["dilation"][a] * (case.w.shape[a + 2] - 1) - 1)
        % settings["stride"][a]
        for a in (0, 1)
    )  # fmt: skip
    back = conv.conv_transpose2d(dy, case.w, output_padding=extra, **settings)
    assert np.sum(y * dy) == pytest.approx(np.sum(case.x * back), abs=1e-9)


@pytest.mark.parametrize("transposed", [False, True])
@given(data=st.data())
def test_float32_stays_float32_and_within_its_rounding(transposed, data):
    case = data.draw(cases(transposed=transposed))
    forward = conv.conv_transpose2d if transposed else conv.conv2d
    backward = (
        conv.conv_transpose2d_backward if transposed else conv.conv2d_backward
    )
    x, w = (np.float32(a) for a in (case.x, case.w))
    b = None if case.b is None else np.float32(case.b)
    wide = [None if a is None else np.float64(a) for a in (x, w, b)]
    y = forward(x, w, b, **case.settings)
    dy = np.float32(case.rng.standard_normal(y.shape))
    results = [y, *backward(dy, x, w, **case.settings)]
    exact = [
        forward(*wide, **case.settings),
        *backward(np.float64(dy), *wide[:2], **case.settings),
    ]
    magnitudes = [None if a is None else np.abs(a) for a in wide]
    terms = [
        forward(*magnitudes, **case.settings),
        *backward(np.abs(np.float64(dy)), *magnitudes[:2], **case.settings),
    ]
    for ours, truth, size in zip(results, exact, terms, strict=True):
        assert ours.dtype == np.float32
        # No sum here has more than a few hundred terms.
        assert (np.abs(ours - truth) <= 1e-5 * size).all()


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


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (conv.conv2d, [(0, 4, 3, 4)]),
        (conv.conv2d_reference, [(0, 4, 3, 4)]),
        (conv.conv_transpose2d, [(0, 4, 7, 8)]),
        (conv.conv_transpose2d_reference, [(0, 4, 7, 8)]),
        (conv.conv2d_backward, [(0, 4, 5, 6), (4, 4, 3, 3), (4,)]),
        (conv.conv2d_backward_reference, [(0, 4, 5, 6), (4, 4, 3, 3), (4,)]),
        (conv.conv_transpose2d_backward, [(0, 4, 5, 6), (4, 4, 3, 3), (4,)]),
    ],
)
def test_empty_batch_gives_empty_results(function, sizes):
    x, w = np.zeros((0, 4, 5, 6), np.float32), np.ones((4, 4, 3, 3), np.float32)
    if "backward" in function.__name__:
        out = (7, 8) if "transpose" in function.__name__ else (3, 4)
        results = function(np.zeros((0, 4, *out), np.float32), x, w)
        assert [r.shape for r in results] == sizes
        assert not results[1].any()
        assert not results[2].any()
    else:
        assert function(x, w).shape == sizes[0]


X = np.ones((2, 4, 5, 6))
W = np.ones((8, 4, 3, 3))
ERRORS = [
    ({"x": X.tolist()}, TypeError, "`x` is a list; it must be a NumPy array"),
    ({"x": X.astype(int)}, TypeError, "`x` holds int64; it must hold floats"),
    ({"x": X.astype(object)}, TypeError, "`x` holds object"),
    ({"x": X.astype(complex)}, TypeError, "`x` holds complex128"),
    ({"w": W.astype(int)}, TypeError, "`w` holds int64; it must hold floats"),
    (
        {"w": W.astype(np.float32)},
        TypeError,
        "`w` holds float32; it must hold float64, as `x` does",
    ),
    ({"b": np.ones(8, int)}, TypeError, "`b` holds int64"),
    ({"b": [0.0] * 8}, TypeError, "`b` is a list"),
    (
        {"x": X[0]},
        ValueError,
        "`x` has shape (4, 5, 6); it must have the axes (n, in_channels, h, w)",
    ),
    ({"w": W[0]}, ValueError, "`w` has shape (4, 3, 3); it must have the axes"),
    ({"b": np.ones((8, 1))}, ValueError, "`b` has shape (8, 1); it must"),
    ({"b": np.ones(7)}, ValueError, "`b` has length 7; it must have out_chan"),
    ({"stride": 0}, ValueError, "`stride=0` must be at least 1"),
    ({"stride": (1, 0)}, ValueError, "`stride=(1, 0)` must be at least 1"),
    ({"dilation": 0}, ValueError, "`dilation=0` must be at least 1"),
    ({"padding": (-1, 0)}, ValueError, "`padding=(-1, 0)` must be at least 0"),
    ({"groups": 0}, ValueError, "`groups=0` must be at least 1"),
    ({"groups": True}, TypeError, "`groups=True` must be an integer"),
    ({"groups": 1.0}, TypeError, "`groups=1.0` must be an integer"),
    ({"stride": 1.0}, TypeError, "`stride=1.0` is neither an integer nor"),
    ({"stride": True}, TypeError, "`stride=True` is neither an integer nor"),
    ({"stride": (1, 2, 3)}, TypeError, "`stride=(1, 2, 3)` is neither"),
    ({"stride": (1, True)}, TypeError, "`stride=(1, True)` is neither"),
    ({"padding": "same"}, TypeError, "`padding='same'` is neither"),
    ({"padding": None}, TypeError, "`padding=None` is neither"),
]


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


FUNCTIONS = [
    conv.conv2d,
    conv.conv2d_reference,
    conv.conv_transpose2d,
    conv.conv_transpose2d_reference,
    conv.conv2d_backward,
    conv.conv2d_backward_reference,
    conv.conv_transpose2d_backward,
]


@pytest.mark.parametrize(
    ("function", "changed", "error", "message"),
    [
        (function, *case)
        for function in FUNCTIONS
        for case in ERRORS
        # The way back takes no bias.
        if not ("b" in case[0] and "backward" in function.__name__)
    ],
)
def test_bad_input_is_named(function, changed, error, message):
    arguments = {"x": X, "w": W, **changed}
    if "transpose" in function.__name__ and "w" not in changed:
        arguments["w"] = W.swapaxes(0, 1)
    if "backward" in function.__name__:
        arguments["dy"] = np.ones((2, 8, 3, 4))
    with raises(error, message):
        function(**arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": 3}, "`groups=3` does not divide in_channels=4"),
        ({"groups": 4, "w": np.ones((6, 1, 3, 3))}, "out_channels=6"),
        (
            {"w": np.ones((8, 3, 3, 3))},
            "`x` has 4 channels; `w` of shape (8, 3, 3, 3) with groups=1 needs "
            "3",
        ),
        ({"groups": 2}, "with groups=2 needs 8"),
        ({"w": np.ones((8, 4, 0, 3))}, "`w` has shape (8, 4, 0, 3); no axis"),
        ({"w": np.ones((0, 4, 3, 3))}, "`w` has shape (0, 4, 3, 3); no axis"),
        (
            {"w": np.ones((8, 4, 6, 3))},
            "`w` covers 6×3 pixels with dilation=(1, 1); the padded input has "
            "only 5×6",
        ),
        ({"dilation": (1, 3), "padding": 0}, "`w` covers 3×7 pixels"),
    ],
)
def test_shapes_that_do_not_fit_a_convolution_are_named(changed, message):
    for function in (conv.conv2d, conv.conv2d_reference):
        with raises(ValueError, message):
            function(**{"x": X, "w": W, **changed})


def test_kernel_as_large_as_the_padded_input_fits():
    y = conv.conv2d(X, np.ones((8, 4, 7, 8)), padding=1)
    assert y.shape == (2, 8, 1, 1)
    assert (y == 4 * 5 * 6).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": 3}, "`groups=3` does not divide in_channels=4"),
        (
            {"w": np.ones((3, 8, 3, 3))},
            "`x` has 4 channels; `w` of shape (3, 8, 3, 3) needs 3",
        ),
        ({"w": np.ones((4, 8, 3, 0))}, "`w` has shape (4, 8, 3, 0); no axis"),
        ({"b": np.ones(7)}, "`b` has length 7; it must have out_channels=8"),
        ({"groups": 2, "b": np.ones(8)}, "it must have out_channels=16"),
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
        ({"x": np.ones((2, 4, 5, 0)), "stride": 1}, "for an input of 5×0"),
        ({"padding": (4, 0)}, "its size would be -1×8"),
    ],
)
def test_shapes_that_do_not_fit_a_transposed_convolution_are_named(
    changed, message
):
    for function in (conv.conv_transpose2d, conv.conv_transpose2d_reference):
        with raises(ValueError, message):
            function(**{"x": X, "w": W.swapaxes(0, 1), **changed})


def test_transposed_output_of_one_pixel_is_allowed():
    w = np.ones((4, 8, 3, 3))
    assert conv.conv_transpose2d(X, w, padding=(3, 3)).shape == (2, 8, 1, 2)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (np.ones((2, 8, 3, 3)), ValueError, "`dy` has shape (2, 8, 3, 3); the"),
        (np.ones((8, 3, 4)), ValueError, "`dy` has shape (8, 3, 4); it must"),
        (np.ones((2, 8, 3, 4), np.float32), TypeError, "`dy` holds float32"),
        (np.ones((2, 8, 3, 4), int), TypeError, "`dy` holds int64"),
        ([1.0], TypeError, "`dy` is a list"),
    ],
)
def test_gradient_that_does_not_fit_is_named(transposed, dy, error, message):
    functions = [conv.conv2d_backward, conv.conv2d_backward_reference]
    w = W
    if transposed:
        functions, w = [conv.conv_transpose2d_backward], W.swapaxes(0, 1)
    for function in functions:
        with raises(error, message):
            function(dy, X, w)


@given(cases(few=True))
def test_references_stay_float32_too(case):
    x, w = np.float32(case.x), np.float32(case.w)
    y = conv.conv2d_reference(x, w, **case.settings)
    results = [y, *conv.conv2d_backward_reference(y, x, w, **case.settings)]
    results.append(
        conv.conv_transpose2d_reference(
            y, w, stride=case.settings["stride"], groups=case.settings["groups"]
        )
    )
    assert {a.dtype for a in results} == {np.dtype(np.float32)}
