"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import astring, end, mailbox, space


@dataclass(frozen=True, slots=True)
class SetAcl:
    """SETACL; ``change`` as sent: ``+lr``, ``-w``, ``lrs``."""

    name: bytes
    identifier: bytes
    change: bytes


@dataclass(frozen=True, slots=True)
class OfIdentifier:
    """DELETEACL, LISTRIGHTS."""

    name: bytes
    identifier: bytes


@dataclass(frozen=True, slots=True)
class OfMailbox:
    """GETACL, MYRIGHTS."""

    name: bytes


# RFC 4314 section 7: setacl = "SETACL" SP mailbox SP identifier SP mod-rights
def setacl(c: Cursor) -> SetAcl:
    """Read SETACL."""
    space(c)
    name = mailbox(c)
    space(c)
    identifier = _identifier(c)
    space(c)
    # RFC 4314 section 7: mod-rights = astring
    change = astring(c, "rights")
    end(c)
    return SetAcl(name, identifier, change)


# RFC 4314 section 7: deleteacl = "DELETEACL" SP mailbox SP identifier
# RFC 4314 section 7: listrights = "LISTRIGHTS" SP mailbox SP identifier
def of_identifier(c: Cursor) -> OfIdentifier:
    """Read DELETEACL, LISTRIGHTS."""
    space(c)
    name = mailbox(c)
    space(c)
    identifier = _identifier(c)
    end(c)
    return OfIdentifier(name, identifier)


# RFC 4314 section 7: getacl = "GETACL" SP mailbox ; myrights = "MYRIGHTS" SP mailbox
def of_mailbox(c: Cursor) -> OfMailbox:
    """Read GETACL, MYRIGHTS."""
    space(c)
    name = mailbox(c)
    end(c)
    return OfMailbox(name)


# RFC 4314 section 7: identifier = astring
def _identifier(c: Cursor) -> bytes:
    return astring(c, "an identifier")
