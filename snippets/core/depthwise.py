"""The way back through a depthwise convolution: one kernel a channel.

Built on conv.py, which must lie beside this file. Forward, its columns are as
fast as anything tried.
"""

import numpy as np

try:
    from .conv import (
        BLOCK,
        Array,
        Pair,
        Settings,
        _check_conv,
        _check_shape,
        _place,
        _spread,
    )
except ImportError:  # copied into a folder that is no package
    from conv import (  # type: ignore[import-not-found,no-redef]
        BLOCK,
        Array,
        Pair,
        Settings,
        _check_conv,
        _check_shape,
        _place,
        _spread,
    )


# --8<-- [start:backward]
def depthwise_conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Carry the gradient back, as `conv2d_backward` with a group a channel.

    dy: (n, channels, oh, ow), the shape of `conv2d(x, w, …, groups=channels)`;
    w: (channels, 1, kh, kw). Returns (dx, dw, db), shaped as x, as w and
    (channels,); dx is None without `input_gradient`. Raises as `conv2d`, also
    for `dy`.
    Source: Howard et al. 2017 (MobileNets), eq. 3.
    """
    to = _check_conv(x, w, None, stride, padding, dilation, len(w) or 1)
    if w.shape[1] != 1:
        raise ValueError(f"`w` has shape {w.shape}; it must be (…, 1, kh, kw)")
    _check_shape("dy", dy, (len(x), len(w), *to.size), x)
    dw = _kernel_gradient(dy, x, w, to)
    dx = _spread(dy, w, x.shape[2:], to) if input_gradient else None
    return dx, dw, dy.sum((0, 2, 3))


# --8<-- [end:backward]


# --8<-- [start:kernel_gradient]
def _kernel_gradient(dy: Array, x: Array, w: Array, to: Settings) -> Array:
    """Take one dot product for each tap: planes laid flat, shifted."""
    (sh, sw), p, d, _, (oh, ow) = to
    (kh, kw), rows, columns = w.shape[2:], (oh - 1) * sh + 1, (ow - 1) * sw + 1
    h, wide = rows + d[0] * (kh - 1), columns + d[1] * (kw - 1)
    length = (rows - 1) * wide + columns
    dw = np.zeros((len(w), kh, kw), x.dtype)
    some = max(1, BLOCK // (2 * h * wide * x.itemsize))
    for n, c in np.ndindex(len(x), -(-len(w) // some)):
        part = slice(n, n + 1), slice(c * some, (c + 1) * some)
        flat = _place(x[part], p, (h, wide)).reshape(-1, h * wide, 1)
        apart = np.zeros((len(flat), 1, h, wide), x.dtype)
        apart[:, 0, :rows:sh, :columns:sw] = dy[part]
        apart = apart.reshape(len(flat), 1, -1)[:, :, :length]
        for u, v in np.ndindex(kh, kw):
            shift = u * d[0] * wide + v * d[1]
            dot = apart @ flat[:, shift : shift + length]
            dw[part[1], u, v] += dot[:, 0, 0]
    return dw.reshape(w.shape)


# --8<-- [end:kernel_gradient]
