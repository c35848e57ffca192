"""PREVIEW: the first words of a message.

RFC 8970 section 3.1: at most 200 characters, always the same for the same message; no structure of the message.
"""

from __future__ import annotations

import re
from html import unescape

from mailserver.imap.responses.strings import string
from mailserver.mail import text
from mailserver.mail.structure import Part, parse

_LENGTH = 200
_MARKUP = re.compile(r"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")
_LOOKED_AT = 20_000  # characters of a text: what comes later is in no preview


def preview(message: bytes) -> bytes:
    """The preview as an nstring; empty for a message without text."""
    root = parse(message)
    part = _first_text(root, b"plain") or _first_text(root, b"html")
    if part is None:
        return b'""'
    words = text.part_text(message, part)[:_LOOKED_AT]
    if (part.subtype or b"").lower() == b"html":
        words = unescape(_MARKUP.sub(" ", words))
    return string(_SPACE.sub(" ", words).strip()[:_LENGTH].rstrip().encode("utf-8", "replace"))


def _first_text(part: Part, subtype: bytes) -> Part | None:
    if part.is_multipart or part.is_message:
        found = (_first_text(child, subtype) for child in part.children)
        return next((p for p in found if p is not None), None)
    kind = (part.subtype or b"plain").lower()
    return part if part.is_text and kind == subtype else None
