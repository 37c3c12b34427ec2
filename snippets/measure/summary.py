"""Describe each layer of a network, as one forward pass finds it.

Builds on `trace.py` beside it, which follows the receptive fields.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .trace import Trace

TITLES = (
    "layer",
    "type",
    "output shape",
    "parameters",
    "MACs",
    "activation bytes",
    "receptive field",
)
DASH = "–"


# --8<-- [start:row]
@dataclass(frozen=True)
class Row:
    """One call of one layer.

    shapes: of each tensor it returns; none for a layer that was not called.
    parameters: its own, those that no earlier row has counted.
    macs: multiply-adds of convolutions, transposed convolutions and linear
    layers; biases, normalization, pooling, activations and the products of
    attention do not count.
    activation_bytes: of its output, where that is new memory: 0 for a layer
    that writes in place or returns a view.
    receptive_field: pixels of the network's input that a position of its
    output depends on, along each axis; padding included, so it may be larger
    than the input; along the largest path where there are several. None where
    a function on the way has no known field.
    """

    name: str
    type: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    macs: int
    activation_bytes: int
    receptive_field: tuple[int, ...] | None


# --8<-- [end:row]


# --8<-- [start:summary]
@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order in which they finish."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Count the network's parameters, shared ones once."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Count the multiply-adds of one forward pass."""
        return sum(row.macs for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Count the bytes of all outputs of layers."""
        return sum(row.activation_bytes for row in self.rows)

    def text(
        self, titles: Sequence[str] = TITLES, *, total: str = "total"
    ) -> str:
        """Lay the table out for a terminal."""
        lines = [*self._cells(titles), self._totals(total)]
        widths = [
            max(map(_width, column)) for column in zip(*lines, strict=True)
        ]
        lines.insert(1, ["-" * width for width in widths])
        lines.insert(-1, lines[1])
        return "\n".join(
            "  ".join(map(_justify, line, widths, _RIGHT)).rstrip()
            for line in lines
        )

    __str__ = text

    def markdown(
        self, titles: Sequence[str] = TITLES, *, total: str = "total"
    ) -> str:
        """Write the table in Markdown."""
        lines = self._cells(titles)
        for line in lines[1:]:
            line[0] = f"`{line[0]}`" if line[0] else ""
        lines.insert(1, ["--:" if right else "---" for right in _RIGHT])
        lines.append([f"**{total}**", *self._totals(total)[1:]])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def csv(self) -> str:
        """Write the rows as CSV, without totals; what is unknown is empty."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row.__dataclass_fields__)
        for row in self.rows:
            shapes = " ".join(_times(shape, "x") for shape in row.shapes)
            numbers = (row.parameters, row.macs, row.activation_bytes)
            field = _times(row.receptive_field or (), "x")
            writer.writerow([row.name, row.type, shapes, *numbers, field])
        return file.getvalue()

    def _cells(self, titles: Sequence[str]) -> list[list[str]]:
        if len(titles) != len(TITLES):
            raise ValueError(f"`titles={titles!r}` must be {len(TITLES)}")
        return [[*titles]] + [
            [
                row.name,
                row.type,
                ", ".join(_times(shape) or "()" for shape in row.shapes)
                or DASH,
                f"{row.parameters:,}",
                f"{row.macs:,}",
                f"{row.activation_bytes:,}",
                _times(row.receptive_field or ()) or DASH,
            ]
            for row in self.rows
        ]

    def _totals(self, total: str) -> list[str]:
        numbers = (self.parameters, self.macs, self.activation_bytes)
        return [total, "", "", *(f"{number:,}" for number in numbers), ""]


# --8<-- [end:summary]


_RIGHT = (False, False, False, True, True, True, True)


def _times(numbers: Sequence[int], sign: str = "×") -> str:
    return sign.join(map(str, numbers))


def _width(cell: str) -> int:
    """Count a terminal's columns: a Chinese character takes two."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in cell)


def _justify(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


# --8<-- [start:summarize]
def summarize(model: nn.Module, /, *args: Any, **kwargs: Any) -> Summary:
    """Run the network once on these arguments and describe its layers.

    The arguments may nest tensors in lists, tuples and dictionaries; those of
    shape (N, C, *space) are what receptive fields are measured in. On the meta
    device, for network and arguments, nothing is computed and the table is
    the same. The pass is made in evaluation mode and without gradients, on
    copies of arguments and buffers; modes, buffers, gradients and hooks are
    afterwards as before, also when it raises.
    Layers are the modules that call no other, and those that hold parameters
    or make products themselves. One that is called twice has two rows; those
    with parameters that are not called stand at the end.
    Raises TypeError where `model` is no module, ValueError where its
    parameters are not initialized.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be a torch.nn.Module, not {type(model).__name__}"
        )
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise ValueError("`model` has lazy parameters: call it once first")
    trace = Trace()
    record = _Record(model, trace)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_evaluation(model))
        args, kwargs = tree_map_only(Tensor, Tensor.clone, (args, kwargs))
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor):
                trace.start(x)
        stack.enter_context(record.hooks())
        stack.enter_context(trace)
        stack.enter_context(record.products)
        torch.func.functional_call(model, buffers, args, kwargs)
    return Summary(tuple(record.rows + record.uncalled()))


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# --8<-- [end:summarize]


# --8<-- [start:macs]
class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the multiply-adds of convolutions and linear layers."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.trace = trace

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        match str(func).split(".")[1]:
            case "convolution" | "_convolution":
                x, weight, transposed = args[0], args[1], args[6]
                positions = x if transposed else result
                self.macs += positions.numel() * weight[0].numel()
            case "mm" | "addmm":
                self.macs += result.numel() * args[-1].shape[0]
            case "bmm" if self.trace.calling == "linear":
                self.macs += result.numel() * args[-1].shape[1]
        return result


# --8<-- [end:macs]


# --8<-- [start:record]
class _Record:
    """Write a row whenever a layer finishes."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.rows: list[Row] = []
        self.trace = trace
        self.products = _Products(trace)
        self.names = {module: name for name, module in model.named_modules()}
        self.called: set[nn.Module] = set()
        self.counted: set[Tensor] = set()
        # Of each call under way: its MACs so far, and the calls before it.
        self.under_way: list[tuple[int, int]] = []
        self.calls = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        handles = []
        try:
            for module in self.names:
                before = module.register_forward_pre_hook(self._enter)
                handles.append(before)
                after = module.register_forward_hook(
                    self._leave, with_kwargs=True
                )
                handles.append(after)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.calls += 1
        self.under_way.append((self.products.macs, self.calls))
        self.products.macs = 0

    def _leave(
        self, module: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        macs = self.products.macs
        self.products.macs, call = self.under_way.pop()
        self.called.add(module)
        self.trace.check((args, kwargs), output)
        if macs or call == self.calls or _own(module):
            self.rows.append(self._row(module, (args, kwargs), output, macs))

    def _row(
        self, module: nn.Module, inputs: Any, output: Any, macs: int
    ) -> Row:
        outputs = [y for y in tree_leaves(output) if isinstance(y, Tensor)]
        inputs = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
        memory = dict(map(_memory, outputs))
        for place, _ in map(_memory, inputs):
            memory.pop(place, None)
        return Row(
            name=self.names[module],
            type=type(module).__name__,
            shapes=tuple(tuple(y.shape) for y in outputs),
            parameters=self._count(module),
            macs=macs,
            activation_bytes=sum(memory.values()),
            receptive_field=_largest([self.trace.size(y) for y in outputs]),
        )

    def _count(self, module: nn.Module) -> int:
        own = _own(module) - self.counted
        self.counted |= own
        return sum(p.numel() for p in own)

    def uncalled(self) -> list[Row]:
        return [
            Row(
                self.names[module],
                type(module).__name__,
                (),
                self._count(module),
                0,
                0,
                None,
            )
            for module in self.names
            if module not in self.called and _own(module)
        ]


# --8<-- [end:record]


def _own(module: nn.Module) -> set[Tensor]:
    return {*module.parameters(recurse=False)}


def _memory(x: Tensor) -> tuple[int, int]:
    """Return where the memory of x is, and its bytes."""
    storage = x.untyped_storage()
    return storage._cdata, storage.nbytes()


def _largest(
    fields: list[tuple[int, ...] | None],
) -> tuple[int, ...] | None:
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({len(field) for field in known}) != 1:
        return None
    return tuple(max(sizes) for sizes in zip(*known, strict=True))
