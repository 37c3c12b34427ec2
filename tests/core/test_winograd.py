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
from snippets.core import winograd
from snippets.core.winograd import winograd_conv2d, winograd_conv2d_backward

# As stated: of the largest |x| times Σ|w|. Hypothesis saw a fifth of it.
BOUNDS = {
    (np.float32, 2): 6e-7,
    (np.float32, 4): 6e-6,
    (np.float64, 2): 1.5e-15,
    (np.float64, 4): 1.1e-14,
}


@st.composite
def cases(draw):
    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    p, d = pair(0, 4), pair(1, 3)
    size = [
        max(1, 2 * d[a] + 1 - 2 * p[a]) + draw(st.integers(0, 12))
        for a in (0, 1)
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype, tile = draw(st.sampled_from(list(BOUNDS)))
    n, c, o = draw(st.tuples(st.integers(0, 3), *[st.integers(1, 5)] * 2))
    x, w = rng.standard_normal((n, c, *size)), rng.standard_normal((o, c, 3, 3))
    if draw(st.booleans()):  # of very different sizes
        x = x * np.exp(3 * rng.standard_normal(x.shape))
    x, w = (laid_out(a.astype(dtype), draw(LAYOUTS)) for a in (x, w))
    b = rng.standard_normal(o).astype(dtype) if draw(st.booleans()) else None
    block = draw(st.sampled_from([1, 4000, 1 << 20]))
    return rng, x, w, b, block, {"padding": p, "dilation": d}, tile


@given(cases())
def test_values_and_gradients_equal_torch_within_the_stated_bound(case):
    rng, x, w, b, block, settings, tile = case
    before = x.copy(), w.copy()
    with patch.object(winograd, "BLOCK", block):
        y = winograd_conv2d(x, w, b, **settings, tile=tile)
        dy = rng.standard_normal(y.shape).astype(x.dtype)
        results = [
            y,
            *winograd_conv2d_backward(dy, x, w, **settings, tile=tile),
        ]
        nothing, dw, db = winograd_conv2d_backward(
            dy, x, w, **settings, tile=tile, input_gradient=False
        )
    assert nothing is None
    np.testing.assert_array_equal(dw, results[2])
    np.testing.assert_array_equal(db, results[3])
    leaves = [
        torch.tensor(a.astype(float, "C"), requires_grad=True)
        for a in (x, w, np.zeros(len(w)) if b is None else b)
    ]
    expected = F.conv2d(*leaves, **settings)
    gradients = torch.autograd.grad(
        expected, leaves, torch.tensor(dy.astype(float))
    )
    largest = np.abs(x).max(initial=0)
    sizes = [
        largest * np.abs(w).sum((1, 2, 3))[:, None, None]
        + (0 if b is None else np.abs(b)[:, None, None]),
        np.abs(dy).max(initial=0) * np.abs(w).sum((0, 2, 3))[:, None, None],
        largest * np.abs(dy).sum((0, 2, 3))[:, None, None, None],
        np.abs(dy).sum((0, 2, 3)),
    ]
    bound = BOUNDS[x.dtype.type, tile]
    for ours, truth, size in zip(
        results, (expected, *gradients), sizes, strict=True
    ):
        assert ours.dtype == x.dtype
        assert ours.flags.c_contiguous
        close(ours.astype(float), truth, bound, np.float64(size))
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


@pytest.mark.parametrize(("dtype", "tile"), BOUNDS)
def test_error_stays_within_the_bound_with_many_channels(dtype, tile):
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal, lambda s: np.sign(rng.random(s) - 0.5),
                 rng.random):  # fmt: skip
        x, w = draw((1, 256, 12, 12)).astype(dtype), draw((8, 256, 3, 3))
        w = w.astype(dtype)
        truth = F.conv2d(
            torch.tensor(x.astype(float)), torch.tensor(w.astype(float))
        )
        size = np.abs(x).max() * np.abs(w).sum((1, 2, 3))[:, None, None]
        y = winograd_conv2d(x, w, tile=tile)
        close(y.astype(float), truth, BOUNDS[dtype, tile], size.astype(float))


@pytest.mark.parametrize("tile", [2, 4])
def test_transforms_give_the_correlation_in_one_dimension(tile):
    a, g, b = winograd.transforms(tile)
    rng = np.random.default_rng(0)
    d, kernel = rng.standard_normal(tile + 2), rng.standard_normal(3)
    ours = a.T @ ((g @ kernel) * (b.T @ d))
    np.testing.assert_allclose(ours, np.correlate(d, kernel), atol=1e-14)


def test_tiles_are_of_four_outputs_unless_said():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 2, 9, 9)), rng.standard_normal((2, 2, 3, 3))
    y = winograd_conv2d(x, w)
    np.testing.assert_array_equal(y, winograd_conv2d(x, w, tile=4))
    assert (y != winograd_conv2d(x, w, tile=2)).any()
    dw = winograd_conv2d_backward(y, x, w)[1]
    fours = winograd_conv2d_backward(y, x, w, tile=4)[1]
    np.testing.assert_array_equal(dw, fours)


def test_memory_is_results_kernels_in_36_numbers_and_a_few_blocks():
    x, w = np.ones((4, 64, 112, 112), np.float32), np.ones((64, 64, 3, 3))
    w = w.astype(np.float32)
    dy = winograd_conv2d(x, w, padding=1)
    for run in (
        lambda: winograd_conv2d(x, w, padding=1),
        lambda: winograd_conv2d_backward(dy, x, w, padding=1),
    ):
        tracemalloc.start()
        run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        kernels = w.nbytes / 9 * 36
        assert peak <= x.nbytes + 2 * kernels + 4 * winograd.BLOCK


X, W = np.ones((2, 4, 5, 6)), np.ones((8, 4, 3, 3))
KINDS = "it must hold float32 or float64, in native byte order"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "`x` is a list; it must be a plain NumPy"),
        ({"x": np.ma.array(X)}, TypeError, "`x` is a MaskedArray; it must"),
        ({"x": np.float16(X)}, TypeError, f"`x` holds float16; {KINDS}"),
        (
            {"w": np.float32(W)},
            TypeError,
            "`w` holds float32; it must hold float64, as `x` does",
        ),
        (
            {"x": X[0]},
            ValueError,
            "`x` has shape (4, 5, 6); it must be (any, any, any, any)",
        ),
        ({"x": X[:, :, :0]}, ValueError, "`x` has shape (2, 4, 0, 6); only n"),
        (
            {"w": np.ones((8, 4, 3, 1))},
            ValueError,
            "`w` has shape (8, 4, 3, 1); it must be (any, 4, 3, 3)",
        ),
        ({"w": W[:, :2]}, ValueError, "`w` has shape (8, 2, 3, 3); it must"),
        ({"w": W[:0]}, ValueError, "`w` has shape (0, 4, 3, 3); it must have"),
        ({"b": X}, ValueError, "`b` has shape (2, 4, 5, 6); it must be (8)"),
        ({"b": np.ones(7)}, ValueError, "`b` has shape (7,); it must be (8)"),
        ({"dy": X}, ValueError, "`dy` has shape (2, 4, 5, 6); it must be (2,"),
        ({"padding": -1}, ValueError, "`padding=-1` must be at least 0"),
        ({"padding": 1.0}, TypeError, "`padding=1.0` must be one or two int"),
        ({"padding": (1, True)}, TypeError, "`padding=(1, True)` must be one"),
        ({"padding": (1,)}, TypeError, "`padding=(1,)` must be one or two"),
        ({"dilation": 0}, ValueError, "`dilation=0` must be at least 1"),
        (
            {"dilation": (1, 3)},
            ValueError,
            "`w` covers 3×7 pixels with dilation=(1, 3); the padded input has "
            "only 5×6",
        ),
        ({"tile": 3}, ValueError, "`tile=3` must be 2 or 4"),
    ],
)
def test_bad_input_is_named(changed, error, message):
    arguments = {"x": X, "w": W, **changed}
    if "dy" not in changed:
        with pytest.raises(error, match="^" + re.escape(message)):
            winograd_conv2d(**arguments)
    if "b" not in changed:
        with pytest.raises(error, match="^" + re.escape(message)):
            winograd_conv2d_backward(
                **{"dy": np.ones((2, 8, 3, 4)), **arguments}
            )


def test_kernel_as_large_as_the_padded_input_fits():
    w = np.ones((8, 4, 3, 3))
    y = winograd_conv2d(X[:, :, :1, :1], w, padding=1)
    np.testing.assert_allclose(y, np.full((2, 8, 1, 1), 4), rtol=1e-13)
