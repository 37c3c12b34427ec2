import copy
import csv
import io
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from snippets.measure.summary import TITLES, Row, Summary, summarize
from snippets.networks.lenet import lenet5


class Call(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.m = nn.ModuleList(modules)

    def forward(self, *args, **kwargs):
        return self.function(*self.m, *args, **kwargs)


def image(*shape, **kwargs):
    return torch.rand(shape or (1, 3, 16, 16), **kwargs)


# Counting ---------------------------------------------------------------


def vgg16():
    blocks = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    layers, c = [], 3
    for width, n in blocks:
        for _ in range(n):
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU(True)]
            c = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(True), nn.Dropout()]
    head += [nn.Linear(4096, 4096), nn.ReLU(True), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, *head)


def alexnet():
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(True),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(9216, 4096),
        nn.Linear(4096, 4096),
        nn.Linear(4096, 1000),
    )


class Bottleneck(nn.Module):
    def __init__(self, c, width, stride, first):
        super().__init__()

        def conv(i, o, k, stride=1):
            weights = nn.Conv2d(i, o, k, stride, k // 2, bias=False)
            return nn.Sequential(weights, nn.BatchNorm2d(o))

        out = 4 * width
        self.path = nn.Sequential(
            conv(c, width, 1),
            nn.ReLU(True),
            conv(width, width, 3, stride),
            nn.ReLU(True),
            conv(width, out, 1),
        )
        self.shortcut = conv(c, out, 1, stride) if first else nn.Identity()

    def forward(self, x):
        y = self.path(x)
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


def resnet50():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    c = 64
    for stage, n in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for i in range(n):
            stride = 2 if stage and i == 0 else 1
            layers.append(Bottleneck(c, width, stride, i == 0))
            c = 4 * width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 1000)]
    return nn.Sequential(*layers, *head)


@pytest.mark.parametrize(
    ("build", "parameters", "macs"),
    [
        (alexnet, 61_100_840, 714_188_480),
        (vgg16, 138_357_544, 15_470_264_320),
        (resnet50, 25_557_032, 4_089_184_256),
    ],
)
def test_published_networks_have_their_published_counts(
    build, parameters, macs
):
    with torch.device("meta"):
        summary = summarize(build(), torch.empty(1, 3, 224, 224))
    assert (summary.parameters, summary.macs) == (parameters, macs)


def test_published_networks_have_their_published_fields():
    with torch.device("meta"):
        x = torch.empty(1, 3, 224, 224)
        alex, vgg = summarize(alexnet(), x), summarize(vgg16(), x)
        resnet = summarize(resnet50(), x)

    def fields(summary, kind):
        return [r.receptive_field for r in summary.rows if r.type == kind]

    # Araujo et al. 2019, table 1: 195, 212; 483 has stride on the first 1 × 1
    assert fields(alex, "MaxPool2d")[-1] == (195, 195)
    assert fields(vgg, "MaxPool2d")[-1] == (212, 212)
    assert fields(vgg, "Linear")[0] == (212 + 6 * 32,) * 2
    assert fields(resnet, "BatchNorm2d")[-1] == (427, 427)
    assert fields(resnet, "Linear") == [(427 + 6 * 32,) * 2]


def test_lenet5_has_a_field_in_every_layer():
    rows = summarize(lenet5(), torch.zeros(1, 1, 32, 32)).rows
    fields = {r.name.split(".")[0]: r.receptive_field for r in rows}
    wanted = {"c1": 5, "s2": 6, "c3": 14, "s4": 16, "c5": 32, "f6": 32}
    wanted["output"] = 32
    assert fields == {name: (n, n) for name, n in wanted.items()}


def frozen(module):
    return module.requires_grad_(False)


COUNTED = {
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), image(2, 4, 9, 8)),
    "dilated": (nn.Conv2d(4, 6, (3, 2), 2, 1, (1, 2)), image(2, 4, 9, 8)),
    "1 axis": (nn.Conv1d(4, 6, 3), image(2, 4, 9)),
    "3 axes": (nn.Conv3d(4, 6, 3, bias=False), image(2, 4, 5, 6, 7)),
    "transposed": (
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        image(2, 4, 5, 6),
    ),
    "one vector": (nn.Linear(6, 5), image(6)),
    "sequence": (nn.Linear(6, 5, bias=False), image(2, 3, 6)),
    "channels last, fixed": (
        frozen(nn.Linear(6, 5)),
        image(2, 6, 3, 4).permute(0, 2, 3, 1),
    ),
    "channels last, fixed, one": (
        frozen(nn.Linear(6, 5, bias=False)),
        image(1, 6, 3).permute(0, 2, 1),
    ),
    "function": (
        Call(lambda a, x: F.conv2d(x, a.weight * 2), nn.Conv2d(3, 4, 3)),
        image(),
    ),
    "pooling and norms": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)),
        image(),
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_macs_are_half_of_what_torch_counts(name):
    net, x = COUNTED[name]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(x)
    assert summarize(net, x).macs == counter.get_total_flops() / 2 > 0


def test_products_of_attention_do_not_count_but_its_layers_do():
    net = nn.MultiheadAttention(8, 2, batch_first=True)
    x = image(2, 5, 8)
    # q, k, v and the output: each 8 × 8 weights at 2 × 5 positions
    assert summarize(net, x, x, x).macs == 4 * 2 * 5 * 8 * 8


def test_macs_belong_to_the_innermost_module():
    net = Call(lambda a, x: F.linear(a(x), torch.ones(7, 5)), nn.Linear(3, 5))
    rows = summarize(net, image(2, 3)).rows
    assert [(r.name, r.macs) for r in rows] == [("m.0", 30), ("", 70)]


# Rows --------------------------------------------------------------------


def test_row_tells_all_of_a_layer():
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, (3, 5), stride=2)))
    (row,) = summarize(net, image(2, 3, 9, 9, dtype=torch.float32)).rows
    assert row == Row(
        name="conv",
        type="Conv2d",
        shapes=((2, 4, 4, 3),),
        parameters=4 * 3 * 15 + 4,
        macs=2 * 4 * 4 * 3 * 3 * 15,
        activation_bytes=4 * 2 * 4 * 4 * 3,
        receptive_field=(3, 5),
    )


def test_shared_weights_count_once():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    net = nn.Sequential(a, b, a)
    summary = summarize(net, image(1, 4))
    assert [r.parameters for r in summary.rows] == [20, 4, 0]
    assert summary.parameters == sum(p.numel() for p in net.parameters())


def test_module_called_twice_has_two_rows_and_the_macs_of_both():
    net = Call(lambda a, x: a(a(x)), nn.Conv2d(3, 3, 3))
    rows = summarize(net, image(1, 3, 9, 9)).rows
    assert [r.name for r in rows] == ["m.0", "m.0"]
    assert [r.shapes for r in rows] == [((1, 3, 7, 7),), ((1, 3, 5, 5),)]
    assert [r.macs for r in rows] == [81 * 49, 81 * 25]
    assert [r.receptive_field for r in rows] == [(3, 3), (5, 5)]
    assert [r.parameters for r in rows] == [84, 0]


def test_module_that_is_not_called_stands_at_the_end():
    net = Call(lambda a, b, x: b(x), nn.Linear(4, 3), nn.Linear(4, 2))
    called, other = summarize(net, image(1, 4)).rows
    assert (called.name, other.name) == ("m.1", "m.0")
    assert other == Row("m.0", "Linear", (), 15, 0, 0, None)


def test_parameters_of_a_module_with_children_have_a_row():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1))
            self.inner = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.inner(x) * self.scale

    rows = summarize(Scaled(), image()).rows
    assert [(r.name, r.parameters) for r in rows] == [("inner", 12), ("", 3)]


def test_writing_in_place_and_views_take_no_memory():
    net = nn.Sequential(
        nn.Conv2d(3, 2, 1),
        nn.ReLU(True),
        nn.ReLU(),
        nn.Flatten(),
        nn.Identity(),
    )
    rows = summarize(net, image(1, 3, 5, 5)).rows
    assert [r.activation_bytes for r in rows] == [200, 0, 200, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float64, 8), (torch.bfloat16, 2)]
)
def test_memory_follows_the_type_of_number(dtype, size):
    net = nn.Conv2d(3, 2, 1).to(dtype)
    (row,) = summarize(net, image(1, 3, 5, 5, dtype=dtype)).rows
    assert row.activation_bytes == 50 * size


def test_layer_with_several_outputs_lists_each_and_its_largest_field():
    class Two(nn.Module):
        def forward(self, x):
            return {"a": F.avg_pool2d(x, 2), "b": [F.avg_pool2d(x, 3)]}

    (row,) = summarize(Two(), image(1, 1, 6, 6)).rows
    assert row.shapes == ((1, 1, 3, 3), (1, 1, 2, 2))
    assert row.activation_bytes == 4 * (9 + 4)
    assert row.receptive_field == (3, 3)


def test_field_that_no_rule_tells_is_none_from_there_on():
    net = nn.Sequential(
        nn.Conv2d(3, 3, 3),
        Call(lambda x: x.cumsum(2)),
        nn.Conv2d(3, 3, 3),
    )
    fields = [r.receptive_field for r in summarize(net, image()).rows]
    assert fields == [(3, 3), None, None]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_follows_a_module_not_seen_into_has_no_field():
    inner = torch.jit.trace(nn.Conv2d(3, 3, 3, padding=1), image())
    closed = Call(lambda x: inner(x))
    net = nn.Sequential(Call(lambda a, x: x + a(x), closed), nn.ReLU())
    rows = summarize(net, image()).rows
    assert [r.name for r in rows] == ["0.m.0", "1"]
    assert [r.receptive_field for r in rows] == [None, None]
    assert [r.macs for r in rows] == [3 * 3 * 9 * 16 * 16, 0]


@pytest.mark.parametrize("name", COUNTED)
def test_table_is_the_same_on_the_meta_device(name):
    net, x = COUNTED[name]
    on_meta = copy.deepcopy(net).to("meta")
    assert summarize(on_meta, x.to("meta")) == summarize(net, x)


# Inputs ------------------------------------------------------------------


def test_arguments_may_nest_tensors():
    def forward(a, batch, *, extra, scale):
        (x, _), more = batch["images"], extra[0]
        return {"y": a(x) + more, "scale": scale}

    net = Call(forward, nn.Conv2d(3, 2, 3))
    batch = {"images": (image(1, 3, 8, 8), "name")}
    more = [image(1, 2, 6, 6)]
    (row,) = summarize(net, batch, extra=more, scale=2.0).rows
    assert row.shapes == ((1, 2, 6, 6),)
    assert row.receptive_field == (3, 3)


def test_arguments_are_not_written_to():
    x = image()
    before = x.clone()
    summarize(nn.ReLU(inplace=True), x - 0.5)
    summarize(Call(lambda x: x.zero_()), x)
    assert torch.equal(x, before)


def test_inference_mode_around_it_does_no_harm():
    with torch.inference_mode():
        net, x = nn.Conv2d(3, 2, 3), image()
        (row,) = summarize(net, x).rows
    assert row.receptive_field == (3, 3)


# State -------------------------------------------------------------------


class Counter(nn.Module):
    """Write to buffers in both ways, then go on or fail."""

    def __init__(self, fail):
        super().__init__()
        self.fail = fail
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("other", torch.zeros(()), persistent=False)
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, x):
        self.calls += 1
        self.other = self.other + 1
        y = self.frozen(self.norm(x))
        if self.fail:
            raise RuntimeError("no more")
        return y


@pytest.mark.parametrize("fail", [False, True])
def test_network_is_left_as_it_was(fail):
    net = Counter(fail)
    seen = []
    net.norm.register_forward_hook(lambda *_: seen.append(1))
    for p in net.parameters():
        p.grad = torch.full_like(p, 3.0)
    buffers = dict(net.named_buffers())
    state = {k: v.clone() for k, v in buffers.items()}
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in net.modules()
    ]
    parameters = dict(net.named_parameters())
    if fail:
        with pytest.raises(RuntimeError, match="no more"):
            summarize(net, image())
    else:
        assert summarize(net, image()).rows[0].name == "norm"
    assert seen == [1]
    assert [m.training for m in net.modules()] == [True, True, False]
    for name, buffer in net.named_buffers():
        assert buffer is buffers[name]
        assert torch.equal(buffer, state[name])
    for name, p in net.named_parameters():
        assert p is parameters[name]
        assert torch.equal(p.grad, torch.full_like(p, 3.0))
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in net.modules()
    ]
    assert torch.is_grad_enabled()


def test_pass_is_made_in_evaluation_mode():
    net = Call(lambda a, x: x if a.training else a(x), nn.Dropout())
    assert summarize(net, image()).rows[0].shapes == ((1, 3, 16, 16),)


# Tables ------------------------------------------------------------------


def network():
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 40, 3),
            odd=Call(lambda x: x.cumsum(2)),
        )
    )


def test_text_lines_up_and_ends_in_totals():
    summary = summarize(network(), image())
    lines = summary.text().splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert [len(line) for line in lines[1:3]] == [len(lines[1])] * 2
    assert lines[2].split() == [
        "first",
        "Conv2d",
        "1×40×14×14",
        "1,120",
        "211,680",
        "31,360",
        "3×3",
    ]
    assert lines[3].split()[-1] == "–"
    assert lines[-1].split() == ["total", "1,120", "211,680", "62,720"]
    assert str(summary) == summary.text()


def test_text_lines_up_under_chinese_titles():
    titles = ("层", "类型", "输出", "参数", "乘加", "字节", "感受野")
    lines = (
        summarize(network(), image()).text(titles, total="合计").splitlines()
    )
    columns = lines[1].split("  ")
    assert columns[0] == "-" * len("first")
    assert lines[0].startswith("层     类型")
    assert lines[-1].startswith("合计   ")


def test_markdown_is_a_table_with_totals():
    summary = summarize(network(), image())
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in summary.markdown().splitlines()
    ]
    assert rows[0] == list(TITLES)
    assert rows[1] == ["---"] * 3 + ["--:"] * 4
    assert rows[2][0] == "`first`"
    assert rows[-1] == ["**total**", "", "", "1,120", "211,680", "62,720", ""]
    assert {len(row) for row in rows} == {7}


def test_csv_gives_the_rows_back():
    summary = summarize(network(), image())
    first, odd = csv.DictReader(io.StringIO(summary.csv()))
    assert first == {
        "name": "first",
        "type": "Conv2d",
        "shapes": "1x40x14x14",
        "parameters": "1120",
        "macs": "211680",
        "activation_bytes": "31360",
        "receptive_field": "3x3",
    }
    assert odd["receptive_field"] == ""


def test_empty_summary_has_a_table():
    assert Summary(()).text().splitlines()[-1].split() == [
        "total",
        "0",
        "0",
        "0",
    ]


# Errors ------------------------------------------------------------------


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"`model` must be .* not function"):
        summarize(F.relu, image())


def test_lazy_parameters_are_refused():
    with pytest.raises(ValueError, match="lazy"):
        summarize(nn.LazyLinear(3), image())


def test_wrong_number_of_titles_is_refused():
    with pytest.raises(ValueError, match=r"titles.*must be 7"):
        Summary(()).markdown(("a", "b"))
