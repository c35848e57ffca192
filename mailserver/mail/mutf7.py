"""Mailbox names in modified UTF-7, as IMAP4rev1 writes them.

RFC 3501 section 5.1.3. The decoder is strict: exactly what the encoder can have written is accepted, so that
no two encodings name one mailbox.
"""

from __future__ import annotations

import binascii
import re

# RFC 3501 section 5.1.3: characters 0x20-0x25 and 0x27-0x7e represent themselves.
_OTHERS = re.compile(r"&|[^\x20-\x7e]+")
_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> str:
    """Return ``name`` as ASCII text; ValueError if it holds a lone surrogate."""
    return _OTHERS.sub(_shift, name)


def decode(name: str | bytes) -> str:
    """Return the text that ``name`` stands for; ValueError unless it is exactly as ``encode`` would write it."""
    encoded = name.decode("ascii") if isinstance(name, bytes) else name
    text = _SHIFTED.sub(_unshift, encoded)
    if encode(text) != encoded:
        raise ValueError("not modified UTF-7")
    return text


def _shift(match: re.Match[str]) -> str:
    run = match[0]
    if run == "&":
        return "&-"
    octets = binascii.b2a_base64(run.encode("utf-16-be"), newline=False)
    return "&" + octets.decode("ascii").rstrip("=").replace("/", ",") + "-"


def _unshift(match: re.Match[str]) -> str:
    base64 = match[1].replace(",", "/")
    if not base64:
        return "&"
    padding = "=" * (-len(base64) % 4)
    return binascii.a2b_base64(base64 + padding).decode("utf-16-be")
