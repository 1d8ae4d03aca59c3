"""`--constraint words`: a regular expression that holds an answer to its form and to the caption's words.

The expression knows no language. An object or an attribute is a run of words that stand side by
side in the caption, in its own spelling. Which runs are tags is the model's decision.
"""

from __future__ import annotations

import regex

from parsing.llm.answers import Form
from parsing.words import is_unspaced, words

BACKEND = "xgrammar"  # of vLLM; the fastest for these expressions, see prompts/LOG.md
LONGEST = 6  # words of one tag; characters, in a script without spaces
_SPECIAL = regex.compile(r"[\\.+*?()|\[\]{}^$]")


def words_regex(caption: str, form: Form) -> str | None:
    """The expression that an answer must match in full, in the syntax of Rust's `regex` crate.

    Its length is proportional to the number of words of the caption.

    Returns:
        None for a caption without words.
    """
    found = words(caption)
    if not found:
        return None
    runs = "|".join(dict.fromkeys(_run(found, at) for at in range(len(found))))
    attribute, end = _escaped(form.attribute), _escaped(form.end)
    run = f" (?:{runs})"
    # A model that completes text ends its line where one that chats ends its turn.
    return rf"(?:(?:{run}(?:{attribute}|{end}))*{run}{end}?| {_escaped(form.nothing)})\n?"


def _run(found: list[str], at: int) -> str:
    """All runs of words that begin at a place: `a(?: b(?: c)?)?`."""
    last = min(at + LONGEST, len(found)) - 1
    text = ""
    for place in range(last, at - 1, -1):
        apart = place > at and not (is_unspaced(found[place - 1]) and is_unspaced(found[place]))
        word = (" " if apart else "") + _escaped(found[place])
        text = word + (f"(?:{text})?" if text else "")
    return text


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
