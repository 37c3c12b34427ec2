"""Multi-scale training: a new input size every few batches."""

from collections.abc import Iterator, Sequence, Sized
from itertools import cycle, islice
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset, Sampler

Key = tuple[int, int]  # an image's index and the size it is wanted in


class Samples(Protocol):
    """Hold (image, boxes, ...) by index."""

    def __len__(self) -> int:
        """Count the images."""

    def __getitem__(self, index: int, /) -> Sequence[Any]:
        """Return one image, its boxes and whatever else belongs to it."""


# --8<-- [start:sampler]
class MultiScaleBatchSampler(Sampler[list[Key]]):
    """Draw batches of (index, size), with a new size every few batches.

    For `DataLoader(Resized(data), batch_sampler=...)`. A size is drawn every
    `every` batches, also across the ends of epochs, and may be the last one
    again. `seed` decides order and sizes; `set_epoch`, called before each
    epoch as for `DistributedSampler`, continues both: without it all epochs
    are the same.

    Of `num_replicas` processes, each draws batches of its own, of
    `batch_size`, with the sizes of all others; `num_replicas` and `rank` are
    those of `torch.distributed` where it is initialized, else 1 and 0. All
    draw as many: indices are left out with `drop_last`, else come twice. Give
    all the same seed.
    Raises ValueError where a size is no positive multiple of `stride`, the
    factor by which the network shrinks its input, for a batch_size,
    `num_replicas` or `every` below 1, and a rank outside 0 to num_replicas - 1.
    Source: Redmon and Farhadi 2017 (YOLO9000), section 2, "Multi-Scale
    Training".
    """

    def __init__(
        self,
        data: Sized,
        batch_size: int,
        *,
        sizes: Sequence[int] = range(320, 609, 32),
        stride: int = 32,
        every: int = 10,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        if num_replicas is None:
            num_replicas = distributed.get_world_size() if together else 1
        if rank is None:
            rank = distributed.get_rank() if together else 0
        if num_replicas < 1 or not 0 <= rank < num_replicas:
            raise ValueError(
                f"{num_replicas=} must be >= 1 and {rank=} from 0 to "
                "num_replicas - 1"
            )
        if min(batch_size, every, stride) < 1:
            raise ValueError(
                f"{batch_size=}, {every=} and {stride=} must be >= 1"
            )
        if not sizes:
            raise ValueError("`sizes` is empty")
        for size in sizes:
            if size < 1 or size % stride:
                raise ValueError(
                    f"`sizes` holds {size}, no positive multiple of {stride=}"
                )
        self.data, self.batch_size = data, batch_size
        self.sizes, self.every = sizes, every
        self.shuffle, self.drop_last = shuffle, drop_last
        self.seed, self.epoch = seed, 0
        self.num_replicas, self.rank = num_replicas, rank

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration goes through."""
        if epoch < 0:
            raise ValueError(f"{epoch=} must be >= 0")
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the batches of an epoch, of one process."""
        whole, rest = divmod(self._share(), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the epoch's batches."""
        first = self.epoch * len(self)
        sizes = self._sizes(-(-(first + len(self)) // self.every))
        order = list(range(len(self.data)))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(len(order), generator=generator).tolist()
        # As many for all: processes wait for each other's gradients.
        end = self._share() * self.num_replicas
        order = list(islice(cycle(order), self.rank, end, self.num_replicas))
        for i in range(len(self)):
            size = self.sizes[sizes[(first + i) // self.every]]
            batch = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield [(index, size) for index in batch]

    def _share(self) -> int:
        """Count the indices of one process."""
        whole, rest = divmod(len(self.data), self.num_replicas)
        return whole + (rest > 0 and not self.drop_last)

    def _sizes(self, rounds: int) -> list[int]:
        """Draw from the first epoch on: what was drawn does not change."""
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randint(len(self.sizes), (rounds,), generator=generator)
        numbers: list[int] = draws.tolist()
        return numbers


# --8<-- [end:sampler]


# --8<-- [start:resized]
class Resized(Dataset[tuple[Any, ...]]):
    """Give each image in the size that its key (index, size) asks for.

    data: gives (image, boxes, ...) by index: image (c, h, w), floats or
    uint8; boxes (m, 4), x1, y1, x2, y2 in pixels. The image comes bilinear to
    (c, size, size), its boxes scaled with it, as floats; the rest as it was.
    Proportions are not kept.
    Raises ValueError for other shapes, TypeError for what are no tensors.
    """

    def __init__(self, data: Samples) -> None:
        self.data = data

    def __len__(self) -> int:
        """Count the images."""
        return len(self.data)

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        """Return (image, boxes, ...)."""
        index, size = key
        image, boxes, *rest = self.data[index]
        _check_sample(index, image, boxes)
        h, w = image.shape[1:]
        # Antialiased: plain bilinear skips pixels where an image shrinks.
        image = nn.functional.interpolate(
            image[None], (size, size), mode="bilinear", antialias=True
        )[0]
        boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
        return image, boxes * boxes.new_tensor([size / w, size / h] * 2), *rest


def collate(samples: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """Stack the images; leave the rest in lists, as boxes differ in number.

    samples: (image, boxes, ...) each. Returns (images, list of boxes, ...).
    """
    images, *rest = zip(*samples, strict=True)
    return torch.stack(images), *map(list, rest)


# --8<-- [end:resized]


def _check_sample(index: int, image: Tensor, boxes: Tensor) -> None:
    for name, value in (("image", image), ("boxes", boxes)):
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise TypeError(f"`{name}` {index} is a {kind}, no tensor")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(
            f"`image` {index} has shape {tuple(image.shape)}; it must be "
            "(c, h, w), all at least 1"
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"`boxes` {index} has shape {tuple(boxes.shape)}; it must be (m, 4)"
        )
