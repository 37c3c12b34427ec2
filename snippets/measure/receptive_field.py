"""Find by gradient which pixels a unit of a network depends on."""

from collections.abc import Callable, MutableMapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary


# --8<-- [start:box]
class Box(NamedTuple):
    """Pixels start to stop, half-open, along each axis of the input."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Count the pixels along each axis."""
        ends = zip(self.start, self.stop, strict=True)
        return tuple(stop - start for start, stop in ends)


# --8<-- [end:box]


# --8<-- [start:receptive_field]
def receptive_field(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    channel: int | None = None,
) -> Box:
    """Find the smallest box of pixels that holds all that a unit depends on.

    input_shape: (C, *space), without the batch. layer: a name out of
    `model.named_modules()`, by default the network's output. unit: the
    position along each spatial axis of that output, by default the central
    one (size // 2). channel: of the unit, by default all together.
    The box ends at the input's edges: take an input large enough to see the
    whole field. The network is measured in evaluation mode, on a copy.
    In place of the unit's gradient a NaN goes back, and marks each pixel that
    it reaches: 0 · NaN is NaN, so the values of weights, activations and
    pixels do not matter. Only a choice would stop it: ReLU and its like and
    max pooling therefore pass a gradient of 0 to all that they look at. A
    neighbour in bilinear interpolation counts even where its weight is 0.
    What the network detaches counts for nothing.
    Raises ValueError for a layer or unit that does not exist or depends on no
    pixel, for choices it cannot open (dilated max pooling, sorting) and for
    functions through which no gradient goes (signs, rounding, comparisons
    unless `where` or `masked_fill` takes them); TypeError for a model or an
    output of the wrong type.
    """
    copy = _copy(model).to("cpu", torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(_shape(input_shape), generator=generator).double()
    with _NoChoice() as no_choice:
        y = _output(copy, x.requires_grad_(), layer)
    no_choice.check("returns", y)
    seen = _gradient(x, y, unit, channel, torch.nan).isnan()[0].any(dim=0)
    if not seen.any():
        raise ValueError("the unit depends on no pixel")
    places = seen.nonzero()
    start, last = places.amin(0).tolist(), places.amax(0).tolist()
    return Box(tuple(start), tuple(i + 1 for i in last))


# --8<-- [end:receptive_field]


# --8<-- [start:effective_field]
def effective_field(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    channel: int | None = None,
    samples: int = 20,
    seed: int = 0,
) -> Tensor:
    """Average how strongly a unit reacts to each pixel of random inputs.

    Returns the magnitude of the unit's gradient, of shape (*space): summed
    over the input's channels, averaged over `samples` inputs of standard
    normal pixels. The arguments are those of `receptive_field`, and so are
    the errors; the network is measured as it is, in evaluation mode.
    Source: Luo et al. 2016, section 3.1.
    """
    if samples < 1:
        raise ValueError(f"`samples={samples}` must be at least 1")
    shape, copy = _shape(input_shape), _copy(model)
    like = next(copy.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(shape[2:])
    for _ in range(samples):
        x = torch.randn(shape, generator=generator)
        x = x.to(like.device, like.dtype).requires_grad_()
        y = _output(copy, x, layer)
        gradient = _gradient(x, y, unit, channel, 1.0)
        total += gradient[0].abs().sum(dim=0).cpu()
    return total / samples


def effective_size(field: Tensor, *, threshold: float = 0.0455) -> float:
    """Measure an effective field by the side of a square of its area.

    field: of shape (*space), as from `effective_field`. The area counts the
    pixels over `threshold` of the largest value.
    Raises ValueError for a threshold outside [0, 1) and a field of zeros.
    Source: Luo et al. 2016, section 3.1, where the threshold is 1 - 95.45 %
    of the central value.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"`threshold={threshold}` must be in [0, 1)")
    if field.ndim == 0 or not field.max() > 0:
        raise ValueError("`field` must hold a value above 0 and have an axis")
    area = int((field > threshold * field.max()).sum())
    return float(area ** (1 / field.ndim))


# --8<-- [end:effective_field]


Rule = Callable[..., Any]


# --8<-- [start:no_choice]
class _NoChoice(TorchFunctionMode):
    """Let functions that choose send a gradient to all that they look at.

    Added to their result is zero times all of it: it stays what it is.
    A function through which no gradient goes is refused, as what it looks at
    would be missed; a comparison only if it is not there to choose.
    """

    def __init__(self) -> None:
        super().__init__()
        # What choices return without a gradient; for comparisons with zero
        # times all that they look at.
        self._cut: MutableMapping[Tensor, Tensor | None] = WeakIdKeyDictionary()

    def check(self, verb: str, *values: Any) -> None:
        """Refuse the result of a comparison or the place of a maximum."""
        if any(x in self._cut for x in _tensors(values)):
            raise ValueError(
                f"`model` {verb} the result of a comparison or the place of "
                "a maximum, through which no gradient goes"
            )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        inputs = _tensors((args, kwargs))
        if not any(x.requires_grad or x in self._cut for x in inputs):
            return func(*args, **kwargs)
        full_name = getattr(func, "__name__", "")
        name = full_name.strip("_").removesuffix("_with_indices")
        if name in COMPARISONS:
            all_of_it = 0 * _all(*self._open((args, kwargs)))
            result = func(*args, **kwargs)
            self._cut[result] = all_of_it
            return result
        if name in LOOKS_AT:
            if name not in ("where", "masked_fill"):
                self.check(f"gives to {name}", inputs)
            return self._choose(name, func, args, kwargs)
        result = func(*args, **kwargs)
        made = _tensors(result)
        if name in NO_VALUE and len(inputs) == 1:
            return result
        if name in LIKE_OTHER:
            inputs = inputs[:1]
        if made or result is None or full_name in LEAKS:
            self.check(f"gives to {name}", inputs)
        lost = made and not any(y.requires_grad for y in made)
        if (
            full_name in LEAKS
            or name in NO_GRADIENT
            or kwargs.get("rounding_mode")
            or (lost and any(x.requires_grad for x in inputs))
        ):
            raise ValueError(
                f"`model` calls {name}, through which no gradient goes"
            )
        return result

    def _choose(
        self,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        looks_at = LOOKS_AT[name]
        if looks_at is None or (name == "where" and len((*args, *kwargs)) == 1):
            raise ValueError(f"`model` calls {name}, which chooses for itself")
        args = args or (kwargs.pop("input"),)
        x, *rest = args
        all_of_it = 0 * looks_at(*self._open(args), **self._open(kwargs))
        result = func(x.clone(), *rest, **kwargs)  # which may write to it
        if isinstance(result, Tensor):
            return result + all_of_it
        self._cut[result[1]] = None
        return type(result)((result[0] + all_of_it, result[1]))

    def _open(self, values: Any) -> Any:
        """Put in place of comparisons what they look at."""

        def look(x: Tensor) -> Tensor:
            seen = self._cut.get(x, x)
            if seen is None:
                self.check("chooses by", x)
            return x if seen is None else seen

        return tree_map_only(Tensor, look, values)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _all(*args: Any, **kwargs: Any) -> Any:
    return sum(_tensors((args, kwargs)))


def _row(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    if isinstance(dim, Tensor):
        return x + dim
    return x.sum(dim, keepdim) if dim is not None else x.sum()


def _window(
    average: Callable[..., Tensor],
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if {*(dilation if isinstance(dilation, Sequence) else [dilation])} != {1}:
        raise ValueError(f"`model` has max pooling of dilation={dilation}")
    return average(x, kernel_size, stride or kernel_size, padding, ceil_mode)


def _share(
    average: Callable[..., Tensor],
    x: Tensor,
    output_size: Any,
    return_indices: bool = False,
) -> Tensor:
    return average(x, output_size)


def _named(rule: Rule | None, names: str) -> dict[str, Rule | None]:
    return dict.fromkeys(names.split(), rule)


def _names(names: str) -> set[str]:
    return set(names.split())


COMPARISONS = _names(
    "gt ge lt le eq ne greater greater_equal less less_equal not_equal isclose "
    "isnan isinf isfinite logical_and logical_or logical_xor logical_not and "
    "or xor invert"
)
NO_GRADIENT = _names(
    "sign sgn angle copysign heaviside nextafter round floor ceil trunc fix "
    "floor_divide floordiv rfloordiv bernoulli logcumsumexp"
)
LEAKS = _names(
    "item tolist numpy is_nonzero equal allclose __bool__ __int__ __index__ "
    "__float__ __complex__ __contains__ __array__"
)
NO_VALUE = _names(  # besides what is detached: only the shape is looked at
    "detach get zeros_like ones_like empty_like full_like rand_like randn_like "
    "randint_like new new_zeros new_ones new_empty new_full new_tensor"
)
LIKE_OTHER = _names("expand_as view_as reshape_as resize_as type_as to")
LOOKS_AT: dict[str, Rule | None] = {  # None: it cannot be told
    **_named(_all, "relu relu6 hardtanh hardswish hardsigmoid hardshrink"),
    **_named(_all, "softshrink threshold clamp clamp_min clamp_max clip logit"),
    **_named(_all, "maximum minimum fmax fmin where masked_fill"),
    **_named(_row, "max min amax amin"),
    **_named(None, "max_unpool1d max_unpool2d max_unpool3d sort topk median"),
    **_named(None, "fractional_max_pool2d fractional_max_pool3d kthvalue"),
    **_named(None, "cummax cummin mode msort nanmedian quantile nanquantile"),
    **_named(None, "aminmax"),
    "max_pool1d": partial(_window, F.avg_pool1d),
    "max_pool2d": partial(_window, F.avg_pool2d),
    "max_pool3d": partial(_window, F.avg_pool3d),
    "adaptive_max_pool1d": partial(_share, F.adaptive_avg_pool1d),
    "adaptive_max_pool2d": partial(_share, F.adaptive_avg_pool2d),
    "adaptive_max_pool3d": partial(_share, F.adaptive_avg_pool3d),
}


# --8<-- [end:no_choice]


def _shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(input_shape)
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise ValueError(
            f"`input_shape={shape}` must be (C, *space), each at least 1"
        )
    return (1, *shape)


def _copy(model: nn.Module) -> nn.Module:
    """Copy a network to one in evaluation mode whose weights are fixed."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be a torch.nn.Module, not {type(model).__name__}"
        )
    for p in model.parameters():
        if p.is_meta or nn.parameter.is_lazy(p):
            raise ValueError("`model` has parameters without values")
    return deepcopy(model).eval().requires_grad_(False)


class _ReachedError(Exception):
    """Carry the output of a layer out of the forward pass."""


def _output(model: nn.Module, x: Tensor, layer: str | None) -> Tensor:
    """Run the network up to a layer; to its first call, if it has several."""

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        raise _ReachedError(output)

    handle = None
    if layer is not None:
        modules = dict(model.named_modules())
        if layer not in modules:
            raise ValueError(f"`layer={layer!r}` is none of {[*modules]}")
        handle = modules[layer].register_forward_hook(leave)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            y = model(x.clone())  # which it may write to
        if handle:
            raise ValueError(f"`layer={layer!r}` is not called")
    except _ReachedError as reached:
        (y,) = reached.args
    finally:
        if handle:
            handle.remove()
    if not isinstance(y, Tensor) or y.ndim < 2:
        raise TypeError(
            "the output must be one tensor of shape (N, C, *space), not "
            f"{type(y).__name__}: name a `layer`"
        )
    return y


def _gradient(
    x: Tensor,
    y: Tensor,
    unit: Sequence[int] | None,
    channel: int | None,
    value: float,
) -> Tensor:
    """Send a value back from one unit of y, zeros from all others, to x."""
    channels, *space = y.shape[1:]
    unit = [n // 2 for n in space] if unit is None else list(unit)
    if len(unit) != len(space) or not all(
        0 <= i < n for i, n in zip(unit, space, strict=True)
    ):
        raise ValueError(f"`unit={tuple(unit)}` is no position of {(*space,)}")
    if channel is not None and not 0 <= channel < channels:
        raise ValueError(f"`channel={channel}` is none of {channels}")
    if not y.requires_grad:
        raise ValueError("the unit depends on no pixel")
    start = torch.zeros_like(y)
    start[(0, slice(None) if channel is None else channel, *unit)] = value
    (gradient,) = torch.autograd.grad(y, x, start, allow_unused=True)
    if gradient is None:
        raise ValueError("the unit depends on no pixel")
    return gradient
