"""Take photographs out of figures: files of their own, each once."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

# Smaller pictures cost less inside the page than a request of their own.
SMALLEST = 2500  # characters of base64

FOLDER = "assets/images"

_SVG = re.compile(r"<svg .*?</svg>", re.DOTALL)
_IMAGE = re.compile(
    r'<image xlink:href="data:image/png;base64,(?P<data>[^"]*)"'
    r"(?P<more>[^>]*)/>"
)
_PLACE = re.compile(r'src="photo:(\w+\.webp)"')


@dataclass
class Photos:
    """The photographs of a build, by the names of their files."""

    files: dict[str, bytes] = field(default_factory=dict)

    def take_out(self, figure: str) -> str:
        """Return the HTML of a figure without the pictures that it holds.

        Each lies under the drawing, as an image that is loaded when it is
        about to be seen; `photo:NAME` stands for its address.
        """
        return _SVG.sub(lambda svg: self._beneath(svg[0]), figure)

    def _beneath(self, svg: str) -> str:
        images = []

        def take(match: re.Match[str]) -> str:
            if len(match["data"]) < SMALLEST:
                return match[0]
            images.append(self._image(svg, match))
            return ""

        rest = _IMAGE.sub(take, svg)
        if not images:
            return svg
        width, height = _numbers(svg, "width", "height")
        kind = "narrow" if 'class="figure narrow"' in svg else ""
        kind = "wide" if 'class="figure wide"' in svg else kind
        return (
            f'<div class="photos {kind}" style="width: {width:g}px; '
            f'aspect-ratio: {width:g} / {height:g}">'
            f"{''.join(images)}{rest}</div>"
        )

    def _image(self, svg: str, match: re.Match[str]) -> str:
        x0, y0, x1, y1, flipped = _box(match["more"])
        name = self._file(match["data"], flipped)
        _, _, width, height = map(
            float,
            re.search(r'viewBox="([^"]*)"', svg)[1].split(),  # type: ignore[index]
        )
        sharp = (
            "; image-rendering: pixelated"
            if "pixelated" in match["more"]
            else ""
        )
        left, top = 100 * x0 / width, 100 * y0 / height
        wide, high = 100 * (x1 - x0) / width, 100 * (y1 - y0) / height
        return (
            f'<img src="photo:{name}" alt="" loading="lazy" decoding="async" '
            f'style="left: {left:.2f}%; top: {top:.2f}%; '
            f'width: {wide:.2f}%; height: {high:.2f}%{sharp}">'
        )

    def _file(self, data: str, flipped: bool) -> str:
        """Keep a picture without loss, in as few channels as it has."""
        image: Image.Image = Image.open(io.BytesIO(base64.b64decode(data)))
        alpha: Any = image.getextrema()[-1]
        if image.mode == "RGBA" and alpha == (255, 255):
            image = image.convert("RGB")
        if flipped:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        name = hashlib.sha256(f"{image.mode}{image.size}".encode())
        name.update(image.tobytes())
        file = f"{name.hexdigest()[:16]}.webp"
        if file not in self.files:
            buffer = io.BytesIO()
            image.save(buffer, "webp", lossless=True, quality=100, method=4)
            self.files[file] = buffer.getvalue()
        return file

    def address(self, html: str, start: str) -> str:
        """Fill in the addresses; `start` leads from the page to the site."""
        return _PLACE.sub(rf'src="{start}{FOLDER}/\1"', html)

    def write(self, site: Path) -> None:
        """Write the files into the folder of a site."""
        folder = site / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


def _numbers(tag: str, *names: str) -> list[float]:
    return [
        float(re.search(rf'\b{name}="([-\d.]+)', tag)[1])  # type: ignore[index]
        for name in names
    ]


def _box(more: str) -> tuple[float, float, float, float, bool]:
    """Return the corners that an image is drawn between, and if flipped."""
    width, height = _numbers(more, "width", "height")
    x = y = 0.0
    if ' x="' in more:
        x, y = _numbers(more, "x", "y")
    a, d, e, f = 1.0, 1.0, 0.0, 0.0
    if matrix := re.search(r"matrix\(([^)]*)\)", more):
        a, _, _, d, e, f = map(float, re.split(r"[ ,]+", matrix[1].strip()))
    else:
        for kind, values in re.findall(r"(scale|translate)\(([^)]*)\)", more):
            first, second = map(float, re.split(r"[ ,]+", values.strip()))
            if kind == "scale":
                a, d = a * first, d * second
            else:
                e, f = e + a * first, f + d * second
    x0, x1 = sorted((a * x + e, a * (x + width) + e))
    y0, y1 = sorted((d * y + f, d * (y + height) + f))
    return x0, y0, x1, y1, d < 0
