"""SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS.

NAMESPACE, UNSELECT, CLOSE and CHECK are `anystate.nothing`. Names of mailboxes are octets as sent: which
codec they are in depends on UTF8=ACCEPT, which the session knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import (
    MAX_NUMBER64,
    end,
    known_set,
    more,
    nz_number,
    parenthesized,
    space,
    word,
)
from mailserver.imap.grammar.syntax import mailbox as mailbox_name
from mailserver.imap.grammar.syntax import number as any_number
from mailserver.store.model.search import NumberSet

STATUS_ITEMS = frozenset(
    {
        "MESSAGES",  # RFC 9051 section 6.3.11
        "UIDNEXT",
        "UIDVALIDITY",
        "UNSEEN",
        "DELETED",
        "SIZE",
        "RECENT",  # RFC 3501 section 6.3.10
        "HIGHESTMODSEQ",  # RFC 7162 section 3.1.7
        "APPENDLIMIT",  # RFC 7889 section 4
        "MAILBOXID",  # RFC 8474 section 4.3
        "DELETED-STORAGE",  # RFC 9208 section 4.1.4
    }
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A command whose only argument is a mailbox: DELETE, SUBSCRIBE, UNSUBSCRIBE."""

    name: bytes


@dataclass(frozen=True, slots=True)
class QResync:
    """What the client knows of the mailbox.  RFC 7162 section 3.2.5."""

    uidvalidity: int
    modseq: int
    known_uids: NumberSet | None
    match: tuple[NumberSet, NumberSet] | None  # sequence numbers, and the UIDs that belong to them


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT, or EXAMINE (``read_only``)."""

    name: bytes
    read_only: bool
    condstore: bool = False
    qresync: QResync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE; ``special_use`` are attributes such as "\\\\Sent" as sent."""

    name: bytes
    special_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME."""

    old: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS; items in capitals, in the order asked."""

    name: bytes
    items: tuple[str, ...]


_USE_ATTRIBUTE = re.compile(rb'\\[^\x00-\x20\x7f-\xff(){%*"\\\]]+')


# RFC 9051 section 9
# delete = "DELETE" SP mailbox ; subscribe = "SUBSCRIBE" SP mailbox ; unsubscribe = "UNSUBSCRIBE" SP mailbox
def one(c: Cursor) -> Mailbox:
    """Read DELETE, SUBSCRIBE, UNSUBSCRIBE."""
    space(c)
    name = mailbox_name(c)
    end(c)
    return Mailbox(name)


# RFC 4466 section 6: select = "SELECT" SP mailbox [select-params]
def select(c: Cursor) -> Select:
    """Read SELECT."""
    return _select(c, read_only=False)


# RFC 4466 section 6: examine = "EXAMINE" SP mailbox [select-params]
def examine(c: Cursor) -> Select:
    """Read EXAMINE."""
    return _select(c, read_only=True)


# RFC 4466 section 6: select-params = SP "(" select-param *(SP select-param) ")"
def _select(c: Cursor, read_only: bool) -> Select:
    space(c)
    name = mailbox_name(c)
    if not more(c):
        return Select(name, read_only)
    space(c)
    parameters = parenthesized(c, _select_parameter, "CONDSTORE or QRESYNC")
    end(c)
    qresync = next((parameter for parameter in parameters if parameter is not None), None)
    return Select(name, read_only, condstore=True, qresync=qresync)


# RFC 7162 section 7
# select-param =/ condstore-param
# select-param =/ "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"
def _select_parameter(c: Cursor) -> QResync | None:
    start = c.pos
    name = word(c, "CONDSTORE or QRESYNC")
    if name == "CONDSTORE":
        return None
    if name != "QRESYNC":
        c.pos = start
        c.expected("CONDSTORE or QRESYNC")
    space(c)
    c.take(b"(", '"(" and UIDVALIDITY')
    uidvalidity = nz_number(c, "UIDVALIDITY")
    space(c)
    modseq = any_number(c, "a modification sequence", MAX_NUMBER64)  # Leniency.MODSEQ_ZERO_IN_QRESYNC
    known: NumberSet | None = None
    match: tuple[NumberSet, NumberSet] | None = None
    if c.skip(b" ") and not c.at(b"("):
        known = known_set(c, uid=True)
        c.skip(b" ")
    if c.at(b"("):
        match = _match_data(c)
    c.take(b")", '")"')
    return QResync(uidvalidity, modseq, known, match)


# RFC 7162 section 7: seq-match-data = "(" known-sequence-set SP known-uid-set ")"
def _match_data(c: Cursor) -> tuple[NumberSet, NumberSet]:
    c.take(b"(", '"("')
    sequence = known_set(c, uid=False)
    space(c)
    uids = known_set(c, uid=True)
    c.take(b")", '")"')
    return sequence, uids


# RFC 4466 section 6: create = "CREATE" SP mailbox [create-params]
# RFC 6154 section 6: create-param =/ "USE" SP "(" [use-attr *(SP use-attr)] ")"
def create(c: Cursor) -> Create:
    """Read CREATE."""
    space(c)
    name = mailbox_name(c)
    uses: list[str] = []
    if more(c):
        space(c)
        for attributes in parenthesized(c, _create_parameter, "USE"):
            uses += attributes
    end(c)
    return Create(name, tuple(uses))


def _create_parameter(c: Cursor) -> list[str]:
    start = c.pos
    if word(c, "USE") != "USE":
        c.pos = start
        c.expected("USE")
    space(c)
    return parenthesized(c, _use_attribute, "special-use attributes", empty=True)


# RFC 6154 section 6: use-attr = "\All" / "\Archive" / ... / use-attr-ext ; use-attr-ext = "\" atom
def _use_attribute(c: Cursor) -> str:
    match = _USE_ATTRIBUTE.match(c.data, c.pos)
    if match is None:
        c.expected("a special-use attribute")
    c.pos = match.end()
    return match.group().decode("ascii")


# RFC 9051 section 9: rename = "RENAME" SP mailbox SP mailbox
def rename(c: Cursor) -> Rename:
    """Read RENAME."""
    space(c)
    old = mailbox_name(c)
    space(c)
    new = mailbox_name(c, "the new name of the mailbox")
    end(c)
    return Rename(old, new)


# RFC 9051 section 9: status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"
def status(c: Cursor) -> Status:
    """Read STATUS.  Leniency.STATUS_WITHOUT_PARENTHESES."""
    space(c)
    name = mailbox_name(c)
    space(c)
    items = status_items(c) if c.at(b"(") else (status_item(c),)
    end(c)
    return Status(name, items)


def status_items(c: Cursor) -> tuple[str, ...]:
    """Read "(" status-att *(SP status-att) ")"; each item once."""
    return tuple(dict.fromkeys(parenthesized(c, status_item, "status items")))


# RFC 9051 section 9: status-att = "MESSAGES" / "UIDNEXT" / "UIDVALIDITY" / "UNSEEN" / "DELETED" / "SIZE"
def status_item(c: Cursor) -> str:
    """Read one item of STATUS."""
    start = c.pos
    item = word(c, "a status item")
    if item not in STATUS_ITEMS:
        c.pos = start
        c.expected("a status item such as MESSAGES")
    return item
