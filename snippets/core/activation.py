"""Activation functions and their gradients.

Each `…_backward(dy, x)` takes the gradient `dy` of the output and the input
`x` of the forward pass, and returns the gradient of the input. Arrays are
plain ones of float32 or float64, of any shape, and so are results.
"""

import math
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


# --8<-- [start:relu]
def relu(x: Array) -> Array:
    """Keep what is positive, set the rest to zero.

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Nair and Hinton 2010, section 2.
    """
    _check(x)
    return np.asarray(np.maximum(x, 0))


def relu_backward(dy: Array, x: Array) -> Array:
    """Let the gradient pass where the input was positive.

    dy, x: any shape, the same. At 0 the gradient is taken to be 0; at NaN it
    passes, so that a network that diverges shows it.
    Source: Nair and Hinton 2010, section 2.
    """
    _check(x, dy)
    # Bits times 0 or 1: as fast as a product, and infinity times 0 is 0.
    bits = dy.view(f"i{dy.itemsize}") * ~(x <= 0)
    return np.asarray(bits.view(dy.dtype))


# --8<-- [end:relu]


# --8<-- [start:leaky_relu]
def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> Array:
    """Keep what is positive, scale the rest down.

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Maas, Hannun and Ng 2013, eq. 3.
    """
    _check(x)
    below = np.minimum(x, 0) * x.dtype.type(negative_slope)
    return np.asarray(np.maximum(x, 0) + below)


def leaky_relu_backward(
    dy: Array, x: Array, *, negative_slope: float = 0.01
) -> Array:
    """Scale the gradient where the input was not positive.

    dy, x: any shape, the same.
    Source: Maas, Hannun and Ng 2013, eq. 3.
    """
    _check(x, dy)
    slopes = np.array([negative_slope, 1], dy.dtype)
    return np.asarray(dy * np.take(slopes, x > 0))


# --8<-- [end:leaky_relu]


# --8<-- [start:sigmoid]
def sigmoid(x: Array) -> Array:
    """Squash numbers into (0, 1): 1 / (1 + exp(-x)).

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 3.30.
    """
    _check(x)
    # Neither exponent is positive, so neither can overflow.
    return np.asarray(np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))))


def sigmoid_backward(dy: Array, x: Array) -> Array:
    """Multiply by the slope y (1 - y), which is at most 1/4.

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 3.35.
    """
    _check(x, dy)
    return np.asarray(dy * _slope(np.exp(-np.abs(x))))


def _slope(e: Array) -> Array:
    """Return y (1 - y) of the sigmoid at x, where e = exp(-|x|)."""
    return e / np.square(1 + e)  # without cancellation where y is near 1


# --8<-- [end:sigmoid]


# --8<-- [start:tanh]
def tanh(x: Array) -> Array:
    """Squash numbers into (-1, 1).

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.3.2.
    """
    _check(x)
    return np.asarray(np.tanh(x))


def tanh_backward(dy: Array, x: Array) -> Array:
    """Multiply by the slope 1 - y².

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.3.2.
    """
    _check(x, dy)
    # tanh(x) = 2 σ(2x) - 1, so its slope is 4 times that of σ at 2x.
    return np.asarray(dy * (4 * _slope(np.square(np.exp(-np.abs(x))))))


# --8<-- [end:tanh]


# --8<-- [start:gelu]
def gelu(x: Array) -> Array:
    """Weigh each number by the share of a normal distribution below it.

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Hendrycks and Gimpel 2016, section 2 (exact form, with erf).
    """
    _check(x)
    far = np.abs(x).clip(max=40)  # further out the tail is 0
    return np.asarray(np.maximum(x, 0) - far * _tail(far))


def gelu_backward(dy: Array, x: Array) -> Array:
    """Multiply by the slope Φ(x) + x φ(x).

    dy, x: any shape, the same.
    Source: Hendrycks and Gimpel 2016, section 2.
    """
    _check(x, dy)
    near = x.clip(-40, 40)
    tail = _tail(np.abs(near))
    density = np.exp(np.square(near) / -2) / math.sqrt(2 * math.pi)
    slope = np.where(x > 0, 1 - tail, tail) + near * density
    return np.asarray(dy * slope)


# --8<-- [end:gelu]


# --8<-- [start:tail]
def _tail(x: Array) -> Array:
    """Return 1 - Φ(x) for x ≥ 0, the share of a normal distribution above x.

    NumPy has no erf. Times exp(x²/2) the tail is so smooth that a polynomial
    in t = (x - 4) / (x + 4) serves for all x: relative error 2e-14 in float64
    and 1e-6 in float32 for x < 8.
    Source: Schonfelder 1978, Math. Comp. 32, section 3, for the change to t.
    """
    powers = TAIL[x.dtype.name]
    y, flat = np.empty(x.size, x.dtype), x.reshape(-1)
    for i in range(0, x.size, 8192):  # a part stays in the cache
        part = flat[i : i + 8192]
        t = (part - 4) / (part + 4)
        total = np.full_like(t, powers[-1])
        for power in powers[-2::-1]:
            total *= t
            total += power
        np.multiply(total, np.exp(np.square(part) / -2), out=y[i : i + 8192])
    return y.reshape(x.shape)


# --8<-- [end:tail]


# --8<-- [start:scaled_tail]
def _scaled_tail(t: float) -> float:
    """Return exp(x²/2) (1 - Φ(x)), at t = 1 its limit for large x."""
    if t == 1:
        return 0.0
    x = 4 * (1 + t) / (1 - t)
    if x < 3:
        return math.exp(x * x / 2) * math.erfc(x / math.sqrt(2)) / 2
    fraction = x  # Laplace: 1 / (x + 1 / (x + 2 / (x + 3 / …))) / √(2π)
    for i in range(100, 0, -1):
        fraction = x + i / fraction
    return 1 / (fraction * math.sqrt(2 * math.pi))


def _powers(degree: int) -> NDArray[np.float64]:
    """Interpolate the scaled tail at the Chebyshev points."""
    smooth = np.vectorize(_scaled_tail, [float])
    return chebyshev.cheb2poly(chebyshev.chebinterpolate(smooth, degree))


TAIL: dict[str, list[float]] = {
    "float32": _powers(12).tolist(),
    "float64": _powers(24).tolist(),
}


# --8<-- [end:scaled_tail]


# --8<-- [start:softmax]
def softmax(x: Array, *, axis: int = -1) -> Array:
    """Turn scores into probabilities: positive, with sum 1 along `axis`.

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 6.29.
    """
    return np.asarray(np.exp(log_softmax(x, axis=axis)))


def softmax_backward(dy: Array, x: Array, *, axis: int = -1) -> Array:
    """Multiply by the Jacobian diag(y) - y yᵀ.

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.2.2.3.
    """
    _check(x, dy)
    y = softmax(x, axis=axis)
    along = axis if x.ndim else None
    return np.asarray(y * (dy - np.sum(dy * y, axis=along, keepdims=True)))


# --8<-- [end:softmax]


# --8<-- [start:log_softmax]
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """Take the logarithm of `softmax` without computing tiny numbers.

    Any shape. Raises TypeError unless x holds float32 or float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 6.30-6.33.
    """
    _check(x)
    _check_axis(x, axis)
    if not x.size:
        return x.copy()
    along = axis if x.ndim else None
    x = x - x.max(axis=along, keepdims=True)  # exp(x) is now at most 1
    total = np.sum(np.exp(x), axis=along, keepdims=True)
    return np.asarray(x - np.log(total))


def log_softmax_backward(dy: Array, x: Array, *, axis: int = -1) -> Array:
    """Subtract the probabilities' share of the summed gradient.

    dy, x: any shape, the same.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.2.2.3.
    """
    _check(x, dy)
    y = softmax(x, axis=axis)
    total = np.sum(dy, axis=axis if x.ndim else None, keepdims=True)
    return np.asarray(dy - y * total)


# --8<-- [end:log_softmax]


def _check(x: Array, dy: Array | None = None) -> None:
    for name, a in (("x", x), ("dy", x if dy is None else dy)):
        if type(a) is not np.ndarray:
            raise TypeError(
                f"`{name}` is a {type(a).__name__}; it must be a plain NumPy "
                "array"
            )
        if a.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"`{name}` holds {a.dtype}; it must hold float32 or float64, "
                "in native byte order"
            )
        if a.dtype != x.dtype:
            raise TypeError(
                f"`dy` holds {a.dtype}; it must hold {x.dtype}, as `x` does"
            )
        if a.shape != x.shape:
            raise ValueError(f"`dy` has shape {a.shape}; `x` has {x.shape}")


def _check_axis(x: Array, axis: int) -> None:
    axes = max(1, x.ndim)
    if not -axes <= axis < axes:
        raise ValueError(
            f"`axis={axis}` must lie between {-axes} and {axes - 1}, as `x` "
            f"has shape {x.shape}"
        )
