import copy
import re

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from snippets.networks.densenet import (
    DenseBlock,
    DenseNet,
    densenet100_cifar,
    densenet121,
    densenet161,
    densenet169,
    densenet190_cifar,
    densenet201,
    densenet250_cifar,
    densenet_cifar,
)

SMALL = (8, (3, 3))


def test_each_layer_reads_all_maps_before_it():
    block = DenseBlock(3, 4, 2)
    assert [layer.norm1.num_features for layer in block.values()] == [4, 6, 8]
    x = torch.randn(2, 4, 5, 5)
    with torch.inference_mode():
        y = block.eval()(x)
        assert torch.equal(y[:, :4], x)
        for i, layer in enumerate(block.values()):
            new = layer([y[:, : 4 + 2 * i]])
            torch.testing.assert_close(y[:, 4 + 2 * i : 6 + 2 * i], new)


@pytest.mark.parametrize(
    ("build", "depth"),
    [
        (densenet121, 121),
        (densenet161, 161),
        (densenet169, 169),
        (densenet201, 201),
        (densenet100_cifar, 100),
        (densenet190_cifar, 190),
        (densenet250_cifar, 250),
    ],
)
def test_the_name_counts_the_layers_with_weights(build, depth):
    with torch.device("meta"):
        model = build()
    assert sum(p.ndim > 1 for p in model.parameters()) == depth


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (densenet100_cifar, 0.8),
        (densenet250_cifar, 15.3),
        (densenet190_cifar, 25.6),
    ],
)
def test_cifar_networks_have_the_millions_of_table_2(build, published):
    with torch.device("meta"):
        count = sum(p.numel() for p in build().parameters())
    assert round(count / 1e6, 1) == published


def test_memory_efficient_changes_no_number():
    plain = DenseNet(*SMALL)
    efficient = DenseNet(*SMALL, memory_efficient=True)
    efficient.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 32, 32)
    for _ in range(2):  # statistics of the first step enter no later one
        losses = []
        for model in (plain, efficient):
            loss = model(x).square().sum()
            loss.backward()
            losses.append(loss)
        assert losses[0] == losses[1]
    for p, q in zip(plain.parameters(), efficient.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    for name, t in plain.named_buffers():
        assert torch.equal(efficient.get_buffer(name), t), name


def test_memory_efficient_silences_the_same_units():
    plain = DenseNet(*SMALL, dropout=0.2)
    efficient = DenseNet(*SMALL, dropout=0.2, memory_efficient=True)
    efficient.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 32, 32)
    for model in (plain, efficient):
        torch.manual_seed(1)
        model(x).square().sum().backward()
    for p, q in zip(plain.parameters(), efficient.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_dropout_follows_each_convolution_but_the_first():
    model = DenseNet(4, (2, 2), small=True, dropout=0.2)
    for layer in model.modules():  # each convolution answers 1
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            layer.register_forward_hook(lambda m, _, y: y + 1)
    zeros = {}
    for name, layer in model.features.named_modules():
        if name.endswith(("norm2", "pool")):
            layer.register_forward_pre_hook(
                lambda m, args: zeros.update({m: args[0].eq(0).float().mean()})
            )
        elif re.fullmatch(r".*denselayer\d", name):
            layer.register_forward_hook(
                lambda m, _, y: zeros.update({m: y.eq(0).float().mean()})
            )
    model.train()(torch.randn(8, 3, 32, 32))
    assert len(zeros) > 4 * 2
    for share in zeros.values():
        assert share.item() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(model.eval()(x := torch.randn(1, 3, 8, 8)), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth_rate": 0}, "growth_rate=0 and"),
        ({"depths": ()}, r"depths=\(\) must"),
        ({"depths": (2, 0)}, r"depths=\(2, 0\) must"),
    ],
)
def test_a_bad_size_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        DenseNet(**{"growth_rate": 4, "depths": (2, 2)} | options)


@pytest.mark.parametrize("depth", [4, 99])
def test_a_depth_that_no_cifar_network_has_is_named(depth):
    with pytest.raises(ValueError, match=rf"depth={depth} must be 6n \+ 4"):
        densenet_cifar(12, depth)


def saved_bytes(model, x):
    """Add up the distinct memory that autograd keeps for the backward pass."""
    kept = {}

    def pack(t):
        storage = t.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        y = model(x)
    del y
    return sum(kept.values())


def test_memory_efficient_keeps_less_than_half():
    x = torch.randn(2, 3, 64, 64)
    plain = DenseNet(32, (12, 12))
    efficient = DenseNet(32, (12, 12), memory_efficient=True)
    parameters = sum(4 * p.numel() for p in plain.parameters())
    kept = saved_bytes(plain, x) - parameters
    assert saved_bytes(efficient, x) - parameters < kept / 2


def test_memory_efficient_evaluates_as_plain():
    model = DenseNet(*SMALL, memory_efficient=True).eval()
    plain = DenseNet(*SMALL)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), plain.eval()(x))
    assert torch.export.export(model, (x,)).module()(x).shape == (2, 1000)


def test_memory_efficient_trains_compiled():
    torch.compiler.reset()
    model = DenseNet(*SMALL, memory_efficient=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 3, 32, 32)
    compiled(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_key_names_of_torchvisions_files_are_read(oracle):
    with torch.device("meta"):
        theirs = oracle("densenet.densenet121")
    files = {}
    for key in theirs.state_dict():
        old = key
        for name in ("norm1", "norm2", "conv1", "conv2"):
            old = old.replace(f".{name}.", f".{name[:4]}.{name[4]}.")
        files[old] = torch.empty(theirs.state_dict()[key].shape)
    assert sum(".norm.1." in key for key in files) == 5 * 58
    untouched = copy.copy(files)
    with torch.device("meta"):
        model = densenet121()
    model.load_state_dict(files, strict=True, assign=True)
    assert files.keys() == untouched.keys()
    del files["features.denseblock1.denselayer1.norm.1.weight"]
    with pytest.raises(RuntimeError, match=r"denselayer1\.norm1\.weight"):
        model.load_state_dict(files, strict=True, assign=True)
