"""The one decoder: orientation, deep and floating grey values, transparency."""

from __future__ import annotations

import io
import struct
import zlib

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


def deep_png(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads and does not write.

    Args:
        values: uint16 of shape (height, width, channels).
        colour: PNG's number of the channels: 2 red, green, blue; 4 grey and alpha; 6 all four.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        size = struct.pack(">I", len(content))
        return size + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_deep_colours_keep_their_shades_and_deep_alpha_lies_on_white():
    rgb = np.asarray(quarters()).astype(np.uint16) * 257
    assert difference(decode_image(deep_png(rgb, 2)), quarters()) == 0
    alpha = np.full((*rgb.shape[:2], 1), 65_535, np.uint16)
    alpha[:, :24] = 0
    for channels, colour in ((rgb, 6), (rgb[..., :1], 4)):
        values = np.asarray(decode_image(deep_png(np.concatenate([channels, alpha], 2), colour)))
        assert (values[:, :24] == 255).all()
        assert (values[:, 24:, 0] == rgb[:, 24:, 0] // 257).all()


LOSSY = {"quality": 95, "subsampling": 0}


@pytest.mark.parametrize(
    ("mode", "kind", "options", "most"),
    [
        ("CMYK", "JPEG", LOSSY, 3),
        ("CMYK", "TIFF", {}, 1),
        ("YCbCr", "JPEG", LOSSY, 3),
        ("YCbCr", "TIFF", {}, 3),
        ("LAB", "TIFF", {}, 7),  # eight bits of Lab are coarse
        ("P", "PNG", {}, 0),
        ("P", "GIF", {}, 0),
        ("P", "BMP", {}, 0),
        ("P", "TIFF", {}, 0),
        ("RGB", "BMP", {}, 0),
        ("RGB", "WEBP", {"lossless": True}, 0),
        ("RGB", "JPEG", LOSSY | {"progressive": True}, 3),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
def test_files_of_every_kind_show_what_was_saved(mode, kind, options, most):
    image = quarters()
    if mode == "P":
        image = image.quantize(16)
    elif mode != "RGB":
        image = image.convert(mode)
    assert difference(decode_image(saved(image, kind, **options)), quarters()) <= most


@pytest.mark.parametrize("mode", ["1", "L"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_grey_and_two_valued_files_become_grey_colours(mode, kind):
    values = np.zeros((20, 30), bool)
    values[:, 10:] = True
    ours = grey(decode_image(saved(Image.fromarray(values).convert(mode), kind)))
    assert (ours == 255 * values).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_image_counts(kind):
    later = [Image.new("RGB", quarters().size, colour) for colour in ("yellow", "black")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(quarters(), kind, save_all=True, append_images=later, **options)
    assert difference(decode_image(data), quarters()) < 2


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (3, 3000)])
def test_images_of_any_shape_are_decoded_and_cropped(size):
    data = saved(Image.new("RGB", size, (200, 10, 10)), "PNG")
    assert decode_image(data).size == size
    for crop in ("center", "random"):
        square = Augmentation(32, crop)(data, 7)
        assert square.shape == (32, 32, 3)
        assert (square == (200, 10, 10)).all()


def test_a_files_name_does_not_say_its_format(tmp_path):
    path = tmp_path / "really_webp.jpg"
    path.write_bytes(saved(quarters(), "WEBP", lossless=True))
    assert difference(decode_image(path), quarters()) == 0
