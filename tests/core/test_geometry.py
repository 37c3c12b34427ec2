import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st

from snippets.core.geometry import (
    Branches,
    Field,
    Layer,
    conv_output_size,
    conv_transpose_output_size,
    pool_output_size,
    receptive_field,
    same_padding,
)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


SETTINGS = {
    "size": pairs(1, 12),
    "k": pairs(1, 5),
    "s": pairs(1, 4),
    "p": pairs(0, 3),
    "d": pairs(1, 3),
}


def agrees(function, theirs, size, k, **settings):
    """Compare with torch's shapes, or with its refusal."""
    x = torch.zeros(1, 1, *size)
    try:
        expected = theirs(x)
    except RuntimeError:
        with pytest.raises(ValueError, match="`"):
            function(size, k, **settings)
        return
    assert function(size, k, **settings) == tuple(expected.shape[2:])
    for a in (0, 1):
        one = {
            name: value[a] if isinstance(value, tuple) else value
            for name, value in settings.items()
        }
        assert function(size[a], k[a], **one) == expected.shape[a + 2]


@given(**SETTINGS)
def test_convolution_size_equals_torch(size, k, s, p, d):
    w = torch.zeros(1, 1, *k)
    agrees(
        conv_output_size,
        lambda x: F.conv2d(x, w, None, s, p, d),
        size,
        k,
        stride=s,
        padding=p,
        dilation=d,
    )


@given(**SETTINGS, ceil=st.booleans())
def test_pooling_size_equals_torch(size, k, s, p, d, ceil):
    agrees(
        pool_output_size,
        lambda x: F.max_pool2d(x, k, s, p, d, ceil),
        size,
        k,
        stride=s,
        padding=p,
        dilation=d,
        ceil_mode=ceil,
    )


@given(**SETTINGS, extra=pairs(0, 3))
def test_transposed_size_equals_torch(size, k, s, p, d, extra):
    w = torch.zeros(1, 1, *k)
    agrees(
        conv_transpose_output_size,
        lambda x: F.conv_transpose2d(x, w, None, s, p, extra, 1, d),
        size,
        k,
        stride=s,
        padding=p,
        output_padding=extra,
        dilation=d,
    )


def test_pooling_size_equals_torch_at_every_edge():
    sides, small = range(1, 9), range(1, 5)
    for n, k, s, d in itertools.product(sides, small, small, (1, 2)):
        for p, ceil in itertools.product(range(k // 2 + 1), (False, True)):
            settings = {"padding": p, "dilation": d, "ceil_mode": ceil}
            x = torch.zeros(1, 1, n)
            try:
                expected = F.max_pool1d(x, k, s, **settings).shape[2]
            except RuntimeError:
                with pytest.raises(ValueError, match=r"^`kernel_size="):
                    pool_output_size(n, k, stride=s, **settings)
                continue
            assert pool_output_size(n, k, stride=s, **settings) == expected


def test_defaults_are_those_of_torch():
    assert conv_output_size(7, 3) == 5
    assert pool_output_size(7, 3) == 2
    assert pool_output_size(7, 2, ceil_mode=True) == 4
    assert pool_output_size((7, 6), (3, 2)) == (2, 3)
    assert conv_transpose_output_size(5, 3) == 7
    assert same_padding(5) == 2


def test_one_setting_serves_both_axes():
    assert conv_output_size((224, 112), 7, stride=2, padding=3) == (112, 56)
    assert conv_output_size([5, np.int64(6)], (3, 1)) == (3, 6)
    assert isinstance(conv_output_size(np.int64(5), 3), int)
    assert same_padding((3, 5), dilation=2) == (2, 4)


@given(
    size=st.integers(1, 30),
    k=st.integers(1, 5),
    s=st.integers(1, 4),
    p=st.integers(0, 2),
    d=st.integers(1, 3),
)
def test_transposed_size_inverts_the_size(size, k, s, p, d):
    settings = {"stride": s, "padding": p, "dilation": d}
    assume(size + 2 * p >= d * (k - 1) + 1)
    out = conv_output_size(size, k, **settings)
    rest = (size + 2 * p - d * (k - 1) - 1) % s
    assert (
        conv_transpose_output_size(out, k, output_padding=rest, **settings)
        == size
    )


@given(k=st.integers(1, 9), d=st.integers(1, 4), size=st.integers(1, 20))
def test_same_padding_keeps_the_size_or_says_that_it_cannot(k, d, size):
    if d * (k - 1) % 2:
        message = f"`kernel_size={k}` with dilation={d} needs {d * (k - 1)} "
        with pytest.raises(ValueError, match=re.escape(message)):
            same_padding(k, dilation=d)
    else:
        p = same_padding(k, dilation=d)
        assert conv_output_size(size, k, padding=p, dilation=d) == size


def is_named(error, message, call):
    with pytest.raises(error, match="^" + re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"size": 0}, ValueError, "`size=0` must be at least 1"),
        ({"size": 5.0}, TypeError, "`size=5.0` must be an integer"),
        ({"size": True}, TypeError, "`size=True` must be an integer"),
        ({"size": (5, 0)}, ValueError, "`size=0` must be at least 1"),
        ({"size": (5,)}, TypeError, "`size=(5,)` is no (height, width) pair"),
        ({"kernel_size": 0}, ValueError, "`kernel_size=0` must be at least 1"),
        ({"kernel_size": (1, 1)}, TypeError, "`kernel_size=(1, 1)` must be an"),
        ({"stride": 0}, ValueError, "`stride=0` must be at least 1"),
        ({"stride": "2"}, TypeError, "`stride='2'` must be an integer"),
        ({"padding": -1}, ValueError, "`padding=-1` must be at least 0"),
        ({"dilation": 0}, ValueError, "`dilation=0` must be at least 1"),
        (
            {"size": (5, 5), "stride": (1, 0)},
            ValueError,
            "`stride=0` must be at least 1",
        ),
        (
            {"size": (5, 5), "padding": (0, -1)},
            ValueError,
            "`padding=-1` must be at least 0",
        ),
        (
            {"size": (5, 5), "stride": (1, 1, 1)},
            TypeError,
            "`stride=(1, 1, 1)` is no (height, width) pair",
        ),
    ],
)
def test_bad_settings_are_named(changed, error, message):
    for function in (
        conv_output_size,
        pool_output_size,
        conv_transpose_output_size,
    ):
        arguments = {"size": 5, "kernel_size": 3, **changed}
        is_named(error, message, lambda f=function, a=arguments: f(**a))


def test_bad_settings_of_same_padding_are_named():
    is_named(
        ValueError,
        "`kernel_size=0` must be at least 1",
        lambda: same_padding(0),
    )
    is_named(
        ValueError,
        "`dilation=0` must be at least 1",
        lambda: same_padding(3, dilation=0),
    )


def test_kernels_that_do_not_fit_are_named():
    is_named(
        ValueError,
        "`kernel_size=3` with dilation=2 covers 5 pixels; the padded input "
        "has 4",
        lambda: conv_output_size(2, 3, padding=1, dilation=2),
    )
    is_named(
        ValueError,
        "`kernel_size=4` with dilation=1 covers 4 pixels; the padded input "
        "has 2",
        lambda: pool_output_size(2, 4, stride=2, ceil_mode=True),
    )
    is_named(
        ValueError,
        "`padding=2` is over half of kernel_size=3",
        lambda: pool_output_size(9, 3, padding=2),
    )
    is_named(
        ValueError,
        "`padding=1` leaves a size of 0",
        lambda: conv_transpose_output_size(1, 2, padding=1),
    )
    is_named(
        ValueError,
        "`output_padding=2` must be less than the larger of stride=2 and "
        "dilation=1",
        lambda: conv_transpose_output_size(3, 3, stride=2, output_padding=2),
    )


def support(network, size):
    """Return the pixels whose gradient is not zero, for two outputs."""
    fields = []
    for unit in (0, 1):
        x = torch.zeros(1, 1, size, dtype=torch.float64, requires_grad=True)
        y = network(x)
        (gradient,) = torch.autograd.grad(y[0, 0, y.shape[2] // 2 + unit], x)
        places = gradient.flatten().nonzero().flatten().tolist()
        fields.append((places[0], places[-1]))
    return y.shape[2] // 2, fields


def through(chain, x):
    for step in chain:
        if isinstance(step, Branches):
            outputs = [through(path, x) for path in step.paths]
            least = min(y.shape[2] for y in outputs)
            x = sum(y[:, :, :least] for y in outputs)
        else:
            w = torch.ones(1, 1, step.kernel_size, dtype=x.dtype)
            x = F.conv1d(x, w, None, step.stride, step.padding, step.dilation)
    return x


LAYERS = st.builds(
    Layer,
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(1, 2),
)


@given(st.lists(LAYERS, max_size=4))
def test_receptive_field_is_the_support_of_the_gradient(chain):
    # Kernels with gaps, dilated or strided over, still reach as far.
    unit, fields = support(lambda x: through(chain, x), 600)
    field = receptive_field(chain)
    for i, (first, last) in enumerate(fields):
        assert first == field.start + (unit + i) * field.jump
        assert last - first + 1 == field.size


@given(
    st.lists(LAYERS, max_size=2),
    st.lists(st.tuples(LAYERS, LAYERS), min_size=1, max_size=3),
    st.lists(LAYERS, max_size=2),
)
def test_field_after_branches_spans_that_of_every_path(head, paths, tail):
    # Paths must shrink alike: give each the first one's strides.
    strides = [layer.stride for layer in paths[0]]
    paths = [
        [
            Layer(a.kernel_size, s, a.padding, a.dilation)
            for a, s in zip(path, strides, strict=True)
        ]
        for path in paths
    ]
    chain = [*head, Branches(paths), *tail]
    unit, fields = support(lambda x: through(chain, x), 3000)
    field = receptive_field(chain)
    for i, (first, last) in enumerate(fields):
        assert first == field.start + (unit + i) * field.jump
        assert last - first + 1 == field.size


def test_fields_of_known_networks():
    lenet = [Layer(5), Layer(2, 2), Layer(5), Layer(2, 2)]
    assert receptive_field(lenet) == Field(16, 4, 0)
    two, one = [Layer(3), Layer(3)], [Layer(5)]
    assert receptive_field(two) == receptive_field(one)
    identity = Branches([[Layer(3, padding=1)] * 2, []])
    assert receptive_field([identity]) == Field(5, 1, -2)
    assert receptive_field([]) == Field(1, 1, 0)
    assert receptive_field([Layer(3)], Field(5, 2, -1)) == Field(9, 2, -1)


def test_branches_that_shrink_differently_are_named():
    is_named(
        ValueError,
        "`paths` must end with one and the same jump, not [1, 2]",
        lambda: receptive_field([Branches([[Layer(3, 2)], [Layer(3)]])]),
    )
    is_named(
        ValueError,
        "`paths` must end with one and the same jump, not []",
        lambda: receptive_field([Branches([])]),
    )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ((0,), ValueError, "`kernel_size=0` must be at least 1"),
        ((3, 0), ValueError, "`stride=0` must be at least 1"),
        ((3, 1, -1), ValueError, "`padding=-1` must be at least 0"),
        ((3, 1, 0, 0), ValueError, "`dilation=0` must be at least 1"),
        ((3.0,), TypeError, "`kernel_size=3.0` must be an integer"),
    ],
)
def test_bad_layers_are_named(settings, error, message):
    is_named(error, message, lambda: Layer(*settings))
