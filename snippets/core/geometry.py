"""Output sizes and receptive fields along one axis, from settings alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Union

import numpy as np


@dataclass(frozen=True)
class Layer:
    """Settings of a convolution or pooling along one axis."""

    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _check(name, value, least=0 if name == "padding" else 1)

    @property
    def reach(self) -> int:
        """Count the pixels from the first tap to the last."""
        return self.dilation * (self.kernel_size - 1) + 1


# --8<-- [start:conv]
def conv_output_size(size: int, kernel_size: int, **options: int) -> int:
    """Count the places at which a kernel fits into the padded input.

    options: stride, padding and dilation, as of `Layer`.
    Raises ValueError where the kernel does not fit or a setting is too small,
    TypeError where one is no integer.
    Source: Dumoulin and Visin 2016, relationship 6; dilation: section 5.1.
    """
    layer = Layer(kernel_size, **options)
    return _room(size, layer) // int(layer.stride) + 1


def same_padding(kernel_size: int, *, dilation: int = 1) -> int:
    """Find the padding that keeps the size at stride 1.

    Raises ValueError where the kernel covers an even number of pixels: then
    both sides cannot be padded alike.
    Source: Dumoulin and Visin 2016, relationship 3 (half padding).
    """
    padding, rest = divmod(Layer(kernel_size, dilation=dilation).reach - 1, 2)
    if rest:
        raise ValueError(
            f"`kernel_size={kernel_size}` with dilation={dilation} covers an "
            "even number of pixels; no equal padding keeps the size"
        )
    return int(padding)


# --8<-- [end:conv]


# --8<-- [start:pool]
def pool_output_size(
    size: int, kernel_size: int, *, ceil_mode: bool = False, **options: int
) -> int:
    """Count the places of a window, by default a stride of its size apart.

    `ceil_mode` counts a last window that hangs over the edge, if it starts in
    the input or in the padding before it. Raises as `conv_output_size`, and
    ValueError for a padding of more than half the window.
    Source: Dumoulin and Visin 2016, section 3; torch.nn.MaxPool2d.
    """
    options.setdefault("stride", kernel_size)
    layer = Layer(kernel_size, **options)
    k, s, p = int(kernel_size), int(layer.stride), int(layer.padding)
    if 2 * p > k:
        raise ValueError(f"`padding={p}` is over half of kernel_size={k}")
    # In ceil_mode the last window may hang over by less than one step.
    steps = _room(size, layer, hang=s - 1 if ceil_mode else 0) // s
    return steps if steps * s >= size + p else steps + 1


# --8<-- [end:pool]


# --8<-- [start:conv_transpose]
def conv_transpose_output_size(
    size: int, kernel_size: int, *, output_padding: int = 0, **options: int
) -> int:
    """Invert `conv_output_size`: the input size that gives `size`.

    With a stride several input sizes give the same output; `output_padding`
    picks one: 0 the smallest. Raises as `conv_output_size`.
    Source: Dumoulin and Visin 2016, relationships 13 and 14.
    """
    _check("size", size)
    _check("output_padding", output_padding, least=0)
    layer = Layer(kernel_size, **options)
    s, p, d = layer.stride, layer.padding, layer.dilation
    if output_padding >= max(s, d):
        raise ValueError(
            f"`output_padding={output_padding}` must be less than the larger "
            f"of stride={s} and dilation={d}"
        )
    result = (size - 1) * s - 2 * p + layer.reach + output_padding
    if result < 1:
        raise ValueError(f"`padding={p}` leaves a size of {result}")
    return int(result)


# --8<-- [end:conv_transpose]


# --8<-- [start:receptive_field]
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


def receptive_field(chain: Chain, field: Field = Field()) -> Field:  # noqa: B008
    """Follow the receptive field through a chain of layers, along one axis.

    After branches it spans what any path sees: the largest path, where all are
    centred alike. Pixels before 0 and past the input's end are padding.
    Raises ValueError for branches that do not shrink the input alike.
    Source: Araujo, Norris and Sim 2019, eq. 2 and sections on alignment.
    """
    for step in chain:
        size, jump, start = field
        if isinstance(step, Layer):
            size += (step.reach - 1) * jump
            start -= step.padding * jump
            field = Field(size, jump * step.stride, start)
        else:
            field = _union(
                [receptive_field(path, field) for path in step.paths]
            )
    return field


# --8<-- [end:receptive_field]


def _union(fields: list[Field]) -> Field:
    jumps = sorted({field.jump for field in fields})
    if len(jumps) != 1:
        raise ValueError(f"`paths` must end with one jump, not {jumps}")
    start = min(field.start for field in fields)
    end = max(field.start + field.size for field in fields)
    return Field(end - start, jumps[0], start)


def _room(size: int, layer: Layer, hang: int = 0) -> int:
    """Return how far the kernel can move, `hang` pixels over the edge."""
    _check("size", size)
    padded = size + 2 * layer.padding
    if layer.reach > padded + hang:
        raise ValueError(
            f"`kernel_size={layer.kernel_size}` with dilation={layer.dilation} "
            f"covers {layer.reach} pixels; the padded input has {padded}"
        )
    return int(padded + hang - layer.reach)


def _check(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}={value!r}` must be an integer")
    if value < least:
        raise ValueError(f"`{name}={value}` must be at least {least}")
