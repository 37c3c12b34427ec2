import math

import pytest
import torch
from torch import nn

from snippets.networks.alexnet import ResponseNorm as AlexNetResponseNorm
from snippets.networks.inception import (
    CAFFE,
    PAPER,
    TORCHVISION,
    AuxiliaryHead,
    Inception,
    ResponseNorm,
    googlenet,
    googlenet_bn,
    googlenet_caffe,
)


def test_a_block_concatenates_its_four_branches():
    block = Inception(192, (64, 96, 128, 16, 32, 32), PAPER)
    x = torch.randn(2, 192, 6, 5)
    with torch.inference_mode():
        y = block(x)
        parts = y.split([64, 128, 32, 32], 1)
        for i, part in enumerate(parts, 1):
            branch = block.get_submodule(f"branch{i}")
            assert torch.equal(part, branch(x))


@pytest.mark.parametrize(
    ("recipe", "windows"),
    [(PAPER, [1, 3, 5, 3]), (TORCHVISION, [1, 3, 3, 3])],
    ids=["paper", "torchvision"],
)
def test_each_branch_sees_its_own_window(recipe, windows):
    block = Inception(4, (2, 2, 2, 2, 2, 2), recipe).double().eval()
    for p in block.parameters():
        torch.nn.init.uniform_(p, 0.1, 1.0)  # positive: nothing cancels
    for i, window in enumerate(windows, 1):
        x = torch.rand(1, 4, 9, 9, dtype=torch.float64).add(1).requires_grad_()
        if i == 4:  # a maximum looks at what is largest: try each pixel
            seen = torch.zeros(9, 9, dtype=torch.bool)
            for j in range(81):
                bumped = x.detach().clone()
                bumped.view(1, 4, 81)[..., j] += 10
                before = block.branch4(x)[..., 4, 4]
                changed = block.branch4(bumped)[..., 4, 4] != before
                seen.view(-1)[j] = changed.any()
        else:
            branch = block.get_submodule(f"branch{i}")
            branch(x)[..., 4, 4].sum().backward()
            seen = x.grad[0].any(0)
        expected = torch.zeros(9, 9, dtype=torch.bool)
        r = window // 2
        expected[4 - r : 5 + r, 4 - r : 5 + r] = True
        assert torch.equal(seen, expected), i


@pytest.mark.parametrize("options", [{}, {"k": 1.0, "alpha": 2e-5}], ids=str)
def test_response_norm_is_the_same_as_alexnets(options):
    x = 30 * torch.randn(2, 64, 3, 3)
    y = ResponseNorm(**options)(x)
    assert torch.equal(y, AlexNetResponseNorm(**options)(x))


def test_caffes_recipe_normalizes_with_caffes_constants():
    x = 30 * torch.randn(2, 64, 3, 3)
    expected = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(x)
    torch.testing.assert_close(CAFFE.norm()(x), expected)
    torch.testing.assert_close(PAPER.norm()(x), AlexNetResponseNorm()(x))
    assert torch.equal(TORCHVISION.norm()(x), x)


def layers_of(build):
    model = build(aux=True, num_classes=50)
    kinds = nn.Conv2d, nn.Linear
    return {n: m for n, m in model.named_modules() if isinstance(m, kinds)}


def test_without_a_source_weights_start_after_he():
    for layer in layers_of(googlenet).values():
        w = layer.weight
        expected = math.sqrt(2 / w[0].numel())
        rel = 5 / math.sqrt(2 * w.numel())  # five deviations of the estimate
        assert w.std().item() == pytest.approx(expected, rel=rel)


def test_caffes_weights_start_uniform_and_biases_at_a_fifth():
    for name, layer in layers_of(googlenet_caffe).items():
        w = layer.weight
        bound = math.sqrt(3 / w[0].numel())  # Caffe's XavierFiller
        assert w.abs().max() <= bound
        rel = 5 / math.sqrt(2 * w.numel())
        expected = bound / math.sqrt(3)
        assert w.std().item() == pytest.approx(expected, rel=rel)
        classifies = name in ("fc", "aux1.fc2", "aux2.fc2")
        assert layer.bias.eq(0.0 if classifies else 0.2).all(), name


@pytest.mark.parametrize("build", [googlenet, googlenet_bn])
def test_heads_answer_in_training_only(build):
    model, x = build(aux=True, num_classes=7), torch.randn(2, 3, 64, 64)
    outputs = model.train()(x)
    assert [tuple(y.shape) for y in outputs] == [(2, 7)] * 3
    assert outputs._fields == ("logits", "aux1", "aux2")
    with torch.no_grad():
        assert model.eval()(x).shape == (2, 7)
        assert build(num_classes=7).train()(x).shape == (2, 7)


def test_the_papers_head_pools_5_by_5_at_stride_3():
    head = AuxiliaryHead(512, 10, PAPER)
    x = torch.randn(2, 512, 14, 14)
    expected = torch.nn.functional.avg_pool2d(x, 5, stride=3)
    assert expected.shape == (2, 512, 4, 4)
    assert torch.equal(head.pool(x), expected)


@pytest.mark.parametrize("size", [3, 14, 20])
def test_heads_take_any_size(size):
    head = AuxiliaryHead(8, 10, PAPER)
    assert head(torch.randn(2, 8, size, size)).shape == (2, 10)


def test_two_cells_of_table_1_contradict_the_rows_they_stand_in():
    table = {  # parameters, in units of 1024
        "3a": 159,
        "3b": 380,
        "4a": 364,
        "4b": 437,
        "4c": 463,
        "4d": 580,
        "4e": 840,
        "5a": 1072,
        "5b": 1388,
    }
    with torch.device("meta"):
        model = googlenet()
    wrong = {}
    for name, published in table.items():
        block = model.get_submodule(f"inception{name}")
        count = sum(p.numel() for p in block.parameters())
        if abs(count / 1024 / published - 1) > 0.02:
            wrong[name] = count
    assert wrong == {"4c": 510_104, "5a": 1_043_456}
