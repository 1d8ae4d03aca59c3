"""The noun groups of a caption: where its things are named, found without a tagger.

English marks them with a few hundred words that never name a thing (`groups.yaml`). Whatever lies
between two of those is a group: adjectives, then nouns, the last of which is the thing. Where a
caption drops its articles a verb may lie in the group as well (`man holding knife`), so words
that can be verbs can be left out. Which words describe, which belong to the name and what can't be
seen at all is for the model to say.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from parsing.lexicon import lexicon

# A character of a script without spaces is a word by itself.
_GLYPHS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = regex.compile(
    rf"{_GLYPHS}\p{{M}}*"
    r"|[\p{L}\p{M}\p{N}]+(?:['’&\-](?!s\b)[\p{L}\p{M}\p{N}]+)*"
    r"|['’]\p{L}+|&"
)
_GLYPH = regex.compile(_GLYPHS)
_UNSEEN = regex.compile(r"[\p{C}\p{Z}\s]+")  # control, format and unassigned characters, and spaces
_PERSON = regex.compile(r"<\s*person\s*>", regex.IGNORECASE)
_YEAR = regex.compile(r"\p{N}{3,}")


@dataclass(slots=True)
class Word:
    """One word of a group.

    Attributes:
        text: lower-case.
        position: its place among the words of the caption.
        linked: `and`, `or` or a comma lies between it and the word before.
        droppable: may be a verb, and so be left out of the answer.
        head: may be the last word of an object.
        describes: can only be an attribute: a number, or a colour before a noun.
        names: can be no attribute: `tennis`.
        degree: belongs to the word after it (`dark`, `partly`).
    """

    text: str
    position: int
    linked: bool = False
    droppable: bool = False
    head: bool = True
    describes: bool = False
    names: bool = False
    degree: bool = False


@dataclass(slots=True)
class Group:
    """Words that may name a thing and say how it looks, in the caption's order.

    Attributes:
        words: at least one.
        kind: `noun`; `predicate`, said of a thing named before; or `glyphs`, characters of a
            script without spaces.
    """

    words: list[Word]
    kind: str = "noun"


def clean(caption: str) -> str:
    """The caption as the model sees it: on one line, control characters gone, `<PERSON>` named."""
    text = _PERSON.sub(" person ", unicodedata.normalize("NFC", caption))
    return _UNSEEN.sub(" ", text).strip()


def words(caption: str) -> list[str]:
    """All words of a caption, in order, lower-case."""
    return [match[0] for match in _WORD.finditer(clean(caption).lower())]


def groups(caption: str) -> list[Group]:
    """The groups of a caption, in order; none where nothing in it could be a tag."""
    return [group for group in map(_settle, _split(clean(caption).lower())) if group]


def _split(text: str) -> Iterator[Group]:
    """Cuts at every word that names nothing and at every mark but a comma."""
    lex, matches = lexicon(), list(_WORD.finditer(text))
    group, linked, predicate, end = Group([]), False, False, 0
    placed = False  # whether a preposition comes before
    named = False  # whether the word before could name a thing: what a copula then says is of it
    for position, match in enumerate(matches):
        word, mark = match[0], text[end : match.start()].strip()
        following = matches[position + 1][0] if position + 1 < len(matches) else ""
        end = match.end()
        glyph = bool(_GLYPH.match(word))
        if mark not in ("", ",") or glyph != (group.kind == "glyphs"):
            if group.words:
                yield group
            group, linked, predicate = Group([], "glyphs" if glyph else "noun"), False, False
        linked = linked or mark == ","
        if word in lex.conjunctions:
            linked = True
            continue
        if (
            lex.names_nothing(word)
            or (following == "of" and lex.is_measure(word))
            or (placed and not group.words and word in lex.words.places and _ends_here(following))
        ):
            placed = (
                word in lex.prepositions or word[0] in "'’" or (placed and word in lex.determiners)
            )
            if group.words:
                yield group
            linked = False
            predicate = named if word in lex.copulas else predicate and word in lex.degrees
            group = Group([], "predicate" if predicate else "noun")
            named = False
            continue
        if predicate and lex.is_participle(word) and (word.endswith("ing") or _relates(following)):
            predicate, named = False, False  # `is riding`, `is parked on`: a verb after all
            if group.words:
                yield group
            group = Group([])
            continue
        named, placed = True, False
        group.words.append(
            Word(
                text=word,
                position=position,
                linked=linked and bool(group.words),
                droppable=bool(_YEAR.fullmatch(word))
                or (lex.may_be_verb(word) and bool(group.words)),
                describes=word in lex.numbers or not any(map(str.isalpha, word)),
                degree=lex.is_adverb(word),
            )
        )
        if _is_plural(word) and following in lex.determiners:  # `dog chases the ball`
            group.words[-1].droppable = True
        linked = False
    if group.words:
        yield group


def _ends_here(word: str) -> bool:
    return not word or lexicon().names_nothing(word)


def _relates(word: str) -> bool:
    return word in lexicon().prepositions


def _is_plural(word: str) -> bool:
    """Ends in the -s of a plural or of a verb; nouns in front of a noun have none."""
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))


def _settle(group: Group) -> Group | None:
    """Says of each word what it can be, now that its neighbours are known."""
    if group.kind == "glyphs":
        return group
    lex, found = lexicon(), group.words
    for word in found:
        if lex.is_participle(word.text):
            word.droppable, word.head = True, False
        elif word.describes:  # a number
            word.head = False
    if group.kind == "noun":
        while found and not found[-1].head:  # `man sitting`: a verb, or a number alone
            found.pop()
    for word, after in itertools.pairwise(found):
        # A noun in front of a noun has no plural: `dog chases cat`.
        word.droppable = word.droppable or (_is_plural(word.text) and not after.linked)
    for word, after in itertools.pairwise(found):
        listed = after.linked and lex.must_describe(word.text) and lex.must_describe(after.text)
        word.head = word.head and (after.linked or after.droppable) and not listed
        shaded = word.text in lex.words.shades and after.text in lex.words.colours  # `dark green`
        word.degree = (word.degree or shaded) and not after.linked
        named = f"{word.text} {after.text}" in lex.names
        word.describes = not named and (word.describes or lex.must_describe(word.text))
        word.names = named or not (word.describes or lex.can_describe(word.text))
    if group.kind == "noun":
        # An adverb at the end speaks of a verb: `cat resting sideways`.
        while found and (found[-1].degree or not found[-1].head):
            found.pop()
    if not any(any(map(str.isalpha, word.text)) for word in found):
        return None
    return group
