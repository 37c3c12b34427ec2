"""Parameters, connections, multiply-adds and bytes, from settings alone."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pair = tuple[int, int]


# --8<-- [start:conv]
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
    _check(in_channels=in_channels, out_channels=out_channels, groups=groups)
    for name, value in (("in", in_channels), ("out", out_channels)):
        if value % groups:
            raise ValueError(
                f"`groups={groups}` does not divide {name}_channels={value}"
            )
    fan_in = in_channels // groups * _area("kernel_size", kernel_size)
    return out_channels * (fan_in + bool(bias))


# --8<-- [end:conv]


# --8<-- [start:conv_macs]
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

    output_size: (height, width), or an integer. Raises as `conv_parameters`.
    """
    channels = in_channels, out_channels
    weights = conv_parameters(*channels, kernel_size, groups=groups, bias=bias)
    return _area("output_size", output_size) * weights


def conv_macs(
    output_size: int | Pair,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int = 1,
) -> int:
    """Count the multiply-adds for one image; one is two operations (FLOPs).

    A bias costs no multiplication. Raises as `conv_parameters`.
    Source: He et al. 2016 (ResNet), section 3.3, which calls them FLOPs.
    """
    channels = in_channels, out_channels
    return conv_connections(
        output_size, *channels, kernel_size, groups=groups, bias=False
    )


# --8<-- [end:conv_macs]


# --8<-- [start:bytes]
def output_bytes(
    channels: int,
    size: int | Pair = 1,
    *,
    batch_size: int = 1,
    itemsize: int = 4,
) -> int:
    """Count the bytes of a layer's output; those of weights are itemsize each.

    size: (height, width) of the map, or an integer for a square one, 1 after a
    fully connected layer; itemsize: bytes of one number, 4 for float32.
    Raises as `conv_parameters`.
    """
    _check(channels=channels, batch_size=batch_size, itemsize=itemsize)
    return batch_size * channels * _area("size", size) * itemsize


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
    Times the pixels of the map, these are the connections.
    Raises ValueError where `table` is not two-dimensional, TypeError where it
    holds anything but booleans.
    Source: LeCun et al. 1998, section II.B and table I.
    """
    pairs: NDArray[np.bool_] = np.asarray(table)
    if pairs.dtype != np.bool_:
        raise TypeError(f"`table` holds {pairs.dtype}; it must hold booleans")
    if pairs.ndim != 2 or not pairs.size:
        raise ValueError(
            f"`table` has shape {pairs.shape}; it must be "
            "(in_channels, out_channels)"
        )
    weights = int(np.count_nonzero(pairs)) * _area("kernel_size", kernel_size)
    return weights + bool(bias) * int(pairs.shape[1])


# --8<-- [end:sparse]


# --8<-- [start:linear]
def linear_parameters(
    in_features: int, out_features: int, *, bias: bool = True
) -> int:
    """Count what a fully connected layer learns: as much as it has edges.

    Without its bias, as much as it multiplies and adds for one sample.
    Raises ValueError where a number is less than 1, TypeError for no integer.
    Source: LeCun et al. 1998, section II.B (layer F6).
    """
    _check(in_features=in_features, out_features=out_features)
    return out_features * (in_features + bool(bias))


# --8<-- [end:linear]


def _area(name: str, value: int | Pair) -> int:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"`{name}={value!r}` is no (height, width) pair")
    for side in pair:
        _check(**{name: side})
    return int(pair[0]) * int(pair[1])


def _check(**settings: int) -> None:
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"`{name}={value!r}` must be an integer")
        if value < 1:
            raise ValueError(f"`{name}={value}` must be at least 1")
