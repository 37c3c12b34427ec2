"""Upsampling four ways: nearest, bilinear, transposed, pixel shuffle.

Tensors are laid out n, c, h, w.
"""

from itertools import product

import torch
from torch import Tensor

Pair = tuple[int, int]


# --8<-- [start:nearest]
def nearest(
    x: Tensor,
    *,
    size: int | Pair | None = None,
    scale: int | Pair | None = None,
) -> Tensor:
    """Copy to each output pixel the input pixel whose area it starts in.

    x: (n, c, h, w). Returns (n, c, *size), or (n, c, h·scale, w·scale): of
    both, give one. Output row i takes input row floor(i · h / oh), columns
    likewise. Raises ValueError where sizes do not fit.
    As in PyTorch h / oh is rounded to float32. That can lead to the row
    before: 2 rows become 82 as 42 and 40.
    """
    h, w = _check_size(x)
    if size is not None and scale is None:
        oh, ow = _pair("size", size)
    elif scale is not None and size is None:
        sh, sw = _pair("scale", scale)
        oh, ow = h * sh, w * sw
    else:
        raise ValueError(f"{size=}, {scale=}: one of the two must be given")
    i = torch.arange(oh, dtype=torch.float32, device=x.device)
    j = torch.arange(ow, dtype=torch.float32, device=x.device)
    rows, columns = (i * (h / oh)).long(), (j * (w / ow)).long()
    return x[:, :, rows[:, None], columns]


# --8<-- [end:nearest]
# --8<-- [start:bilinear]
def bilinear(
    x: Tensor, size: int | Pair, *, align_corners: bool = False
) -> Tensor:
    """Blend linearly between neighbouring rows, then between columns.

    x: (n, c, h, w), floats. Returns (n, c, *size). With `align_corners` the
    centres of the corner pixels stay where they are: output row i lies at
    input row i · (h - 1) / (oh - 1). Without, the corners of the image do: at
    (i + 1/2) · h / oh - 1/2, held between 0 and h - 1. Columns likewise. Also
    where the image shrinks it blends no more than two rows: no antialiasing.
    An inf or NaN spreads along its row and column. Raises ValueError where
    sizes do not fit, TypeError where x holds no floats.
    """
    h, w = _check_size(x)
    oh, ow = _pair("size", size)
    if not x.is_floating_point():
        raise TypeError(f"`x` holds {x.dtype}; it must hold floats")
    down = _blend(h, oh, align_corners).to(x)  # (oh, h)
    along = _blend(w, ow, align_corners).to(x)  # (ow, w)
    return down @ x @ along.T


def _blend(size: int, out: int, align_corners: bool) -> Tensor:
    """Return the share (out, size) of each input in each output."""
    i = torch.arange(out, dtype=torch.float64)
    if align_corners:
        at = i * (size - 1) / max(out - 1, 1)
    else:
        at = ((i + 0.5) * size / out - 0.5).clamp(0, size - 1)
    distance = (at[:, None] - torch.arange(size)).abs()
    return (1 - distance).clamp(min=0)  # a hat: one input's share, by distance


# --8<-- [end:bilinear]
# --8<-- [start:conv_transpose]
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Tensor:
    """Stamp the kernel, times each input pixel, into a larger image.

    x: (n, c, h, w); w: (c, out/groups, kh, kw); b: (out,). Stamps lie
    `stride` apart and add up where they overlap. `padding` then cuts a border
    off, `output_padding` leaves that much more of it below and at the right.
    Returns (n, out, oh, ow), where oh = (h - 1) · stride - 2 · padding +
    dilation · (kh - 1) + output_padding + 1, and ow likewise. Raises
    ValueError where shapes or settings do not fit.
    Source: Dumoulin and Visin 2016, chapter 4.
    """
    h, width = _check_size(x)
    _check_kernel(x, w, b, groups)
    (sh, sw), (dh, dw) = _pair("stride", stride), _pair("dilation", dilation)
    ph, pw = _pair("padding", padding, 0)
    eh, ew = _pair("output_padding", output_padding, 0)
    if not (eh < max(sh, dh) and ew < max(sw, dw)):
        raise ValueError(
            f"{output_padding=} must be below {stride=} or {dilation=}"
        )
    c, out, kh, kw = w.shape  # out of one group
    bottom = (h - 1) * sh + dh * (kh - 1) + eh + 1
    right = (width - 1) * sw + dw * (kw - 1) + ew + 1
    if bottom <= 2 * ph or right <= 2 * pw:
        raise ValueError(f"{padding=} cuts all of {bottom} × {right} off")
    y = x.new_zeros(len(x), groups, out, bottom, right)
    x = x.reshape(len(x), groups, c // groups, h, width)
    _stamp(y, x, w.reshape(groups, c // groups, out, kh, kw), sh, sw, dh, dw)
    y = y.flatten(1, 2)[:, :, ph : bottom - ph, pw : right - pw]
    return y if b is None else y + b.view(-1, 1, 1)


# --8<-- [end:conv_transpose]
# --8<-- [start:stamp]
def _stamp(
    y: Tensor, x: Tensor, w: Tensor, sh: int, sw: int, dh: int, dw: int
) -> None:
    """Add the stamps of all pixels of `x` to `y`; n, groups come first."""
    h, width = x.shape[-2:]
    for i, j in product(range(w.shape[-2]), range(w.shape[-1])):
        # One kernel element of all stamps at once: they lie a stride apart.
        rows = slice(i * dh, i * dh + (h - 1) * sh + 1, sh)
        columns = slice(j * dw, j * dw + (width - 1) * sw + 1, sw)
        elements = torch.einsum("ngchw,gco->ngohw", x, w[..., i, j])
        y[..., rows, columns] += elements


# --8<-- [end:stamp]
# --8<-- [start:pixel_shuffle]
def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Lay out each pixel's factor² values as a square of pixels.

    x: (n, c·factor², h, w). Returns (n, c, h·factor, w·factor). Raises
    ValueError where factor² does not divide the channels.
    Source: Shi et al. 2016, section 3.2, with the channels in PyTorch's order.
    """
    h, w = _check_size(x)
    n, c, f = *x.shape[:2], factor
    if f < 1 or c % f**2:
        raise ValueError(
            f"{factor=} must be >= 1, and its square divide the {c} channels "
            "of `x`"
        )
    x = x.reshape(n, c // f**2, f, f, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // f**2, h * f, w * f)


# --8<-- [end:pixel_shuffle]
def _check_size(x: Tensor) -> Pair:
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; it must be (n, c, h, w) with c, "
            "h and w at least 1"
        )
    return x.shape[2], x.shape[3]


def _check_kernel(x: Tensor, w: Tensor, b: Tensor | None, groups: int) -> None:
    c = x.shape[1]
    for name, a in (("w", w), ("b", b)):
        if a is not None and a.dtype != x.dtype:
            raise TypeError(
                f"`{name}` holds {a.dtype}; it must hold {x.dtype}, as `x` does"
            )
    if w.ndim != 4 or len(w) != c or 0 in w.shape:
        raise ValueError(
            f"`w` has shape {tuple(w.shape)}; it must be ({c}, out/groups, kh, "
            "kw), its first axis that of the channels of `x`"
        )
    if groups < 1 or c % groups:
        raise ValueError(f"{groups=} must divide the {c} channels of `x`")
    out = groups * w.shape[1]
    if b is not None and b.shape != (out,):
        raise ValueError(f"`b` has shape {tuple(b.shape)}; it must be ({out},)")


def _pair(name: str, value: int | Pair, smallest: int = 1) -> Pair:
    allowed = f"`{name}={value}` must be one or two integers >= {smallest}"
    pair = value if isinstance(value, tuple) else (value, value)
    if not all(isinstance(v, int) for v in pair):
        raise TypeError(allowed)
    if len(pair) != 2 or min(pair) < smallest:
        raise ValueError(allowed)
    return pair
