"""Pictures of one image by several models."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eval.show import main
from tests.eval.datasets.miniatures import save_image

SMALL = ["--size", "32", "--window", "32", "--stride", "16"]


def test_maps_and_overlay_have_a_column_for_clip_and_each_run(
    tmp_path, run_folder, clip_folder, capsys
):
    save_image(tmp_path / "cat.jpg", 1)
    texts = ["cat", "brown cat", "sky"]
    common = ["--image", str(tmp_path / "cat.jpg"), "--text", *texts, *SMALL]
    run = ["--run", str(run_folder), "surgery", "--model"]
    assert main([*run, str(clip_folder), *common, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.split()[:2] == [str(tmp_path / "out/maps.png"), str(tmp_path / "out/overlay.png")]
    assert "0 background, 1 cat, 2 brown cat, 3 sky" in out
    for name in ("clip", run_folder.name, "surgery"):
        mask = Image.open(tmp_path / "out" / f"{name}.mask.png")
        assert mask.mode == "P"
        assert mask.size == (40, 24)
        assert set(mask.tobytes()) <= {0, 1, 2, 3}
    maps = Image.open(tmp_path / "out/maps.png")
    assert maps.width == 4 * (40 + 10) + 10
    assert maps.height == 3 * (24 + 15 + 20) + 10
    assert main(["--run", str(run_folder), *common, "--out", str(tmp_path / "one")]) == 0
    assert Image.open(tmp_path / "one/maps.png").width == 3 * (40 + 10) + 10


def test_without_a_run_surgery_is_shown_beside_clip(tmp_path, clip_folder):
    save_image(tmp_path / "cat.jpg", 1)
    flags = ["--image", str(tmp_path / "cat.jpg"), "--text", "cat", "--model", str(clip_folder)]
    assert main([*flags, *SMALL, "--out", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["clip.mask.png", "maps.png", "overlay.png", "surgery.mask.png"]


@pytest.mark.parametrize("name", ["turned.JPG", "deep.png", "my cat.ü.tif"])
def test_pictures_are_decoded_as_in_evaluation(name, tmp_path, clip_folder):
    shades = np.tile(np.linspace(0, 1, 60), (40, 1))
    if name == "turned.JPG":
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray((shades * 255).astype(np.uint8))
        image.save(tmp_path / name, "JPEG", quality=100, exif=exif)
    else:
        dtype, top = (np.uint16, 65_535) if name == "deep.png" else (np.float32, 1)
        Image.fromarray((shades * top).astype(dtype)).save(tmp_path / name)
    flags = ["--run", "clip", "--model", str(clip_folder), "--image", str(tmp_path / name)]
    assert main([*flags, "--text", "cat", *SMALL, "--out", str(tmp_path / "out")]) == 0
    mask = Image.open(tmp_path / "out/clip.mask.png")
    assert mask.size == ((40, 60) if name == "turned.JPG" else (60, 40))
    drawn = np.asarray(Image.open(tmp_path / "out/maps.png").convert("L")).astype(int)
    first = drawn[33 : 33 + mask.height, 10 : 10 + mask.width]  # below its caption
    along = first.mean(1 if name == "turned.JPG" else 0)
    assert abs(along - np.linspace(0, 255, 60)).max() <= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--probability": "softmax", "--threshold": "0.5"}, "softmax over 1 names"),
        ({"--image": "/no/cat.jpg"}, "there is no image /no/cat.jpg"),
        ({"--text": " "}, "--text is empty"),
        ({"--background": "/no/words"}, "there is no file /no/words"),
        ({"--port": "70000"}, "--port is a number up to 65535"),
        ({"--run": "/no/run"}, "is not a training run"),
        ({"--image": "TORN"}, "it cannot be read"),
        ({"--bias": "inf"}, "--bias is a number"),
    ],
)
def test_mistakes_are_one_sentence(change, message, tmp_path, run_folder, capsys):
    save_image(tmp_path / "cat.jpg", 1)
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "cat.jpg").read_bytes()[:200])
    flags = {"--run": str(run_folder), "--image": str(tmp_path / "cat.jpg"), "--text": "cat"}
    flags |= change
    if flags["--image"] == "TORN":
        flags["--image"] = str(tmp_path / "torn.jpg")
    assert main([part for pair in flags.items() for part in pair]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_more_texts_than_a_mask_has_numbers_are_refused(tmp_path, capsys):
    save_image(tmp_path / "cat.jpg", 1)
    texts = [f"thing {number}" for number in range(256)]
    assert main(["--image", str(tmp_path / "cat.jpg"), "--text", *texts]) == 2
    assert "--text takes at most 255 texts, not 256" in capsys.readouterr().err
