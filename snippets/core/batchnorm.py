"""Batch normalization: training, prediction, and the way back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


# --8<-- [start:batch_norm]
def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Standardize each channel, then scale and shift it.

    x: (n, c) or (n, c, h, w); gamma, beta, running_mean, running_var: (c,).
    Returns (y, running_mean, running_var): in training, y is made with the
    batch's own statistics and the running ones take a step of `momentum`
    towards them; in prediction, y is made with the running ones.
    Raises ValueError where shapes or settings do not fit, or where training
    meets a single value per channel, TypeError unless all arrays hold float32
    or all float64.
    Source: Ioffe and Szegedy 2015, algorithms 1 and 2; `momentum` as in
    PyTorch: the weight of the new, not of the old.
    """
    _check(x, gamma, beta, running_mean, running_var, eps, momentum)
    momentum, eps = float(momentum), float(eps)
    mean: Array = running_mean.astype(np.float64)
    var: Array = running_var.astype(np.float64)
    if training and len(x):
        batch_mean, batch_var, count = _statistics(x)
        running_mean = mean + momentum * (batch_mean - mean)
        # The running variance remembers the unbiased estimate.
        unbiased = batch_var * (count / (count - 1))
        running_var = var + momentum * (unbiased - var)
        mean, var = batch_mean, batch_var
    y = (x - _wide(mean, x)) / np.sqrt(_wide(var, x) + eps)
    y = y * _wide(gamma, x) + _wide(beta, x)
    y, mean, var = (a.astype(x.dtype) for a in (y, running_mean, running_var))
    return y, mean, var


# --8<-- [end:batch_norm]


# --8<-- [start:batch_norm_backward]
def batch_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    running_mean: Array,
    running_var: Array,
    *,
    training: bool,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Carry the gradient back, in training through mean and variance too.

    dy: the shape of x. Returns (dx, dgamma, dbeta), shaped as x, (c,), (c,).
    Raises as `batch_norm`, and ValueError for a `dy` of another shape.
    Source: Ioffe and Szegedy 2015, section 3.
    """
    _check(x, gamma, gamma, running_mean, running_var, eps, dy=dy)
    eps = float(eps)
    mean: Array = running_mean.astype(np.float64)
    var: Array = running_var.astype(np.float64)
    if training and len(x):
        mean, var, _ = _statistics(x)
    deviation = np.sqrt(_wide(var, x) + eps)
    standard = (x - _wide(mean, x)) / deviation
    axes = _axes(x)
    dgamma = (dy * standard).sum(axes)
    dbeta = dy.sum(axes, dtype=np.float64)
    through = dy.astype(np.float64)
    if training and len(x):
        # Standardizing removes mean and scale: so it does to the gradient.
        share = dy.size // dy.shape[1]
        through = through - _wide(dbeta / share, x)
        through -= standard * _wide(dgamma / share, x)
    dx = through * _wide(gamma, x) / deviation
    return dx.astype(x.dtype), dgamma.astype(x.dtype), dbeta.astype(x.dtype)


# --8<-- [end:batch_norm_backward]


# --8<-- [start:statistics]
def _statistics(x: Array) -> tuple[Array, Array, int]:
    """Return mean and variance of each channel, and over how many values."""
    count = x.size // x.shape[1]
    if count < 2:
        raise ValueError(
            f"`x` has shape {x.shape}: one value per channel; training needs "
            "at least 2"
        )
    # In float64, as sums of many float32 lose digits.
    mean = x.mean(_axes(x), dtype=np.float64)
    return mean, x.var(_axes(x), dtype=np.float64), count


def _axes(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))  # all but the channels


def _wide(a: Array, x: Array) -> Array:
    return a.reshape(-1, *[1] * (x.ndim - 2))  # (c,) meets (n, c, h, w)


# --8<-- [end:statistics]


def _check(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    eps: float,
    momentum: float = 0,
    dy: Array | None = None,
) -> None:
    arrays = {
        "x": x,
        "gamma": gamma,
        "beta": beta,
        "running_mean": running_mean,
        "running_var": running_var,
    }
    for name, a in (arrays if dy is None else {**arrays, "dy": dy}).items():
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
                f"`{name}` holds {a.dtype}; it must hold {x.dtype}, as `x` does"
            )
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(
            f"`x` has shape {x.shape}; it must be (n, c) or (n, c, h, w)"
        )
    for name in list(arrays)[1:]:
        if arrays[name].shape != x.shape[1:2]:
            raise ValueError(
                f"`{name}` has shape {arrays[name].shape}; it must be "
                f"{x.shape[1:2]}, one value for each channel of `x`"
            )
    if dy is not None and dy.shape != x.shape:
        raise ValueError(f"`dy` has shape {dy.shape}; `x` has {x.shape}")
    if (running_var < 0).any():
        raise ValueError(
            f"`running_var` holds {running_var.min()}; it cannot be negative"
        )
    if not 0 <= momentum <= 1:
        raise ValueError(f"`momentum={momentum}` must lie between 0 and 1")
    if not eps > 0:
        raise ValueError(f"`eps={eps}` must be positive")
