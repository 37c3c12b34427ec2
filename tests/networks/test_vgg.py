import pytest
import torch
from torch import nn

from snippets.networks.vgg import DEPTHS, VGG, vgg16, vgg16_c


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


def kernel_sizes(model):
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return [conv.kernel_size for conv in convs]


def test_column_c_has_1x1_for_the_third_of_a_stage():
    with torch.device("meta"):
        c, d = vgg16_c(), vgg16()
    assert set(kernel_sizes(d)) == {(3, 3)}
    small = [i for i, k in enumerate(kernel_sizes(c)) if k == (1, 1)]
    assert small == [6, 9, 12]
    saved = sum(8 * width**2 for width in (256, 512, 512))
    count = [sum(p.numel() for p in m.parameters()) for m in (c, d)]
    assert count[1] - count[0] == saved
    assert round(count[0] / 1e6) == 134  # table 2


def test_column_c_is_of_sixteen_layers():
    with pytest.raises(ValueError, match=r"column_c=True .* not depth=19"):
        VGG(19, column_c=True)
