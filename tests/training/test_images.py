"""The one decoder: orientation, deep and floating grey values, transparency."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from training.augment import Augmentation
from training.images import decode_image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def ramp(height: int = 40, width: int = 64) -> np.ndarray:
    """0 to 1 from left to right, float64 of shape (height, width)."""
    return np.tile(np.linspace(0, 1, width), (height, 1))


def grey(image: Image.Image) -> np.ndarray:
    """One channel, after a check that all three are equal."""
    assert image.mode == "RGB"
    values = np.asarray(image).astype(int)
    assert (values == values[..., :1]).all()
    return values[..., 0]


WANTED = np.round(ramp() * 255).astype(int)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.round(ramp() * 65_535).astype(np.uint16), "PNG"),
        (np.round(ramp() * 65_535).astype(np.uint16), "TIFF"),
        (np.round(ramp() * 65_535).astype(">u2"), "TIFF"),
        (np.round(ramp() * 65_535).astype(np.int32), "TIFF"),
        (np.round(ramp() * 255).astype(np.int32), "TIFF"),
        (np.round(ramp() * 2_000_000_000).astype(np.int32), "TIFF"),
        (np.round(ramp() * 2_000 - 1_000).astype(np.int32), "TIFF"),
        (ramp().astype(np.float32), "TIFF"),
        ((ramp() * 255).astype(np.float32), "TIFF"),
        ((ramp() * 65_535).astype(np.float32), "TIFF"),
        ((ramp() * 2 - 1).astype(np.float32), "TIFF"),
        ((ramp() * 1e9).astype(np.float32), "TIFF"),
    ],
)
def test_grey_values_of_any_depth_keep_their_shades(values, kind):
    image = Image.fromarray(values)
    ours = grey(decode_image(saved(image, kind)))
    assert abs(ours - WANTED).max() <= 1


def test_a_dark_16_bit_image_stays_dark():
    dark = np.full((8, 8), 500, np.uint16)
    assert grey(decode_image(saved(Image.fromarray(dark), "PNG"))).max() <= 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_float_pixels_that_are_no_number_cost_no_image(value):
    values = ramp().astype(np.float32)
    values[0, 0] = value
    ours = grey(decode_image(saved(Image.fromarray(values), "TIFF")))
    assert abs(ours[1:] - WANTED[1:]).max() <= 1


def test_an_even_float_image_is_decoded():
    even = np.full((4, 4), -3.0, np.float32)
    assert decode_image(saved(Image.fromarray(even), "TIFF")).size == (4, 4)


def quarters() -> Image.Image:
    """Red, green, blue and grey quarters of a 48 x 32 image, all different from white."""
    array = np.zeros((32, 48, 3), np.uint8)
    array[:16, :24], array[:16, 24:] = (200, 0, 0), (0, 200, 0)
    array[16:, :24], array[16:, 24:] = (0, 0, 200), (90, 90, 90)
    return Image.fromarray(array)


# How a file is stored whose upright picture is `quarters`, by the EXIF number that says so.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def with_orientation(number: int, kind: str, image: Image.Image | None = None) -> bytes:
    image = image or quarters()
    stored = image if STORED[number] is None else image.transpose(STORED[number])
    exif = Image.Exif()
    exif[0x0112] = number
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    return saved(stored, kind, exif=exif, **options)


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    a, b = (np.asarray(image).astype(float) for image in (one, other))
    return float(np.abs(a - b).mean())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("number", STORED)
def test_an_image_is_turned_as_its_exif_data_says(number, kind):
    data = with_orientation(number, kind)
    assert difference(decode_image(data), quarters()) < 3
    as_stored = quarters() if STORED[number] is None else quarters().transpose(STORED[number])
    assert difference(decode_image(data, orient=False), as_stored) < 3


@pytest.mark.parametrize("number", STORED)
def test_training_crops_the_upright_image(number):
    large = quarters().resize((960, 640), Image.Resampling.NEAREST)
    square = Augmentation(32, "center")(with_orientation(number, "JPEG", large), 0)
    expected = Augmentation(32, "center")(saved(large, "PNG"), 0)
    assert np.abs(square.astype(float) - expected.astype(float)).mean() < 3


def test_training_sees_deep_grey_values():
    values = np.round(ramp(64, 64) * 65_535).astype(np.uint16)
    square = Augmentation(64, "center")(saved(Image.fromarray(values), "PNG"), 0)
    assert abs(square[..., 0].astype(int) - np.round(ramp(64, 64) * 255)).max() <= 1


def test_damaged_exif_data_costs_no_image(tmp_path):
    data = saved(quarters(), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40)
    assert difference(decode_image(data), quarters()) == 0


def test_a_cut_off_file_raises_whether_or_not_it_has_exif_data():
    for kind in ("PNG", "JPEG"):
        data = with_orientation(6, kind, quarters().resize((300, 200)))
        with pytest.raises(Exception, match=r".+"):
            decode_image(data[: len(data) // 2])


def half_clear(mode: str) -> Image.Image:
    """A black image whose left half is transparent."""
    image = Image.new("RGBA", (8, 4), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 4))
    return image.convert(mode)


def palette() -> Image.Image:
    image = Image.new("P", (8, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.paste(0, (0, 0, 4, 4))
    return image


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (half_clear("RGBA"), "PNG", {}),
        (half_clear("LA"), "PNG", {}),
        (half_clear("RGBA"), "WEBP", {"lossless": True, "exact": True}),
        (half_clear("RGBA"), "TIFF", {}),
        (palette(), "PNG", {"transparency": 0}),
        (palette(), "PNG", {"transparency": b"\0\xff"}),
        (palette(), "GIF", {"transparency": 0}),
        (half_clear("RGBA").getchannel("A").point(lambda a: 77 - 77 * a // 255), "PNG", {"transparency": 77}),
    ],
)  # fmt: skip
def test_transparent_pixels_are_white(image, kind, options):
    values = np.asarray(decode_image(saved(image, kind, **options)))
    assert (values[:, :4] == 255).all()
    assert (values[:, 4:] == 0).all()


def test_a_clear_value_of_a_16_bit_image_is_white():
    values = np.full((4, 8), 0, np.uint16)
    values[:, :4] = 300
    data = saved(Image.fromarray(values), "PNG", transparency=300)
    ours = grey(decode_image(data))
    assert (ours[:, :4] == 255).all()
    assert (ours[:, 4:] == 0).all()


def test_a_path_is_as_good_as_its_content(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(saved(quarters(), "PNG"))
    assert difference(decode_image(path), decode_image(path.read_bytes())) == 0
    assert difference(decode_image(str(path)), quarters()) == 0
