"""Tags by NLTK: nouns are objects, adjectives describe the noun that they precede or follow.

The `NLTK` row of the paper's Table 4: NLTK's tokenizer, its perceptron tagger, and a chunk grammar
over the tags.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from common.errors import UserError
from parsing.baselines.baseline import BaselineConfig, BaselineParser
from parsing.baselines.phrases import Phrases, Words
from parsing.tags import Parsed

TAGGER = "averaged_perceptron_tagger_eng"

# Tags are the Penn Treebank's and three more: BE, a form of `be`; NEG, `not`; JN, an adjective that
# may be a noun, since the tagger calls unknown nouns adjectives. Repetitions are bounded, so that the
# time a caption takes grows in proportion to its words.
_MODIFIER = r"(<RB.*>{0,2}<J.*|CD|VB[DGN]>(<CC|,>(?=<RB.*|J.*|CD|VB[DN]>))?)"
_OPENING = rf"(<DT|PDT|PRP\$|POS>{{1,3}}|(?=<RB.*>{{0,2}}<J.*|CD>)){_MODIFIER}{{0,12}}"
GRAMMAR = rf"NP: {{({_OPENING})?<NN.*>+|{_OPENING}<VB|VBP|VBZ|VBG|JN>}}"
_BE = ("is", "are", "was", "were", "be", "been", "being", "looks", "look", "seems", "appears")
_OWN_TAGS = dict.fromkeys(_BE, "BE") | {"not": "NEG", "n't": "NEG"}
_END = (".", ".")
_NOUNS = ("NN", "NNS", "NNP", "NNPS")
_MODIFIERS = ("JJ", "JJR", "JJS", "JN", "CD", "VBG", "VBN", "VBD")


def _folders() -> tuple[str, ...]:
    """The folders of NLTK_DATA, absolute: an actor starts in another working directory."""
    folders = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    return tuple(os.path.abspath(folder) for folder in folders if folder)


@dataclass(frozen=True)
class NltkConfig(BaselineConfig):
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

        path = f"taggers/{TAGGER}"
        nltk.data.path[:0] = [folder for folder in self.data if folder not in nltk.data.path]
        try:
            nltk.data.find(f"{path}/")
        except LookupError as error:
            if not nltk.download(TAGGER, quiet=True, print_error_to=io.StringIO()):
                raise UserError(
                    "NLTK's tagger is missing and could not be downloaded: set NLTK_DATA to a "
                    f"folder that holds {path} (python -m nltk.downloader {TAGGER} fetches it "
                    "where there is a network)"
                ) from error

    def fingerprint(self) -> dict[str, Any]:
        import nltk

        own = {"nltk": nltk.__version__, "tagger": TAGGER, "words": Words().digest}
        return super().fingerprint() | own

    def build(self) -> NltkParser:
        self.check()
        return NltkParser()


class NltkParser(BaselineParser):
    """See the module; built by `NltkConfig`, which sees to the data."""

    def __init__(self) -> None:
        from nltk import RegexpParser
        from nltk.tag.perceptron import PerceptronTagger
        from nltk.tokenize import NLTKWordTokenizer

        self.phrases = Phrases()
        self.tokenize = NLTKWordTokenizer().tokenize
        self.tagger = PerceptronTagger(lang="eng")
        self.chunker = RegexpParser(GRAMMAR)
        # The tagger's dictionary: its words get their tag whatever stands around them.
        words, known = self.phrases.words, self.tagger.tagdict
        self._adjectives = {word for word, tag in known.items() if tag.startswith("JJ")}
        self._adjectives |= words["silent"] | words["colours"]
        known |= dict.fromkeys(words["prepositions"], "IN") | dict.fromkeys(words["colours"], "JJ")

    def read(self, caption: str) -> Parsed:
        chunks = self.chunker.parse([*self._tagged(self.phrases.text(caption)), _END])
        parsed, before = Parsed(), ""
        subject = None  # the first object outside of prepositional phrases
        described = None  # the object that an adjective would describe here
        for chunk, following in pairwise(chunks):
            label = chunk[1] if isinstance(chunk, tuple) else chunk.label()
            state = label in ("VBG", "VBN") and before == "NP" and following == _END
            if label == "NP":
                nouns = [word for word, tag in chunk if tag in _NOUNS] or [chunk[-1][0]]
                modifiers = [word for word, tag in chunk[:-1] if tag in _MODIFIERS]
                placed = before in ("IN", "TO") or chunk[0][1] == "POS"
                described = self.phrases.add(parsed, modifiers, nouns, placed, following[0] == "of")
                if subject is None or not placed:
                    subject = described or subject
            elif label == "BE":
                described = subject
            elif described and (state or label[:2] == "JJ"):  # two women skiing; a mouth open
                self.phrases.describe(parsed, [chunk[0]], described)
            elif label not in ("RB", "CC"):
                described = None
            before = label
        return parsed

    def _tagged(self, text: str) -> list[tuple[str, str]]:
        """Words and tags without the mistakes that a tagger of newspapers makes in captions."""
        phrases, tagged, predicate = self.phrases, [], False
        for (word, tag), (_, after) in pairwise([*self.tagger.tag(self.tokenize(text)), _END]):
            tag = _OWN_TAGS.get(word, tag)
            last, before = tagged[-1] if tagged else _END
            action = tag in _NOUNS and phrases.is_action(word)
            nominal = after in _NOUNS or after in _MODIFIERS
            if action and (before in _NOUNS or (before == "JN" and after not in _NOUNS)):
                tagged[-1], tag = (last, "NN"), "VBG"  # a girl chasing pigeons
            elif tag[:2] == "JJ" and word not in self._adjectives and not phrases.describes(word):
                tag = "NN" if after == "VBG" else tag if predicate or before in _NOUNS else "JN"
            elif tag == "VBG" and word in phrases.words["things"]:
                tag = tag if nominal or after == "DT" else "NN"  # but: writing a letter
            elif tag in ("VBN", "VBD") and nominal and before in ("IN", "TO", "."):
                tag = "JJ"  # broken chairs
            elif after == "." and before in ("IN", "TO", "VBZ") and tag[:2] in ("VB", "RB"):
                tag = "NN"  # pots alongside sidewalk
            if tag[:2] not in ("RB", "CC", ",", "JJ"):
                predicate = tag == "BE" and before != "EX"
            if tag in _MODIFIERS and last == "very":
                word = f"very {word}"
                tagged.pop()
            tagged.append((word, tag))
        return tagged
