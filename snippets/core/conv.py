"""Convolution in two dimensions: forward, backward and transposed.

Arrays are laid out N, C, H, W. As everywhere in deep learning, the kernel is
not flipped: what is called convolution is cross-correlation.
"""

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
    (sh, sw), (ph, pw), (dh, dw), (oh, ow) = _check_conv(
        x, w, b, stride, padding, dilation, groups
    )
    out_channels, depth, kh, kw = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.empty((len(x), out_channels, oh, ow), x.dtype)
    for image in range(len(x)):
        for o in range(out_channels):
            # Kernels of group 0 see the first `depth` channels, and so on.
            first = o // (out_channels // groups) * depth
            for row in range(oh):
                for column in range(ow):
                    top, left = row * sh, column * sw
                    window = x[
                        image,
                        first : first + depth,
                        top : top + kh * dh : dh,
                        left : left + kw * dw : dw,
                    ]
                    y[image, o, row, column] = np.sum(window * w[o])
            if b is not None:
                y[image, o] += b[o]
    return y


# --8<-- [end:reference]


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
    s, p, d, (oh, ow) = _check_conv(x, w, b, stride, padding, dilation, groups)
    y = _correlate(x, w, (oh, ow), s, p, d, groups)
    return y if b is None else np.add(y, b[:, None, None], out=y)


def _correlate(
    x: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Multiply the kernels with the columns of a few output rows at a time."""
    out_channels = len(w)
    kernels = w.reshape(groups, out_channels // groups, -1)
    y = np.empty((len(x), *kernels.shape[:2], size[0] * size[1]), x.dtype)
    for images, pixels, columns in _columns(x, w, size, s, p, d, groups):
        np.matmul(kernels, columns, out=y[images, :, :, pixels])
    return y.reshape(len(x), out_channels, *size)


def _columns(
    x: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Iterator[tuple[slice, slice, Array]]:
    """Yield images, output pixels, and the windows under them as columns."""
    kh, kw = w.shape[2:]
    oh, ow = size
    reach = d[0] * (kh - 1) + 1, d[1] * (kw - 1) + 1
    row = max(1, x.shape[1] * kh * kw * ow * x.itemsize)
    rows = max(1, min(BLOCK // row, oh))
    some = max(1, BLOCK // (row * oh))
    for i in range(0, len(x), some):
        images = slice(i, i + some)
        padded = _place(
            x[images],
            p,
            ((oh - 1) * s[0] + reach[0], (ow - 1) * s[1] + reach[1]),
        )
        windows = sliding_window_view(padded, reach, (2, 3))
        windows = windows[:, :, :: s[0], :: s[1], :: d[0], :: d[1]]
        windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (n, c, kh, kw, oh, ow)
        for r in range(0, oh, rows):
            block = windows[:, :, :, :, r : r + rows]
            pixels = slice(r * ow, (r + block.shape[4]) * ow)
            depth = w.shape[1] * kh * kw
            yield (
                images,
                pixels,
                block.reshape(len(block), groups, depth, -1),
            )


# --8<-- [end:forward]


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
    s, p, d, size = _check_conv(x, w, None, stride, padding, dilation, groups)
    _check_gradient(dy, (len(x), len(w), *size), x)
    dx = _spread(dy, w, x.shape[2:], s, p, d, groups)
    dw = _kernel_gradient(dy, x, w, s, p, d, groups)
    return dx, dw, dy.sum((0, 2, 3))


def _kernel_gradient(
    dy: Array, x: Array, w: Array, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Correlate the gradient with the windows that each kernel value saw."""
    n, out_channels, oh, ow = dy.shape
    dy = dy.reshape(n, groups, out_channels // groups, oh * ow)
    dw = np.zeros((*dy.shape[1:3], w[0].size), x.dtype)
    for images, pixels, columns in _columns(x, w, (oh, ow), s, p, d, groups):
        shares = dy[images, :, :, pixels] @ columns.swapaxes(2, 3)
        dw += shares.sum(0)  # (groups, out_channels / groups, depth)
    return dw.reshape(w.shape)


# --8<-- [end:backward]


# --8<-- [start:transpose]
def _spread(
    y: Array, w: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """Stamp the kernels, scaled by each value of y, onto a plane of zeros."""
    n, out_channels, oh, ow = y.shape
    depth, kh, kw = w.shape[1:]
    kernels = w.reshape(groups, out_channels // groups, -1).swapaxes(1, 2)
    plane = size[0] + 2 * p[0], size[1] + 2 * p[1]
    x = np.zeros((n, groups * depth, *plane), y.dtype)
    for i in range(n):
        columns = kernels @ y[i].reshape(groups, out_channels // groups, -1)
        columns = columns.reshape(groups * depth, kh, kw, oh, ow)
        for row, column in np.ndindex(kh, kw):
            top, left = row * d[0], column * d[1]
            x[
                i,
                :,
                top : top + (oh - 1) * s[0] + 1 : s[0],
                left : left + (ow - 1) * s[1] + 1 : s[1],
            ] += columns[:, row, column]
    x = x[:, :, p[0] : p[0] + size[0], p[1] : p[1] + size[1]]
    return np.ascontiguousarray(x)


# --8<-- [end:transpose]


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
) -> tuple[Pair, Pair, Pair, Pair]:
    """Return stride, padding, dilation and output size as pairs."""
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
    size = (
        (padded[0] - reach[0]) // s[0] + 1,
        (padded[1] - reach[1]) // s[1] + 1,
    )
    return s, p, d, size


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
