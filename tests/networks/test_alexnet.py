import pytest
import torch
from torch import nn

from snippets.networks.alexnet import (
    ResponseNorm,
    alexnet,
    alexnet_two_groups,
)


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


def test_response_norm_is_caffes_with_its_constants():
    x = 30 * torch.randn(2, 96, 5, 5)
    # torch divides alpha by the size as Caffe does.
    caffe = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    torch.testing.assert_close(ResponseNorm(k=1, alpha=2e-5)(x), caffe(x))


@pytest.mark.parametrize("options", [{}, {"k": 1.0, "alpha": 2e-5}], ids=str)
def test_response_norm_in_half_precision_takes_strong_activations(options):
    x = torch.full((1, 5, 1, 1), 300.0)
    norm = ResponseNorm(**options)
    y = norm(x.half())
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), norm(x), rtol=2e-3, atol=0)


def silenced(model, i):
    """Say which input units of the i-th linear layer are always zero."""
    seen = []
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    layers[i].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    features = torch.ones(1, 256, 6, 6)
    with torch.no_grad():
        for m in layers:  # all units answer 1 before dropout
            nn.init.zeros_(m.weight)
            nn.init.ones_(m.bias)
        model.train().classifier(features.flatten(1))
    return round(seen[0].eq(0).float().mean().item(), 1)


@pytest.mark.parametrize(
    ("build", "expected"),
    [(alexnet, [0.5, 0.5, 0.0]), (alexnet_two_groups, [0.0, 0.5, 0.5])],
    ids=["torchvision", "paper"],
)
def test_dropout_silences_what_the_source_silences(build, expected):
    with torch.device("meta"):
        model = build()
    model.classifier.to_empty(device="cpu")
    assert [silenced(model, i) for i in range(3)] == expected


def test_grouped_convolutions_see_only_their_half():
    with torch.device("meta"):
        convolutions = [
            m
            for m in alexnet_two_groups().modules()
            if isinstance(m, nn.Conv2d)
        ]
    assert [m.groups for m in convolutions] == [1, 2, 1, 2, 2]
    assert [m.weight.shape[1] for m in convolutions] == [3, 48, 256, 192, 192]


# Section 5; Caffe's models/bvlc_alexnet/train_val.prototxt.
BIASES = torch.tensor([0, 1, 0, 1, 1, 1, 1, 0])


@pytest.mark.parametrize(
    ("caffe", "biases", "stds"),
    [
        (False, BIASES, [0.01] * 8),
        (True, 0.1 * BIASES, [0.01] * 5 + [0.005] * 2 + [0.01]),
    ],
    ids=["paper", "caffe"],
)
def test_two_groups_start_as_their_source_says(caffe, biases, stds):
    model = alexnet_two_groups(num_classes=10, caffe=caffe)
    layers = [
        m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    for layer, bias, std in zip(layers, biases, stds, strict=True):
        assert layer.bias.eq(bias).all()
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    norms = [m for m in model.modules() if isinstance(m, ResponseNorm)]
    x = 30 * torch.randn(1, 8, 2, 2)
    same = ResponseNorm(k=1, alpha=2e-5) if caffe else ResponseNorm()
    assert len(norms) == 2
    assert all(torch.equal(norm(x), same(x)) for norm in norms)
