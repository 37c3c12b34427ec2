import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from snippets.core import geometry
from snippets.core.geometry import Branches, Layer
from snippets.measure.receptive_field import (
    Box,
    effective_field,
    effective_size,
    receptive_field,
)

torch.manual_seed(0)


class Call(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.m = nn.ModuleList(modules)

    def forward(self, x):
        return self.function(*self.m, x)


def conv(k=3, stride=1, padding=0, cin=2, cout=2):
    return nn.Conv2d(cin, cout, k, stride, padding)


def dead(net):
    """Set weights to 0 and biases so low that ReLU lets nothing through."""
    for p in net.parameters():
        nn.init.constant_(p, 0.0 if p.ndim > 1 else -5.0)
    return net


NETS = {
    "plain": nn.Sequential(conv((3, 2), (2, 1), 1), conv(3)),
    "relu": nn.Sequential(conv(), nn.ReLU(True), conv(), nn.ReLU6()),
    "dead": dead(nn.Sequential(conv(), nn.ReLU(), conv(), nn.Hardtanh())),
    "in place": nn.Sequential(nn.ReLU(True), conv()),
    "in place, result dropped": Call(
        lambda a, x: [y := a(x), F.relu(y, inplace=True)][0],
        dead(conv()),
    ),
    "max pool": nn.Sequential(conv(), nn.MaxPool2d(3, 2, 1), conv(2)),
    "max pool, ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max pool, indices": Call(
        lambda a, x: a(x)[0], nn.MaxPool2d((2, 3), return_indices=True)
    ),
    "adaptive": nn.Sequential(conv(), nn.AdaptiveMaxPool2d((4, 3))),
    "norm": nn.Sequential(conv(2), nn.BatchNorm2d(2), nn.ReLU(), conv(2)),
    "group norm": nn.Sequential(conv(2), nn.GroupNorm(1, 2), nn.ReLU()),
    "residual": Call(
        lambda a, b, x: F.relu(b(F.relu(a(x))) + x[:, :, 2:-2, 2:-2]),
        conv(),
        conv(),
    ),
    "maximum": Call(
        lambda a, b, x: torch.maximum(a(x), b(x)).amax(1, keepdim=True),
        conv(5, 1, 2),
        conv(1),
    ),
    "channel maximum": Call(
        lambda a, x: x * torch.max(a(x), dim=1, keepdim=True)[0], conv(3, 1, 1)
    ),
    "where": Call(
        lambda a, b, x: torch.where(x > 9, a(x), b(x)).relu_().clamp(min=3),
        conv(1),
        conv(3, 1, 1),
    ),
    "clamp by a map": Call(
        lambda a, x: x.clamp(min=-a(x).abs(), max=torch.ones(())),
        conv(3, 1, 1),
    ),
    "upsampled": nn.Sequential(
        conv(3, 2), nn.ReLU(), nn.Upsample(scale_factor=2), conv(2)
    ),
    "transposed": nn.Sequential(conv(3, 2), nn.ConvTranspose2d(2, 2, 4, 2, 1)),
    "dilated": nn.Conv2d(2, 2, 3, dilation=2),
    "depthwise": nn.Conv2d(2, 2, 3, groups=2),
}


def reached_by(net, shape, unit):
    """Put a NaN in each pixel in turn and see whether it gets to the unit."""
    net = copy.deepcopy(net).eval().double()
    c, h, w = shape
    x = torch.zeros(h * w, c, h, w, dtype=torch.float64)
    for i in range(h * w):
        x[i, :, i // w, i % w] = torch.nan
    with torch.no_grad():
        y = net(x)[(..., *unit)]
    seen = y.isnan().any(1).view(h, w).nonzero()
    return Box(tuple(seen.amin(0).tolist()), tuple((seen.amax(0) + 1).tolist()))


@pytest.mark.parametrize("name", NETS)
def test_box_holds_just_the_pixels_whose_change_gets_to_the_unit(name):
    net, shape = NETS[name], (2, 11, 12)
    with torch.no_grad():
        h, w = net.eval()(torch.zeros(1, *shape)).shape[2:]
    for unit in [(0, 0), (h // 2, w // 2), (h - 1, 0), (h - 1, w - 1)]:
        box = receptive_field(net, shape, unit=unit)
        assert box == reached_by(net, shape, unit)


def test_central_unit_of_a_chain_has_the_field_of_the_recurrence():
    chain = [Layer(7, 2, 3), Layer(3, 2, 1), Layer(3, 1, 2, 2), Layer(3, 1, 1)]
    net = nn.Sequential(
        conv(7, 2, 3),
        nn.MaxPool2d(3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3, padding=2, dilation=2),
        conv(3, 1, 1),
    )
    box = receptive_field(net, (2, 96, 96))
    size, jump, start = geometry.receptive_field(chain)
    assert box.size == (size, size)
    assert box.start == (start + 12 * jump,) * 2


def test_branches_have_the_field_of_their_largest_path():
    paths = [[], [Layer(1), Layer(5, 1, 2)], [Layer(3, 1, 1)] * 3]
    nets = [
        nn.Sequential(*(conv(k.kernel_size, 1, k.padding) for k in path))
        for path in paths
    ]
    net = Call(lambda *a: torch.cat([n(a[-1]) for n in a[:-1]], 1), *nets)
    box = receptive_field(net, (2, 15, 15))
    assert box.size == (geometry.receptive_field([Branches(paths)]).size,) * 2
    # a single channel sees through its own path only
    assert receptive_field(net, (2, 15, 15), channel=0).size == (1, 1)
    assert receptive_field(net, (2, 15, 15), channel=2).size == (5, 5)
    assert receptive_field(net, (2, 15, 15), channel=5).size == (7, 7)


def test_box_ends_at_the_edges_of_the_input():
    net = nn.Sequential(conv(5, 1, 2), conv(5, 1, 2))
    assert receptive_field(net, (2, 6, 20), unit=(0, 10)) == Box(
        (0, 6), (5, 15)
    )


def test_layer_is_found_by_name_at_its_first_call_and_the_rest_not_run():
    net = nn.Sequential(conv(), nn.ReLU(True), conv(), nn.Flatten())
    net.append(nn.Linear(1, 1))  # which does not fit
    assert receptive_field(net, (2, 9, 9), layer="0").size == (3, 3)
    assert receptive_field(net, (2, 9, 9), layer="2").size == (5, 5)
    twice = Call(lambda a, x: a(a(x)), conv())
    assert receptive_field(twice, (2, 9, 9), layer="m.0").size == (3, 3)
    assert receptive_field(twice, (2, 9, 9)).size == (5, 5)


def test_one_and_three_axes_are_measured():
    assert receptive_field(nn.Conv1d(1, 1, 3), (1, 9)).size == (3,)
    net = nn.Sequential(nn.Conv3d(1, 1, (1, 2, 3)), nn.MaxPool3d(2))
    assert receptive_field(net, (1, 6, 6, 8)).size == (2, 3, 4)


def test_vector_output_is_one_unit_that_sees_the_whole():
    net = nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(98, 5))
    assert receptive_field(net, (2, 9, 9), channel=3) == Box((0, 0), (9, 9))


def test_depth_does_not_wear_the_field_away():
    net = nn.Sequential(*(conv(3, 1, 1, 1, 1) for _ in range(250)))
    for p in net.parameters():
        nn.init.constant_(p, 1e-3)  # 1e-750 at the corner, were it a product
    assert receptive_field(net, (1, 505, 1), unit=(252, 0)).size == (501, 1)


def test_network_is_left_as_it_was():
    net = nn.Sequential(conv(), nn.BatchNorm2d(2), nn.Dropout())
    state = copy.deepcopy(net.state_dict())
    receptive_field(net, (2, 9, 9))
    effective_field(net, (2, 9, 9), samples=1)
    assert net.training
    assert net[0].weight.dtype == torch.float32
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name])


def test_network_is_measured_in_evaluation_mode():
    net = nn.Sequential(conv(), nn.BatchNorm2d(2), nn.Dropout(0.9))
    assert receptive_field(net.train(), (2, 9, 9)).size == (3, 3)
    assert effective_field(net.train(), (2, 9, 9)).count_nonzero() == 9


def test_gradients_are_found_where_they_are_switched_off():
    with torch.no_grad():
        assert receptive_field(conv(), (2, 9, 9)).size == (3, 3)
        assert effective_field(conv(), (2, 9, 9)).count_nonzero() == 9


# Effective field -----------------------------------------------------------


def mean_filters(n, k=3):
    net = nn.Sequential(
        *(nn.Conv2d(1, 1, k, padding=k // 2, bias=False) for _ in range(n))
    )
    for p in net.parameters():
        nn.init.constant_(p, 1 / k**2)
    return net


def test_field_of_mean_filters_is_their_repeated_convolution():
    line = np.ones(1)
    for _ in range(6):
        line = np.convolve(line, np.full(3, 1 / 3))
    field = effective_field(mean_filters(6), (1, 21, 21), samples=1)
    wanted = np.zeros((21, 21))
    wanted[4:17, 4:17] = np.outer(line, line)
    np.testing.assert_allclose(field, wanted, atol=1e-7)


def test_field_averages_magnitudes_over_inputs_and_sums_over_channels():
    net = Call(lambda x: (x * x).sum(1, keepdim=True))
    shape, n = (3, 4, 4), 5
    field = effective_field(net, shape, samples=n, unit=(1, 2), seed=7)
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn((1, *shape), generator=generator) for _ in range(n)]
    wanted = sum(2 * x[0, :, 1, 2].abs().sum() for x in inputs) / n
    assert field[1, 2] == pytest.approx(float(wanted), rel=1e-6)
    assert field.count_nonzero() == 1


def test_field_lies_within_the_receptive_field():
    net = nn.Sequential(conv(), nn.ReLU(True), nn.MaxPool2d(2), conv())
    box = receptive_field(net, (2, 20, 20), unit=(3, 4))
    field = effective_field(net, (2, 20, 20), unit=(3, 4))
    inside = tuple(map(slice, box.start, box.stop))
    assert field[inside].any()
    field[inside] = 0
    assert not field.any()


def test_layer_is_taken_before_what_writes_over_it():
    net = nn.Sequential(conv(1, cin=1, cout=1), Call(lambda x: x.zero_()))
    nn.init.constant_(net[0].weight, 2.0)
    field = effective_field(net, (1, 3, 3), layer="0")
    assert field[1, 1] == 2


def test_network_may_write_to_its_input():
    net = nn.Sequential(nn.ReLU(inplace=True), conv())
    assert effective_field(net, (2, 9, 9)).count_nonzero() == 9


def test_size_grows_as_the_root_of_depth():
    sizes = [
        effective_size(effective_field(mean_filters(n), (1, 81, 81), samples=1))
        for n in (4, 9, 16, 36)
    ]
    # n filters of variance 2/3: a Gaussian falls to 4.55 % at 2.486 sigma
    for n, size in zip((4, 9, 16, 36), sizes, strict=True):
        radius = np.sqrt(-2 * np.log(0.0455) * n * 2 / 3)
        assert size == pytest.approx(np.sqrt(np.pi) * radius, rel=0.08)
        assert size < 2 * n + 1


def test_size_is_the_side_of_a_square_of_the_area():
    field = torch.zeros(9, 9)
    field[2:6, 1:5] = 1.0
    assert effective_size(field) == 4
    field[0, 0] = 0.04  # below the threshold
    field[8, 8] = 0.05  # above it
    assert effective_size(field) == pytest.approx(17**0.5)
    assert effective_size(field, threshold=0.5) == 4
    assert effective_size(torch.ones(5)) == 5


# Errors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layer": "7"}, "`layer='7'` is none of"),
        ({"unit": (1,)}, r"`unit=\(1,\)` is no position of \(7, 7\)"),
        ({"unit": (7, 0)}, r"`unit=\(7, 0\)` is no position"),
        ({"unit": (-1, 0)}, r"`unit=\(-1, 0\)` is no position"),
        ({"channel": 2}, "`channel=2` is none of 2"),
        ({"channel": -1}, "`channel=-1` is none of 2"),
    ],
)
@pytest.mark.parametrize("measure", [receptive_field, effective_field])
def test_unit_that_does_not_exist_is_refused(measure, kwargs, message):
    with pytest.raises(ValueError, match=message):
        measure(nn.Sequential(conv()), (2, 9, 9), **kwargs)


@pytest.mark.parametrize("shape", [(), (3,), (3, 0, 4)])
@pytest.mark.parametrize("measure", [receptive_field, effective_field])
def test_shape_without_pixels_is_refused(measure, shape):
    with pytest.raises(ValueError, match="`input_shape="):
        measure(conv(), shape)


def test_model_that_cannot_be_measured_is_refused():
    with pytest.raises(TypeError, match="`model` must be"):
        receptive_field(F.relu, (2, 9, 9))
    with pytest.raises(ValueError, match="without values"):
        receptive_field(nn.Conv2d(2, 2, 3, device="meta"), (2, 9, 9))
    with pytest.raises(ValueError, match="without values"):
        receptive_field(nn.LazyConv2d(2, 3), (2, 9, 9))
    with pytest.raises(ValueError, match="dilation=2"):
        receptive_field(nn.MaxPool2d(2, dilation=2), (2, 9, 9))
    with pytest.raises(ValueError, match="calls sort"):
        receptive_field(Call(lambda x: x.sort(2)[0]), (2, 9, 9))
    with pytest.raises(TypeError, match="not tuple: name a `layer`"):
        receptive_field(Call(lambda x: (x, x)), (2, 9, 9))


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x, a: x * (a(x) > 0), "mul"),
        (lambda x, a: x + (a(x) >= 0).double(), "double"),
        (lambda x, a: a(x) > 0, "returns"),
        (lambda x, a: x * a(x).sign(), "sign"),
        (lambda x, a: x + a(x).round_(), "round"),
        (lambda x, a: x + torch.floor(a(x)), "floor"),
        (lambda x, a: x + a(x) // 2, "floor"),
        (lambda x, a: x + torch.div(a(x), 2, rounding_mode="trunc"), "div"),
        (lambda x, a: torch.copysign(x, a(x)), "copysign"),
        (lambda x, a: x + a(x).long(), "long"),
        (lambda x, a: x + a(x).argmax(1, keepdim=True), "argmax"),
        (lambda x, a: x + torch.tensor(a(x).tolist()), "tolist"),
        (lambda x, a: x * (2 if a(x).amax() > 0 else 1), "bool"),
        (lambda x, a: x / a(x).amax().item(), "item"),
        (lambda x, a: x + a(x).cummax(2).values, "cummax"),
        (lambda x, a: x + a(x).cummin(2).values, "cummin"),
        (lambda x, a: x + a(x).quantile(0.5), "quantile"),
        (lambda x, a: x + a(x).max(1, keepdim=True).indices, "add"),
        (lambda x, a: x[(a(x) > 0).nonzero(as_tuple=True)], "nonzero"),
        (lambda x, a: x * torch.where(a(x) > 0)[0].sum(), "where"),
        (lambda x, a: x.index_put_((a(x) > 0,), x.sum()), "index_put"),
        (lambda x, a: [x := x * 1, x.__setitem__(a(x) > 0, 0)][0], "setitem"),
        (lambda x, a: x + a(x).gt_(0), "add"),
        (
            lambda x, a: x + torch.ones(1).new_tensor([a(x).amax()]),
            "new_tensor",
        ),
        (lambda x, a: x + torch.no_grad()(a)(x), "conv2d"),
    ],
)
def test_function_that_lets_no_gradient_through_is_refused(function, name):
    net = Call(lambda a, x: function(x, a), conv(3, 1, 1))
    with pytest.raises(ValueError, match=rf"`model`.*\b{name}"):
        receptive_field(net, (2, 9, 9))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, x: torch.where(~(a(x) > 0) & (b(x) < 2), x, 0 * x),
        lambda a, b, x: x.masked_fill(a(x).isnan(), 0) + b(x),
        lambda a, b, x: x.masked_fill_(b(x) != a(x), 1.0),
        lambda a, b, x: x * torch.where(x > 0, a(x) > 0, b(x)),
    ],
)
def test_what_a_condition_compares_is_seen(function):
    net = Call(function, conv((3, 1), 1, (1, 0)), conv((1, 5), 1, (0, 2)))
    assert receptive_field(net, (2, 9, 9)).size == (3, 5)


def test_functions_that_let_no_gradient_through_may_work_on_constants():
    def forward(a, x):
        grid = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).round()
        y = a(x) * (torch.full_like(x, 2) > 1) + grid.sort().values
        return y + torch.ones(9).expand_as(y).type_as(y) * len(x > 0)

    assert receptive_field(Call(forward, conv(3, 1, 1)), (2, 9, 9)).size == (
        3,
        3,
    )


@pytest.mark.parametrize(
    "function",
    [torch.zeros_like, lambda x: x.detach() * 2, lambda x: x * 1 + x.detach()],
    ids=["constant", "detached", "detached in part"],
)
def test_unit_that_depends_on_no_pixel_is_refused(function):
    net = Call(lambda x: torch.cat([function(x), function(x)], 1))
    if function(torch.ones(1, requires_grad=True)).requires_grad:
        assert receptive_field(net, (2, 9, 9)).size == (1, 1)
    else:
        with pytest.raises(ValueError, match="depends on no pixel"):
            receptive_field(net, (2, 9, 9))


def test_layer_that_is_not_called_is_refused():
    net = Call(lambda a, b, x: a(x), conv(), conv())
    with pytest.raises(ValueError, match=r"`layer='m.1'` is not called"):
        receptive_field(net, (2, 9, 9), layer="m.1")


def test_measures_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`samples=0`"):
        effective_field(conv(), (2, 9, 9), samples=0)
    for threshold in (-0.1, 1.0):
        with pytest.raises(ValueError, match="`threshold="):
            effective_size(torch.ones(3, 3), threshold=threshold)
    for field in (torch.zeros(3, 3), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="`field` must"):
            effective_size(field)
