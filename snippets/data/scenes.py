"""Scenes for detection, drawn from scikit-learn's handwritten digits."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

TRIES = 100  # places to try for a digit before it is left out


# --8<-- [start:scenes]
class Scene(NamedTuple):
    """Hold an image and what is in it."""

    image: Tensor  # (1, size, size), float32 from 0 to 1
    boxes: Tensor  # (m, 4), float32: x1, y1, x2, y2 in pixels, around the ink
    labels: Tensor  # (m,), int64: the digits 0 to 9


def draw_scene(
    index: int,
    *,
    seed: int = 0,
    size: int = 96,
    count: tuple[int, int] = (1, 5),
    side: tuple[int, int] = (14, 40),
    pool: range = range(1797),
) -> Scene:
    """Draw digits of several sizes at several places, none over another.

    The scene depends on `seed`, `index` and the settings alone. `size` is
    that of the square canvas in pixels. `count` bounds how many digits there
    are, `side` how large the image of one is before its margins are cut off,
    in pixels; all sides are equally likely. Where there is no room left after
    the first digit, the scene has fewer. `pool` says which of the 1,797
    samples to draw from, so that two sets of scenes can share none.
    Raises ValueError for bounds that make no sense.
    Source: the test set of Alpaydin and Kaynak 1998, "Optical recognition of
    handwritten digits", 8×8 pixels each, as scikit-learn carries it.
    """
    _check(index, seed, size, count, side, pool)
    random = np.random.default_rng([seed, index])
    image, boxes, labels = torch.zeros(1, size, size), [], []
    for _ in range(random.integers(count[0], count[1], endpoint=True)):
        sample = pool[random.integers(len(pool))]
        ink, label = _digit(sample, int(random.integers(*side, endpoint=True)))
        h, w = ink.shape
        for _ in range(TRIES):
            x = int(random.integers(0, size - w, endpoint=True))
            y = int(random.integers(0, size - h, endpoint=True))
            here = image[0, y : y + h, x : x + w]
            if not here.any():
                here += ink
                boxes.append([x, y, x + w, y + h])
                labels.append(label)
                break
    return Scene(
        image,
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(labels),
    )


# --8<-- [end:scenes]


# --8<-- [start:digit]
def _digit(sample: int, side: int) -> tuple[Tensor, int]:
    """Return the enlarged ink of a sample, margins cut off, and its label."""
    images, labels = _samples()
    ink = functional.interpolate(
        images[sample, None, None], (side, side), mode="bilinear"
    )[0, 0]
    # What is fainter than this the eye takes for paper.
    rows, columns = ((ink > 0.1).any(axis).nonzero()[:, 0] for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return ink, labels[sample]


@cache
def _samples() -> tuple[Tensor, list[int]]:
    digits = load_digits()
    return torch.from_numpy(digits.images / 16).float(), digits.target.tolist()


# --8<-- [end:digit]


def _check(
    index: int,
    seed: int,
    size: int,
    count: tuple[int, int],
    side: tuple[int, int],
    pool: range,
) -> None:
    if index < 0 or seed < 0:
        raise ValueError(f"{index=} and {seed=} must be >= 0")
    if not 1 <= count[0] <= count[1]:
        raise ValueError(f"{count=} must be bounds of at least 1")
    if not 8 <= side[0] <= side[1] <= size:
        raise ValueError(f"{side=} must be bounds from 8 to {size=}")
    samples = len(_samples()[1])
    if not len(pool) or min(pool) < 0 or max(pool) >= samples:
        raise ValueError(
            f"{pool=} must be a range of samples within 0 to {samples - 1}"
        )
