"""Entities and markup in captions: HTML, BBCode, wiki, Markdown, and placeholders in brackets."""

from __future__ import annotations

import html
import re
from html.entities import html5
from urllib.parse import unquote

import regex

_I = regex.IGNORECASE

# Entities that are recognised also where they are damaged.
ENTITY_NAMES = (
    r"amp|nbsp|quot|apos|lt|gt|[lrsb][sd]quo|laquo|raquo|[nm]dash|hellip|bull|middot|copy|reg|trade|"
    r"deg|times|shy|zwn?j|szlig|ensp|emsp|thinsp|[a-z](?:acute|grave|circ|uml|tilde|cedil|ring|slash)"
)
_NUMBER = r"\#\s?\d{2,7}|\#\s?x[\da-f]{2,6}"
_NESTED = regex.compile(r"&(?:\s?(?:amp|\#0*38|\#x0*26)\s?;)+(?=\s?\#?\w{1,24}\s?;)", _I)
_DAMAGED = regex.compile(
    rf"&\s?({ENTITY_NAMES}|{_NUMBER})\s?;"  # `& amp ;`
    rf"|&({ENTITY_NAMES}|\#\d{{2,7}})(?![\w;])"  # `&amp` at the end of a word
    rf"|(?<![\w&])({ENTITY_NAMES});"  # `nbsp;`
    rf"|(?<!&)(\#\d{{2,5}});",  # `Mother#39;s`
    _I,
)
_BARE = re.compile(r"&[a-z#]", re.IGNORECASE)  # without it and without `;` nothing is damaged
# What the end of a caption may have cut off: names that are written also without `;`, and the usual ones,
# but not what is a word of its own, as in `smith&co`.
_CUT = re.compile(r"&(#(?:\d{0,7}|[xX][\da-fA-F]{0,6})|[a-z]{2,8}\d?)\s*\Z")
_USUAL = re.compile(rf"(?:{ENTITY_NAMES}|euro);")
_NAMES = frozenset(name for name in html5 if not name.endswith(";") or _USUAL.fullmatch(name))
_WHOLE_NAMES = frozenset(name.rstrip(";") for name in html5)
_WORDS = """
    ac at br co cop cur de el em en he hell it la mac me mid no or pa par plus re sec thin thins thor ti
    tim
"""
_CUT_NAMES = (
    frozenset(name[:end] for name in _NAMES for end in range(2, len(name.rstrip(";"))))
    - _WHOLE_NAMES
    - frozenset(_WORDS.split())
)
_ESCAPE = regex.compile(r"\\(u[\da-fA-F]{4}|x[\da-fA-F]{2}|[nrt]|[\"'/])")
# Percent-encoding shows by an escaped sign behind a letter (`dog%20on`), by two of them, by UTF-8, or by an
# escaped entity. In `50%25`, `%20 off` and `100%Cacao` the sign is a percentage's.
_SIGN = r"%(?:2[\dA-Fa-f]|3[A-Fa-f]|40|5[B-Fb-f]|7[B-Eb-e])"
_ENCODED = regex.compile(
    rf"(?<=[^\W\d_]){_SIGN}|{_SIGN}{_SIGN}|%[C-Fc-f][\dA-Fa-f]%[89ABab][\dA-Fa-f]"
    r"|%26#?\w{2,8};|(?<=\w)%20(?=\w)"
)
_ENCODED_RUN = re.compile(r"(?:%[\dA-Fa-f]{2})+")
_TOKEN = re.compile(r"\S*%\S*")

_BLOCKS = regex.compile(
    r"<!--.*?(?:-->|$)|<!\[CDATA\[|\]\]>|<\?.*?\?>|<!doctype[^<>]*>"
    r"|<(script|style)\b[^<>]*>.*?</\1\s*>",
    _I | regex.DOTALL,
)
_SPECIAL = regex.compile(r"<\|[^<>|]{1,40}\|>")
_TAG = regex.compile(r"<\s*(/?)\s*(\p{L}[\w:.-]*)([^<>]*)>(?:s\b)?")
_OPEN_TAG = regex.compile(r"<\s*/?\s*(\p{L}[\w:.-]*)([^<>]*)$")
_END_OF_TAG = regex.compile(r"^[^<>]*\b[\w-]+\s*=\s*[\"'][^<>]*>")
_TITLE = regex.compile(r"\b(?:alt|title|caption)\s*=\s*(\"\"?|')([^\"'<>]{0,500})\1", _I)
_ATTRIBUTE = regex.compile(
    r"\b(?:href|src|srcset|class|style|target|rel|width|height|align|border|id|on\w{3,12}|(?:data|ng|aria)-[\w-]{1,30})"
    r"\s*=\s*(?:\"\"?[^\"<>]{0,500}\"\"?|'[^'<>]{0,500}'|[^\s\"'<>]{1,500})",
    _I,
)
_BBCODE = regex.compile(
    r"\[/?(?:b|i|u|s|url|img|quote|color|size|font|center|code|caption|gallery|embed|video|audio|list|"
    r"youtube|spoiler|\*)(?:[\s=][^\[\]]{0,500})?/?\]",
    _I,
)
_WIKI = regex.compile(r"\[\[(?:[^\[\]|]{0,200}\|){0,9}([^\[\]|]{0,300})\]\]")
_TEMPLATE = regex.compile(r"\{\{[^{}]{0,500}\}\}")
_MARKDOWN = regex.compile(r"!?\[([^\[\]]{0,300})\]\([^()\s]{1,500}(?:\s\"[^\"]{0,200}\")?\)")
_STARS = regex.compile(r"(?<!\d)\*|\*(?!\d)")  # a star between numbers stands for `x`
_BRACKETS = regex.compile(r"([\[{(])\s*(\p{L}[\w ]{0,20})\s*([\])}])")

# Elements whose marks stand inside of words: `H<sub>2</sub>O`.
_INLINE_NAMES = """
    a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark q s small span strike
    strong sub sup tt u var wbr
"""
_BLOCK_NAMES = """
    address area article aside audio base blockquote body br button canvas caption center col
    colgroup dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame
    frameset g h1 h2 h3 h4 h5 h6 head header hr html iframe image img input label legend li link main
    map menu meta nav noscript o:p object ol optgroup option p param path picture pre progress script
    section select source style summary svg table tbody td template textarea tfoot th thead title tr
    track ul video xml
"""
_PEOPLE_NAMES = """
    anon anonymous celebrity first_name firstname full_name fullname last_name lastname name names per
    person person_name surname user user_name username usr
"""
# Placeholders of what no picture shows.
_UNSEEN_NAMES = """
    bos cls date digit digits email emoji emoticon end end_of_text endoftext eos hashtag http https id
    image_url link mail mask nan none null num number pad phone sep sos start start_of_text startoftext
    tel time unk unknown url urls website year
"""
_INLINE = frozenset(_INLINE_NAMES.split())
_ELEMENTS = _INLINE.union(_BLOCK_NAMES.split())
_PEOPLE = frozenset(_PEOPLE_NAMES.split())
_UNSEEN = frozenset(_UNSEEN_NAMES.split())


def unescaped(text: str) -> str:
    """The text with damaged and nested entities and backslash escapes replaced.

    Regular entities are left to ftfy.
    """
    if "%" in text and _ENCODED.search(text):
        text = _TOKEN.sub(_decoded, text)
    if "&" in text:
        text = _CUT.sub(_completed, text)
    if ";" in text or ("&" in text and _BARE.search(text)):
        text = _DAMAGED.sub(_character, _NESTED.sub("&", text))
    return _ESCAPE.sub(_escaped, text) if "\\" in text else text


def _decoded(match: re.Match[str]) -> str:
    """A word without percent-encoding. A URL stays as it is, to be removed as a whole."""
    word = match[0]
    url = "//" in word or word[:4].lower() == "www."
    return word if url else _ENCODED_RUN.sub(_decoded_run, word)


def _decoded_run(match: re.Match[str]) -> str:
    try:
        text = unquote(match[0], errors="strict")
    except UnicodeDecodeError:
        return match[0]
    # Nobody escapes letters and digits of ASCII: `%50` is a percentage in Turkish.
    plain = any(each.isascii() and each.isalnum() for each in text)
    return match[0] if plain or not text.isprintable() else text


def _completed(match: re.Match[str]) -> str:
    """What an entity stands for that the end of the text has cut: nothing, unless only `;` is missing."""
    name = match[1]
    if name[0] != "#":
        return "" if name in _CUT_NAMES else match[0]
    character = html.unescape(f"&{name};")
    # Nobody writes letters and digits of ASCII as numbers, nor signs between Latin and Greek: these
    # are what is left of longer numbers, as `&#82` of `&#8217;`.
    plain = character.isascii() and (character.isalnum() or not character.isprintable())
    cut = len(character) > 1 or plain or "\u0200" <= character < "\u0370"
    return "" if cut else character


def _character(match: regex.Match[str]) -> str:
    name = next(filter(None, match.groups())).replace(" ", "")
    for spelling in (name, name.lower()):
        character = html.unescape(f"&{spelling};")
        if not character.startswith("&") or character == "&":
            return character
    return match[0]


def _escaped(match: regex.Match[str]) -> str:
    escape = match[1]
    if escape in "nrt":
        return " "
    if escape[0] in "ux" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    return escape


def without_markup(text: str) -> str:
    """The text without tags; what stands between them stays, and placeholders are named."""
    if "<" in text or ">" in text:
        text = _SPECIAL.sub(" ", _BLOCKS.sub(" ", text))
        text = _OPEN_TAG.sub(_open_tag, _TAG.sub(_tag, text))
        text = _END_OF_TAG.sub(" ", text)
    if "=" in text:
        text = _ATTRIBUTE.sub(" ", _TITLE.sub(r" \2 ", text))
    if "[[" in text:
        text = _WIKI.sub(r" \1 ", text)
    if "](" in text:
        text = _MARKDOWN.sub(r" \1 ", text)
    if "[" in text:
        text = _BBCODE.sub(" ", text)
    if "{{" in text:
        text = _TEMPLATE.sub(" ", text)
    if "[" in text or "{" in text:
        text = _BRACKETS.sub(_placeholder, text)
    return _STARS.sub(" ", text) if "*" in text else text


def _tag(match: regex.Match[str]) -> str:
    name, rest = match[2].casefold(), match[3].strip(" /\t\n")
    if name in _ELEMENTS and (not rest or "=" in rest):
        return "" if name in _INLINE else " "
    if "=" in rest or match[1]:
        return " "
    if rest:  # no tag, but words between two signs
        return f" {match[2]}{match[3]} "
    return _spaced(match, _named(name) or "")


def _open_tag(match: regex.Match[str]) -> str:
    """A tag that the end of the text has cut off."""
    cut = match[1].casefold() in _ELEMENTS or "=" in match[2]
    return " " if cut else match[0]


def _placeholder(match: regex.Match[str]) -> str:
    """`[PERSON]` and `{name}`; other words in brackets stay as they are."""
    bare = _bare(match[2].strip().casefold())
    if match[1] == "(" or bare not in _PEOPLE | _UNSEEN or not match[2].isupper():
        return match[0]
    return _spaced(match, _named(bare) or "")


def _named(name: str) -> str | None:
    bare = _bare(name)
    if bare in _PEOPLE:
        return "person"
    return None if bare in _UNSEEN else bare.replace("_", " ")


def _bare(name: str) -> str:
    """`person` of `person_1`."""
    return name.rstrip("0123456789_-.: ")


def _spaced(match: regex.Match[str], word: str) -> str:
    """The word in the match's place, apart from the words that stand beside it."""
    text = match.string
    before = match.start() and text[match.start() - 1].isalnum()
    after = match.end() < len(text) and text[match.end()].isalnum()
    return f"{' ' * bool(before)}{word}{' ' * bool(after)}" if word else " "
