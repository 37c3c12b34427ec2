import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from snippets.core.activation import relu, relu_backward
from snippets.core.conv import conv2d, conv2d_backward
from snippets.core.linear import linear, linear_backward
from snippets.core.loss import cross_entropy, cross_entropy_backward
from snippets.core.pool import max_pool2d, max_pool2d_backward

SHAPES = [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def lenet_loss_and_gradients(x, labels, weights, biases):
    """Run LeNet, as it is taught today, forward and back."""
    tape = []
    for layer in (0, 1):
        z = conv2d(x, weights[layer], biases[layer], padding=2 - 2 * layer)
        y, indices = max_pool2d(relu(z), 2, return_indices=True)
        tape.append((x, z, indices))
        x = y
    flat = x.reshape(len(x), -1)
    for layer in (2, 3, 4):
        z = linear(flat, weights[layer], biases[layer])
        tape.append((flat, z, None))
        flat = relu(z)
    loss = cross_entropy(z, labels)
    dz = cross_entropy_backward(z, labels)
    dw, db = [None] * 5, [None] * 5
    for layer in (4, 3, 2):
        flat, _, _ = tape[layer]
        dx, dw[layer], db[layer] = linear_backward(dz, flat, weights[layer])
        if layer > 2:
            dz = relu_backward(dx, tape[layer - 1][1])
    dx = dx.reshape(x.shape)
    for layer in (1, 0):
        x, z, indices = tape[layer]
        dz = relu_backward(max_pool2d_backward(dx, indices, z.shape), z)
        dx, dw[layer], db[layer] = conv2d_backward(
            dz, x, weights[layer], padding=2 - 2 * layer
        )
    return loss, dw, db


def torch_lenet(x, weights, biases):
    for layer in (0, 1):
        x = F.conv2d(x, weights[layer], biases[layer], padding=2 - 2 * layer)
        x = F.max_pool2d(F.relu(x), 2)
    x = x.flatten(1)
    for layer in (2, 3):
        x = F.relu(F.linear(x, weights[layer], biases[layer]))
    return F.linear(x, weights[4], biases[4])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)]
)
def test_lenet_learns_step_by_step_as_with_torch(dtype, tolerance):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 1, 28, 28)).astype(dtype)
    labels = rng.integers(0, 10, 16)
    weights, biases = [], []
    for shape in SHAPES:
        scale = (2 / np.prod(shape[1:])) ** 0.5
        weights.append((rng.standard_normal(shape) * scale).astype(dtype))
        biases.append(np.zeros(shape[0], dtype))
    theirs = [
        [torch.tensor(a.copy(), requires_grad=True) for a in arrays]
        for arrays in (weights, biases)
    ]
    optimizer = torch.optim.SGD([*theirs[0], *theirs[1]], lr=0.05)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        expected = F.cross_entropy(
            torch_lenet(torch.tensor(x), *theirs), torch.tensor(labels)
        )
        expected.backward()
        optimizer.step()
        loss, dw, db = lenet_loss_and_gradients(x, labels, weights, biases)
        for values, gradients in ((weights, dw), (biases, db)):
            for value, gradient in zip(values, gradients, strict=True):
                assert gradient.dtype == dtype
                value -= dtype(0.05) * gradient
        assert loss == pytest.approx(expected.item(), rel=tolerance)
        losses.append(loss)
    assert losses[-1] < losses[0] / 2
    for a, b in zip(weights + biases, theirs[0] + theirs[1], strict=True):
        np.testing.assert_allclose(a, b.detach(), tolerance, tolerance)
