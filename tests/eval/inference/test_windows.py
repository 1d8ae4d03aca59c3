"""Windows cover the image, and fusion in one step equals upsample, average, upsample."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eval.inference.windows import Axis, Windows, bilinear

SIZES = [(64, 64), (64, 100), (100, 64), (40, 64), (33, 20), (64, 161), (150, 97), (7, 300)]


def fused(windows: Windows, maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    bands = list(windows.pixels(windows.join(maps), height, width))
    assert [band.start for band, _ in bands][1:] == [band.stop for band, _ in bands][:-1]
    return torch.cat([values for _, values in bands]).transpose(0, 1)


def step_by_step(windows: Windows, maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Upsample each window, average where they overlap, upsample to the image."""
    rows, columns = windows.rows, windows.columns
    total = torch.zeros(maps.shape[1], rows.size, columns.size)
    count = torch.zeros(rows.size, columns.size)
    full = F.interpolate(maps, size=windows.shape, mode="bilinear", align_corners=False)
    places = [(y, x) for y in rows.starts for x in columns.starts]
    for (y, x), window in zip(places, full, strict=True):
        down, across = slice(y, y + rows.length), slice(x, x + columns.length)
        total[:, down, across] += window[:, : rows.length, : columns.length]
        count[down, across] += 1
    mean = (total / count)[None]
    return F.interpolate(mean, size=(height, width), mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("out", [None, (91, 130), (400, 31)], ids=str)
def test_fusion_equals_upsampling_averaging_and_upsampling(size, out):
    windows = Windows.of(*size, window=64, stride=24, patch=16)
    height, width = out or size
    maps = torch.randn(
        len(windows), 5, windows.rows.patches, windows.columns.patches,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    result = fused(windows, maps, height, width)
    torch.testing.assert_close(
        result, step_by_step(windows, maps, height, width), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [64, 32, 24, 1])
def test_constant_maps_stay_constant(size, stride):
    windows = Windows.of(*size, window=64, stride=stride, patch=16)
    constant = torch.tensor([0.3, 0.7, -2.0])
    maps = constant[None, :, None, None].expand(
        len(windows), 3, windows.rows.patches, windows.columns.patches
    )
    result = fused(windows, maps, 111, 57)
    expected = constant[:, None, None].expand(3, 111, 57)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 15, 16, 63, 64, 65, 88, 89, 448, 1000])
def test_windows_cover_every_pixel_and_stay_inside(size):
    axis = Axis(size, 64, 24, 16)
    covered = torch.zeros(size)
    for start in axis.starts:
        assert 0 <= start <= size - axis.length
        covered[start : start + axis.length] += 1
    assert covered.min() >= 1
    assert len(set(axis.starts)) == len(axis.starts)
    # the minimum number of windows: all steps but the last are whole strides
    assert len(axis.starts) == 1 + max(0, -(-(size - axis.length) // 24))


def test_windows_are_crops_of_the_image_padded_with_0():
    image = torch.arange(3 * 40 * 70, dtype=torch.float32).reshape(3, 40, 70) + 1
    windows = Windows.of(40, 70, window=64, stride=32, patch=16)
    cut = windows.cut(image)
    assert cut.shape == (2, 3, 48, 64)
    torch.testing.assert_close(cut[0, :, :40], image[:, :, :64])
    torch.testing.assert_close(cut[1, :, :40], image[:, :, 6:])
    assert (cut[:, :, 40:] == 0).all()


def test_a_map_is_placed_at_its_window():
    windows = Windows.of(64, 128, window=64, stride=64, patch=16)
    maps = torch.zeros(2, 1, 4, 4)
    maps[1] = 1
    result = fused(windows, maps, 64, 128)[0]
    assert (result[:, :60] == 0).all()
    assert (result[:, 68:] == 1).all()


def test_the_bilinear_matrix_agrees_with_interpolate():
    x = torch.randn(1, 1, 9, dtype=torch.float64)
    for out in (3, 9, 20):
        expected = F.interpolate(x, size=out, mode="linear", align_corners=False)
        torch.testing.assert_close(x @ bilinear(9, out).T, expected)
