"""Tags that an English caption denies: `no people`, `without a hat`, `the door is not red`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import regex

from parsing.words import Grounding

# As people write without its apostrophe; `cant` and `wont` are words of their own.
_BARE = ("isnt", "arent", "wasnt", "werent", "doesnt", "didnt", "hasnt", "havent", "hadnt")
_MAY_DENY = regex.compile(
    r"(?i)\b(?:no|not|never|without|neither|nor|lack(?:s|ed|ing)?|(?:free|devoid|bereft|absence) of"
    rf"|{'|'.join(_BARE)})\b|n['’]t\b"
)
_TOKEN = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’&-][\p{L}\p{M}\p{N}]+)*|[^\s\p{L}\p{M}\p{N}]")
_THINGS = frozenset(("no", "without", "neither", "nor"))
_STATES = frozenset(("not", "never", "cannot"))
# `a room devoid of furniture`, `a street lacking trees`; what follows the second word is denied.
_WITHOUT_OF = frozenset(("free", "devoid", "bereft", "absence", "lack"))
_LACKS = frozenset(("lacks", "lacking", "lacked"))
_VERBS = frozenset(("wearing", "having", "showing", "containing"))  # a man not wearing shoes
_NO_DENIAL = frozenset(("only", "just", "merely", "simply", "to"))  # not only red
_ARTICLES = frozenset(("a", "an", "the", "any"))
_SIGNS = frozenset(("sign", "signs", "symbol", "symbols", "icon", "icons", "zone", "zones"))
# A state is denied after these (was never white), but not elsewhere (a never ending road).
_LINK_WORDS = """
    am appear appears are be been being can could did does had has have is look looked looks may might
    seem seems should was were will would
"""
# They stand between the negation and what it denies.
_SKIPPED_WORDS = """
    a all an any at be been being contain containing contains even had has have having her his its my
    one our quite really see seen show showing shows so the their too very wear wearing wears worn your
"""
# What is denied ends before these, or before a participle.
_END_WORDS = """
    a above across after against along an and are around as at away be because been before behind
    beside between but by can could did do does down during except for from had has have he her his if
    in inside into is it its like may might near neither no nor not off on onto out outside over she
    should so than that the their there these they this those through to under up was we were when
    where which while who will with without would yet you
"""
_LINKS = frozenset(_LINK_WORDS.split())
_SKIPPED = frozenset(_SKIPPED_WORDS.split())
_ENDS = frozenset(_END_WORDS.split())


def without_denied(
    caption: str,
    objects: Iterable[str],
    attributes: Iterable[tuple[str, str]],
    singular: Callable[[str], str],
) -> tuple[list[str], list[tuple[str, str]]]:
    """The tags that a caption doesn't deny. What it also says without a negation stays.

    Args:
        caption: in English.
        objects: tags.
        attributes: (attribute, object) pairs.
        singular: see `parsing.words.Grounding`.
    """
    objects, attributes = list(objects), list(attributes)
    if _MAY_DENY.search(caption) is None:
        return objects, attributes
    text, runs = _split(caption)
    said, unsaid = (Grounding(each, singular) for each in (text, " . ".join(runs)))

    def stays(tag: str) -> bool:
        return said.admits(tag) or not unsaid.admits(tag)

    def is_described(name: str) -> bool:
        """Neither red nor blue car: what a denied state describes is not denied with it."""
        states = [state for state, of in attributes if of == name and not stays(state)]
        denied = [Grounding(run, singular) for run in runs] if states else []
        return any(not any(r.admits(s) and r.admits(name) for r in denied) for s in states)

    kept = [name for name in objects if stays(name) or is_described(name)]
    gone = set(objects) - set(kept)
    return kept, [pair for pair in attributes if pair[1] not in gone and stays(pair[0])]


def _split(caption: str) -> tuple[str, list[str]]:
    """The words that a caption says, and the runs of words that it denies."""
    tokens = _TOKEN.findall(caption.lower().replace("’", "'"))
    said: list[str] = []
    denied: list[str] = []
    at = 0
    while at < len(tokens):
        start, end = _denied_by(tokens, at)
        said += tokens[at:start] if start < end else tokens[at : at + 1]
        denied += [" ".join(tokens[start:end])] if start < end else []
        at = max(end, at + 1)
    return " ".join(said), denied


def _denied_by(tokens: list[str], at: int) -> tuple[int, int]:
    """Where what the token denies begins and ends; equal where it denies nothing."""
    if not _denies(tokens, at):
        return at, at
    start = at + 1 + (tokens[at] in _WITHOUT_OF)
    if tokens[at] == "no" and tokens[start : start + 1] == ["longer"]:
        if not at or tokens[at - 1] not in _LINKS:  # a no longer used station
            return min(start + 1, len(tokens)), min(start + 2, len(tokens))
        start += 1  # the wall is no longer blue
    while start < len(tokens) and tokens[start] in _SKIPPED:
        start += 1
    end = start
    while end < len(tokens) and _goes_on(tokens, start, end):
        end += 1
    if tokens[at] == "nor" and end - start > 1 and _describes(tokens, at):
        end -= 1
    return (at, at) if end - start > 1 and tokens[end - 1] in _SIGNS else (start, end)


def _describes(tokens: list[str], nor: int) -> bool:
    """Whether `neither ... nor` stands within a noun phrase: a neither red nor blue car."""
    near = tokens[max(nor - 5, 0) : nor]
    if "neither" not in near[1:]:
        return False
    return near[near.index("neither", 1) - 1] in _ARTICLES


def _denies(tokens: list[str], at: int) -> bool:
    token = tokens[at]
    before = tokens[at - 1] if at else "."
    after = tokens[at + 1] if at + 1 < len(tokens) else "."
    if token in _BARE:
        return after not in _NO_DENIAL
    if token in _WITHOUT_OF:  # but: free of charge
        return after == "of" and tokens[at + 2 : at + 3] != ["charge"]
    if token in _LACKS:
        return before != "."
    if token in _STATES and after in _VERBS:
        return True
    if token in _STATES:
        linked = before in _LINKS or before.endswith("'s") or after in _ARTICLES
        return linked and after[0].isalpha() and after not in _NO_DENIAL
    if token.endswith("n't"):  # but: a don't panic mug
        return token != "don't" and after not in _NO_DENIAL
    if token == "no":  # but: No. 7; whether or no
        return after[0].isalpha() and before != "or"
    if token == "without":  # but: with and without hats
        return tokens[max(at - 2, 0) : at] not in (["with", "or"], ["with", "and"])
    return token in _THINGS


def _goes_on(tokens: list[str], start: int, at: int) -> bool:
    token, before = tokens[at], tokens[at - 1]
    if token in ("or", "of"):
        return at > start
    if not token[0].isalnum():
        return False
    if before in ("or", "of") and token in _SKIPPED:
        return True
    return token not in _ENDS and (at == start or not token.endswith("ing"))
