"""Pooling in two dimensions: largest value, mean, and their gradients.

Arrays are laid out N, C, H, W.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
Pair = tuple[int, int]
Shape = tuple[int, ...]


# --8<-- [start:max_pool]
def max_pool2d(
    x: Array,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Indices]:
    """Keep the largest value of each window.

    x: (n, c, h, w). Returns y: (n, c, oh, ow), or (y, indices): where in its
    plane, counted as row * w + column, each value was found; of equal values
    the first. `stride` is the window's size unless given. `ceil_mode` lets
    the last window hang over the edge. A window that meets only padding gives
    -inf and the index -1.
    Raises ValueError or TypeError where the settings do not fit the input.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 9.3.
    """
    k, s, p = _check_pool(x, kernel_size, stride, padding)
    d = _pair("dilation", dilation, 1)
    h, w = x.shape[2:]
    oh, ow = _output_size((h, w), k, s, p, d, ceil_mode)
    padded = _pad(x, k, s, p, d, (oh, ow), -np.inf)
    rows = _first(h, s[0], p[0], d[0], k[0], oh)
    columns = _first(w, s[1], p[1], d[1], k[1], ow)
    inside = (rows >= 0)[:, None] & (columns >= 0)
    first = np.where(inside, rows[:, None] * w + columns, -1)
    y = np.full((*x.shape[:2], oh, ow), -np.inf, x.dtype)
    indices = np.empty(y.shape, np.int64)
    indices[...] = first
    corner = np.add.outer(
        (np.arange(oh) * s[0] - p[0]) * w, np.arange(ow) * s[1] - p[1]
    )
    for i, j in np.ndindex(k):
        top, left = i * d[0], j * d[1]
        tap = padded[:, :, top :: s[0], left :: s[1]][:, :, :oh, :ow]
        better = (tap > y) | np.isnan(tap)
        np.copyto(y, tap, where=better)
        np.copyto(indices, corner + top * w + left, where=better)
    return (y, indices) if return_indices else y


# --8<-- [end:max_pool]


# --8<-- [start:max_pool_backward]
def max_pool2d_backward(
    dy: Array, indices: Indices, input_shape: Shape
) -> Array:
    """Send each gradient to the place its maximum came from, zero elsewhere.

    dy, indices: (n, c, oh, ow), as `max_pool2d` returned them; input_shape:
    (n, c, h, w), the shape of the result. Where windows overlap, gradients
    add up.
    Raises ValueError where the shapes do not fit or an index lies outside.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 9.3.
    """
    n, c, h, w = _check_shape(dy, input_shape)
    if not np.issubdtype(np.asarray(indices).dtype, np.integer):
        raise TypeError("`indices` must hold integers")
    if indices.shape != dy.shape:
        raise ValueError(
            f"`indices` has shape {indices.shape}; `dy` has {dy.shape}"
        )
    dx = np.zeros((n, c, h * w), dy.dtype)
    if indices.size and not -1 <= indices.min() <= indices.max() < h * w:
        raise ValueError(f"`indices` must lie between -1 and {h * w - 1}")
    found = indices >= 0
    image, channel = np.nonzero(found)[:2]
    np.add.at(dx, (image, channel, indices[found]), dy[found])
    return dx.reshape(n, c, h, w)


# --8<-- [end:max_pool_backward]


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
    Raises ValueError or TypeError where the settings do not fit the input.
    Source: LeCun et al. 1998, section II.B (subsampling).
    """
    k, s, p = _check_pool(x, kernel_size, stride, padding)
    oh, ow = _output_size(x.shape[2:], k, s, p, (1, 1), ceil_mode)
    padded = _pad(x, k, s, p, (1, 1), (oh, ow), 0.0)
    y = np.zeros((*x.shape[:2], oh, ow), x.dtype)
    for i, j in np.ndindex(k):
        y += padded[:, :, i :: s[0], j :: s[1]][:, :, :oh, :ow]
    return np.divide(
        y, _counts(x.shape[2:], k, s, p, (oh, ow), count_include_pad), out=y
    )


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
    Raises ValueError or TypeError where settings and shapes do not fit.
    Source: LeCun et al. 1998, section II.B (subsampling).
    """
    n, c, h, w = _check_shape(dy, input_shape)
    k, s, p = _check_pool(
        np.broadcast_to(dy.dtype.type(0), input_shape),
        kernel_size,
        stride,
        padding,
    )
    oh, ow = _output_size((h, w), k, s, p, (1, 1), ceil_mode)
    if dy.shape[2:] != (oh, ow):
        raise ValueError(
            f"`dy` has shape {dy.shape}; the output has shape {(n, c, oh, ow)}"
        )
    share = dy / _counts((h, w), k, s, p, (oh, ow), count_include_pad)
    share = share.astype(dy.dtype, copy=False)
    bottom = max(h + p[0], (oh - 1) * s[0] + k[0])
    right = max(w + p[1], (ow - 1) * s[1] + k[1])
    dx = np.zeros((n, c, bottom + p[0], right + p[1]), dy.dtype)
    for i, j in np.ndindex(k):
        dx[:, :, i :: s[0], j :: s[1]][:, :, :oh, :ow] += share
    return dx[:, :, p[0] : p[0] + h, p[1] : p[1] + w].copy()


# --8<-- [end:avg_pool_backward]


# --8<-- [start:global_avg_pool]
def global_avg_pool2d(x: Array) -> Array:
    """Take the mean of each plane.

    x: (n, c, h, w). Returns (n, c, 1, 1).
    Raises ValueError for another rank or planes without pixels, TypeError
    where x holds no floats.
    Source: Lin, Chen and Yan 2013 (Network in Network), section 3.2.
    """
    _check_floats("x", x)
    if 0 in x.shape[2:]:
        raise ValueError(f"`x` has shape {x.shape}; its planes are empty")
    return np.asarray(x.mean((2, 3), keepdims=True))


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


def _output_size(
    size: Shape, k: Pair, s: Pair, p: Pair, d: Pair, ceil_mode: bool
) -> Pair:
    sizes = []
    for axis in range(2):
        room = size[axis] + 2 * p[axis] - d[axis] * (k[axis] - 1) - 1
        steps = -(-room // s[axis]) if ceil_mode else room // s[axis]
        # A window must start in the input or in the padding before it.
        if ceil_mode and steps * s[axis] >= size[axis] + p[axis]:
            steps -= 1
        if steps < 0:
            raise ValueError(
                f"`kernel_size={k}` with dilation={d} does not fit into the "
                f"input of size {tuple(size)} with padding={p}"
            )
        sizes.append(steps + 1)
    return sizes[0], sizes[1]


def _pad(
    x: Array, k: Pair, s: Pair, p: Pair, d: Pair, size: Pair, value: float
) -> Array:
    """Pad up to the end of the last window."""
    ends = [
        max(
            0,
            (size[axis] - 1) * s[axis]
            + d[axis] * (k[axis] - 1)
            + 1
            - x.shape[2 + axis]
            - p[axis],
        )
        for axis in range(2)
    ]
    return np.pad(
        x,
        ((0, 0), (0, 0), (p[0], ends[0]), (p[1], ends[1])),
        constant_values=value,
    )


def _first(
    size: int, s: int, p: int, d: int, k: int, out: int
) -> NDArray[np.int64]:
    """Find each window's first place inside the input, or -1."""
    start = np.arange(out) * s - p
    first = np.where(start < 0, start % d, start)
    return np.where((first < size) & (first <= start + d * (k - 1)), first, -1)


def _counts(
    size: Shape, k: Pair, s: Pair, p: Pair, out: Pair, include_pad: bool
) -> NDArray[np.int64]:
    """Count the values in each window: (oh, ow)."""
    counts = []
    for axis in range(2):
        start = np.arange(out[axis]) * s[axis] - p[axis]
        end = np.minimum(start + k[axis], size[axis] + p[axis])
        if not include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, size[axis])
        counts.append(end - start)
    return np.multiply.outer(counts[0], counts[1])


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(
        isinstance(v, int | np.integer) and not isinstance(v, bool)
        for v in pair
    ):
        raise TypeError(
            f"`{name}={value!r}` is neither an integer nor a (height, width) "
            "pair of integers"
        )
    if min(pair) < least:
        raise ValueError(f"`{name}={value!r}` must be at least {least}")
    return int(pair[0]), int(pair[1])


def _check_floats(name: str, a: Array) -> None:
    if not isinstance(a, np.ndarray):
        raise TypeError(
            f"`{name}` is a {type(a).__name__}; it must be a NumPy array"
        )
    if not np.issubdtype(a.dtype, np.floating):
        raise TypeError(f"`{name}` holds {a.dtype}; it must hold floats")
    if a.ndim != 4:
        raise ValueError(
            f"`{name}` has shape {a.shape}; it must have the axes (n, c, h, w)"
        )


def _check_pool(
    x: Array,
    kernel_size: int | Pair,
    stride: int | Pair | None,
    padding: int | Pair,
) -> tuple[Pair, Pair, Pair]:
    _check_floats("x", x)
    k = _pair("kernel_size", kernel_size, 1)
    s = k if stride is None else _pair("stride", stride, 1)
    p = _pair("padding", padding, 0)
    if 2 * p[0] > k[0] or 2 * p[1] > k[1]:
        raise ValueError(
            f"`padding={padding!r}` is more than half of kernel_size={k}"
        )
    return k, s, p


def _check_shape(dy: Array, input_shape: Shape) -> tuple[int, int, int, int]:
    _check_floats("dy", dy)
    if len(input_shape) != 4 or tuple(input_shape[:2]) != dy.shape[:2]:
        raise ValueError(
            f"`input_shape={input_shape!r}` must be (n, c, h, w) with n and c "
            f"of `dy`, which has shape {dy.shape}"
        )
    n, c, h, w = input_shape
    return n, c, h, w
