import pytest
import torch
from torch import nn

from snippets.networks.vgg import DEPTHS, VGG, from_timm, vgg16, vgg16_c


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


def test_timms_checkpoint_fits_once_its_layers_are_renamed():
    with torch.device("meta"):
        model = VGG(11, batch_norm=True)
    ours = {k: torch.empty_like(t) for k, t in model.state_dict().items()}
    # As `timm.models.vgg` names and shapes what differs.
    theirs = {k: t for k, t in ours.items() if not k.startswith("classifier")}
    for name, shape in {
        "pre_logits.fc1": (4096, 512, 7, 7),
        "pre_logits.fc2": (4096, 4096, 1, 1),
        "head.fc": (1000, 4096),
    }.items():
        theirs[f"{name}.weight"] = torch.empty(shape, device="meta")
        theirs[f"{name}.bias"] = torch.empty(shape[0], device="meta")
    model.load_state_dict(from_timm(theirs), strict=True, assign=True)


def test_timms_first_convolution_is_our_first_linear_layer():
    w, x = torch.randn(8, 512, 7, 7), torch.randn(2, 512, 7, 7)
    state = from_timm({"pre_logits.fc1.weight": w})
    y = x.flatten(1) @ state["classifier.0.weight"].T
    expected = nn.functional.conv2d(x, w)[:, :, 0, 0]
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-3)
