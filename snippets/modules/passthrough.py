"""Space into channels and back, in the orders that libraries use.

Of each s × s block, the pixel at offset (i, j) goes to a channel of its own:
c channels of h × w become c·s² of h/s × w/s. Which channel is it? Weights
trained on one order give nonsense on another.
"""

from typing import Literal

from torch import Tensor

# The output channel of input channel k and offset (i, j), out of c channels:
#   channel_major   (k·s + i)·s + j   PyTorch's pixel_unshuffle and
#                                     pixel_shuffle; ONNX's DepthToSpace "CRD"
#   offset_major    (i·s + j)·c + k   TensorFlow; ONNX's SpaceToDepth, and
#                                     DepthToSpace "DCR"
Order = Literal["channel_major", "offset_major"]


# --8<-- [start:space_to_depth]
def space_to_depth(
    x: Tensor, stride: int, *, order: Order = "channel_major"
) -> Tensor:
    """Spread the pixels of each stride × stride block over channels.

    x: (n, c, h, w). Returns (n, c·stride², h/stride, w/stride). Raises
    ValueError where `stride` does not divide h and w.
    Source: Redmon and Farhadi 2017, section 2 (passthrough).
    """
    n, c, h, w, s = *_check(x, stride, order), stride
    _check_multiple(x, s, h=h, w=w)
    y = x.reshape(n, c, h // s, s, w // s, s)  # n k y i x j
    if order == "channel_major":
        y = y.permute(0, 1, 3, 5, 2, 4)  # n k i j y x
    else:
        y = y.permute(0, 3, 5, 1, 2, 4)  # n i j k y x
    return y.reshape(n, c * s * s, h // s, w // s)


def depth_to_space(
    x: Tensor, stride: int, *, order: Order = "channel_major"
) -> Tensor:
    """Undo `space_to_depth` in the same order.

    x: (n, c, h, w). Returns (n, c/stride², h·stride, w·stride). Raises
    ValueError where stride² does not divide c.
    Source: Shi et al. 2016, section 3.2.
    """
    n, c, h, w, s = *_check(x, stride, order), stride
    _check_multiple(x, s * s, c=c)
    out = c // (s * s)
    if order == "channel_major":
        y = x.reshape(n, out, s, s, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        y = x.reshape(n, s, s, out, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, out, h * s, w * s)  # from n k y i x j


# --8<-- [end:space_to_depth]
# --8<-- [start:darknet]
def darknet_reorg(x: Tensor, stride: int) -> Tensor:
    """Reorder as darknet's `[reorg]`, the passthrough of YOLOv2, does.

    x: (n, c, h, w). Returns (n, c·stride², h/stride, w/stride). Raises
    ValueError where `stride` does not divide h and w, or stride² not c.

    darknet hands its routine the input's sizes where it expects the output's.
    So the routine takes the buffer for c/s² images of h·s × w·s, does
    offset_major space-to-depth on those, and the result is once more read in
    another shape. A row of the imagined image is s rows of the real one end
    to end: what meets at an output pixel is no s × s block of the input.
    Source: `reorg_cpu` in darknet's src/blas.c, as src/reorg_layer.c calls
    it. The paper says that adjacent features are stacked.
    """
    n, c, h, w, s = *_check(x, stride), stride
    _check_multiple(x, s, h=h, w=w)
    _check_multiple(x, s * s, c=c)
    imagined = x.reshape(n, c // (s * s), h * s, w * s)
    y = space_to_depth(imagined, s, order="offset_major")  # (n, c, h, w)
    return y.reshape(n, c * s * s, h // s, w // s)


def darknet_reorg_inverse(x: Tensor, stride: int) -> Tensor:
    """Undo `darknet_reorg`.

    x: (n, c, h, w). Returns (n, c/stride², h·stride, w·stride). Raises
    ValueError where stride⁴ does not divide c. darknet's `[reorg] reverse=1`
    is something else: `depth_to_space` in offset_major order.
    """
    n, c, h, w, s = *_check(x, stride), stride
    _check_multiple(x, s**4, c=c)
    y = x.reshape(n, c // (s * s), h * s, w * s)
    imagined = depth_to_space(y, s, order="offset_major")
    return imagined.reshape(y.shape)


# --8<-- [end:darknet]
def _check(
    x: Tensor, stride: int, order: str = "channel_major"
) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; it must be (n, c, h, w)"
        )
    if stride < 1:
        raise ValueError(f"{stride=} must be >= 1")
    if order not in ("channel_major", "offset_major"):
        raise ValueError(f"{order=} must be 'channel_major' or 'offset_major'")
    n, c, h, w = x.shape
    return n, c, h, w


def _check_multiple(x: Tensor, of: int, **axes: int) -> None:
    for name, size in axes.items():
        if size % of:
            raise ValueError(
                f"`x` has shape {tuple(x.shape)}: {name}={size} must be a "
                f"multiple of {of}"
            )
