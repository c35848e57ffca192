"""Encoded words: the text that a header field stands for.

RFC 2047, and RFC 2231 section 5 for the language behind the charset. Nothing raises: what cannot be decoded is shown as
well as it can be.
"""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache

from mailserver.mail import encodings

# RFC 2047 section 2: encoded-word = "=?" charset "?" encoding "?" encoded-text "?="; spaces within are common mistakes.
_WORD = re.compile(rb"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([QqBb])\?([^?\n]*)\?=")
_FOLD = re.compile(rb"\r?\n(?=[ \t])|\r?\n\Z")

# Codecs of Python that are no charsets, or take much time or memory for a small text.
_NO_CHARSET = frozenset(
    ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf_7", "mbcs", "oem")
)
_ALIASES = {"unicode-1-1-utf-7": "utf-7", "x-unknown": "utf-8", "unknown-8bit": "utf-8", "ks_c_5601-1987": "cp949"}


@lru_cache(256)
def codec(charset: str) -> str | None:
    """Return the name of Python's codec for a MIME charset; None when there is none that decodes octets to text."""
    name = charset.strip().strip("'\"").lower()
    try:
        info = codecs.lookup(_ALIASES.get(name, name))
    except (LookupError, ValueError, TypeError):  # ValueError: a NUL in the name
        return None
    text_encoding = getattr(info, "_is_text_encoding", True)
    if not text_encoding or (info.name.replace("-", "_") in _NO_CHARSET and info.name != "utf-7"):
        return None
    # "us-ascii" and "latin-1" with octets of windows-1252: every mail client reads them so.
    return {"ascii": "utf-8", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}.get(info.name, info.name)


def to_text(data: bytes, charset: str = "utf-8") -> str:
    """Decode octets; unknown charsets are tried as UTF-8, octets that do not fit become U+FFFD or latin-1."""
    name = codec(charset)
    if name is not None and name != "utf-8":
        try:
            return data.decode(name, "replace")
        except (UnicodeError, ValueError):  # some codecs do not honour "replace"
            pass  # read as UTF-8 below
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode(value: bytes) -> str:
    """Return the text of a field's value: unfolded, encoded words decoded, raw 8-bit octets as UTF-8 if they can be.

    RFC 2047 section 6.2: space between two encoded words is not shown. A character that was cut in two words of the
    same charset is put together.
    """
    value = _FOLD.sub(b"", value)
    if b"=?" not in value:
        return to_text(value)
    shown: list[str] = []
    pending = b""  # octets of adjacent words of one charset
    charset = ""
    end = 0
    for word in _WORD.finditer(value):
        between = value[end : word.start()]
        same = word[1].decode("ascii", "replace").lower()
        if between.strip(b" \t\r\n") or not charset:
            shown += [to_text(pending, charset) if charset else "", to_text(between)]
            pending = b""
        elif same != charset:
            shown.append(to_text(pending, charset))
            pending = b""
        charset = same
        pending += _octets(word[2], word[3])
        end = word.end()
    shown += [to_text(pending, charset) if charset else "", to_text(value[end:])]
    return "".join(shown)


def _octets(kind: bytes, text: bytes) -> bytes:
    if kind in b"Bb":
        return encodings.base64(text)
    return binascii.a2b_qp(text.rstrip(b"="), header=True)
