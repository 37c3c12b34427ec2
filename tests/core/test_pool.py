import re
import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from agree import LAYOUTS, close, laid_out
from snippets.core import avg_pool, pool

TOLERANCES = {np.float64: 1.4e-15, np.float32: 8e-7}


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
    dtype = draw(st.sampled_from(list(TOLERANCES)))
    return rng, rng.standard_normal(shape).astype(dtype), k, settings


BLOCKS = st.sampled_from([1, 500, 1 << 20])


@given(cases(dilated=True), LAYOUTS, BLOCKS, st.booleans())
def test_max_pooling_and_its_gradient_equal_torch(case, layout, block, ties):
    rng, x, k, settings = case
    if ties:
        x = rng.integers(-1, 2, x.shape).astype(x.dtype)
    x = laid_out(x, layout)
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
            dy = rng.standard_normal(y.shape).astype(x.dtype)
            expected.backward(torch.tensor(dy))
            dx = pool.max_pool2d_backward(
                laid_out(dy, layout), laid_out(indices, layout), x.shape
            )
            close(dx, leaf.grad, 0)
    assert y.dtype == x.dtype
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
    dy = rng.standard_normal(expected.shape).astype(x.dtype)
    expected.backward(torch.tensor(dy))
    with patch.object(pool, "BLOCK", block):
        y = avg_pool.avg_pool2d(x, k, **settings)
        dx = avg_pool.avg_pool2d_backward(
            laid_out(dy, layout), x.shape, k, **settings
        )
    close(y, expected, TOLERANCES[x.dtype.type])
    close(dx, leaf.grad, TOLERANCES[x.dtype.type])
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_global_mean_pooling_and_its_gradient_equal_torch(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 3, 4, 5))
    leaf = torch.tensor(x, requires_grad=True)
    expected = F.adaptive_avg_pool2d(leaf, 1) if n else leaf.mean((2, 3), True)
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    y = avg_pool.global_avg_pool2d(x)
    assert y.shape == (n, 3, 1, 1)
    dx = avg_pool.global_avg_pool2d_backward(dy, x.shape)
    close(y, expected, 2.5e-16)
    close(dx, leaf.grad, 2.5e-16)
    dx += 1  # the result is an array of its own


def test_sums_and_means_of_many_numbers_keep_their_digits():
    shape = (2, 3, 256, 256)
    x = np.random.default_rng(0).random(shape[::-1], np.float32).T + 100
    exact = np.float64(x).mean((2, 3), keepdims=True)
    close(avg_pool.global_avg_pool2d(x), np.float32(exact), 1e-7)
    dx = avg_pool.global_avg_pool2d_backward(np.float32(exact), shape)
    np.testing.assert_array_equal(
        dx, np.broadcast_to(np.float32(exact) / 65536, shape)
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int32])
def test_indices_may_be_any_integers(kind):
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 4))
    y, indices = pool.max_pool2d(x, 2, return_indices=True)
    dx = pool.max_pool2d_backward(y, indices, x.shape)
    again = pool.max_pool2d_backward(y, indices.astype(kind), x.shape)
    np.testing.assert_array_equal(again, dx)


@pytest.mark.parametrize(
    ("k", "settings", "most"),
    [  # megabytes: the largest with indices, the mean; each forward, backward
        (3, {"stride": 2, "padding": 1}, (21.8, 26.7, 9, 29)),
        (2, {}, (21.8, 26.7, 7.8, 28.5)),
    ],
)
def test_memory_beyond_the_arguments_stays_small(k, settings, most):
    x = np.ones((8, 64, 112, 112), np.float32)
    y, indices = pool.max_pool2d(x, k, **settings, return_indices=True)
    runs = [
        lambda: pool.max_pool2d(x, k, **settings, return_indices=True),
        lambda: pool.max_pool2d_backward(y, indices, x.shape),
        lambda: avg_pool.avg_pool2d(x, k, **settings),
        lambda: avg_pool.avg_pool2d_backward(y, x.shape, k, **settings),
    ]
    for run, megabytes in zip(runs, most, strict=True):
        tracemalloc.start()
        run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= megabytes * 1.01e6


def test_stride_is_the_window_unless_given():
    x = np.arange(24.0).reshape(1, 1, 4, 6)
    np.testing.assert_array_equal(
        pool.max_pool2d(x, (2, 3)), [[[[8, 11], [20, 23]]]]
    )
    np.testing.assert_array_equal(
        avg_pool.avg_pool2d(x, (2, 3)), [[[[4, 7], [16, 19]]]]
    )


X = np.ones((2, 3, 5, 6))
ERRORS = [
    (
        {"x": X.tolist()},
        TypeError,
        "`x` is a list; it must be a plain NumPy array",
    ),
    ({"x": np.ma.array(X)}, TypeError, "`x` is a MaskedArray; it must be"),
    ({"x": X.astype(int)}, TypeError, "`x` holds int64; it must hold float"),
    (
        {"x": np.float16(X)},
        TypeError,
        "`x` holds float16; it must hold float32 or float64, in native byte "
        "order",
    ),
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
    (
        {"kernel_size": (1, 7)},
        ValueError,
        "`kernel_size=(1, 7)` with dilation=",
    ),
    (
        {"kernel_size": 7, "stride": 2, "ceil_mode": True},
        ValueError,
        "`kernel_size=(7, 7)` with dilation=(1, 1) covers 7 pixels",
    ),
    (
        {"x": X[:, :, :0], "kernel_size": 1},
        ValueError,
        "`kernel_size=(1, 1)` with",
    ),
]


@pytest.mark.parametrize(("changed", "error", "message"), ERRORS)
def test_bad_input_is_named(changed, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        pool.max_pool2d(**{"x": X, "kernel_size": 3, **changed})


@pytest.mark.parametrize(
    "function", [avg_pool.avg_pool2d, pool.max_pool2d_reference]
)
def test_every_function_checks_its_settings_and_arrays(function):
    with pytest.raises(TypeError, match=r"^`x` holds float16; it must"):
        function(np.float16(X), 3)
    with pytest.raises(ValueError, match=r"^`padding=2` is over half"):
        function(X, 3, padding=2)
    with pytest.raises(ValueError, match=r"^`stride=\(1, 0\)` must be at"):
        function(X, 3, stride=(1, 0))


def test_bad_dilation_is_named():
    with pytest.raises(ValueError, match=re.escape("`dilation=0` must be at")):
        pool.max_pool2d(X, 2, dilation=0)
    with pytest.raises(
        ValueError, match=r"with dilation=\(5, 1\) covers 6 pix"
    ):
        pool.max_pool2d(X, 2, dilation=(5, 1))


def test_window_as_large_as_the_padded_input_fits():
    assert pool.max_pool2d(X, (7, 8), padding=1).shape == (2, 3, 1, 1)
    assert avg_pool.avg_pool2d(X, (5, 6)).shape == (2, 3, 1, 1)
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
        ({"indices": np.ma.array(INDICES)}, TypeError, "`indices` is a Masked"),
        (
            {"indices": INDICES.astype("m8[s]")},
            TypeError,
            "`indices` holds timedelta64[s]; it must hold integers",
        ),
        (
            {"indices": INDICES.astype(np.uint64) + 2**63},
            ValueError,
            "`indices` holds 9223372036854775808; a plane has places 0 to 29",
        ),
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
            avg_pool.avg_pool2d_backward(**arguments, kernel_size=2)
        with pytest.raises(error, match=re.escape(message)):
            avg_pool.global_avg_pool2d_backward(**arguments)


def test_last_place_of_a_plane_is_a_valid_index():
    dx = pool.max_pool2d_backward(DY, INDICES + 29, (2, 3, 5, 6))
    assert (dx[:, :, 4, 5] == 6).all()


def test_gradient_of_another_size_is_named():
    message = "`dy` has shape (2, 3, 2, 3); it must be (2, 3, 1, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        avg_pool.avg_pool2d_backward(DY, (2, 3, 3, 6), 2)
    message = "`dy` has shape (2, 3, 2, 3); the output has shape (2, 3, 1, 1)"
    with pytest.raises(ValueError, match=re.escape(message)):
        avg_pool.global_avg_pool2d_backward(DY, (2, 3, 3, 6))


def test_planes_without_pixels_have_no_mean():
    with pytest.raises(ValueError, match="its planes are empty"):
        avg_pool.global_avg_pool2d(np.ones((2, 3, 0, 4)))
    with pytest.raises(ValueError, match=r"^`x` has shape \(2, 3\); it must"):
        avg_pool.global_avg_pool2d(np.ones((2, 3)))


def test_padding_counts_also_where_windows_leave_the_end_out():
    x = np.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    for shape, k, p in (
        (x.shape, (2, 1), (1, 0)),
        (x.shape[:2] + x.shape[:1:-1], (1, 2), (0, 1)),
    ):
        y = avg_pool.avg_pool2d(x.reshape(shape), k, stride=5, padding=p)
        assert y.item() == 0.5
