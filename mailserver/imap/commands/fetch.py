"""FETCH and UID FETCH.

Messages are answered in batches: what is known without their octets comes from the store's snapshot, what was made
from their octets before (ENVELOPE, BODYSTRUCTURE, header) from the cache, and only what is left opens files, some
twenty at a time. Large messages are sent in chunks and never held whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.imap import news, sections
from mailserver.imap.commands.mailbox import vanished_since
from mailserver.imap.commands.numbers import indexes
from mailserver.imap.errors import Invalid, Refused
from mailserver.imap.grammar.fetch import Binary, BinarySize, Body, Fetch, FetchItem, Item, Preview, Section, Text
from mailserver.imap.responses import bodystructure, envelope
from mailserver.imap.responses import flags as flag_responses
from mailserver.imap.responses.preview import preview
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok
from mailserver.mail import encodings, headers, structure
from mailserver.mail.structure import STRUCTURE_VERSION, Part
from mailserver.net.connection import ConnectionLost
from mailserver.store.content import MessageFile
from mailserver.store.errors import StoreError
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message
from mailserver.store.search import HEADER_FACT, make_header

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View

_BATCH = 200  # messages whose answers need no file
_READ_BATCH = 20  # messages read together
_LARGE = 1 << 20  # octets; larger messages are not read whole
_WHOLE = Section()
# RFC 3501 section 6.4.5: RFC822 is BODY[], RFC822.HEADER is BODY.PEEK[HEADER], RFC822.TEXT is BODY[TEXT]
_RFC822 = {
    Item.RFC822: Body(_WHOLE, False, None, b"RFC822"),
    Item.RFC822_HEADER: Body(Section(text=Text.HEADER), True, None, b"RFC822.HEADER"),
    Item.RFC822_TEXT: Body(Section(text=Text.TEXT), False, None, b"RFC822.TEXT"),
}
_HEADER = HEADER_FACT
_ENVELOPE = f"envelope.{STRUCTURE_VERSION}"
_STRUCTURE = f"bodystructure.{STRUCTURE_VERSION}"
_BODY = f"body.{STRUCTURE_VERSION}"


def _make_envelope(message: bytes) -> bytes:
    return envelope.envelope(headers.split(message)[0])


def _make_structure(message: bytes) -> bytes:
    return bodystructure.bodystructure(message, structure.parse(message))


def _make_body(message: bytes) -> bytes:
    return bodystructure.body(message, structure.parse(message))


# RFC 8474 section 5.2: the same octets have the same EMAILID, in whatever mailbox they lie
def _make_emailid(message: bytes) -> bytes:
    return b"(M%s)" % hashlib.sha256(message).hexdigest()[:32].encode()


_FACTS: dict[Item, tuple[str, Callable[[bytes], bytes]]] = {
    Item.ENVELOPE: (_ENVELOPE, _make_envelope),
    Item.BODYSTRUCTURE: (_STRUCTURE, _make_structure),
    Item.BODY: (_BODY, _make_body),
    Item.EMAILID: ("emailid.1", _make_emailid),
}
_PREVIEW = f"preview.{STRUCTURE_VERSION}"
_CONTENT = (Body, Binary, BinarySize)


# RFC 9051 section 6.4.5
def fetch(session: Session, args: Fetch) -> Completion:
    """Answer what is asked of each message."""
    view = session.selected()
    items = tuple(_RFC822.get(item, item) if isinstance(item, Item) else item for item in args.items)
    chosen = indexes(view, args.messages)
    if args.messages.uid and Item.UID not in items:
        # RFC 9051 section 6.4.9: the answer to UID FETCH always has the UID
        items = (Item.UID, *items)
    if args.changed_since is not None:
        chosen = _changed(session, view, args, chosen)
        items = items if Item.MODSEQ in items else (*items, Item.MODSEQ)
    if Item.MODSEQ in items:
        session.enabled.add("CONDSTORE")  # RFC 7162 section 3.1
    reflagged = _mark_seen(session, view, chosen, items)
    plan = Plan(session, view, items, reflagged)
    for start in range(0, len(chosen), plan.batch):
        plan.answer(chosen[start : start + plan.batch])
    if plan.gone:
        # RFC 5530 section 3: EXPUNGEISSUED
        return Completion(b"NO", "Some of the messages no longer exist", b"EXPUNGEISSUED")
    return ok("FETCH completed")


# RFC 7162 section 3.1.4.1: CHANGEDSINCE ; section 3.2.6: VANISHED
def _changed(session: Session, view: View, args: Fetch, chosen: Sequence[int]) -> list[int]:
    assert args.changed_since is not None
    if args.vanished:
        if "QRESYNC" not in session.enabled:
            raise Invalid("QRESYNC has to be enabled first")
        gone = vanished_since(view, args.changed_since, args.messages)
        if gone:
            session.write(b"* VANISHED (EARLIER) " + number_set(gone) + b"\r\n")
    return [i for i in chosen if view.messages[i].modseq > args.changed_since]


# RFC 9051 section 6.4.5: "The \Seen flag is implicitly set"; the change is told with the data
def _mark_seen(session: Session, view: View, chosen: Sequence[int], items: Sequence[FetchItem]) -> frozenset[int]:
    if view.read_only or not any(isinstance(item, Body | Binary) and not item.peek for item in items):
        return frozenset()
    unseen = [i for i in chosen if not view.messages[i].flags & Flag.SEEN]
    if not unseen:
        return frozenset()
    messages = view.messages
    before = {int(messages[i].uid): (int(messages[i].flags | Flag.SEEN), messages[i].keywords) for i in unseen}
    result = view.mailbox.store_flags(list(before), FlagOp.ADD, Flag.SEEN)
    news.tell(session, result.snapshot, expunge=False, silent=before)
    return frozenset(unseen)


_Content = Body | Binary | BinarySize


@dataclass(slots=True)
class _Opened:
    """A message while its answer is written: read once, parsed once."""

    data: bytes | None = None
    file: MessageFile | None = None
    root: Part | None = None

    def octets(self) -> bytes:
        if self.data is None:
            assert self.file is not None
            self.data = self.file.read()
        return self.data

    def parsed(self) -> Part:
        if self.root is None:
            self.root = structure.parse(self.octets())
        return self.root


class Plan:
    """How the items of one FETCH are answered."""

    def __init__(self, session: Session, view: View, items: tuple[FetchItem, ...], reflagged: frozenset[int]) -> None:
        self._session = session
        self._view = view
        self._items = items
        self._reflagged = reflagged
        self._facts = {i: _FACTS[i] for i in items if isinstance(i, Item) and i in _FACTS}
        self._bodies = [i for i in items if isinstance(i, _CONTENT)]
        self._wants_header = any(_needs_only_header(b) for b in self._bodies)
        self._wants_octets = any(not _needs_only_header(b) for b in self._bodies)
        self._wants_size = Item.RFC822_SIZE in items
        self._wants_preview = any(isinstance(i, Preview) for i in items)
        self._simple = not (self._facts or self._bodies or self._wants_size or self._wants_preview)
        self._plain = self._plain_items()
        self.batch = _READ_BATCH if self._wants_octets else _BATCH
        self.gone = False

    def _plain_items(self) -> list[Callable[[Message], bytes]]:
        """Those that need nothing but the snapshot, in the order asked."""
        is_recent = self._view.is_recent
        renderers: dict[Item, Callable[[Message], bytes]] = {
            Item.UID: lambda m: b"UID %d" % m.uid,
            Item.FLAGS: lambda m: b"FLAGS " + flag_responses.flag_list(m, is_recent(m.uid)),
            Item.INTERNALDATE: lambda m: b'INTERNALDATE "' + internaldate(m.internaldate) + b'"',
            Item.MODSEQ: lambda m: b"MODSEQ (%d)" % m.modseq,
            Item.SAVEDATE: _savedate,
            Item.THREADID: lambda m: b"THREADID NIL",  # RFC 8474 section 5.3: a server without threads says NIL
        }
        return [renderers[i] for i in self._items if isinstance(i, Item) and i in renderers]

    def answer(self, chosen: Sequence[int]) -> None:
        """Write the FETCH responses of these messages."""
        if self._simple and not self._reflagged:
            self._answer_simply(chosen)
            return
        view = self._view
        messages = [view.messages[i] for i in chosen]
        columns: list[list[bytes | None]] = []
        if self._wants_size:
            columns.append([b"RFC822.SIZE %d" % size for size in view.mailbox.sizes(messages)])
        for item, (kind, make) in self._facts.items():
            values = view.mailbox.facts(kind, messages, make)
            columns.append([None if v is None else item.value + b" " + v for v in values])
        if self._wants_preview:
            values = view.mailbox.facts(_PREVIEW, messages, preview)
            columns.append([None if v is None else b"PREVIEW " + v for v in values])
        header = view.mailbox.facts(_HEADER, messages, make_header) if self._wants_header else [None] * len(messages)
        octets = self._read(messages)
        for k, (i, m) in enumerate(zip(chosen, messages, strict=True)):
            parts = [render(m) for render in self._plain]
            parts += [value for column in columns if (value := column[k]) is not None]
            self.gone = self.gone or any(column[k] is None for column in columns)
            if i in self._reflagged and Item.FLAGS not in self._items:
                parts.append(b"FLAGS " + flag_responses.flag_list(m, view.is_recent(m.uid)))
                if "CONDSTORE" in self._session.enabled and Item.MODSEQ not in self._items:
                    parts.append(b"MODSEQ (%d)" % m.modseq)
            self._session.write(b"* %d FETCH (" % (i + 1))
            self._write_parts(m, parts, header[k], octets[k])

    def _answer_simply(self, chosen: Sequence[int]) -> None:
        messages, plain = self._view.messages, self._plain
        if len(plain) == 1:
            render = plain[0]
            lines = [b"* %d FETCH (%b)\r\n" % (i + 1, render(messages[i])) for i in chosen]
        else:
            lines = [b"* %d FETCH (%b)\r\n" % (i + 1, b" ".join([r(messages[i]) for r in plain])) for i in chosen]
        self._session.write(b"".join(lines))

    def _read(self, messages: Sequence[Message]) -> list[bytes | None]:
        if not self._wants_octets:
            return [None] * len(messages)
        small = [m for m in messages if m.size <= _LARGE]
        read = dict(zip([m.uid for m in small], self._view.mailbox.read_many(small), strict=True))
        return [read.get(m.uid) for m in messages]

    def _write_parts(self, m: Message, parts: list[bytes], header: bytes | None, data: bytes | None) -> None:
        session = self._session
        if not self._bodies:
            session.write(b" ".join(parts) + b")\r\n")
            return
        opened = _Opened(data)
        try:
            if self._wants_octets and data is None:
                opened.file = self._view.mailbox.open(m)
            pending, separator = b" ".join(parts), b" " if parts else b""
            for body in self._bodies:
                pending = self._write_body(pending + separator, body, header, opened)
                separator = b" "
            session.write(pending + b")\r\n")
        except StoreError:
            self.gone = True
            parts += [body.label + b" NIL" for body in self._bodies]
            session.write(b" ".join(parts) + b")\r\n")
        finally:
            if opened.file is not None:
                opened.file.close()

    def _write_body(self, pending: bytes, body: _Content, header: bytes | None, opened: _Opened) -> bytes:
        """Write ``pending`` and the item; returns what is still to be written."""
        if not isinstance(body, Body):
            return pending + body.label + b" " + _decoded(body, opened)
        if sections.needs_only_header(body.section):
            if header is None:
                self.gone = True
                return pending + body.label + b" NIL"
            value: bytes | None = sections.extract(header, body.section)
        elif body.section == _WHOLE and opened.data is None and opened.file is not None:
            self._stream(pending + body.label, body, opened.file)
            return b""
        else:
            root = opened.parsed() if body.section.part else None
            value = sections.extract(opened.octets(), body.section, root)
        if value is None:
            # RFC 9051 section 6.4.5.1 has no word for a part that is not there; clients know Dovecot's empty string
            value = b""
        value = without_nul(sections.cut(value, body.partial))
        if len(value) < 4096:
            return b"%b%b {%d}\r\n%b" % (pending, body.label, len(value), value)
        self._session.write_many([b"%b%b {%d}\r\n" % (pending, body.label, len(value)), value])
        return b""

    def _stream(self, start: bytes, body: Body, file: MessageFile) -> None:
        first, last = 0, file.size
        if body.partial is not None:
            first = min(body.partial.origin, file.size)
            last = min(first + body.partial.count, file.size)
        self._session.write(b"%b {%d}\r\n" % (start, last - first))
        for chunk in file.chunks(offset=first, end=last):
            self._session.write(without_nul(chunk))
            self._session.flush()
            first += len(chunk)
        if first < last:  # somebody cut the file: the size was promised, the stream cannot be mended
            raise ConnectionLost("the message became shorter while it was sent")


def _needs_only_header(item: _Content) -> bool:
    return isinstance(item, Body) and sections.needs_only_header(item.section)


# RFC 3516 section 4: BINARY sends a part with its transfer encoding undone, BINARY.SIZE its size then
def _decoded(item: Binary | BinarySize, opened: _Opened) -> bytes:
    octets = opened.octets()
    part = structure.section(opened.parsed(), item.part) if item.part else opened.parsed()
    if part is None:
        return b"NIL" if isinstance(item, Binary) else b"0"
    try:
        whole = octets if not item.part else part.body(octets)
        plain = part.is_multipart or part.is_message or not item.part
        data = whole if plain else encodings.decode(whole, part.encoding)
    except ValueError:
        # RFC 3516 section 4.3: UNKNOWN-CTE
        raise Refused("The transfer encoding of the part is not known", b"UNKNOWN-CTE") from None
    if isinstance(item, BinarySize):
        return b"%d" % len(data)
    data = sections.cut(data, item.partial)
    return (b"~{%d}\r\n" if b"\0" in data else b"{%d}\r\n") % len(data) + data


# RFC 8514 section 4.2: NIL when it is not known
def _savedate(m: Message) -> bytes:
    return b'SAVEDATE "' + internaldate(m.savedate) + b'"' if m.savedate else b"SAVEDATE NIL"


# RFC 9051 section 9: CHAR8 = %x01-ff; a literal cannot hold NUL, and Dovecot sends 0x80 as we do: the size stays
def without_nul(octets: bytes) -> bytes:
    """The octets with each NUL replaced."""
    return octets.replace(b"\0", b"\x80") if b"\0" in octets else octets


_MONTHS = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())


# RFC 9051 section 9: date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
def internaldate(seconds: int) -> bytes:
    """The date in the server's time zone, without the quotes."""
    t = time.localtime(seconds)
    zone = t.tm_gmtoff // 60
    sign = b"-" if zone < 0 else b"+"
    zone = abs(zone)
    return b"%2d-%b-%04d %02d:%02d:%02d %b%02d%02d" % (
        t.tm_mday,
        _MONTHS[t.tm_mon - 1],
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
        sign,
        zone // 60,
        zone % 60,
    )
