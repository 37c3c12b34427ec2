import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from snippets.modules.conv1x1 import (
    conv1x1_on_vectors,
    linear_at_pixels,
    to_conv,
    to_linear,
)


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def values_and_gradients(forward, inputs, dy):
    y = forward(*inputs)
    return [y, *torch.autograd.grad(y, inputs, dy)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (0, 3, 2, 2)])
def test_linear_at_pixels_equals_the_1x1_convolution(shape, bias):
    x, w = draw(*shape), draw(6, shape[1])
    inputs = [x, w, draw(6)] if bias else [x, w]
    dy = torch.randn(shape[0], 6, *shape[2:], dtype=torch.float64)

    def theirs(x, w, b=None):
        return F.conv2d(x, w[:, :, None, None], b)

    ours = values_and_gradients(linear_at_pixels, inputs, dy)
    torch.testing.assert_close(ours, values_and_gradients(theirs, inputs, dy))


def test_linear_at_pixels_equals_a_loop_over_pixels():
    x, w, b = draw(2, 3, 4, 5), draw(6, 3), draw(6)
    y = linear_at_pixels(x, w, b)
    for n in range(2):
        for i in range(4):
            for j in range(5):
                pixel = w @ x[n, :, i, j] + b
                torch.testing.assert_close(y[n, :, i, j], pixel)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(3,), (4, 3), (2, 4, 3), (2, 1, 4, 2, 3), (0, 3)]
)
def test_conv1x1_on_vectors_equals_the_linear_layer(shape, bias):
    x, w = draw(*shape), draw(6, 3, 1, 1)
    inputs = [x, w, draw(6)] if bias else [x, w]
    dy = torch.randn(*shape[:-1], 6, dtype=torch.float64)

    def theirs(x, w, b=None):
        return F.linear(x, w[:, :, 0, 0], b)

    ours = values_and_gradients(conv1x1_on_vectors, inputs, dy)
    torch.testing.assert_close(ours, values_and_gradients(theirs, inputs, dy))


BOTH = pytest.mark.parametrize("bias", [True, False])


@BOTH
@pytest.mark.parametrize("padding", [0, "same", "valid"])
def test_a_convolution_becomes_the_linear_layer_of_each_pixel(padding, bias):
    conv = nn.Conv2d(3, 6, 1, padding=padding, bias=bias).double()
    linear, x = to_linear(conv), draw(2, 3, 4, 5)
    assert isinstance(linear, nn.Linear)
    assert (linear.in_features, linear.out_features) == (3, 6)
    y = linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(y, conv(x))


@BOTH
def test_a_linear_layer_becomes_the_convolution_of_its_vectors(bias):
    linear = nn.Linear(3, 6, bias=bias).double()
    conv, x = to_conv(linear), draw(5, 3)
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.out_channels) == (3, 6)
    y = conv(x[:, :, None, None])[:, :, 0, 0]
    torch.testing.assert_close(y, linear(x))


@BOTH
@pytest.mark.parametrize(
    "make", [nn.Linear, lambda c, o, bias: nn.Conv2d(c, o, 1, bias=bias)]
)
def test_there_and_back_gives_the_same_layer_in_storage_of_its_own(make, bias):
    layer = make(3, 6, bias=bias).bfloat16().eval()
    layer.weight.requires_grad_(False)
    first, second = (
        (to_conv, to_linear)
        if isinstance(layer, nn.Linear)
        else (to_linear, to_conv)
    )
    state = torch.get_rng_state()
    there = first(layer)
    back = second(there)
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(back) == repr(layer)
    for other in (there, back):
        assert not other.training
        assert other.weight.dtype == torch.bfloat16
        assert not other.weight.requires_grad
        assert all(
            p.requires_grad for n, p in other.named_parameters() if n == "bias"
        )
    assert list(back.state_dict()) == list(layer.state_dict())
    expected = {k: v.clone() for k, v in layer.state_dict().items()}
    assert all(
        torch.equal(back.state_dict()[k], v) for k, v in expected.items()
    )
    with torch.no_grad():
        for p in (*there.parameters(), *back.parameters()):
            p.fill_(7)
    assert all(
        torch.equal(layer.state_dict()[k], v) for k, v in expected.items()
    )


def test_weights_that_are_channels_last_convert_too():
    conv = nn.Conv2d(3, 6, 1).to(memory_format=torch.channels_last)
    assert torch.equal(to_linear(conv).weight, conv.weight[:, :, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 3}, "kernel_size=(3, 3); it must be (1, 1)"),
        ({"kernel_size": (1, 2)}, "kernel_size=(1, 2); it must be (1, 1)"),
        ({"stride": (1, 2)}, "stride=(1, 2); it must be (1, 1)"),
        ({"padding": 1}, "padding=(1, 1); it must be (0, 0)"),
        ({"groups": 2}, "groups=2; it must be 1"),
    ],
)
def test_a_convolution_that_is_no_linear_layer_is_named(options, message):
    conv = nn.Conv2d(
        **{"in_channels": 4, "out_channels": 6, "kernel_size": 1, **options}
    )
    with pytest.raises(ValueError, match=re.escape(f"`conv` has {message}")):
        to_linear(conv)


def test_other_modules_are_named():
    with pytest.raises(TypeError, match="`conv` is a Linear, not a Conv2d"):
        to_linear(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="`linear` is a Conv2d, not a Linear"):
        to_conv(nn.Conv2d(2, 3, 1))


ONES = torch.ones


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (
            linear_at_pixels,
            (ONES(2, 3), ONES(6, 3)),
            ValueError,
            "`x` has 2 axes; it must be (n, c, h, w)",
        ),
        (
            linear_at_pixels,
            (ONES(2, 3, 1, 1), ONES(6, 4)),
            ValueError,
            "`w` has shape (6, 4); it must be (out, 3)",
        ),
        (
            linear_at_pixels,
            (ONES(2, 3, 1, 1), ONES(6, 3, 1, 1)),
            ValueError,
            "`w` has shape (6, 3, 1, 1); it must be (out, 3)",
        ),
        (
            linear_at_pixels,
            (ONES(2, 3, 1, 1), ONES(6, 3), ONES(1)),
            ValueError,
            "`b` has shape (1,); it must be (6,)",
        ),
        (
            linear_at_pixels,
            (ONES(2, 3, 1, 1), ONES(6, 3).double()),
            TypeError,
            "`w` holds torch.float64; it must hold torch.float32",
        ),
        (
            linear_at_pixels,
            (ONES(2, 3, 1, 1), ONES(6, 3), ONES(6).double()),
            TypeError,
            "`b` holds torch.float64; it must hold torch.float32",
        ),
        (
            conv1x1_on_vectors,
            (ONES(()), ONES(6, 1, 1, 1)),
            ValueError,
            "`x` is (); it must be (…, c)",
        ),
        (
            conv1x1_on_vectors,
            (ONES(2, 0), ONES(6, 0, 1, 1)),
            ValueError,
            "`x` is (2, 0); it must be (…, c)",
        ),
        (
            conv1x1_on_vectors,
            (ONES(2, 3), ONES(6, 3)),
            ValueError,
            "`w` has shape (6, 3); it must be (out, 3, 1, 1)",
        ),
        (
            conv1x1_on_vectors,
            (ONES(2, 3), ONES(6, 3, 3, 3)),
            ValueError,
            "`w` has shape (6, 3, 3, 3); it must be (out, 3, 1, 1)",
        ),
        (
            conv1x1_on_vectors,
            (ONES(2, 3), ONES(6, 3, 1, 1), ONES(6, 1)),
            ValueError,
            "`b` has shape (6, 1); it must be (6,)",
        ),
        (
            conv1x1_on_vectors,
            (ONES(2, 3), ONES(6, 3, 1, 1).half()),
            TypeError,
            "`w` holds torch.float16; it must hold torch.float32",
        ),
    ],
)
def test_bad_input_is_named(function, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function(*arguments)
