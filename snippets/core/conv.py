"""Convolution in two dimensions, forward and backward, of arrays N, C, H, W.

The kernel is not flipped: in deep learning convolution is cross-correlation.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Pair = tuple[int, int]

BLOCK = 1 << 20  # bytes of columns at a time: they should stay in the cache


class Settings(NamedTuple):
    """Settings of a convolution, checked; pairs are (height, width)."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    size: Pair  # of the output


# --8<-- [start:reference]
def conv2d_reference(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Array:
    """Convolve by the definition: one output value at a time.

    Shapes, errors and source are those of `conv2d`.
    """
    s, p, d, groups, size = _check_conv(
        x, w, b, stride, padding, dilation, groups
    )
    if groups > 1:  # each group of channels is a convolution of its own
        parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
        ys = [
            conv2d_reference(*part, stride=s, padding=p, dilation=d)
            for part in parts
        ]
        y = np.concatenate(ys, 1)
        return y if b is None else y + b[:, None, None]
    # --8<-- [start:reference_loop]
    x = np.pad(x, ((0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])))
    y = np.zeros((len(x), len(w), *size), x.dtype)
    for n, o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(w.shape[1:]):
            pixel = n, c, s[0] * i + d[0] * u, s[1] * j + d[1] * v
            y[n, o, i, j] += w[o, c, u, v] * x[pixel]
        if b is not None:
            y[n, o, i, j] += b[o]
    # --8<-- [end:reference_loop]
    return y


# --8<-- [end:reference]


# --8<-- [start:backward_reference]
def conv2d_backward_reference(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Undo `conv2d_reference` step by step: each product feeds both factors.

    Shapes, errors and source are those of `conv2d_backward`.
    """
    s, p, d, groups, size = _check_conv(
        x, w, None, stride, padding, dilation, groups
    )
    _check_shape("dy", dy, (len(x), len(w), *size), x)
    if groups > 1:  # each group of channels is a convolution of its own
        split = np.split(dy, groups, 1), np.split(x, groups, 1)
        parts = [
            conv2d_backward_reference(*part, stride=s, padding=p, dilation=d)
            for part in zip(*split, np.split(w, groups), strict=True)
        ]
        dxs, dws, dbs = zip(*parts, strict=True)
        return np.concatenate(dxs, 1), np.concatenate(dws), np.concatenate(dbs)
    # --8<-- [start:backward_reference_loop]
    x = np.pad(x, ((0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])))
    dx, dw = np.zeros(x.shape, x.dtype), np.zeros(w.shape, w.dtype)
    db = np.zeros(len(w), w.dtype)
    for n, o, i, j in np.ndindex(dy.shape):
        for c, u, v in np.ndindex(w.shape[1:]):
            pixel = n, c, s[0] * i + d[0] * u, s[1] * j + d[1] * v
            dx[pixel] += dy[n, o, i, j] * w[o, c, u, v]
            dw[o, c, u, v] += dy[n, o, i, j] * x[pixel]
        db[o] += dy[n, o, i, j]
    dx = dx[:, :, p[0] : x.shape[2] - p[0], p[1] : x.shape[3] - p[1]]
    # --8<-- [end:backward_reference_loop]
    return dx.copy(), dw, db


# --8<-- [end:backward_reference]


# --8<-- [start:forward]
def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Array:
    """Slide kernels over images and take the dot product at each place.

    x: (n, in_channels, h, w); w: (out_channels, in_channels / groups, kh, kw);
    b: (out_channels,). Returns (n, out_channels, oh, ow) with
    oh = (h + 2 * padding - dilation * (kh - 1) - 1) // stride + 1.
    Raises ValueError where shapes or settings do not fit, TypeError unless all
    arrays hold float32 or all float64.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 9.6 and 9.8;
    sizes: Dumoulin and Visin 2016, relationships 6 and 15.
    """
    settings = _check_conv(x, w, b, stride, padding, dilation, groups)
    return _correlate(x, w, b, settings)


def _correlate(x: Array, w: Array, b: Array | None, to: Settings) -> Array:
    """Multiply the kernels with the columns of a few output rows at a time."""
    kernels = np.ascontiguousarray(w).reshape(to.groups, -1, w[0].size)
    y = np.empty((len(x), *kernels.shape[:2], math.prod(to.size)), x.dtype)
    for images, pixels, columns in _columns(x, w.shape, to):
        part = y[images, :, :, pixels]
        np.matmul(kernels, columns, out=part)
        if b is not None:
            part += b.reshape(to.groups, -1, 1)
    return y.reshape(len(x), len(w), *to.size)


# --8<-- [end:forward]


# --8<-- [start:columns]
def _columns(
    x: Array, kernels: tuple[int, ...], to: Settings
) -> Iterator[tuple[slice, slice, Array]]:
    """Yield images, output pixels, and the windows under them as columns."""
    _, depth, kh, kw = kernels
    s, p, d, groups, (oh, ow) = to
    reach = d[0] * (kh - 1) + 1, d[1] * (kw - 1) + 1
    needed = (oh - 1) * s[0] + reach[0], (ow - 1) * s[1] + reach[1]
    row = groups * depth * kh * kw * ow  # the numbers in one row of columns
    some, rows = _block(row * x.itemsize, oh)
    buffer = np.empty(some * rows * row, x.dtype)
    for n in range(0, len(x), some):
        part = _place(x[n : n + some], p, needed)
        windows = np.lib.stride_tricks.sliding_window_view(part, reach, (2, 3))
        windows = windows[:, :, :: s[0], :: s[1], :: d[0], :: d[1]]
        windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (n, c, u, v, i, j)
        for i in range(0, oh, rows):
            columns = windows[..., i : i + rows, :]
            if kh * kw > 1:  # else the image itself serves
                copy = buffer[: columns.size].reshape(columns.shape)
                np.copyto(copy, columns)
                columns = copy
            columns = columns.reshape(len(part), groups, depth * kh * kw, -1)
            pixels = slice(i * ow, i * ow + columns.shape[3])
            yield slice(n, n + some), pixels, columns


def _block(row: int, rows: int) -> Pair:
    """Return how many images, and rows of each, make up about 1 MB."""
    return max(1, BLOCK // (row * rows)), max(1, min(BLOCK // row, rows))


# --8<-- [end:columns]


# --8<-- [start:backward]
def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Carry the gradient of the output back to input, kernels and bias.

    dy: the shape of `conv2d(x, w, …)`. Returns (dx, dw, db), shaped as x, as
    w and (out_channels,); dx is None without `input_gradient`, which a first
    layer does not need. Raises as `conv2d`, also for `dy`.
    Source: Dumoulin and Visin 2016, section 4.1.
    """
    to = _check_conv(x, w, None, stride, padding, dilation, groups)
    _check_shape("dy", dy, (len(x), len(w), *to.size), x)
    db, size = dy.sum((0, 2, 3)), x.shape[2:]
    shared = to.stride == (1, 1) and w.nbytes <= BLOCK  # else dw is costly
    if not (input_gradient and shared and len(w) <= 2 * x.shape[1]):
        dw = _kernel_gradient(dy, x, w, to)
        return _spread(dy, w, size, to) if input_gradient else None, dw, db
    # dx is a convolution of dy: its columns serve for dw, too.
    turned, back = _turn(w, to, size)
    dx = np.empty(x.shape, x.dtype)
    dw = _kernel_gradient(x, dy, turned, back, y=dx)
    return dx, np.ascontiguousarray(_turn(dw, to, to.size)[0]), db


# --8<-- [end:backward]


def _kernel_gradient(
    dy: Array, x: Array, w: Array, to: Settings, y: Array | None = None
) -> Array:
    """Correlate dy with the windows that w saw; fill any y on the way."""
    kernels = w.reshape(to.groups, -1, w[0].size)
    dw = np.zeros(kernels.shape, x.dtype)
    rows = dy.reshape(len(dy), *dw.shape[:2], math.prod(dy.shape[2:]))
    for images, pixels, columns in _columns(x, w.shape, to):
        if y is not None:
            part = y.reshape(rows.shape)[images, :, :, pixels]
            np.matmul(kernels, columns, out=part)
        for part, windows in zip(rows[images], columns, strict=True):
            dw += part[:, :, pixels] @ windows.swapaxes(1, 2)
    return dw.reshape(w.shape)


def _turn(w: Array, to: Settings, size: Pair) -> tuple[Array, Settings]:
    """Turn the kernels by 180° and swap channels: so dy finds back to x."""
    kh, kw = w.shape[2:]
    w = w.reshape(to.groups, -1, *w.shape[1:])[..., ::-1, ::-1]
    w = w.swapaxes(1, 2).reshape(-1, w.shape[1], kh, kw)
    (ph, pw), d = to.padding, to.dilation
    before = d[0] * (kh - 1) - ph, d[1] * (kw - 1) - pw
    return w, to._replace(stride=(1, 1), padding=before, size=size)


def _spread(y: Array, w: Array, size: Pair, to: Settings) -> Array:
    """Give every value of y its window in x, summed where windows meet."""
    # Stamping adds for each input channel, turning copies for each output.
    if to.stride != (1, 1) or 2 * w.shape[1] * to.groups < len(w):
        return _stamp(y, w, size, to)
    turned, back = _turn(w, to, size)
    return _correlate(y, turned, None, back)


def _stamp(y: Array, w: Array, size: Pair, to: Settings) -> Array:
    """Add each value of y, times its kernel, onto planes of zeros."""
    s, p, d, groups, _ = to
    kernels = w.reshape(groups, -1, w[0].size).swapaxes(1, 2)
    x = np.empty((len(y), groups * w.shape[1], *size), y.dtype)
    oh, ow = y.shape[2:]
    some, rows = _block(20 * x.shape[1] * ow * y.itemsize, oh)  # 50 kB to add
    # Columns that are a stride apart lie side by side until the end.
    h, wide = size[0] + 2 * p[0], -(-(size[1] + 2 * p[1]) // s[1])
    planes = np.empty((min(some, len(x)), x.shape[1], s[1], h, wide), y.dtype)
    buffer = np.empty(some * groups * w[0].size * rows * ow, y.dtype)
    for n in range(0, len(y), some):
        images, sums = x[n : n + some], planes[: len(y) - n]
        sums[...] = 0
        for i in range(0, oh, rows):
            part = y[n : n + some, :, i : i + rows]
            m = part.shape[2]
            part = part.reshape(len(part), groups, -1, m * ow)
            columns = buffer[: len(part) * groups * w[0].size * m * ow]
            columns = columns.reshape(len(part), groups, -1, m * ow)
            np.matmul(kernels, part, out=columns)
            columns = columns.reshape(*sums.shape[:2], *w.shape[2:], m, ow)
            for u, v in np.ndindex(w.shape[2:]):
                top, (left, b) = i * s[0] + u * d[0], divmod(v * d[1], s[1])
                onto = sums[:, :, b, top : top + (m - 1) * s[0] + 1 : s[0]]
                onto[..., left : left + ow] += columns[:, :, u, v]
        for b in range(s[1]):
            onto = images[..., (b - p[1]) % s[1] :: s[1]]
            j = -(-(p[1] - b) // s[1])  # where padding ends
            phase = sums[:, :, b, p[0] : p[0] + size[0]]
            onto[...] = phase[..., j : j + onto.shape[3]]
    return x


def _place(x: Array, offset: Pair, size: Pair) -> Array:
    """Cut or pad x with zeros to `size`, its corner at `offset`."""
    if offset == (0, 0) and x.shape[2:] == size:
        return x
    y = np.zeros((*x.shape[:2], *size), x.dtype)
    (top, left), (h, w) = offset, size
    part = x[:, :, max(0, -top) : max(0, h - top)]
    part = part[:, :, :, max(0, -left) : max(0, w - left)]
    onto = y[:, :, max(0, top) :, max(0, left) :]
    onto[:, :, : part.shape[2], : part.shape[3]] = part
    return y


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(
        isinstance(v, int | np.integer) and not isinstance(v, bool)
        for v in pair
    ):
        raise TypeError(f"`{name}={value!r}` must be one or two integers")
    if min(pair) < least:
        raise ValueError(f"`{name}={value!r}` must be at least {least}")
    return int(pair[0]), int(pair[1])


def _check_floats(name: str, a: Array, x: Array) -> None:
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


def _check_axes(x: Array, w: Array, w_axes: str) -> None:
    for name, a, axes in (("x", x, "n, in_channels, h, w"), ("w", w, w_axes)):
        _check_floats(name, a, x)
        if a.ndim != 4 or 0 in a.shape[name == "x" :]:
            raise ValueError(
                f"`{name}` has shape {a.shape}; it must have the axes "
                f"({axes}), and only n may be 0"
            )


def _check_conv(
    x: Array,
    w: Array,
    b: Array | None,
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> Settings:
    s = _pair("stride", stride, 1)
    p = _pair("padding", padding, 0)
    d = _pair("dilation", dilation, 1)
    _check_axes(x, w, "out_channels, in_channels / groups, kh, kw")
    _check_groups(groups, in_channels=x.shape[1], out_channels=len(w))
    if x.shape[1] != w.shape[1] * groups:
        raise ValueError(
            f"`x` has {x.shape[1]} channels; `w` of shape {w.shape} with "
            f"groups={groups} needs {w.shape[1] * groups}"
        )
    if b is not None:
        _check_shape("b", b, (len(w),), x)
    padded = x.shape[2] + 2 * p[0], x.shape[3] + 2 * p[1]
    reach = d[0] * (w.shape[2] - 1) + 1, d[1] * (w.shape[3] - 1) + 1
    if reach[0] > padded[0] or reach[1] > padded[1]:
        raise ValueError(
            f"`w` covers {reach[0]}×{reach[1]} pixels with dilation={d}; the "
            f"padded input has only {padded[0]}×{padded[1]}"
        )
    oh, ow = ((padded[a] - reach[a]) // s[a] + 1 for a in (0, 1))
    return Settings(s, p, d, int(groups), (oh, ow))


def _check_groups(groups: int, **channels: int) -> None:
    if not isinstance(groups, int | np.integer) or isinstance(groups, bool):
        raise TypeError(f"`groups={groups!r}` must be an integer")
    if groups < 1:
        raise ValueError(f"`groups={groups}` must be at least 1")
    for name, number in channels.items():
        if number % groups:
            raise ValueError(
                f"`groups={groups}` does not divide {name}={number}"
            )


def _check_shape(name: str, a: Array, shape: tuple[int, ...], x: Array) -> None:
    _check_floats(name, a, x)
    if a.shape != shape:
        raise ValueError(f"`{name}` has shape {a.shape}; it must be {shape}")
