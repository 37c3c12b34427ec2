"""The fully connected layer, forward and backward."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


# --8<-- [start:forward]
def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """Multiply by a matrix and add a bias: y = x wᵀ + b.

    x: (…, in_features); w: (out_features, in_features); b: (out_features,).
    Returns (…, out_features).
    Raises ValueError where shapes do not fit, TypeError unless all arrays
    hold float32 or all float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.3.
    """
    _check(x, w)
    if b is not None:
        _check_array("b", b, x)
        if b.shape != w.shape[:1]:
            raise ValueError(
                f"`b` has shape {b.shape}; it must be (out_features,) = "
                f"{w.shape[:1]}"
            )
    y: Array = x @ w.T
    return y if b is None else y + b


# --8<-- [end:forward]


# --8<-- [start:backward]
def linear_backward(
    dy: Array, x: Array, w: Array
) -> tuple[Array, Array, Array]:
    """Carry the gradient of the output back to input, matrix and bias.

    dy: (…, out_features). Returns (dx, dw, db), shaped as x, as w and
    (out_features,). Raises as `linear`, and ValueError for a `dy` of another
    shape.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.5.6.
    """
    _check(x, w)
    _check_array("dy", dy, x)
    if dy.shape != (*x.shape[:-1], len(w)):
        raise ValueError(
            f"`dy` has shape {dy.shape}; the output has shape "
            f"{(*x.shape[:-1], len(w))}"
        )
    rows = dy.reshape(-1, dy.shape[-1])  # (samples, out_features)
    # Down a column NumPy adds one by one: in float32 that would lose digits.
    db = rows.sum(0, dtype=np.float64).astype(dy.dtype)
    return dy @ w, rows.T @ x.reshape(-1, x.shape[-1]), db


# --8<-- [end:backward]


def _check(x: Array, w: Array) -> None:
    _check_array("x", x, x)
    _check_array("w", w, x)
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(
            f"`w` has shape {w.shape}; it must be (out_features, in_features)"
        )
    if x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            f"`x` has shape {x.shape}; its last axis must have "
            f"in_features={w.shape[1]}, as `w` of shape {w.shape} has"
        )


def _check_array(name: str, a: Array, x: Array) -> None:
    if type(a) is not np.ndarray:
        raise TypeError(
            f"`{name}` is a {type(a).__name__}; it must be a plain NumPy array"
        )
    if a.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` holds {a.dtype}; it must hold float32 or float64, in "
            "native byte order"
        )
    if a.dtype != x.dtype:
        raise TypeError(
            f"`{name}` holds {a.dtype}; it must hold {x.dtype}, as `x` does"
        )
