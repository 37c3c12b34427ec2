"""Convolution in two dimensions: forward, backward and transposed.

Arrays are laid out N, C, H, W. As everywhere in deep learning, the kernel is
not flipped: what is called convolution is cross-correlation.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Pair = tuple[int, int]

BLOCK = 1 << 20  # bytes of columns at a time: they should stay in the cache


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
    _check_gradient(dy, (len(x), len(w), *size), x)
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
    Raises ValueError where shapes or settings do not fit, TypeError where an
    array holds no floats.
    Source: Goodfellow, Bengio and Courville, Deep Learning, eq. 9.6 and 9.8;
    sizes: Dumoulin and Visin 2016, relationships 6 and 15.
    """
    s, p, d, groups, size = _check_conv(
        x, w, b, stride, padding, dilation, groups
    )
    y = _correlate(x, w, size, s, p, d, groups)
    if b is not None:
        y += b[:, None, None]
    return y


def _correlate(
    x: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Multiply the kernels with the columns of a few output rows at a time."""
    kernels = np.ascontiguousarray(w).reshape(groups, len(w) // groups, -1)
    y = np.empty((len(x), *kernels.shape[:2], size[0] * size[1]), x.dtype)
    for images, pixels, columns in _columns(x, w, size, s, p, d, groups):
        np.matmul(kernels, columns, out=y[images, :, :, pixels])
    return y.reshape(len(x), len(w), *size)


# --8<-- [end:forward]


# --8<-- [start:columns]
def _columns(
    x: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Iterator[tuple[slice, slice, Array]]:
    """Yield images, output pixels, and the windows under them as columns."""
    depth = w[0].size
    oh, ow = size
    reach = d[0] * (w.shape[2] - 1) + 1, d[1] * (w.shape[3] - 1) + 1
    needed = (oh - 1) * s[0] + reach[0], (ow - 1) * s[1] + reach[1]
    some, rows = _block(depth * groups * ow * x.itemsize, oh)
    buffer = np.empty(some * rows * depth * groups * ow, x.dtype)
    for i in range(0, len(x), some):
        part = _place(x[i : i + some], p, needed)
        windows = sliding_window_view(part, reach, (2, 3))
        windows = windows[:, :, :: s[0], :: s[1], :: d[0], :: d[1]]
        windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (n, c, kh, kw, oh, ow)
        for r in range(0, oh, rows):
            columns = windows[..., r : r + rows, :]
            if w[0, 0].size > 1:  # else the image itself serves
                copy = buffer[: columns.size].reshape(columns.shape)
                np.copyto(copy, columns)
                columns = copy
            columns = columns.reshape(len(part), groups, depth, -1)
            pixels = slice(r * ow, r * ow + columns.shape[3])
            yield slice(i, i + some), pixels, columns


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
) -> tuple[Array, Array, Array]:
    """Carry the gradient of the output back to input, kernels and bias.

    dy: the shape of `conv2d(x, w, …)`. Returns (dx, dw, db), shaped as x, as
    w and (out_channels,). Raises as `conv2d`, and ValueError for a `dy` of
    another shape.
    Source: Dumoulin and Visin 2016, section 4.1: dx is the transposed
    convolution of dy.
    """
    s, p, d, groups, size = _check_conv(
        x, w, None, stride, padding, dilation, groups
    )
    _check_gradient(dy, (len(x), len(w), *size), x)
    dw = _kernel_gradient(dy, x, w, s, p, d, groups)
    dx = _spread(dy, w, x.shape[2:], s, p, d, groups)
    return dx, dw, dy.sum((0, 2, 3))


def _kernel_gradient(
    dy: Array, x: Array, w: Array, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Correlate the gradient with the windows that each kernel value saw."""
    n, out_channels, oh, ow = dy.shape
    dy = dy.reshape(n, groups, out_channels // groups, oh * ow)
    dw = np.zeros((*dy.shape[1:3], w[0].size), x.dtype)
    share = np.empty_like(dw)
    for images, pixels, columns in _columns(x, w, (oh, ow), s, p, d, groups):
        for part, windows in zip(dy[images], columns, strict=True):
            np.matmul(part[:, :, pixels], windows.swapaxes(1, 2), out=share)
            dw += share  # (groups, out_channels / groups, depth)
    return dw.reshape(w.shape)


# --8<-- [end:backward]


# --8<-- [start:transpose_reference]
def conv_transpose2d_reference(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Array:
    """Stamp the kernel onto the output, once for each input value.

    Shapes, errors and source are those of `conv_transpose2d`.
    """
    (sh, sw), (ph, pw), (dh, dw), groups, (oh, ow) = _check_transpose(
        x, w, b, stride, padding, output_padding, dilation, groups
    )
    in_channels, depth, kh, kw = w.shape
    y = np.zeros((len(x), groups * depth, oh + 2 * ph, ow + 2 * pw), x.dtype)
    for image, c, row, column in np.ndindex(x.shape):
        first = c // (in_channels // groups) * depth
        top, left = row * sh, column * sw
        y[
            image,
            first : first + depth,
            top : top + kh * dh : dh,
            left : left + kw * dw : dw,
        ] += x[image, c, row, column] * w[c]
    y = y[:, :, ph : ph + oh, pw : pw + ow].copy()  # padding is cut off
    return y if b is None else y + b[:, None, None]


# --8<-- [end:transpose_reference]


# --8<-- [start:transpose]
def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Array:
    """Spread each value over a window: the way back through `conv2d`.

    x: (n, in_channels, h, w); w: (in_channels, out_channels / groups, kh, kw);
    b: (out_channels,). Returns (n, out_channels, oh, ow) with oh = (h - 1) *
    stride - 2 * padding + dilation * (kh - 1) + output_padding + 1.
    Raises ValueError where shapes or settings do not fit, TypeError where an
    array holds no floats.
    Source: Dumoulin and Visin 2016, chapter 4, relationship 14.
    """
    s, p, d, groups, size = _check_transpose(
        x, w, b, stride, padding, output_padding, dilation, groups
    )
    y = _spread(x, w, size, s, p, d, groups)
    if b is not None:
        y += b[:, None, None]
    return y


# --8<-- [end:transpose]


# --8<-- [start:transpose_backward]
def conv_transpose2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Carry the gradient back: as `conv2d_backward`, x and dy in turned roles.

    dy: the shape of `conv_transpose2d(x, w, …)`. Returns (dx, dw, db), shaped
    as x, as w and (out_channels,). Raises as `conv_transpose2d`, and
    ValueError for a `dy` of another shape.
    Source: Dumoulin and Visin 2016, section 4.1.
    """
    s, p, d, groups, size = _check_transpose(
        x, w, None, stride, padding, output_padding, dilation, groups
    )
    _check_gradient(dy, (len(x), w.shape[1] * groups, *size), x)
    dx = _correlate(dy, w, x.shape[2:], s, p, d, groups)
    dw = _kernel_gradient(x, dy, w, s, p, d, groups)
    return dx, dw, dy.sum((0, 2, 3))


# --8<-- [end:transpose_backward]


# --8<-- [start:spread]
def _spread(
    y: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Give every value of y its window in x, summed where windows meet."""
    # Stamping adds once per input channel and tap, gathering copies once per
    # output channel and tap.
    if 2 * w.shape[1] * groups < len(w):
        return _stamp(y, w, size, s, p, d, groups)
    return _gather(y, w, size, s, p, d, groups)


# --8<-- [end:spread]


# --8<-- [start:stamp]
def _stamp(
    y: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Add each value of y, times its kernel, onto planes of zeros."""
    n, out_channels, oh, ow = y.shape
    depth, kh, kw = w.shape[1:]
    kernels = w.reshape(groups, out_channels // groups, -1).swapaxes(1, 2)
    h, wide = size[0] + 2 * p[0], size[1] + 2 * p[1]
    x = np.zeros((n, groups * depth, size[0], wide), y.dtype)
    column = depth * groups * kh * kw
    some, rows = _block(column * ow * y.itemsize, oh)
    buffer = np.empty(some * column * rows * ow, y.dtype)
    for i in range(0, n, some):
        images = y[i : i + some]
        # First each row of the kernels goes where it belongs, ...
        bands = np.zeros((len(images), groups * depth, kw, h, ow), y.dtype)
        for r in range(0, oh, rows):
            part = images[:, :, r : r + rows]
            m = part.shape[2]
            part = part.reshape(len(part), groups, -1, m * ow)
            columns = buffer[: len(part) * column * m * ow]
            columns = columns.reshape(len(part), groups, -1, m * ow)
            np.matmul(kernels, part, out=columns)
            columns = columns.reshape(len(part), -1, kh, kw, m, ow)
            for a in range(kh):
                top = r * s[0] + a * d[0]
                bottom = top + (m - 1) * s[0] + 1
                bands[:, :, :, top : bottom : s[0]] += columns[:, :, a]
        # ... then each column.
        bands = bands[:, :, :, p[0] : p[0] + size[0]]
        for b in range(kw):
            left, right = b * d[1], b * d[1] + (ow - 1) * s[1] + 1
            x[i : i + some, :, :, left : right : s[1]] += bands[:, :, b]
    return x[:, :, :, p[1] : p[1] + size[1]].copy()


# --8<-- [end:stamp]


# --8<-- [start:gather]
def _gather(
    y: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Collect what each x receives: a convolution with the turned kernel.

    With a stride, pixels of different phase meet different taps: one small
    convolution for each phase.
    """
    out_channels, depth, kh, kw = w.shape
    w = w.reshape(groups, out_channels // groups, depth, kh, kw)[
        ..., ::-1, ::-1
    ]
    w = w.swapaxes(1, 2).reshape(groups * depth, -1, kh, kw)
    if s == (1, 1):
        before = d[0] * (kh - 1) - p[0], d[1] * (kw - 1) - p[1]
        return _correlate(y, w, size, s, before, d, groups)
    x = np.zeros((len(y), groups * depth, *size), y.dtype)
    some, _ = _block(x.shape[1] * size[1] * x.itemsize, size[0])
    for a, b in np.ndindex(min(s[0], size[0]), min(s[1], size[1])):
        rows, di, top = _phase(a + p[0], kh, s[0], d[0])
        columns, dj, left = _phase(b + p[1], kw, s[1], d[1])
        taps, offset, gap = w[:, :, rows, columns], (top, left), (di, dj)
        for i in range(0, len(x) if taps.size else 0, some):
            part = x[i : i + some, :, a :: s[0], b :: s[1]]
            part[...] = _correlate(
                y[i : i + some],
                taps,
                part.shape[2:],
                (1, 1),
                offset,
                gap,
                groups,
            )
    return x


def _phase(first: int, k: int, s: int, d: int) -> tuple[slice, int, int]:
    """Pick the taps that reach first, first + s, …; dilation and padding."""
    step = s // math.gcd(s, d)
    for tap in range(min(step, k)):
        before = d * (k - 1 - tap) - first
        if before % s == 0:
            return slice(tap, None, step), step * d // s, before // s
    return slice(0), 1, 0


# --8<-- [end:gather]


def _place(x: Array, offset: Pair, size: Pair) -> Array:
    """Cut or pad x with zeros to `size`, its corner at `offset`."""
    if offset == (0, 0) and x.shape[2:] == size:
        return x
    y = np.zeros((*x.shape[:2], *size), x.dtype)
    (top, left), (h, w) = offset, size
    part = x[:, :, max(0, -top) : max(0, h - top)]
    part = part[:, :, :, max(0, -left) : max(0, w - left)]
    top, left = max(0, top), max(0, left)
    bottom, right = top + part.shape[2], left + part.shape[3]
    y[:, :, top:bottom, left:right] = part
    return y


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


def _check_floats(name: str, a: Array, axes: str, like: Array | None) -> None:
    if not isinstance(a, np.ndarray):
        raise TypeError(
            f"`{name}` is a {type(a).__name__}; it must be a NumPy array"
        )
    if not np.issubdtype(a.dtype, np.floating):
        raise TypeError(f"`{name}` holds {a.dtype}; it must hold floats")
    if like is not None and a.dtype != like.dtype:
        raise TypeError(
            f"`{name}` holds {a.dtype}; it must hold {like.dtype}, as `x` does"
        )
    if a.ndim != axes.count(",") + 1:
        raise ValueError(
            f"`{name}` has shape {a.shape}; it must have the axes ({axes})"
        )


def _check_conv(
    x: Array,
    w: Array,
    b: Array | None,
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> tuple[Pair, Pair, Pair, int, Pair]:
    """Return stride, padding, dilation, groups and output size."""
    s = _pair("stride", stride, 1)
    p = _pair("padding", padding, 0)
    d = _pair("dilation", dilation, 1)
    _check_floats("x", x, "n, in_channels, h, w", None)
    _check_floats("w", w, "out_channels, in_channels / groups, kh, kw", x)
    _check_groups(groups, in_channels=x.shape[1], out_channels=len(w))
    if 0 in w.shape:
        raise ValueError(f"`w` has shape {w.shape}; no axis may be empty")
    if x.shape[1] != w.shape[1] * groups:
        raise ValueError(
            f"`x` has {x.shape[1]} channels; `w` of shape {w.shape} with "
            f"groups={groups} needs {w.shape[1] * groups}"
        )
    _check_bias(b, len(w), x)
    padded = x.shape[2] + 2 * p[0], x.shape[3] + 2 * p[1]
    reach = d[0] * (w.shape[2] - 1) + 1, d[1] * (w.shape[3] - 1) + 1
    if reach[0] > padded[0] or reach[1] > padded[1]:
        raise ValueError(
            f"`w` covers {reach[0]}×{reach[1]} pixels with dilation={d}; the "
            f"padded input has only {padded[0]}×{padded[1]}"
        )
    oh, ow = ((padded[a] - reach[a]) // s[a] + 1 for a in (0, 1))
    return s, p, d, int(groups), (oh, ow)


def _check_transpose(
    x: Array,
    w: Array,
    b: Array | None,
    stride: int | Pair,
    padding: int | Pair,
    output_padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> tuple[Pair, Pair, Pair, int, Pair]:
    """Return stride, padding, dilation, groups and output size."""
    s = _pair("stride", stride, 1)
    p = _pair("padding", padding, 0)
    extra = _pair("output_padding", output_padding, 0)
    d = _pair("dilation", dilation, 1)
    if any(extra[a] >= max(s[a], d[a]) for a in (0, 1)):
        raise ValueError(
            f"`output_padding={output_padding!r}` must be less than the larger "
            f"of stride={s} and dilation={d}"
        )
    _check_floats("x", x, "n, in_channels, h, w", None)
    _check_floats("w", w, "in_channels, out_channels / groups, kh, kw", x)
    _check_groups(groups, in_channels=x.shape[1])
    if 0 in w.shape:
        raise ValueError(f"`w` has shape {w.shape}; no axis may be empty")
    if x.shape[1] != len(w):
        raise ValueError(
            f"`x` has {x.shape[1]} channels; `w` of shape {w.shape} needs "
            f"{len(w)}"
        )
    _check_bias(b, w.shape[1] * groups, x)
    oh, ow = (
        (x.shape[a + 2] - 1) * s[a]
        - 2 * p[a]
        + d[a] * (w.shape[a + 2] - 1)
        + extra[a]
        + 1
        for a in (0, 1)
    )
    if 0 in x.shape[2:] or min(oh, ow) < 1:
        raise ValueError(
            f"`padding={padding!r}` leaves nothing of the output: its size "
            f"would be {oh}×{ow} for an input of {x.shape[2]}×{x.shape[3]}"
        )
    return s, p, d, int(groups), (oh, ow)


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


def _check_bias(b: Array | None, out_channels: int, x: Array) -> None:
    if b is None:
        return
    _check_floats("b", b, "out_channels", x)
    if len(b) != out_channels:
        raise ValueError(
            f"`b` has length {len(b)}; it must have out_channels={out_channels}"
        )


def _check_gradient(dy: Array, shape: tuple[int, ...], x: Array) -> None:
    _check_floats("dy", dy, "n, out_channels, oh, ow", x)
    if dy.shape != shape:
        raise ValueError(
            f"`dy` has shape {dy.shape}; the output has shape {shape}"
        )
