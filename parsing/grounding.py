"""Grounded decoding: the answer goes through the noun groups of its caption, one after the other.

Every caption gets a regular expression of its own, and every answer that the expression admits is
read back by `read_answer`. The answer is a chain of items, one for each object, each ended by the
same mark; an item is an object with the attributes that the caption gives it, or the mark for
what can't be seen. So a model can neither invent nor repeat nor jump nor stop half-way. All it
decides, word by word, is what describes, what belongs to a name, and what can't be seen.
The expression grows with the length of the caption, not with its square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

from parsing.groups import Group, Word, groups, words

GLYPHS = 6  # longest tag in a script without spaces

_METACHARACTERS = regex.compile(r"[\\.+*?()|\[\]{}^$]")


@dataclass(frozen=True)
class Form:
    """How an answer is written: ` white: stove; tennis racket; -;`.

    Attributes:
        attribute: what stands after each attribute.
        end: what ends an item. What is said of an object named before (`the door is red`) is an
            item of attributes alone: ` red:;`.
        skip: stands for a group in which nothing can be seen.
    """

    attribute: str = ":"
    end: str = ";"
    skip: str = "-"


def answer_regex(caption: str, form: Form) -> str | None:
    """The expression that an answer must match, in the syntax of the `regex` crate of Rust.

    Returns:
        None where no word could be a tag: there is nothing to ask.
    """
    found = groups(caption)
    if not found:
        return None
    # A model that completes text ends its line where one that chats ends its turn.
    return "".join(_group(group, form) for group in found) + r"\n?"


def max_answer_tokens(caption_tokens: int) -> int:
    """The longest answer, in tokens, to a caption of so many: its words, each with one mark."""
    return 2 * caption_tokens + 16


def read_answer(answer: str, caption: str, form: Form) -> tuple[list[str], list[tuple[str, str]]]:
    """Reads an answer: objects, and (attribute, object) pairs, as the caption has them, lower-case.

    Nothing is normalised. An item that isn't ended was cut off and doesn't count, nor does one
    with words that the caption lacks.
    """
    known = words(caption)
    objects: dict[str, None] = {}
    pairs: dict[tuple[str, str], None] = {}
    predicates = None
    for item in answer.split(form.end)[:-1]:
        *attributes, name = [part.strip() for part in item.split(form.attribute)]
        if (name == form.skip and not attributes) or not _grounded([*attributes, name], known):
            continue
        if name:
            objects[name] = None
        else:
            if predicates is None:
                predicates = iter([group for group in groups(caption) if group.kind == "predicate"])
            name = _subject(attributes, predicates, objects)
        if name:
            pairs.update(dict.fromkeys((text, name) for text in attributes if text))
    return list(objects), list(pairs)


def _subject(
    attributes: list[str], predicates: Iterator[Group], objects: Iterable[str]
) -> str | None:
    """The object that attributes alone are said of, and None where it was left out."""
    said = {word for text in attributes for word in text.split()}
    for group in predicates:
        if said <= {word.text for word in group.words}:
            named = [name for name in objects if set(name.split()) <= set(group.subject)]
            return named[-1] if named else None
    return None


def _grounded(texts: list[str], known: list[str]) -> bool:
    glyphs = "".join(known)
    return all(word in known or word in glyphs for text in texts for word in text.split())


def _group(group: Group, form: Form) -> str:
    if group.kind == "glyphs":
        return _glyphs(group.words, form)
    found, skip = group.words, f" {_escape(form.skip + form.end)}"
    items = _chain(found, 0, form, group.kind == "predicate")
    if all(word.droppable for word in found):
        return f"(?:{items}|{skip})?" if len(found) > 1 else f"(?:{items})"
    return f"(?:{items}|{skip})"


def _chain(found: list[Word], at: int, form: Form, predicate: bool) -> str:
    """All words from `at` on, where an item begins, so that verbs may be left out."""
    verbs = _run(found, at)
    if verbs == at:
        return _rest(found, at, form, predicate)
    return _optional(found, at, verbs, form, predicate) + _rest(found, verbs, form, predicate)


def _run(found: list[Word], at: int) -> int:
    """Where a run of words that may be verbs ends; three in a row are not three verbs."""
    end = at
    while end < len(found) and found[end].droppable and end - at < 2:
        end += 1
    return end


def _rest(found: list[Word], at: int, form: Form, predicate: bool) -> str:
    parts = []
    while at < len(found):
        end = _run(found, at + 1)
        if end == at + 1:
            parts.append(f" {_escape(found[at].text)}{_marks(found, at, form, predicate)}")
        else:
            # Only after a whole item may a verb be left out, or its neighbours would run together.
            word = f" {_escape(found[at].text)}"
            ended = _ends(found, at, form, predicate)
            going = _goes_on(found, at, form, predicate)
            forced = _forced(found, at + 1, end, form, predicate)
            choices = [f"{mark}{forced}" for mark in going]
            if ended:
                choices.append(ended + _optional(found, at + 1, end, form, predicate))
            parts.append(f"{word}(?:{'|'.join(choices)})")
        at = end
    return "".join(parts)


def _optional(found: list[Word], at: int, end: int, form: Form, predicate: bool) -> str:
    """The words from `at` to `end`, where an item begins, or only the last of them, or none."""
    starts = [start for start in range(at, end) if not found[start].acts]
    choices = [_forced(found, start, end, form, predicate) for start in starts]
    return f"(?:{'|'.join(choices)})?" if choices else ""


def _forced(found: list[Word], at: int, end: int, form: Form, predicate: bool) -> str:
    """The words from `at` to `end`, none left out but after a whole item."""
    word = f" {_escape(found[at].text)}"
    if at + 1 == end:
        return word + _marks(found, at, form, predicate)
    rest = _forced(found, at + 1, end, form, predicate)
    choices = [f"{mark}{rest}" for mark in _goes_on(found, at, form, predicate)]
    if ended := _ends(found, at, form, predicate):
        choices.append(ended + _optional(found, at + 1, end, form, predicate))
    return f"{word}(?:{'|'.join(choices)})"


def _marks(found: list[Word], at: int, form: Form, predicate: bool) -> str:
    marks = _goes_on(found, at, form, predicate)
    if ended := _ends(found, at, form, predicate):
        marks.append(ended)
    return marks[0] if len(marks) == 1 else f"(?:{'|'.join(marks)})"


def _goes_on(found: list[Word], at: int, form: Form, predicate: bool) -> list[str]:
    """What may follow a word inside an item."""
    if at + 1 == len(found):
        return []
    word, attribute = found[at], _escape(form.attribute)
    if word.degree:
        return [""]
    if found[at + 1].linked:
        return [] if word.names and word.head else [attribute]
    if word.names:
        return [""]
    return [attribute] if word.describes else [attribute, ""]


def _ends(found: list[Word], at: int, form: Form, predicate: bool) -> str:
    """What may follow the last word of an item, or nothing where it can't be that."""
    last = at + 1 == len(found)
    if predicate:
        return _escape(form.attribute + form.end) if last else ""
    return _escape(form.end) if last or found[at].head else ""


def _glyphs(found: list[Word], form: Form) -> str:
    """Any of the short runs of characters, in order: where words end is for the model to say."""
    items, end = [], _escape(form.end)
    for at in range(len(found)):
        texts = [word.text for word in found[max(0, at + 1 - GLYPHS) : at + 1]]
        longer = ""
        for text in texts[:-1]:
            longer = f"(?:{longer}{text})?"
        items.append(f"(?: {longer}{texts[-1]}{end})?")
    return f"(?: {_escape(form.skip)}{end}|{''.join(items)})"


def _escape(text: str) -> str:
    return _METACHARACTERS.sub(r"\\\g<0>", text)
