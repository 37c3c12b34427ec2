"""The ResNets for CIFAR-10, of section 4.2. Needs `resnet.py` beside it."""

from typing import Unpack

try:
    from .resnet import BasicBlock, Options, ResNet
except ImportError:  # copied into a folder that is no package
    from resnet import (  # type: ignore[import-not-found,no-redef]
        BasicBlock,
        Options,
        ResNet,
    )


# --8<-- [start:cifar]
def resnet_cifar(depth: int, **options: Unpack[Options]) -> ResNet:
    """Build the network of section 4.2 with `depth` = 6n + 2 layers."""
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"{depth=} must be 6n + 2, from 8 on")
    depths = ((depth - 2) // 6,) * 3
    chosen: Options = {"small": True, "shortcut": "A", "num_classes": 10}
    chosen.update(options)
    return ResNet(BasicBlock, depths, widths=(16, 32, 64), **chosen)


def plain_cifar(depth: int, **options: Unpack[Options]) -> ResNet:
    """Build the same network without shortcuts."""
    options["shortcut"] = None
    return resnet_cifar(depth, **options)


# --8<-- [end:cifar]
def resnet20_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 20 layers for CIFAR-10."""
    return resnet_cifar(20, **options)


def resnet32_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 32 layers for CIFAR-10."""
    return resnet_cifar(32, **options)


def resnet44_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 44 layers for CIFAR-10."""
    return resnet_cifar(44, **options)


def resnet56_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 56 layers for CIFAR-10."""
    return resnet_cifar(56, **options)


def resnet110_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 110 layers for CIFAR-10."""
    return resnet_cifar(110, **options)


def resnet1202_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 1202 layers for CIFAR-10."""
    return resnet_cifar(1202, **options)


def plain20_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 20 layers for CIFAR-10, without shortcuts."""
    return plain_cifar(20, **options)


def plain32_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 32 layers for CIFAR-10, without shortcuts."""
    return plain_cifar(32, **options)


def plain44_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 44 layers for CIFAR-10, without shortcuts."""
    return plain_cifar(44, **options)


def plain56_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 56 layers for CIFAR-10, without shortcuts."""
    return plain_cifar(56, **options)


def plain110_cifar(**options: Unpack[Options]) -> ResNet:
    """Build 110 layers for CIFAR-10, without shortcuts."""
    return plain_cifar(110, **options)
