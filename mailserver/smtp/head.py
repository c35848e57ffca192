"""The header of a message on its way in: gathered until it is whole, checked, completed. Pure.

RFC 5321 section 4.4: Received in front; an old Return-Path goes, final delivery writes its own. RFC 6409 section 8: at
submission a missing Date and Message-ID are added. Nothing else is changed, whatever it looks like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.mail import address, headers
from mailserver.mail.addrspec import Address

MAX_HEADER = 1 << 20  # octets looked at; what is beyond passes as if it were body

_END = re.compile(rb"\n\r?\n")
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_RETURN_PATH = re.compile(rb"^return-path[ \t]*:[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
_DATE = re.compile(rb"^(?:resent-)?date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)
_TLS_REQUIRED = re.compile(rb"^tls-required[ \t]*:[ \t]*no[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_ANGLES = re.compile(rb"<([^<>]*@[^<>]*)>")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


@dataclass(frozen=True, slots=True)
class Header:
    """What was found. ``octets``: the header as it shall be stored; ``rest``: what came behind it."""

    octets: bytes
    rest: bytes
    hops: int
    has_date: bool
    has_message_id: bool
    tls_optional: bool = False  # RFC 8689 section 3: TLS-Required: No


def authors(header: bytes) -> list[Address]:
    """Return the addresses of all From: fields; what is none stands as an address that nobody has."""
    found: list[Address] = []
    for name, value in headers.pairs(header):
        if name.strip().lower() != b"from":
            continue
        text = headers.unfold(value)
        for one in address.parse(text):
            if one.host is not None:  # None begins or ends a group
                found.append(Address(_text(one.mailbox or b""), _text(one.host)))
        # readers do not agree on what a broken field says: whatever one of them could show must be the author's
        for inner in _ANGLES.findall(text):
            local, _, domain = inner.rpartition(b"@")
            found.append(Address(_text(local.strip().strip(b'"')), _text(domain.strip())))
    return found


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


class HeaderGatherer:
    """Takes the pieces of a message until the header is whole."""

    def __init__(self) -> None:
        self._pieces = bytearray()

    def feed(self, data: bytes) -> Header | None:
        """Take a piece; return the header once it is whole."""
        start = max(0, len(self._pieces) - 3)
        self._pieces += data
        if self._pieces[:2] == b"\r\n" or self._pieces[:1] == b"\n":
            return self._found(0)
        found = _END.search(self._pieces, start)
        if found is not None:
            return self._found(found.start() + 1)
        return self._found(len(self._pieces)) if len(self._pieces) > MAX_HEADER else None

    def end(self) -> Header:
        """Return what there is: the message ended within its header."""
        return self._found(len(self._pieces))

    def _found(self, end: int) -> Header:
        header, rest = bytes(self._pieces[:end]), bytes(self._pieces[end:])
        self._pieces.clear()
        hops = len(_RECEIVED.findall(header))
        if b"eturn-" in header.lower():
            header = _RETURN_PATH.sub(b"", header)
        # A message that does not begin with a field has no header: an empty line keeps ours apart from its text.
        if not _FIELD.match(header) and header:
            rest, header = b"\r\n" + header + rest, b""
        dated, named = bool(_DATE.search(header)), bool(_MESSAGE_ID.search(header))
        return Header(header, rest, hops, dated, named, bool(_TLS_REQUIRED.search(header)))
