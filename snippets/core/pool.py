"""Pooling in two dimensions: largest value, mean, and their gradients.

Arrays are laid out N, C, H, W.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
Pair = tuple[int, int]
Shape = tuple[int, ...]

BLOCK = 1 << 20  # bytes of planes at a time: they should stay in the cache


# --8<-- [start:max_pool_reference]
def max_pool2d_reference(
    x: Array,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Indices]:
    """Look at each window, keep its largest value and where that stood.

    Shapes, errors and source are those of `max_pool2d` with `return_indices`.
    """
    _check_floats("x", x)
    k, s, p, d, size = _check_pool(
        x.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    w = x.shape[3]
    y = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
    indices = np.full(y.shape, -1, np.int64)
    for image, channel, row, column in np.ndindex(y.shape):
        tops = np.arange(k[0]) * d[0] + row * s[0] - p[0]
        lefts = np.arange(k[1]) * d[1] + column * s[1] - p[1]
        # Padding never wins: look only at what lies inside.
        tops = tops[(tops >= 0) & (tops < x.shape[2])]
        lefts = lefts[(lefts >= 0) & (lefts < w)]
        if tops.size and lefts.size:
            window = x[image, channel][np.ix_(tops, lefts)]
            i, j = np.unravel_index(window.argmax(), window.shape)
            y[image, channel, row, column] = window[i, j]
            indices[image, channel, row, column] = tops[i] * w + lefts[j]
    return y, indices


# --8<-- [end:max_pool_reference]


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
    plane, counted as row * w + column, each value stood; of equal values the
    first. `stride` is the window's size unless given. `ceil_mode` lets the
    last window hang over the edge. A window that meets only padding gives
    -inf and the index -1.
    Raises ValueError where shapes or settings do not fit, TypeError where x
    holds no floats.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 9.3.
    """
    _check_floats("x", x)
    k, s, p, d, size = _check_pool(
        x.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    planes = x.reshape(-1, *x.shape[2:])
    y = np.empty((len(planes), *size), x.dtype)
    indices = np.empty(y.shape, np.int64)
    corners, first = _corners(x.shape[2:], k, s, p, d, size)
    taps = np.add.outer(
        np.arange(k[0]) * d[0] * x.shape[3], np.arange(k[1]) * d[1]
    )
    for some in _blocks(planes):
        best, places = y[some], indices[some]
        best[...], tap = _largest(planes[some], k, s, p, d, size)
        np.take(taps, tap, out=places, mode="clip")  # this mode is fast
        places += corners
        lost = best == -np.inf
        if lost.any():  # there the padding may have won
            places[...] = np.where(lost, first, places)
    y = y.reshape(*x.shape[:2], *size)
    return (y, indices.reshape(y.shape)) if return_indices else y


# --8<-- [end:max_pool]


# --8<-- [start:largest]
def _largest(
    x: Array, k: Pair, s: Pair, p: Pair, d: Pair, size: Pair
) -> tuple[Array, NDArray[np.unsignedinteger[Any]]]:
    """Find each window's maximum and its number in it: along rows, then down.

    That looks at kh + kw values for each output instead of kh * kw.
    """
    oh, ow = size
    kind = np.min_scalar_type(k[0] * k[1])
    # Columns that are one stride apart become neighbours: fast to read.
    h, w = _extent(k, s, d, size)
    shape = (len(x), h, -(-w // s[1]))
    columns = np.full((s[1], *shape), -np.inf, x.dtype)
    for phase in range(s[1]):
        before = max(0, -((phase - p[1]) // s[1]))
        part = x[:, : h - p[0], before * s[1] + phase - p[1] :: s[1]]
        part = part[:, :, : shape[2] - before]
        bottom, right = p[0] + part.shape[1], before + part.shape[2]
        columns[phase, :, p[0] : bottom, before:right] = part
    flat = columns.reshape(s[1], -1)
    nan = bool(np.isnan(flat.max()))
    best = flat[0].copy()
    number = np.zeros(best.shape, kind)
    for j in range(1, k[1]):
        # Shift all rows at once: what runs over a row's end is cut off below.
        skip, phase = divmod(j * d[1], s[1])
        end = best.size - skip
        better = _update(best[:end], flat[phase, skip:], nan)
        np.maximum(number[:end], better * kind.type(j), out=number[:end])
    best = best.reshape(shape)[:, :, :ow]
    number = number.reshape(shape)[:, :, :ow]
    y, chosen = (a[:, : oh * s[0] : s[0]].copy() for a in (best, number))
    for i in range(1, k[0]):
        rows = slice(i * d[0], i * d[0] + (oh - 1) * s[0] + 1, s[0])
        better = _update(y, best[:, rows], nan)
        numbers = number[:, rows] + kind.type(i * k[1])
        np.maximum(chosen, better * numbers, out=chosen)
    return y, chosen


def _update(best: Array, tap: Array, nan: bool) -> NDArray[np.uint8]:
    """Raise `best` to `tap` where that is larger, and tell where."""
    better = tap > best
    if nan:  # the first one stays
        better |= np.isnan(tap) & ~np.isnan(best)
    np.maximum(best, tap, out=best)
    return better.view(np.uint8)


# --8<-- [end:largest]


# --8<-- [start:max_pool_backward]
def max_pool2d_backward(
    dy: Array, indices: Indices, input_shape: Shape
) -> Array:
    """Send each gradient to the place its maximum came from, zero elsewhere.

    dy, indices: (n, c, oh, ow), as `max_pool2d` returned them; input_shape:
    (n, c, h, w), the shape of the result. Where windows overlap, gradients
    add up.
    Raises ValueError where the shapes do not fit or an index lies outside,
    TypeError where dy holds no floats or `indices` no integers.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 9.3.
    """
    n, c, h, w = _check_shape(dy, input_shape)
    _check_indices(indices, dy, h * w)
    dx = np.zeros((n * c, h * w), dy.dtype)
    outputs = dy.shape[2] * dy.shape[3]
    dy, indices = dy.reshape(-1, outputs), indices.reshape(-1, outputs)
    for some in _blocks(dx):
        starts = np.arange(len(dx[some]))[:, None] * (h * w)
        places, gradients = starts + indices[some], dy[some]
        if indices[some].min() < 0:  # from windows that met only padding
            inside = indices[some] >= 0
            places, gradients = places[inside], gradients[inside]
        np.add.at(dx[some].reshape(-1), places.ravel(), gradients.ravel())
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
    Raises ValueError where shapes or settings do not fit, TypeError where x
    holds no floats.
    Source: LeCun et al. 1998, section II.B (subsampling).
    """
    _check_floats("x", x)
    k, s, p, d, (oh, ow) = _check_pool(
        x.shape, kernel_size, stride, padding, 1, ceil_mode
    )
    counts = _counts(x.shape[2:], k, s, p, (oh, ow), count_include_pad).astype(
        x.dtype
    )
    planes = x.reshape(-1, *x.shape[2:])
    y = np.empty((len(planes), oh, ow), x.dtype)
    for some in _blocks(planes):
        padded = _pad(planes[some], p, _extent(k, s, d, (oh, ow)))
        # Add up the rows of each window, then what is left of its columns.
        rows = padded[:, :: s[0]][:, :oh].copy()
        for i in range(1, k[0]):
            rows += padded[:, i :: s[0]][:, :oh]
        total = rows[:, :, :: s[1]][:, :, :ow].copy()
        for j in range(1, k[1]):
            total += rows[:, :, j :: s[1]][:, :, :ow]
        np.divide(total, counts, out=y[some])
    return y.reshape(*x.shape[:2], oh, ow)


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
    Raises ValueError where shapes or settings do not fit, TypeError where dy
    holds no floats.
    Source: LeCun et al. 1998, section II.B (subsampling).
    """
    n, c, h, w = _check_shape(dy, input_shape)
    k, s, p, _, (oh, ow) = _check_pool(
        input_shape, kernel_size, stride, padding, 1, ceil_mode
    )
    if dy.shape[2:] != (oh, ow):
        raise ValueError(
            f"`dy` has shape {dy.shape}; the output has shape {(n, c, oh, ow)}"
        )
    counts = _counts((h, w), k, s, p, (oh, ow), count_include_pad).astype(
        dy.dtype
    )
    dx = np.empty((n * c, h, w), dy.dtype)
    for some in _blocks(dx):
        share = dy.reshape(-1, oh, ow)[some] / counts
        m = len(share)
        columns = np.zeros(
            (m, oh, max((ow - 1) * s[1] + k[1], p[1] + w)), dy.dtype
        )
        for j in range(k[1]):
            columns[:, :, j :: s[1]][:, :, :ow] += share
        rows = np.zeros((m, max((oh - 1) * s[0] + k[0], p[0] + h), w), dy.dtype)
        for i in range(k[0]):
            rows[:, i :: s[0]][:, :oh] += columns[:, :, p[1] : p[1] + w]
        dx[some] = rows[:, p[0] : p[0] + h]
    return dx.reshape(n, c, h, w)


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


def _blocks(planes: Array) -> Iterator[slice]:
    """Yield a few planes at a time, about 1 MB."""
    some = max(1, BLOCK // max(1, planes[:1].nbytes))
    for i in range(0, len(planes), some):
        yield slice(i, i + some)


def _extent(k: Pair, s: Pair, d: Pair, size: Pair) -> Pair:
    """Measure what all windows span."""
    h, w = ((size[a] - 1) * s[a] + d[a] * (k[a] - 1) + 1 for a in (0, 1))
    return h, w


def _pad(x: Array, p: Pair, extent: Pair) -> Array:
    """Pad with zeros, or cut, to what the windows span."""
    h, w = extent
    if p == (0, 0) and h <= x.shape[1] and w <= x.shape[2]:
        return x
    y = np.zeros((len(x), h, w), x.dtype)
    x = x[:, : h - p[0], : w - p[1]]
    y[:, p[0] : p[0] + x.shape[1], p[1] : p[1] + x.shape[2]] = x
    return y


def _corners(
    plane: Shape, k: Pair, s: Pair, p: Pair, d: Pair, size: Pair
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index each window's first place, and its first inside or -1: (oh, ow)."""
    starts, firsts = [], []
    for a in (0, 1):
        start = np.arange(size[a]) * s[a] - p[a]
        first = np.where(start < 0, start % d[a], start)
        end = np.minimum(start + d[a] * (k[a] - 1) + 1, plane[a])
        starts.append(start)
        firsts.append(np.where(first < end, first, -1))
    corners = np.add.outer(starts[0] * plane[1], starts[1])
    first = np.add.outer(firsts[0] * plane[1], firsts[1])
    nowhere = np.minimum.outer(*firsts) < 0
    return corners, np.where(nowhere, -1, first)


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
    shape: Shape,
    kernel_size: int | Pair,
    stride: int | Pair | None,
    padding: int | Pair,
    dilation: int | Pair,
    ceil_mode: bool,
) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    """Return kernel, stride, padding, dilation and output size as pairs."""
    k = _pair("kernel_size", kernel_size, 1)
    s = k if stride is None else _pair("stride", stride, 1)
    p = _pair("padding", padding, 0)
    d = _pair("dilation", dilation, 1)
    size = []
    for a in (0, 1):
        if 2 * p[a] > k[a]:
            raise ValueError(
                f"`padding={padding!r}` is over half of kernel_size={k}"
            )
        reach, n = d[a] * (k[a] - 1) + 1, shape[a + 2]
        # In ceil_mode the last window may hang over by less than one step.
        room = n + 2 * p[a] - reach + (s[a] - 1 if ceil_mode else 0)
        if n < 1 or room < 0:
            raise ValueError(
                f"`kernel_size={k}` with dilation={d} covers {reach} pixels; "
                f"the padded input has {n + 2 * p[a]}"
            )
        steps = room // s[a]
        # A window must start in the input or in the padding before it.
        size.append(steps if steps * s[a] >= n + p[a] else steps + 1)
    return k, s, p, d, (size[0], size[1])


def _check_indices(indices: Indices, dy: Array, pixels: int) -> None:
    if not isinstance(indices, np.ndarray):
        raise TypeError(
            f"`indices` is a {type(indices).__name__}; it must be a NumPy array"
        )
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(
            f"`indices` holds {indices.dtype}; it must hold integers"
        )
    if indices.shape != dy.shape:
        raise ValueError(
            f"`indices` has shape {indices.shape}; `dy` has {dy.shape}"
        )
    for index in (indices.min(), indices.max()) if indices.size else ():
        if not -1 <= index < pixels:
            raise ValueError(
                f"`indices` holds {index}; a plane has places 0 to {pixels - 1}"
            )


def _check_shape(dy: Array, input_shape: Shape) -> tuple[int, int, int, int]:
    _check_floats("dy", dy)
    if not isinstance(input_shape, tuple | list):
        raise TypeError(f"`input_shape={input_shape!r}` must be (n, c, h, w)")
    if len(input_shape) != 4 or tuple(input_shape[:2]) != dy.shape[:2]:
        raise ValueError(
            f"`input_shape={input_shape!r}` must be (n, c, h, w) with n and c "
            f"of `dy`, which has shape {dy.shape}"
        )
    n, c, h, w = input_shape
    return n, c, h, w
