import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from snippets.core import counting

SIDES = st.integers(1, 4)


def learned(layer):
    return sum(p.numel() for p in layer.parameters())


@given(
    groups=SIDES,
    channels=st.tuples(SIDES, SIDES),
    k=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    bias=st.booleans(),
    n=SIDES,
)
def test_convolution_is_counted_as_by_torch(groups, channels, k, size, bias, n):
    c_in, c_out = (groups * c for c in channels)
    layer = torch.nn.Conv2d(c_in, c_out, k, groups=groups, bias=bias)
    x = torch.zeros(1, c_in, *(a + b - 1 for a, b in zip(k, size, strict=True)))
    with FlopCounterMode(display=False) as flops:
        layer(x)
    settings = {"groups": groups, "bias": bias}
    sizes = (c_in, c_out, k)
    assert counting.conv_parameters(*sizes, **settings) == learned(layer)
    macs = counting.conv_macs(size, *sizes, groups=groups)
    assert 2 * macs == flops.get_total_flops()
    biases = c_out * size[0] * size[1] if bias else 0
    edges = counting.conv_connections(size, *sizes, **settings)
    assert edges == macs + biases
    memory = counting.output_bytes(c_out, size, batch_size=n, itemsize=8)
    assert memory == layer.double()(x.double().repeat(n, 1, 1, 1)).nbytes


@given(sizes=st.tuples(SIDES, SIDES), bias=st.booleans(), n=SIDES)
def test_linear_layer_is_counted_as_by_torch(sizes, bias, n):
    layer = torch.nn.Linear(*sizes, bias=bias)
    with FlopCounterMode(display=False) as flops:
        y = layer(torch.zeros(1, sizes[0]))
    assert counting.linear_parameters(*sizes, bias=bias) == learned(layer)
    macs = counting.linear_parameters(*sizes, bias=False)
    assert 2 * macs == flops.get_total_flops()
    memory = counting.output_bytes(sizes[1], batch_size=n, itemsize=2)
    assert memory == y.numel() * n * 2


def test_bias_is_counted_and_float32_assumed_unless_said():
    assert counting.conv_parameters(2, 3, 4) == 3 * (2 * 16 + 1)
    assert counting.conv_connections(5, 2, 3, 4) == 25 * 3 * (2 * 16 + 1)
    assert counting.output_bytes(3, 5) == 4 * 3 * 25
    assert counting.linear_parameters(3, 2) == 8
    assert counting.sparse_conv_parameters([[True], [False]], 3) == 10


def test_lenet_of_1998():
    c1 = counting.conv_parameters(1, 6, 5)
    assert (c1, counting.conv_connections(28, 1, 6, 5)) == (156, 122_304)
    # Subsampling sums 2 × 2 values, then scales and shifts them.
    assert counting.conv_connections(14, 6, 6, 2, groups=6) == 5_880
    assert counting.conv_connections(5, 16, 16, 2, groups=16) == 2_000
    table = counting.LENET_C3
    assert counting.sparse_conv_parameters(table, 5) == 1_516
    assert 10 * 10 * counting.sparse_conv_parameters(table, 5) == 151_600
    assert counting.conv_connections(10, 6, 16, 5) == 241_600
    assert counting.conv_parameters(16, 120, 5) == 48_120
    assert counting.linear_parameters(120, 84) == 10_164


def test_table_of_lenet_connects_neighbours_all_round():
    table = counting.LENET_C3
    assert table.shape == (6, 16)
    assert table.sum(0).tolist() == [3] * 6 + [4] * 9 + [6]
    assert table.sum(1).tolist() == [10] * 6
    for i in range(1, 6):  # maps 0 to 5 take three in a row, 6 to 11 four
        for first in (0, 6):
            turned = np.roll(table[:, first], i)
            np.testing.assert_array_equal(table[:, first + i], turned)


@given(k=st.tuples(SIDES, SIDES), channels=st.tuples(SIDES, SIDES),
       bias=st.booleans())  # fmt: skip
def test_full_table_is_a_plain_convolution(k, channels, bias):
    table = np.ones(channels, bool)
    assert counting.sparse_conv_parameters(
        table, k, bias=bias
    ) == counting.conv_parameters(*channels, k, bias=bias)


CONV = {"in_channels": 4, "out_channels": 8, "kernel_size": 3}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, "`in_channels=0` must be at least 1"),
        ({"out_channels": 2.0}, TypeError, "`out_channels=2.0` must be an int"),
        ({"kernel_size": 0}, ValueError, "`kernel_size=0` must be at least 1"),
        ({"kernel_size": (3, 0)}, ValueError, "`kernel_size=0` must be at"),
        ({"kernel_size": (3,)}, TypeError, "`kernel_size=(3,)` is no (height,"),
        ({"kernel_size": True}, TypeError, "`kernel_size=True` must be an int"),
        ({"groups": 0}, ValueError, "`groups=0` must be at least 1"),
        ({"groups": 3}, ValueError, "`groups=3` does not divide in_channels=4"),
        (
            {"groups": 4, "out_channels": 6},
            ValueError,
            "`groups=4` does not divide out_channels=6",
        ),
        ({"output_size": 0}, ValueError, "`output_size=0` must be at least 1"),
    ],
)
def test_bad_settings_of_a_convolution_are_named(changed, error, message):
    arguments = {**CONV, **changed}
    calls = [
        lambda: counting.conv_connections(**{"output_size": 5, **arguments}),
        lambda: counting.conv_macs(**{"output_size": 5, **arguments}),
    ]
    if "output_size" not in changed:
        calls.append(lambda: counting.conv_parameters(**arguments))
    for call in calls:
        with pytest.raises(error, match="^" + re.escape(message)):
            call()


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ([[1, 0]], TypeError, "`table` holds int64; it must hold booleans"),
        ([True], ValueError, "`table` has shape (1,); it must be (in_channels"),
        ([[]], TypeError, "`table` holds float64"),
        (
            np.ones((0, 3), bool),
            ValueError,
            "`table` has shape (0, 3); it must",
        ),
    ],
)
def test_bad_tables_are_named(table, error, message):
    with pytest.raises(error, match=re.escape(message)):
        counting.sparse_conv_parameters(table, 5)


def test_bad_kernels_of_a_sparse_convolution_are_named():
    with pytest.raises(ValueError, match=r"^`kernel_size=0` must be at least"):
        counting.sparse_conv_parameters(counting.LENET_C3, 0)


@pytest.mark.parametrize("name", ["in_features", "out_features"])
def test_bad_settings_of_a_linear_layer_are_named(name):
    arguments = {"in_features": 3, "out_features": 2, name: 0}
    with pytest.raises(ValueError, match=f"^`{name}=0` must be at least 1"):
        counting.linear_parameters(**arguments)


@pytest.mark.parametrize("name", ["channels", "size", "batch_size", "itemsize"])
def test_bad_settings_of_an_output_are_named(name):
    with pytest.raises(ValueError, match=f"^`{name}=0` must be at least 1"):
        counting.output_bytes(**{"channels": 3, name: 0})
