"""Where two paths meet: by a sum, side by side, or from the top down."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import interpolate


# --8<-- [start:add]
class Add(nn.Module):
    """Add what skipped some layers to what came through them.

    A 1×1 convolution, without bias, projects the skipping path where its
    channels are others. Raises ValueError where shapes do not fit.
    Source: He et al. 2016, "Deep residual learning for image recognition",
    equations 1 and 2.
    """

    def __init__(
        self, channels: int, *, skip_channels: int | None = None
    ) -> None:
        super().__init__()
        c = channels if skip_channels is None else skip_channels
        if min(channels, c) < 1:
            raise ValueError(f"{channels=} and {skip_channels=} must be >= 1")
        self.projection = (
            nn.Identity()
            if c == channels
            else nn.Conv2d(c, channels, 1, bias=False)
        )
        self.channels, self.skip_channels = channels, c

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (n, channels, h, w), (n, skip_channels, h, w) to x's shape."""
        _check_channels("x", x, self.channels)
        _check_channels("skip", skip, self.skip_channels)
        _check_same_place(x, skip)
        y: Tensor = x + self.projection(skip)
        return y


# --8<-- [end:add]
# --8<-- [start:concat]
class Concat(nn.Module):
    """Put what skipped some layers beside what came through them.

    With `crop` a larger `skip` loses its border first, as in U-Net, whose
    convolutions do not pad; where the surplus is odd, one pixel more goes at
    the bottom and at the right. Raises ValueError where shapes do not fit.
    Source: Ronneberger, Fischer and Brox 2015, section 2 and figure 1.
    """

    def __init__(self, *, crop: bool = False) -> None:
        super().__init__()
        self.crop = crop

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (n, c, h, w) and (n, d, h, w) to (n, c + d, h, w)."""
        if self.crop:
            skip = crop_to(skip, x)
        _check_same_place(x, skip)
        return torch.cat([x, skip], 1)


@fx.wrap  # in a trace it is one step, as are the checks below
def crop_to(skip: Tensor, x: Tensor) -> Tensor:
    """Cut the middle (n, d, h, w) out of `skip`, with h and w those of x."""
    top, left = (
        (size - wanted) // 2
        for size, wanted in zip(skip.shape[2:], x.shape[2:], strict=True)
    )
    if min(top, left) < 0:
        raise ValueError(
            f"`skip` has shape {tuple(skip.shape)}; it must be no smaller "
            f"than `x`, {tuple(x.shape)}"
        )
    h, w = x.shape[2:]
    return skip[:, :, top : top + h, left : left + w]


# --8<-- [end:concat]
# --8<-- [start:fpn]
class FPN(nn.Module):
    """Carry what coarse maps know down to the finer ones.

    A 1×1 brings each map to `out_channels`. From the coarsest on, each is
    enlarged by repeating pixels and added to the next finer one; then a 3×3
    smooths each. State dicts of torchvision's `FeaturePyramidNetwork` fit.
    Raises ValueError where maps do not fit `in_channels` or each other.
    Source: Lin et al. 2017, "Feature pyramid networks for object detection",
    section 3 and figure 3.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        if min(in_channels, default=0) < 1 or out_channels < 1:
            raise ValueError(f"{in_channels=} and {out_channels=} must be >= 1")
        self.in_channels = tuple(in_channels)
        self.inner_blocks, self.layer_blocks = nn.ModuleList(), nn.ModuleList()
        for c in in_channels:
            lateral = nn.Conv2d(c, out_channels, 1)
            smooth = nn.Conv2d(out_channels, out_channels, 3, padding=1)
            self.inner_blocks.append(nn.Sequential(lateral))
            self.layer_blocks.append(nn.Sequential(smooth))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map (n, c_i, h_i, w_i), fine to coarse, to (n, out, h_i, w_i)."""
        _check_maps(maps, self.in_channels)
        merged: list[Tensor] = []
        for x, lateral in zip(maps[::-1], self.inner_blocks[::-1], strict=True):
            y = lateral(x)
            if merged:
                # To this map's own size: 7 rows halve to 4, not to 3.5.
                y = y + interpolate(merged[0], y.shape[2:], mode="nearest")
            merged.insert(0, y)
        return [f(y) for f, y in zip(self.layer_blocks, merged, strict=True)]


# --8<-- [end:fpn]
@fx.wrap
def _check_maps(maps: Sequence[Tensor], in_channels: tuple[int, ...]) -> None:
    if len(maps) != len(in_channels):
        raise ValueError(
            f"`maps` holds {len(maps)}; it must hold {len(in_channels)}, one "
            "for each of in_channels"
        )
    for i, (x, c) in enumerate(zip(maps, in_channels, strict=True)):
        _check_channels(f"maps[{i}]", x, c)
        n, _, h, w = maps[max(i - 1, 0)].shape
        if len(x) != n or x.shape[2] > h or x.shape[3] > w:
            raise ValueError(
                f"`maps[{i}]` has shape {tuple(x.shape)}; after a map with "
                f"n={n}, h={h} and w={w} it must have the same n and be no "
                "larger"
            )


@fx.wrap
def _check_channels(name: str, x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"`{name}` has shape {tuple(x.shape)}; it must be "
            f"(n, {channels}, h, w)"
        )


@fx.wrap
def _check_same_place(x: Tensor, skip: Tensor) -> None:
    place, skipped = ((*a.shape[:1], *a.shape[2:]) for a in (x, skip))
    if place != skipped or x.ndim != 4:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}, `skip` {tuple(skip.shape)}; both "
            "must be (n, channels, h, w) with the same n, h and w"
        )
