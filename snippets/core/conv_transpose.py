"""Transposed convolution in two dimensions, forward and backward.

Built on conv.py, which must lie beside this file. Arrays are laid out
N, C, H, W, and hold float32 or float64.
"""

import numpy as np

try:
    from .conv import (
        Array,
        Pair,
        Settings,
        _check_axes,
        _check_groups,
        _check_shape,
        _correlate,
        _kernel_gradient,
        _pair,
        _spread,
    )
except ImportError:  # copied into a folder that is no package
    from conv import (  # type: ignore[import-not-found,no-redef]
        Array,
        Pair,
        Settings,
        _check_axes,
        _check_groups,
        _check_shape,
        _correlate,
        _kernel_gradient,
        _pair,
        _spread,
    )


# --8<-- [start:reference]
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
    s, p, d, groups, (oh, ow) = _check_transpose(
        x, w, b, stride, padding, output_padding, dilation, groups
    )
    in_channels, depth, kh, kw = w.shape
    size = oh + 2 * p[0], ow + 2 * p[1]
    y = np.zeros((len(x), groups * depth, *size), x.dtype)
    for n, c, i, j in np.ndindex(x.shape):
        first = c // (in_channels // groups) * depth
        for o, u, v in np.ndindex(depth, kh, kw):
            row, column = s[0] * i + d[0] * u, s[1] * j + d[1] * v
            y[n, first + o, row, column] += w[c, o, u, v] * x[n, c, i, j]
    y = y[:, :, p[0] : p[0] + oh, p[1] : p[1] + ow].copy()  # cut padding off
    return y if b is None else y + b[:, None, None]


# --8<-- [end:reference]


# --8<-- [start:forward]
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
    Raises ValueError where shapes or settings do not fit, TypeError unless all
    arrays hold float32 or all float64.
    Source: Dumoulin and Visin 2016, chapter 4, relationship 14.
    """
    back = _check_transpose(
        x, w, b, stride, padding, output_padding, dilation, groups
    )
    y = _spread(x, w, back.size, back)
    if b is not None:
        y += b[:, None, None]
    return y


# --8<-- [end:forward]


# --8<-- [start:backward]
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
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Carry the gradient back: as `conv2d_backward`, x and dy in turned roles.

    dy: the shape of `conv_transpose2d(x, w, …)`. Returns (dx, dw, db), shaped
    as x, as w and (out_channels,); dx is None without `input_gradient`.
    Raises as `conv_transpose2d`, and ValueError for a `dy` of another shape.
    Source: Dumoulin and Visin 2016, section 4.1.
    """
    back = _check_transpose(
        x, w, None, stride, padding, output_padding, dilation, groups
    )
    _check_shape("dy", dy, (len(x), w.shape[1] * groups, *back.size), x)
    to = back._replace(size=x.shape[2:])  # a convolution from dy to x
    dx = _correlate(dy, w, None, to) if input_gradient else None
    return dx, _kernel_gradient(x, dy, w, to), dy.sum((0, 2, 3))


# --8<-- [end:backward]


def _check_transpose(
    x: Array,
    w: Array,
    b: Array | None,
    stride: int | Pair,
    padding: int | Pair,
    output_padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> Settings:
    s = _pair("stride", stride, 1)
    p = _pair("padding", padding, 0)
    extra = _pair("output_padding", output_padding, 0)
    d = _pair("dilation", dilation, 1)
    if any(extra[a] >= max(s[a], d[a]) for a in (0, 1)):
        raise ValueError(
            f"`output_padding={output_padding!r}` must be less than the larger "
            f"of stride={s} and dilation={d}"
        )
    _check_axes(x, w, "in_channels, out_channels / groups, kh, kw")
    _check_groups(groups, in_channels=x.shape[1])
    if x.shape[1] != len(w):
        raise ValueError(
            f"`x` has {x.shape[1]} channels; `w` of shape {w.shape} needs "
            f"{len(w)}"
        )
    if b is not None:
        _check_shape("b", b, (w.shape[1] * groups,), x)
    oh, ow = (
        (x.shape[a + 2] - 1) * s[a]
        - 2 * p[a]
        + d[a] * (w.shape[a + 2] - 1)
        + extra[a]
        + 1
        for a in (0, 1)
    )
    if min(oh, ow) < 1:
        raise ValueError(
            f"`padding={padding!r}` leaves nothing of the output: its size "
            f"would be {oh}×{ow} for an input of {x.shape[2]}×{x.shape[3]}"
        )
    return Settings(s, p, d, int(groups), (oh, ow))
