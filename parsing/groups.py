"""The noun groups of a caption: where its things are named, found without a tagger.

English marks them with a few hundred words that never name a thing (`groups.yaml`). Whatever lies
between two of those is a group: adjectives, then nouns, the last of which is the thing. Where a
caption drops its articles a verb may lie in the group as well (`man holding knife`), so words
that can be verbs can be left out. Names of what no picture shows are left out (`unseen.yaml`). Which
words describe, which belong to the name and what else can't be seen is for the model to say.
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
        acts: is a verb, unless it is inside of a name (`man holding knife`, `rock climbing wall`).
        head: may be the last word of an object.
        describes: can only be an attribute: a number, or a colour before a noun.
        names: can be no attribute: `tennis`.
        degree: belongs to the word after it (`dark`, `partly`).
    """

    text: str
    position: int
    linked: bool = False
    droppable: bool = False
    acts: bool = False
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
        subject: of a predicate, the words of the group that it is said of.
        after: the word that names nothing right before it, if there is one.
    """

    words: list[Word]
    kind: str = "noun"
    subject: tuple[str, ...] = ()
    after: str = ""


def clean(caption: str) -> str:
    """The caption as the model sees it: on one line, control characters gone, `<PERSON>` named."""
    text = _PERSON.sub(" person ", unicodedata.normalize("NFC", caption))
    return _UNSEEN.sub(" ", text).strip()


def words(caption: str) -> list[str]:
    """All words of a caption, in order, lower-case."""
    return [match[0] for match in _WORD.finditer(clean(caption).lower())]


def groups(caption: str) -> list[Group]:
    """The groups of a caption, in order; none where nothing in it could be a tag."""
    split = _Splitter(clean(caption).lower()).split()
    return [group for group in map(_settle, split) if group]


class _Splitter:
    """Cuts at every word that names nothing and at every mark but a comma.

    Attributes:
        group: the words since the last cut.
        linked: a conjunction or a comma came after the word before.
        placed: a preposition or a possessor comes before the group.
        hangs: so does a preposition, and what is before that is the head (`door of the barn`).
        named: the word before could name a thing: what a copula then says is of it.
        relative: it is a relative pronoun's thing (`a door that is open`).
        head: words of the last group that hangs on no other; `nearest`: of the last one.
        subject: what the next words are said of, after a copula; else None.
    """

    def __init__(self, text: str):
        self.lexicon = lexicon()
        matches = list(_WORD.finditer(text))
        self.words = [match[0] for match in matches]
        ends = [0, *(match.end() for match in matches)]
        starts = [*(match.start() for match in matches), len(text)]
        # What stands before each word, and after the last, besides spaces.
        self.marks = [text[end:start].strip() for end, start in zip(ends, starts, strict=True)]
        self.group = Group([])
        self.linked = self.placed = self.hangs = self.named = self.relative = False
        self.head: tuple[str, ...] = ()
        self.nearest: tuple[str, ...] = ()
        self.subject: tuple[str, ...] | None = None

    def split(self) -> Iterator[Group]:
        lex = self.lexicon
        for i, word in enumerate(self.words):
            mark, kind = self.marks[i], "glyphs" if _GLYPH.match(word) else "noun"
            if mark not in ("", ",") or (kind == "glyphs") != (self.group.kind == "glyphs"):
                yield from self.cut(kind)
                self.linked, self.subject = False, None
            self.linked = self.linked or mark == ","
            if word in lex.conjunctions:
                self.linked = True
            elif self.names_nothing(i):
                if lex.is_measure(word):  # a large group of people
                    while self.group.words and lex.is_adjective(self.group.words[-1].text):
                        self.group.words.pop()
                yield from self.cut()
                self.step_over(i)
            elif self.is_state(i):
                yield from self.cut()
                said_of = self.nearest if self.subject is None else self.subject
                yield Group([Word(word, i)], "predicate", said_of)
                self.subject, self.named = None, False
            elif self.subject is not None and self.is_verb(i):
                yield from self.cut()
                self.subject, self.named = None, False
            else:
                self.add(i)
        yield from self.cut()

    def cut(self, kind: str = "noun") -> Iterator[Group]:
        """Ends the group, and begins one of another kind."""
        group, self.group = self.group, Group([], kind)
        if group.words:
            if group.kind == "noun":
                self.nearest = tuple(word.text for word in group.words)
                self.head = self.head if self.hangs and self.head else self.nearest
            self.hangs = False
            yield group

    def names_nothing(self, i: int) -> bool:
        lex, word, following = self.lexicon, self.words[i], self.following(i)
        if f"{word} {following}" in lex.names:  # t shirt
            return False
        if lex.names_nothing(word) or (following == "of" and lex.is_measure(word)):
            return True
        if self.placed and not self.group.words and word in lex.words.places:
            return not following or lex.names_nothing(following)
        if i and self.words[i - 1] == "to" and not self.marks[i] and lex.is_verb(word):
            # To hit the ball, to catch fish, but: next to water, attached to a stand.
            return (following in lex.determiners or following == "it") or (
                lex.may_be_verb(word) and bool(following) and not lex.names_nothing(following)
            )
        return False

    def step_over(self, i: int) -> None:
        """Notes what a word that names nothing says of those to come."""
        lex, word = self.lexicon, self.words[i]
        self.group.after = word
        determined = word in lex.determiners
        if word in lex.copulas:
            subject = self.nearest if self.relative else self.head
            self.subject = subject if self.named else None
        elif word not in lex.degrees:
            self.subject = None
        if self.subject is not None:
            self.group.kind, self.group.subject = "predicate", self.subject
        before = self.words[i - 1] if i else ""
        counted = word == "of" and lex.is_measure(before)  # `a row of trees`: the trees
        self.hangs = (word in lex.prepositions and not counted) or (self.hangs and determined)
        owner = word[0] in "'’"
        self.placed = word in lex.prepositions or owner or (self.placed and determined)
        self.relative = self.named and word in lex.relatives
        self.named = self.relative
        self.linked = False

    def is_state(self, i: int) -> bool:
        """A participle that ends its sentence says how a thing looks: `two women skiing`."""
        if not self.lexicon.is_participle(self.words[i]) or self.linked:
            return False
        found = self.group.words
        if found and self.lexicon.only_describes(found[-1].text):  # minimal branding
            return False
        if not found and self.subject is None:
            return False
        following = self.following(i)
        if following in self.lexicon.adverbs:  # people walking outside
            i += 1
            following = self.following(i)
        return self.marks[i + 1] not in ("", ",") or not following

    def is_verb(self, i: int) -> bool:
        """A verb after all: `is riding`, `is parked on`."""
        word = self.words[i]
        return self.lexicon.is_participle(word) and (
            word.endswith("ing") or self.following(i) in self.lexicon.prepositions
        )

    def add(self, i: int) -> None:
        lex, word, found = self.lexicon, self.words[i], self.group.words
        following = self.following(i)
        found.append(
            Word(
                text=word,
                position=i,
                linked=self.linked and bool(found),
                droppable=bool(_YEAR.fullmatch(word))
                or (lex.may_be_verb(word) and bool(found))
                # dog chases the ball
                or (_is_plural(word) and following in lex.determiners),
                describes=word in lex.numbers or not any(map(str.isalpha, word)),
                degree=lex.is_adverb(word),
            )
        )
        self.named, self.placed, self.linked = True, False, False

    def following(self, i: int) -> str:
        return self.words[i + 1] if i + 1 < len(self.words) else ""


def _is_plural(word: str) -> bool:
    """Ends in the -s of a plural or of a verb; nouns in front of a noun have none."""
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "as"))


def _settle(group: Group) -> Group | None:
    """Says of each word what it can be, now that its neighbours are known."""
    if group.kind == "glyphs":
        return group
    lex, found = lexicon(), group.words
    if group.kind == "predicate":
        if lex.unseen.is_name(group.subject):  # the day is sunny
            return None
        if lex.is_only_noun(found[-1].text):
            group.kind = "noun"  # the animal is: zebra
    found = group.words = _without_opinions(found, group.kind == "noun")
    for word in found:
        follows = word is not found[0] or not lex.determines(group.after)
        word.head = not (
            word.describes
            or lex.is_participle(word.text)
            or lex.is_no_noun(word.text)
            or (follows and lex.is_only_verb(word.text))
        )
    if group.kind == "noun":
        while found and not found[-1].head:  # `man sitting`: a verb, or a number alone
            found.pop()
    _find_verbs(group)
    for word, after in itertools.pairwise(found):
        named = f"{word.text} {after.text}" in lex.names
        word.describes = not named and (word.describes or lex.must_describe(word.text))
        word.names = named or not (word.describes or lex.can_describe(word.text))
        ends = word.names and not (named or word.degree or word.text in lex.words.position)
        if ends and lex.only_describes(after.text) and not lex.is_participle(after.text):
            after.linked = True  # `sandy beach large dog`
        # `black and white cat`, but: dirt and grass.
        says = after is not found[-1] or after.text not in lex.words.materials
        listed = after.linked and word.describes and says and lex.must_describe(after.text)
        apart = after.linked or after.droppable or (_is_plural(word.text) and not word.describes)
        apart = apart or (ends and after is not found[-1] and lex.is_adjective(after.text))
        word.head = word.head and apart and not listed
        shaded = word.text in lex.words.shades and after.text in lex.words.colours  # `dark green`
        word.degree = (word.degree or shaded) and not after.linked
    if group.kind == "noun":
        # An adverb at the end speaks of a verb: `cat resting sideways`.
        while found and (found[-1].degree or not found[-1].head):
            found.pop()
        found = group.words = _without_unseen(found)
    if not any(any(map(str.isalpha, word.text)) for word in found):
        return None
    return group


def _without_opinions(found: list[Word], noun: bool) -> list[Word]:
    """All words but adjectives that say nothing of a look; a noun at the end may look like one."""
    kept: list[Word] = []
    linked = False
    for word in found:
        linked = linked or word.linked
        if lexicon().shows_no_look(word.text) and not (noun and word is found[-1]):
            continue
        word.linked, linked = linked and bool(kept), False
        kept.append(word)
    return kept


def _without_unseen(found: list[Word]) -> list[Word]:
    """All names but those of what can't be seen; where a name begins may be left to the model."""
    kept: list[Word] = []
    name: list[Word] = []
    for word, after in itertools.zip_longest(found, found[1:]):
        name.append(word)
        if after is not None and not (word.head and after.linked):
            continue
        if lexicon().unseen.is_name([each.text for each in name]):
            name.pop()
            while name and not name[-1].head:
                name.pop()
        if name and not kept:
            name[0].linked = False
        kept += name
        name = []
    return kept


def _find_verbs(group: Group) -> None:
    """Says which words may be verbs: never those that come after what only describes."""
    lex, before = lexicon(), None
    for word, after in itertools.zip_longest(group.words, group.words[1:]):
        participle = lex.is_participle(word.text)
        if group.kind == "predicate":
            word.droppable = False
        elif before is None:
            word.droppable = lex.may_act(word.text, group.after) if participle else word.droppable
        elif not (word.linked or before.droppable) and _only_describes(before, word):
            word.droppable = False
        elif after is not None:
            # A noun in front of a noun has no plural: `dog chases cat`.
            plural = _is_plural(word.text) and not after.linked
            word.droppable = word.droppable or participle or plural
            verb = participle or lex.is_only_verb(word.text)
            # `holding a bag` comes after any verb, but: wearing running shoes.
            says = after.describes or lex.must_describe(after.text)
            other = not before.droppable or (word.text.endswith("ing") and says)
            word.acts = verb and not word.linked and other
        before = word


def _only_describes(word: Word, after: Word) -> bool:
    lex = lexicon()
    if word.text in lex.words.colours:
        return not after.text.endswith("ing")  # a woman in black holding a bag
    return word.degree or lex.only_describes(word.text) or lex.is_participle(word.text)
