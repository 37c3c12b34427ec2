import torch
from torch import nn

from snippets.networks.alexnet import ResponseNorm, alexnet_two_groups


def test_response_norm_is_the_papers_formula():
    x = torch.randn(2, 7, 3, 4, dtype=torch.float64)
    y = torch.empty_like(x)
    for i in range(7):
        near = x[:, max(0, i - 2) : min(6, i + 2) + 1]
        y[:, i] = x[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
    torch.testing.assert_close(ResponseNorm()(x), y)


def test_response_norm_is_torchs_with_five_times_its_alpha():
    x = 30 * torch.randn(2, 96, 5, 5)
    same = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    other = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
    torch.testing.assert_close(ResponseNorm()(x), same(x))
    assert not torch.allclose(ResponseNorm()(x), other(x), rtol=1e-2)


def test_grouped_convolutions_see_only_their_half():
    with torch.device("meta"):
        convolutions = [
            m
            for m in alexnet_two_groups().modules()
            if isinstance(m, nn.Conv2d)
        ]
    assert [m.groups for m in convolutions] == [1, 2, 1, 2, 2]
    assert [m.weight.shape[1] for m in convolutions] == [3, 48, 256, 192, 192]


def test_two_groups_start_as_in_section_5():
    model = alexnet_two_groups(num_classes=10)
    layers = [
        m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    for layer, bias in zip(layers, (0, 1, 0, 1, 1, 1, 1, 0), strict=True):
        assert layer.bias.eq(bias).all()
        assert abs(layer.weight.std().item() - 0.01) < 2e-4
