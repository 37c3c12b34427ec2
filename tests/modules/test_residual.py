import ast
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from snippets.modules import residual
from snippets.modules.residual import (
    BasicBlock,
    Bottleneck,
    DarknetBlock,
    Pad,
    PreActivation,
    PreActivationBottleneck,
)

WIDTHS = pytest.mark.parametrize(
    ("c", "out", "stride"),
    [(8, 8, 1), (8, 16, 1), (16, 8, 1), (8, 8, 2), (8, 16, 2), (8, 16, 3)],
)
SNIPPETS = Path(__file__).parents[2] / "snippets"
MODES = pytest.mark.parametrize("training", [True, False])
BLOCKS = [BasicBlock, Bottleneck, PreActivation, PreActivationBottleneck]
PRE = (PreActivation, PreActivationBottleneck)


def images(c):
    return torch.randn(2, c, 7, 6, dtype=torch.float64)


def disturb(block):
    """Draw parameters and statistics that no computation can pass over."""
    for name, a in block.double().state_dict().items():
        if name.endswith("running_var"):
            a.uniform_(0.5, 2)
        elif a.is_floating_point():
            a.normal_()
    return block


def step(block, forward, x, dy):
    """Return output, gradients and statistics of one step, then undo it."""
    before = {k: a.clone() for k, a in block.state_dict().items()}
    leaf = x.clone().requires_grad_()
    y = forward(leaf)
    assert torch.equal(leaf, x)
    gradients = torch.autograd.grad(y, [leaf, *block.parameters()], dy)
    statistics = [b.clone() for b in block.buffers() if b.is_floating_point()]
    block.load_state_dict(before)
    return [y.detach(), *gradients, *statistics]


@MODES
@WIDTHS
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_torchvisions_blocks_fit_and_agree(
    torchvision, kind, c, out, stride, training
):
    their_kind = getattr(torchvision("models.resnet"), kind.__name__)
    projection = None
    if stride != 1 or c != out:
        projection = nn.Sequential(
            nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )
    width = out // their_kind.expansion
    theirs = disturb(their_kind(c, width, stride, projection))
    ours = kind(c, out, stride=stride).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = images(c)
    dy = torch.randn_like(ours(x))
    ours.load_state_dict(theirs.state_dict())
    found, expected = (
        step(b, b.train(training), x, dy) for b in (ours, theirs)
    )
    torch.testing.assert_close(found, expected)


def norm(x, bn):
    return F.batch_norm(
        x, bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.training
    )


# Padding and stride of each convolution.
FIGURES = {
    "basic": (PreActivation, {}, [(1, "stride"), (1, 1)]),
    "bottleneck": (
        PreActivationBottleneck,
        {},
        [(0, 1), (1, "stride"), (0, 1)],
    ),
    "bottleneck v1": (
        PreActivationBottleneck,
        {"v1": True},
        [(0, "stride"), (1, 1), (0, 1)],
    ),
}


@MODES
@WIDTHS
@pytest.mark.parametrize("figure", FIGURES)
def test_pre_activation_equals_its_figure(figure, c, out, stride, training):
    kind, options, layers = FIGURES[figure]
    block = disturb(kind(c, out, stride=stride, **options)).train(training)
    w = dict(block.named_parameters())
    projects = stride != 1 or c != out
    assert ("projection.weight" in w) == projects

    def figure(x):
        y = a = F.relu(norm(x, block.bn1))
        for i, (padding, s) in enumerate(layers, 1):
            s = stride if s == "stride" else s
            if i > 1:
                y = F.relu(norm(y, block.get_submodule(f"bn{i}")))
            y = F.conv2d(y, w[f"conv{i}.weight"], stride=s, padding=padding)
        if projects:
            x = F.conv2d(a, w["projection.weight"], stride=stride)
        return x + y

    x = images(c)
    dy = torch.randn(2, out, -(-7 // stride), -(-6 // stride)).double()
    expected = step(block, figure, x, dy)
    torch.testing.assert_close(step(block, block, x, dy), expected)


@MODES
def test_darknet_block_equals_its_figure(training):
    block = disturb(DarknetBlock(8)).train(training)
    w = dict(block.named_parameters())
    assert w["conv1.weight"].shape == (4, 8, 1, 1)
    assert w["conv2.weight"].shape == (8, 4, 3, 3)

    def leaky(x):
        return torch.where(x > 0, x, x / 10)

    def figure(x):
        y = leaky(norm(F.conv2d(x, w["conv1.weight"]), block.bn1))
        y = F.conv2d(y, w["conv2.weight"], padding=1)
        return x + leaky(norm(y, block.bn2))

    x = images(8)
    dy = torch.randn_like(x)
    expected = step(block, figure, x, dy)
    torch.testing.assert_close(step(block, block, x, dy), expected)


def build(kind, **options):
    channels = (8,) if kind is DarknetBlock else (8, 8)
    return kind(*channels, **options).double()


@MODES
@pytest.mark.parametrize("kind", [*BLOCKS, DarknetBlock])
def test_zero_init_starts_a_block_as_the_identity(kind, training):
    block, x = build(kind, zero_init=True).train(training), images(8)
    relu_last = kind in (BasicBlock, Bottleneck)
    assert torch.equal(block(x), x.relu() if relu_last else x)


@pytest.mark.parametrize("kind", [*BLOCKS, DarknetBlock])
def test_without_zero_init_a_block_starts_as_something_else(kind):
    x = images(8).relu()
    assert not torch.allclose(build(kind)(x), x, atol=0.1)


@WIDTHS
@pytest.mark.parametrize("kind", BLOCKS)
def test_zero_init_starts_a_block_as_its_shortcut(kind, c, out, stride):
    block = kind(c, out, stride=stride, zero_init=True).double().eval()
    x = images(c)
    if kind in PRE:
        project = block.projection
        expected = x if project is None else project(x.relu())
    else:
        expected = block.downsample(x).relu()
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [*BLOCKS, DarknetBlock])
def test_what_zero_init_sets_to_zero_learns(kind):
    block, x = build(kind, zero_init=True), images(8)
    block(x).backward(torch.randn_like(x))
    weights = {k: p for k, p in block.named_parameters() if "bias" not in k}
    (zero,) = (p for p in weights.values() if not p.any())
    assert zero.grad.all()


def test_behind_a_relu_the_scale_of_a_darknet_block_would_stay_zero(
    monkeypatch,
):
    monkeypatch.setattr(residual, "leaky_relu", lambda x, _: F.relu(x))
    block, x = build(DarknetBlock, zero_init=True), images(8)
    block(x).backward(torch.randn_like(x))
    assert not block.bn2.weight.grad.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BasicBlock(0, 8), "in_channels=0"),
        (lambda: BasicBlock(8, 0), "out_channels=0"),
        (lambda: Bottleneck(0, 8), "in_channels=0"),
        (lambda: PreActivation(8, 8, stride=0), "stride=0 must be >= 1"),
        (
            lambda: Bottleneck(8, 6),
            "out_channels=6 must be a multiple of 4",
        ),
        (
            lambda: PreActivationBottleneck(8, 6),
            "out_channels=6 must be a multiple of 4",
        ),
        (
            lambda: BasicBlock(8, 4, shortcut="A"),
            "channels=-4: zeros add channels, and drop none",
        ),
        (lambda: Pad(-1, 2), "channels=-1: zeros add channels"),
        (
            lambda: BasicBlock(8, 8, shortcut="D"),
            "shortcut='D' must be 'A', 'B', 'C' or None",
        ),
        (lambda: DarknetBlock(7), "channels=7 must be even and >= 2"),
        (lambda: DarknetBlock(0), "channels=0 must be even and >= 2"),
    ],
)
def test_a_bad_option_is_named(make, message):
    with pytest.raises(ValueError, match=rf"(^| ){re.escape(message)}"):
        make()


def test_the_narrowest_blocks_serve():
    x = torch.randn(2, 1, 1, 1)
    assert BasicBlock(1, 1)(x).shape == (2, 1, 1, 1)
    assert PreActivation(1, 1)(x).shape == (2, 1, 1, 1)
    assert Bottleneck(1, 4)(x).shape == (2, 4, 1, 1)
    assert PreActivationBottleneck(1, 4)(x).shape == (2, 4, 1, 1)
    assert torch.equal(Pad(0, 1)(x), x)
    assert DarknetBlock(2)(x.expand(2, 2, 1, 1)).shape == (2, 2, 1, 1)


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (8, 5, 5), (2, 8, 0, 5)])
@pytest.mark.parametrize("kind", [*BLOCKS, DarknetBlock])
def test_a_wrong_input_raises_an_error_that_says_what_is_needed(kind, shape):
    message = f"`x` has shape {shape}; it must be (n, 8, h, w) with h and w at"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(kind)(torch.ones(shape))


@pytest.mark.parametrize("kind", [*BLOCKS, DarknetBlock])
def test_a_trace_computes_the_same_and_still_checks(kind):
    block, x = build(kind).eval(), images(8)
    traced = fx.symbolic_trace(block)
    assert torch.equal(traced(x), block(x))
    with pytest.raises(ValueError, match="`x` has shape"):
        traced(x[:, :4])


def code(path, name):
    """Give a definition without docstring, checks and remarks."""
    tree = ast.parse((SNIPPETS / path).read_text("utf-8"))
    (found,) = (n for n in tree.body if getattr(n, "name", None) == name)
    for node in ast.walk(found):
        body = getattr(node, "body", [])
        if isinstance(body, list):
            node.body = [
                n
                for n in body
                if not isinstance(n, ast.Expr)
                or not ast.unparse(n).startswith(("_check", "'", '"'))
            ]
    return ast.unparse(found)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("resnet", ["Pad", "make_shortcut", "BasicBlock", "Bottleneck"]),
        ("preresnet", ["make_projection", "PreActivationBottleneck"]),
    ],
)
def test_the_networks_have_the_same_blocks(network, names):
    for name in names:
        ours = code("modules/residual.py", name)
        assert "forward" in ours or "return" in ours
        assert code(f"networks/{network}.py", name) == ours
