import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snippets.core import geometry
from snippets.core.geometry import Branches, Layer
from snippets.measure.trace import Trace

torch.manual_seed(0)


class Call(nn.Module):
    """A network that is one function."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.m = nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.m)


def conv(k=3, stride=1, padding=0, dilation=1, cin=2, cout=2):
    return nn.Conv2d(cin, cout, k, stride, padding, dilation)


def run(model, *shape):
    trace = Trace()
    x = torch.zeros(shape)
    trace.start(x)
    with torch.no_grad(), trace:
        y = model.eval()(x)
    return trace, y


def size(model, *shape):
    trace, y = run(model, *shape)
    return trace.size(y)


layers = st.builds(
    Layer,
    kernel_size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
)


def torch_layer(layer, pool):
    settings = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    if pool and 2 * layer.padding <= layer.kernel_size:
        return nn.MaxPool1d(*settings)
    return nn.Conv1d(1, 1, *settings)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(layers, st.booleans()), max_size=5))
def test_chain_has_the_field_of_the_recurrence(chain):
    net = nn.Sequential(*(torch_layer(*step) for step in chain))
    trace, y = run(net, 1, 1, 3000)
    (axis,) = trace.field(y)
    wanted = geometry.receptive_field(layer for layer, _ in chain)
    assert trace.size(y) == (wanted.size,)
    assert axis.jump == wanted.jump
    assert axis.at(0) == (wanted.start, wanted.start + wanted.size)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=4)
)
def test_branches_have_the_field_of_their_largest_path(halves):
    # kernels of 2 h + 1, padded by h, keep the size and the centre
    paths = [[Layer(2 * h + 1, padding=h) for h in path] for path in halves]
    nets = [
        nn.Sequential(*(conv(k.kernel_size, padding=k.padding) for k in path))
        for path in paths
    ]
    stem = conv(3, 2, 1)
    for join in (lambda ys: torch.cat(ys, 1), sum):
        net = Call(
            lambda x, stem, *nets, join=join: join([n(stem(x)) for n in nets]),
            stem,
            *nets,
        )
        wanted = geometry.receptive_field([Layer(3, 2, 1), Branches(paths)])
        assert size(net, 1, 2, 8, 8) == (wanted.size,) * 2
        longest = max(sum(path) for path in halves)
        assert wanted.size == 3 + 2 * 2 * longest


def reorg(x: Tensor, s: int = 2) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * s * s, h // s, w // s)


def gate(x: Tensor, layer: nn.Module) -> Tensor:
    weights = layer(x.mean((2, 3))).sigmoid()
    return x * weights[:, :, None, None]


def tokens(x: Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> Tensor:
    y = a(x)
    z = b(F.layer_norm(y.flatten(2).transpose(1, 2), (2,)))
    z = z + torch.ones(1, z.shape[1], 1)
    return c(z.transpose(1, 2).unflatten(2, y.shape[2:]))


def windows(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    n, c, h, w = x.shape
    y = a(x).view(n, c, h // 4, 4, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
    y = y.reshape(-1, 8, c).relu().view(n, h // 4, w // 2, 4, 2, c)
    return b(y.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w))


SEEN = {
    "non-square": nn.Conv2d(2, 2, (3, 5), (2, 1), (0, 2), (1, 2)),
    "same": nn.Conv2d(2, 2, (4, 3), padding="same", dilation=(1, 2)),
    "depthwise": nn.Conv2d(2, 2, 3, groups=2),
    "upsample": nn.Sequential(conv(3, 2), nn.Upsample(scale_factor=2), conv(2)),
    "upsample, stride": nn.Sequential(
        conv(3, 2), nn.Upsample(scale_factor=2), conv(3, 2, 1), conv(2)
    ),
    "upsample 3/2": nn.Sequential(
        nn.Upsample(scale_factor=1.5), conv(3), nn.MaxPool2d(2)
    ),
    "bilinear": nn.Sequential(
        conv(3, 2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        conv(3),
    ),
    "bilinear down": nn.Sequential(
        nn.Upsample(size=(8, 9), mode="bilinear"), conv(2)
    ),
    "transposed": nn.Sequential(
        conv(3, 2), nn.ConvTranspose2d(2, 2, 4, 2, 1), conv(3, 1, 1)
    ),
    "transposed, odd": nn.Sequential(
        conv(), nn.ConvTranspose2d(2, 2, 5, 3, 2, output_padding=1), conv(2)
    ),
    "transposed, dilated": nn.ConvTranspose2d(2, 2, 3, 2, 1, dilation=3),
    "adaptive": nn.Sequential(conv(), nn.AdaptiveAvgPool2d((5, 4)), conv(2)),
    "adaptive max": nn.Sequential(nn.AdaptiveMaxPool2d((7, 3)), conv(2)),
    "average pool": nn.Sequential(nn.AvgPool2d(3, 2, 1), conv(2)),
    "shuffle": nn.Sequential(conv(cout=8), nn.PixelShuffle(2), conv()),
    "unshuffle": nn.Sequential(conv(), nn.PixelUnshuffle(2), conv(2, cin=8)),
    "reorg": Call(lambda x, a, b: b(reorg(a(x))), conv(3), conv(2, cin=8)),
    "zero pad": nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), conv()),
    "reflection pad": nn.Sequential(nn.ReflectionPad2d(1), conv(3, 2)),
    "crop": Call(lambda x, a, b: a(x)[:, :, 1:-1, 2:] + b(x), conv(3), conv(5)),
    "every second": Call(lambda x, a: a(x[..., ::2, 1::3]), conv()),
    "channels last": Call(
        lambda x, a, b, c: c(b(a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        conv(),
        nn.Linear(2, 2),
        conv(),
    ),
    "layer norm": Call(
        lambda x, a, b, c: c(
            b(a(x).permute(0, 2, 3, 1)).transpose(1, 3).transpose(3, 2)
        ),
        conv(),
        nn.LayerNorm(2),
        conv(),
    ),
    "some channels": Call(
        lambda x, a, b: b(a(x)[:, [3, 0], 1:]), conv(cout=4), conv()
    ),
    "split": Call(
        lambda x, a, b: torch.cat([b(half) for half in a(x).chunk(2, 1)], 1),
        conv(cout=4),
        conv(),
    ),
    "dense": Call(
        lambda x, a, b: b(torch.cat([x, a(x)], dim=1)),
        conv(padding=1),
        conv(cin=4),
    ),
    "off-centre branches": Call(
        lambda x, a, b: a(x)[..., :-3, :-3] + b(x)[..., 3:, 3:], conv(), conv()
    ),
    "joined along space": Call(
        lambda x, a, b, c: c(torch.cat([a(x), b(x)[:, :, 2:], x[:, :, 2:]], 2)),
        conv(padding=1),
        conv(5, padding=2),
        conv(),
    ),
    "joined along space, strided": Call(
        lambda x, a, b: b(torch.cat([a(x), a(x)], 3)),
        conv((5, 3), (1, 2), (2, 0)),
        nn.Sequential(conv(2, 2), nn.Upsample(scale_factor=2), conv(2)),
    ),
    "rolled": Call(
        lambda x, a, b: b(a(x).roll((3, -2), (2, -1))), conv(), conv(3, 2)
    ),
    "rolled and cropped": Call(
        lambda x, a, b: b(a(x).roll(3, 2)[:, :, 1:6]),
        conv(),
        conv(padding=1),
    ),
    "rolled, transposed": Call(
        lambda x, a: a(x.roll(5, 2)), nn.ConvTranspose2d(2, 2, 4, 2, 1)
    ),
    "rolled back": Call(
        lambda x, a: a(x).roll(3, 2).roll([-3, 1], [2, 1]), conv()
    ),
    "stacked": Call(
        lambda x, a, b: torch.stack([a(x), b(x), x], 2).sum(2),
        conv(padding=1),
        conv(5, padding=2),
    ),
    "stacked last": Call(
        lambda x, a, b: b(torch.stack((a(x), a(x)), dim=-1).amax(-1)),
        conv(),
        conv(2),
    ),
    "tokens": Call(tokens, conv(3, 2), nn.Linear(2, 3), conv(cin=3)),
    "tokens in windows": Call(windows, conv(padding=1), conv()),
    "activations": nn.Sequential(
        conv(),
        nn.ReLU6(),
        nn.GELU(),
        nn.PReLU(),
        nn.Hardswish(),
        nn.ELU(inplace=True),
        nn.Mish(),
        nn.LogSigmoid(),
        nn.Tanhshrink(),
        nn.Softsign(),
        nn.BatchNorm2d(2),
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.LocalResponseNorm(2),
        nn.Dropout2d(),
        nn.Softmax(dim=1),
        conv(2),
    ),
    "attention to channels": Call(
        lambda x, a: x * torch.max(a(x), dim=1, keepdim=True)[0],
        conv(padding=1),
    ),
    "expanded": Call(
        lambda x, a, b: a(x) * b(x).expand_as(a(x)), conv(), conv(cout=1)
    ),
    "arithmetic": Call(
        lambda x, a: 1 / (2 + (-a(x)) ** 2 / 3 - abs(a(x)).clamp(max=9)), conv()
    ),
}


def reached(net: nn.Module, shape: tuple[int, ...], dim: int) -> list:
    """Change each row of pixels in turn; see which rows of the output move."""
    generator = torch.Generator().manual_seed(0)
    n = shape[dim]
    moved = 0
    for change in (40.0, -40.0, 3.0, -3.0):
        x = torch.randn(1, *shape, generator=generator).double()
        rows = x.repeat(n, 1, 1, 1)
        for i in range(n):
            rows[i].select(dim, i).add_(change)
        with torch.no_grad():
            y = net(rows) - net(x)
        moved = moved + (y.abs() > 1e-9).transpose(1, dim + 1).flatten(2).sum(2)
    return [column.nonzero().flatten().tolist() for column in moved.T]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("name", SEEN)
def test_every_position_sees_the_pixels_that_move_it(name):
    net, shape = SEEN[name].eval(), (2, 20, 22)
    trace, y = run(net.float(), 1, *shape)
    whole = 0
    for axis, dim in zip(trace.field(y), (1, 2), strict=True):
        for i, found in enumerate(reached(net.double(), shape, dim)):
            start, stop = axis.at(i)
            if start >= 0 and stop <= shape[dim]:
                assert (start, stop) == (found[0], found[-1] + 1)
                whole += 1
            elif name != "reflection pad":  # whose edges see the inside
                assert set(found) <= {*range(start, stop)}
    assert whole >= 6


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(conv(), nn.Flatten(), nn.Linear(2 * 8 * 8, 3)),
        nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        Call(lambda x, a: a(x).mean((2, 3)), conv()),
        Call(lambda x, a: a(x).mean([-1]).amax(dim=-1), conv()),
        Call(lambda x, a: a(x).sum((2, 3), keepdim=True), conv()),
        Call(gate, nn.Linear(2, 2)),
        nn.Sequential(conv(), nn.GroupNorm(1, 2)),
        nn.Sequential(conv(), nn.InstanceNorm2d(2)),
        nn.Sequential(conv(), nn.BatchNorm2d(2, track_running_stats=False)),
    ],
    ids=lambda net: repr(net)[:40].replace("\n", " "),
)
def test_what_looks_at_the_whole_map_sees_all_of_it(net):
    assert size(net, 1, 2, 10, 10) == (10, 10)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x, a: a(x).flatten(2), (3, 3)),
        (lambda x, a: a(x).flatten(0, 2), (3, 3)),
        (lambda x, a: a(x).flatten(2).transpose(1, 2), (3, 3)),
        (lambda x, a: a(x).permute(0, 2, 3, 1).flatten(1, 2), (3, 3)),
        (lambda x, a: a(x).flatten(2).transpose(1, 2).mean(1), (10, 12)),
        (lambda x, a: a(x).flatten(2).softmax(2), (10, 12)),
        (lambda x, a: a(x).flatten(2).view(1, 2, 8, 10).amax(3), (3, 12)),
        (lambda x, a: a(x).flatten(2).view(1, 2, 8, 10).amax(2), (10, 3)),
        (lambda x, a: a(x).flatten(1), (10, 12)),
        (
            lambda x, a: (
                a(x).flatten(2).transpose(1, 2).reshape(1, 80, 2, 1).sum(2)
            ),
            (3, 3),
        ),
        (lambda x, a: a(x[:, :, 1:-1]).flatten(2).view(1, 2, 6, 10), (3, 3)),
        (lambda x, a: torch.cat([a(x), a(x)], 2).amax(2), (10, 3)),
        (lambda x, a: a(x).roll(1, 3).flatten(2), (3, 3)),
        (lambda x, a: a(x).roll(1, 3) + a(x), (3, 12)),
    ],
)
def test_tokens_joined_and_rolled_maps_see_what_their_positions_do(
    function, wanted
):
    net = Call(lambda x, a: function(x, a).relu() + 1, conv())
    assert size(net, 1, 2, 10, 12) == wanted


def test_flattened_map_is_seen_with_its_padding():
    net = nn.Sequential(conv(5, padding=2), nn.Flatten(), nn.Linear(128, 1))
    assert size(net, 1, 2, 8, 8) == (12, 12)


def test_gated_map_sees_at_least_the_whole_from_then_on():
    net = nn.Sequential(Call(gate, nn.Linear(2, 2)), conv(padding=1))
    assert size(net, 1, 2, 10, 12) == (10, 12)


def test_gate_that_sees_less_than_the_map_is_unknown():
    net = Call(
        lambda x, a: a(x) * x[..., 2:-2, 2:-2].mean((2, 3), keepdim=True),
        conv(padding=1),
    )
    assert size(net, 1, 2, 10, 10) is None


def test_other_numbers_of_axes_are_measured():
    assert size(nn.Conv1d(2, 2, 3), 1, 2, 9) == (3,)
    assert size(nn.Conv3d(2, 2, (1, 2, 3)), 1, 2, 4, 5, 6) == (1, 2, 3)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.numpy() * 2)


def fill(x: Tensor, a: nn.Module) -> Tensor:
    y = torch.zeros(1, 2, 8, 8)
    y[..., 1:, 1:].copy_(a(x)[..., 1:, 1:])
    return y + x[..., 1:-1, 1:-1]


def overwrite(x: Tensor, a: nn.Module) -> Tensor:
    y = a(x)
    y[:, :, 0] = x[:, :, 1, :8]
    return y


def through_view(x: Tensor, a: nn.Module) -> Tensor:
    y = a(x)
    y.flatten(1).add_(x.mean((2, 3)).repeat(1, 64))
    return y


@pytest.mark.parametrize(
    "function",
    [
        lambda x, a: F.grid_sample(
            a(x), torch.zeros(1, 8, 8, 2), align_corners=False
        ),
        lambda x, a: a(x).cumsum(2),
        lambda x, a: a(x) @ torch.ones(8, 8),
        lambda x, a: a(x).roll(1),
        lambda x, a: a(x).flatten(2).roll(1, 2),
        lambda x, a: torch.cat([a(x), torch.zeros(1, 2, 1, 8)], 2),
        lambda x, a: torch.cat([a(x), a(x).transpose(2, 3)], 2),
        lambda x, a: torch.stack([a(x), a(x).transpose(2, 3)], 2),
        lambda x, a: a(x).flatten(2) + a(x).transpose(2, 3).flatten(2),
        lambda x, a: a(x).flatten(2)[..., 1:],
        lambda x, a: F.conv2d(
            a(x).roll(3, 2), torch.ones(2, 2, 2, 1), dilation=2
        ),
        lambda x, a: a(x).roll(3, 2).unflatten(2, (2, 4)).amax(2),
        lambda x, a: a(x)[..., :6].flatten(2).unflatten(2, (12, 4)),
        lambda x, a: a(x).sort(2).values,
        lambda x, a: F.pad(a(x), (1, 1, 1, 1), mode="circular"),
        lambda x, a: F.interpolate(a(x), scale_factor=2, mode="bicubic"),
        lambda x, a: F.interpolate(a(x), scale_factor=1.3),
        lambda x, a: a(x) / a(x).amax().item(),
        lambda x, a: a(x)[:, :, [0, 5, 1]],
        lambda x, a: a(x)[:, :, 3],
        lambda x, a: a(x)[:, [[0, 1], [1, 0]]],
        lambda x, a: a(x)[0, :, :, [0, 1]],
        lambda x, a: a(x) + a(x).transpose(2, 3),
        lambda x, a: a(x) + F.interpolate(a(x)[..., ::2, ::2], size=8)[..., :1],
        lambda x, a: F.softmax(a(x), 2) @ a(x),
        lambda x, a: F.conv_transpose2d(a(x), torch.ones(2, 2, 1, 1), stride=2),
        lambda x, a: F.conv2d(x, a(x)[..., :3, :3].repeat(2, 1, 1, 1)),
        lambda x, a: F.linear(a(x), a(x).mean((0, 1))),
        lambda x, a: Twice.apply(a(x)),
        fill,
        overwrite,
        through_view,
    ],
)
def test_what_no_rule_covers_is_unknown_with_all_that_follows(function):
    net = Call(lambda x, a: function(x, a).relu() + 1, conv())
    trace, y = run(net, 1, 2, 10, 10)
    assert trace.field(y) is None
    assert trace.size(y) is None


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x, a: a(x) * (1.0 if x.amax() > 0.5 else 0.5), "__bool__"),
        (lambda x, a: a(x) * [1, 2][(x.amax() > 9).long()], "__index__"),
        (lambda x, a: a(x) if 0.5 in x else 2 * a(x), "__contains__"),
        (lambda x, a: a(x) * (2 if x.equal(x.relu()) else 1), "equal"),
        (lambda x, a: a(x) * (1 + x.argmax().item()), "item"),
    ],
)
def test_all_is_unknown_once_a_pixel_decides_on_a_branch(function, name):
    trace, y = run(Call(function, conv()), 1, 2, 10, 10)
    assert trace.size(y) is None
    assert trace.leak == name


def test_branch_on_constants_leaves_the_field_known():
    def forward(x, a):
        return a(x) if torch.zeros_like(x).sum() < len(x) else x

    trace, y = run(Call(forward, conv()), 1, 2, 10, 10)
    assert trace.size(y) == (3, 3)
    assert not trace.leak


def test_image_without_a_batch_is_unknown():
    assert size(conv(), 2, 10, 10) is None
    assert size(nn.MaxPool2d(2), 2, 10, 10) is None


def test_tensor_is_unknown_once_a_view_of_it_is_written_to():
    trace = Trace()
    x = torch.zeros(1, 1, 8)
    trace.start(x)
    with trace:
        y = F.conv1d(x, torch.ones(1, 1, 3))
        z = y.view(1, 6)
        assert trace.size(y) == (3,)
        z.mul_(2)
        z[:, 0] = 1
    assert trace.size(y) is None


def test_view_is_unknown_once_another_view_is_written_to():
    trace = Trace()
    x = torch.zeros(1, 1, 8)
    trace.start(x)
    with trace:
        y = F.conv1d(x, torch.ones(1, 1, 3))
        one, other = y.view(1, 1, 6), y.view(1, 1, 6)
        one.cumsum_(2)
    assert trace.size(other) is None


def test_what_a_module_makes_unobserved_is_unknown():
    trace = Trace()
    x, y, constant = torch.zeros(1, 1, 8), torch.zeros(1, 1, 8), torch.zeros(3)
    trace.start(x)
    trace.check([constant], {"out": constant})
    trace.check([x], {"out": (y, x)})
    assert trace.field(constant) == ()
    assert trace.field(y) is None
    assert trace.size(x) == (1,)


def test_writing_in_place_keeps_the_field_of_both_operands():
    def add(x, a, b):
        y = a(x)
        y += b(x)
        return y.relu_()

    net = Call(add, conv(1), conv(5, padding=2))
    assert size(net, 1, 2, 9, 9) == (5, 5)


def test_constants_see_nothing():
    trace = Trace()
    with trace:
        y = F.conv1d(torch.ones(1, 1, 8), torch.ones(1, 1, 3))
    assert trace.field(y) == ()
    assert trace.size(y) is None


def test_vector_input_has_no_field_and_leaves_that_of_the_image():
    trace = Trace()
    x, code = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2)
    trace.start(x)
    trace.start(code)
    with trace:
        y = F.conv2d(x, torch.ones(2, 2, 3, 3)) * code[:, :, None, None]
        z = F.linear(code, torch.ones(3, 2))
    assert trace.size(y) == (3, 3)
    assert trace.size(z) is None
