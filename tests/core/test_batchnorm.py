import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from agree import close
from snippets.core.batchnorm import batch_norm, batch_norm_backward


@st.composite
def cases(draw):
    shape = draw(
        st.tuples(
            st.integers(0, 5),
            st.integers(1, 4),
            *[st.integers(1, 4)] * draw(st.integers(0, 2)),
        )
    )
    if shape[0] * np.prod(shape[2:]) == 1:
        shape = (2, *shape[1:])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    c = shape[1]
    scale, shift = draw(st.sampled_from([(1, 0), (3, 20), (0.01, 0)]))
    x = rng.standard_normal(shape) * scale + shift
    if draw(st.booleans()):
        x = x.swapaxes(0, 1).copy().swapaxes(0, 1)
    vectors = [*rng.standard_normal((3, c)), rng.uniform(0, 3, c)]
    for a in (x, *vectors):
        a.flags.writeable = False
    settings = {"training": draw(st.booleans())}
    if draw(st.booleans()):
        settings["eps"] = draw(st.sampled_from([1e-3, 0.5]))
    momentum = draw(st.sampled_from([{}, {"momentum": 0}, {"momentum": 0.7}]))
    return rng, x, vectors, settings, momentum


def theirs(x, vectors, settings):
    gamma, beta, mean, var = vectors
    return F.batch_norm(x, mean, var, gamma, beta, **settings)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1.8e-13), (np.float32, 2.4e-7)]
)
@given(case=cases())
def test_values_statistics_and_gradients_equal_torch(dtype, tolerance, case):
    rng, x, vectors, settings, momentum = case
    x, *vectors = (a.astype(dtype) for a in (x, *vectors))
    # In double precision: torch's own float32 has lost 2e-3 here.
    leaf, gamma, beta, mean, var = (
        torch.tensor(a.astype(float, "C")) for a in (x, *vectors)
    )
    for a in (leaf, gamma, beta):
        a.requires_grad_()
    expected = theirs(leaf, (gamma, beta, mean, var), settings | momentum)
    dy = rng.standard_normal(x.shape).astype(dtype)
    expected.backward(torch.tensor(dy.astype(float)))
    ours = [
        *batch_norm(x, *vectors, **settings, **momentum),
        *batch_norm_backward(dy, x, vectors[0], *vectors[2:], **settings),
    ]
    truths = [expected.detach(), mean, var, leaf.grad, gamma.grad, beta.grad]
    for a, truth in zip(ours, truths, strict=True):
        size = max(1, np.abs(truth.numpy()).max(initial=0))
        assert a.dtype == dtype
        close(a.astype(float), truth, tolerance, size)
        assert not any(np.shares_memory(a, given) for given in (x, *vectors))


def test_many_float32_samples_keep_their_mean_and_variance():
    x = np.random.default_rng(0).random((300_000, 2), np.float32) + 100
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    y, mean, var = batch_norm(
        x, one, zero, zero, one, training=True, momentum=1
    )
    exact = np.float64(x)
    close(mean, exact.mean(0).astype(np.float32), 3e-7)
    close(var, exact.var(0, ddof=1).astype(np.float32), 3e-7)
    exact = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    close(y, exact.astype(np.float32), 3e-7)
    dy = np.ones_like(x)
    _, _, dbeta = batch_norm_backward(dy, x, one, zero, one, training=True)
    assert (dbeta == 300_000).all()


def test_training_leaves_mean_zero_and_variance_one_in_each_channel():
    x = np.random.default_rng(0).standard_normal((8, 3, 5, 5)) * 7 + 3
    ones, zeros = np.ones(3), np.zeros(3)
    y, *_ = batch_norm(x, ones, zeros, zeros, ones, training=True)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, atol=1e-5)


def test_running_statistics_take_the_share_momentum_of_the_new():
    x = np.array([[1.0], [3.0]])  # mean 2, unbiased variance 2
    one = np.ones(1)
    _, mean, var = batch_norm(
        x, one, one, 10 * one, 10 * one, training=True, momentum=0.25
    )
    assert mean.item() == 10 + 0.25 * (2 - 10)
    assert var.item() == 10 + 0.25 * (2 - 10)


def test_settings_may_be_numpy_floats():
    x = np.ones((2, 3), np.float32)
    three = np.ones(3, np.float32)
    settings = {"training": True, "eps": np.float64(0.1)}
    results = batch_norm(
        x, three, three, three, three, momentum=np.float64(0.1), **settings
    )
    results += batch_norm_backward(x, x, three, three, three, **settings)
    assert {a.dtype for a in results} == {np.dtype(np.float32)}


X, C = np.ones((4, 3, 2, 2)), np.ones(3)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"x": [1.0]},
            TypeError,
            "`x` is a list; it must be a plain NumPy array",
        ),
        ({"x": X.astype(int)}, TypeError, "`x` holds int64; it must hold"),
        ({"x": np.ma.array(X)}, TypeError, "`x` is a MaskedArray; it must be"),
        (
            {"gamma": np.float16(C)},
            TypeError,
            "`gamma` holds float16; it must hold float32 or float64, in native "
            "byte order",
        ),
        (
            {"gamma": [1.0]},
            TypeError,
            "`gamma` is a list; it must be a plain NumPy",
        ),
        (
            {"running_mean": np.float32(C)},
            TypeError,
            "`running_mean` holds float32; it must hold float64, as `x` does",
        ),
        (
            {"x": X[0, 0, 0]},
            ValueError,
            "`x` has shape (2,); it must be (n, c) or (n, c, h, w)",
        ),
        ({"x": X[:, :0]}, ValueError, "`x` has shape (4, 0, 2, 2); it must"),
        (
            {"gamma": C[:1]},
            ValueError,
            "`gamma` has shape (1,); it must be (3,), one value for each "
            "channel of `x`",
        ),
        ({"running_mean": C[:2]}, ValueError, "`running_mean` has shape (2,)"),
        ({"running_var": X}, ValueError, "`running_var` has shape (4, 3, 2"),
        (
            {"running_var": C - 2},
            ValueError,
            "`running_var` holds -1.0; it cannot be negative",
        ),
        ({"eps": 0}, ValueError, "`eps=0` must be positive"),
        ({"eps": float("nan")}, ValueError, "`eps=nan` must be positive"),
        (
            {"x": X[:1, :, :1, :1]},
            ValueError,
            "`x` has shape (1, 3, 1, 1): one value per channel; training needs "
            "at least 2",
        ),
        ({"beta": C[:2]}, ValueError, "`beta` has shape (2,); it must be"),
        ({"momentum": 1.5}, ValueError, "`momentum=1.5` must lie between 0"),
        ({"momentum": -0.1}, ValueError, "`momentum=-0.1` must lie between"),
        (
            {"dy": [1.0]},
            TypeError,
            "`dy` is a list; it must be a plain NumPy array",
        ),
        ({"dy": np.float32(X)}, TypeError, "`dy` holds float32; it must hold"),
        (
            {"dy": X[:1]},
            ValueError,
            "`dy` has shape (1, 3, 2, 2); `x` has (4, 3, 2, 2)",
        ),
    ],
)
def test_bad_input_is_named(changed, error, message):
    arguments = {
        "x": X,
        "gamma": C,
        "running_mean": C,
        "running_var": C,
        "training": True,
        **changed,
    }
    if "dy" not in changed:
        with pytest.raises(error, match=re.escape(message)):
            batch_norm(**{"beta": C, **arguments})
    if not {"beta", "momentum"} & set(changed):
        with pytest.raises(error, match=re.escape(message)):
            batch_norm_backward(
                **{"dy": np.ones_like(arguments["x"]), **arguments}
            )


@pytest.mark.parametrize("momentum", [0, 1])
def test_any_share_of_the_new_is_allowed(momentum):
    _, mean, _ = batch_norm(X, C, C, C * 5, C, training=True, momentum=momentum)
    assert (mean == (1 if momentum else 5)).all()


def test_one_value_per_channel_serves_in_prediction():
    x = X[:1, :, :1, :1]
    y, *_ = batch_norm(x, C, C, C, C, training=False)
    assert (y == 1).all()


def test_variance_of_zero_is_allowed():
    y, *_ = batch_norm(X, C, C, C, C * 0, training=False)
    assert (y == 1).all()
