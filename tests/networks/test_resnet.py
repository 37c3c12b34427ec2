import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from snippets.networks import resnet_cifar
from snippets.networks.preresnet import PreResNet, preresnet164_cifar
from snippets.networks.resnet import (
    BasicBlock,
    Bottleneck,
    Pad,
    ResNet,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from snippets.networks.resnet_cifar import plain20_cifar, resnet20_cifar


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("build", "published"),
    [(resnet50, 3.8e9), (resnet101, 7.6e9), (resnet152, 11.3e9)],
    ids=["50", "101", "152"],
)
def test_v1_costs_what_the_paper_says(build, published):
    with torch.device("meta"):
        model, x = build(v1=True).eval(), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model(x)
    macs = counter.get_total_flops() / 2
    assert abs(macs - published) < 0.1e9


@pytest.mark.parametrize(
    ("depth", "published"),
    [
        (20, 0.27),
        (32, 0.46),
        (44, 0.66),
        (56, 0.85),
        (110, 1.7),
        (1202, 19.4),
    ],
)
def test_cifar_networks_have_the_millions_of_table_6(depth, published):
    with torch.device("meta"):
        model = getattr(resnet_cifar, f"resnet{depth}_cifar")()
    digits = len(str(published).partition(".")[2])
    assert round(count(model) / 1e6, digits) == published
    layers = [n for n, p in model.named_parameters() if p.ndim > 1]
    assert len(layers) == depth


def test_v1_strides_on_the_first_convolution_and_v15_on_the_second():
    for v1, strides in ((True, (2, 1, 1)), (False, (1, 2, 1))):
        block = Bottleneck(16, 32, stride=2, v1=v1)
        convolutions = block.conv1, block.conv2, block.conv3
        assert tuple(c.stride[0] for c in convolutions) == strides


def test_options_a_b_and_c_differ_by_their_projections():
    with torch.device("meta"):
        a, b, c = (count(resnet34(shortcut=s)) for s in "ABC")
    projections = [(64, 128), (128, 256), (256, 512)]
    assert b - a == sum(i * o + 2 * o for i, o in projections)
    others = [64] * 3 + [128] * 3 + [256] * 5 + [512] * 2
    assert c - b == sum(w * w + 2 * w for w in others)


def test_option_a_subsamples_and_adds_channels_of_zeros():
    x = torch.randn(2, 3, 5, 6)
    y = Pad(2, 2)(x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 3:], torch.zeros(2, 2, 3, 3))


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_a_block_adds_its_shortcut_to_its_residual(option):
    block = BasicBlock(4, 8, stride=2, shortcut=option).eval()
    x = torch.randn(2, 4, 6, 6)
    with torch.inference_mode():
        h = torch.relu(block.bn1(block.conv1(x)))
        residual = block.bn2(block.conv2(h))
        expected = torch.relu(residual + block.downsample(x))
        torch.testing.assert_close(block(x), expected)


def test_a_plain_network_has_the_same_parameters_but_no_shortcut():
    plain, net = plain20_cifar(), resnet20_cifar()
    plain.load_state_dict(net.state_dict(), strict=True)
    block, x = plain.layer1[0].eval(), torch.randn(2, 16, 6, 6)
    with torch.inference_mode():
        h = torch.relu(block.bn1(block.conv1(x)))
        expected = torch.relu(block.bn2(block.conv2(h)))
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_zero_init_starts_every_block_as_the_identity(block):
    net = ResNet(block, (2, 1), widths=(8, 8), zero_init=True)
    channels = 8 * block.expansion
    x = torch.rand(2, channels, 4, 4)  # positive: ReLU keeps it
    for mode in (True, False):
        assert torch.equal(net.layer1[1].train(mode)(x), x)


def test_without_zero_init_a_block_is_not_the_identity():
    block = BasicBlock(8, 8)
    x = torch.rand(2, 8, 4, 4)
    assert not torch.allclose(block(x), x)


def test_unknown_shortcut_raises_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"shortcut='D'.*'A', 'B', 'C' or"):
        resnet34(shortcut="D")


@pytest.mark.parametrize(
    ("depths", "options", "message"),
    [
        ((2, 2), {}, r"depths=\(2, 2\) and widths=\(64, 128, 256, 512\) must"),
        ((1,) * 5, {"widths": (8,) * 5}, "one number a stage, for one to four"),
        ((), {"widths": ()}, "one number a stage"),
        ((1, 0), {"widths": (8, 8)}, r"depths=\(1, 0\) and .* must be >= 1"),
        ((1, 1), {"widths": (8, 0)}, r"widths=\(8, 0\) must be >= 1"),
        (
            (1, 1),
            {"widths": (8, 4), "shortcut": "A"},
            "channels=-4: zeros add channels, and drop none",
        ),
    ],
)
def test_stages_that_cannot_be_are_named(depths, options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(BasicBlock, depths, **options)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_fewer_stages_serve(stages):
    net = ResNet(BasicBlock, (1,) * stages, widths=(4, 6, 8, 10)[:stages])
    maps = net.feature_maps(torch.randn(2, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [4, 6, 8, 10][:stages]
    assert [64 // m.shape[2] for m in maps] == list(net.strides)


@pytest.mark.parametrize("depth", [2, 21])
def test_a_depth_that_no_cifar_network_has_is_named(depth):
    with pytest.raises(ValueError, match=rf"depth={depth} must be 6n \+ 2"):
        resnet_cifar.resnet_cifar(depth)


@pytest.mark.parametrize("options", [{"depths": (1, 1)}, {"depths": (1, 1, 0)}])
def test_depths_of_pre_activation_stages_are_named(options):
    with pytest.raises(ValueError, match=r"depths=\(1, 1.* three numbers >= 1"):
        PreResNet(**options)


def test_pre_activation_networks_have_the_layers_in_their_names():
    with torch.device("meta"):
        model = preresnet164_cifar()
    convs = [n for n, p in model.named_parameters() if p.ndim > 1]
    assert len([n for n in convs if "projection" not in n]) == 164
    assert round(count(model) / 1e6, 1) == 1.7  # table 4


def test_nothing_follows_the_sums_of_a_pre_activation_network_but_the_end():
    net = PreResNet((1, 1, 1), zero_init=True).eval()
    x = torch.randn(2, 3, 8, 8)
    y = net.conv1(x)
    for stage in (net.layer1, net.layer2, net.layer3):
        block = stage[0]
        y = block.projection(torch.relu(block.bn1(y)))
    y = torch.relu(net.bn(y)).mean((2, 3))
    torch.testing.assert_close(net(x), net.fc(y))
