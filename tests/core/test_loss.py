import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from agree import close
from snippets.core import loss

TYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1.6e-15), (np.float32, 7e-7)]
)


@TYPES
@given(
    n=st.integers(0, 5),
    classes=st.integers(1, 6),
    scale=st.sampled_from([1.0, 1000.0]),
    seed=st.integers(0, 99),
    kind=st.sampled_from([np.int64, np.uint8]),
)
def test_cross_entropy_and_its_gradient_equal_torch(
    dtype, tolerance, n, classes, scale, seed, kind
):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((n, classes)) * scale).astype(dtype)
    logits.flags.writeable = False
    labels = rng.integers(0, classes, n).astype(kind)
    leaf = torch.tensor(logits.copy(), requires_grad=True)
    expected = F.cross_entropy(leaf, torch.tensor(labels.astype(np.int64)))
    expected.backward()
    ours = loss.cross_entropy(logits, labels)
    gradient = loss.cross_entropy_backward(logits, labels)
    close(ours, expected, tolerance)
    close(gradient, leaf.grad, tolerance)


@TYPES
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    seed=st.integers(0, 99),
)
def test_mean_squared_error_and_its_gradient_equal_torch(
    dtype, tolerance, shape, seed
):
    rng = np.random.default_rng(seed)
    y, target = rng.standard_normal((2, *shape)).astype(dtype)
    y, target = np.asarray(y), np.asarray(target)  # of no axes, too
    leaf = torch.tensor(y, requires_grad=True)
    expected = F.mse_loss(leaf, torch.tensor(target))
    expected.backward()
    ours = loss.mean_squared_error(y, target)
    gradient = loss.mean_squared_error_backward(y, target)
    close(ours, expected, tolerance)
    close(gradient, leaf.grad, tolerance)


def test_loss_of_no_knowledge_is_the_logarithm_of_the_classes():
    ours = loss.cross_entropy(np.zeros((3, 10)), np.array([0, 5, 9]))
    assert ours == pytest.approx(np.log(10), abs=1e-15)


X, LABELS = np.ones((3, 4)), np.array([0, 1, 3])


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        ([1.0], LABELS, TypeError, "`logits` is a list; it must be a plain"),
        (X.astype(int), LABELS, TypeError, "`logits` holds int64; it must"),
        (
            X[0],
            LABELS,
            ValueError,
            "`logits` has shape (4,); it must be (n, classes)",
        ),
        (X[:, :0], LABELS, ValueError, "`logits` has shape (3, 0); it must"),
        (X, [0, 1, 3], TypeError, "`labels` is a list; it must be a plain"),
        (X, LABELS * 1.0, TypeError, "`labels` holds float64; it must hold"),
        (np.float16(X), LABELS, TypeError, "`logits` holds float16; it must"),
        (X, LABELS.astype("m8[s]"), TypeError, "`labels` holds timedelta64[s]"),
        (X, np.ma.array(LABELS), TypeError, "`labels` is a MaskedArray; it mu"),
        (X, LABELS > 0, TypeError, "`labels` holds bool; it must hold"),
        (
            X,
            LABELS[:2],
            ValueError,
            "`labels` has shape (2,); it must be (n,) = (3,), one for each "
            "row of `logits`",
        ),
        (
            X,
            LABELS + 1,
            ValueError,
            "`labels` holds 4; it must lie between 0 and 3",
        ),
        (X, LABELS - 1, ValueError, "`labels` holds -1; it must lie between"),
    ],
)
def test_bad_logits_and_labels_are_named(logits, labels, error, message):
    for function in (loss.cross_entropy, loss.cross_entropy_backward):
        with pytest.raises(error, match=re.escape(message)):
            function(logits, labels)


@pytest.mark.parametrize(
    ("y", "target", "error", "message"),
    [
        ([1.0], X, TypeError, "`y` is a list; it must be a plain NumPy array"),
        (
            X.astype(int),
            X,
            TypeError,
            "`y` holds int64; it must hold float32 or",
        ),
        (
            X,
            [1.0],
            TypeError,
            "`target` is a list; it must be a plain NumPy array",
        ),
        (np.float16(X), X, TypeError, "`y` holds float16; it must hold floa"),
        (X, np.ma.array(X), TypeError, "`target` is a MaskedArray; it must"),
        (X, X > 0, TypeError, "`target` holds bool; it must hold float32 or"),
        (
            X,
            np.float32(X),
            TypeError,
            "`target` holds float32; it must hold float64, as `y` does",
        ),
        (X, X[0], ValueError, "`target` has shape (4,); `y` has (3, 4)"),
    ],
)
def test_bad_targets_are_named(y, target, error, message):
    for function in (
        loss.mean_squared_error,
        loss.mean_squared_error_backward,
    ):
        with pytest.raises(error, match=re.escape(message)):
            function(y, target)
