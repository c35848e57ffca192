"""ENVELOPE: RFC 9051 section 7.5.2."""

from __future__ import annotations

from mailserver.imap.responses.strings import NIL, human, nstring, unfolded
from mailserver.mail import address, headers
from mailserver.mail.address import Address
from mailserver.mail.scanner import without_nul

_TEXTS = frozenset((b"date", b"subject", b"in-reply-to", b"message-id"))
_ADDRESSES = frozenset((b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"))


def envelope(message_header: bytes) -> bytes:
    """Return the ENVELOPE, with its parentheses, of a message that has this header.

    A text that is there twice counts as written last; addresses that are there twice are all shown, so that nobody
    can hide one behind another.
    """
    texts: dict[bytes, bytes] = {}
    people: dict[bytes, list[Address]] = {}
    for name, value in headers.pairs(message_header):
        if name in _TEXTS:
            texts[name] = value
        elif name in _ADDRESSES:
            found = address.parse(value)
            if name in people:
                people[name] += found
            else:
                people[name] = found
    sender = addresses(people.get(b"from"))
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        _text(texts.get(b"date")),
        human(_clean(texts.get(b"subject"))),
        sender,
        addresses(people.get(b"sender")) if people.get(b"sender") else sender,
        addresses(people.get(b"reply-to")) if people.get(b"reply-to") else sender,
        addresses(people.get(b"to")),
        addresses(people.get(b"cc")),
        addresses(people.get(b"bcc")),
        _text(texts.get(b"in-reply-to")),
        _text(texts.get(b"message-id")),
    )


def addresses(people: list[Address] | None) -> bytes:
    """RFC 9051 section 9: ``"(" 1*address ")" / nil``."""
    if not people:
        return NIL
    return b"(%b)" % b"".join(
        [
            b"(%b %b %b %b)" % (human(name), nstring(route), nstring(mailbox), nstring(host))
            for name, route, mailbox, host in people
        ]
    )


def _clean(value: bytes | None) -> bytes | None:
    return None if value is None else without_nul(value)


def _text(value: bytes | None) -> bytes:
    return unfolded(_clean(value))
