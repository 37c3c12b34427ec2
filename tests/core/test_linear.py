import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from agree import close
from snippets.core.linear import linear, linear_backward

SIDES = st.integers(1, 5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 9e-15), (np.float32, 5e-6)]
)
@given(
    lead=st.lists(st.integers(0, 4), max_size=3),
    sides=st.tuples(SIDES, SIDES),
    bias=st.booleans(),
    turned=st.booleans(),
)
def test_linear_and_its_gradients_equal_torch(
    dtype, tolerance, lead, sides, bias, turned
):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*lead, sides[0])).astype(dtype)
    w = rng.standard_normal(sides[::-1]).astype(dtype)
    b = rng.standard_normal(sides[1]).astype(dtype) if bias else None
    if turned:
        x, w = x.swapaxes(0, -1).copy().swapaxes(0, -1), w.T.copy().T
    x.flags.writeable = w.flags.writeable = False
    leaves = [
        None if a is None else torch.tensor(a.copy(), requires_grad=True)
        for a in (x, w, b)
    ]
    expected = F.linear(*leaves)
    dy = rng.standard_normal(expected.shape).astype(dtype)
    expected.backward(torch.tensor(dy))
    dx, dw, db = linear_backward(dy, x, w)
    pairs = [
        (linear(x, w, b), expected.detach()),
        (dx, leaves[0].grad),
        (dw, leaves[1].grad),
        (db, dy.reshape(-1, sides[1]).sum(0) if b is None else leaves[2].grad),
    ]
    for ours, theirs in pairs:
        close(ours, theirs, tolerance)


def test_gradient_of_the_bias_of_many_float32_samples_is_exact():
    dy = np.random.default_rng(0).random((300_000, 2), np.float32)
    x, w = np.zeros((len(dy), 1), np.float32), np.ones((2, 1), np.float32)
    db = linear_backward(dy, x, w)[2]
    close(db, np.float64(dy).sum(0).astype(np.float32), 1e-7)


X, W = np.ones((5, 4)), np.ones((3, 4))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"x": [1.0]},
            TypeError,
            "`x` is a list; it must be a plain NumPy array",
        ),
        ({"x": X.astype(int)}, TypeError, "`x` holds int64; it must hold flo"),
        (
            {"x": np.float16(X)},
            TypeError,
            "`x` holds float16; it must hold float32 or float64, in native "
            "byte order",
        ),
        ({"b": np.ma.ones(3)}, TypeError, "`b` is a MaskedArray; it must be"),
        (
            {"w": [1.0]},
            TypeError,
            "`w` is a list; it must be a plain NumPy array",
        ),
        (
            {"w": np.float32(W)},
            TypeError,
            "`w` holds float32; it must hold float64, as `x` does",
        ),
        (
            {"w": W[0]},
            ValueError,
            "`w` has shape (4,); it must be (out_features, in_features)",
        ),
        ({"w": W[:0]}, ValueError, "`w` has shape (0, 4); it must be"),
        (
            {"x": X[:, :3]},
            ValueError,
            "`x` has shape (5, 3); its last axis must have in_features=4, as "
            "`w` of shape (3, 4) has",
        ),
        ({"x": np.array(1.0)}, ValueError, "`x` has shape (); its last axis"),
        (
            {"b": [1.0]},
            TypeError,
            "`b` is a list; it must be a plain NumPy array",
        ),
        (
            {"b": np.ones(4)},
            ValueError,
            "`b` has shape (4,); it must be (out_features,) = (3,)",
        ),
        (
            {"dy": [1.0]},
            TypeError,
            "`dy` is a list; it must be a plain NumPy array",
        ),
        (
            {"dy": np.ones((3, 5))},
            ValueError,
            "`dy` has shape (3, 5); the output has shape (5, 3)",
        ),
    ],
)
def test_bad_input_is_named(changed, error, message):
    arguments = {"x": X, "w": W, **changed}
    if "dy" not in changed:
        with pytest.raises(error, match=re.escape(message)):
            linear(**arguments)
    if "b" not in changed:
        with pytest.raises(error, match=re.escape(message)):
            linear_backward(**{"dy": np.ones((5, 3)), **arguments})
