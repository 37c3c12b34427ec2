import pytest
import torch
from torch import nn

from snippets.networks.nin import nin, nin_block, nin_cifar10


def test_a_block_is_a_perceptron_slid_over_the_pixels():
    block = nin_block(3, (8, 6, 4), 3, padding=1).double()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    patches = torch.nn.functional.unfold(x, 3, padding=1).transpose(1, 2)
    h = patches  # (n, pixels, 27)
    for layer in block[::2]:
        w = layer.weight.flatten(1)
        h = torch.relu(h @ w.T + layer.bias)
    expected = h.transpose(1, 2).reshape(2, 4, 5, 7)
    torch.testing.assert_close(block(x), expected)


def test_logits_are_the_means_of_the_last_maps():
    model, x = nin_cifar10().eval(), torch.randn(2, 3, 40, 32)
    with torch.inference_mode():
        maps = model.features(x)
        assert maps.shape == (2, 10, 10, 8)
        torch.testing.assert_close(model(x), maps.mean((2, 3)))


@pytest.mark.parametrize("classes", [10, 100])
def test_the_head_has_no_parameters_beyond_one_map_a_class(classes):
    with torch.device("meta"):
        model = nin_cifar10(num_classes=classes)
    count = sum(p.numel() for p in model.parameters())
    assert count == 966_986 + (classes - 10) * (192 + 1)


# conv1, cccp1, cccp2, … as in the two train_val.prototxt of the release.
STDS = {
    nin: [0.01, *[0.05] * 5, 0.01, *[0.05] * 4, 0.01],
    nin_cifar10: [0.05] * 9,
}


@pytest.mark.parametrize("build", STDS)
def test_initial_weights_are_those_of_the_release(build):
    convs = [m for m in build().modules() if isinstance(m, nn.Conv2d)]
    for conv, std in zip(convs, STDS[build], strict=True):
        n = conv.weight.numel()
        found = conv.weight.std().item()
        assert found == pytest.approx(std, rel=5 / (2 * n) ** 0.5)
        assert not conv.bias.any()


def test_poolings_round_up_as_caffe_does():
    with torch.device("meta"):
        model = nin().eval()
    x, sizes = torch.empty(1, 3, 224, 224, device="meta"), []
    for layer in model.features:
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            sizes.append(x.shape[2])
    assert sizes == [27, 13, 6]  # the release averages 6×6 at the end
