"""One form for one tag, whichever parser found it: `The Dogs` and `a dog` are both `dog`."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
import simplemma
import yaml

from common.errors import UserError
from parsing.denial import without_denied

RULES = Path(__file__).with_name("normalise.yaml")
LIBRARIES = (
    "simplemma",
    "regex",
)  # whose versions change tags: a dictionary, classes of characters

# Endings that turn a plural into its singular. A lemma that is none of these is no singular:
# lemmatisers also take `painting` to `paint` and `warmer` to `warm`.
_PLURALS = (
    ("s", ""),
    ("es", ""),
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("men", "man"),
    ("children", "child"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("mice", "mouse"),
    ("lice", "louse"),
    ("oxen", "ox"),
    ("ses", "sis"),
    ("ices", "ex"),
)
# What stays inside a tag: letters and digits of any script, and the marks that join two halves of
# one word (t-shirt, 7-eleven, m&m, o'clock).
_JUNK = regex.compile(r"[^\p{L}\p{M}\p{N}\s&'’-]")
_EDGES = "'’&-"
_POSSESSIVE = regex.compile(r"['’]s?$")
_NAME = regex.compile(r"<\s*(\w+)\s*>(?:s\b)?")
_FORMAT = regex.compile(r"\p{Cf}+")
_HALVES = regex.compile(r"[\s-]+")
# One letter of a script in which one letter is no word.
_LETTER = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Hebrew}\p{Arabic}]\p{M}*")
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_NUMBERS = {str(number): word for number, word in enumerate(_WORDS.split())}
MAX_WORDS, MAX_CHARACTERS = 6, 60  # of one tag, whichever parser found it
_ENGLISH = 0.5  # share of a caption's words that an English one has in the dictionary


@dataclass(frozen=True)
class Rules:
    """The words of `normalise.yaml`, as the functions below look them up.

    Attributes:
        placeholders: `<person>` and its kind -> the noun that stands for it.
        determiners: words taken off the front of a tag.
        clutter: parts of URLs, entities and files, taken out of a tag.
        stock_words: words of the picture trade, taken off the end of an object.
        colours, shades: words that are no object, alone and together.
        stock_attributes: attributes of the file rather than of what it shows.
        adjectives: noun of a material -> its adjective, the form that an attribute takes.
        singulars: plural -> singular where the library is wrong.
        plural_only: words that keep their -s.
        digest: changes whenever the data do; part of a parser's fingerprint.
    """

    placeholders: dict[str, str]
    determiners: frozenset[str]
    clutter: frozenset[str]
    stock_words: frozenset[str]
    stock_attributes: frozenset[str]
    colours: frozenset[str]
    shades: frozenset[str]
    adjectives: dict[str, str]
    singulars: dict[str, str]
    plural_only: frozenset[str]
    digest: str

    @classmethod
    def load(cls, path: str | Path = RULES) -> Rules:
        """Reads the rules from YAML.

        Raises:
            UserError: the file is missing or unreadable, or a section is missing or of the
                wrong kind.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot read the normalisation rules {path}: {reason}") from error
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
        mappings = {
            n: _section(data, n, dict, path) for n in ("placeholders", "adjectives", "singulars")
        }
        words = (
            *("determiners", "clutter", "stock_words", "stock_attributes", "colours", "shades"),
            "plural_only",
        )
        sets = {n: frozenset(_section(data, n, list, path)) for n in words}
        return cls(**mappings, **sets, digest=hashlib.sha256(text).hexdigest()[:16])


def _section(data: Any, name: str, kind: type, path: str | Path) -> Any:
    section = data.get(name) if isinstance(data, dict) else None
    if not isinstance(section, kind):
        expected = "a list of words" if kind is list else "a mapping of words to words"
        raise UserError(f"{path}: `{name}` is missing or is not {expected}")
    words = [*section, *section.values()] if kind is dict else section
    for word in words:
        if not isinstance(word, str):  # YAML reads a bare no, on or 2 as something else
            raise UserError(f"{path}: put quotes around {str(word).lower()} in `{name}`")
    return section


class Normaliser:
    """Brings tags to one form.

    Every step is idempotent, and so are `object` and `attribute`: normalising twice changes
    nothing. Answers are remembered, for captions use the same words again and again.
    """

    def __init__(self, rules: Rules | None = None, remember: int = 200_000):
        self.rules = Rules.load() if rules is None else rules
        self.singular = lru_cache(remember)(self._singular)
        self.object = lru_cache(remember)(self._object)
        self.attribute = lru_cache(remember)(self._attribute)

    def tags(
        self, caption: str, objects: Iterable[str], attributes: Iterable[tuple[str, str]]
    ) -> tuple[list[str], list[tuple[str, str]]]:
        """A caption's tags in their one form, each once; what is no tag is left out.

        What an English caption denies is no tag, see `parsing.denial`. In a caption that is not English, words keep their endings: what is a plural, a
        determiner or a stock word is known for English alone.

        Args:
            caption: tells the language.
            objects: as the caption spells them.
            attributes: (attribute, object) pairs; the object is one of `objects`.
        """
        english = is_english(caption)
        name = self.object if english else self._plain_object
        said = self.attribute if english else self.plain
        names = {text: name(text) for text in objects}
        pairs = [
            (word, names[text])
            for attribute, text in attributes
            if names[text] and (word := said(attribute))
        ]
        found = list(dict.fromkeys(filter(None, names.values()))), list(dict.fromkeys(pairs))
        return without_denied(caption, *found, self.singular) if english else found

    def _plain_object(self, text: str) -> str | None:
        tag = self.plain(text)
        return None if tag is None or self._is_colour(tag.split()) else tag

    def plain(self, text: str) -> str | None:
        """A tag of any language: lower case, NFC, without punctuation; None where it is no tag."""
        words = [*filter(None, map(self._trim, _JUNK.sub(" ", _composed(text)).split()))]
        tag = " ".join(words)
        return tag if may_be_tag(tag) and not self.rules.clutter.issuperset(words) else None

    def words(self, text: str) -> list[str]:
        """Lower-case words; placeholders are named, punctuation, clutter and leading determiners go."""
        text = self.named(_composed(text))
        words = []
        for word in _JUNK.sub(" ", text).split():
            word = self._trim(word)
            leads = not words and word in self.rules.determiners
            if word and not leads and word not in self.rules.clutter:
                words.append(word)
        return words

    @staticmethod
    def _trim(word: str) -> str:
        before = None
        while before != word:
            before, word = word, _POSSESSIVE.sub("", word).strip(_EDGES)
        return word

    def named(self, text: str) -> str:
        """The lower-case text with its placeholders replaced by the nouns that stand for them."""
        return _NAME.sub(self._name, text) if "<" in text else text

    def _name(self, match: regex.Match[str]) -> str:
        return f" {self.rules.placeholders.get(f'<{match[1]}>', match[1])} "

    def _singular(self, word: str) -> str:
        """The singular of one lower-case noun; a word that is no plural comes back as it is."""
        rules = self.rules
        if word in rules.plural_only:
            return word
        if word in rules.singulars:
            return rules.singulars[word]
        head, hyphen, tail = word.rpartition("-")
        if hyphen and head and tail:  # t-shirts, passers-by
            return f"{head}-{self.singular(tail)}"
        if len(word) < 4 and not word.endswith("men"):
            return word
        lemma = simplemma.lemmatize(word, lang="en")
        if lemma == word:
            return word if simplemma.is_known(word, lang="en") else self._strip(word)
        lemma = lemma.lower()
        if lemma == word:  # the library knows only the name: Poles, Christmas
            stem = self._strip(word)
            return stem if simplemma.is_known(stem, lang="en") else word
        for plural, singular in _PLURALS:
            if word.endswith(plural) and lemma == word[: -len(plural)] + singular:
                return self.singular(lemma)
        return word

    @staticmethod
    def _strip(word: str) -> str:
        """Takes a regular -s off a word that the library doesn't know (countertops, iphones)."""
        if not word.endswith("s") or word.endswith("ss"):
            return word
        stem = word[:-1]
        # Greek and Latin singulars end like this too (octopus, iris): only a known stem is one.
        if word.endswith(("us", "is", "as", "os")) and not simplemma.is_known(stem, lang="en"):
            return word
        return stem

    def _object(self, text: str) -> str | None:
        """A noun phrase as an object tag, or None where it names nothing that can be seen.

        Only the last word, the head, becomes singular: `sunglasses case`, `sports car`.
        """
        words = self.words(text)
        while words:
            words[-1] = self.singular(words[-1])
            stock = next((n for n in (3, 2, 1) if self._is_stock(words[-n:], n)), 0)
            if not stock:
                break
            del words[-stock:]
        tag = " ".join(words)
        if not may_be_tag(tag) or self._is_colour(words):
            return None
        return tag if tag == text else self.object(tag)

    def _is_colour(self, words: list[str]) -> bool:
        """Whether words name nothing but a colour: `red`, `dark brown`, `black and white`."""
        parts = _HALVES.split(" ".join(words))
        known = self.rules.colours | self.rules.shades | {"and"}
        return parts[-1] in self.rules.colours and known.issuperset(parts)

    def _is_stock(self, words: list[str], length: int) -> bool:
        return len(words) == length and " ".join(words) in self.rules.stock_words

    def _attribute(self, text: str) -> str | None:
        """An adjective, participle or modifying noun as an attribute tag, or None.

        A number up to twenty becomes its word; no other number is an attribute.
        """
        tag = " ".join(self.words(text))
        tag = _NUMBERS.get(tag, tag)
        if not may_be_tag(tag) or tag in self.rules.stock_attributes:
            return None
        tag = self.rules.adjectives.get(tag, tag)
        return tag if tag == text else self.attribute(tag)


def may_be_tag(text: str) -> bool:
    """Whether a text can be a tag: a word of two letters or more, and not too long.

    A tag has at most `MAX_WORDS` words, halves of words with hyphens counted, and `MAX_CHARACTERS`
    characters. In scripts whose letters are words or syllables, one letter is enough.
    """
    parts = _HALVES.split(text)
    if len(text) > MAX_CHARACTERS or len(parts) > MAX_WORDS:
        return False
    return any(any(map(str.isalpha, part)) and _LETTER.fullmatch(part) is None for part in parts)


def _composed(text: str) -> str:
    """Lower case, NFC, without format characters, which stand inside of words."""
    return unicodedata.normalize("NFC", _FORMAT.sub("", text)).lower()


def is_english(text: str) -> bool:
    """Whether a text is English, as far as a dictionary of English words can tell."""
    return simplemma.in_target_language(text, lang="en") >= _ENGLISH


@lru_cache(1)
def default() -> Normaliser:
    """The normaliser of the project's own rules, made once and only when somebody needs it."""
    return Normaliser()


def normalise_object(text: str) -> str | None:
    """An object tag by the project's own rules; None where nothing is left."""
    return default().object(text)


def normalise_attribute(text: str) -> str | None:
    """An attribute tag by the project's own rules; None where nothing is left."""
    return default().attribute(text)
