"""Answers of a model as text: how they are written, and a tolerant reader.

An answer is a list of items, each an object with its attributes before it:

    young: girl; wooden: bed; cat;

`-` stands for a caption that names nothing visible. The reader also takes what models write in
place of that: lists on several lines, bullets, numbers, commas, `bed (wooden)`. It drops what the
caption doesn't say and counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import regex

from parsing.words import Grounding, joined, solid, words


@dataclass(frozen=True)
class Form:
    """The marks of an answer.

    Attributes:
        attribute: stands after each attribute.
        end: stands after each item; the last one may lack it.
        nothing: the whole answer where nothing visible is named.
    """

    attribute: str = ":"
    end: str = ";"
    nothing: str = "-"


@dataclass
class Answer:
    """What an answer says of its caption, spelt as in the answer.

    Attributes:
        objects: each once, in the order of the answer.
        attributes: (attribute, object) pairs, each once.
        dropped: how many objects and attributes used a word that the caption lacks.
    """

    objects: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    dropped: int = 0


_WIDE = str.maketrans("；：，、。", ";:,,.")  # marks of East Asian text
_BULLET = regex.compile(r"^(?:[\s\-*•·]+|\(?\d{1,2}[.)]\s+)+(?=[\p{L}\p{M}\p{N}])")
_COMMA = regex.compile(r",(?![^()]*\))")  # not inside brackets
_BRACKETS = regex.compile(r"^([^()]+)\(([^()]*)\)$")
_NOTHING = frozenset(("", "none", "nothing", "n/a", "no objects"))


def read_answer(
    text: str,
    caption: str,
    form: Form,
    complete: bool = True,
    singular: Callable[[str], str] = lambda word: word,
) -> Answer:
    """Reads an answer in whatever shape it comes.

    Args:
        text: the model's answer.
        caption: the caption as the model saw it.
        form: the marks that the model was asked to use.
        complete: False where the answer was cut off: its last item is left out.
        singular: see `parsing.words.Grounding`.
    """
    answer, grounding = Answer(), Grounding(caption, singular)
    items = _items(text.translate(_WIDE), form)
    if not complete:
        items = items[:-1]
    for item in items:
        *attributes, name = item.split(form.attribute)
        attributes = [part.strip() for text in attributes for part in text.split(",")]
        for number, part in enumerate(_COMMA.split(name)):
            _add(answer, grounding, part, attributes if number == 0 else [], form)
    return answer


def _items(text: str, form: Form) -> list[str]:
    found = text.splitlines() if "\n" in text else [text]
    if form.end in text:
        found = [item for line in found for item in line.split(form.end)]
    elif form.attribute not in text:
        found = [item for line in found for item in _COMMA.split(line)]
    return [_BULLET.sub("", item.strip()) for item in found]


def _add(
    answer: Answer, grounding: Grounding, name: str, attributes: list[str], form: Form
) -> None:
    name = name.strip(" .\"'`*")
    if brackets := _BRACKETS.match(name):
        name = brackets[1].strip()
        attributes = attributes + [part.strip() for part in brackets[2].split(",")]
    attributes = [text for text in attributes if text]
    if name == form.nothing or name.casefold() in _NOTHING:
        return
    if not grounding.admits(name):
        answer.dropped += 1 + len(attributes)
        return
    if name not in answer.objects:
        answer.objects.append(name)
    for attribute in attributes:
        if not grounding.admits(attribute):
            answer.dropped += 1
        elif (attribute, name) not in answer.attributes:
            answer.attributes.append((attribute, name))


def write_answer(
    caption: str,
    objects: Iterable[str],
    attributes: Iterable[tuple[str, str]],
    form: Form,
    same: Callable[[str], str] = str.casefold,
    same_attribute: Callable[[str], str] | None = None,
) -> str:
    """The answer from which a model learns tags: objects in the caption's order and spelling.

    A compound that the tags write in one word and the caption in two, or the other way round, keeps
    the tags' spelling: a student of tags that say `cellphone` learns to say so.

    Args:
        caption: the caption as the model sees it.
        objects, attributes: the tags; what the caption doesn't say word by word is left out.
        form: the marks.
        same: brings a word to the form in which tag and caption are compared.
        same_attribute: likewise for attributes; `same` where it is not given.

    Returns:
        the answer without the last end mark, which says nothing that the end of the text doesn't.
    """
    caption_words = words(caption)
    compared = [same(word) for word in caption_words]
    places: dict[str, _Place] = {}
    for name in objects:
        if (place := _find(compared, [same(word) for word in words(name)])) is not None:
            places[name] = place
    said: dict[str, dict[_Place, str]] = {name: {} for name in places}
    same_attribute = same_attribute or same
    compared = [same_attribute(word) for word in caption_words]
    for attribute, name in attributes:
        if name not in places:
            continue
        wanted = [same_attribute(word) for word in words(attribute)]
        if (place := _find(compared, wanted, near=places[name].start)) is not None:
            said[name][place] = place.spelt(caption_words, attribute)
    items = []
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        parts = [said[name][each] for each in sorted(said[name])]
        parts.append(place.spelt(caption_words, name))
        items.append(f"{form.attribute} ".join(parts))
    return f"{form.end} ".join(dict.fromkeys(items)) or form.nothing


class _Place(NamedTuple):
    """Where a caption says a tag: from its word `start` to before `end`, with the same words or not."""

    start: int
    end: int
    same_words: bool

    def spelt(self, caption_words: Sequence[str], tag: str) -> str:
        return joined(caption_words[self.start : self.end]) if self.same_words else tag


def _find(text: Sequence[str], run: Sequence[str], near: int = 0) -> _Place | None:
    """Where words stand side by side in a text: the place whose start is nearest to `near`.

    Where they don't, a place that has the same letters in fewer or more words, at most one more.
    """
    size, starts = len(run), range(len(text))
    found = [_Place(n, n + size, True) for n in starts if size and list(text[n : n + size]) == run]
    if not found and (wanted := solid(run)):
        found = [
            _Place(n, end, False)
            for n in starts
            for end in range(n + 1, min(n + size + 1, len(text)) + 1)
            if solid(text[n:end]) == wanted
        ]
    return min(found, key=lambda place: abs(place.start - near), default=None)
