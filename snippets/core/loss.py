"""Losses that end a network, and the gradients that start the way back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


# --8<-- [start:cross_entropy]
def cross_entropy(logits: Array, labels: Labels) -> np.floating[Any]:
    """Average the surprise at the true labels: -log softmax(logits)[label].

    logits: (n, classes); labels: (n,), integers from 0 to classes - 1.
    Returns a scalar of the type of `logits`; of an empty batch, nan.
    Raises ValueError for shapes or labels that do not fit, TypeError unless
    logits hold float32 or float64 and labels integers.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 6.30.
    """
    _check_labels(logits, labels)
    picked = _log_softmax(logits)[np.arange(len(labels)), labels]
    return _mean(-picked)


def cross_entropy_backward(logits: Array, labels: Labels) -> Array:
    """Subtract the truth from the prediction: (softmax - one-hot) / n.

    Shapes and errors as for `cross_entropy`. Returns (n, classes).
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.2.2.3.
    """
    _check_labels(logits, labels)
    gradient = np.exp(_log_softmax(logits))
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / max(1, len(labels))


def _log_softmax(logits: Array) -> Array:
    # The largest is 0 after this, so that exp neither overflows nor sums to 0.
    shifted = logits - logits.max(1, keepdims=True)
    y: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return y


# --8<-- [end:cross_entropy]


# --8<-- [start:mean_squared_error]
def mean_squared_error(y: Array, target: Array) -> np.floating[Any]:
    """Average the squared differences over all values.

    y, target: any shape, the same. Returns a scalar of the type of `y`; of
    empty arrays, nan.
    Raises ValueError where the shapes differ, TypeError unless both hold
    float32 or both float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 5.4.
    """
    _check_target(y, target)
    return _mean(np.square(y - target))


def mean_squared_error_backward(y: Array, target: Array) -> Array:
    """Return twice the difference, divided by the number of values.

    Shapes and errors as for `mean_squared_error`. Returns the shape of y.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 5.4.
    """
    _check_target(y, target)
    return np.asarray((y - target) * 2 / max(1, y.size))


# --8<-- [end:mean_squared_error]


def _mean(values: Array) -> np.floating[Any]:
    if not values.size:
        return values.dtype.type(np.nan)  # np.mean would warn
    mean: np.floating[Any] = values.mean()
    return mean


def _check_floats(name: str, a: Array) -> None:
    if type(a) is not np.ndarray:
        raise TypeError(
            f"`{name}` is a {type(a).__name__}; it must be a plain NumPy array"
        )
    if a.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` holds {a.dtype}; it must hold float32 or float64, in "
            "native byte order"
        )


def _check_labels(logits: Array, labels: Labels) -> None:
    _check_floats("logits", logits)
    if logits.ndim != 2 or not logits.shape[1]:
        raise ValueError(
            f"`logits` has shape {logits.shape}; it must be (n, classes)"
        )
    if type(labels) is not np.ndarray:
        raise TypeError(
            f"`labels` is a {type(labels).__name__}; it must be a plain NumPy "
            "array"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"`labels` holds {labels.dtype}; it must hold integers")
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"`labels` has shape {labels.shape}; it must be (n,) = "
            f"{logits.shape[:1]}, one for each row of `logits`"
        )
    for label in (labels.min(), labels.max()) if labels.size else ():
        if not 0 <= label < logits.shape[1]:
            raise ValueError(
                f"`labels` holds {label}; it must lie between 0 and "
                f"{logits.shape[1] - 1}"
            )


def _check_target(y: Array, target: Array) -> None:
    _check_floats("y", y)
    _check_floats("target", target)
    if target.dtype != y.dtype:
        raise TypeError(
            f"`target` holds {target.dtype}; it must hold {y.dtype}, as `y` "
            "does"
        )
    if target.shape != y.shape:
        raise ValueError(
            f"`target` has shape {target.shape}; `y` has {y.shape}"
        )
