"""Content-Transfer-Encoding undone: RFC 2045 section 6."""

from __future__ import annotations

import binascii
import re

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")
_PADDED = re.compile(rb"[A-Za-z0-9+/]*=*")
_SPACE_AT_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_IDENTITY = frozenset((b"7bit", b"8bit", b"binary"))


def decode(data: bytes, encoding: bytes | None) -> bytes:
    """Return ``data`` decoded; ``None`` stands for 7bit; ValueError when the encoding is not one of RFC 2045."""
    kind = b"7bit" if encoding is None else encoding.lower()
    if kind in _IDENTITY:
        return data
    if kind == b"base64":
        return base64(data)
    if kind == b"quoted-printable":
        return quoted_printable(data)
    raise ValueError("unknown transfer encoding")


def base64(data: bytes) -> bytes:
    """RFC 2045 section 6.8: other characters are ignored; padding may stand within, where texts were joined."""
    cleaned = _NOT_BASE64.sub(b"", data)
    if b"=" not in cleaned.rstrip(b"="):
        return _base64(cleaned)
    return b"".join([_base64(piece) for piece in _PADDED.findall(cleaned) if piece])


def _base64(data: bytes) -> bytes:
    data = data.rstrip(b"=")
    if len(data) % 4 == 1:  # six bits alone are no octet
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def quoted_printable(data: bytes) -> bytes:
    """RFC 2045 section 6.7; rule 3: space at the end of a line was added on the way."""
    return binascii.a2b_qp(_SPACE_AT_END.sub(b"", data) if b" " in data or b"\t" in data else data)
