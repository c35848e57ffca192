"""COPY and MOVE, and their UID forms."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import end, mailbox, sequence_set, space
from mailserver.store.model.search import NumberSet


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or MOVE: which of them is known from the command's name."""

    messages: NumberSet
    name: bytes


# RFC 9051 section 9: copy = "COPY" SP sequence-set SP mailbox ; move = "MOVE" SP sequence-set SP mailbox
def copy(c: Cursor, uid: bool = False) -> Copy:
    """Read COPY and MOVE."""
    space(c)
    messages = sequence_set(c, uid)
    space(c)
    name = mailbox(c)
    end(c)
    return Copy(messages, name)


# RFC 9051 section 9: uid = "UID" SP (copy / move / ...)
def uid_copy(c: Cursor) -> Copy:
    """Read UID COPY and UID MOVE."""
    return copy(c, uid=True)
