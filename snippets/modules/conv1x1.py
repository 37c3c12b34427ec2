"""The 1×1 convolution: a linear layer at each pixel."""

from torch import Tensor, nn
from torch.nn import functional


# --8<-- [start:functions]
def linear_at_pixels(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Do with a linear layer what a 1×1 convolution does.

    x: (n, c, h, w); w: (out, c), as in `nn.Linear`; b: (out,). Returns
    (n, out, h, w). Raises ValueError where shapes do not fit, TypeError where
    dtypes differ.
    Source: Lin, Chen and Yan 2014, section 3.1.
    """
    if x.ndim != 4:
        raise ValueError(f"`x` has {x.ndim} axes; it must be (n, c, h, w)")
    _check_weights(x, w, b, (x.shape[1],))
    pixels = x.movedim(1, -1)  # (n, h, w, c): a vector at each pixel
    return functional.linear(pixels, w, b).movedim(-1, 1)


def conv1x1_on_vectors(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Do with a 1×1 convolution what a linear layer does.

    x: (…, c); w: (out, c, 1, 1), as in `nn.Conv2d`; b: (out,). Returns
    (…, out). Raises as `linear_at_pixels`.
    Source: Lin, Chen and Yan 2014, section 3.1.
    """
    if not x.ndim or not x.shape[-1]:
        raise ValueError(f"`x` is {tuple(x.shape)}; it must be (…, c), c >= 1")
    c = x.shape[-1]
    _check_weights(x, w, b, (c, 1, 1))
    images = x.reshape(-1, c, 1, 1)  # of one pixel each
    return functional.conv2d(images, w, b).reshape(*x.shape[:-1], len(w))


# --8<-- [end:functions]
# --8<-- [start:modules]
def to_linear(conv: nn.Conv2d) -> nn.Linear:
    """Copy a 1×1 convolution into the linear layer that it is at a pixel.

    Weights, dtype, device and mode are kept; no storage is shared. Raises
    TypeError for another module, ValueError for a convolution that looks
    beyond its pixel, skips pixels or splits its channels.
    """
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"`conv` is a {type(conv).__name__}, not a Conv2d")
    for name, allowed in (
        ("kernel_size", [(1, 1)]),
        ("stride", [(1, 1)]),
        ("padding", [(0, 0), "valid", "same"]),
        ("groups", [1]),
    ):
        if (given := getattr(conv, name)) not in allowed:
            raise ValueError(
                f"`conv` has {name}={given}; it must be {allowed[0]}"
            )
    c, out, bias = conv.in_channels, conv.out_channels, conv.bias is not None
    linear = nn.Linear(c, out, bias, device="meta")
    linear.weight = _copy(conv.weight, out, c)
    if conv.bias is not None:
        linear.bias = _copy(conv.bias, out)
    return linear.train(conv.training)


# --8<-- [end:modules]
# --8<-- [start:to_conv]
def to_conv(linear: nn.Linear) -> nn.Conv2d:
    """Copy a linear layer into the 1×1 convolution that applies it everywhere.

    Weights, dtype, device and mode are kept; no storage is shared. Raises
    TypeError for another module.
    """
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"`linear` is a {type(linear).__name__}, not a Linear")
    c, out, bias = linear.in_features, linear.out_features, linear.bias
    conv = nn.Conv2d(c, out, 1, bias=bias is not None, device="meta")
    conv.weight = _copy(linear.weight, out, c, 1, 1)
    if bias is not None:
        conv.bias = _copy(bias, out)
    return conv.train(linear.training)


def _copy(p: Tensor, *shape: int) -> nn.Parameter:
    return nn.Parameter(p.detach().reshape(shape).clone(), p.requires_grad)


# --8<-- [end:to_conv]
def _check_weights(
    x: Tensor, w: Tensor, b: Tensor | None, shape: tuple[int, ...]
) -> None:
    """Check that w is (out, *shape), b (out,), and both are of x's dtype."""
    if w.ndim != 1 + len(shape) or w.shape[1:] != shape:
        allowed = ", ".join(map(str, ("out", *shape)))
        raise ValueError(
            f"`w` has shape {tuple(w.shape)}; it must be ({allowed})"
        )
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(
            f"`b` has shape {tuple(b.shape)}; it must be ({len(w)},)"
        )
    for name, a in (("w", w), ("b", b)):
        if a is not None and a.dtype != x.dtype:
            raise TypeError(
                f"`{name}` holds {a.dtype}; it must hold {x.dtype}, as `x` does"
            )
