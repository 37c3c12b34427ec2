"""Activation functions and their gradients.

Each `…_backward(dy, x)` takes the gradient `dy` of the output and the input
`x` of the forward pass, and returns the gradient of the input.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


# --8<-- [start:relu]
def relu(x: Array) -> Array:
    """Keep what is positive, set the rest to zero.

    Any shape. Raises TypeError where x holds no floats.
    Source: Nair and Hinton 2010, section 2.
    """
    _check(x)
    return np.maximum(x, 0)


def relu_backward(dy: Array, x: Array) -> Array:
    """Let the gradient pass where the input was positive.

    dy, x: any shape, the same. At 0 the gradient is taken to be 0.
    Source: Nair and Hinton 2010, section 2.
    """
    _check(x, dy)
    return np.where(x > 0, dy, dy.dtype.type(0))


# --8<-- [end:relu]


# --8<-- [start:leaky_relu]
def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> Array:
    """Keep what is positive, scale the rest down.

    Any shape. Raises TypeError where x holds no floats.
    Source: Maas, Hannun and Ng 2013, eq. 3.
    """
    _check(x)
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


def leaky_relu_backward(
    dy: Array, x: Array, *, negative_slope: float = 0.01
) -> Array:
    """Scale the gradient where the input was not positive.

    dy, x: any shape, the same.
    Source: Maas, Hannun and Ng 2013, eq. 3.
    """
    _check(x, dy)
    return np.where(x > 0, dy, dy * dy.dtype.type(negative_slope))


# --8<-- [end:leaky_relu]


# --8<-- [start:sigmoid]
def sigmoid(x: Array) -> Array:
    """Squash numbers into (0, 1): 1 / (1 + exp(-x)).

    Any shape. Raises TypeError where x holds no floats.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 3.30.
    """
    _check(x)
    e = np.exp(-np.abs(x))  # at most 1, so it cannot overflow
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def sigmoid_backward(dy: Array, x: Array) -> Array:
    """Multiply by the slope y (1 - y), which is at most 1/4.

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 3.35.
    """
    _check(x, dy)
    return dy * sigmoid(x) * sigmoid(-x)  # 1 - y without cancellation


# --8<-- [end:sigmoid]


# --8<-- [start:tanh]
def tanh(x: Array) -> Array:
    """Squash numbers into (-1, 1).

    Any shape. Raises TypeError where x holds no floats.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.3.2.
    """
    _check(x)
    return np.tanh(x)


def tanh_backward(dy: Array, x: Array) -> Array:
    """Multiply by the slope 1 - y².

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.3.2.
    """
    _check(x, dy)
    # 1 - tanh² = 4 σ(2x) σ(-2x), without cancellation where y is near 1
    return dy * 4 * sigmoid(2 * x) * sigmoid(-2 * x)


# --8<-- [end:tanh]


# --8<-- [start:gelu]
def gelu(x: Array) -> Array:
    """Weigh each number by the share of a normal distribution below it.

    Any shape. Raises TypeError where x holds no floats.
    Source: Hendrycks and Gimpel 2016, section 2 (exact form, with erf).
    """
    _check(x)
    return x * _normal_cdf(x)


def gelu_backward(dy: Array, x: Array) -> Array:
    """Multiply by the slope Φ(x) + x φ(x).

    dy, x: any shape, the same.
    Source: Hendrycks and Gimpel 2016, section 2.
    """
    _check(x, dy)
    near = np.clip(x, -40, 40)  # the density further out is 0, x² may overflow
    density = np.exp(-np.square(near) / 2)
    return dy * (_normal_cdf(x) + x * density / math.sqrt(2 * math.pi))


def _normal_cdf(x: Array) -> Array:
    erfc = np.frompyfunc(math.erfc, 1, 1)  # NumPy has no erf of its own
    z: Array = np.asarray(erfc(x / -math.sqrt(2)) / 2, x.dtype)
    return z


# --8<-- [end:gelu]


# --8<-- [start:softmax]
def softmax(x: Array, *, axis: int = -1) -> Array:
    """Turn scores into probabilities: positive, with sum 1 along `axis`.

    Any shape. Raises TypeError where x holds no floats.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 6.29.
    """
    return np.exp(log_softmax(x, axis=axis))


def softmax_backward(dy: Array, x: Array, *, axis: int = -1) -> Array:
    """Multiply by the Jacobian diag(y) - y yᵀ.

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.2.2.3.
    """
    _check(x, dy)
    y = softmax(x, axis=axis)
    dx: Array = y * (dy - np.sum(dy * y, axis=axis, keepdims=True))
    return dx


# --8<-- [end:softmax]


# --8<-- [start:log_softmax]
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """Take the logarithm of `softmax` without computing tiny numbers.

    Any shape. Raises TypeError where x holds no floats.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 6.30-6.33.
    """
    _check(x)
    if not x.size:
        return x.copy()
    x = x - x.max(axis=axis, keepdims=True)  # exp(x) is now at most 1
    y: Array = x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True))
    return y


def log_softmax_backward(dy: Array, x: Array, *, axis: int = -1) -> Array:
    """Subtract the probabilities' share of the summed gradient.

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.2.2.3.
    """
    _check(x, dy)
    dx: Array = dy - softmax(x, axis=axis) * dy.sum(axis=axis, keepdims=True)
    return dx


# --8<-- [end:log_softmax]


def _check(x: Array, dy: Array | None = None) -> None:
    for name, a in (("x", x), ("dy", x if dy is None else dy)):
        if not isinstance(a, np.ndarray):
            raise TypeError(
                f"`{name}` is a {type(a).__name__}; it must be a NumPy array"
            )
        if not np.issubdtype(a.dtype, np.floating):
            raise TypeError(f"`{name}` holds {a.dtype}; it must hold floats")
        if a.dtype != x.dtype:
            raise TypeError(
                f"`dy` holds {a.dtype}; it must hold {x.dtype}, as `x` does"
            )
        if a.shape != x.shape:
            raise ValueError(f"`dy` has shape {a.shape}; `x` has {x.shape}")
