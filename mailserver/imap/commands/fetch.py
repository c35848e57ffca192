"""FETCH and UID FETCH.

Messages are answered in batches. What needs no octets is made a column at a time (`mailserver.imap.columns`); only what
is left opens files, some twenty at a time (`mailserver.imap.content`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mailserver.imap import columns, content, news
from mailserver.imap.columns import Column
from mailserver.imap.commands.mailbox import vanished_since
from mailserver.imap.commands.numbers import indexes
from mailserver.imap.errors import Invalid, Refused
from mailserver.imap.grammar.fetch import Binary, BinarySize, Body, Fetch, FetchItem, Item, Section, Text
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok
from mailserver.store.errors import StoreError
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View

_BATCH = 200  # messages whose answers need no file
_READ_BATCH = 20  # messages read together
# RFC 3501 section 6.4.5: RFC822 is BODY[], RFC822.HEADER is BODY.PEEK[HEADER], RFC822.TEXT is BODY[TEXT]
_RFC822 = {
    Item.RFC822: Body(Section(), False, None, b"RFC822"),
    Item.RFC822_HEADER: Body(Section(text=Text.HEADER), True, None, b"RFC822.HEADER"),
    Item.RFC822_TEXT: Body(Section(text=Text.TEXT), False, None, b"RFC822.TEXT"),
}


# RFC 9051 section 6.4.5
def fetch(session: Session, args: Fetch) -> Completion:
    """Answer what is asked of each message."""
    view = session.selected()
    items = tuple(_RFC822.get(item, item) if isinstance(item, Item) else item for item in args.items)
    chosen: Sequence[int] = indexes(view, args.messages)
    if args.messages.uid and Item.UID not in items:
        # RFC 9051 section 6.4.9: the answer to UID FETCH always has the UID
        items = (Item.UID, *items)
    if args.window is not None:
        chosen = args.window.of(chosen)  # RFC 9394 section 3.4: before CHANGEDSINCE chooses
    if args.changed_since is not None:
        chosen = _changed(session, view, args, chosen)
        items = items if Item.MODSEQ in items else (*items, Item.MODSEQ)
    if Item.MODSEQ in items:
        session.enable_condstore()
    plan = Plan(session, view, items, _mark_seen(session, view, chosen, items))
    for start in range(0, len(chosen), plan.batch):
        plan.answer(chosen[start : start + plan.batch])
    if plan.refusal is not None:
        raise plan.refusal
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
    # RFC 4314 section 4: "MUST NOT set it, if the current user doesn't have "s" right"
    may = not view.read_only and view.settable.flags & Flag.SEEN
    if not may or not any(isinstance(item, Body | Binary) and not item.peek for item in items):
        return frozenset()
    unseen = [i for i in chosen if not view.messages[i].flags & Flag.SEEN]
    if not unseen:
        return frozenset()
    messages = view.messages
    before = {int(messages[i].uid): (int(messages[i].flags | Flag.SEEN), messages[i].keywords) for i in unseen}
    result = view.mailbox.store_flags(list(before), FlagOp.ADD, Flag.SEEN)
    gone = {m.uid for m in view.gone_from(result.snapshot, [messages[i] for i in unseen])}
    news.tell(session, result.snapshot, expunge=False, silent=before, answered=True)
    return frozenset(i for i in unseen if messages[i].uid not in gone)


class Plan:
    """How the items of one FETCH are answered."""

    def __init__(self, session: Session, view: View, items: tuple[FetchItem, ...], reflagged: frozenset[int]) -> None:
        self._session = session
        self._view = view
        self._reflagged = reflagged
        self._columns: list[Column] = []
        self._contents: list[content.Content] = []
        for item in items:
            found = columns.column(view, item)
            if found is not None:
                self._columns.append(found)
            elif isinstance(item, Body | Binary | BinarySize):
                self._contents.append(item)
        self._extra = self._extra_columns(items) if reflagged else []
        self.batch = _READ_BATCH if self._contents else _BATCH
        self.gone = False
        self.refusal: Refused | None = None  # why an item was left out

    def _extra_columns(self, items: Sequence[FetchItem]) -> list[Column]:
        """What messages that became \\Seen by this command are told beside what was asked."""
        extra: list[Column] = [] if Item.FLAGS in items else [columns.flags(self._view)]
        if "CONDSTORE" in self._session.enabled:
            # RFC 7162 section 3.2.4: "both UID and mod-sequence data", also where FETCH set \Seen
            extra += [columns.uid] if "QRESYNC" in self._session.enabled and Item.UID not in items else []
            extra += [] if Item.MODSEQ in items else [columns.modseq]
        return extra

    def answer(self, chosen: Sequence[int]) -> None:
        """Write the FETCH responses of these messages."""
        all_messages = self._view.messages
        messages = [all_messages[i] for i in chosen]
        values = [make(messages) for make in self._columns]
        if any(None in column for column in values):
            self.gone = True
        if self._extra:
            marked = [i in self._reflagged for i in chosen]
            for make in self._extra:
                values.append([v if mark else None for v, mark in zip(make(messages), marked, strict=True)])
        elif not self._contents and not self.gone:
            self._write_rows(chosen, cast(Sequence[Sequence[bytes]], values))
            return
        rows = list(zip(*values, strict=True)) if values else [()] * len(messages)
        starts = [b" ".join([v for v in row if v is not None]) for row in rows]
        if self._contents:
            self._write_contents(chosen, messages, starts)
        else:
            # RFC 9051 section 9: msg-att = "(" at least one item ")"; of a message that is gone the UID is left
            starts = [start or b"UID %d" % m.uid for m, start in zip(messages, starts, strict=True)]
            lines = [b"* %d FETCH (%b)\r\n" % (i + 1, start) for i, start in zip(chosen, starts, strict=True)]
            self._session.write(b"".join(lines))

    def _write_rows(self, chosen: Sequence[int], values: Sequence[Sequence[bytes]]) -> None:
        if len(values) == 1:
            lines = [b"* %d FETCH (%b)\r\n" % (i + 1, v) for i, v in zip(chosen, values[0], strict=True)]
        else:
            pattern = b"* %d FETCH (" + b" ".join([b"%b"] * len(values)) + b")\r\n"
            numbers = [i + 1 for i in chosen]
            lines = [pattern % row for row in zip(numbers, *values, strict=True)]
        self._session.write(b"".join(lines))

    def _write_contents(self, chosen: Sequence[int], messages: Sequence[Message], starts: Sequence[bytes]) -> None:
        small = [m for m in messages if m.size <= content.LARGE]
        read = dict(zip([m.uid for m in small], self._view.mailbox.read_many(small), strict=True))
        for i, m, start in zip(chosen, messages, starts, strict=True):
            self._write_content(b"* %d FETCH (%b" % (i + 1, start), b" " if start else b"", m, read.get(m.uid))

    def _write_content(self, pending: bytes, separator: bytes, m: Message, data: bytes | None) -> None:
        session = self._session
        try:
            file = self._view.mailbox.open(m) if data is None else None
        except StoreError:
            self.gone = True
            missing = b" ".join([item.label + b" NIL" for item in self._contents])
            session.write(pending + separator + missing + b")\r\n")
            return
        try:
            opened = content.Opened(data, file)
            for item in self._contents:
                try:
                    pending = content.write(session, pending + separator, item, opened)
                except Refused as refusal:
                    # RFC 3516 section 4.3: the command ends with NO, but what was begun must have its end
                    self.refusal = refusal
                    continue
                separator = b" "
            session.write(pending + (b")\r\n" if separator else b"UID %d)\r\n" % m.uid))
        finally:
            if file is not None:
                file.close()
