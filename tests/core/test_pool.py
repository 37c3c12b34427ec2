import re
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from snippets.core import pool


@st.composite
def cases(draw, dilated=False):
    """Return values, kernel size, and settings that fit each other."""
    k = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    settings = {
        "padding": tuple(draw(st.integers(0, side // 2)) for side in k),
        "ceil_mode": draw(st.booleans()),
    }
    if draw(st.integers(0, 3)):
        pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
        settings["stride"] = draw(pairs)
    d = (1, 1)
    if dilated:
        d = settings["dilation"] = draw(
            st.tuples(st.integers(1, 3), st.integers(1, 3))
        )
    s = settings.get("stride", k)
    size = []
    for a in (0, 1):
        least = d[a] * (k[a] - 1) + 1 - 2 * settings["padding"][a]
        if settings["ceil_mode"]:
            least -= s[a] - 1
        size.append(max(1, least) + draw(st.integers(0, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 3)), *size)
    return rng, rng.standard_normal(shape), k, settings


LAYOUTS = st.sampled_from(["plain", "reversed", "transposed", "read-only"])


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


BLOCKS = st.sampled_from([1, 500, 1 << 20])


@given(cases(dilated=True), LAYOUTS, BLOCKS, st.booleans())
def test_max_pooling_and_its_gradient_equal_torch(case, layout, block, ties):
    rng, x, k, settings = case
    x = laid_out(rng.integers(-1, 2, x.shape) * 1.0 if ties else x, layout)
    before = x.copy()
    leaf = torch.tensor(x.copy(), requires_grad=True)
    expected, where = F.max_pool2d(leaf, k, **settings, return_indices=True)
    with patch.object(pool, "BLOCK", block):
        y, indices = pool.max_pool2d(x, k, **settings, return_indices=True)
        np.testing.assert_array_equal(y, expected.detach().numpy())
        inside = indices >= 0
        np.testing.assert_array_equal(inside, np.isfinite(y))
        np.testing.assert_array_equal(indices[inside], where.numpy()[inside])
        if inside.all():  # torch cannot go back from a window of padding alone
            dy = rng.standard_normal(y.shape)
            expected.backward(torch.tensor(dy))
            dx = pool.max_pool2d_backward(
                laid_out(dy, layout), laid_out(indices, layout), x.shape
            )
            np.testing.assert_allclose(dx, leaf.grad, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(pool.max_pool2d(x, k, **settings), y)


@given(cases(dilated=True), st.sampled_from([1, 500]), st.integers(0, 2))
def test_max_pooling_equals_its_reference_also_beside_infinities_and_nan(
    case, block, odd
):
    rng, x, k, settings = case
    x[rng.random(x.shape) < 0.4] = -np.inf
    if odd:
        x[rng.random(x.shape) < 0.2] = np.nan if odd == 1 else np.inf
    y, indices = pool.max_pool2d_reference(x, k, **settings)
    with patch.object(pool, "BLOCK", block):
        ours = pool.max_pool2d(x, k, **settings, return_indices=True)
    np.testing.assert_array_equal(ours[0], y)
    np.testing.assert_array_equal(ours[1], indices)
    assert indices.dtype == ours[1].dtype == np.int64


def test_max_pool_sends_gradient_to_first_of_tied_maxima():
    x = np.array([[[[0.0, 1.0], [1.0, 1.0]]]])
    _, indices = pool.max_pool2d(x, 2, return_indices=True)
    dx = pool.max_pool2d_backward(np.array([[[[5.0]]]]), indices, x.shape)
    np.testing.assert_array_equal(dx, [[[[0, 5], [0, 0]]]])


def test_max_pool_adds_gradients_where_windows_overlap():
    x = np.array([[[[0.0, 9.0, 0.0]]]])
    _, indices = pool.max_pool2d(x, (1, 2), stride=1, return_indices=True)
    dx = pool.max_pool2d_backward(np.array([[[[2.0, 3.0]]]]), indices, x.shape)
    np.testing.assert_array_equal(dx, [[[[0, 5, 0]]]])


def test_window_of_padding_alone_gives_no_maximum_and_takes_no_gradient():
    x = np.ones((1, 1, 3, 3))
    settings = {"stride": 1, "padding": 1, "dilation": 4}
    y, indices = pool.max_pool2d(x, (1, 2), **settings | {"padding": (0, 1)},
                                 return_indices=True)  # fmt: skip
    assert (y == -np.inf).all()
    assert (indices == -1).all()
    dx = pool.max_pool2d_backward(np.ones_like(y), indices, x.shape)
    assert not dx.any()


def test_some_windows_of_padding_alone_leave_the_others_their_gradient():
    indices = np.array([[[[-1, 2, 2]]]])
    dy = np.array([[[[7.0, 1.0, 2.0]]]])
    dx = pool.max_pool2d_backward(dy, indices, (1, 1, 1, 3))
    np.testing.assert_array_equal(dx, [[[[0, 0, 3]]]])


def test_max_pooling_with_windows_of_more_than_255_values():
    x = np.random.default_rng(0).standard_normal((2, 3, 20, 18))
    ours = pool.max_pool2d(x, (18, 17), stride=1, return_indices=True)
    theirs = F.max_pool2d(torch.tensor(x), (18, 17), 1, return_indices=True)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@given(cases(), LAYOUTS, BLOCKS, st.booleans())
def test_mean_pooling_and_its_gradient_equal_torch(case, layout, block, count):
    rng, x, k, settings = case
    settings["count_include_pad"] = count
    x = laid_out(x, layout)
    before = x.copy()
    leaf = torch.tensor(x.copy(), requires_grad=True)
    expected = F.avg_pool2d(leaf, k, **settings)
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    with patch.object(pool, "BLOCK", block):
        y = pool.avg_pool2d(x, k, **settings)
        dx = pool.avg_pool2d_backward(
            laid_out(dy, layout), x.shape, k, **settings
        )
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, leaf.grad, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(x, before)


@given(cases())
def test_shares_of_mean_pooling_sum_to_the_gradient(case):
    rng, x, k, settings = case
    settings |= {"padding": 0, "ceil_mode": False}
    x = np.pad(x, ((0, 0), (0, 0), (k[0], 0), (k[1], 0)))
    dy = rng.standard_normal(pool.avg_pool2d(x, k, **settings).shape)
    dx = pool.avg_pool2d_backward(dy, x.shape, k, **settings)
    assert dx.sum() == pytest.approx(dy.sum(), abs=1e-10)


@pytest.mark.parametrize("count_include_pad", [False, True])
@given(case=cases())
def test_gradients_equal_finite_differences(count_include_pad, case):
    rng, x, k, settings = case
    # Values well apart: a small step changes no maximum.
    x = rng.permutation(x.size).reshape(x.shape) * 1.0
    step = rng.uniform(-0.4, 0.4, x.shape)
    y, indices = pool.max_pool2d(x, k, **settings, return_indices=True)
    dy = rng.standard_normal(y.shape)
    up, down = (
        np.where(y > -np.inf, pool.max_pool2d(a, k, **settings), 0)
        for a in (x + step, x - step)
    )
    dx = pool.max_pool2d_backward(dy, indices, x.shape)
    slope = np.sum(dy * (up - down)) / 2
    assert slope == pytest.approx(np.sum(dx * step), abs=1e-10)

    settings["count_include_pad"] = count_include_pad
    up, down = (pool.avg_pool2d(a, k, **settings) for a in (x + step, x - step))
    dx = pool.avg_pool2d_backward(dy, x.shape, k, **settings)
    slope = np.sum(dy * (up - down)) / 2
    assert slope == pytest.approx(np.sum(dx * step), abs=1e-10)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_global_mean_pooling_and_its_gradient_equal_torch(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 3, 4, 5))
    leaf = torch.tensor(x, requires_grad=True)
    expected = F.adaptive_avg_pool2d(leaf, 1) if n else leaf.mean((2, 3), True)
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    y = pool.global_avg_pool2d(x)
    assert y.shape == (n, 3, 1, 1)
    dx = pool.global_avg_pool2d_backward(dy, x.shape)
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, leaf.grad, rtol=0, atol=1e-12)
    dx += 1  # the result is an array of its own


@given(cases())
def test_float32_stays_float32_and_within_its_rounding(case):
    rng, x, k, settings = case
    x = np.float32(x)
    y, indices = pool.max_pool2d(x, k, **settings, return_indices=True)
    assert y.dtype == np.float32
    assert pool.max_pool2d_reference(x, k, **settings)[0].dtype == np.float32
    dy = np.float32(rng.standard_normal(y.shape))
    wide, wide_dy = np.float64(x), np.float64(dy)
    np.testing.assert_array_equal(y, pool.max_pool2d(wide, k, **settings))
    pairs = [
        (
            pool.max_pool2d_backward(dy, indices, x.shape),
            pool.max_pool2d_backward(wide_dy, indices, x.shape),
        ),
        (
            pool.avg_pool2d(x, k, **settings),
            pool.avg_pool2d(wide, k, **settings),
        ),
        (
            pool.avg_pool2d_backward(dy, x.shape, k, **settings),
            pool.avg_pool2d_backward(wide_dy, x.shape, k, **settings),
        ),
        (pool.global_avg_pool2d(x), pool.global_avg_pool2d(wide)),
        (
            pool.global_avg_pool2d_backward(dy[:, :, :1, :1], x.shape),
            pool.global_avg_pool2d_backward(wide_dy[:, :, :1, :1], x.shape),
        ),
    ]
    for ours, truth in pairs:
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-5)


def test_stride_is_the_window_unless_given():
    x = np.arange(24.0).reshape(1, 1, 4, 6)
    np.testing.assert_array_equal(
        pool.max_pool2d(x, (2, 3)), [[[[8, 11], [20, 23]]]]
    )
    np.testing.assert_array_equal(
        pool.avg_pool2d(x, (2, 3)), [[[[4, 7], [16, 19]]]]
    )


X = np.ones((2, 3, 5, 6))
ERRORS = [
    ({"x": X.tolist()}, TypeError, "`x` is a list; it must be a NumPy array"),
    ({"x": X.astype(int)}, TypeError, "`x` holds int64; it must hold floats"),
    ({"x": X.astype(object)}, TypeError, "`x` holds object"),
    ({"x": X[0]}, ValueError, "`x` has shape (3, 5, 6); it must have the axes"),
    ({"kernel_size": 0}, ValueError, "`kernel_size=0` must be at least 1"),
    ({"kernel_size": (2, 0)}, ValueError, "`kernel_size=(2, 0)` must be at"),
    ({"kernel_size": 2.0}, TypeError, "`kernel_size=2.0` is neither an int"),
    ({"kernel_size": True}, TypeError, "`kernel_size=True` is neither an"),
    ({"kernel_size": (2, 2, 2)}, TypeError, "`kernel_size=(2, 2, 2)` is"),
    ({"stride": 0}, ValueError, "`stride=0` must be at least 1"),
    ({"padding": -1}, ValueError, "`padding=-1` must be at least 0"),
    ({"padding": 2}, ValueError, "`padding=2` is over half of kernel_size="),
    ({"padding": (1, 2)}, ValueError, "`padding=(1, 2)` is over half of ker"),
    (
        {"kernel_size": 6},
        ValueError,
        "`kernel_size=(6, 6)` with dilation=(1, 1) covers 6 pixels; the padded "
        "input has 5",
    ),
    ({"kernel_size": (1, 7)}, ValueError, "covers 7 pixels"),
    (
        {"kernel_size": 7, "stride": 2, "ceil_mode": True},
        ValueError,
        "covers 7 pixels",
    ),
    ({"x": X[:, :, :0], "kernel_size": 1}, ValueError, "input has 0"),
]


@pytest.mark.parametrize("function", [pool.max_pool2d, pool.avg_pool2d,
                                      pool.max_pool2d_reference])  # fmt: skip
@pytest.mark.parametrize(("changed", "error", "message"), ERRORS)
def test_bad_input_is_named(function, changed, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function(**{"x": X, "kernel_size": 3, **changed})


def test_bad_dilation_is_named():
    with pytest.raises(ValueError, match=re.escape("`dilation=0` must be at")):
        pool.max_pool2d(X, 2, dilation=0)
    with pytest.raises(
        ValueError, match=r"with dilation=\(5, 1\) covers 6 pix"
    ):
        pool.max_pool2d(X, 2, dilation=(5, 1))


def test_window_as_large_as_the_padded_input_fits():
    assert pool.max_pool2d(X, (7, 8), padding=1).shape == (2, 3, 1, 1)
    assert pool.avg_pool2d(X, (5, 6)).shape == (2, 3, 1, 1)
    y = pool.max_pool2d(X, 6, stride=2, ceil_mode=True)
    assert y.shape == (2, 3, 1, 1)


DY = np.ones((2, 3, 2, 3))
INDICES = np.zeros((2, 3, 2, 3), int)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"dy": [1.0]}, TypeError, "`dy` is a list"),
        ({"dy": DY.astype(int)}, TypeError, "`dy` holds int64"),
        ({"dy": DY[0]}, ValueError, "`dy` has shape (3, 2, 3); it must have"),
        ({"indices": [0]}, TypeError, "`indices` is a list"),
        ({"indices": DY}, TypeError, "`indices` holds float64; it must hold"),
        (
            {"indices": INDICES[:, :, :1]},
            ValueError,
            "`indices` has shape (2, 3, 1, 3); `dy` has (2, 3, 2, 3)",
        ),
        (
            {"indices": INDICES + 30},
            ValueError,
            "`indices` holds 30; a plane has places 0 to 29",
        ),
        ({"indices": INDICES - 2}, ValueError, "`indices` holds -2; a plane"),
        (
            {"input_shape": (2, 3, 30)},
            ValueError,
            "`input_shape=(2, 3, 30)` must be (n, c, h, w) with n and c of "
            "`dy`, which has shape (2, 3, 2, 3)",
        ),
        ({"input_shape": 30}, TypeError, "`input_shape=30` must be (n, c,"),
        ({"input_shape": (2, 4, 5, 6)}, ValueError, "`input_shape=(2, 4, 5,"),
        ({"input_shape": (1, 3, 5, 6)}, ValueError, "`input_shape=(1, 3, 5,"),
    ],
)
def test_bad_input_on_the_way_back_is_named(changed, error, message):
    arguments = {"dy": DY, "indices": INDICES, "input_shape": (2, 3, 5, 6)}
    arguments |= changed
    with pytest.raises(error, match=re.escape(message)):
        pool.max_pool2d_backward(**arguments)
    if "indices" not in changed:
        del arguments["indices"]
        with pytest.raises(error, match=re.escape(message)):
            pool.avg_pool2d_backward(**arguments, kernel_size=2)
        with pytest.raises(error, match=re.escape(message)):
            pool.global_avg_pool2d_backward(**arguments)


def test_last_place_of_a_plane_is_a_valid_index():
    dx = pool.max_pool2d_backward(DY, INDICES + 29, (2, 3, 5, 6))
    assert (dx[:, :, 4, 5] == 6).all()


def test_gradient_of_another_size_is_named():
    message = "`dy` has shape (2, 3, 2, 3); the output has shape (2, 3, 1, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        pool.avg_pool2d_backward(DY, (2, 3, 3, 6), 2)
    message = "`dy` has shape (2, 3, 2, 3); the output has shape (2, 3, 1, 1)"
    with pytest.raises(ValueError, match=re.escape(message)):
        pool.global_avg_pool2d_backward(DY, (2, 3, 3, 6))


def test_planes_without_pixels_have_no_mean():
    with pytest.raises(ValueError, match="its planes are empty"):
        pool.global_avg_pool2d(np.ones((2, 3, 0, 4)))
    with pytest.raises(ValueError, match=r"^`x` has shape \(2, 3\); it must"):
        pool.global_avg_pool2d(np.ones((2, 3)))


def test_padding_counts_also_where_windows_leave_the_end_out():
    x = np.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    for shape, k, p in (
        (x.shape, (2, 1), (1, 0)),
        (x.shape[:2] + x.shape[:1:-1], (1, 2), (0, 1)),
    ):
        y = pool.avg_pool2d(x.reshape(shape), k, stride=5, padding=p)
        assert y.item() == 0.5
