"""Mask files of every kind give the numbers that were saved, or say why they cannot."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from eval.datasets.masks import read_coloured_mask, read_mask
from tests.eval.datasets.miniatures import values

CLASSES = values(0, 1, 2, 3)


def grey_png(bits: int, numbers: np.ndarray) -> bytes:
    """A grey PNG of `bits` a pixel that stores these numbers, which Pillow itself cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    rows = b""
    for row in numbers:
        text = "".join(f"{number:0{bits}b}" for number in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    head = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_grey_png_of_any_depth_gives_the_numbers_that_it_stores(bits, tmp_path):
    (tmp_path / "mask.png").write_bytes(grey_png(bits, CLASSES))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), CLASSES)


def test_a_png_of_one_bit_gives_0_and_1(tmp_path):
    (tmp_path / "mask.png").write_bytes(grey_png(1, values(0, 1)))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), values(0, 1))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": b"\0\x80"}], ids=str)
def test_a_palette_gives_its_indices(bits, options, tmp_path):
    image = Image.fromarray(CLASSES.astype(np.uint8))
    image.putpalette(bytes(range(200, 200 + 3 * 4)))
    image.save(tmp_path / "mask.png", bits=bits, **options)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), CLASSES)


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", "int32", "float32"])
def test_whole_numbers_of_any_type_are_read(dtype, tmp_path):
    numbers = CLASSES.astype(dtype)
    Image.fromarray(numbers).save(tmp_path / "mask.tif")
    found = read_mask(tmp_path / "mask.tif")
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, CLASSES)


@pytest.mark.parametrize("number", [0.5, np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_are_not_whole_are_named(number, tmp_path):
    numbers = CLASSES.astype(np.float32)
    numbers[3, 3] = number
    Image.fromarray(numbers).save(tmp_path / "mask.tif")
    with pytest.raises(ValueError, match="it holds numbers that are not whole"):
        read_mask(tmp_path / "mask.tif")


@pytest.mark.parametrize(
    ("mode", "channels"), [("LA", 2), ("RGB", 3), ("RGBA", 4), ("CMYK", 4), ("YCbCr", 3)]
)
def test_channels_are_counted(mode, channels, tmp_path):
    image = Image.fromarray(CLASSES.astype(np.uint8))
    image = image.convert(mode) if mode in ("LA", "RGB") else image.convert("RGB").convert(mode)
    image.save(tmp_path / "mask.tif")
    with pytest.raises(ValueError, match=f"it has {channels} channels instead of one"):
        read_mask(tmp_path / "mask.tif")


def test_a_jpeg_is_no_mask_whatever_its_name(tmp_path):
    Image.fromarray(CLASSES.astype(np.uint8)).save(tmp_path / "mask.png", "JPEG")
    with pytest.raises(ValueError, match="is a JPEG, whose compression changes the numbers"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_read_however_a_file_was_packed(mode, tmp_path):
    channels = np.stack([CLASSES, CLASSES // 2, 0 * CLASSES], -1).astype(np.uint8)
    image = Image.fromarray(channels)
    image = image.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else image
    image.convert(mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_coloured_mask(tmp_path / "mask.png"), channels)


@pytest.mark.parametrize(
    ("mode", "kind", "why"),
    [
        ("L", "PNG", "of mode L instead of RGB"),
        ("LA", "PNG", "of mode LA"),
        ("RGB", "JPEG", "a JPEG"),
    ],
)
def test_colours_that_encode_nothing_are_named(mode, kind, why, tmp_path):
    Image.new(mode, (40, 24)).save(tmp_path / "mask.png", kind)
    with pytest.raises(ValueError, match=f"it is {why}"):
        read_coloured_mask(tmp_path / "mask.png")
