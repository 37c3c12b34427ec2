"""Output sizes and receptive fields, from a layer's settings alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeVar, Union

import numpy as np

Pair = tuple[int, int]
Size = TypeVar("Size", int, Pair)


# --8<-- [start:conv]
def conv_output_size(
    size: Size,
    kernel_size: int | Pair,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> Size:
    """Count the places at which a kernel fits into the padded input.

    size: an integer, or (height, width); the result is of the same kind.
    Raises ValueError where the kernel does not fit or a setting is too small,
    TypeError where one is no integer or pair.
    Source: Dumoulin and Visin 2016, relationship 6; dilation: section 5.1.
    """

    def count(n: int, k: int, s: int, p: int, d: int) -> int:
        return _room(n, k, p, d) // s + 1

    result: Size = _along(
        count,
        size,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    return result


# --8<-- [end:conv]


# --8<-- [start:pool]
def pool_output_size(
    size: Size,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> Size:
    """Count the places of a pooling window, which by default do not overlap.

    size: an integer, or (height, width); the result is of the same kind.
    `ceil_mode` counts a last window that hangs over the edge, if it starts in
    the input or in the padding before it.
    Raises as `conv_output_size`, and ValueError for a padding of more than
    half the window.
    Source: Dumoulin and Visin 2016, section 3; torch.nn.MaxPool2d.
    """

    def count(n: int, k: int, s: int, p: int, d: int) -> int:
        if 2 * p > k:
            raise ValueError(f"`padding={p}` is over half of kernel_size={k}")
        # In ceil_mode the last window may hang over by less than one step.
        steps = _room(n, k, p, d, hang=s - 1 if ceil_mode else 0) // s
        return steps if steps * s >= n + p else steps + 1

    result: Size = _along(
        count,
        size,
        kernel_size=kernel_size,
        stride=kernel_size if stride is None else stride,
        padding=padding,
        dilation=dilation,
    )
    return result


# --8<-- [end:pool]


# --8<-- [start:conv_transpose]
def conv_transpose_output_size(
    size: Size,
    kernel_size: int | Pair,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> Size:
    """Invert `conv_output_size`: the input size that gives `size`.

    size: an integer, or (height, width); the result is of the same kind.
    With a stride several input sizes give the same output;
    `output_padding` picks one: 0 the smallest.
    Raises as `conv_output_size`.
    Source: Dumoulin and Visin 2016, relationships 13 and 14.
    """

    def count(n: int, k: int, s: int, p: int, extra: int, d: int) -> int:
        if extra >= max(s, d):
            raise ValueError(
                f"`output_padding={extra}` must be less than the larger of "
                f"stride={s} and dilation={d}"
            )
        result = (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        if result < 1:
            raise ValueError(f"`padding={p}` leaves a size of {result}")
        return result

    result: Size = _along(
        count,
        size,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )
    return result


# --8<-- [end:conv_transpose]


# --8<-- [start:same_padding]
def same_padding(kernel_size: Size, *, dilation: int | Pair = 1) -> Size:
    """Find the padding that keeps the size at stride 1.

    kernel_size: an integer, or (height, width); the result is of that kind.
    Raises ValueError where both sides cannot be padded alike: the kernel must
    cover an odd number of pixels.
    Source: Dumoulin and Visin 2016, relationship 3 (half padding).
    """

    def half(k: int, d: int) -> int:
        if d * (k - 1) % 2:
            raise ValueError(
                f"`kernel_size={k}` with dilation={d} needs {d * (k - 1)} rows "
                "of padding in all, an odd number; no equal padding keeps "
                "the size"
            )
        return d * (k - 1) // 2

    result: Size = _along(
        half, kernel_size, name="kernel_size", dilation=dilation
    )
    return result


# --8<-- [end:same_padding]


# --8<-- [start:field]
@dataclass(frozen=True)
class Layer:
    """Settings of a convolution or pooling along one axis."""

    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _integer(name, value, least=0 if name == "padding" else 1)


@dataclass(frozen=True)
class Branches:
    """Chains side by side whose outputs are added or concatenated."""

    paths: Sequence["Chain"]


Chain = Iterable[Union[Layer, "Branches"]]


class Field(NamedTuple):
    """What a unit sees: unit i, pixels start + i * jump to … + size - 1."""

    size: int = 1
    jump: int = 1
    start: int = 0


# --8<-- [end:field]


# --8<-- [start:receptive_field]
def receptive_field(chain: Chain, field: Field = Field()) -> Field:  # noqa: B008
    """Follow the receptive field through a chain of layers.

    Returns the field of the chain's output, along one axis. After branches it
    spans what any path sees: the largest path, where all are centred alike.
    Pixels before 0 and past the input's end are padding.
    Raises ValueError for branches that do not shrink the input alike.
    Source: Araujo, Norris and Sim 2019, eq. 2 and sections on alignment.
    """
    return reduce(_see, chain, field)


def _see(field: Field, step: Layer | Branches) -> Field:
    if isinstance(step, Branches):
        return _union([receptive_field(path, field) for path in step.paths])
    return Field(
        size=field.size + step.dilation * (step.kernel_size - 1) * field.jump,
        jump=field.jump * step.stride,
        start=field.start - step.padding * field.jump,
    )


def _union(fields: list[Field]) -> Field:
    jumps = {field.jump for field in fields}
    if len(jumps) != 1:
        raise ValueError(
            f"`paths` must end with one and the same jump, not {sorted(jumps)}"
        )
    start = min(field.start for field in fields)
    end = max(field.start + field.size for field in fields)
    return Field(end - start, jumps.pop(), start)


# --8<-- [end:receptive_field]


def _room(n: int, k: int, p: int, d: int, hang: int = 0) -> int:
    """Return how far the kernel can move, `hang` pixels over the edge."""
    reach = d * (k - 1) + 1
    if reach > n + 2 * p + hang:
        raise ValueError(
            f"`kernel_size={k}` with dilation={d} covers {reach} pixels; the "
            f"padded input has {n + 2 * p}"
        )
    return n + 2 * p + hang - reach


def _along(
    function: Callable[..., int],
    size: int | Pair,
    *,
    name: str = "size",
    **settings: int | Pair,
) -> Any:
    """Apply a function of one axis to one or both."""
    least = {key: 0 if "padding" in key else 1 for key in settings}
    if not isinstance(size, tuple | list):
        size = _integer(name, size, 1)
        return function(
            size, *(_integer(k, v, least[k]) for k, v in settings.items())
        )
    pairs = [_pair(k, v, least[k]) for k, v in settings.items()]
    both = zip(_pair(name, size, 1), *pairs, strict=True)
    return tuple(function(*axis) for axis in both)


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"`{name}={value!r}` is no (height, width) pair")
    return _integer(name, pair[0], least), _integer(name, pair[1], least)


def _integer(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}={value!r}` must be an integer")
    if value < least:
        raise ValueError(f"`{name}={value}` must be at least {least}")
    return int(value)
