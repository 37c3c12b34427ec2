"""Follow the receptive field of every tensor while a network runs."""

from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass, replace
from functools import cache, partial
from math import gcd, lcm, prod
from types import EllipsisType as Rest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

Span = tuple[int, int]
Ints = int | Sequence[int]


class UnknownFieldError(Exception):
    """Say that no rule below tells what a tensor sees."""


# --8<-- [start:axis]
class Part(NamedTuple):
    """What is left of a dimension that was merged into another.

    Its position is i // place % size at position i of dimension `dim`.
    """

    dim: int
    place: int
    size: int


@dataclass(frozen=True)
class Axis:
    """What the positions of a tensor see of one axis of the network's input.

    Position i sees the pixels `spans[i % period]`, half-open and moved by
    `jump * (i // period)`; after a plain convolution the period is 1. Pixels
    below 0 and past the input's end are padding. Where maps were joined or
    rolled along the axis, `spans` is all there is (`listed`), and padding sees
    what the outermost position does. `dims` are the tensor's dimensions, or
    parts of them, that run along the axis, counted from the last (-1), the
    slowest first; none where every position sees the same.
    """

    dims: tuple[int | Part, ...]
    spans: tuple[Span, ...] = ((0, 1),)
    jump: int = 1
    listed: bool = False

    def at(self, i: int) -> Span:
        """Return the pixels that position i sees."""
        if self.listed:
            return self.spans[min(max(i, 0), len(self.spans) - 1)]
        turn, phase = divmod(i, len(self.spans))
        start, stop = self.spans[phase]
        return start + turn * self.jump, stop + turn * self.jump

    def size(self, n: int) -> int:
        """Return how many pixels one of the first n positions sees at most."""
        seen = [self.at(i) for i in range(min(n, len(self.spans)))]
        return max(stop - start for start, stop in seen)

    def slide(self, windows: Iterable[Span], step: int, gap: int = 1) -> "Axis":
        """Let output i see the positions of window i, ends included.

        After the last window they repeat, moved by `step`: one window
        (-padding, -padding + kernel_size - 1) is a convolution of that stride.
        `gap` is that from one position to the next within a window.
        """
        windows = tuple(windows)
        if self.listed:
            if gap > 1:
                raise UnknownFieldError("the gaps may hold the joint")
            # From the last turn on all see the last position.
            free = len(self.spans) - 1 - min(first for first, _ in windows)
            return replace(
                self,
                spans=tuple(
                    self.over(first + turn * step, last + turn * step)
                    for turn in range(-(-free // step) + 1)
                    for first, last in windows
                ),
            )
        turns = len(self.spans) // gcd(step, len(self.spans))
        spans = tuple(
            (self.at(first + turn * step)[0], self.at(last + turn * step)[1])
            for turn in range(turns)
            for first, last in windows
        )
        moved = self.jump * turns * step // len(self.spans)
        return Axis(self.dims, spans, moved)

    def over(self, first: int, last: int) -> Span:
        """Return the pixels that the positions first to last see."""
        if not self.listed:
            return self.at(first)[0], self.at(last)[1]
        starts, stops = zip(*map(self.at, range(first, last + 1)), strict=True)
        return min(starts), max(stops)

    def whole(self, n: int) -> "Axis":
        """Let every output see all n positions."""
        return Axis((), (self.over(0, n - 1),), 0)

    def union(self, other: "Axis", n: int) -> "Axis":
        """Let each of n positions see what it sees in one or the other."""
        if self.dims == other.dims:
            listed = self.listed or other.listed
            period = n if listed else lcm(len(self.spans), len(other.spans))
            moved = 0 if listed else self.at(period)[0] - self.at(0)[0]
            if not listed and moved != other.at(period)[0] - other.at(0)[0]:
                raise UnknownFieldError("the positions drift apart")
            pairs = [(self.at(i), other.at(i)) for i in range(period)]
            spans = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
            return Axis(self.dims, spans, moved, listed)
        wide, narrow = (other, self) if self.dims else (self, other)
        (start, stop), (all_of_it,) = wide.at(0), narrow.whole(n).spans
        if wide.dims or all_of_it[0] < start or stop < all_of_it[1]:
            raise UnknownFieldError("the positions do not run alike")
        return wide


# --8<-- [end:axis]


Field = tuple[Axis, ...]  # one for each axis of the input; () sees no pixel
See = Callable[[Tensor], Field]
Rule = Callable[..., Field]
Note = tuple[Field | None, int]  # and the version of the tensor


# --8<-- [start:trace]
class Trace(TorchFunctionMode):
    """Note for each tensor, as it is computed, which pixels it sees.

    Use as a context around the forward pass of a network in evaluation mode.
    A field is that of a position, so of all channels there together; where
    paths meet it spans what any of them sees. What is computed by a function
    without a rule is unknown, and so is all that follows from it. So is all
    once a pixel's value becomes a plain number or decides on a branch; `leak`
    then names the function by which it did.
    Source: Araujo, Norris and Sim 2019, eq. 2 and sections on alignment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calling = ""  # the function under way
        self.leak = ""  # the function by which pixels left as plain numbers
        self._notes: MutableMapping[Tensor, Note] = WeakIdKeyDictionary()

    def start(self, x: Tensor) -> None:
        """Take x, of shape (N, C, *space), for an input of the network."""
        space = range(min(2 - x.ndim, 0), 0)
        self._note(x, tuple(Axis((dim,)) for dim in space))

    def field(self, x: Tensor) -> Field | None:
        """Return what x sees, None where it is not known."""
        if self.leak:
            return None
        if x not in self._notes:
            return ()
        field, version = self._notes[x]
        # What was written to since, through a view, is not as noted.
        return field if version == _version(x) else None

    def size(self, x: Tensor) -> tuple[int, ...] | None:
        """Return how many pixels a position of x sees along each axis.

        The largest, where positions differ; None where it is not known, or
        where x sees nothing of any axis.
        """
        field = self.field(x)
        return tuple(axis.size(_count(axis, x)) for axis in field or ()) or None

    def check(self, inputs: Any, outputs: Any) -> None:
        """Take for unknown what a module made of its inputs unobserved."""
        if any(x in self._notes for x in _tensors(inputs)):
            for y in _tensors(outputs):
                if y not in self._notes:
                    self._note(y, None)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        fields = {id(x): self.field(x) for x in inputs if x in self._notes}
        versions = [_version(x) for x in inputs]
        self.calling = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if fields:
            for x, version in zip(inputs, versions, strict=True):
                if _version(x) != version:
                    self._note(x, None)
                    if x._base is not None:
                        self._note(x._base, None)
            field = _apply(self.calling, fields, result, args, kwargs)
            for y in _tensors(result):
                self._note(y, field)
            if self.calling in LEAKS and any(f != () for f in fields.values()):
                self.leak = self.leak or self.calling
        self.calling = ""
        return result

    def _note(self, x: Tensor, field: Field | None) -> None:
        if field is not None:
            field = tuple(
                replace(axis, spans=axis.spans[: _count(axis, x)])
                if axis.listed
                else axis
                for axis in field
            )
        self._notes[x] = (field, _version(x))


def _apply(
    name: str,
    fields: dict[int, Field | None],
    result: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Field | None:
    """Look up the rule for a function and return what its result sees."""
    seen = set()

    def see(x: Tensor) -> Field:
        seen.add(id(x))
        field = fields.get(id(x), ())
        if field is None:
            raise UnknownFieldError("a function without a rule was here")
        return field

    rule = RULES.get(name) or (_pointwise if _is_pointwise(name) else None)
    if rule is None:
        return None
    try:
        answer = rule(see, result, *args, **kwargs)
    except Exception:  # a call that the rule does not foresee must still run
        return None
    # A weight may see pixels too; the rules for layers do not ask it.
    others = [field for key, field in fields.items() if key not in seen]
    if any(f != () for f in others) and rule not in (_keep, _nothing):
        return None
    return answer


# --8<-- [end:trace]


# Each rule has the arguments of the functions it stands for, after `see`,
# which tells what an argument sees, and y, their result.


# --8<-- [start:windows]
def _conv(
    see: See,
    y: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    *_: Any,
    **__: Any,
) -> Field:
    n = weight.ndim - 2
    k, d = tuple(weight.shape[2:]), _each(dilation, n)
    if padding == "same":
        padding = tuple((k[i] - 1) * d[i] // 2 for i in range(n))
    elif isinstance(padding, str):
        padding = 0
    return _windows(see(input), n, k, stride, padding, d)


def _max_pool(
    n: int,
    see: See,
    y: Tensor,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    *_: Any,
    **__: Any,
) -> Field:
    step = stride or kernel_size
    return _windows(see(input), n, kernel_size, step, padding, dilation)


def _avg_pool(
    n: int,
    see: See,
    y: Tensor,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    *_: Any,
    **__: Any,
) -> Field:
    step = stride or kernel_size
    return _windows(see(input), n, kernel_size, step, padding, 1)


def _windows(
    field: Field,
    n: int,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
) -> Field:
    settings = [_each(some, n) for some in (kernel, stride, padding, dilation)]
    return tuple(
        axis.slide([(-p, -p + d * (k - 1))], s, d)
        for axis, k, s, p, d in zip(_spatial(field, n), *settings, strict=True)
    )


def _conv_transpose(
    see: See,
    y: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Field:
    n = weight.ndim - 2

    def windows(k: int, s: int, p: int, d: int) -> Iterator[Span]:
        # Tap t of input i lands on output i * s - p + d * t.
        for output in range(s):
            landing = [output + p - d * t for t in range(k)]
            sources = [i // s for i in landing if i % s == 0]
            if not sources:
                raise UnknownFieldError("some outputs see nothing")
            yield min(sources), max(sources)

    settings = [_each(some, n) for some in (stride, padding, dilation)]
    return tuple(
        axis.slide(windows(k, s, p, d), 1, d)
        for axis, k, s, p, d in zip(
            _spatial(see(input), n), weight.shape[2:], *settings, strict=True
        )
    )


# --8<-- [end:windows]


# --8<-- [start:resize]
def _adaptive_pool(
    k: int,
    see: See,
    y: Tensor | tuple[Tensor, Tensor],
    input: Tensor,
    output_size: Ints | None,
    return_indices: bool = False,
) -> Field:
    def windows(n: int, m: int) -> list[Span]:
        return [(i * n // m, ((i + 1) * n - 1) // m) for i in range(m)]

    pooled = y if isinstance(y, Tensor) else y[0]
    return _resize(_spatial(see(input), k), input, pooled, windows)


def _interpolate(
    see: See,
    y: Tensor,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Field:
    linear = mode in ("linear", "bilinear", "trilinear")
    if align_corners or antialias or not (linear or mode == "nearest"):
        raise UnknownFieldError(f"mode={mode!r} has no rule")
    n = input.ndim - 2
    if scale_factor is not None and not recompute_scale_factor:
        scales = _each(scale_factor, n)
        sizes = [s * i for s, i in zip(scales, input.shape[2:], strict=True)]
        if sizes != list(y.shape[2:]):
            raise UnknownFieldError("the scale is not that of the sizes")

    def windows(n: int, m: int) -> Iterator[Span]:
        for i in range(m):
            if linear:
                first, rest = divmod((2 * i + 1) * n - m, 2 * m)
                yield first, first + (rest > 0)
            else:
                yield i * n // m, i * n // m

    return _resize(_spatial(see(input), n), input, y, windows)


def _resize(
    field: Field,
    x: Tensor,
    y: Tensor,
    windows: Callable[[int, int], Iterable[Span]],
) -> Field:
    """Slide windows(n, m) over axes that go from n to m positions."""
    result = []
    for axis in field:
        if axis.dims:
            dim = _only(axis)
            n, m = x.shape[dim], y.shape[dim]
            n, m = n // gcd(n, m), m // gcd(n, m)
            axis = axis.slide(windows(n, m), n)
        result.append(axis)
    return tuple(result)


def _pixel_shuffle(
    see: See, y: Tensor, input: Tensor, upscale_factor: int
) -> Field:
    same = [(0, 0)] * upscale_factor
    return tuple(axis.slide(same, 1) for axis in _spatial(see(input), 2))


def _pixel_unshuffle(
    see: See, y: Tensor, input: Tensor, downscale_factor: int
) -> Field:
    s = downscale_factor
    return tuple(
        axis.slide([(0, s - 1)], s) for axis in _spatial(see(input), 2)
    )


def _pad(
    see: See,
    y: Tensor,
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Field:
    if mode == "circular":
        raise UnknownFieldError("a circular edge sees the other one")

    def shift(axis: Axis) -> Axis:
        place = 2 * (-1 - _only(axis))
        before = pad[place] if place < len(pad) else 0
        return axis.slide([(-before, -before)], 1)

    return tuple(shift(a) if a.dims else a for a in see(input))


# --8<-- [end:resize]


# --8<-- [start:mix]
def _keep(see: See, y: Tensor, input: Tensor, *_: Any, **__: Any) -> Field:
    return _union(see, y, [input])


def _nothing(see: See, y: Tensor, *_: Any, **__: Any) -> Field:
    return ()


def _pointwise(see: See, y: Tensor, *args: Any, **kwargs: Any) -> Field:
    return _union(see, y, _tensors((args, kwargs)))


def _union(see: See, y: Tensor, xs: Iterable[Tensor]) -> Field:
    """Join what tensors see that are broadcast to y."""
    return _join(
        y, [tuple(_stretch(axis, x, y) for axis in see(x)) for x in xs]
    )


def _join(y: Tensor, fields: Iterable[Field]) -> Field:
    result: Field = ()
    for field in fields:
        if result and field and len(result) != len(field):
            raise UnknownFieldError("the inputs have other axes")
        result = tuple(
            a.union(b, _count(a if a.dims else b, y))
            for a, b in zip(result or field, field or result, strict=True)
        )
    return result


def _stretch(axis: Axis, x: Tensor, y: Tensor) -> Axis:
    """Let all positions see the same where x has one and y has many."""
    if axis.dims and _count(axis, x) == 1 and _count(axis, y) > 1:
        return axis.whole(1)
    return axis


def _mix(field: Field, x: Tensor, dims: Iterable[int]) -> Field:
    """Let each position see what all do along the given dimensions."""
    gone = {dim % x.ndim - x.ndim for dim in dims}
    return tuple(_merge(axis, x.shape, gone) for axis in field)


def _merge(axis: Axis, shape: Sequence[int], gone: set[int]) -> Axis:
    """Let the positions of an axis see what all do along some dimensions."""
    parts = [_part(dim, shape) for dim in axis.dims]
    mixed = [part.dim in gone for part in parts]
    sizes = [part.size for part in parts]
    k = sum(mixed)
    if not k:
        return axis
    if k == len(mixed):
        return axis.whole(prod(sizes))
    if all(mixed[-k:]):
        s = prod(sizes[-k:])
        axis = axis.slide([(0, s - 1)], s)
    elif all(mixed[:k]):
        s = prod(sizes[k:])
        axis = axis.slide([(0, prod(sizes) - s)], 1, s)
    else:
        raise UnknownFieldError("the middle of three dimensions is mixed")
    kept = zip(axis.dims, mixed, strict=True)
    return replace(axis, dims=tuple(dim for dim, gone in kept if not gone))


def _reduce(
    see: See,
    y: Tensor | tuple[Tensor, Tensor],
    input: Tensor,
    dim: Ints | Tensor | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Field:
    if isinstance(dim, Tensor):  # the larger of two tensors
        larger = y if isinstance(y, Tensor) else input
        return _union(see, larger, [input, dim])
    dims = range(input.ndim) if dim is None or dim == () else _each(dim)
    field = _mix(see(input), input, dims)
    return field if keepdim else _drop(field, input, dims)


def _drop(field: Field, x: Tensor, dims: Iterable[int]) -> Field:
    """Renumber dimensions as others, which no axis runs along, go."""
    gone = [dim % x.ndim - x.ndim for dim in dims]
    return _renumber(field, lambda dim: dim + sum(g > dim for g in gone))


def _renumber(field: Field, number: Callable[[int], int]) -> Field:
    def moved(dim: int | Part) -> int | Part:
        if isinstance(dim, int):
            return number(dim)
        return dim._replace(dim=number(dim.dim))

    return tuple(replace(a, dims=tuple(map(moved, a.dims))) for a in field)


def _linear(
    see: See,
    y: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Field:
    return _mix(see(input), input, [-1])


def _softmax(
    see: See,
    y: Tensor,
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Field:
    if dim is None:
        raise UnknownFieldError("the dimension is left to torch")
    return _mix(see(input), input, [dim])


def _normalize(
    see: See,
    y: Tensor,
    input: Tensor,
    p: float = 2.0,
    dim: Ints = 1,
    eps: float = 1e-12,
    out: Tensor | None = None,
) -> Field:
    return _mix(see(input), input, _each(dim))


def _layer_norm(
    see: See,
    y: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    *_: Any,
    **__: Any,
) -> Field:
    return _mix(see(input), input, range(-len(normalized_shape), 0))


def _group_norm(
    see: See, y: Tensor, input: Tensor, *_: Any, **__: Any
) -> Field:
    return _mix(see(input), input, range(1, input.ndim))


def _instance_norm(
    see: See,
    y: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Field:
    mixed = range(2, input.ndim) if use_input_stats else ()
    return _mix(see(input), input, mixed)


def _batch_norm(
    see: See,
    y: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Field:
    mixed = range(input.ndim) if training else ()
    return _mix(see(input), input, mixed)


# --8<-- [end:mix]


# --8<-- [start:shape]
def _reshape(see: See, y: Tensor, input: Tensor, *_: Any, **__: Any) -> Field:
    return _regroup(see(input), input.shape, y.shape)


def _regroup(field: Field, old: Sequence[int], new: Sequence[int]) -> Field:
    """Find the dimensions of a reshaped tensor that run along its axes.

    Dimension 1 is that of channels: what merges into it, as when a map is
    flattened, every position sees from then on. Only tokens, of shape
    (N, positions, C), keep theirs, also where C is divided further.
    """
    field = tuple(_place(axis, old, new) for axis in field)
    first = 1 - len(new)
    dims = [dim for axis in field for dim in axis.dims]
    parts = [d for d in dims if isinstance(d, Part) and d.dim == first]
    positions = prod(part.size for part in parts)
    tokens = len(new) == 3 or new[:2] == old[:2]
    if not parts or (tokens and positions == new[1]):
        return field
    return tuple(_merge(axis, new, {first}) for axis in field)


def _place(axis: Axis, old: Sequence[int], new: Sequence[int]) -> Axis:
    """Find the dimensions or their parts that run along an axis."""
    parts: list[Part] = []
    for dim, place, size in (_part(dim, old) for dim in axis.dims):
        inner = place * prod(old[len(old) + dim + 1 :])
        outer = inner * size
        for i in range(len(new)):
            step = prod(new[i + 1 :])
            low, high = max(inner, step), min(outer, step * new[i])
            if low < high:
                if low % inner or low % step or high % low or outer % high:
                    raise UnknownFieldError("positions run along no dimension")
                part = Part(i - len(new), low // step, high // low)
                if parts and parts[-1][:2] == (part.dim, part.place * part[2]):
                    part = part._replace(size=part.size * parts.pop().size)
                parts.append(part)
    if axis.dims and not parts:
        return axis.whole(1)
    whole = [part.size == new[part.dim] for part in parts]
    pairs = zip(parts, whole, strict=True)
    return replace(axis, dims=tuple(p.dim if all_ else p for p, all_ in pairs))


def _permute(see: See, y: Tensor, input: Tensor, *dims: Any) -> Field:
    order = [int(dim) % y.ndim for dim in tree_leaves(dims)]
    return _reorder(see(input), order)


def _swap(see: See, y: Tensor, input: Tensor, dim0: int, dim1: int) -> Field:
    order = [*range(y.ndim)]
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _reorder(see(input), order)


def _reorder(field: Field, order: list[int]) -> Field:
    n = len(order)
    return _renumber(field, lambda dim: order.index(dim + n) - n)


def _cat(see: See, y: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Field:
    dim = dim % y.ndim - y.ndim
    fields = [see(x) for x in tensors]
    if not any(_along(axis, dim) for field in fields for axis in field):
        return _union(see, y, tensors)
    sizes = [x.shape[dim] for x in tensors]

    def join(axes: Sequence[Axis]) -> Axis:
        if not any(_along(axis, dim) for axis in axes):
            return _join(y, [(axis,) for axis in axes])[0]
        if any(axis.dims not in ((dim,), ()) for axis in axes):
            raise UnknownFieldError("the positions do not run alike")
        pairs = zip(axes, sizes, strict=True)
        spans = [axis.at(i) for axis, n in pairs for i in range(n)]
        return Axis((dim,), tuple(spans), 0, listed=True)

    return tuple(map(join, zip(*fields, strict=True)))


def _stack(
    see: See, y: Tensor, tensors: Sequence[Tensor], dim: int = 0
) -> Field:
    dim %= y.ndim
    one = (*y.shape[:dim], 1, *y.shape[dim + 1 :])
    return _join(y, [_regroup(see(x), x.shape, one) for x in tensors])


def _roll(
    see: See, y: Tensor, input: Tensor, shifts: Ints, dims: Ints | None = None
) -> Field:
    if dims is None:
        raise UnknownFieldError("all dimensions are rolled as one")
    moves: dict[int, int] = {}
    for dim, shift in zip(_each(dims), _each(shifts), strict=True):
        dim = dim % y.ndim - y.ndim
        moves[dim] = moves.get(dim, 0) + shift

    def turn(axis: Axis) -> Axis:
        if not any(_along(axis, dim) for dim in moves):
            return axis
        dim = _only(axis)
        n = y.shape[dim]
        spans = tuple(axis.at((i - moves[dim]) % n) for i in range(n))
        return Axis((dim,), spans, 0, listed=True)

    return tuple(map(turn, see(input)))


def _split(
    see: See, y: Sequence[Tensor], input: Tensor, parts: Any, dim: int = 0
) -> Field:
    return _apart(see(input), input, dim)


def _apart(field: Field, x: Tensor, dim: int) -> Field:
    """Refuse to cut or join along a dimension that runs along an axis."""
    if any(_along(axis, dim % x.ndim - x.ndim) for axis in field):
        raise UnknownFieldError("positions shift")
    return field


def _getitem(see: See, y: Tensor, input: Tensor, index: Any) -> Field:
    items = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(i, int | slice | list | Rest | None) for i in items):
        raise UnknownFieldError("the index holds more than slices and lists")
    chosen = [item for item in items if isinstance(item, list)]
    if len(chosen) + any(isinstance(item, int) for item in items) > 1 or any(
        not isinstance(i, int) for item in chosen for i in item
    ):
        raise UnknownFieldError("the lists move dimensions")
    if Ellipsis not in items:
        items.append(Ellipsis)
    given = sum(isinstance(item, int | slice | list) for item in items)
    place = items.index(Ellipsis)
    items[place : place + 1] = [slice(None)] * (input.ndim - given)
    slices = [item for item in items if item is not None]
    kept = [item for item in items if not isinstance(item, int)]
    places = [i - y.ndim for i, item in enumerate(kept) if item is not None]
    sliced = [i for i, item in enumerate(slices) if not isinstance(item, int)]
    moves = {i - input.ndim: to for i, to in zip(sliced, places, strict=True)}

    def cut(axis: Axis) -> Axis:
        dim = _only(axis)
        if not isinstance(slices[dim], slice):
            raise UnknownFieldError("positions are picked")
        start, _, step = slices[dim].indices(input.shape[dim])
        axis = axis.slide([(start, start)], step)
        return replace(axis, dims=(moves[dim],))

    return tuple(cut(axis) if axis.dims else axis for axis in see(input))


# --8<-- [end:shape]


def _spatial(field: Field, n: int) -> Field:
    """Check that the field's axes run along the last n dimensions."""
    expected = range(-n, 0)
    if field and len(field) != n:
        raise UnknownFieldError(f"the input has not {n} axes")
    for axis, dim in zip(field, expected, strict=False):
        if axis.dims not in ((), (dim,)):
            raise UnknownFieldError("the axes are not the last dimensions")
    return field


def _only(axis: Axis) -> int:
    match axis.dims:
        case (int() as dim,):
            return dim
    raise UnknownFieldError("positions run along parts of dimensions")


def _along(axis: Axis, dim: int) -> bool:
    """Tell whether a dimension runs along an axis, as a whole or in part."""
    return any(dim == (d if isinstance(d, int) else d.dim) for d in axis.dims)


def _part(dim: int | Part, shape: Sequence[int]) -> Part:
    return Part(dim, 1, shape[dim]) if isinstance(dim, int) else dim


def _count(axis: Axis, x: Tensor) -> int:
    """Count the positions of x along an axis."""
    parts = (_part(d, (*[1] * 9, *x.shape)) for d in axis.dims)
    return prod(part.size for part in parts)


def _each(value: Any, n: int = 1) -> tuple[Any, ...]:
    """Return n settings, one for each dimension, as torch reads them."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * n if len(values) == 1 else values


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _version(x: Tensor) -> int:
    """Count how often x was written to."""
    return 0 if x.is_inference() else x._version


@cache
def _is_pointwise(name: str) -> bool:
    """Ask torch whether a function acts on each element alone."""
    bare = name.strip("_")
    names = (bare, bare[1:]) if name.startswith(("__r", "__i")) else (bare,)
    packets = [getattr(torch.ops.aten, some, None) for some in names]
    return any(
        torch.Tag.pointwise in getattr(packet, overload).tags
        for packet in packets
        if packet is not None
        for overload in packet.overloads()
    )


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


LEAKS = {
    *("item", "tolist", "numpy", "is_nonzero", "equal", "allclose"),
    *("__bool__", "__int__", "__index__", "__float__", "__complex__"),
    *("__array__", "__contains__"),
}


# --8<-- [start:rules]
RULES: dict[str, Rule] = {
    **_named(_conv, "conv1d conv2d conv3d"),
    **_named(
        _conv_transpose, "conv_transpose1d conv_transpose2d conv_transpose3d"
    ),
    **_named(_linear, "linear"),
    **_named(_batch_norm, "batch_norm"),
    **_named(_group_norm, "group_norm"),
    **_named(_instance_norm, "instance_norm"),
    **_named(_layer_norm, "layer_norm rms_norm"),
    **_named(_normalize, "normalize"),
    **_named(_softmax, "softmax log_softmax"),
    **_named(_reduce, "mean sum amax amin max min"),
    **_named(_interpolate, "interpolate"),
    **_named(_pad, "pad"),
    **_named(_pixel_shuffle, "pixel_shuffle"),
    **_named(_pixel_unshuffle, "pixel_unshuffle"),
    **_named(_cat, "cat concat concatenate"),
    **_named(_stack, "stack"),
    **_named(_roll, "roll"),
    **_named(_split, "split chunk"),
    **_named(_getitem, "__getitem__"),
    **_named(_permute, "permute"),
    **_named(_swap, "transpose swapaxes"),
    **_named(_reshape, "flatten view reshape unflatten squeeze unsqueeze"),
    **_named(_pointwise, "prelu hardswish __rdiv__ __rtruediv__"),
    **_named(_nothing, "zeros_like ones_like full_like new_zeros new_ones"),
    **_named(
        _keep,
        "contiguous clone detach to float double half bfloat16 type cpu cuda "
        "expand expand_as dropout dropout1d dropout2d dropout3d "
        "local_response_norm channel_shuffle softsign tanhshrink log_sigmoid",
    ),
}
for _n in (1, 2, 3):
    RULES[f"avg_pool{_n}d"] = partial(_avg_pool, _n)
    RULES[f"max_pool{_n}d"] = partial(_max_pool, _n)
    RULES[f"max_pool{_n}d_with_indices"] = partial(_max_pool, _n)
    RULES[f"adaptive_avg_pool{_n}d"] = partial(_adaptive_pool, _n)
    RULES[f"adaptive_max_pool{_n}d"] = partial(_adaptive_pool, _n)
    RULES[f"adaptive_max_pool{_n}d_with_indices"] = partial(_adaptive_pool, _n)
# --8<-- [end:rules]
