"""Tags by NLTK: runs of nouns are objects, adjectives describe the noun they precede or follow.

The `NLTK` row of the paper's Table 4: NLTK's tokenizer, its perceptron tagger, and one pass over
the tagged words.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError
from parsing.baselines.phrases import Phrases, Words
from parsing.normalise import Normaliser, Rules
from parsing.parser import Resources
from parsing.tags import EMPTY, Parsed

TAGGER = "averaged_perceptron_tagger_eng"

# Kinds of words, as far as noun phrases go.
NOUN, ADJECTIVE, NUMBER, PARTICIPLE, VERB, BE, ADVERB, DETERMINER, AND, OWNER, PLACE, OTHER, END = (
    range(1, 14)
)
_KINDS = {
    **dict.fromkeys(("NN", "NNS", "NNP", "NNPS"), NOUN),
    **dict.fromkeys(("JJ", "JJR", "JJS"), ADJECTIVE),
    **dict.fromkeys(("VBG", "VBN", "VBD"), PARTICIPLE),
    **dict.fromkeys(("VB", "VBP", "VBZ"), VERB),
    **dict.fromkeys(("RB", "RBR", "RBS"), ADVERB),
    **dict.fromkeys(("DT", "PDT", "PRP$"), DETERMINER),
    **dict.fromkeys(("CC", ","), AND),
    **dict.fromkeys(("IN", "TO"), PLACE),
    "CD": NUMBER,
    "POS": OWNER,
}
_BE = ("is", "are", "was", "were", "be", "been", "being", "looks", "look", "seems", "appears")
_NOMINAL = frozenset((NOUN, ADJECTIVE, NUMBER, PARTICIPLE))
_DESCRIBING = frozenset((ADJECTIVE, NUMBER, PARTICIPLE, ADVERB))


def _folders() -> tuple[str, ...]:
    """The folders of NLTK_DATA, absolute: an actor starts in another working directory."""
    folders = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    return tuple(os.path.abspath(folder) for folder in folders if folder)


@dataclass(frozen=True)
class NltkConfig:
    """Settings of the NLTK parser.

    Attributes:
        data: folders searched for NLTK's data before its usual ones; from NLTK_DATA if not given.
    """

    data: tuple[str, ...] = field(default_factory=_folders)
    name: str = "nltk"
    concurrency: int = 1

    def check(self) -> None:
        """Looks for the tagger's data, and fetches it with NLTK's own downloader if need be.

        Raises:
            UserError: the data are missing and cannot be fetched.
        """
        import nltk

        nltk.data.path[:0] = [folder for folder in self.data if folder not in nltk.data.path]
        if self._found():
            return
        silence = io.StringIO()  # one sentence, not NLTK's own report too
        if nltk.download(TAGGER, quiet=True, print_error_to=silence) and self._found():
            return
        raise UserError(
            f"NLTK's tagger is missing and could not be downloaded: set NLTK_DATA to a folder that "
            f"holds taggers/{TAGGER} (python -m nltk.downloader {TAGGER} fetches it where there is "
            "a network)"
        )

    @staticmethod
    def _found() -> bool:
        import nltk

        try:
            nltk.data.find(f"taggers/{TAGGER}/")
        except LookupError:
            return False
        return True

    def fingerprint(self) -> dict[str, Any]:
        import nltk

        return {
            "parser": self.name,
            "nltk": nltk.__version__,
            "tagger": TAGGER,
            "words": Words.load().digest,
            "normalisation": Rules.load().digest,
        }

    def about(self) -> dict[str, Any]:
        return {}

    def resources(self) -> Resources:
        return Resources(cpus=1)

    def build(self) -> NltkParser:
        self.check()
        return NltkParser()


class NltkParser:
    """See the module; built by `NltkConfig`, which sees to the data."""

    def __init__(self) -> None:
        from nltk.tag.perceptron import PerceptronTagger
        from nltk.tokenize import NLTKWordTokenizer

        words = Words.load()
        self.words = words
        self.normaliser = Normaliser()
        self.phrases = Phrases(words, self.normaliser)
        self.tokenize = NLTKWordTokenizer().tokenize
        self.tagger = PerceptronTagger(lang="eng")
        self._fixed = dict.fromkeys(words.prepositions, PLACE) | dict.fromkeys(_BE, BE)
        # Frequent words of a single tag are what the tagger itself is sure of.
        self._known = self.tagger.tagdict
        self._adjectives = words.colours | self.phrases.silent
        self._adjectives |= {word for word, tag in self._known.items() if tag[:2] == "JJ"}

    def parse(self, captions: Sequence[str]) -> list[Parsed]:
        return [self._parse(caption) for caption in captions]

    def close(self) -> None:
        pass

    def _parse(self, caption: str) -> Parsed:
        words = self.tokenize(self.normaliser.named(caption.lower()))
        tags = [tag for _, tag in self.tagger.tag(words)]
        if not any(map(str.isalpha, caption)):
            return Parsed(status=EMPTY, error="no word in it that could be a tag")
        return _Reader(self, words, tags).read()

    def is_adjective(self, word: str) -> bool:
        """Whether an adjective's tag can be believed: the tagger gives it to unknown nouns too."""
        return word in self._adjectives or " " in word or self.phrases.describes(word)

    def kinds(self, words: list[str], tags: list[str]) -> list[int]:
        """The kind of each word, then `END`.

        A caption is a fragment rather than a sentence, and the tagger learned from newspapers:
        here go the mistakes that come of that.
        """
        fixed, known = self._fixed, self._known
        kinds = [fixed.get(w) or _KINDS.get(t, OTHER) for w, t in zip(words, tags, strict=True)]
        kinds.append(END)
        following = END
        for i in range(len(words) - 1, -1, -1):
            kind, word = kinds[i], words[i]
            before = kinds[i - 1] if i else END
            ends = following == END or words[i + 1] == "."
            if word in self.words.colours:
                # An orange cat and an orange and black sign, but to peel an orange.
                if kind != NOUN or following in _NOMINAL or following == AND:
                    kinds[i] = ADJECTIVE
            elif kind == BE and before != END and tags[i - 1] == "EX":
                kinds[i] = OTHER  # there is snow
            elif kind == PARTICIPLE and word in self.words.things and following not in _NOMINAL:
                if following != DETERMINER:
                    kinds[i] = NOUN  # white writing on the boat, but: writing a letter
            elif (
                kind in (VERB, PARTICIPLE)
                and ends
                and word != "to"
                and i > 1
                and words[i - 1] == "to"
            ):
                if tags[i - 2] in ("VBN", "VBD") or words[i - 2] in ("next", "close"):
                    kinds[i] = NOUN  # next to giraffe, mounted to building
            elif (
                kind in (VERB, ADVERB, PARTICIPLE)
                and ends
                and before == PLACE
                and word not in known
            ):
                if words[i - 1] != "to":
                    kinds[i] = NOUN  # pots alongside sidewalk
            elif kind == ADVERB and before == END and word not in known and not word.endswith("ly"):
                kinds[i] = NOUN  # surfboard leaning on the tree
            following = kinds[i]
        return kinds


class _Reader:
    """One pass over the tagged words of one caption.

    `modifiers` and `nouns` are those of the noun phrase being read; `opened` says that a
    determiner or a possessor stands before it, so that there must be a noun, and `placed` that a
    preposition or a possessor does. `subject` is the clause's first object outside of
    prepositional phrases, `latest` the object read last. `predicate` says that a form of be was
    read since, and `after` that the word here follows a noun directly (a mouth open).
    """

    def __init__(self, parser: NltkParser, words: list[str], tags: list[str]):
        self.parser = parser
        self.phrases = parser.phrases
        self.words = words
        self.tags = tags
        self.kinds = parser.kinds(words, tags)
        self.parsed = Parsed()
        self.modifiers: list[str] = []
        self.nouns: list[str] = []
        self.opened = self.placed = self.predicate = self.after = False
        self.subject: str | None = None
        self.latest: str | None = None

    def read(self) -> Parsed:
        steps = {
            NOUN: self.noun,
            ADJECTIVE: self.adjective,
            NUMBER: self.adjective,
            PARTICIPLE: self.participle,
            VERB: self.verb,
            BE: self.be,
            ADVERB: self.adverb,
            DETERMINER: self.determiner,
            AND: self.conjunction,
            OWNER: self.owner,
            PLACE: self.preposition,
        }
        for i, kind in enumerate(self.kinds):
            steps.get(kind, self.other)(i)
        return self.parsed

    def noun(self, i: int) -> None:
        word = self.words[i]
        if any(map(str.isalnum, word)):
            if self.nouns and self.kinds[i + 1] == NOUN and self.is_doing(word):
                self.finish(i)  # a girl chasing pigeons
                return
            self.nouns.append(word)
            self.predicate = False
        else:  # a dash, a bar, an emoji
            self.finish(i)

    def adjective(self, i: int) -> None:
        if self.nouns:
            self.finish(i)
            self.after = self.kinds[i] == ADJECTIVE
        self.modifiers.append(self.words[i])

    def participle(self, i: int) -> None:
        """A participle is an adjective (stuffed bears), a noun (the writing on it) or a verb."""
        gerund = self.tags[i] == "VBG"
        if not self.nouns:
            # An elephant eating hay, where the tagger takes the elephant for an adjective.
            doer = gerund and self.modifiers and not self.opened
            doer = doer and not self.parser.is_adjective(self.modifiers[-1])
            first = (i == 0 or self.placed) and not gerund
            if (
                self.kinds[i + 1] in _NOMINAL
                and not doer
                and (self.modifiers or self.opened or first)
            ):
                self.modifiers.append(self.words[i])
                return
            if self.opened and gerund:
                self.nouns.append(self.words[i])
                return
        self.action(i)

    def verb(self, i: int) -> None:
        if not self.nouns and not self.predicate and (self.opened or self.modifiers):
            self.nouns.append(self.words[i])  # green leaves on a tree
        else:
            self.action(i)

    def action(self, i: int) -> None:
        """A verb proper, or a participle without complement, which tells a state (women skiing)."""
        predicate, before = self.predicate, self.kinds[i - 1] if i else END
        self.finish(i)
        self.predicate = False
        if not self.ends(i + 1) or self.tags[i] not in ("VBG", "VBN"):
            return
        if predicate:
            # With more objects than one it may be that the subject does it to the other.
            if self.subject and len(self.parsed.objects) == 1:
                self.phrases.describe(self.parsed, [self.words[i]], self.subject)
        elif before == NOUN and self.latest:
            self.phrases.describe(self.parsed, [self.words[i]], self.latest)
        elif before == VERB:
            self.nouns.append(self.words[i])  # a bird has wings, where wings are a verb's

    def adverb(self, i: int) -> None:
        word = self.words[i]
        if self.nouns:
            self.finish(i)
        if self.kinds[i + 1] in (ADJECTIVE, PARTICIPLE) and (word == "very" or word.endswith("ly")):
            self.words[i + 1] = f"{word} {self.words[i + 1]}"
        elif word in ("not", "n't"):
            self.predicate = False

    def determiner(self, i: int) -> None:
        placed = self.placed and not self.nouns and not self.modifiers
        self.finish(i)
        self.opened, self.placed, self.predicate = True, placed, False

    def be(self, i: int) -> None:
        self.finish(i)
        self.predicate = True

    def conjunction(self, i: int) -> None:
        following = self.kinds[i + 1]
        more = following in _DESCRIBING or (
            following == NOUN and self.phrases.describes(self.words[i + 1])
        )
        if self.nouns or not self.modifiers or not more:  # not in: black and white shirts
            self.finish(i)

    def owner(self, i: int) -> None:
        self.finish(i)
        self.opened = self.placed = True

    def preposition(self, i: int) -> None:
        self.finish(i)
        self.placed, self.predicate = True, False

    def other(self, i: int) -> None:
        self.finish(i)
        self.predicate = False

    def is_doing(self, word: str) -> bool:
        """Whether what the tagger calls a noun is what somebody does."""
        return word.endswith("ing") and word not in self.parser.words.things

    def ends(self, i: int) -> bool:
        """Whether the sentence is over at word i."""
        return i >= len(self.words) or self.words[i] == "."

    def finish(self, i: int) -> None:
        """Ends before word i the phrase that is being read, and adds its tags."""
        if self.modifiers and not self.nouns:
            last = self.modifiers[-1]
            target = self.subject if self.predicate else self.latest if self.after else None
            if target:
                self.phrases.describe(self.parsed, self.modifiers, target)
            elif not self.predicate and last[0].isalpha() and not self.parser.is_adjective(last):
                self.nouns.append(self.modifiers.pop())  # what has no noun has taken it for one
        if self.nouns:
            self.add(i)
        self.nouns, self.modifiers = [], []
        self.opened = self.placed = self.after = False

    def add(self, i: int) -> None:
        last, doing = self.nouns[-1], None
        if self.is_doing(last):
            if len(self.nouns) > 1:  # a man skiing
                doing = self.nouns.pop()
            elif self.modifiers and not self.parser.is_adjective(self.modifiers[-1]):
                doing = self.nouns.pop()
                self.nouns.append(self.modifiers.pop())
        elif (
            len(self.nouns) > 1
            and self.tags[i - 1] == "NNS"
            and self.kinds[i] in _NOMINAL | {DETERMINER}
        ):
            self.nouns.pop()  # a girl wears a hat
        of = doing is None and i < len(self.words) and self.words[i] == "of"
        self.latest = self.phrases.add(self.parsed, self.modifiers, self.nouns, self.placed, of)
        if self.latest and (self.subject is None or not self.placed):
            self.subject = self.latest
        if self.latest and doing and self.ends(i):
            self.phrases.describe(self.parsed, [doing], self.latest)
