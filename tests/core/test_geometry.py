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

SETTINGS = {
    "size": st.integers(1, 12),
    "k": st.integers(1, 5),
    "stride": st.integers(1, 4),
    "padding": st.integers(0, 3),
    "dilation": st.integers(1, 3),
}


def agrees(function, theirs, size, k, **settings):
    """Compare with torch's shapes, or with its refusal."""
    try:
        expected = theirs(torch.zeros(1, 1, size), k, **settings).shape[2]
    except RuntimeError:
        with pytest.raises(ValueError, match="`"):
            function(size, k, **settings)
        return
    assert function(size, k, **settings) == expected


def kernel(function):
    return lambda x, k, **settings: function(
        x, torch.zeros(1, 1, k), **settings
    )


@given(**SETTINGS)
def test_convolution_size_equals_torch(**settings):
    agrees(conv_output_size, kernel(F.conv1d), **settings)


@given(**SETTINGS, output_padding=st.integers(0, 3))
def test_transposed_size_equals_torch(**settings):
    agrees(conv_transpose_output_size, kernel(F.conv_transpose1d), **settings)


def test_pooling_size_equals_torch_at_every_edge():
    sides, small = range(1, 9), range(1, 5)
    for n, k, s, d in itertools.product(sides, small, small, (1, 2)):
        for p, ceil in itertools.product(range(k // 2 + 2), (False, True)):
            settings = {"stride": s, "padding": p, "dilation": d}
            agrees(
                pool_output_size, F.max_pool1d, n, k, **settings, ceil_mode=ceil
            )


def test_defaults_are_those_of_torch():
    assert conv_output_size(7, 3) == 5
    assert pool_output_size(7, 3) == 2
    assert pool_output_size(7, 2, ceil_mode=True) == 4
    assert conv_transpose_output_size(5, 3) == 7
    assert same_padding(5) == 2


def test_numpy_integers_serve_and_give_plain_ones():
    one, three = np.int64(1), np.int64(3)
    settings = {"stride": one, "padding": one, "dilation": one}
    for function in (
        conv_output_size,
        pool_output_size,
        conv_transpose_output_size,
    ):
        assert type(function(np.int64(5), three, **settings)) is int
    assert type(same_padding(three, dilation=one)) is int


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
        message = f"`kernel_size={k}` with dilation={d} covers an even"
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
        ({"size": (5, 5)}, TypeError, "`size=(5, 5)` must be an integer"),
        ({"kernel_size": 0}, ValueError, "`kernel_size=0` must be at least 1"),
        ({"kernel_size": (1, 1)}, TypeError, "`kernel_size=(1, 1)` must be an"),
        ({"stride": 0}, ValueError, "`stride=0` must be at least 1"),
        ({"stride": "2"}, TypeError, "`stride='2'` must be an integer"),
        ({"padding": -1}, ValueError, "`padding=-1` must be at least 0"),
        ({"dilation": 0}, ValueError, "`dilation=0` must be at least 1"),
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


def test_unknown_settings_are_refused():
    for function in (
        conv_output_size,
        pool_output_size,
        conv_transpose_output_size,
    ):
        with pytest.raises(TypeError, match=r"unexpected keyword .* 'strides'"):
            function(5, 3, strides=2)


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
        "`paths` must end with one jump, not [1, 2]",
        lambda: receptive_field([Branches([[Layer(3, 2)], [Layer(3)]])]),
    )
    is_named(
        ValueError,
        "`paths` must end with one jump, not []",
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
