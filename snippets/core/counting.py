"""Parameters, connections, multiply-adds and bytes, from settings alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pair = tuple[int, int]


# --8<-- [start:conv_parameters]
def conv_parameters(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int = 1,
    bias: bool = True,
) -> int:
    """Count what a convolution learns: each kernel's values, and its bias.

    Raises ValueError where `groups` does not divide both numbers of channels
    or a setting is less than 1, TypeError where one is no integer.
    Source: LeCun et al. 1998, section II.B.
    """
    fan_in = _fan_in(in_channels, out_channels, kernel_size, groups)
    return out_channels * (fan_in + bool(bias))


def _fan_in(
    in_channels: int, out_channels: int, kernel_size: int | Pair, groups: int
) -> int:
    """Count the input values that one output value is made of."""
    settings = {"in_channels": in_channels, "out_channels": out_channels}
    for name, value in {**settings, "groups": groups}.items():
        _integer(name, value)
    for name, value in settings.items():
        if value % groups:
            raise ValueError(
                f"`groups={groups}` does not divide {name}={value}"
            )
    kh, kw = _pair("kernel_size", kernel_size)
    return in_channels // groups * kh * kw


# --8<-- [end:conv_parameters]


# --8<-- [start:conv_connections]
def conv_connections(
    output_size: int | Pair,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int = 1,
    bias: bool = True,
) -> int:
    """Count the edges into all output values; weights are shared, these not.

    output_size: (height, width) of the map, or an integer for a square one.
    Raises as `conv_parameters`.
    Source: LeCun et al. 1998, section II.B.
    """
    h, w = _pair("output_size", output_size)
    return (
        h
        * w
        * conv_parameters(
            in_channels, out_channels, kernel_size, groups=groups, bias=bias
        )
    )


# --8<-- [end:conv_connections]


# --8<-- [start:conv_macs]
def conv_macs(
    output_size: int | Pair,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int = 1,
) -> int:
    """Count the multiply-adds for one image; one is two operations (FLOPs).

    A bias costs no multiplication and is not counted.
    output_size: (height, width) of the map, or an integer for a square one.
    Raises as `conv_parameters`.
    Source: He et al. 2016 (ResNet), section 3.3, which calls them FLOPs.
    """
    return conv_connections(
        output_size,
        in_channels,
        out_channels,
        kernel_size,
        groups=groups,
        bias=False,
    )


# --8<-- [end:conv_macs]


# --8<-- [start:bytes]
class Bytes(NamedTuple):
    """Memory of a layer."""

    parameters: int
    output: int


def conv_bytes(
    output_size: int | Pair,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int = 1,
    bias: bool = True,
    batch_size: int = 1,
    itemsize: int = 4,
) -> Bytes:
    """Count the bytes of a convolution's parameters and of its output.

    output_size: (height, width) of the map, or an integer for a square one;
    itemsize: bytes of one number, 4 for float32.
    Raises as `conv_parameters`.
    """
    _integer("itemsize", itemsize)
    _integer("batch_size", batch_size)
    h, w = _pair("output_size", output_size)
    parameters = conv_parameters(
        in_channels, out_channels, kernel_size, groups=groups, bias=bias
    )
    return Bytes(
        parameters * itemsize, batch_size * out_channels * h * w * itemsize
    )


# --8<-- [end:bytes]


# --8<-- [start:sparse]
# LeCun et al. 1998, table I: which of the 6 maps of S2 (rows) each of the 16
# maps of C3 (columns) is connected to.
LENET_C3 = np.array(
    [
        [1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1],
        [1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1],
        [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1],
        [0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1],
        [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1],
        [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1],
    ],
    bool,
)


def sparse_conv_parameters(
    table: ArrayLike, kernel_size: int | Pair, *, bias: bool = True
) -> int:
    """Count what a convolution learns that leaves out some channels.

    table: (in_channels, out_channels), true where the two are connected.
    Raises ValueError where `table` is not two-dimensional, TypeError where it
    holds anything but booleans.
    Source: LeCun et al. 1998, section II.B and table I.
    """
    pairs = _table(table)
    kh, kw = _pair("kernel_size", kernel_size)
    outputs: int = pairs.shape[1]
    return int(np.count_nonzero(pairs)) * kh * kw + bool(bias) * outputs


def sparse_conv_connections(
    output_size: int | Pair,
    table: ArrayLike,
    kernel_size: int | Pair,
    *,
    bias: bool = True,
) -> int:
    """Count the edges into all output values of such a convolution.

    output_size: (height, width) of the map, or an integer for a square one.
    Shapes, errors and source as for `sparse_conv_parameters`.
    """
    h, w = _pair("output_size", output_size)
    return h * w * sparse_conv_parameters(table, kernel_size, bias=bias)


# --8<-- [end:sparse]


# --8<-- [start:linear]
def linear_parameters(
    in_features: int, out_features: int, *, bias: bool = True
) -> int:
    """Count what a fully connected layer learns: as much as it has edges.

    Raises ValueError where a number is less than 1, TypeError where it is no
    integer.
    Source: LeCun et al. 1998, section II.B (layer F6).
    """
    _integer("in_features", in_features)
    _integer("out_features", out_features)
    return out_features * (in_features + bool(bias))


def linear_macs(in_features: int, out_features: int) -> int:
    """Count the multiply-adds for one sample, as for `conv_macs`."""
    return linear_parameters(in_features, out_features, bias=False)


def linear_bytes(
    in_features: int,
    out_features: int,
    *,
    bias: bool = True,
    batch_size: int = 1,
    itemsize: int = 4,
) -> Bytes:
    """Count the bytes of parameters and output, as `conv_bytes` does."""
    _integer("itemsize", itemsize)
    _integer("batch_size", batch_size)
    parameters = linear_parameters(in_features, out_features, bias=bias)
    return Bytes(parameters * itemsize, batch_size * out_features * itemsize)


# --8<-- [end:linear]


def _table(table: ArrayLike) -> NDArray[np.bool_]:
    pairs = np.asarray(table)
    if pairs.dtype != np.bool_:
        raise TypeError(f"`table` holds {pairs.dtype}; it must hold booleans")
    if pairs.ndim != 2 or not pairs.size:
        raise ValueError(
            f"`table` has shape {pairs.shape}; it must be "
            "(in_channels, out_channels)"
        )
    return pairs


def _pair(name: str, value: int | Pair) -> Pair:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"`{name}={value!r}` is no (height, width) pair")
    return _integer(name, pair[0]), _integer(name, pair[1])


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}={value!r}` must be an integer")
    if value < 1:
        raise ValueError(f"`{name}={value}` must be at least 1")
    return int(value)
