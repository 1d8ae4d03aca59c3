"""The page on which any words are tried on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from eval.demo import MOST_WORDS, compare, make_page, opened, words_in
from eval.inference.settings import Inference

INFERENCE = Inference(size=32, window=32, stride=16)


@pytest.fixture
def models(surgery, trained):
    return [("surgery", surgery), ("my run", trained)]


def test_words_are_separated_by_commas_and_lines_and_come_once():
    assert words_in(" cat, brown cat,,\ncat\n") == ("cat", "brown cat")


def test_a_mask_for_each_model_and_a_map_for_each_word_and_model(models):
    image = Image.fromarray(np.zeros((90, 120, 3), np.uint8))
    masks, legend, maps = compare(models, image, "cat, <b>dog</b>, sky", INFERENCE, 0.0)
    assert "</span> background" not in legend
    assert "<b>" not in legend
    assert [name for _, name in masks] == ["surgery", "my run"]
    assert [caption.split(":")[0] for _, caption in maps] == [
        f"{word}, {name}" for word in ("cat", "<b>dog</b>", "sky") for name in ("surgery", "my run")
    ]
    assert maps[0][0].size == (120, 90)


@pytest.mark.parametrize(
    ("image", "text", "message"),
    [
        (None, "cat", "drop a picture first"),
        (Image.new("RGB", (9, 9)), " , ", "type a word"),
        (Image.new("RGB", (9, 9)), ",".join(map(str, range(MOST_WORDS + 1))), "are too many"),
    ],
)
def test_mistakes_on_the_page_are_one_sentence(models, image, text, message):
    with pytest.raises(UserError, match=message):
        compare(models, image, text, INFERENCE, None)


def ramp(kind: str) -> Image.Image:
    """Black to white, from left to right; or half transparent, or turned."""
    shades = np.tile(np.linspace(0, 1, 60), (40, 1))
    if kind == "deep":
        return Image.fromarray((shades * 65_535).astype(np.uint16))
    if kind == "float":
        return Image.fromarray(shades.astype(np.float32))
    grey = Image.fromarray((shades * 255).astype(np.uint8))
    grey.putalpha(255 if kind == "opaque" else 0)
    return grey


@pytest.mark.parametrize("kind", ["deep", "float", "opaque"])
def test_a_picture_of_any_mode_keeps_its_shades(kind, models, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "eval.demo.overlay", lambda image, *_: seen.append(np.asarray(image)) or image
    )
    picture = ramp(kind)
    compare(models[:1], picture, "cat", INFERENCE, None)
    assert picture.size == (60, 40)
    assert abs(seen[0][20, :, 0].astype(int) - np.linspace(0, 255, 60)).max() <= 1


def test_a_dropped_file_is_opened_as_evaluation_opens_it(tmp_path):
    assert opened(None) is None
    ramp("deep").save(tmp_path / "deep.png")
    assert abs(np.asarray(opened(str(tmp_path / "deep.png")))[20, 30, 0].astype(int) - 130) <= 1
    ramp("clear").save(tmp_path / "clear.png")
    assert (np.asarray(opened(str(tmp_path / "clear.png"))) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp("opaque").convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    assert opened(str(tmp_path / "turned.jpg")).size == (40, 60)
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:300])
    with pytest.raises(UserError, match="the picture is of no use: it cannot be read"):
        opened(str(tmp_path / "torn.jpg"))


def test_the_page_answers_in_a_browser(models, browser, tmp_path):
    pytest.importorskip("gradio", reason="needs gradio: pip install '.[demo]'")
    ramp("deep").save(tmp_path / "cat.png")
    page = make_page(models, INFERENCE)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    tab.set_default_timeout(200_000)  # a machine that does other things
    try:
        tab.goto(url)
        tab.get_by_role("button", name="Find them").click()
        tab.wait_for_selector("text=drop a picture first")
        tab.set_input_files("input[type=file]", str(tmp_path / "cat.png"))
        tab.get_by_label("Words, separated by commas").fill("cat, grass")
        tab.wait_for_selector("img[src*='cat.']")
        tab.get_by_role("button", name="Find them").click()
        tab.wait_for_selector("text=grass, my run:")
        assert tab.locator("text=surgery").count() >= 1
    finally:
        tab.close()
        page.close()
