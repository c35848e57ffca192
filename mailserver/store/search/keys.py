"""What SORT and THREAD compare, taken from a message's header once and remembered while a command runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailserver.mail import address, dates, headers, subject, text, words
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.message import Message

_MESSAGE_ID = re.compile(rb"<[^<>\s]+>")


class Keys:
    """The keys of one message."""

    __slots__ = ("_fields", "message")

    def __init__(self, message: Message, header: bytes) -> None:
        self.message = message
        self._fields: dict[bytes, bytes] = {}
        for name, value in headers.pairs(header):
            self._fields.setdefault(name, value)

    def field(self, name: bytes) -> bytes:
        """The first field of this name, empty without one."""
        return self._fields.get(name, b"")

    # RFC 5256 section 2.2: the Date: field in UTC, else the internal date
    def sent(self) -> float:
        """Seconds since 1970 of the sent date."""
        found = dates.parse(self.field(b"date")) if b"date" in self._fields else None
        if found is None:
            return float(self.message.internaldate)
        try:
            return found.timestamp()
        except (OverflowError, ValueError):
            return float(self.message.internaldate)

    def arrival(self) -> float:
        """Seconds since 1970 of the internal date."""
        return float(self.message.internaldate)

    def subject(self) -> str:
        """The base subject, casemapped."""
        return text.fold(self.base_subject()[0])

    def base_subject(self) -> tuple[str, bool]:
        """The base subject, and whether this is a reply or forward."""
        return subject.base(words.decode(headers.unfold(self.field(b"subject"))))

    # RFC 5256 section 3: "the [IMAP] addr-mailbox of the first "From" address"; of a group that is its name
    def mailbox_of(self, name: bytes) -> str:
        """The local part of the first address of a field, casemapped."""
        first = address.parse(self.field(name))[:1]
        return text.fold(words.to_text(first[0].mailbox or b"")) if first else ""

    # RFC 5957 section 3: the display name of the first address, else mailbox@host
    def display_of(self, name: bytes) -> str:
        """What a person sees of the first address of a field, casemapped."""
        first = address.parse(self.field(name))[:1]
        if not first:
            return ""
        if first[0].name:
            return text.fold(words.decode(first[0].name))
        host = b"@" + first[0].host if first[0].host else b""
        return text.fold(words.to_text((first[0].mailbox or b"") + host))

    # RFC 5256 section 3: REFERENCES; without References the first id in In-Reply-To
    def references(self) -> list[bytes]:
        """Message-ids this one refers to, the oldest first."""
        found = _MESSAGE_ID.findall(headers.unfold(self.field(b"references")))
        return found or _MESSAGE_ID.findall(headers.unfold(self.field(b"in-reply-to")))[:1]

    def message_id(self) -> bytes:
        """The message's own id, empty without one."""
        found = _MESSAGE_ID.search(self.field(b"message-id"))
        return found.group() if found else b""


def of(mailbox: Mailbox, messages: Sequence[Message]) -> list[Keys]:
    """The keys of these messages; one that is gone has an empty header."""
    found = mailbox.headers(messages)
    return [Keys(m, header or b"") for m, header in zip(messages, found, strict=True)]
