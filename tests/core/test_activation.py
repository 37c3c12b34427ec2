import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from snippets.core import activation

NAMES = ["relu", "leaky_relu", "sigmoid", "tanh", "gelu"]
SOFT = ["softmax", "log_softmax"]
ARRAYS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4),
    elements=st.floats(-1000, 1000) | st.floats(-5, 5),
)


def theirs(name, x, **settings):
    return getattr(F, name if name != "tanh" else "tanh")(x, **settings)


def agrees_with_torch(name, x, dy, torch_settings=None, **settings):
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(name, leaf, **(torch_settings or {}))
    expected.backward(torch.tensor(dy))
    tolerance = 1e-10 if x.dtype == np.float64 else 1e-5
    before = x.copy()
    y = getattr(activation, name)(x, **settings)
    dx = getattr(activation, f"{name}_backward")(dy, x, **settings)
    for ours, truth in ((y, expected.detach()), (dx, leaf.grad)):
        assert ours.dtype == x.dtype
        np.testing.assert_allclose(ours, truth, tolerance, tolerance)
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(y, x)
    assert not np.shares_memory(dx, dy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(x=ARRAYS, seed=st.integers(0, 9))
def test_values_and_gradients_equal_torch(name, dtype, x, seed):
    dy = np.random.default_rng(seed).standard_normal(x.shape).astype(dtype)
    agrees_with_torch(name, x.astype(dtype), dy)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(x=ARRAYS, data=st.data())
def test_values_and_gradients_along_any_axis_equal_torch(name, dtype, x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    dy = np.random.default_rng(axis + 9).standard_normal(x.shape).astype(dtype)
    agrees_with_torch(name, x.astype(dtype), dy, {"dim": axis}, axis=axis)


@pytest.mark.parametrize("name", SOFT)
def test_last_axis_is_the_default(name):
    x = np.array([[0.0, 1.0], [3.0, 1.0]])
    dy = np.array([[1.0, 2.0], [3.0, 5.0]])
    agrees_with_torch(name, x, dy, {"dim": -1})


@given(x=ARRAYS, slope=st.floats(-2, 2))
def test_leaky_relu_with_any_slope_equals_torch(x, slope):
    settings = {"negative_slope": slope}
    agrees_with_torch(
        "leaky_relu", x, x[..., ::-1].copy(), settings, **settings
    )


@pytest.mark.parametrize("name", NAMES + SOFT)
def test_gradients_equal_finite_differences(name):
    rng = np.random.default_rng(0)
    # No value within a step of 0, where relu has no slope.
    x = rng.uniform(0.1, 3, (4, 5)) * rng.choice([-1, 1], (4, 5))
    dy, step = rng.standard_normal((2, 4, 5)) * [[[1]], [[1e-4]]]
    function = getattr(activation, name)
    slope = np.sum(dy * (function(x + step) - function(x - step))) / 2
    dx = getattr(activation, f"{name}_backward")(dy, x)
    assert slope == pytest.approx(np.sum(dx * step), abs=1e-11)


@pytest.mark.parametrize("name", NAMES + SOFT)
def test_stable_at_a_thousand(name):
    x = np.array([-1000.0, 0.0, 1000.0])
    y = getattr(activation, name)(x)
    dx = getattr(activation, f"{name}_backward")(np.ones(3), x)
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()


def test_slope_of_gelu_survives_numbers_whose_square_overflows():
    x = np.array([-1e200, 1e200])
    slope = activation.gelu_backward(np.ones(2), x)
    np.testing.assert_array_equal(slope, [0, 1])


def test_tails_keep_their_relative_precision():
    x = np.array([30.0])
    one = np.ones(1)
    slope = activation.sigmoid_backward(one, x).item()
    assert slope == pytest.approx(np.exp(-30), rel=1e-12)
    slope = activation.tanh_backward(one, x / 2).item()
    assert slope == pytest.approx(4 * np.exp(-30), rel=1e-12)
    # Φ(-9), from tables
    value = activation.gelu(np.array([-9.0])).item() / -9
    assert value == pytest.approx(1.1285884059538324e-19, rel=1e-12)


def test_slope_of_sigmoid_is_at_most_a_quarter():
    x = np.linspace(-9, 9, 181)
    slope = activation.sigmoid_backward(np.ones_like(x), x)
    assert slope.max() == slope[90] == 0.25


def test_gradient_of_relu_at_zero_is_zero():
    assert activation.relu_backward(np.ones(1), np.zeros(1)).item() == 0


def test_probabilities_sum_to_one():
    x = np.random.default_rng(0).standard_normal((3, 4, 5)) * 100
    for axis in range(3):
        total = activation.softmax(x, axis=axis).sum(axis)
        np.testing.assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES + SOFT)
@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 5, 6)])
def test_empty_batch_gives_empty_results(name, shape):
    x = np.zeros(shape, np.float32)
    y = getattr(activation, name)(x)
    dx = getattr(activation, f"{name}_backward")(x, x)
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == np.float32


@pytest.mark.parametrize("name", NAMES + SOFT)
def test_views_and_read_only_arrays_serve(name):
    x = np.random.default_rng(0).standard_normal((6, 5))
    x.flags.writeable = False
    y = getattr(activation, name)(
        x.T[::-1], **({"axis": 0} if name in SOFT else {})
    )
    expected = getattr(activation, name)(x)[:, ::-1].T
    np.testing.assert_allclose(y, expected, rtol=1e-14)


X = np.ones((2, 3))


@pytest.mark.parametrize("name", NAMES + SOFT)
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([1.0], TypeError, "`x` is a list; it must be a NumPy array"),
        (np.arange(3), TypeError, "`x` holds int64; it must hold floats"),
        (np.array([None]), TypeError, "`x` holds object; it must hold floats"),
    ],
)
def test_bad_input_is_named(name, x, error, message):
    with pytest.raises(error, match=re.escape(message)):
        getattr(activation, name)(x)


@pytest.mark.parametrize("name", NAMES + SOFT)
@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        ([1.0], TypeError, "`dy` is a list; it must be a NumPy array"),
        (X.astype(int), TypeError, "`dy` holds int64; it must hold floats"),
        (
            np.float32(X),
            TypeError,
            "`dy` holds float32; it must hold float64, as `x` does",
        ),
        (X[:1], ValueError, "`dy` has shape (1, 3); `x` has (2, 3)"),
    ],
)
def test_gradient_that_does_not_fit_is_named(name, dy, error, message):
    with pytest.raises(error, match=re.escape(message)):
        getattr(activation, f"{name}_backward")(dy, X)
