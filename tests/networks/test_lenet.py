import math

import pytest
import torch
from torch import nn

from snippets.networks.lenet import (
    C3_TABLE,
    LeNet,
    Subsample,
    bitmaps,
    connections,
    lenet5,
    lenet5_loss,
    squash,
)

PUBLISHED = {  # LeCun et al. 1998: trainable parameters, connections
    "c1": (156, 122_304),
    "s2": (12, 5_880),
    "c3": (1_516, 151_600),
    "s4": (32, 2_000),
    "c5": (48_120, 48_120),
    "f6": (10_164, 10_164),
    "output": (0, 840),
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("layer", PUBLISHED)
def test_each_layer_has_the_published_parameters_and_connections(layer):
    model = lenet5()
    measured = count(getattr(model, layer)), connections(model)[layer]
    assert measured == PUBLISHED[layer]


def test_lenet5_has_60000_parameters_and_340908_connections():
    model = lenet5()
    assert count(model) == 60_000
    assert sum(connections(model).values()) == 340_908


def test_table_connects_3_4_or_6_inputs_and_each_input_10_times():
    columns = ["".join(c).count("X") for c in zip(*C3_TABLE, strict=True)]
    assert columns == [3] * 6 + [4] * 9 + [6]
    assert [row.count("X") for row in C3_TABLE] == [10] * 6


def test_a_map_of_c3_depends_on_exactly_the_inputs_in_its_column():
    layer = lenet5().c3
    x = torch.randn(1, 6, 14, 14, requires_grad=True)
    y = layer(x)
    for out in range(16):
        (dx,) = torch.autograd.grad(y[0, out].sum(), x, retain_graph=True)
        used = [bool(m.any()) for m in dx[0]]
        assert used == [row[out] == "X" for row in C3_TABLE]


def test_c3_equals_a_dense_convolution_with_zeros_where_the_table_is_empty():
    layer = lenet5().c3
    w, b = torch.zeros(16, 6, 5, 5), torch.zeros(16)
    for out, (conv, inputs) in enumerate(
        zip(layer.maps, layer.inputs, strict=True)
    ):
        w[out, inputs] = conv.weight.detach()[0]
        b[out] = conv.bias.item()
    x = torch.randn(2, 6, 14, 14)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, w, b))


def test_subsampling_adds_windows_then_scales_and_shifts_each_map():
    layer = Subsample(2)
    with torch.no_grad():
        layer.weight[:, 0, 0] = torch.tensor([2.0, 3.0])
        layer.bias[:, 0, 0] = torch.tensor([0.5, -1.0])
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 2, 2, 2)
    assert layer(x).flatten().tolist() == [20.5, 29.0]


def test_squashing_is_odd_and_keeps_one():
    x = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(squash(x), x, atol=1e-4, rtol=0)
    assert squash(torch.tensor(50.0)) == pytest.approx(1.7159)


def test_targets_are_ten_distinct_bitmaps_of_plus_and_minus_one():
    b = bitmaps()
    assert b.shape == (10, 12, 7)
    assert b.abs().eq(1).all()
    different = (b.flatten(1)[:, None] != b.flatten(1)).sum(-1)
    assert different.fill_diagonal_(84).min() >= 5


def test_targets_are_saved_but_not_trained():
    model = lenet5()
    assert "output.targets" in model.state_dict()
    assert "output.targets" not in dict(model.named_parameters())


def test_output_is_zero_at_a_digit_and_four_per_differing_pixel_elsewhere():
    b = bitmaps().flatten(1)
    y = lenet5().output(b)
    assert torch.equal(y, 4.0 * (b[:, None] != b).sum(-1))


@pytest.mark.parametrize("j", [0.5, 20.0])
def test_loss_is_equation_9(j):
    distances = 40 * torch.rand(6, 10, dtype=torch.float64)
    labels = torch.randint(10, (6,))
    total = 0.0
    for y, label in zip(distances.tolist(), labels.tolist(), strict=True):
        push = math.exp(-j) + sum(math.exp(-d) for d in y)
        total += y[label] + math.log(push)
    loss = lenet5_loss(distances, labels, j=j)
    assert loss.item() == pytest.approx(total / 6, rel=1e-12)


def test_loss_pushes_no_digit_that_is_far_beyond_j():
    distances = torch.full((1, 10), 500.0)
    distances[0, 3], distances[0, 4] = 2.0, 1.0
    distances.requires_grad_()
    lenet5_loss(distances, torch.tensor([3]), j=10.0).backward()
    (gradient,) = distances.grad
    assert gradient[3] > 0  # comes nearer
    assert gradient[4] < 0  # goes away
    others = [i for i in range(10) if i not in (3, 4)]
    assert gradient[others].abs().max() < 1e-6


def test_loss_without_a_bound_is_cross_entropy():
    distances = 9 * torch.rand(4, 10, dtype=torch.float64)
    labels = torch.randint(10, (4,))
    expected = nn.functional.cross_entropy(-distances, labels)
    loss = lenet5_loss(distances, labels, j=1e9)
    torch.testing.assert_close(loss, expected)


def test_loss_stays_finite_where_all_digits_are_far():
    distances = torch.full((2, 10), 1e4)
    assert lenet5_loss(distances, torch.tensor([0, 9]), j=1e4).isfinite()


@pytest.mark.parametrize("j", [0.0, -1.0, float("nan")])
def test_loss_names_a_bound_that_is_none(j):
    with pytest.raises(ValueError, match=rf"j={j} must be > 0"):
        lenet5_loss(torch.ones(1, 10), torch.tensor([0]), j=j)


def test_lenet5_is_initialized_within_2_4_over_fan_in():
    model = lenet5()
    fan_in = {model.c1: 25, model.s2: 4, model.c5: 400, model.f6: 120}
    fan_in |= {
        conv: 25 * len(inputs)
        for conv, inputs in zip(model.c3.maps, model.c3.inputs, strict=True)
    }
    for layer, n in fan_in.items():
        bound = 2.4 / n
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.3 * bound


def test_lenet_has_61706_parameters_as_the_convolutions_claim():
    model = LeNet()
    assert count(model) == 61_706
    assert count(model.conv1) == 156
    assert count(model.conv2) == 2_416


def test_lenet_with_sigmoid_and_average_pooling_is_another_function():
    torch.manual_seed(0)
    model = LeNet()
    d2l = LeNet(activation=nn.Sigmoid, pooling=nn.AvgPool2d)
    d2l.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 28, 28)

    w = [p.detach() for p in model.parameters()]
    h = torch.sigmoid(nn.functional.conv2d(x, w[0], w[1], padding=2))
    h = h.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    h = torch.sigmoid(nn.functional.conv2d(h, w[2], w[3]))
    h = h.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)).flatten(1)
    h = torch.sigmoid(torch.sigmoid(h @ w[4].T + w[5]) @ w[6].T + w[7])
    torch.testing.assert_close(d2l(x), h @ w[8].T + w[9])
    assert not torch.allclose(d2l(x), model(x))


@pytest.mark.parametrize("size", [28, 31])
def test_lenet_takes_28_to_31(size):
    assert LeNet()(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize(
    ("model", "shape", "allowed"),
    [
        (LeNet, (1, 1, 27, 28), "28 to 31"),
        (LeNet, (1, 1, 28, 32), "28 to 31"),
        (LeNet, (1, 3, 28, 28), r"\(n, 1, h, w\)"),
        (LeNet, (1, 28, 28), r"\(n, 1, h, w\)"),
        (lenet5, (1, 1, 28, 28), "32 to 32"),
        (lenet5, (1, 2, 32, 32), r"\(n, 1, h, w\)"),
    ],
)
def test_other_shapes_raise_an_error_that_says_what_fits(model, shape, allowed):
    with pytest.raises(ValueError, match=allowed) as error:
        model()(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
def test_lenet_names_an_option_below_one(option):
    with pytest.raises(ValueError, match=f"{option}=0"):
        LeNet(**{option: 0})
