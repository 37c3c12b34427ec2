"""Max pooling in two dimensions and its gradient; the mean is in avg_pool.py.

Arrays are laid out N, C, H, W, and hold float32 or float64.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
Pair = tuple[int, int]
Shape = tuple[int, ...]

BLOCK = 1 << 19  # bytes of planes at a time: they should stay in the cache


class Windows(NamedTuple):
    """Settings of a pooling, checked; each is (height, width)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    size: Pair  # of the output


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
    h, w = x.shape[2:]
    y = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
    indices = np.full(y.shape, -1, np.int64)
    for n, c, i, j in np.ndindex(y.shape):
        rows = s[0] * i - p[0] + d[0] * np.arange(k[0])
        columns = s[1] * j - p[1] + d[1] * np.arange(k[1])
        # Padding never wins: look only at what lies inside.
        rows = rows[(rows >= 0) & (rows < h)]
        columns = columns[(columns >= 0) & (columns < w)]
        if rows.size and columns.size:
            window = x[n, c][np.ix_(rows, columns)]
            u, v = np.unravel_index(window.argmax(), window.shape)
            y[n, c, i, j] = window[u, v]
            indices[n, c, i, j] = rows[u] * w + columns[v]
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
    Raises ValueError where shapes or settings do not fit, TypeError unless x
    holds float32 or float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 9.3.
    """
    _check_floats("x", x)
    window = _check_pool(
        x.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    planes = x.reshape(-1, *x.shape[2:])
    y = np.empty((len(planes), *window.size), x.dtype)
    indices = np.empty(y.shape if return_indices else 0, np.int64)
    places = _places(x.shape[2:], window)
    for some in _blocks(planes):
        padded = _pad(planes[some], window, -np.inf)
        if return_indices:
            _largest_and_place(padded, window, places, y[some], indices[some])
        else:
            _largest(padded, window, y[some])
    y = y.reshape(*x.shape[:2], *window.size)
    return (y, indices.reshape(y.shape)) if return_indices else y


# --8<-- [end:max_pool]


# --8<-- [start:largest]
def _largest(x: Array, window: Windows, out: Array) -> None:
    """Find each window's maximum: down its columns, then along the row left.

    That looks at kh + kw values for each output instead of kh * kw.
    """
    best = _tap(x, window, 0, 0).copy()
    for u in range(1, window.kernel[0]):
        np.maximum(best, _tap(x, window, 0, u), out=best)
    out[...] = _tap(best, window, 1, 0)
    for v in range(1, window.kernel[1]):
        np.maximum(out, _tap(best, window, 1, v), out=out)


def _tap(a: NDArray[Any], window: Windows, axis: int, tap: int) -> NDArray[Any]:
    """View what this tap of the kernel meets, for each output along an axis."""
    first, step = tap * window.dilation[axis], window.stride[axis]
    places = slice(first, first + (window.size[axis] - 1) * step + 1, step)
    view: NDArray[Any] = a[:, places] if axis == 0 else a[:, :, places]
    return view


# --8<-- [end:largest]


# --8<-- [start:largest_place]
def _largest_and_place(
    x: Array,
    window: Windows,
    places: tuple[Indices, Indices, Indices],
    out: Array,
    indices: Indices,
) -> None:
    """Find also where each stood, of equals the first: so rows come first."""
    kind = np.min_scalar_type(window.kernel[0] * window.kernel[1]).type
    nan = bool(np.isnan(x.max()))
    best = _tap(x, window, 1, 0).copy()
    column = np.zeros(best.shape, kind)
    for v in range(1, window.kernel[1]):
        better = _update(best, _tap(x, window, 1, v).copy(), nan)
        np.maximum(column, better * kind(v), out=column)
    out[...] = _tap(best, window, 0, 0)
    number = _tap(column, window, 0, 0).copy()
    for u in range(1, window.kernel[0]):
        better = _update(out, _tap(best, window, 0, u), nan)
        later = _tap(column, window, 0, u) + kind(u * window.kernel[1])
        np.maximum(number, better * later, out=number)
    taps, corners, first = places
    np.take(taps, number, out=indices, mode="clip")  # this mode is fast
    indices += corners
    lost = out == -np.inf
    if lost.any():  # there the padding may have won
        np.copyto(indices, first, where=lost)


def _update(best: Array, tap: Array, nan: bool) -> NDArray[np.bool_]:
    """Raise `best` to `tap` where that is larger, and tell where."""
    better = tap > best
    if nan:  # the first one stays
        better |= np.isnan(tap) & ~np.isnan(best)
    np.maximum(best, tap, out=best)
    return better


# --8<-- [end:largest_place]


# --8<-- [start:max_pool_backward]
def max_pool2d_backward(
    dy: Array, indices: NDArray[np.integer[Any]], input_shape: Shape
) -> Array:
    """Send each gradient to the place its maximum came from, zero elsewhere.

    dy, indices: (n, c, oh, ow), as `max_pool2d` returned them; input_shape:
    (n, c, h, w), the shape of the result. Where windows overlap, gradients
    add up.
    Raises ValueError where the shapes do not fit or an index lies outside,
    TypeError unless dy holds float32 or float64 and `indices` integers.
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 9.3.
    """
    n, c, h, w = _check_shape(dy, input_shape)
    indices = _check_indices(indices, dy, h * w)
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


def _blocks(planes: Array) -> Iterator[slice]:
    """Yield a few planes at a time."""
    some = max(1, BLOCK // max(1, planes[:1].nbytes))
    for i in range(0, len(planes), some):
        yield slice(i, i + some)


def _extent(window: Windows) -> Pair:
    """Measure what all windows span."""
    k, s, _, d, size = window
    h, w = ((size[a] - 1) * s[a] + d[a] * (k[a] - 1) + 1 for a in (0, 1))
    return h, w


def _pad(x: Array, window: Windows, value: float) -> Array:
    """Pad, or cut, to what the windows span."""
    (h, w), (top, left) = _extent(window), window.padding
    if (top, left) == (0, 0) and h <= x.shape[1] and w <= x.shape[2]:
        return x
    x = x[:, : h - top, : w - left]
    y = np.full((len(x), h, w), value, x.dtype)
    y[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    return y


def _places(plane: Shape, window: Windows) -> tuple[Indices, Indices, Indices]:
    """Index the taps in a window, each window's corner, and its first inside.

    Where a window has nothing inside, that is -1.
    """
    k, s, p, d, size = window
    taps, corners, firsts, inside = [], [], [], []
    for a in (0, 1):
        start = np.arange(size[a]) * s[a] - p[a]
        first = np.where(start < 0, start % d[a], start)
        last = np.minimum(start + d[a] * (k[a] - 1), plane[a] - 1)
        taps.append(np.arange(k[a]) * d[a])
        corners.append(start)
        firsts.append(first)
        inside.append(first <= last)
    index, corner, first = (
        np.add.outer(rows * plane[1], columns)
        for rows, columns in (taps, corners, firsts)
    )
    first[~np.logical_and.outer(*inside)] = -1
    return index, corner, first


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
    if type(a) is not np.ndarray:
        raise TypeError(
            f"`{name}` is a {type(a).__name__}; it must be a plain NumPy array"
        )
    if a.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` holds {a.dtype}; it must hold float32 or float64, in "
            "native byte order"
        )
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
) -> Windows:
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
    return Windows(k, s, p, d, (size[0], size[1]))


def _check_indices(
    indices: NDArray[np.integer[Any]], dy: Array, pixels: int
) -> Indices:
    if type(indices) is not np.ndarray:
        raise TypeError(
            f"`indices` is a {type(indices).__name__}; it must be a plain "
            "NumPy array"
        )
    if indices.dtype.kind not in "iu":
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
    return indices.astype(np.int64, copy=False)


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
