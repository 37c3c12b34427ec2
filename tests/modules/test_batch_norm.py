import copy
import itertools
import pickle
import re

import pytest
import torch
from torch import nn

from snippets.modules.batch_norm import BatchNorm, fuse_conv_bn, fuse_network

SHAPES = [(6, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4), (1, 3, 2, 4)]
OPTIONS = [
    {},
    {"eps": 0.3, "momentum": 0.7},
    {"momentum": None},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"affine": False},
    {"track_running_stats": False},
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}


def theirs(c, ndim=4, **options):
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    return kinds.get(ndim, nn.BatchNorm3d)(c, **options)


def disturb(module):
    """Draw parameters and statistics that no computation can pass over."""
    with torch.no_grad():
        for name, a in module.state_dict().items():
            if a.is_floating_point():
                a.uniform_(0.5, 2) if "var" in name else a.normal_()
    return module


def pair(c=3, ndim=4, dtype=torch.float64, **options):
    ours, oracle = BatchNorm(c, **options), disturb(theirs(c, ndim, **options))
    ours.load_state_dict(oracle.state_dict(), strict=True)
    return ours.to(dtype), oracle.to(dtype)


def assert_close(a, expected):
    """Compare by the largest of the expected values."""
    assert a.dtype == expected.dtype
    assert a.shape == expected.shape
    scale = max(1, expected.abs().double().max().item())
    atol = scale * TOLERANCE.get(expected.dtype, 0)
    torch.testing.assert_close(a, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_of_training_and_evaluation_equal_torchs(shape, options, dtype):
    modules = pair(3, len(shape), dtype, **options)
    for training in (True, True, False, True, False):
        x = (3 * torch.randn(shape) + 5).to(dtype)
        dy = torch.randn(shape).to(dtype)
        results = []
        for m in modules:
            m.train(training).zero_grad()
            leaf = x.clone().requires_grad_()
            y = m(leaf)
            y.backward(dy)
            gradients = [leaf.grad, *(p.grad for p in m.parameters())]
            results.append([y.detach(), *gradients, *m.buffers()])
        for a, expected in zip(*results, strict=True):
            assert_close(a, expected)


def test_running_variance_remembers_the_unbiased_estimate():
    bn = BatchNorm(1, momentum=0.25)
    y = bn(torch.tensor([[1.0], [3.0]]))  # variance 1, unbiased 2
    assert bn.running_mean.item() == 0.25 * 2
    assert bn.running_var.item() == 1 + 0.25 * (2 - 1)
    torch.testing.assert_close(y, torch.tensor([[-1.0], [1.0]]))


def test_without_momentum_all_batches_weigh_the_same():
    bn = BatchNorm(1, momentum=None)
    for value in (1.0, 2.0, 9.0):
        bn(torch.full((4, 1), value))
    assert bn.running_mean.item() == pytest.approx(4)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_finite_differences(training):
    bn = pair()[0].train(training)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def forward(x, weight, bias):
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(bn, parameters, (x,))

    inputs = (x, bn.weight, bn.bias)
    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradgradcheck(forward, inputs)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_state_dicts_fit_both_ways(options):
    ours, oracle = BatchNorm(3, **options), theirs(3, **options)
    assert list(ours.state_dict()) == list(oracle.state_dict())
    for name, a in oracle.state_dict().items():  # both as they start
        torch.testing.assert_close(ours.state_dict()[name], a)
    oracle.load_state_dict(disturb(ours).state_dict(), strict=True)
    x = torch.randn(2, 3, 4, 4)
    for training in (False, True):
        assert_close(ours.train(training)(x), oracle.train(training)(x))


def test_half_precision_passes_through_parameters_in_full():
    ours, oracle = pair(dtype=torch.float32)
    x = torch.randn(4, 3, 5, 5).bfloat16()
    for training in (True, False):
        assert_close(ours.train(training)(x), oracle.train(training)(x))
    assert_close(ours.running_var, oracle.running_var)


def test_many_values_far_from_zero_lose_no_more_than_torchs():
    x = torch.randn(64, 3, 32, 32) + 1000
    exact = nn.BatchNorm2d(3).double()(x.double())
    torch.testing.assert_close(
        BatchNorm(3)(x).double(), exact, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("training", [True, False])
def test_layout_of_the_input_is_kept(training):
    ours, oracle = (m.train(training) for m in pair())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    x = x.to(memory_format=torch.channels_last)
    y = ours(x)
    assert_close(y, oracle(x))
    assert y.stride() == oracle(x).stride() == x.stride()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2, 2), (2, 3, 0, 4)], ids=str)
def test_an_empty_batch_changes_no_statistics(shape, training):
    ours, oracle = (m.train(training) for m in pair(ndim=len(shape)))
    for m in (ours, oracle):
        y = m(torch.ones(shape, dtype=torch.float64))
        assert y.shape == shape
        y.sum().backward()
    assert not ours.weight.grad.any()
    for name, a in oracle.state_dict().items():
        assert torch.equal(ours.state_dict()[name], a), name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiles_into_one_graph(options):
    torch.compiler.reset()
    bn = disturb(BatchNorm(3, **options))
    twin = copy.deepcopy(bn)
    compiled = torch.compile(bn, backend="eager", fullgraph=True)
    for training in (True, True, False):
        x = torch.randn(4, 3, 2, 2)
        bn.train(training)
        assert_close(compiled(x), twin.train(training)(x))
    for name, a in twin.state_dict().items():
        assert_close(bn.state_dict()[name], a)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_computes_the_same_and_lives_alone(duplicate):
    bn = disturb(BatchNorm(3, eps=0.2, momentum=None))
    bn(torch.randn(4, 3))
    twin, before = duplicate(bn), bn.running_mean.clone()
    x = torch.randn(4, 3)
    y = twin(x)
    assert torch.equal(bn.running_mean, before)
    assert torch.equal(bn(x), y)
    assert torch.equal(bn.running_mean, twin.running_mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_features": 0}, "num_features=0 must be >= 1"),
        ({"eps": 0.0}, "eps=0.0 must be positive"),
        ({"eps": float("nan")}, "eps=nan must be positive"),
        ({"momentum": 1.5}, "momentum=1.5 must be None or from 0 to 1"),
        ({"momentum": -0.1}, "momentum=-0.1 must be None or from 0 to 1"),
    ],
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchNorm(**{"num_features": 3, **options})


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 4, 3, 3), ()])
def test_a_wrong_shape_raises_an_error_that_says_what_is_needed(shape):
    message = f"`x` has shape {shape}; it must be (n, 3) or (n, 3, …)"
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchNorm(3)(torch.ones(shape))


def test_integers_raise_an_error_that_names_them():
    with pytest.raises(TypeError, match=r"`x` holds torch.int64; it must hold"):
        BatchNorm(3)(torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_raises_where_the_batch_is_measured(shape):
    x = torch.ones(shape)
    for m in (BatchNorm(3), BatchNorm(3, track_running_stats=False).eval()):
        before = copy.deepcopy(m.state_dict())
        with pytest.raises(
            ValueError, match=re.escape(f"`x` has shape {shape}: one")
        ):
            m(x)
        assert all(torch.equal(m.state_dict()[k], a) for k, a in before.items())
    assert BatchNorm(3).eval()(x).shape == shape


CONVOLUTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "bias": False},
    "stride": {"stride": (2, 1), "padding": (1, 2)},
    "dilation": {"dilation": 2, "padding": "same"},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "circular": {"padding": 1, "padding_mode": "circular"},
}
NORMS = list(
    itertools.product(
        (BatchNorm, nn.BatchNorm2d), ({}, {"affine": False, "eps": 0.1})
    )
)


def layers(options, kind, norm_options, dtype=torch.float64):
    conv = nn.Conv2d(4, 8, 3, **options)
    bn = disturb(kind(8, **norm_options))
    return conv.to(dtype), bn.to(dtype).eval()


@pytest.mark.parametrize(("kind", "norm"), NORMS)
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_fused_convolution_gives_the_output_of_both(options, kind, norm):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        conv, bn = layers(options, kind, norm, dtype)
        fused, x = fuse_conv_bn(conv, bn), torch.randn(2, 4, 9, 8, dtype=dtype)
        with torch.no_grad():
            y, expected = fused(x), bn(conv(x))
        assert y.dtype == dtype
        scale = max(1, expected.abs().max().item())
        torch.testing.assert_close(y, expected, rtol=0, atol=tolerance * scale)


def test_fused_convolution_in_half_precision_stays_near():
    conv, bn = layers({}, BatchNorm, {}, torch.bfloat16)
    fused, x = fuse_conv_bn(conv, bn), torch.randn(2, 4, 9, 8).bfloat16()
    y, expected = fused(x), bn(conv(x))
    assert y.dtype == fused.weight.dtype == fused.bias.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, atol=0.1, rtol=0.03)


def test_fusing_into_a_bias_left_out_by_torch():
    bn = disturb(nn.BatchNorm2d(8)).double().eval()
    bn.bias = None
    conv, x = nn.Conv2d(4, 8, 1).double(), torch.randn(2, 4, 3, 3).double()
    torch.testing.assert_close(fuse_conv_bn(conv, bn)(x), bn(conv(x)))


@pytest.mark.parametrize("bias", [True, False])
def test_fusing_leaves_both_arguments_as_they_were(bias):
    conv, bn = layers({"bias": bias}, BatchNorm, {})
    before = copy.deepcopy((conv.state_dict(), bn.state_dict()))
    state = torch.get_rng_state()
    fused = fuse_conv_bn(conv, bn)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for p in fused.parameters():
            p.fill_(7)
    for now, then in zip(
        (conv.state_dict(), bn.state_dict()), before, strict=True
    ):
        assert list(now) == list(then)
        assert all(torch.equal(now[k], then[k]) for k in then)


@pytest.mark.parametrize(
    ("bias", "weight_learns", "bias_learns", "expected"),
    [
        (True, True, True, (True, True)),
        (True, True, False, (True, False)),
        (True, False, True, (False, True)),
        (False, True, None, (True, True)),
        (False, False, None, (False, False)),
    ],
)
def test_what_was_frozen_stays_frozen(
    bias, weight_learns, bias_learns, expected
):
    conv, bn = layers({"bias": bias}, BatchNorm, {})
    conv.weight.requires_grad_(weight_learns)
    if bias:
        conv.bias.requires_grad_(bias_learns)
    fused = fuse_conv_bn(conv, bn)
    assert (fused.weight.requires_grad, fused.bias.requires_grad) == expected
    assert fused.weight.is_leaf
    assert fused.bias.is_leaf


def test_fusing_keeps_the_layout_of_the_weights():
    conv, bn = layers({}, BatchNorm, {})
    conv.to(memory_format=torch.channels_last)
    assert fuse_conv_bn(conv, bn).weight.stride() == conv.weight.stride()


CONV, NORM = nn.Conv2d(2, 3, 1), BatchNorm(3).eval()


@pytest.mark.parametrize(
    ("conv", "bn", "error", "message"),
    [
        (
            nn.Linear(2, 3),
            NORM,
            TypeError,
            "`conv` is a Linear; it must be a Conv2d",
        ),
        (
            nn.ConvTranspose2d(2, 3, 1),
            NORM,
            TypeError,
            "`conv` is a ConvTranspose2d; it must be a Conv2d",
        ),
        (
            CONV,
            nn.GroupNorm(1, 3),
            TypeError,
            "`bn` is a GroupNorm; it must be a BatchNorm or BatchNorm2d",
        ),
        (
            CONV,
            BatchNorm(4).eval(),
            ValueError,
            "`bn` has num_features=4; `conv` has out_channels=3",
        ),
        (
            CONV,
            BatchNorm(3),
            ValueError,
            "`bn` has training=True; call bn.eval()",
        ),
        (
            CONV,
            nn.BatchNorm2d(3, track_running_stats=False).eval(),
            ValueError,
            "`bn` has running_mean=None; it must keep",
        ),
    ],
)
def test_what_cannot_be_fused_is_named(conv, bn, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fuse_conv_bn(conv, bn)


class Paths(nn.Module):
    """Hold normalizations that can be folded, and that cannot."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.folds = nn.Sequential(nn.Conv2d(2, 2, 1), BatchNorm(2))
        self.shared = nn.Conv2d(2, 2, 1)
        self.twice = nn.BatchNorm2d(2)
        self.read_twice = nn.BatchNorm2d(2)
        self.first = nn.BatchNorm2d(2)

    def forward(self, x):
        x = self.folds(self.first(x))
        y = self.conv(x)
        x = y + self.read_twice(y)
        return self.twice(self.shared(self.twice(self.shared(x))))


def test_only_what_one_convolution_feeds_is_folded():
    model, x = disturb(Paths()).eval(), torch.randn(2, 2, 5, 5)
    before = copy.deepcopy(model.state_dict())
    fused = fuse_network(model)
    assert isinstance(fused.folds[1], nn.Identity)
    assert sum(isinstance(m, nn.Identity) for m in fused.modules()) == 1
    torch.testing.assert_close(fused(x), model(x))
    for name, a in model.state_dict().items():
        assert torch.equal(a, before[name])


def test_a_network_in_training_is_not_folded():
    with pytest.raises(ValueError, match=r"`bn` has training=True; call"):
        fuse_network(Paths())
