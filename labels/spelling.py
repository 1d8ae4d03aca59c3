"""Rules that find the spellings of one tag: British and American, one word and two, rare plurals.

A rule only makes a *key*, by which tags are compared. Two tags are one if both occur and their keys are
equal, so a rule may turn a word into one that does not exist (`flour` into `flor`) without harm.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import regex
import simplemma
import yaml

from parsing.normalise import default

RULES = Path(__file__).with_name("synonyms.yaml")
# (pattern, replacement, fewest letters of the word): British to American.
_BRITISH = (
    (regex.compile(r"our(?=$|ed$|ing$|ful$|less$|ite$)"), "or", 5),  # colour, but not tour and tor
    (regex.compile(r"(?<=[bcdfghklptv])re(?=$|d$)"), "er", 5),  # theatre; acre and acer are two
    (regex.compile(r"is(?=e$|ed$|ing$|er$|ation$)"), "iz", 6),
    (regex.compile(r"ys(?=e$|ed$|ing$|er$)"), "yz", 6),
    (regex.compile(r"ogue$"), "og", 6),
    (regex.compile(r"ence$"), "ense", 6),  # licence
    # Two vowels before it: travelled, but not filled and filed.
    (regex.compile(r"(?<=[aeiouy]+[^aeiouy]+[aeiou]+)ll(?=ed$|ing$|er$|en$|ery$)"), "l", 7),
    (regex.compile(r"(?<=oo)ll(?=en$)"), "l", 7),  # woollen
    (regex.compile(r"[ao]e(?=[^aeiou]\w{2}|o)"), "e", 8),  # archaeological
)
# Plurals that dictionaries of English miss, on the last word of a tag.
_PLURALS = (
    (regex.compile(r"(?<=\w{3})i$"), "us"),  # cacti
    (regex.compile(r"(?<=\w{3})ae$"), "a"),  # larvae
    (regex.compile(r"(?<=\w{2}eau)x$"), ""),  # plateaux
    (regex.compile(r"(?<=\w{3})ices$"), "ex"),
    (regex.compile(r"(?<=\w{3})oes$"), "o"),
    (regex.compile(r"(?<=\w{3})s$"), ""),
)
_JOINTS = regex.compile(r"[\s'’-]+")


@lru_cache(1)
def spellings() -> dict[str, str]:
    """The words and phrases of `synonyms.yaml`, each with the spelling that stands for it."""
    return yaml.safe_load(RULES.read_text("utf-8"))["spellings"]


def spelling_key(tag: str) -> str:
    """A key that is the same for all spellings of a tag, such as `grey tee-shirt` and `gray t shirt`."""
    tag = _JOINTS.sub(" ", tag.lower()).strip()
    tag = spellings().get(tag, tag)
    words = [_american(word) for word in _JOINTS.split(tag)]
    for n in range(len(words) - 1):
        both = " ".join(words[n : n + 2])
        words[n : n + 2] = spellings().get(both, both).split(" ")
    parts = _JOINTS.split(" ".join(words))
    # A single letter stays apart: `star k` is no `stark`, and `t-rain` no `train`.
    key = parts[0]
    for before, part in pairwise(parts):
        key += part if min(len(before), len(part)) > 1 else f" {part}"
    return key


def _american(word: str) -> str:
    if word in spellings():
        return spellings()[word]
    for pattern, replacement, letters in _BRITISH:
        if len(word) >= letters:
            word = pattern.sub(replacement, word)
    return word


def singulars(tag: str) -> list[str]:
    """The tags that a tag may be the plural of, where normalisation leaves it as it is.

    `glasses` is not a plural of `glass` here, nor `lexi` of `lexus`.
    """
    *before, last = tag.split(" ")
    if last in default().rules.plural_only:
        return []
    found = []
    for pattern, replacement in _PLURALS:
        single = pattern.sub(replacement, last)
        if single == last:
            continue
        # The regular -s is removed from unknown words, another ending if the result is a known word.
        word, wanted = (last, False) if pattern is _PLURALS[-1][0] else (single, True)
        if simplemma.is_known(word, lang="en") == wanted:
            found.append(" ".join([*before, single]))
    return found
