"""Batch normalization written out, and folded into a convolution."""

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn


# --8<-- [start:batch_norm]
class BatchNorm(nn.Module):
    """Standardize each channel, then scale and shift it.

    Training uses the batch's mean and variance, and lets the running ones
    take a step of `momentum` towards them (None: they become the average over
    all batches). Evaluation uses the running ones, or the batch's where none
    are kept. Parameters and buffers are named as in `nn.BatchNorm2d`: state
    dicts fit both ways. Raises ValueError where shapes or options do not fit,
    or where a batch has one value per channel, TypeError for x without floats.
    Source: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        _check_options(num_features, eps, momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            p = nn.Parameter(torch.full((num_features,), value))
            self.register_parameter(name, p if affine else None)
        for name, a in (
            ("running_mean", torch.zeros(num_features)),
            ("running_var", torch.ones(num_features)),
            ("num_batches_tracked", torch.tensor(0)),
        ):
            self.register_buffer(name, a if track_running_stats else None)

    # --8<-- [end:batch_norm]
    # --8<-- [start:forward]
    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c) or (n, c, …) to the same shape and dtype."""
        _check_input(x, self.num_features)
        # Sums over a batch need more digits than half precision has.
        z = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None or var is None:
            mean, var, count = _statistics(z)
            if self.training:
                self._remember(mean, var, count)
        wide = (-1, *[1] * (x.ndim - 2))  # (c,) meets (n, c, …)
        deviation = (var.to(z.dtype) + self.eps).sqrt()
        y = (z - mean.view(wide)) / deviation.view(wide)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(wide) + self.bias.view(wide)
        return y.to(x.dtype)

    # --8<-- [end:forward]
    # --8<-- [start:statistics]
    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, count: int) -> None:
        old_mean, old_var = self.running_mean, self.running_var
        batches = self.num_batches_tracked
        if old_mean is None or old_var is None or batches is None:
            return
        batches += 1
        if count:
            # The batch is divided by its own variance; what is remembered is
            # the unbiased estimate.
            var = var * (count / (count - 1))
            for old, new in ((old_mean, mean), (old_var, var)):
                step, share = new - old, self.momentum
                old += step / batches if share is None else step * share


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and variance of each channel, and over how many values."""
    count = x.numel() // x.shape[1]
    if count == 1:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}: one value per channel; the "
            "batch's statistics need at least 2"
        )
    axes = (0, *range(2, x.ndim))  # all but the channels
    mean = x.mean(axes, keepdim=True)
    var = (x - mean).square().mean(axes)
    return mean.flatten(), var, count


# --8<-- [end:statistics]
NORMS = BatchNorm, nn.BatchNorm2d


# --8<-- [start:fuse]
def fuse_conv_bn(conv: nn.Conv2d, bn: BatchNorm | nn.BatchNorm2d) -> nn.Conv2d:
    """Fold a normalization in evaluation mode into the convolution before it.

    There both are linear: bn(w ∗ x + b) = (s w) ∗ x + s (b - mean) + shift,
    where s = scale / sqrt(var + eps). Returns a new convolution in the dtype
    of the old; both arguments stay as they are. Raises TypeError for other
    modules, ValueError where `bn` is in training mode, keeps no running
    statistics, or counts other channels than `conv` puts out.
    Source: Jacob et al. 2018, section 3.2.
    """
    mean, var = _running_statistics(conv, bn)
    s = (var.to(torch.promote_types(var.dtype, torch.float32)) + bn.eps).rsqrt()
    if bn.weight is not None:
        s = s * bn.weight
    b = -mean * s if conv.bias is None else (conv.bias - mean) * s
    if bn.bias is not None:
        b = b + bn.bias
    w = conv.weight * s.view(-1, 1, 1, 1)
    fused = copy.deepcopy(conv)
    fused.weight = _parameter(w, conv.weight)
    fused.bias = _parameter(b, conv.weight if conv.bias is None else conv.bias)
    return fused


def _parameter(a: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(a.detach().to(like.dtype), like.requires_grad)


# --8<-- [end:fuse]
# --8<-- [start:fuse-network]
def fuse_network(model: nn.Module) -> nn.Module:
    """Fold each normalization whose input is what one convolution puts out.

    Returns a copy of `model`, with the identity in place of each folded
    normalization; `model` stays as it is. What normalizes a sum or a
    concatenation, and what is called more than once, is kept. Raises as
    `fuse_conv_bn`, and as `torch.fx` for a model that it cannot trace.
    """
    fused = copy.deepcopy(model)
    nodes = _Tracer().trace(fused).nodes
    calls = [node for node in nodes if node.op == "call_module"]
    times = Counter(str(node.target) for node in calls)
    for node in calls:
        before = node.all_input_nodes[0]
        names = str(before.target), str(node.target)
        if [times[name] for name in names] != [1, 1] or len(before.users) > 1:
            continue
        conv, bn = (fused.get_submodule(name) for name in names)
        if isinstance(conv, nn.Conv2d) and isinstance(bn, NORMS):
            _replace(fused, names[0], fuse_conv_bn(conv, bn))
            _replace(fused, names[1], nn.Identity())
    return fused


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return isinstance(m, BatchNorm) or super().is_leaf_module(m, name)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


# --8<-- [end:fuse-network]
def _running_statistics(
    conv: nn.Conv2d, bn: BatchNorm | nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    for name, module, kinds in (
        ("conv", conv, (nn.Conv2d,)),
        ("bn", bn, NORMS),
    ):
        if not isinstance(module, kinds):
            allowed = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"`{name}` is a {type(module).__name__}; it must be a {allowed}"
            )
    if bn.num_features != conv.out_channels:
        raise ValueError(
            f"`bn` has num_features={bn.num_features}; `conv` has "
            f"out_channels={conv.out_channels}"
        )
    if bn.training:
        raise ValueError("`bn` has training=True; call bn.eval() first")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("`bn` has running_mean=None; it must keep statistics")
    return bn.running_mean, bn.running_var


def _check_options(
    num_features: int, eps: float, momentum: float | None
) -> None:
    if num_features < 1:
        raise ValueError(f"{num_features=} must be >= 1")
    if not eps > 0:
        raise ValueError(f"{eps=} must be positive")
    if momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(f"{momentum=} must be None or from 0 to 1")


def _check_input(x: Tensor, num_features: int) -> None:
    if not x.is_floating_point():
        raise TypeError(f"`x` holds {x.dtype}; it must hold floats")
    if x.ndim < 2 or x.shape[1] != num_features:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; it must be (n, {num_features}) "
            f"or (n, {num_features}, …)"
        )
