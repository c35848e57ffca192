"""The charset of a SEARCH: which are known, and how its strings become text."""

from __future__ import annotations

import re
from collections.abc import Callable
from encodings.aliases import aliases

from mailserver.imap.grammar.cursor import BadCharset, BadSyntax

Decode = Callable[[bytes], str]

# Python's codecs that are no charsets of mail: they turn octets into octets, or text into escapes, or need Windows.
_NO_CHARSETS = {
    *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"),
    *("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"),
}
# Looked up here and not by codecs.lookup, which imports by name and remembers every name it was asked for.
_SEPARATORS = re.compile(r"[^a-z0-9]+")


def _key(name: str) -> str:
    return _SEPARATORS.sub("_", name.lower()).strip("_")


_NAMES = [*aliases.items(), *[(codec, codec) for codec in (*aliases.values(), "koi8_u", "cp874")]]
_CODECS = {_key(name): codec for name, codec in _NAMES if codec not in _NO_CHARSETS}


def _lenient(octets: bytes) -> str:
    """Leniency.NO_CHARSET_IS_UTF8."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("iso-8859-1")


def _strict(codec: str, name: str) -> Decode:
    def decode(octets: bytes) -> str:
        try:
            return octets.decode(codec)
        except (UnicodeError, ValueError):
            raise BadSyntax(f"A string is not valid in {name}") from None

    return decode


def decoder(charset: bytes | None) -> Decode:
    """Return what turns strings of a SEARCH in ``charset`` (None: not said) into text; BadCharset when unknown."""
    if charset is None:
        return _lenient
    name = charset[:64].decode("ascii", "replace")
    key = _key(name)
    codec = _CODECS.get(key)
    if codec is None or len(charset) > 64 or not charset.isascii():
        raise BadCharset(re.sub(r"[^ -~]", "?", name))
    if codec in ("ascii", "utf_8"):  # Leniency.CHARSET_ASCII_IS_UTF8
        return _lenient if codec == "ascii" else _strict("utf-8", "UTF-8")
    return _strict(codec, key.upper())
