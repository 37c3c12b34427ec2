"""The recurrence and the gradient find the same receptive fields."""

from collections.abc import Callable

import pytest
from torch import nn

from snippets.core.geometry import Branches, Layer
from snippets.core.geometry import receptive_field as by_recurrence
from snippets.measure.receptive_field import receptive_field as by_gradient
from snippets.networks import (
    alexnet,
    densenet,
    inception,
    lenet,
    nin,
    resnet,
    resnet_cifar,
    vgg,
)


def chain(module: nn.Module) -> list[Layer | Branches]:
    """Describe a module for the recurrence, along the height."""
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        settings = [
            value if isinstance(value, int) else value[0]
            for value in (
                module.kernel_size,
                module.stride,
                module.padding,
                getattr(module, "dilation", 1),
            )
        ]
        return [Layer(*settings)]
    if isinstance(module, resnet.Pad):
        return [Layer(1, module.stride)]
    if isinstance(module, (resnet.BasicBlock, resnet.Bottleneck)):
        convs = [m for m in module.children() if isinstance(m, nn.Conv2d)]
        if module.downsample is None:
            return [layer for conv in convs for layer in chain(conv)]
        path = [layer for conv in convs for layer in chain(conv)]
        return [Branches((path, chain(module.downsample)))]
    if isinstance(module, inception.Inception):
        return [Branches([chain(branch) for branch in module.children()])]
    if isinstance(module, densenet.DenseBlock):
        return [Branches(([], chain(layer))) for layer in module.values()]
    return [layer for child in module.children() for layer in chain(child)]


def path(model: nn.Module, *names: str) -> list[Layer | Branches]:
    return [part for name in names for part in chain(model.get_submodule(name))]


# factory, the layers up to the one that is measured, and an input in which
# the field of its central unit fits.
CASES: dict[str, tuple[Callable[..., nn.Module], list[str], int]] = {
    "lenet": (lenet.LeNet, ["conv1", "pooling", "conv2"], 28),
    "alexnet": (alexnet.alexnet, ["features"], 256),
    "alexnet_two_groups": (alexnet.alexnet_two_groups, ["features"], 256),
    "vgg11": (vgg.vgg11, ["features"], 224),
    "nin": (nin.nin, ["features"], 256),
    "resnet18": (
        resnet.resnet18,
        ["conv1", "maxpool", "layer1", "layer2", "layer3"],
        320,
    ),
    "resnet50": (
        resnet.resnet50,
        ["conv1", "maxpool", "layer1", "layer2"],
        192,
    ),
    "resnet50 v1": (
        lambda: resnet.resnet50(v1=True),
        ["conv1", "maxpool", "layer1", "layer2"],
        192,
    ),
    "resnet20_cifar": (
        resnet_cifar.resnet20_cifar,
        ["conv1", "layer1", "layer2", "layer3"],
        128,
    ),
    "plain20_cifar": (
        resnet_cifar.plain20_cifar,
        ["conv1", "layer1", "layer2", "layer3"],
        128,
    ),
    "googlenet": (
        inception.googlenet,
        [
            "conv1",
            "pool",
            "conv2",
            "conv3",
            "pool",
            "inception3a",
            "inception3b",
            "pool",
            "inception4a",
        ],
        256,
    ),
    "densenet121": (
        densenet.densenet121,
        [
            "features.conv0",
            "features.pool0",
            "features.denseblock1",
            "features.transition1",
            "features.denseblock2",
        ],
        320,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_recurrence_agrees_with_the_support_of_the_gradient(name: str) -> None:
    build, names, size = CASES[name]
    model = build()
    channels = 1 if name == "lenet" else 3
    field = by_recurrence(path(model, *names))
    count = sum(1 for n in range(size) if field.start + n * field.jump < size)
    box = by_gradient(model, (channels, size, size), layer=names[-1])
    unit, rest = divmod(box.start[0] - field.start, field.jump)
    assert rest == 0, (box, field)
    assert 0 < unit < count
    assert box.start[0] > 0
    assert box.stop[0] < size, "the field must fit into the input"
    assert box.stop[0] - box.start[0] == field.size
    assert box.start == (box.start[0],) * 2
