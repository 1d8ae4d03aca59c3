"""Grounded decoding: the answer can hold nothing but words of its caption, in the caption's order.

Every caption gets a regular expression of its own, and every answer that the expression admits is
read back by `read_answer`. An answer is a chain of items, one for each object, each ended by the
same separator; an item is an object with the attributes that the caption gives it. Each item is
optional and stands at one place, so that a model can skip words, but can neither invent, repeat
nor jump, and the expression grows with the length of the caption, not with its square.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

OBJECT_WORDS = 3  # longest object: `cross walk sign`
CHAIN_WORDS = 5  # an object with all that stands before it: `tall green young palm tree`
PREDICATE_WORDS = 3  # adjectives after `is`: `red white and blue`
PREDICATE_REACH = 4  # words between an object and the `is` that speaks of it
GLYPHS = 6  # longest object in a script that puts no spaces between words

# Words that link, point or ask, and so name nothing. English has a few hundred and coins no new ones.
FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any each every either neither both all no none such another other others
    same own what which who whom whose when where why how while whether if because since until unless though
    although than as so too very just only also even still yet again already almost quite rather really
    and or but nor plus versus vs etc
    i me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us our ours
    ourselves they them their theirs themselves one's someone something anyone anything everyone everything
    nobody nothing
    about above across after against along alongside amid among amongst around at atop away back before behind below
    beneath beside besides between beyond by down during except for from in inside into like near nearby next of off on
    onto opposite out outside over past per round through throughout to together toward towards under underneath up upon
    via with within without
    is are was were be been being am 's s 're 've 'll 'd n't not do does did doing done don't doesn't isn't aren't wasn't
    has have had having can could may might must shall should will would get gets got getting
    there here now then ever never always often sometimes today tomorrow yesterday
    more most less least much many few several lot lots alot bunch
    """.split()
)
COPULAS = frozenset("is are was were look looks looked appear appears seem seems".split())
LINKS = frozenset(["and", "or", "but"])

# Scripts that are written without spaces: any run of their characters may be a word.
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
    r"|[\p{L}\p{M}\p{N}]+(?:['’&\-][\p{L}\p{M}\p{N}]+)*|['’]\p{L}+"
)
_GLYPH = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_UNSEEN = regex.compile(r"[\p{C}\p{Z}\s]+")  # control, format and unassigned characters, and spaces
_PERSON = regex.compile(r"<\s*person\s*>", regex.IGNORECASE)
_METACHARACTERS = regex.compile(r"[\\.+*?()|\[\]{}^$]")


@dataclass(frozen=True)
class Form:
    """How an answer is written.

    Attributes:
        start: what every item begins with.
        open, close: what stands before and after each attribute; `open` may be empty.
        end: what every item ends with.
        nothing: the whole answer where nothing can be seen.
    """

    start: str = " "
    open: str = ""
    close: str = ":"
    end: str = ";"
    nothing: str = " none"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption.

    Attributes:
        text: lower-case.
        tied: nothing but a space, or nothing at all, lies between it and the word before.
        glyph: one character of a script without spaces.
        content: may be part of a tag.
    """

    text: str
    tied: bool
    glyph: bool
    content: bool


def clean(caption: str) -> str:
    """The caption as the model sees it: on one line, control characters gone, `<PERSON>` named."""
    text = _PERSON.sub(" person ", unicodedata.normalize("NFC", caption))
    return _UNSEEN.sub(" ", text).strip()


def words(caption: str) -> list[Word]:
    """The words of a caption, in order."""
    text = clean(caption).lower()
    found, last = [], 0
    for match in _WORD.finditer(text):
        word = match[0].replace("’", "'")
        gap = text[last : match.start()]
        glyph = bool(_GLYPH.match(word))
        content = any(map(str.isalpha, word)) and word not in FUNCTION_WORDS and word[0] != "'"
        found.append(Word(match[0], not gap.strip(), glyph, content))
        last = match.end()
    return found


def answer_regex(caption: str, form: Form) -> str | None:
    """The expression that an answer must match, in the syntax of the `regex` crate of Rust.

    Returns:
        None where no word could be a tag: there is nothing to ask.
    """
    items = [_item(chain, predicate, form) for chain, predicate in _chains(words(caption))]
    if not items:
        return None
    # A model that completes text ends a line where one that chats ends its turn.
    return f"(?:{_escape(form.nothing)}|{''.join(f'(?:{item})?' for item in items)})\\n?"


def write_answer(tags: Sequence[tuple[str, Sequence[str]]], form: Form) -> str:
    """The answer that lists these objects, each with its attributes."""
    items = [
        form.start
        + "".join(f"{form.open}{text}{form.close}" for text in attributes)
        + name
        + form.end
        for name, attributes in tags
    ]
    return "".join(items) or form.nothing


def read_answer(answer: str, caption: str, form: Form) -> tuple[list[str], list[tuple[str, str]]]:
    """Reads an answer: objects, and (attribute, object) pairs, as the caption has them, lower-case.

    Nothing is normalised yet. An item that isn't ended was cut off and doesn't count, nor does one
    with words that the caption lacks.
    """
    known = {word.text for word in words(caption)}
    objects: dict[str, None] = {}
    pairs: dict[tuple[str, str], None] = {}
    for item in answer.split(form.end)[:-1]:
        *before, last = item.split(form.close)
        attributes = [text.strip().removeprefix(form.open).strip() for text in before]
        name = last.strip()
        if not name or not all(_grounded(text, known) for text in (name, *attributes)):
            continue
        objects[name] = None
        pairs.update(dict.fromkeys((attribute, name) for attribute in attributes if attribute))
    return list(objects), list(pairs)


def _grounded(text: str, known: set[str]) -> bool:
    return all(word in known or all(c in known for c in word) for word in text.split())


def _chains(found: list[Word]) -> Iterator[tuple[list[Word], list[Word]]]:
    """For each word that may be the head of an object: the words up to it, and its predicate."""
    for at, head in enumerate(found):
        if not head.content:
            continue
        limit = GLYPHS if head.glyph else CHAIN_WORDS
        start = at
        while start and at - start + 1 < limit and found[start].tied:
            if not found[start - 1].content or found[start - 1].glyph != head.glyph:
                break
            start -= 1
        yield found[start : at + 1], _predicate(found, at)


def _predicate(found: list[Word], at: int) -> list[Word]:
    """What the caption says of an object with `is`: `the shirt is blue`."""
    for place in range(at + 1, min(at + 1 + PREDICATE_REACH, len(found))):
        if found[place].text in COPULAS:
            said = []
            for word in found[place + 1 :]:
                if word.content:
                    said.append(word)
                elif word.text not in LINKS and said:
                    break
                if len(said) == PREDICATE_WORDS:
                    break
            return said
    return []


def _item(chain: list[Word], predicate: list[Word], form: Form) -> str:
    """One object that ends at the last word of the chain, with its attributes."""
    joint = "" if chain[-1].glyph else " "
    texts = [_escape(word.text) for word in chain]
    longest = len(chain) if chain[-1].glyph else OBJECT_WORDS

    def attribute(text: str) -> str:
        return f"(?:{_escape(form.open)}{text}{_escape(form.close)})?"

    tail = texts[-1]
    for place in range(len(texts) - 2, -1, -1):
        name = joint.join(texts[place:])
        tail = f"{attribute(texts[place])}(?:{tail})" if not chain[-1].glyph else tail
        if len(texts) - place <= longest:
            tail = f"(?:{name}|{tail})"
    before = "".join(attribute(_escape(word.text)) for word in predicate)
    return f"{_escape(form.start)}{before}{tail}{_escape(form.end)}"


def _escape(text: str) -> str:
    return _METACHARACTERS.sub(r"\\\g<0>", text)
