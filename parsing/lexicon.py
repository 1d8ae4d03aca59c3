"""What single English words can be: the word lists of `groups.yaml` and a lexicon's word classes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import json
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import yaml

from parsing.errors import UserError
from parsing.phrases import Words
from parsing.unseen import Unseen

DATA = Path(__file__).with_name("groups.yaml")

_DESCRIBING = ("ed", "less", "ous", "ible", "ful", "ish")  # endings of adjectives, hardly of nouns


@dataclass(frozen=True)
class Lexicon:
    """The word lists of `groups.yaml`, which says what each is, and three more sources.

    Attributes:
        words: colours, materials, measures and places, shared with the other parsers.
        unseen: what can't be seen.
        classes: word -> those of "noun", "verb", "adj", "adv" that it can be.
    """

    determiners: frozenset[str]
    prepositions: frozenset[str]
    function_words: frozenset[str]
    copulas: frozenset[str]
    degrees: frozenset[str]
    relatives: frozenset[str]
    adverbs: frozenset[str]
    before_gerunds: frozenset[str]
    conjunctions: frozenset[str]
    numbers: frozenset[str]
    nouns_in_ing: frozenset[str]
    nouns_in_ed: frozenset[str]
    verbs: frozenset[str]
    verbs_or_nouns: frozenset[str]
    nouns_too: frozenset[str]
    names: frozenset[str]
    words: Words
    unseen: Unseen
    classes: dict[str, frozenset[str]]

    @property
    def digest(self) -> str:
        """Changes whenever a word list does; part of the LLM parser's fingerprint."""
        own = [f.name for f in fields(self) if f.name not in ("words", "unseen", "classes")]
        lists = {name: sorted(getattr(self, name)) for name in own}
        text = json.dumps([lists, self.words.digest, self.unseen.digest, len(self.classes)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def names_nothing(self, word: str) -> bool:
        """Whether a word stands between groups."""
        return (
            word in self.function_words
            or word in self.prepositions
            or word in self.determiners
            or word in self.copulas
            or word in self.conjunctions
            or word in self.verbs
            or word[0] in "'’"
        )

    def is_participle(self, word: str) -> bool:
        """`sitting`, `parked`: never the name of a thing."""
        last = word.rpartition("-")[2]
        if len(last) < 4:
            return False
        return (last.endswith("ing") and last not in self.nouns_in_ing) or (
            last.endswith("ed") and last not in self.nouns_in_ed
        )

    def may_be_verb(self, word: str) -> bool:
        """Whether a word after a noun may say what the thing does: `person performs`."""
        return word in self.verbs_or_nouns or self.is_only_verb(word)

    def is_only_verb(self, word: str) -> bool:
        """A verb and no noun: `attends`."""
        return self._is_only(word, "verb") and not self._is_noun_too(word)

    def is_verb(self, word: str) -> bool:
        """Whether a word after `to` may be a verb."""
        return "verb" in self.classes.get(word, ())

    def is_adjective(self, word: str) -> bool:
        """Whether a word can be an adjective, among other things."""
        return "adj" in self.classes.get(word, ())

    def is_only_adjective(self, word: str) -> bool:
        return self._is_only(word, "adj") and not self._is_noun_too(word)

    def is_no_noun(self, word: str) -> bool:
        """An adjective or adverb that names no thing: `alone`, `fluffy`."""
        classes = self.classes.get(word, frozenset())
        said = "adj" in classes or "adv" in classes
        return said and "noun" not in classes and not self._is_noun_too(word)

    def is_only_noun(self, word: str) -> bool:
        """After `is`, another name of the thing: `the animal is a zebra`."""
        classes = self.classes.get(word, frozenset())
        return "noun" in classes and "adj" not in classes and not self.can_describe(word)

    def is_measure(self, word: str) -> bool:
        """`row of trees`, `side of a bus`, `photo of a dog`: before `of` it names no thing."""
        words = self.words
        return word in words.quantities or word in words.places or word in words.pictures

    def is_adverb(self, word: str) -> bool:
        """Nothing but an adverb: `partly`, `sideways`."""
        return self._is_only(word, "adv") or (
            len(word) > 4 and word.endswith("ly") and word not in self.classes
        )

    def must_describe(self, word: str) -> bool:
        """Whether a word in front of a noun is no part of the noun's name: `white`, `metal`."""
        words = self.words
        if word in words.position or self.is_participle(word):
            return self.only_describes(word)
        classes = self.classes.get(word, ())
        return (
            word in words.colours
            or word in words.materials
            or ("adj" in classes and "verb" not in classes)  # little, american
            or self.only_describes(word)
        )

    def shows_no_look(self, word: str) -> bool:
        """An adjective, before its noun, that says nothing of a look: `famous`, `annual`, `other`."""
        return word in self.unseen.opinions or word in self.words.pointing

    def only_describes(self, word: str) -> bool:
        """Whether a word can't be the name of a thing itself: `two`, `wooden`, `fluffy`."""
        if word in self.numbers or self.is_only_adjective(word):
            return True
        if word.rpartition("-")[2] in self.nouns_in_ed:
            return False
        if word.endswith(("ish", "ful")) and self._is_only(word, "noun"):  # starfish, handful
            return False
        return len(word) > 5 and word.endswith(_DESCRIBING)

    def may_act(self, participle: str, after: str) -> bool:
        """Whether a participle may be a verb where it comes right after a word of no group.

        `by riding bikes`, `who painted walls`, but: `in flowering trees`, `the striped shirt`.
        """
        if participle.endswith("ed"):
            return after in self.function_words or after in self.relatives
        if after in self.prepositions:
            return after in self.before_gerunds
        return not self.determines(after)

    def determines(self, word: str) -> bool:
        """Whether a noun must come after it: `the`, and the `'s` of a possessor."""
        return word in self.determiners or word.startswith(("'", "’"))

    def can_describe(self, word: str) -> bool:
        """Whether a word in front of a noun may say how the thing looks.

        A noun that is no material only tells which kind it is (`tennis racket`). Of words that
        nobody listed anything may be true.
        """
        if word in self.words.position:
            return False
        classes = self.classes.get(word)
        return (
            classes is None
            or "adj" in classes
            or word in self.words.materials
            or self.is_participle(word)
            or self.must_describe(word)
        )

    def _is_noun_too(self, word: str) -> bool:
        return (
            word in self.nouns_too
            or word in self.nouns_in_ing
            or word in self.nouns_in_ed
            or word in self.words.position
        )

    def _is_only(self, word: str, name: str) -> bool:
        return self.classes.get(word) == frozenset([name])


@lru_cache(1)
def lexicon() -> Lexicon:
    """The project's own word lists, read once and only when somebody needs them (0.3 s).

    Raises:
        UserError: the lexicon's package is missing.
    """
    lists = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return Lexicon(
        **{name: frozenset(found) for name, found in lists.items()},
        words=Words.load(),
        unseen=Unseen.load(),
        classes=_word_classes(),
    )


def _word_classes() -> dict[str, frozenset[str]]:
    """Word classes from the data file of lemminflect, which has them from a medical lexicon.

    Importing the package would import spaCy as well, for a second or two; the file will do.
    """
    spec = importlib.util.find_spec("lemminflect")
    if spec is None or spec.origin is None:
        raise UserError("the LLM parser needs lemminflect: pip install 'lemminflect>=0.2.3,<0.3'")
    path = Path(spec.origin).parent / "resources" / "lemma_lu.csv.gz"
    found: dict[str, set[str]] = {}
    try:
        with gzip.open(path) as file:
            for row in csv.reader(io.TextIOWrapper(file, encoding="utf-8")):
                found.setdefault(row[0], set()).add(row[1])
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the word classes in {path}: {error}") from error
    return {word: frozenset(classes) for word, classes in found.items()}
