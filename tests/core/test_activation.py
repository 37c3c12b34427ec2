import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agree import LAYOUTS, close, laid_out
from snippets.core import activation

NAMES = ["relu", "leaky_relu", "sigmoid", "tanh", "gelu"]
SOFT = ["softmax", "log_softmax"]
ARRAYS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4),
    elements=st.floats(-1000, 1000) | st.floats(-5, 5),
)
TOLERANCES = {  # in float64 and float32
    "relu": (0, 0),
    "leaky_relu": (0, 0),
    "sigmoid": (1.4e-15, 6e-7),
    "tanh": (1.5e-15, 8e-7),
    "gelu": (1.3e-14, 2.4e-6),
    "softmax": (1.1e-15, 1.1e-6),
    "log_softmax": (3.5e-15, 1.7e-6),
}
DTYPES = [np.float64, np.float32]


def agrees_with_torch(name, x, dy, torch_settings=None, **settings):
    leaf = torch.tensor(x.copy(), requires_grad=True)
    expected = getattr(F, name)(leaf, **(torch_settings or {}))
    expected.backward(torch.tensor(dy.copy()))
    before = x.copy()
    y = getattr(activation, name)(x, **settings)
    dx = getattr(activation, f"{name}_backward")(dy, x, **settings)
    for ours, truth in ((y, expected), (dx, leaf.grad)):
        assert type(ours) is np.ndarray
        close(ours, truth, TOLERANCES[name][x.dtype == np.float32])
        assert not np.shares_memory(ours, x)
        assert not np.shares_memory(ours, dy)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES + SOFT)
@given(x=ARRAYS, layout=LAYOUTS, data=st.data())
def test_values_and_gradients_equal_torch(name, dtype, x, layout, data):
    settings = torch_settings = {}
    if name in SOFT:
        last = max(0, x.ndim - 1)
        axis = data.draw(st.integers(-last - 1, last))
        settings, torch_settings = {"axis": axis}, {"dim": axis}
    elif name == "leaky_relu":
        slope = data.draw(st.floats(-2, 2))
        settings = torch_settings = {"negative_slope": slope}
    seed = data.draw(st.integers(0, 9))
    dy = np.random.default_rng(seed).standard_normal(x.shape)
    x, dy = x.astype(dtype), np.asarray(dy, dtype)
    if x.ndim > 1:
        x, dy = laid_out(x, layout), laid_out(dy, layout)
    agrees_with_torch(name, x, dy, torch_settings, **settings)


@pytest.mark.parametrize("name", SOFT)
def test_last_axis_is_the_default(name):
    x = np.array([[0.0, 1.0], [3.0, 1.0]])
    dy = np.array([[1.0, 2.0], [3.0, 5.0]])
    agrees_with_torch(name, x, dy, {"dim": -1})


def test_slope_of_leaky_relu_is_one_in_a_hundred_unless_given():
    x, dy = np.array([-100.0, 3.0]), np.array([1.0, 2.0])
    agrees_with_torch("leaky_relu", x, dy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_infinities_and_huge_numbers_give_limits(name, dtype):
    largest = np.finfo(dtype).max
    x = np.array([-np.inf, -largest, largest, np.inf], dtype)
    zeros = name in ("relu", "sigmoid", "gelu")
    ends = {"sigmoid": (0, 1), "tanh": (-1, 1)}.get(name)
    y = getattr(activation, name)(x)
    if ends:
        np.testing.assert_array_equal(y, np.repeat(ends, 2))
    else:
        np.testing.assert_array_equal(y[2:], x[2:])
        slope = dtype(0 if zeros else 0.01)
        np.testing.assert_array_equal(y[:2], x[:2].clip(max=0) * slope
                                      if slope else 0)  # fmt: skip
    dx = getattr(activation, f"{name}_backward")(np.full_like(x, 5), x)
    slopes = np.repeat([0.01 if name == "leaky_relu" else 0, not ends], 2)
    np.testing.assert_array_equal(dx, 5 * slopes.astype(dtype))


def test_largest_gradient_stays_finite_where_the_slope_is_one():
    dy = np.array([1e308])
    np.testing.assert_array_equal(activation.tanh_backward(dy, np.zeros(1)), dy)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_not_hidden(name):
    x, one = np.array([np.nan, -1.0]), np.ones(2)
    dx = getattr(activation, f"{name}_backward")(one, x)
    leaf = torch.tensor(x, requires_grad=True)
    getattr(F, name)(leaf).sum().backward()
    np.testing.assert_array_equal(np.isnan(dx), leaf.grad.isnan().numpy())
    np.testing.assert_array_equal(dx[:1], leaf.grad[:1].numpy())
    assert np.isnan(getattr(activation, name)(x)[0])


def test_dead_relu_stops_even_an_infinite_gradient():
    dy = np.array([np.inf, np.nan, np.inf])
    dx = activation.relu_backward(dy, np.array([-1.0, -1.0, 1.0]))
    np.testing.assert_array_equal(dx, [0, 0, np.inf])


def test_gradient_of_relu_at_zero_is_zero():
    assert activation.relu_backward(np.ones(1), np.zeros(1)).item() == 0


def test_tails_keep_their_relative_precision():
    one = np.ones(1)
    slope = activation.sigmoid_backward(one, np.array([30.0])).item()
    assert slope == pytest.approx(np.exp(-30), rel=1e-12)
    slope = activation.tanh_backward(one, np.array([15.0])).item()
    assert slope == pytest.approx(4 * np.exp(-30), rel=1e-12)


def by_erfc(x):
    return math.erfc(-x / math.sqrt(2)) / 2


# The error of exp(-x²/2) grows with x²: 2e-13 at 38.
@pytest.mark.parametrize(("far", "tolerance"), [(8, 6e-14), (37.5, 1e-12)])
def test_gelu_is_as_precise_as_the_error_function_of_the_library(
    far, tolerance
):
    x = np.linspace(-far, far, 20_000)
    phi = np.vectorize(by_erfc)(x)
    close(activation.gelu(x) / x, phi, tolerance, phi)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    slope = phi + x * density
    close(activation.gelu_backward(np.ones_like(x), x), slope, tolerance,
          phi + np.abs(x) * density)  # fmt: skip


def test_gelu_in_float32_keeps_its_tail():
    x = np.linspace(-8, 8, 20_000, dtype=np.float32)
    phi = np.vectorize(by_erfc)(np.float64(x))
    close(np.float64(activation.gelu(x)) / x, phi, 5e-6, phi)


def test_gelu_of_many_numbers_is_that_of_each():
    x = np.random.default_rng(0).standard_normal((3, 100, 100))
    y = activation.gelu(x)
    for i in (0, 8191, 8192, 29_999):
        assert y.flat[i] == activation.gelu(x.reshape(-1)[i : i + 1]).item()


@pytest.mark.parametrize("name", NAMES + SOFT)
@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 5, 6)])
def test_empty_batch_gives_empty_results(name, shape):
    x = np.zeros(shape, np.float32)
    y = getattr(activation, name)(x)
    dx = getattr(activation, f"{name}_backward")(x, x)
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == np.float32


def is_named(error, message, function, *arguments, **settings):
    with pytest.raises(error, match="^" + re.escape(message)):
        function(*arguments, **settings)


X = np.ones((2, 3))
KINDS = "it must hold float32 or float64, in native byte order"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0], "`x` is a list; it must be a plain NumPy array"),
        (np.ma.array(X), "`x` is a MaskedArray; it must be a plain NumPy"),
        (np.arange(3), f"`x` holds int64; {KINDS}"),
        (np.float16(X), f"`x` holds float16; {KINDS}"),
        (np.longdouble(X), f"`x` holds {np.dtype(np.longdouble)}; {KINDS}"),
        (X.astype(">f8" if np.little_endian else "<f8"), "`x` holds "),
        (np.array([None]), f"`x` holds object; {KINDS}"),
    ],
)
def test_bad_input_is_named(x, message):
    for name in NAMES + SOFT:
        is_named(TypeError, message, getattr(activation, name), x)


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        ([1.0], TypeError, "`dy` is a list; it must be a plain NumPy array"),
        (X.astype(int), TypeError, f"`dy` holds int64; {KINDS}"),
        (
            np.float32(X),
            TypeError,
            "`dy` holds float32; it must hold float64, as `x` does",
        ),
        (X[:1], ValueError, "`dy` has shape (1, 3); `x` has (2, 3)"),
    ],
)
def test_gradient_that_does_not_fit_is_named(dy, error, message):
    for name in NAMES + SOFT:
        function = getattr(activation, f"{name}_backward")
        is_named(error, message, function, dy, X)


@pytest.mark.parametrize("axis", [-3, 2])
def test_bad_axis_is_named(axis):
    message = f"`axis={axis}` must lie between -2 and 1, as `x` has shape"
    for name in SOFT:
        is_named(ValueError, message, getattr(activation, name), X, axis=axis)
        function = getattr(activation, f"{name}_backward")
        is_named(ValueError, message, function, X, X, axis=axis)
