import struct
from pathlib import Path

import darknet_cfg as cfg
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from snippets.networks.darknet import (
    ConvUnit,
    Header,
    Residual,
    darknet19,
    darknet19_body,
    darknet53,
    darknet53_body,
    last_conv,
    load_weights,
    save_weights,
)


def tiny() -> nn.Sequential:
    """Two convolutions: 2 channels with normalization, then 1 with a bias."""
    return nn.Sequential(ConvUnit(1, 2, 1), last_conv(2, 1))


NUMBERS = {
    "0.norm.bias": [0.5, -0.5],
    "0.norm.weight": [1.5, 2.5],
    "0.norm.running_mean": [3.0, -3.0],
    "0.norm.running_var": [4.0, 0.25],
    "0.conv.weight": [7.0, 8.0],
    "1.bias": [9.0],
    "1.weight": [10.0, 11.0],
}
BODY = struct.pack("<13f", *(x for part in NUMBERS.values() for x in part))
HEADER = struct.pack("<iiiq", 0, 2, 5, 32_013_312)


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "tiny.weights"
    path.write_bytes(data)
    return path


def assert_holds(model: nn.Module, numbers: dict[str, list[float]]) -> None:
    state = model.state_dict()
    for name, values in numbers.items():
        assert state[name].flatten().tolist() == values, name


def test_unit_normalizes_and_lets_a_tenth_of_negatives_through():
    unit = ConvUnit(1, 2, 1).eval()
    unit.conv.weight.data[:] = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    unit.norm.running_mean[:] = torch.tensor([1.0, 0.0])
    unit.norm.running_var[:] = torch.tensor([4.0, 1.0])
    with torch.no_grad():
        y = unit(torch.full((1, 1, 1, 1), 5.0)).flatten()
    torch.testing.assert_close(y, torch.tensor([2.0, -1.0]), rtol=1e-5, atol=0)


def test_residual_block_adds_its_input_after_the_activation():
    block = Residual(4).eval()
    nn.init.zeros_(block.conv2.norm.weight)
    nn.init.constant_(block.conv2.norm.bias, -10.0)
    x = torch.randn(2, 4, 5, 3)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x - 1.0)


@pytest.mark.parametrize(
    ("body", "layers"),
    [
        (darknet19_body, cfg.DARKNET19_BODY),
        (darknet53_body, cfg.DARKNET53_BODY),
    ],
)
def test_body_computes_what_the_layers_of_its_cfg_do(body, layers, tmp_path):
    numbers = cfg.write(layers)
    path = write(tmp_path, HEADER + numbers.numpy().tobytes())
    model = body().eval()
    load_weights(model, path)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        _, outputs, read = cfg.run(layers, numbers, x)
        y = model(x)
    assert read == len(numbers)
    scale = outputs[-1].abs().max()
    torch.testing.assert_close(y, outputs[-1], rtol=0, atol=1e-4 * scale)


def test_residual_block_trains():
    block, x = Residual(4), torch.randn(2, 4, 3, 3, requires_grad=True)
    block(x).square().sum().backward()
    assert x.grad.any()
    assert all(p.grad.any() for p in block.parameters())


def test_darknet19_classifies_places_and_darknet53_their_average():
    for build, first in ((darknet19, True), (darknet53, False)):
        model = build(num_classes=3).eval()
        conv = next(m for m in model.classifier if isinstance(m, nn.Conv2d))
        seen = []
        conv.register_forward_hook(lambda _, args, y: seen.append(y.shape))  # noqa: B023
        with torch.no_grad():
            x = torch.randn(1, 3, 64, 64)
            y = model(x)
            maps = model.stages(x)
            w = conv.weight.flatten(1)
            expected = maps.mean((2, 3)) @ w.T + conv.bias
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
        assert seen == [(1, 3, 2, 2) if first else (1, 3, 1, 1)]


@pytest.mark.parametrize(
    ("build", "size", "billions"),
    [(darknet19, 224, 5.58), (darknet53, 256, 18.57)],
)
def test_operations_are_as_published(build, size, billions):
    """Darknet counts a multiplication and an addition as two."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build().eval()(torch.empty(1, 3, size, size))
    assert round(counter.get_total_flops() / 1e9, 2) == billions


# Sizes in bytes of the authors' files; darknet19_448.conv.23 and
# darknet53.conv.74 end where a detector's own layers begin. The first has the
# shorter header of version 0.1.
@pytest.mark.parametrize(
    ("body", "size", "header"),
    [
        (darknet19_body, 79_327_120, 16),
        (darknet53_body, 162_482_580, 20),
    ],
)
def test_published_files_have_the_size_that_a_body_takes(body, size, header):
    with torch.device("meta"):
        state = body().state_dict()
    numbers = sum(
        t.numel() for n, t in state.items() if not n.endswith("tracked")
    )
    assert header + 4 * numbers == size


def test_weights_are_read_in_the_order_of_the_file(tmp_path):
    model = tiny()
    header = load_weights(model, write(tmp_path, HEADER + BODY))
    assert header == Header((0, 2, 5), 32_013_312)
    assert_holds(model, NUMBERS)


def test_images_seen_have_four_bytes_before_version_0_2(tmp_path):
    model = tiny()
    old = struct.pack("<iiii", 0, 1, 0, 6_400)
    header = load_weights(model, write(tmp_path, old + BODY))
    assert header == Header((0, 1, 0), 6_400)
    assert_holds(model, NUMBERS)


def test_images_seen_may_be_more_than_32_bits_hold(tmp_path):
    head = struct.pack("<iiiq", 1, 0, 0, 2**40 + 1)
    header = load_weights(tiny(), write(tmp_path, head + BODY))
    assert header == Header((1, 0, 0), 2**40 + 1)


def test_saved_file_has_these_bytes(tmp_path):
    model, path = tiny(), tmp_path / "new.weights"
    load_weights(model, write(tmp_path, HEADER + BODY))
    save_weights(model, path, seen=7)
    assert path.read_bytes() == struct.pack("<iiiq", 0, 2, 0, 7) + BODY
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "new.weights",
        "tiny.weights",
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_take_the_precision_of_the_model(dtype, tmp_path):
    model, path = tiny().to(dtype), tmp_path / "new.weights"
    load_weights(model, write(tmp_path, HEADER + BODY))
    assert_holds(model, NUMBERS)
    assert model[0].conv.weight.dtype == dtype
    save_weights(model, path)
    assert path.read_bytes()[20:] == BODY


def test_loaded_weights_are_the_models_own_and_still_learn(tmp_path):
    model = tiny()
    parameters = list(model.parameters())
    load_weights(model, write(tmp_path, HEADER + BODY))
    assert all(
        a is b for a, b in zip(model.parameters(), parameters, strict=True)
    )
    model(torch.randn(2, 1, 3, 3)).sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in parameters)


def test_a_part_of_a_model_loads_what_was_cut_off_there(tmp_path):
    model = tiny()
    load_weights(model[0], write(tmp_path, HEADER + BODY[:-12]))
    assert_holds(model[0], {k[2:]: v for k, v in list(NUMBERS.items())[:5]})


NAMES = list(NUMBERS)
ENDS = {0: 2, 8: 2, 16: 2, 24: 2, 32: 2, 40: 1, 44: 2}  # start of each, size


@pytest.mark.parametrize("cut", [1, 4, 9, 13, 20, 33, 51])
def test_truncated_file_says_where_it_ends(cut, tmp_path):
    """`cut` bytes of the numbers are there."""
    start = max(s for s in ENDS if s <= cut)
    name = NAMES[list(ENDS).index(start)]
    end = start + 4 * ENDS[start]
    model = tiny()
    before = {k: t.clone() for k, t in model.state_dict().items()}
    message = (
        rf"tiny.weights ends at byte {20 + cut}, within {name}, which takes "
        rf"bytes {20 + start} to {20 + end}; it is truncated"
    )
    with pytest.raises(ValueError, match=message):
        load_weights(model, write(tmp_path, HEADER + BODY[:cut]))
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]), name


@pytest.mark.parametrize("size", [0, 3, 11, 12, 19])
def test_file_that_ends_in_its_header_says_so(size, tmp_path):
    with pytest.raises(ValueError, match=rf"byte {size}, within its header"):
        load_weights(tiny(), write(tmp_path, HEADER[:size]))


@pytest.mark.parametrize("extra", [1, 4, 1000])
def test_longer_file_says_where_the_model_ends(extra, tmp_path):
    model = tiny()
    before = {k: t.clone() for k, t in model.state_dict().items()}
    path = write(tmp_path, HEADER + BODY + bytes(extra))
    with pytest.raises(
        ValueError, match=rf"goes on for {extra} bytes after byte 72,"
    ):
        load_weights(model, path)
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]), name


@pytest.mark.parametrize(
    "start",
    [b"PK\x03\x04rest of a zip", b"<!DOCTYPE html>", b"\x93NUMPY\x01\0"],
)
def test_foreign_file_is_told_by_its_first_bytes(start, tmp_path):
    path = write(tmp_path, start + bytes(100))
    with pytest.raises(ValueError, match="no version: it is no darknet file"):
        load_weights(tiny(), path)


def test_negative_count_of_images_is_refused(tmp_path):
    path = write(tmp_path, struct.pack("<iiiq", 0, 2, 0, -5) + BODY)
    with pytest.raises(ValueError, match="byte 12 that -5 images"):
        load_weights(tiny(), path)


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [
        (0, float("nan"), "0.norm.bias"),
        (7, -1.0, "0.norm.running_var"),
        (6, float("inf"), "0.norm.running_var"),
        (12, float("-inf"), "1.weight"),
    ],
)
def test_number_that_cannot_be_is_named_with_its_place(
    place, value, name, tmp_path
):
    model = tiny()
    before = {k: t.clone() for k, t in model.state_dict().items()}
    data = bytearray(HEADER + BODY)
    struct.pack_into("<f", data, 20 + 4 * place, value)
    message = rf"has {value} at byte {20 + 4 * place}, in {name};"
    with pytest.raises(ValueError, match=message):
        load_weights(model, write(tmp_path, bytes(data)))
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]), name


def test_weights_that_are_not_numbers_are_not_saved(tmp_path):
    model, path = tiny(), tmp_path / "old.weights"
    path.write_bytes(b"old")
    model[0].conv.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"0\.conv\.weight holds NaN"):
        save_weights(model, path)
    assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="seen=-1"):
        save_weights(tiny(), path, seen=-1)


def test_failed_save_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        save_weights(tiny(), tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(ConvUnit(1, 2, 1), nn.Linear(2, 2)),
            r"1\.weight .* Linear",
        ),
        (nn.Conv2d(1, 1, 1, bias=False), "weight has neither a bias"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)),
            r"1\.weight .* BatchNorm2d",
        ),
        (
            nn.Sequential(
                nn.Conv2d(1, 2, 1, bias=False),
                nn.BatchNorm2d(2, track_running_stats=False),
            ),
            r"0\.weight has neither",
        ),
    ],
)
def test_model_that_a_file_cannot_hold_is_refused(model, message, tmp_path):
    path = tmp_path / "new.weights"
    with pytest.raises(TypeError, match=message):
        save_weights(model, path)
    assert not path.exists()
    with pytest.raises(TypeError, match=message):
        load_weights(model, write(tmp_path, HEADER + BODY))


def test_body_of_other_channels_takes_them():
    y = darknet53_body(in_channels=1).eval()(torch.randn(1, 1, 32, 32))
    assert y.shape == (1, 1024, 1, 1)
