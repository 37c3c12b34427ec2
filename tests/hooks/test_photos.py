import base64
import io
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from photos import Photos
from runner.figures import to_svgs, use_style
from snippets.plots.images import image_row


@pytest.fixture(autouse=True)
def drawn_as_the_site_draws():
    backend = matplotlib.get_backend()
    with matplotlib.rc_context():
        use_style()
        yield
        plt.close("all")
    matplotlib.use(backend)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).random((h, w))


def style(html):
    """Give left, top, width and height of each photograph, in percent."""
    return [
        [float(number) for number in re.findall(r": ([-\d.]+)%", tag)]
        for tag in re.findall(r"<img[^>]*>", html)
    ]


def test_a_photograph_becomes_a_file_without_loss():
    picture = noise(60, 80)
    svg = to_svgs(image_row({"a": picture}, title="t", width=3))
    photos = Photos()
    html = photos.take_out(svg)
    assert "<image" not in html
    ((name, data),) = photos.files.items()
    assert f'src="photo:{name}"' in html
    found = np.asarray(Image.open(io.BytesIO(data)).convert("L"), float)
    data = re.search(r"base64,([^\"]*)", svg)[1]
    shown = Image.open(io.BytesIO(base64.b64decode(data))).convert("L")
    assert np.array_equal(found, np.asarray(shown, float))
    assert found.std() > 50


def test_a_photograph_is_kept_once_for_both_widths():
    pictures = {name: noise(60, 80, n) for n, name in enumerate("abc")}
    photos = Photos()
    html = photos.take_out(to_svgs(image_row(pictures, title="t")))
    assert len(photos.files) == 3
    assert html.count("<img") == 6
    assert html.count('loading="lazy"') == 6
    assert html.count('class="photos wide"') == 1
    assert html.count('class="photos narrow"') == 1


def test_a_photograph_lies_where_it_was_drawn():
    fig = plt.figure(figsize=(3, 2), layout="none")
    ax = fig.add_axes((0.5, 0.25, 0.25, 0.5))
    ax.imshow(noise(60, 60), aspect="auto")
    ax.set_axis_off()
    fig.suptitle("t")
    ((left, top, width, height),) = style(Photos().take_out(to_svgs(fig)))
    assert (left, width) == pytest.approx((50, 25), abs=0.2)
    assert (top, height) == pytest.approx((25, 50), abs=0.2)


@pytest.mark.parametrize("how", ["none", "bilinear"])
@pytest.mark.parametrize("origin", ["upper", "lower"])
def test_top_stays_top(how, origin):
    """Matplotlib stores some images upside down, and turns them by transform."""
    rows = np.repeat(np.linspace(0, 1, 60)[:, None], 60, 1)
    fig, ax = plt.subplots(figsize=(3, 3))
    grain = noise(60, 60) * 0.2
    ax.imshow(rows + grain, interpolation=how, origin=origin)
    fig.suptitle("t")
    photos = Photos()
    photos.take_out(to_svgs(fig))
    (data,) = photos.files.values()
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("L"), float)
    above, below = seen[: len(seen) // 4].mean(), seen[-len(seen) // 4 :].mean()
    assert (above < below - 50) == (origin == "upper")


def test_small_pictures_stay_in_the_drawing():
    svg = to_svgs(image_row({"a": np.eye(4)}, title="t", width=3))
    photos = Photos()
    assert photos.take_out(svg) == svg
    assert photos.files == {}


def test_addresses_lead_from_the_page_to_the_shared_folder(tmp_path):
    photos = Photos({"ab12.webp": b"data"})
    html = photos.address('<img src="photo:ab12.webp">', "../../")
    assert html == '<img src="../../assets/images/ab12.webp">'
    photos.write(tmp_path)
    assert (tmp_path / "assets/images/ab12.webp").read_bytes() == b"data"
