"""A page on this machine to try words on pictures: maps and masks of CLIP and of runs side by side.

`show.py --serve` opens it. Gradio makes the page (the extra `demo`); nothing leaves the machine.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from common.errors import UserError
from eval.any_words import Rule, segment
from eval.datasets.benchmarks import BACKGROUND, BadImage, open_image
from eval.inference.settings import Inference
from eval.pictures import heat_map, legend_entries, overlay, palette
from training.dense import Dense
from training.images import as_rgb

LONGEST = 640  # pixels of the longer side of a picture
MOST_WORDS = 12
EXAMPLE = "cat, brown cat, grass"


def words_in(text: str) -> tuple[str, ...]:
    """The words of a line or several: separated by commas, each once."""
    parts = (part.strip() for part in text.replace("\n", ",").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def opened(path: str | None) -> Image.Image | None:
    """A picture that was dropped on the page, in RGB, by the decoder of training and evaluation.

    Raises:
        UserError: it is damaged, or no image.
    """
    try:
        return None if path is None else open_image(Path(path))
    except BadImage as error:
        raise UserError(f"the picture is of no use: {error}") from error


def compare(
    models: Sequence[tuple[str, Dense]],
    image: Image.Image | None,
    text: str,
    inference: Inference,
    threshold: float | None,
) -> tuple[list[tuple[Image.Image, str]], str, list[tuple[Image.Image, str]]]:
    """What the page shows for a picture and words.

    Args:
        models: by name.
        image: of any size and mode; None before a picture is chosen.
        text: words, separated by commas.
        inference: the settings of the command.
        threshold: of the background; None takes the settings'.

    Returns:
        masks, one per model, with their captions; the legend of their colours as HTML; and similarity
        maps, one per word and model, with their captions.

    Raises:
        UserError: no picture, no word, too many of them, or a threshold that cannot act.
    """
    words = words_in(text)
    if image is None:
        raise UserError("drop a picture first")
    if not words:
        raise UserError("type a word, or several separated by commas")
    if len(words) > MOST_WORDS:
        raise UserError(f"{len(words)} words are too many for the page: at most {MOST_WORDS}")
    image = as_rgb(image).copy()
    image.thumbnail((LONGEST, LONGEST))
    rule = Rule.of(inference, words)
    if threshold is not None and rule.threshold is not None:
        rule = Rule(threshold, rule.words)
    names = (BACKGROUND, *words) if rule.has_background else words
    masks, maps, labels = [], [], []
    for name, dense in models:
        found = segment(dense, image, words, inference, rule)
        labels.append(found.labels)
        masks.append((overlay(image, found.labels, rule.has_background), name))
        maps += [
            (heat_map(image, values), f"{word}, {name}: {values.min():.2f} to {values.max():.2f}")
            for word, values in zip(words, found.similarities, strict=True)
        ]
    by_word = [maps[n] for w in range(len(words)) for n in range(w, len(maps), len(words))]
    return masks, _legend(legend_entries(labels), names, rule.has_background), by_word


def _legend(entries: Sequence[int], names: Sequence[str], background: bool) -> str:
    colours = palette(len(names))
    lines = []
    for entry in entries:
        red, green, blue = colours[entry]
        fill = "none" if background and entry == 0 else f"rgb({red} {green} {blue})"
        box = f'<span style="background: {fill}; border: 1px solid; padding: 0 .6em; margin-right: .4em"></span>'
        lines.append(f'<span style="white-space: nowrap">{box} {html.escape(names[entry])}</span>')
    return f'<div style="display: flex; flex-wrap: wrap; gap: .3em 1.2em">{"".join(lines)}</div>'


def make_page(models: Sequence[tuple[str, Dense]], inference: Inference) -> Any:
    """The page as a `gradio.Blocks`.

    Raises:
        UserError: Gradio is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise UserError("--serve needs gradio: pip install '.[demo]'") from error

    def answer(path: str | None, text: str, threshold: float) -> tuple[list, str, list]:
        try:
            return compare(models, opened(path), text, inference, threshold)
        except UserError as error:
            raise gradio.Error(html.escape(str(error)), print_exception=False) from error

    default = Rule.of(inference, ("any",)).threshold if inference.threshold is None else None
    default = inference.threshold if default is None else default
    with gradio.Blocks(title="tagalign", analytics_enabled=False) as page:
        gradio.Markdown(f"## Any words on your picture: {', '.join(name for name, _ in models)}")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                image = gradio.Image(  # as a file, since Gradio would decode it in another way
                    type="filepath",
                    image_mode=None,
                    label="Picture",
                    sources=["upload", "clipboard"],
                )
                text = gradio.Textbox(EXAMPLE, label="Words, separated by commas", lines=2)
                threshold = gradio.Slider(
                    0, 1, 0.4 if default is None else default, step=0.01,
                    label="Background where no word's probability reaches",
                    visible=default is not None,
                )  # fmt: skip
                button = gradio.Button("Find them", variant="primary")
            with gradio.Column(scale=2, min_width=280):
                masks = gradio.Gallery(
                    label="Masks", columns=2, height="auto", object_fit="contain"
                )
                legend = gradio.HTML()
                maps = gradio.Gallery(
                    label="Similarity, from the picture's lowest (blue) to its highest (red)",
                    columns=max(2, len(models)), height="auto", object_fit="contain",
                )  # fmt: skip
        inputs, outputs = [image, text, threshold], [masks, legend, maps]
        button.click(answer, inputs, outputs, api_name="segment")
        text.submit(answer, inputs, outputs, api_visibility="private")
    return page


def serve(models: Sequence[tuple[str, Dense]], inference: Inference, port: int) -> None:
    """Serves the page on this machine until it is interrupted.

    Raises:
        UserError: Gradio is not installed, or the port is taken.
    """
    page = make_page(models, inference)
    try:
        page.launch(server_name="127.0.0.1", server_port=port, share=False, show_error=True)
    except OSError as error:
        raise UserError(f"cannot open port {port}: choose another --port") from error
