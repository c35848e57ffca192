"""Strings as IMAP writes them: quoted where it can be, a literal where it must.

RFC 9051 section 4.3. No string holds NUL (``CHAR8 = %x01-ff``): whoever has one replaces it before.
"""

from __future__ import annotations

import re

NIL = b"NIL"

_MAX_ESCAPES = 4  # of '"' and '\'; a string with more of them is shorter, and easier on clients, as a literal
_UNQUOTABLE = re.compile(rb"[\r\n\x80-\xff]")
_ESCAPED = re.compile(rb'["\\]')
_PLAIN = re.compile(rb"[^\x00\r\n\"\\\x80-\xff]*\Z")
_NEWLINES = re.compile(rb"[\r\n]+(?=([ \t])|(\Z))?")
_HUMAN_LITERAL = re.compile(rb'[\x00\r\n\t"\\\x80-\xff]|\A | {2}| \Z')
_SPACES = re.compile(rb"[ \t\r\n]+")
# RFC 9051 section 9, ASTRING-CHAR.
_ATOM = re.compile(rb"[!#$&'+\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+\Z")


def literal(value: bytes) -> bytes:
    """RFC 9051 section 9: ``literal = "{" number64 ["+"] "}" CRLF *CHAR8``."""
    return b"{%d}\r\n%b" % (len(value), value)


def string(value: bytes) -> bytes:
    """RFC 9051 section 9: ``string = quoted / literal``."""
    if _PLAIN.match(value):
        return b'"%b"' % value
    if _UNQUOTABLE.search(value) or value.count(b'"') + value.count(b"\\") > _MAX_ESCAPES:
        return literal(value)
    return b'"%b"' % _ESCAPED.sub(rb"\\\g<0>", value)


def nstring(value: bytes | None) -> bytes:
    """RFC 9051 section 9: ``nstring = string / nil``."""
    return NIL if value is None else string(value)


def astring(value: bytes) -> bytes:
    """RFC 9051 section 9: ``astring = 1*ASTRING-CHAR / string``; NIL is quoted, lest it be taken for none."""
    return value if _ATOM.match(value) and value.upper() != NIL else string(value)


def unfolded(value: bytes | None) -> bytes:
    """An ``nstring`` without newlines: a fold becomes the space that follows it."""
    if value is None:
        return NIL
    if b"\n" in value or b"\r" in value:
        value = _NEWLINES.sub(_space_for_newline, value)
    return string(value)


def human(value: bytes | None) -> bytes:
    """An ``nstring`` that people read: each run of white space is one space, none at the ends; no escapes."""
    if value is None:
        return NIL
    if _HUMAN_LITERAL.search(value) is None:
        return b'"%b"' % value
    value = _SPACES.sub(b" ", value).strip(b" ")
    return literal(value) if value else b'""'


def _space_for_newline(match: re.Match[bytes]) -> bytes:
    return b"" if match[1] is not None or match[2] is not None else b" "
