"""What holds of every network: one case a factory."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from snippets.networks.alexnet import alexnet, alexnet_two_groups
from snippets.networks.darknet import darknet19, darknet53
from snippets.networks.densenet import (
    densenet100_cifar,
    densenet121,
    densenet161,
    densenet169,
    densenet190_cifar,
    densenet201,
    densenet250_cifar,
)
from snippets.networks.inception import googlenet, googlenet_bn
from snippets.networks.lenet import LeNet, lenet5
from snippets.networks.nin import nin, nin_cifar10
from snippets.networks.resnet import (
    plain20_cifar,
    plain32_cifar,
    plain44_cifar,
    plain56_cifar,
    plain110_cifar,
    resnet18,
    resnet20_cifar,
    resnet32_cifar,
    resnet34,
    resnet44_cifar,
    resnet50,
    resnet56_cifar,
    resnet101,
    resnet110_cifar,
    resnet152,
)
from snippets.networks.vgg import vgg11, vgg13, vgg16, vgg19

FILES = Path(__file__).parents[2] / "snippets" / "networks"


@dataclass(frozen=True)
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
vgg = partial(imagenet, smallest=32, small=32)
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
        smallest=67,
        parameters=7_595_176,
        stages={
            "features.0": (96, 54),
            "features.2": (256, 26),
            "features.4": (384, 12),
            "features.7": (1000, 5),
            "avgpool": (1000, 1),
        },
    ),
    "nin_cifar10": Case(
        nin_cifar10,
        size=32,
        smallest=4,
        parameters=966_986,
        stages={
            "features.0": (96, 32),
            "features.3": (192, 16),
            "features.6": (10, 8),
        },
        num_classes=10,
        small=32,
    ),
    "googlenet": imagenet(
        googlenet,
        smallest=31,
        parameters=6_998_552,
        macs=1_582_671_872,
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_aux": imagenet(
        partial(googlenet, aux=True),
        smallest=31,
        parameters=13_378_280,
        macs=1_582_671_872,
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_bn": imagenet(
        googlenet_bn,
        smallest=15,
        parameters=6_624_904,
        macs=1_498_376_192,
        oracle="googlenet.GoogLeNet",
        oracle_options={"aux_logits": False, "init_weights": True},
        stages=GOOGLENET_STAGES,
    ),
    "googlenet_bn_aux": imagenet(
        partial(googlenet_bn, aux=True),
        smallest=15,
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

# One network of each kind, for what depth does not change.
KINDS = [
    "lenet5",
    "lenet",
    "alexnet",
    "alexnet_two_groups",
    "vgg11",
    "vgg11_bn",
    "nin",
    "nin_cifar10",
    "googlenet",
    "googlenet_bn_aux",
    "resnet18",
    "resnet50",
    "resnet50_v1",
    "resnet20_cifar",
    "plain20_cifar",
    "densenet121",
    "darknet19",
    "darknet53",
]


def cases(*names: str) -> pytest.MarkDecorator:
    chosen = names or tuple(CASES)
    return pytest.mark.parametrize(
        "case", [pytest.param(CASES[n], id=n) for n in chosen]
    )


def on_meta(case: Case, **options: int) -> nn.Module:
    """Build without numbers: shapes and counts cost nothing."""
    with torch.device("meta"):
        return case.build(**options).eval()


def fill(model: nn.Module) -> nn.Module:
    """Draw weights, biases and statistics that no layer can pass over."""
    noise = torch.randn(100_003)
    for name, t in model.to_empty(device="cpu").state_dict().items():
        if not t.is_floating_point():
            t.zero_()
            continue
        copies = noise.repeat(t.numel() // len(noise) + 1)
        t.copy_(copies[: t.numel()].view_as(t))
        if t.ndim > 1:
            t.mul_((2 / t[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            t.mul_(0.2).exp_()
        else:
            t.mul_(0.1).add_(float(name.endswith("weight")))
    return model


def drawn(case: Case) -> nn.Module:
    """Build with random weights, cheaper than by initialization."""
    return fill(on_meta(case))


def assert_close(y: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare by the largest of the expected values."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(y, expected, rtol=0, atol=tolerance * scale)


@cases()
def test_parameters_are_as_published(case):
    count = sum(p.numel() for p in on_meta(case).parameters())
    assert count == case.parameters


@cases(*(n for n, c in CASES.items() if c.macs))
def test_multiply_adds_are_as_published(case):
    x = case.images(1, case.size).to("meta")
    with FlopCounterMode(display=False) as counter:
        on_meta(case)(x)
    assert counter.get_total_flops() == 2 * case.macs


@cases()
def test_each_stage_has_the_published_shape(case):
    model, found = on_meta(case), {}
    for name in case.stages:
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: found.update({name: tuple(y.shape)})
        )
    y = model(case.images(2, case.size).to("meta"))
    assert y.shape == (2, case.num_classes)
    assert found == {n: (2, c, s, s) for n, (c, s) in case.stages.items()}


@cases()
def test_gradient_reaches_every_parameter(case):
    model = drawn(case).train()
    y = model(case.images(4))
    outputs = [y] if isinstance(y, Tensor) else y
    sum(o.square().sum() for o in outputs).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


@cases()
def test_eval_gives_each_image_the_same_answer_alone_and_again(case):
    model, x = drawn(case).eval(), case.images(2)
    with torch.inference_mode():
        y = model(x)
        assert torch.equal(model(x), y)
        assert_close(model(x[:1]), y[:1], 1e-4)
    assert y.isfinite().all()
    assert not torch.equal(y[0], y[1])


@cases()
def test_state_dict_carries_all_that_the_output_depends_on(case):
    model, x = drawn(case).eval(), case.images(1)
    twin = on_meta(case)
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)
    with torch.inference_mode():
        assert torch.equal(twin(x), model(x))


@cases(*(n for n in CASES if n != "lenet5"))
def test_num_classes_and_in_channels_are_free(case):
    model = on_meta(case, num_classes=7, in_channels=5)
    x = torch.empty(2, 5, case.size, case.size, device="meta")
    assert model(x).shape == (2, 7)


@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
@cases(*(n for n in CASES if n != "lenet5"))
def test_an_option_below_one_is_named(case, option):
    with pytest.raises(ValueError, match=f"{option}=0"):
        on_meta(case, **{option: 0})


@cases()
def test_smallest_input_passes(case):
    model, s = on_meta(case), case.smallest
    for shape in ((s, s), (s, case.size), (case.size, s)):
        x = torch.empty(2, case.in_channels, *shape, device="meta")
        assert model(x).shape == (2, case.num_classes)


@cases()
def test_smaller_input_raises_an_error_that_says_what_is_needed(case):
    model, s = on_meta(case), case.smallest
    for shape in ((s - 1, s), (s, s - 1)):
        x = torch.empty(2, case.in_channels, *shape, device="meta")
        with pytest.raises(ValueError, match=rf"\b{s}\b.*got") as error:
            model(x)
        assert str(tuple(x.shape)) in str(error.value)


@cases()
def test_wrong_channels_raise_an_error_that_says_what_is_needed(case):
    model, c, s = on_meta(case), case.in_channels, case.size
    for shape in ((2, c + 1, s, s), (c, s, s)):
        x = torch.empty(shape, device="meta")
        with pytest.raises(ValueError, match=rf"\(n, {c}, h, w\)") as error:
            model(x)
        assert str(shape) in str(error.value)


@cases(*(n for n, c in CASES.items() if c.oracle))
def test_checkpoint_fits_and_gives_torchvisions_output_in_both_modes(
    case, oracle
):
    with torch.device("meta"):
        theirs = oracle(case.oracle, **case.oracle_options)
    theirs, ours = fill(theirs), case.build()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for m in (*ours.modules(), *theirs.modules()):
        if isinstance(m, nn.Dropout):
            m.p = 0.0  # the two would drop different units
    x = case.images(2)
    for training in (False, True):
        with torch.no_grad():
            y, expected = ours.train(training)(x), theirs.train(training)(x)
        if isinstance(y, tuple):
            y = torch.stack([y.logits, y.aux2, y.aux1])  # in their order
            expected = torch.stack(expected)
        assert_close(y, expected, 1e-5)
    for name, t in theirs.named_buffers():  # statistics after training
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


@cases(*(n for n, c in CASES.items() if c.oracle))
def test_a_training_step_asks_for_no_more_than_torchvisions(case, oracle):
    done = []
    for build in (case.build, partial(oracle, case.oracle)):
        options = {} if build is case.build else case.oracle_options
        with torch.device("meta"):
            model = build(**options).train()
        with Operations() as operations:
            y = model(case.images().to("meta"))
            sum(
                o.sum() for o in (y if isinstance(y, tuple) else [y])
            ).backward()
        done.append(operations.done)
    ours, theirs = done
    assert theirs
    assert not ours - theirs


@cases(
    "alexnet",
    "vgg11_bn",
    "googlenet_bn_aux",
    "resnet18",
    "resnet50",
    "densenet121",
)
def test_same_seed_draws_torchvisions_initial_weights(case, oracle):
    ours = case.build(num_classes=10).state_dict()
    torch.manual_seed(0)
    options = {**case.oracle_options, "num_classes": 10}
    theirs = oracle(case.oracle, **options).state_dict()
    assert list(ours) == list(theirs)
    for name, t in theirs.items():
        assert torch.equal(ours[name], t), name


@cases(*KINDS)
def test_channels_last_changes_only_the_layout(case):
    model, x = drawn(case), case.images(2)
    with torch.inference_mode():
        expected = model(x)
        model = model.to(memory_format=torch.channels_last)
        y = model(x.to(memory_format=torch.channels_last))
    assert_close(y, expected, 1e-4)


@cases(*KINDS)
def test_bfloat16_agrees_to_its_precision(case):
    model, x = drawn(case), case.images(2)
    with torch.inference_mode():
        expected = model(x)
        y = model.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), expected, 0.1)


@cases(*KINDS)
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


@cases(*KINDS)
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
@cases(*(n for n in KINDS if n not in ("vgg11", "resnet50_v1")))
def test_onnx_runtime_computes_what_eager_computes(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = drawn(case), case.images(2)
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.inference_mode():
        assert_close(torch.from_numpy(y), model(x), 1e-4)


def test_each_file_works_alone_in_an_empty_folder(tmp_path):
    code = [
        "import importlib.util, sys, torch",
        "def load(path):",
        "    spec = importlib.util.spec_from_file_location('alone', path)",
        "    module = importlib.util.module_from_spec(spec)",
        "    spec.loader.exec_module(module)",
        "    return module",
    ]
    used = {
        "lenet": ("lenet5()", (1, 1, 32, 32)),
        "alexnet": ("alexnet()", (1, 3, 63, 63)),
        "vgg": ("vgg11(batch_norm=True)", (1, 3, 32, 32)),
        "nin": ("nin_cifar10()", (1, 3, 32, 32)),
        "inception": ("googlenet(aux=True)", (1, 3, 64, 64)),
        "resnet": ("resnet18()", (1, 3, 64, 64)),
        "densenet": ("densenet100_cifar()", (1, 3, 8, 8)),
    }
    stems = {p.stem for p in FILES.glob("*.py")} - {"__init__"}
    assert set(used) <= stems
    for stem, (call, shape) in used.items():
        folder = tmp_path / stem
        folder.mkdir()
        shutil.copy(FILES / f"{stem}.py", folder)
        path = str(folder / f"{stem}.py")
        code += [
            f"y = load({path!r}).{call}.eval()(torch.rand({shape}))",
            "assert y.isfinite().all()",
        ]
    code.append("assert not any(m.startswith('snippets') for m in sys.modules)")
    subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", "\n".join(code)],
        cwd=tmp_path,
        check=True,
    )
