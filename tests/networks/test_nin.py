import pytest
import torch

from snippets.networks.nin import nin_block, nin_cifar10


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
