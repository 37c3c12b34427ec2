import pytest
import torch
from torch import nn

from snippets.networks.vgg import DEPTHS, VGG


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_name_counts_the_layers_with_weights(depth):
    with torch.device("meta"):
        model = VGG(depth)
    layers = [
        m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    assert len(layers) == depth


def test_unknown_depth_raises_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"depth=12 .*\(11, 13, 16, 19\)"):
        VGG(12)
