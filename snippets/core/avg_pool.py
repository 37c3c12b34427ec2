"""Mean pooling in two dimensions, global mean pooling, and their gradients.

Built on pool.py, which must lie beside this file. Arrays are laid out
N, C, H, W, and hold float32 or float64.
"""

import numpy as np
from numpy.typing import NDArray

try:
    from .pool import (
        Array,
        Pair,
        Shape,
        Windows,
        _blocks,
        _check_floats,
        _check_pool,
        _check_shape,
        _extent,
        _pad,
        _tap,
    )
except ImportError:  # copied into a folder that is no package
    from pool import (  # type: ignore[import-not-found,no-redef]
        Array,
        Pair,
        Shape,
        Windows,
        _blocks,
        _check_floats,
        _check_pool,
        _check_shape,
        _extent,
        _pad,
        _tap,
    )


# --8<-- [start:avg_pool]
def avg_pool2d(
    x: Array,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Take the mean of each window.

    x: (n, c, h, w). Returns (n, c, oh, ow). `stride` is the window's size
    unless given. `ceil_mode` lets the last window hang over the edge; what
    lies beyond the padding is never counted, the padding's zeros are unless
    `count_include_pad` is False.
    Raises ValueError where shapes or settings do not fit, TypeError unless x
    holds float32 or float64.
    Source: LeCun et al. 1998, section II.B (subsampling).
    """
    _check_floats("x", x)
    window = _check_pool(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    shares = _shares(x.shape[2:], window, count_include_pad).astype(x.dtype)
    planes = x.reshape(-1, *x.shape[2:])
    y = np.empty((len(planes), *window.size), x.dtype)
    for some in _blocks(planes):
        padded, total = _pad(planes[some], window, 0), y[some]
        # Add up the rows of each window, then what is left of its columns.
        rows = _tap(padded, window, 0, 0)
        for u in range(1, window.kernel[0]):
            tap = _tap(padded, window, 0, u)
            rows = np.add(rows, tap, out=rows if u > 1 else None)
        total[...] = _tap(rows, window, 1, 0)
        for v in range(1, window.kernel[1]):
            total += _tap(rows, window, 1, v)
        total *= shares
    return y.reshape(*x.shape[:2], *window.size)


# --8<-- [end:avg_pool]


# --8<-- [start:avg_pool_backward]
def avg_pool2d_backward(
    dy: Array,
    input_shape: Shape,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Give each value of a window an equal share of the window's gradient.

    dy: (n, c, oh, ow), the shape of `avg_pool2d`'s result; input_shape:
    (n, c, h, w), the shape returned. Where windows overlap, shares add up.
    Raises as `avg_pool2d`, also for `dy`.
    Source: LeCun et al. 1998, section II.B (subsampling).
    """
    n, c, h, w = shape = _check_shape(dy, input_shape)
    window = _check_pool(shape, kernel_size, stride, padding, 1, ceil_mode)
    if dy.shape[2:] != window.size:
        raise ValueError(
            f"`dy` has shape {dy.shape}; it must be {(n, c, *window.size)}"
        )
    shares = _shares((h, w), window, count_include_pad).astype(dy.dtype)
    (top, left), extent = window.padding, _extent(window)
    high, wide = max(extent[0], top + h), max(extent[1], left + w)
    cut = high > h  # else the shares can be added in place
    dx = np.zeros((n * c, h, w), dy.dtype)
    for some in _blocks(dx):
        share = dy.reshape(-1, *window.size)[some] * shares
        columns = np.zeros((*share.shape[:2], wide), dy.dtype)
        _spread(share, columns, window, 1)
        rows = np.zeros((len(share), high, w), dy.dtype) if cut else dx[some]
        _spread(columns[:, :, left : left + w], rows, window, 0)
        if cut:
            dx[some] = rows[:, top : top + h]
    return dx.reshape(n, c, h, w)


# --8<-- [end:avg_pool_backward]


# --8<-- [start:global_avg_pool]
def global_avg_pool2d(x: Array) -> Array:
    """Take the mean of each plane.

    x: (n, c, h, w). Returns (n, c, 1, 1).
    Raises ValueError for another rank or planes without pixels, TypeError
    unless x holds float32 or float64.
    Source: Lin, Chen and Yan 2013 (Network in Network), section 3.2.
    """
    _check_floats("x", x)
    if 0 in x.shape[2:]:
        raise ValueError(f"`x` has shape {x.shape}; its planes are empty")
    mean: Array = x.mean((2, 3), dtype=np.float64, keepdims=True)
    return mean.astype(x.dtype)


def global_avg_pool2d_backward(dy: Array, input_shape: Shape) -> Array:
    """Give every pixel of a plane an equal share of the plane's gradient.

    dy: (n, c, 1, 1); input_shape: (n, c, h, w), the shape returned.
    Raises ValueError where the shapes do not fit.
    Source: Lin, Chen and Yan 2013 (Network in Network), section 3.2.
    """
    n, c, h, w = _check_shape(dy, input_shape)
    if dy.shape != (n, c, 1, 1):
        raise ValueError(
            f"`dy` has shape {dy.shape}; the output has shape {(n, c, 1, 1)}"
        )
    dx = np.empty(input_shape, dy.dtype)
    dx[...] = dy / (h * w)
    return dx


# --8<-- [end:global_avg_pool]


def _shares(
    plane: Shape, window: Windows, include_pad: bool
) -> NDArray[np.float64]:
    """Return one over the number of values in each window: (oh, ow)."""
    k, s, p, _, size = window
    counts = []
    for axis in range(2):
        start = np.arange(size[axis]) * s[axis] - p[axis]
        end = np.minimum(start + k[axis], plane[axis] + p[axis])
        if not include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, plane[axis])
        counts.append(end - start)
    return 1 / np.multiply.outer(counts[0], counts[1])


def _spread(share: Array, onto: Array, window: Windows, axis: int) -> None:
    """Add each share to all that its window covers along an axis."""
    apart = window.stride[axis] >= window.kernel[axis]
    for tap in range(window.kernel[axis]):
        view = _tap(onto, window, axis, tap)
        if apart:
            view[...] = share
        else:
            view += share
