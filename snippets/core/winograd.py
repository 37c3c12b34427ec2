"""Convolution with 3×3 kernels by fewer multiplications, after Winograd.

Arrays are laid out N, C, H, W. A tile of 4×4 outputs takes 36 products for
each pair of channels instead of 144, a tile of 2×2 16 instead of 36; the price
is a transform of each tile, and digits. It pays from some 64 channels on.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Pair = tuple[int, int]

BLOCK = 1 << 20  # bytes of tiles at a time: they should stay in the cache
POINTS = {2: (0, 1, -1), 4: (0, 1, -1, 0.5, -2)}  # for each size of tile


class Settings(NamedTuple):
    """Settings of a convolution, checked; pairs are (height, width)."""

    padding: Pair
    dilation: Pair
    tile: int
    size: Pair  # of the output


class Tiles(NamedTuple):
    """Some rows of tiles: in which images, from which output on."""

    images: slice
    first: Pair
    number: Pair  # of tiles


# --8<-- [start:transforms]
def transforms(tile: int) -> tuple[Array, Array, Array]:
    """Return A, G and B: Aᵀ ((G g) (Bᵀ d)) is the correlation of d with g.

    In one dimension, of d: (tile + 2,) with g: (3,). A product of polynomials
    is known from its values: take those of both at some points and at
    infinity, multiply, and interpolate; correlation turns that round. With
    A ⊗ A and so on, the same holds in two dimensions.
    Raises ValueError for a tile of another size than 2 or 4.
    Source: Lavin and Gray 2016, section 4.1; points: Barabasz et al. 2020.
    """
    if tile not in POINTS:
        raise ValueError(f"`tile={tile!r}` must be 2 or 4")

    def values(coefficients: int) -> Array:
        table = np.vander(POINTS[tile], coefficients, increasing=True)
        at_infinity = np.eye(1, coefficients, coefficients - 1)
        return np.vstack([table, at_infinity])

    return values(tile), values(3), np.linalg.inv(values(tile + 2))


def _planar(a: Array, like: Array) -> Array:
    return np.kron(a, a).astype(like.dtype)


# --8<-- [end:transforms]


# --8<-- [start:forward]
def winograd_conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    tile: int = 4,
) -> Array:
    """Convolve with 3×3 kernels at stride 1, a tile of outputs at a time.

    x: (n, in_channels, h, w); w: (out_channels, in_channels, 3, 3); b:
    (out_channels,). Returns (n, out_channels, oh, ow) with
    oh = h + 2 * padding - 2 * dilation. In float32 the error of a value is at
    most 6e-7 (tile=2) or 6e-6 (tile=4) times the largest |x| of its tile times
    Σ|w| of its channel, in float64 4e8 times less; without Winograd 2e-7.
    Raises ValueError where shapes or settings do not fit, TypeError unless all
    arrays hold float32 or all float64.
    Source: Lavin and Gray 2016, section 4.
    """
    to = _check(x, w, b, padding, dilation, tile)
    return _correlate(x, w, b, to)


def _correlate(x: Array, w: Array, b: Array | None, to: Settings) -> Array:
    a, g, to_tiles = (_planar(m, x) for m in transforms(to.tile))
    kernels = (g @ w.reshape(-1, 9).T).reshape(len(g), *w.shape[:2])
    y = np.empty((len(x), len(w), *to.size), x.dtype)
    for some in _blocks(len(x), kernels, to):
        tiles = _cut(x, some, to, to.tile + 2, to.padding)
        tiles = to_tiles.T @ tiles.reshape(len(tiles), -1)
        tiles = kernels @ tiles.reshape(len(g), x.shape[1], -1)
        tiles = a.T @ tiles.reshape(len(g), -1)
        _paste(tiles, y, b, some, to)
    return y


# --8<-- [end:forward]


# --8<-- [start:backward]
def winograd_conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    tile: int = 4,
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Carry the gradient of the output back to input, kernels and bias.

    dy: the shape of `winograd_conv2d(x, w, …)`. Returns (dx, dw, db), shaped
    as x, as w and (out_channels,); dx is None without `input_gradient`. Raises
    as `winograd_conv2d`, also for `dy`.
    Source: Lavin and Gray 2016, section 4; the derivative of Aᵀ ((G g) (Bᵀ d))
    by g gives dw = Gᵀ ((A dy) (Bᵀ d)).
    """
    to = _check(x, w, None, padding, dilation, tile)
    _check_array("dy", dy, (len(x), len(w), *to.size), x)
    dw = _kernel_gradient(dy, x, w, to)
    dx = None
    if input_gradient:
        before = (
            to.dilation[0] * 2 - to.padding[0],
            (to.dilation[1] * 2 - to.padding[1]),
        )
        back = to._replace(padding=before, size=x.shape[2:])
        turned = np.ascontiguousarray(w[..., ::-1, ::-1].swapaxes(0, 1))
        dx = _correlate(dy, turned, None, back)
    return dx, dw, dy.sum((0, 2, 3))


# --8<-- [end:backward]


# --8<-- [start:kernel_gradient]
def _kernel_gradient(dy: Array, x: Array, w: Array, to: Settings) -> Array:
    a, g, to_tiles = (_planar(m, x) for m in transforms(to.tile))
    dkernels = np.zeros((len(g), *w.shape[:2]), x.dtype)
    for some in _blocks(len(x), dkernels, to):
        seen = _cut(x, some, to, to.tile + 2, to.padding)
        seen = to_tiles.T @ seen.reshape(len(seen), -1)
        seen = seen.reshape(len(g), x.shape[1], -1)
        tiles = _cut(dy, some, to, to.tile, (0, 0))
        tiles = a @ tiles.reshape(len(tiles), -1)
        tiles = tiles.reshape(len(g), len(w), -1)
        dkernels += tiles @ seen.swapaxes(1, 2)
    dw = g.T @ dkernels.reshape(len(g), -1)
    return np.ascontiguousarray(dw.T).reshape(w.shape)


# --8<-- [end:kernel_gradient]


# --8<-- [start:blocks]
def _blocks(n: int, kernels: Array, to: Settings) -> Iterator[Tiles]:
    """Yield rows of tiles until the output is covered.

    A dilated kernel sees each dth pixel alone: one convolution for each phase.
    """
    weight = len(kernels) * max(kernels.shape[1:]) * kernels.itemsize
    most = max(BLOCK, kernels.nbytes // 4) // weight
    d, tile = to.dilation, to.tile
    for i, j in np.ndindex(min(d[0], to.size[0]), min(d[1], to.size[1])):
        high = -(-(to.size[0] - i) // (d[0] * tile))
        wide = -(-(to.size[1] - j) // (d[1] * tile))
        some = max(1, most // (high * wide))
        rows = max(1, min(most // wide, high))
        for image in range(0, n, some):
            for row in range(0, high, rows):
                first = i + row * tile * d[0], j
                count = min(rows, high - row), wide
                yield Tiles(slice(image, image + some), first, count)


# --8<-- [end:blocks]


# --8<-- [start:cut]
def _cut(
    x: Array, some: Tiles, to: Settings, width: int, padding: Pair
) -> Array:
    """Copy what the tiles see: (width * width, channels, tiles)."""
    part = x[some.images]
    side = [(count - 1) * to.tile + width for count in some.number]
    plane = np.zeros((*part.shape[:2], *side), x.dtype)
    (ours, theirs), (ours_too, theirs_too) = (
        _overlap(
            some.first[a] - padding[a], to.dilation[a], side[a], x.shape[a + 2]
        )
        for a in (0, 1)
    )
    plane[:, :, ours, ours_too] = part[:, :, theirs, theirs_too]
    windows = np.lib.stride_tricks.sliding_window_view(
        plane, (width, width), (2, 3)
    )
    windows = windows[:, :, :: to.tile, :: to.tile].transpose(4, 5, 1, 0, 2, 3)
    return windows.reshape(width * width, x.shape[1], -1)


# --8<-- [end:cut]


# --8<-- [start:paste]
def _paste(
    tiles: Array, y: Array, b: Array | None, some: Tiles, to: Settings
) -> None:
    """Put tiles of outputs where they belong, and what hangs over nowhere."""
    part = y[some.images]
    side = [count * to.tile for count in some.number]
    plane = np.empty((*part.shape[:2], *side), y.dtype)
    tiles = tiles.reshape(to.tile, to.tile, y.shape[1], len(part), *some.number)
    view = plane.reshape(
        *part.shape[:2], some.number[0], to.tile, some.number[1], to.tile
    )
    view[...] = tiles.transpose(3, 2, 4, 0, 5, 1)
    if b is not None:
        plane += b[:, None, None]
    (ours, theirs), (ours_too, theirs_too) = (
        _overlap(some.first[a], to.dilation[a], side[a], to.size[a])
        for a in (0, 1)
    )
    part[:, :, theirs, theirs_too] = plane[:, :, ours, ours_too]


def _overlap(
    first: int, step: int, count: int, side: int
) -> tuple[slice, slice]:
    """Say which of first, first + step, … lie in 0 … side - 1; and where."""
    start = max(0, -(first // step))
    stop = max(start, min(count, -((first - side) // step)))
    at = first + start * step
    return slice(start, stop), slice(at, at + (stop - start) * step, step)


# --8<-- [end:paste]


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


def _check_array(
    name: str, a: Array, shape: tuple[int | None, ...], x: Array
) -> None:
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
    if len(a.shape) != len(shape) or any(
        wanted not in (None, side)
        for side, wanted in zip(a.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"`{name}` has shape {a.shape}; it must be ({wanted})")


def _check(
    x: Array,
    w: Array,
    b: Array | None,
    padding: int | Pair,
    dilation: int | Pair,
    tile: int,
) -> Settings:
    p, d = _pair("padding", padding, 0), _pair("dilation", dilation, 1)
    transforms(tile)
    _check_array("x", x, (None,) * 4, x)
    if 0 in x.shape[1:]:
        raise ValueError(f"`x` has shape {x.shape}; only n may be 0")
    _check_array("w", w, (None, x.shape[1], 3, 3), x)
    if not len(w):
        raise ValueError(f"`w` has shape {w.shape}; it must have kernels")
    if b is not None:
        _check_array("b", b, (len(w),), x)
    oh, ow = (x.shape[a + 2] + 2 * p[a] - 2 * d[a] for a in (0, 1))
    if min(oh, ow) < 1:
        raise ValueError(
            f"`w` covers {2 * d[0] + 1}×{2 * d[1] + 1} pixels with "
            f"dilation={d}; the padded input has only "
            f"{oh + 2 * d[0]}×{ow + 2 * d[1]}"
        )
    return Settings(p, d, tile, (oh, ow))
