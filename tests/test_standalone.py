"""Each snippet file works when it is copied alone into an empty folder."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT / "snippets").as_posix()
    for path in (ROOT / "snippets").rglob("*.py")
    if path.name != "__init__.py"
)
ALLOWED = {"numpy", "torch", "matplotlib"}

# What somebody who copied the file would do with it; `it` is the module.
USES = {
    "core/activation.py": "assert it.relu(np.array([-1.0, 2.0])).tolist() == [0, 2]",
    "core/avg_pool.py": (
        "x = np.arange(16.0).reshape(1, 1, 4, 4)\n"
        "assert it.avg_pool2d(x, 2).ravel().tolist() == [2.5, 4.5, 10.5, 12.5]"
    ),
    "core/batchnorm.py": (
        "x, one, zero = np.ones((2, 3, 4, 4)), np.ones(3), np.zeros(3)\n"
        "y, mean, _ = it.batch_norm(x, one, zero, zero, one, training=True)\n"
        "assert (y == 0).all() and np.allclose(mean, 0.1)"
    ),
    "core/conv.py": (
        "x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))\n"
        "assert (it.conv2d(x, w) == 9).all()\n"
        "assert it.conv2d_backward(np.ones((1, 1, 2, 2)), x, w)[0].max() == 4"
    ),
    "core/conv_transpose.py": (
        "x, w = np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))\n"
        "assert it.conv_transpose2d(x, w).max() == 4"
    ),
    "core/counting.py": "assert it.conv_parameters(1, 6, 5) == 156",
    "core/depthwise.py": (
        "x, w = np.ones((1, 2, 4, 4)), np.ones((2, 1, 3, 3))\n"
        "dx, _, _ = it.depthwise_conv2d_backward(np.ones((1, 2, 2, 2)), x, w)\n"
        "assert dx.max() == 4"
    ),
    "core/geometry.py": (
        "assert it.conv_output_size(28, 5, padding=2) == 28\n"
        "field = it.receptive_field([it.Layer(3), it.Layer(3)])\n"
        "assert field.size == 5"
    ),
    "core/linear.py": (
        "assert it.linear(np.ones((1, 3)), np.ones((2, 3))).tolist() == [[3, 3]]"
    ),
    "core/loss.py": (
        "loss = it.cross_entropy(np.zeros((2, 4)), np.array([0, 3]))\n"
        "assert np.isclose(loss, np.log(4))"
    ),
    "core/pool.py": (
        "x = np.arange(16.0).reshape(1, 1, 4, 4)\n"
        "assert it.max_pool2d(x, 2).ravel().tolist() == [5, 7, 13, 15]"
    ),
    "core/winograd.py": (
        "x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))\n"
        "assert np.allclose(it.winograd_conv2d(x, w), 9)"
    ),
    "data/scenes.py": (
        "image, boxes, labels = it.draw_scene(0)\n"
        "assert image.shape == (1, 96, 96) and len(boxes) == len(labels) > 0"
    ),
    "measure/receptive_field.py": (
        "from torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))\n"
        "assert it.receptive_field(net, (1, 9, 9)).size == (5, 5)"
    ),
    "measure/summary.py": (
        "import torch\n"
        "from torch import nn\n"
        "table = it.summarize(nn.Conv2d(1, 6, 5), torch.zeros(1, 1, 28, 28))\n"
        "assert (table.parameters, table.macs) == (156, 86400)"
    ),
    "measure/trace.py": "assert it.Trace and it.Axis",
    "modules/anchors.py": (
        "import torch\n"
        "anchors = it.generate_anchors(2, 16, it.anchor_shapes([16], [1]))\n"
        "boxes = anchors[1:3] + 2\n"
        "offsets = it.encode(boxes, anchors[1:3], kind='yolo', stride=16)\n"
        "again = it.decode(offsets, anchors[1:3], kind='yolo', stride=16)\n"
        "assert torch.allclose(again, boxes)\n"
        "assert it.assign(anchors, boxes).tolist() == [-1, 0, 1, -1]\n"
        "assert it.nms(boxes, torch.ones(2)).tolist() == [0, 1]"
    ),
    "modules/batch_norm.py": (
        "import torch\n"
        "conv, bn = torch.nn.Conv2d(2, 3, 3), it.BatchNorm(3)\n"
        "x = torch.randn(4, 2, 5, 5)\n"
        "assert bn(conv(x)).mean().abs() < 1e-5\n"
        "y = it.fuse_conv_bn(conv, bn.eval())(x)\n"
        "net = it.fuse_network(torch.nn.Sequential(conv, bn))\n"
        "assert torch.equal(net(x), y)\n"
        "assert torch.allclose(y, bn(conv(x)), atol=1e-5)"
    ),
    "modules/conv1x1.py": (
        "import torch\n"
        "conv, x = torch.nn.Conv2d(2, 3, 1), torch.randn(4, 2)\n"
        "y = it.to_linear(conv)(x)\n"
        "assert torch.allclose(conv(x[:, :, None, None])[:, :, 0, 0], y)"
    ),
    "modules/detection_metrics.py": (
        "import torch\n"
        "box, one = torch.tensor([[0, 0, 8, 8]]), torch.tensor([1])\n"
        "found, there = it.Detections(box, one, one), it.Objects(box, one)\n"
        "assert it.mean_average_precision([found], [there]).mean == 1\n"
        "assert abs(it.coco_map([found], [there]).mean - 1) < 1e-9"
    ),
    "modules/multiscale.py": (
        "import torch\n"
        "from torch.utils.data import DataLoader\n"
        "data = it.Resized([(torch.ones(3, 9, 9), torch.ones(2, 4))] * 4)\n"
        "sampler = it.MultiScaleBatchSampler(data, 4, sizes=[64])\n"
        "loader = DataLoader(data, batch_sampler=sampler)\n"
        "assert next(iter(loader))[0].shape == (4, 3, 64, 64)"
    ),
    "modules/passthrough.py": (
        "import torch\n"
        "x = torch.arange(16).reshape(1, 4, 2, 2)\n"
        "assert it.space_to_depth(x, 2).flatten().equal(x.flatten())\n"
        "assert it.darknet_reorg(x, 2)[0, :4, 0, 0].tolist() == [0, 2, 8, 10]"
    ),
    "modules/residual.py": (
        "import torch\n"
        "x = torch.randn(2, 8, 5, 5)\n"
        "assert it.DarknetBlock(8, zero_init=True)(x).equal(x)\n"
        "assert it.BasicBlock(8, 16, stride=2)(x).shape == (2, 16, 3, 3)"
    ),
    "modules/skip.py": (
        "import torch\n"
        "fine, coarse = torch.ones(1, 2, 5, 5), torch.ones(1, 3, 3, 3)\n"
        "y = it.FPN([2, 3], 4)([fine, coarse])\n"
        "assert [a.shape[1:] for a in y] == [(4, 5, 5), (4, 3, 3)]"
    ),
    "modules/upsampling.py": (
        "import torch\n"
        "x = torch.tensor([[[[0.0, 1.0]]]])\n"
        "assert it.nearest(x, scale=(1, 2)).flatten().tolist() == [0, 0, 1, 1]\n"
        "y = it.bilinear(x, (1, 3), align_corners=True)\n"
        "assert y.flatten().tolist() == [0, 0.5, 1]"
    ),
    "networks/alexnet.py": (
        "import torch\n"
        "model = it.alexnet(num_classes=3).eval()\n"
        "assert model(torch.zeros(1, 3, 63, 63)).shape == (1, 3)"
    ),
    "networks/darknet.py": (
        "import torch\n"
        "model = it.darknet53(num_classes=3).eval()\n"
        "it.save_weights(model, 'some.weights', seen=5)\n"
        "assert it.load_weights(it.darknet53(num_classes=3), 'some.weights').seen == 5\n"
        "assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)"
    ),
    "networks/densenet.py": (
        "import torch\n"
        "model = it.densenet100_cifar()\n"
        "assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)"
    ),
    "networks/inception.py": (
        "import torch\n"
        "model = it.googlenet(num_classes=3).eval()\n"
        "assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)"
    ),
    "networks/lenet.py": (
        "import torch\n"
        "assert it.LeNet()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)\n"
        "assert it.lenet5()(torch.zeros(1, 1, 32, 32)).shape == (1, 10)"
    ),
    "networks/nin.py": (
        "import torch\n"
        "model = it.nin_cifar10()\n"
        "assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)"
    ),
    "networks/preresnet.py": (
        "import torch\n"
        "model = it.PreResNet((1, 1, 1))\n"
        "assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)"
    ),
    "networks/resnet.py": (
        "import torch\n"
        "model = it.resnet18(num_classes=10)\n"
        "assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)"
    ),
    "networks/resnet_cifar.py": (
        "import torch\n"
        "model = it.resnet20_cifar()\n"
        "assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)"
    ),
    "networks/vgg.py": (
        "import torch\n"
        "model = it.vgg11(num_classes=3).eval()\n"
        "assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)"
    ),
    "networks/yolo.py": (
        "import torch\n"
        "model = it.yolov3(num_classes=3).eval()\n"
        "outputs = model(torch.zeros(1, 3, 32, 32))\n"
        "assert model.decode(outputs).boxes.shape == (1, 3 * (1 + 4 + 16), 4)"
    ),
    "plots/grids.py": (
        "figure = it.number_grids([it.Grid(np.eye(3), 'eye', 'C0')], title='t')\n"
        "assert figure.axes"
    ),
    "plots/images.py": (
        "figure = it.image_row({'one': np.eye(4), 'two': np.eye(4)}, title='t')\n"
        "assert len(figure.axes) == 2"
    ),
    "plots/lines.py": (
        "figure = it.line_chart([1, 2], {'a': [3, 4]}, title='t', xlabel='x',"
        " ylabel='y')\nassert figure.axes"
    ),
    "plots/stages.py": (
        "figure = it.draw_stages([(1, 8, 8), (10,)], ['fc'], title='t')\n"
        "assert figure.axes"
    ),
}

PRELUDE = """
import sys
import warnings

warnings.simplefilter("error")

class Outside:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "snippets":
            raise ImportError(f"{name} belongs to the project")

sys.meta_path.insert(0, Outside())
sys.path.insert(0, ".")
import numpy as np
"""


def siblings(path: Path) -> list[str]:
    """Name the files that a snippet builds on and is copied with."""
    text = path.read_text("utf-8")
    return re.findall(r"^ *from \.(\w+) import", text, re.M)


# `trace`, flat in a folder, would stand for the standard library's.
IN_A_PACKAGE = {"measure/summary.py"}


def copies() -> list[tuple[str, str]]:
    """List the files, and those that have siblings also in a package."""
    flat = [(name, "") for name in FILES if name not in IN_A_PACKAGE]
    return flat + [
        (name, "package")
        for name in FILES
        if siblings(ROOT / "snippets" / name)
    ]


@pytest.mark.parametrize(("name", "package"), copies())
def test_copied_alone_it_works(name: str, package: str, tmp_path: Path) -> None:
    assert name in USES, f"say in USES how {name} is used"
    source = ROOT / "snippets" / name
    folder = tmp_path / "elsewhere"
    (folder / package).mkdir(parents=True)
    needed = siblings(source)
    for path in [source, *(source.with_name(f"{s}.py") for s in needed)]:
        shutil.copy(path, folder / package)
    module = f"{package}.{source.stem}" if package else source.stem
    code = f"{PRELUDE}\nimport {module} as it\n{USES[name]}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FILES)
def test_it_imports_nothing_else_of_the_project(name: str) -> None:
    text = (ROOT / "snippets" / name).read_text("utf-8")
    modules = set(re.findall(r"^ *(?:from|import) (\w+)", text, re.M))
    allowed = ALLOWED | ({"sklearn"} if name.startswith("data/") else set())
    allowed |= set(siblings(ROOT / "snippets" / name))
    assert modules - allowed <= sys.stdlib_module_names
    for sibling in siblings(ROOT / "snippets" / name):
        assert f"{sibling}.py" in "\n".join(text.splitlines()[:12]), (
            f"the first lines must say that {name} needs {sibling}.py"
        )


def test_the_uses_are_of_files_that_exist() -> None:
    assert set(USES) <= set(FILES)
