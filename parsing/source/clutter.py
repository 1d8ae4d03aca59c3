"""What captions hold that is no language: URLs, addresses, handles, file names, file endings."""

from __future__ import annotations

import re

import regex

_I = regex.IGNORECASE

# Domains that are recognised without `www` and path, and those that are words or abbreviations too.
_DOMAINS = (
    r"com|net|org|edu|gov|mil|biz|io|(?:co|com|org|ac|net|gov)\.[a-z]{2}|ru|pl|jp|cn|br|eu|uk|nl|ch|dk|cz|"
    r"hu|kr|xyz|fr"
)
_MORE_DOMAINS = (
    r"info|tv|de|es|it|at|be|no|me|to|us|ca|au|in|se|fi|ie|gr|pt|tr|ly|cc|co|is|gl|app|dev|shop|store|"
    r"online|site|blog|website|photo|photos|photography|club|gallery|news|art|design|life|ai|my|nz|za"
)
# What ends a URL: blanks, quotes, brackets, and scripts that are written without spaces.
_TAIL = r"[^\s<>\"'`\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]*(?<![.,;:!?)\]}])"
_HOST = r"[a-z0-9]{1,63}(?:-[a-z0-9]{1,63})?\."
_URL = regex.compile(
    rf"\bhttps?\s:\s?/\s?/\s?[\w-]+(?:\s?[./]\s?[\w-]+)*"  # http : / / example . com
    rf"|\b[a-z][a-z0-9+-]{{1,15}}:(?:/|\\)(?:/|\\){_TAIL}"
    rf"|\b(?:mailto|javascript|tel|data|urn|magnet):(?=[^\s]){_TAIL}"
    rf"|\bwww\s?\.\s?[\w-]+(?:\s\.\s[\w-]+)*{_TAIL}"
    rf"|(?<![\w:/])//[\w-]{{1,63}}\.{_TAIL}"
    rf"|(?<![\w@.])(?:{_HOST}){{1,4}}(?:{_DOMAINS})(?![\w-]|\.\w)(?:[:/?\#]{_TAIL})?"
    rf"|(?<![\w@.])(?:{_HOST}){{1,4}}(?:{_DOMAINS}|{_MORE_DOMAINS})/{_TAIL}"
    rf"|(?<!\S)[\w-]{{1,63}}\s?\.\s(?:com|net|org)(?!\w)",  # example . com
    _I,
)
# A domain whose periods were replaced, as search engines' lists of pictures write it.
_REFERENCE = regex.compile(r"\brh [\w-]{1,63} com\b", _I)
_ADDRESS = regex.compile(
    r"(?<![\w.+%/-])(?:mailto:)?[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"
    r"|(?<![\w.+%-])[\w.+-]{1,64}\s?[\[(]\s?at\s?[\])]\s?[\w-]{1,63}\s?(?:[\[(]\s?dot\s?[\])]|\.)\s?\w{2,10}"
    r"|(?<![\w@])@[a-z_][\w.]{1,30}(?<!\.)",
    _I,
)
_IMAGES = r"jpe?g|jpe|jfif|png|gif|bmp|tiff?|webp|heic|svg|eps|psd|pdf"
_ENDINGS = (
    rf"{_IMAGES}|cr2|nef|dng|ico|docx?|xlsx?|pptx?|odt|rtf|txt|csv|tsv|[sx]?html?|php\d?|aspx?|jsp|xml|json|"
    r"css|js|mp[34]|m4[av]|mov|avi|wmv|mkv|webm|flv|wav|ogg|zip|rar|7z|tar|gz|exe|apk|dmg|iso|ttf|otf|stl|"
    r"dwg|dxf|parquet|md"
)
_BESIDE = r"\s\"'()\[\]<>|,;"
_FILE = regex.compile(
    rf"(?<![^{_BESIDE}])([^{_BESIDE}]{{0,255}}?)\.(?:{_ENDINGS})(?![\w.]\w)(?!\w)(?:\?[^{_BESIDE}]*)?",
    _I,
)
_BARE_ENDING = regex.compile(rf"(?<!\w)\.\s?(?:{_IMAGES})(?!\w)", _I)
# Cheap expressions that match wherever the ones above do, at the same place or behind its first letters.
_AT = re.compile(r"@\S")
_SAID_AT = re.compile(r"[\[(]\s?at\s?[\])]", re.IGNORECASE)
_URL_SIGN = re.compile(
    r"//|:[/\\]|http|www|(?:mailto|javascript|tel|data|urn|magnet):\S"
    rf"|\.(?:(?:{_DOMAINS}|{_MORE_DOMAINS})(?![a-z0-9_-])|\s(?:com|net|org))",
    re.IGNORECASE,
)
_FILE_SIGN = re.compile(rf"\.(?:(?:{_ENDINGS})(?![a-z0-9_])|\s(?:{_IMAGES}))", re.IGNORECASE)
_PATH_SIGN = re.compile(r"\\|wp-content|/(?<!\S/)[^\s/]+/", re.IGNORECASE)
_WORDS = ("http", "www", "img", "href", "nbsp", "dsc", "pxl", "mvi", "dcim")
_LETTERS = regex.compile(r"[\p{L}\p{M}]{2,}")
_PATH = regex.compile(r"\b[a-z]:\\\S+|(?<!\S)(?:/[\w.-]+){2,}/?|\bwp-content\S*", _I)
# Names that cameras give.
_CAMERA = regex.compile(
    r"(?<![^\W_])(?:(?:img|dsc[nf]?)[ _-]{0,2}|(?:pxl|mvi|dcim)_)\d{3,}(?:[_-]\d+)*", _I
)
# Parts of URLs and of markup whose rest was cut off.
_PARTS = regex.compile(r"(?<![\w-])(?:https?|www|img|href|nbsp)(?![\w-])[:.]?/{0,2}", _I)


def without_clutter(text: str) -> str:
    """The text without all of these. A file name of letters alone keeps them: `car` of `car.jpg`."""
    if _AT.search(text) or _SAID_AT.search(text):
        text = _ADDRESS.sub(" ", text)
    if sign := _URL_SIGN.search(text):
        before, after = _split(text, sign.start())
        text = before + _URL.sub(" ", after)
    if "." in text and (sign := _FILE_SIGN.search(text)):
        before, after = _split(text, sign.start())
        text = before + _BARE_ENDING.sub(" ", _FILE.sub(_file, after))
    if ("/" in text or "\\" in text or "-" in text) and _PATH_SIGN.search(text):
        text = _PATH.sub(" ", text)
    lower = text.lower()
    if "rh " in lower:
        text = _REFERENCE.sub(" ", text)
    if any(word in lower for word in _WORDS):
        text = _PARTS.sub(" ", _CAMERA.sub(" ", text))
    return text.replace("\\", " ")


def _split(text: str, sign: int) -> tuple[str, str]:
    """What certainly stands before a URL or file name, and the rest, which begins with a space.

    Args:
        sign: where it shows itself first, inside of the name or a blank behind its first part.
    """
    start = max(text.rfind(" ", 0, len(text[:sign].rstrip())), 0)
    return text[:start], text[start:]


def _file(match: regex.Match[str]) -> str:
    return match[1] if _LETTERS.fullmatch(match[1]) else " "
