"""What holds of every network: one case a factory."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import pytest
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from snippets.modules.batch_norm import fuse_network
from snippets.modules.skip import FPN
from snippets.networks.alexnet import alexnet, alexnet_two_groups
from snippets.networks.darknet import darknet19, darknet53
from snippets.networks.densenet import (
    DenseNet,
    densenet100_cifar,
    densenet121,
    densenet161,
    densenet169,
    densenet190_cifar,
    densenet201,
    densenet250_cifar,
)
from snippets.networks.inception import (
    googlenet,
    googlenet_bn,
    googlenet_caffe,
)
from snippets.networks.lenet import LeNet, lenet5
from snippets.networks.nin import nin, nin_cifar10
from snippets.networks.preresnet import (
    PreResNet,
    preresnet164_cifar,
    preresnet1001_cifar,
)
from snippets.networks.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from snippets.networks.resnet_cifar import (
    plain20_cifar,
    plain32_cifar,
    plain44_cifar,
    plain56_cifar,
    plain110_cifar,
    resnet20_cifar,
    resnet32_cifar,
    resnet44_cifar,
    resnet56_cifar,
    resnet110_cifar,
    resnet1202_cifar,
)
from snippets.networks.vgg import vgg11, vgg13, vgg16, vgg16_c, vgg19


@dataclass(frozen=True, eq=False)
class Case:
    build: Callable[..., nn.Module]
    size: int  # published height and width
    smallest: int  # accepted height and width
    parameters: int
    macs: int | None = None  # where published or agreed on
    oracle: str | None = None  # the same in torchvision.models
    oracle_options: dict[str, bool] = field(default_factory=dict)
    stages: dict[str, tuple[int, int]] = field(default_factory=dict)
    in_channels: int = 3
    num_classes: int = 1000
    small: int = 67  # a size at which to run
    dropout: tuple[float, ...] = ()  # published rates, in the order of layers

    def images(self, n: int = 2, size: int | None = None) -> Tensor:
        s = size or self.small
        return torch.randn(n, self.in_channels, s, s)


def vgg_stages(*pools: int) -> dict[str, tuple[int, int]]:
    shapes = [(64, 112), (128, 56), (256, 28), (512, 14), (512, 7)]
    return {f"features.{i}": s for i, s in zip(pools, shapes, strict=True)}


def resnet_stages(expansion: int) -> dict[str, tuple[int, int]]:
    return {
        "conv1": (64, 112),
        "maxpool": (64, 56),
        "layer1": (64 * expansion, 56),
        "layer2": (128 * expansion, 28),
        "layer3": (256 * expansion, 14),
        "layer4": (512 * expansion, 7),
        "avgpool": (512 * expansion, 1),
    }


def densenet_stages(size: int, *channels: int) -> dict[str, tuple[int, int]]:
    names = [
        name for i in (1, 2, 3) for name in (f"denseblock{i}", f"transition{i}")
    ]
    stages = {}
    for name, c in zip([*names, "denseblock4"], channels, strict=False):
        size = size // 2 if name.startswith("transition") else size
        stages[f"features.{name}"] = (c, size)
    return stages


GOOGLENET_STAGES = {
    "conv1": (64, 112),
    "conv2": (64, 56),
    "conv3": (192, 56),
    "inception3a": (256, 28),
    "inception3b": (480, 28),
    "inception4a": (512, 14),
    "inception4b": (512, 14),
    "inception4c": (512, 14),
    "inception4d": (528, 14),
    "inception4e": (832, 14),
    "inception5a": (832, 7),
    "inception5b": (1024, 7),
    "avgpool": (1024, 1),
}
CIFAR_STAGES = {
    "conv1": (16, 32),
    "layer1": (16, 32),
    "layer2": (32, 16),
    "layer3": (64, 8),
}

imagenet = partial(Case, size=224)
vgg = partial(imagenet, smallest=32, small=32, dropout=(0.5, 0.5))
bn = partial(partial, batch_norm=True)
cifar = partial(Case, size=32, smallest=1, num_classes=10, small=16)

CASES = {
    "lenet5": Case(
        lenet5,
        32,
        32,
        60_000,
        stages={"c1": (6, 28), "s2": (6, 14), "c3": (16, 10), "s4": (16, 5)},
        in_channels=1,
        num_classes=10,
        small=32,
    ),
    "lenet": Case(
        LeNet,
        28,
        28,
        61_706,
        416_520,
        stages={"conv1": (6, 28), "conv2": (16, 10)},
        in_channels=1,
        num_classes=10,
        small=28,
    ),
    "alexnet": imagenet(
        alexnet,
        smallest=63,
        parameters=61_100_840,
        macs=714_188_480,
        oracle="alexnet.alexnet",
        dropout=(0.5, 0.5),
        stages={
            "features.0": (64, 55),
            "features.2": (64, 27),
            "features.5": (192, 13),
            "features.12": (256, 6),
            "avgpool": (256, 6),
        },
    ),
    "alexnet_two_groups": Case(
        alexnet_two_groups,
        size=227,
        smallest=67,
        parameters=60_965_224,
        macs=724_406_816,
        dropout=(0.5, 0.5),
        stages={
            "features.0": (96, 55),
            "features.3": (96, 27),
            "features.7": (256, 13),
            "features.14": (256, 6),
            "avgpool": (256, 6),
        },
    ),
    "vgg11": vgg(
        vgg11,
        parameters=132_863_336,
        macs=7_609_090_048,
        oracle="vgg.vgg11",
        stages=vgg_stages(2, 5, 10, 15, 20),
    ),
    "vgg13": vgg(
        vgg13,
        parameters=133_047_848,
        macs=11_308_466_176,
        oracle="vgg.vgg13",
        stages=vgg_stages(4, 9, 14, 19, 24),
    ),
    "vgg16": vgg(
        vgg16,
        parameters=138_357_544,
        macs=15_470_264_320,
        oracle="vgg.vgg16",
        stages=vgg_stages(4, 9, 16, 23, 30),
    ),
    "vgg16_c": vgg(
        vgg16_c,
        parameters=133_638_952,
        stages=vgg_stages(4, 9, 16, 23, 30),
    ),
    "vgg19": vgg(
        vgg19,
        parameters=143_667_240,
        macs=19_632_062_464,
        oracle="vgg.vgg19",
        stages=vgg_stages(4, 9, 18, 27, 36),
    ),
    "vgg11_bn": vgg(
        bn(vgg11),
        parameters=132_868_840,
        macs=7_609_090_048,
        oracle="vgg.vgg11_bn",
        stages=vgg_stages(3, 7, 14, 21, 28),
    ),
    "vgg13_bn": vgg(
        bn(vgg13),
        parameters=133_053_736,
        macs=11_308_466_176,
        oracle="vgg.vgg13_bn",
        stages=vgg_stages(6, 13, 20, 27, 34),
    ),
    "vgg16_bn": vgg(
        bn(vgg16),
        parameters=138_365_992,
        macs=15_470_264_320,
        oracle="vgg.vgg16_bn",
        stages=vgg_stages(6, 13, 23, 33, 43),
    ),
    "vgg19_bn": vgg(
        bn(vgg19),
        parameters=143_678_248,
        macs=19_632_062_464,
        oracle="vgg.vgg19_bn",
        stages=vgg_stages(6, 13, 26, 39, 52),
    ),
    "nin": imagenet(
        nin,
        smallest=39,
        small=39,
        parameters=7_595_176,
        dropout=(0.5,),
        stages={
            "features.0": (96, 54),
            "features.2": (256, 27),
            "features.4": (384, 13),
            "features.7": (1000, 6),
            "avgpool": (1000, 1),
        },
    ),
    "nin_cifar10": Case(
        nin_cifar10,
        size=32,
        smallest=4,
        parameters=966_986,
        dropout=(0.5, 0.5),
        stages={
            "features.0": (96, 32),
            "features.3": (192, 16),
            "features.6": (10, 8),
        },
        num_classes=10,
        small=16,
    ),
    "googlenet": imagenet(
        googlenet,
        smallest=31,
        small=40,
        dropout=(0.4,),
        parameters=6_998_552,
        macs=1_582_671_872,
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_caffe": imagenet(
        googlenet_caffe,
        smallest=31,
        small=40,
        dropout=(0.4,),
        parameters=6_998_552,
        macs=1_582_671_872,
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_aux": imagenet(
        partial(googlenet, aux=True),
        smallest=31,
        small=40,
        dropout=(0.7, 0.7, 0.4),
        parameters=13_378_280,
        macs=1_582_671_872,
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_bn": imagenet(
        googlenet_bn,
        smallest=15,
        small=40,
        dropout=(0.2,),
        parameters=6_624_904,
        macs=1_498_376_192,
        oracle="googlenet.GoogLeNet",
        oracle_options={"aux_logits": False, "init_weights": True},
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_bn_aux": imagenet(
        partial(googlenet_bn, aux=True),
        smallest=15,
        small=40,
        dropout=(0.7, 0.7, 0.2),
        parameters=13_004_888,
        macs=1_498_376_192,
        oracle="googlenet.GoogLeNet",
        oracle_options={"aux_logits": True, "init_weights": True},
        stages=GOOGLENET_STAGES,
    ),
    "darknet19": imagenet(
        darknet19,
        smallest=32,
        small=64,
        parameters=20_842_376,
        stages={
            f"stages.{i}": shape
            for i, shape in enumerate(
                [
                    (32, 224),
                    (64, 112),
                    (128, 56),
                    (256, 28),
                    (512, 14),
                    (1024, 7),
                ]
            )
        },
    ),
    "darknet53": Case(
        darknet53,
        size=256,
        smallest=1,
        small=64,
        parameters=41_609_928,
        stages={
            f"stages.{i}": shape
            for i, shape in enumerate(
                [
                    (32, 256),
                    (64, 128),
                    (128, 64),
                    (256, 32),
                    (512, 16),
                    (1024, 8),
                ]
            )
        },
    ),
    "resnet18": imagenet(
        resnet18,
        smallest=1,
        small=40,
        parameters=11_689_512,
        macs=1_814_073_344,
        oracle="resnet.resnet18",
        stages=resnet_stages(1),
    ),
    "resnet34": imagenet(
        resnet34,
        smallest=1,
        small=40,
        parameters=21_797_672,
        macs=3_663_761_408,
        oracle="resnet.resnet34",
        stages=resnet_stages(1),
    ),
    "resnet50": imagenet(
        resnet50,
        smallest=1,
        small=40,
        parameters=25_557_032,
        macs=4_089_184_256,
        oracle="resnet.resnet50",
        stages=resnet_stages(4),
    ),
    "resnet101": imagenet(
        resnet101,
        smallest=1,
        small=40,
        parameters=44_549_160,
        macs=7_801_405_440,
        oracle="resnet.resnet101",
        stages=resnet_stages(4),
    ),
    "resnet152": imagenet(
        resnet152,
        smallest=1,
        small=40,
        parameters=60_192_808,
        macs=11_513_626_624,
        oracle="resnet.resnet152",
        stages=resnet_stages(4),
    ),
    "resnet50_v1": imagenet(
        partial(resnet50, v1=True),
        smallest=1,
        small=40,
        parameters=25_557_032,
        stages=resnet_stages(4),
    ),
    "resnet20_cifar": cifar(
        resnet20_cifar, parameters=269_722, stages=CIFAR_STAGES
    ),
    "resnet32_cifar": cifar(
        resnet32_cifar, parameters=464_154, stages=CIFAR_STAGES
    ),
    "resnet44_cifar": cifar(
        resnet44_cifar, parameters=658_586, stages=CIFAR_STAGES
    ),
    "resnet56_cifar": cifar(
        resnet56_cifar, parameters=853_018, stages=CIFAR_STAGES
    ),
    "resnet110_cifar": cifar(
        resnet110_cifar, parameters=1_727_962, stages=CIFAR_STAGES
    ),
    "preresnet164_cifar": cifar(
        preresnet164_cifar,
        parameters=1_703_258,
        stages={"layer1": (64, 32), "layer2": (128, 16), "layer3": (256, 8)},
    ),
    "plain20_cifar": cifar(
        plain20_cifar, parameters=269_722, stages=CIFAR_STAGES
    ),
    "plain32_cifar": cifar(
        plain32_cifar, parameters=464_154, stages=CIFAR_STAGES
    ),
    "plain44_cifar": cifar(
        plain44_cifar, parameters=658_586, stages=CIFAR_STAGES
    ),
    "plain56_cifar": cifar(
        plain56_cifar, parameters=853_018, stages=CIFAR_STAGES
    ),
    "plain110_cifar": cifar(
        plain110_cifar, parameters=1_727_962, stages=CIFAR_STAGES
    ),
    "densenet121": imagenet(
        densenet121,
        smallest=29,
        parameters=7_978_856,
        macs=2_834_161_664,
        oracle="densenet.densenet121",
        stages=densenet_stages(56, 256, 128, 512, 256, 1024, 512, 1024),
    ),
    "densenet161": imagenet(
        densenet161,
        smallest=29,
        parameters=28_681_000,
        macs=7_727_907_072,
        oracle="densenet.densenet161",
        stages=densenet_stages(56, 384, 192, 768, 384, 2112, 1056, 2208),
    ),
    "densenet169": imagenet(
        densenet169,
        smallest=29,
        parameters=14_149_480,
        macs=3_359_843_328,
        oracle="densenet.densenet169",
        stages=densenet_stages(56, 256, 128, 512, 256, 1280, 640, 1664),
    ),
    "densenet201": imagenet(
        densenet201,
        smallest=29,
        parameters=20_013_928,
        macs=4_291_365_888,
        oracle="densenet.densenet201",
        stages=densenet_stages(56, 256, 128, 512, 256, 1792, 896, 1920),
    ),
    "densenet100_cifar": cifar(
        densenet100_cifar,
        smallest=4,
        small=8,
        parameters=769_162,
        stages=densenet_stages(32, 216, 108, 300, 150, 342),
    ),
    "densenet250_cifar": cifar(
        densenet250_cifar,
        smallest=4,
        small=8,
        parameters=15_324_406,
        stages=densenet_stages(32, 1032, 516, 1500, 750, 1734),
    ),
    "densenet190_cifar": cifar(
        densenet190_cifar,
        smallest=4,
        small=8,
        parameters=25_624_430,
        stages=densenet_stages(32, 1320, 660, 1900, 950, 2190),
    ),
}

# Too deep for more than counting.
DEEPEST = {
    "resnet1202_cifar": (resnet1202_cifar, 19_421_274),
    "preresnet1001_cifar": (preresnet1001_cifar, 10_327_706),
}

# The same code as the factories', with fewer and narrower layers.
small = partial(
    Case, size=64, smallest=1, parameters=0, num_classes=7, small=33
)
WIDTHS = (8, 16, 24, 32)
SMALL = {
    "resnet_basic": small(
        partial(
            ResNet,
            BasicBlock,
            (2, 1, 1, 1),
            widths=WIDTHS,
            shortcut="A",
            num_classes=7,
        )
    ),
    "resnet_bottleneck": small(
        partial(
            ResNet,
            Bottleneck,
            (1, 2, 1, 1),
            widths=WIDTHS,
            v1=True,
            num_classes=7,
        )
    ),
    "resnet_plain": small(
        partial(
            ResNet,
            BasicBlock,
            (1, 1),
            widths=(8, 16),
            small=True,
            shortcut=None,
            num_classes=7,
        )
    ),
    "preresnet": small(partial(PreResNet, (1, 2, 1), num_classes=7)),
    "densenet": small(
        partial(DenseNet, 12, (2, 2, 2, 2), dropout=0.2, num_classes=7),
        smallest=29,
    ),
    "densenet_small": small(
        partial(
            DenseNet,
            4,
            (2, 2),
            small=True,
            memory_efficient=True,
            num_classes=7,
        ),
        smallest=2,
    ),
}

# One network of each kind, for what depth does not change.
KINDS = [
    "lenet5",
    "lenet",
    "alexnet",
    "alexnet_two_groups",
    "vgg11_bn",
    "nin",
    "nin_cifar10",
    "googlenet",
    "googlenet_bn_aux",
    "darknet19",
    "darknet53",
    *SMALL,
]
# Those whose head takes maps of any size.
FREE_SIZES = [
    "nin_cifar10",
    "darknet19",
    *SMALL,
]


def cases(*names: str) -> pytest.MarkDecorator:
    chosen = names or tuple(CASES)
    return pytest.mark.parametrize(
        "case", [pytest.param((CASES | SMALL)[n], id=n) for n in chosen]
    )


@cache
def shapes(case: Case) -> nn.Module:
    """Build without numbers: shapes and counts cost nothing. Do not change."""
    with torch.device("meta"):
        return case.build().eval()


def on_meta(case: Case, **options: int) -> nn.Module:
    with torch.device("meta"):
        return case.build(**options).eval()


def fill(model: nn.Module) -> nn.Module:
    """Draw weights, biases and statistics that no layer can pass over."""
    noise = torch.randn(100_003)
    for name, t in model.to_empty(device="cpu").state_dict().items():
        if not t.is_floating_point():
            t.zero_()
            continue
        flat = t.view(-1)
        for start in range(0, len(flat), len(noise)):
            part = flat[start : start + len(noise)]
            part.copy_(noise[: len(part)])
        if t.ndim > 1:
            t.mul_((2 / t[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            t.mul_(0.2).exp_()
        else:
            t.mul_(0.1).add_(float(name.endswith("weight")))
    return model


def drawn(case: Case) -> nn.Module:
    """Build with random weights, cheaper than by initialization."""
    return fill(copy.deepcopy(shapes(case)))


def assert_close(y: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare by the largest of the expected values."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(y, expected, rtol=0, atol=tolerance * scale)


# ----------------------------------------------------------- counts and shapes


@cases()
def test_parameters_are_as_published(case):
    count = sum(p.numel() for p in shapes(case).parameters())
    assert count == case.parameters


@pytest.mark.parametrize("name", DEEPEST)
def test_parameters_of_the_deepest_are_as_published(name):
    build, parameters = DEEPEST[name]
    assert build.__name__ == name
    with torch.device("meta"):
        model = build()
    assert sum(p.numel() for p in model.parameters()) == parameters


@cases(*(n for n, c in CASES.items() if c.macs))
def test_multiply_adds_are_as_published(case):
    x = case.images(1, case.size).to("meta")
    with FlopCounterMode(display=False) as counter:
        shapes(case)(x)
    assert counter.get_total_flops() == 2 * case.macs


@cases()
def test_each_stage_has_the_published_shape(case):
    model, found = shapes(case), {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: found.update({name: tuple(y.shape)})
        )
        for name in case.stages
    ]
    y = model(case.images(2, case.size).to("meta"))
    for hook in hooks:
        hook.remove()
    assert y.shape == (2, case.num_classes)
    assert found == {n: (2, c, s, s) for n, (c, s) in case.stages.items()}


@cases()
def test_dropout_rates_are_as_published(case):
    layers = shapes(case).modules()
    rates = tuple(m.p for m in layers if isinstance(m, nn.Dropout))
    assert rates == case.dropout


@pytest.mark.parametrize(
    "name", [n for n, c in CASES.items() if not isinstance(c.build, partial)]
)
def test_a_factory_says_its_name(name):
    assert CASES[name].build.__name__.lower() == name
    assert CASES[name].build.__doc__


@cases(*(n for n in CASES if n != "lenet5"))
def test_num_classes_and_in_channels_are_free(case):
    model = on_meta(case, num_classes=7, in_channels=5)
    x = torch.empty(2, 5, case.smallest, case.smallest, device="meta")
    assert model(x).shape == (2, 7)


@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
@cases(*(n for n in CASES if n != "lenet5"))
def test_an_option_below_one_is_named(case, option):
    with pytest.raises(ValueError, match=f"{option}=0"):
        on_meta(case, **{option: 0})


@cases(*KINDS)
def test_smallest_input_passes(case):
    model, s = shapes(case), case.smallest
    for shape in ((s, s), (s, case.size), (case.size, s)):
        x = torch.empty(2, case.in_channels, *shape, device="meta")
        assert model(x).shape == (2, case.num_classes)


@cases(*KINDS)
def test_smaller_input_raises_an_error_that_says_what_is_needed(case):
    model, s = shapes(case), case.smallest
    for shape in ((s - 1, s), (s, s - 1)):
        x = torch.empty(2, case.in_channels, *shape, device="meta")
        with pytest.raises(ValueError, match=rf"\b{s}\b.*got") as error:
            model(x)
        assert str(tuple(x.shape)) in str(error.value)


@cases(*KINDS)
def test_wrong_channels_raise_an_error_that_says_what_is_needed(case):
    model, c, s = shapes(case), case.in_channels, case.size
    for shape in ((2, c + 1, s, s), (c, s, s)):
        x = torch.empty(shape, device="meta")
        with pytest.raises(ValueError, match=rf"\(n, {c}, h, w\)") as error:
            model(x)
        assert str(shape) in str(error.value)


# ------------------------------------------------------------------ torchvision

ORACLES = [n for n, c in CASES.items() if c.oracle]
# Those that differ by more than how often a block is repeated.
ORACLE_KINDS = [
    "alexnet",
    "vgg11_bn",
    "googlenet_bn_aux",
    "resnet18",
    "resnet50",
    "densenet121",
]


@cache
def theirs_on_meta(build, path: str, *options: tuple[str, bool]) -> nn.Module:
    with torch.device("meta"):
        return build(path, **dict(options))


def theirs(case: Case, oracle) -> nn.Module:
    options = case.oracle_options.items()
    return theirs_on_meta(oracle, case.oracle, *options)


@cases(*ORACLES)
def test_torchvisions_checkpoint_fits(case, oracle):
    ours, expected = shapes(case), theirs(case, oracle)
    found = {k: t.shape for k, t in ours.state_dict().items()}
    assert found == {k: t.shape for k, t in expected.state_dict().items()}
    assert list(ours.state_dict()) == list(expected.state_dict())


@cases(*ORACLE_KINDS)
def test_torchvisions_weights_give_its_output_in_both_modes(case, oracle):
    expected = fill(copy.deepcopy(theirs(case, oracle)))
    state = dict(expected.state_dict())
    for name, t in expected.named_buffers():  # each updates its own
        state[name] = t.clone()
    ours = copy.deepcopy(shapes(case))
    ours.load_state_dict(state, strict=True, assign=True)
    x = case.images(2)
    for training in (False, True):
        results = []
        for model in (ours, expected):
            torch.manual_seed(1)  # both silence the same units
            with torch.no_grad():
                results.append(model.train(training)(x))
        y, y_expected = results
        if isinstance(y, tuple):
            y = torch.stack([y.logits, y.aux2, y.aux1])  # in their order
            y_expected = torch.stack(y_expected)
        assert_close(y, y_expected, 1e-5)
    for name, t in expected.named_buffers():  # statistics after training
        assert_close(ours.get_buffer(name), t, 1e-5)


class Operations(TorchDispatchMode):
    """Record what torch is asked to compute, and the shapes it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        y = func(*args, **(kwargs or {}))
        shapes = [tuple(t.shape) for t in tree_leaves(y) if torch.is_tensor(t)]
        if not func.is_view:
            self.done[f"{func} {shapes}"] += 1
        return y


@cases(*ORACLE_KINDS)
def test_a_training_step_asks_for_no_more_than_torchvisions(case, oracle):
    done = []
    for model in (shapes(case), theirs(case, oracle)):
        model = copy.deepcopy(model).train()
        with Operations() as operations:
            y = model(case.images().to("meta"))
            sum(
                o.sum() for o in (y if isinstance(y, tuple) else [y])
            ).backward()
        done.append(operations.done)
    ours, expected = done
    assert expected
    assert not ours - expected


@cases(*ORACLE_KINDS)
def test_same_seed_draws_torchvisions_initial_weights(case, oracle):
    torch.manual_seed(0)
    ours = case.build(num_classes=10).state_dict()
    torch.manual_seed(0)
    options = {**case.oracle_options, "num_classes": 10}
    expected = oracle(case.oracle, **options).state_dict()
    assert list(ours) == list(expected)
    for name, t in expected.items():
        assert torch.equal(ours[name], t), name


# ------------------------------------------------- numbers, once for each kind


@dataclass(frozen=True, eq=False)
class Kind:
    case: Case
    model: nn.Module  # evaluates; do not change
    x: Tensor
    y: Tensor

    def run(
        self,
        x: Tensor | None = None,
        change: Callable[..., Tensor] = Tensor.clone,
    ) -> Tensor:
        """Run with parameters and statistics that are changed."""
        x = self.x if x is None else x
        state = {
            k: change(t) if t.is_floating_point() else t
            for k, t in self.model.state_dict().items()
        }
        with torch.no_grad():
            return functional_call(self.model, state, (change(x),))


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """Draw the weights once for all tests of a kind."""
    torch.manual_seed(0)
    case = (CASES | SMALL)[request.param]
    model, x = drawn(case), case.images(2)
    with torch.no_grad():
        return Kind(case, model, x, model(x))


def test_an_image_has_the_same_answer_alone_and_again(kind):
    with torch.no_grad():
        assert torch.equal(kind.model(kind.x), kind.y)
        assert_close(kind.model(kind.x[:1]), kind.y[:1], 1e-4)
    assert kind.y.isfinite().all()
    assert not torch.equal(kind.y[0], kind.y[1])


def test_state_dict_carries_all_that_the_output_depends_on(kind):
    twin = copy.deepcopy(shapes(kind.case))
    twin.load_state_dict(kind.model.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        assert torch.equal(twin(kind.x), kind.y)


def test_channels_last_changes_only_the_layout(kind):
    def change(t):
        last = torch.channels_last if t.ndim == 4 else torch.contiguous_format
        return t.to(memory_format=last)

    assert_close(kind.run(change=change), kind.y, 1e-4)


# The worst that was seen: 0.015 and 0.0018.
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [(Tensor.bfloat16, 0.028), (Tensor.half, 0.004)],
    ids=["bfloat16", "float16"],
)
def test_half_precision_agrees_to_its_digits(kind, change, tolerance):
    if kind.case is CASES["darknet53"] and change is Tensor.half:
        pytest.skip("with these weights its sums exceed half precision")
    y = kind.run(change=change)
    assert y.dtype == change(torch.zeros(())).dtype
    assert_close(y.float(), kind.y, tolerance)
    with pytest.raises(AssertionError):
        assert_close(y.float().flip(0), kind.y, tolerance)


def test_gradient_reaches_every_parameter(kind):
    model = copy.deepcopy(kind.model).train()
    y = model(kind.case.images(4))
    outputs = [y] if isinstance(y, Tensor) else y
    sum(o.square().sum() for o in outputs).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


# ----------------------------------------------------------------- feature maps

BACKBONES = [n for n in KINDS if "lenet" not in n and "darknet" not in n]


@cases(*BACKBONES, "vgg16_c", "resnet50", "densenet121", "googlenet_bn")
def test_feature_maps_have_the_channels_and_strides_that_are_told(case):
    model, size = shapes(case), 8 * max(case.size // 8, 8)
    sizes = []
    for more in (0, 2 * model.strides[-1]):
        x = case.images(1, size + more).to("meta")
        maps = model.feature_maps(x)
        assert tuple(m.shape[1] for m in maps) == model.channels
        sizes.append([m.shape[2] for m in maps])
    # So many pixels more of the image are so many more of the map.
    assert [
        2 * model.strides[-1] // (after - before)
        for before, after in zip(*sizes, strict=True)
    ] == list(model.strides)
    pyramid = FPN(model.channels, 6).to("meta")
    found = pyramid(maps)
    assert [y.shape[1:] for y in found] == [(6, *m.shape[2:]) for m in maps]


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "densenet121"])
def test_feature_maps_are_those_of_figure_3(name):
    model = shapes(CASES[name])
    assert model.strides == (4, 8, 16, 32)
    x = torch.empty(1, 3, 256, 256, device="meta")
    sizes = [m.shape[2] for m in model.feature_maps(x)]
    assert sizes == [64, 32, 16, 8]


def test_the_head_reads_the_last_feature_map(kind):
    if not hasattr(kind.model, "feature_maps"):
        pytest.skip("has no feature maps")
    seen = []
    hook = kind.model.avgpool.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].clone())
    )
    with torch.no_grad():
        kind.model(kind.x)
        *_, last = kind.model.feature_maps(kind.x)
    hook.remove()
    assert torch.equal(seen[0], last)


# ----------------------------------------------------------- graphs and exports


def test_a_trace_computes_the_same_and_still_checks(kind):
    traced = fx.symbolic_trace(kind.model)
    with torch.no_grad():
        assert torch.equal(traced(kind.x), kind.y)
    with pytest.raises(ValueError, match="input must be"):
        traced(kind.x[:, :, :0])


@cases(*BACKBONES)
def test_a_trace_gives_the_feature_maps_that_are_cut_out_of_it(case):
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = copy.deepcopy(shapes(case))
            self.fpn = FPN(self.backbone.channels, 2).to("meta")

        def forward(self, x):
            return self.fpn(self.backbone.feature_maps(x))

    traced = fx.symbolic_trace(Maps())
    # What feeds the pyramid's 1×1 becomes the output, as in
    # `create_feature_extractor`; what comes after is dropped.
    inner = [n for n in traced.graph.nodes if "inner" in str(n.target)]
    found = [n.args[0] for n in inner][::-1]
    (out,) = (n for n in traced.graph.nodes if n.op == "output")
    out.args = (found,)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    x = case.images(1).to("meta")
    expected = shapes(case).feature_maps(x)
    assert [m.shape for m in traced(x)] == [m.shape for m in expected]
    assert not [n for n, _ in traced.named_modules() if "fpn" in n]


@cases("lenet5", "alexnet_two_groups", "googlenet", "darknet19", *SMALL)
def test_compiles_into_one_graph(case):
    torch.compiler.reset()
    model, x = drawn(case), case.images(2)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        assert_close(compiled(x), model(x), 1e-5)


# torch's own use of what torch deprecates.
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"
)
def test_inductor_compiles_what_eager_computes():
    torch.compiler.reset()
    model, x = LeNet().eval(), torch.randn(2, 1, 28, 28)
    compiled = torch.compile(model, fullgraph=True)
    with torch.inference_mode():
        assert_close(compiled(x), model(x), 1e-5)


@cases("lenet5", "alexnet", "nin")
def test_exports_with_a_free_batch_size(case):
    model, x = drawn(case), case.images(2)
    batch = {0: torch.export.Dim("n")}
    program = torch.export.export(model, (x,), dynamic_shapes=(batch,))
    x = case.images(3)
    with torch.inference_mode():
        assert_close(program.module()(x), model(x), 1e-5)


# torch's own use of what torch deprecates.
@pytest.mark.filterwarnings(
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
)
@cases("lenet5", "lenet", "alexnet_two_groups", "googlenet", *FREE_SIZES)
def test_onnx_runtime_computes_what_eager_computes(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = drawn(case), case.images(2)
    free = any(case is (CASES | SMALL)[name] for name in FREE_SIZES)
    axes = dict.fromkeys((0, 2, 3) if free else (0,), torch.export.Dim.DYNAMIC)
    program = torch.onnx.export(
        model, (x,), dynamo=True, verbose=False, dynamic_shapes=(axes,)
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    s = case.small
    x = torch.randn(3, case.in_channels, *((s + 13, s + 6) if free else (s, s)))
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.inference_mode():
        assert_close(torch.from_numpy(y), model(x), 1e-4)


# ---------------------------------------------------- normalization folded away


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("resnet18", 0),
        ("resnet_bottleneck", 0),
        ("vgg11_bn", 0),
        ("googlenet_bn", 0),
        ("darknet53", 0),
        # Before the convolutions of a block, where maps meet, and at the end.
        ("densenet121", 58 + 3 + 1),
    ],
)
def test_normalizations_fold_into_the_convolutions_before_them(name, kept):
    case = (CASES | SMALL)[name]
    model, x = drawn(case), case.images(2)
    before = {k: t.clone() for k, t in model.named_buffers()}
    fused = fuse_network(model)
    norms = [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == kept
    assert type(fused) is type(model)
    with torch.inference_mode():
        assert_close(fused(x), model(x), 1e-4)
    assert all(torch.equal(t, before[k]) for k, t in model.named_buffers())


# ------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("name", "momentum"),
    [("darknet19", 0.01), ("darknet53", 0.01), ("resnet_basic", 0.1)],
)
def test_running_statistics_take_the_published_step(name, momentum):
    case = (CASES | SMALL)[name]
    model = drawn(case).train()
    (norms,) = ([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)],)
    inputs = {}
    for norm in norms:
        norm.running_mean.zero_()
        norm.register_forward_pre_hook(
            lambda m, args: inputs.update({m: args[0].mean((0, 2, 3))})
        )
    with torch.no_grad():
        model(case.images(2))
    for norm in norms:
        torch.testing.assert_close(norm.running_mean, momentum * inputs[norm])
