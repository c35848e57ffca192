"""Items of FETCH that need no more of a message than what is known or was made before: a column for each.

A column gives, for a batch of messages, the octets of its item with its name: ``UID 7``, ``FLAGS (\\Seen)``,
``ENVELOPE (...)``. None stands for a message that is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from mailserver.imap import sections
from mailserver.imap.grammar.fetch import Body, FetchItem, Item, Preview
from mailserver.imap.responses import bodystructure, envelope
from mailserver.imap.responses import flags as flag_responses
from mailserver.imap.responses.preview import preview
from mailserver.imap.view import View
from mailserver.mail import headers, objectid, structure
from mailserver.mail.structure import STRUCTURE_VERSION
from mailserver.store.model.message import Message

Column = Callable[[Sequence[Message]], Sequence[bytes | None]]


def column(view: View, item: FetchItem) -> Column | None:
    """The column of an item; None for one that needs the message's octets."""
    if isinstance(item, Item):
        return _KNOWN[item](view) if item in _KNOWN else None
    if isinstance(item, Preview):
        return partial(view.mailbox.facts, _PREVIEW, make=_make_preview)
    if isinstance(item, Body) and sections.needs_only_header(item.section):
        return _header_section(view, item)
    return None


def flags(view: View) -> Column:
    """FLAGS, with \\Recent where this session has it."""
    render, is_recent = flag_responses.flags_item, view.is_recent
    first = view.first_recent()

    def make(messages: Sequence[Message]) -> list[bytes]:
        return [render(m.flags, m.keywords, m.uid >= first and is_recent(m.uid)) for m in messages]

    return make


def modseq(messages: Sequence[Message]) -> list[bytes]:
    """MODSEQ (RFC 7162 section 3.1.4)."""
    return [b"MODSEQ (%d)" % m.modseq for m in messages]


def uid(messages: Sequence[Message]) -> list[bytes]:
    """UID."""
    return [b"UID %d" % m.uid for m in messages]


def _internaldate(messages: Sequence[Message]) -> list[bytes]:
    return [b'INTERNALDATE "' + internaldate(m.internaldate) + b'"' for m in messages]


# RFC 8514 section 4.2: NIL when it is not known
def _savedate(messages: Sequence[Message]) -> list[bytes]:
    return [b'SAVEDATE "' + internaldate(m.savedate) + b'"' if m.savedate else b"SAVEDATE NIL" for m in messages]


# RFC 8474 section 5.3: a server without threads says NIL
def _threadid(messages: Sequence[Message]) -> list[bytes]:
    return [b"THREADID NIL"] * len(messages)


# RFC 8474 section 5.1
def _emailid(view: View) -> Column:
    def told(messages: Sequence[Message]) -> list[bytes | None]:
        found = view.mailbox.facts(objectid.KIND, messages, make=objectid.of)
        return [None if value is None else b"EMAILID (%b)" % value for value in found]

    return told


def _size(view: View) -> Column:
    return lambda messages: [b"RFC822.SIZE %d" % size for size in view.mailbox.sizes(messages)]


def _fact(name: str, make: Callable[[bytes], bytes]) -> Callable[[View], Column]:
    """A value made from the octets; kept with its name, as it is sent."""
    kind = f"{name.lower()}.{STRUCTURE_VERSION}"
    label = name.encode() + b" "
    return lambda view: partial(view.mailbox.facts, kind, make=lambda message: label + make(message))


def _make_envelope(message: bytes) -> bytes:
    return envelope.envelope(message[: headers.end_of(message)])


def _make_structure(message: bytes) -> bytes:
    return bodystructure.bodystructure(message, structure.parse(message))


def _make_body(message: bytes) -> bytes:
    return bodystructure.body(message, structure.parse(message))


def _make_preview(message: bytes) -> bytes:
    return b"PREVIEW " + preview(message)


_PREVIEW = f"preview.2.{STRUCTURE_VERSION}"
_KNOWN: dict[Item, Callable[[View], Column]] = {
    Item.UID: lambda view: uid,
    Item.FLAGS: flags,
    Item.INTERNALDATE: lambda view: _internaldate,
    Item.RFC822_SIZE: _size,
    Item.MODSEQ: lambda view: modseq,
    Item.SAVEDATE: lambda view: _savedate,
    Item.THREADID: lambda view: _threadid,
    Item.ENVELOPE: _fact("ENVELOPE", _make_envelope),
    Item.BODYSTRUCTURE: _fact("BODYSTRUCTURE", _make_structure),
    Item.BODY: _fact("BODY", _make_body),
    Item.EMAILID: _emailid,
}


def _header_section(view: View, item: Body) -> Column:
    """HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT: clients ask for the same fields of every message, again and again."""

    def make(header: bytes) -> bytes:
        value = sections.without_nul(sections.cut(sections.extract(header, item.section) or b"", item.partial))
        return b"%b {%d}\r\n%b" % (item.label, len(value), value)

    count = item.partial.count if item.partial else -1
    return partial(view.mailbox.header_facts, f"{item.label!r}.{count}", make=make)


_MONTHS = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())


# RFC 9051 section 9: date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
def internaldate(seconds: int) -> bytes:
    """The date in the server's time zone, without the quotes."""
    t = time.localtime(seconds)
    zone = t.tm_gmtoff // 60
    sign = b"-" if zone < 0 else b"+"
    zone = abs(zone)
    month = _MONTHS[t.tm_mon - 1]
    day = b"%2d-%b-%04d" % (t.tm_mday, month, t.tm_year)
    return b"%b %02d:%02d:%02d %b%02d%02d" % (day, t.tm_hour, t.tm_min, t.tm_sec, sign, zone // 60, zone % 60)
