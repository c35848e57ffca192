"""The mailbox that a folder comes into: its numbers, and which messages are there already."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mailserver.mail import dates, headers
from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.formats.mbox.headers import visible
from mailserver.store.mailbox import Append, FlagOp, Mailbox
from mailserver.store.model.message import Message
from mailserver.store.model.numbers import MAX_UID
from mailserver.store.source import Source
from mailserver.transfer.merge import Change, change, is_untouched
from mailserver.transfer.model import Folder, Item
from mailserver.transfer.record import Imported, Noted, Record

_BARE_LF = re.compile(rb"(?<!\r)\n")


@dataclass(slots=True)
class Arrived:
    """A message that was fetched: in ``tmp/``, finished. ``head`` is its beginning."""

    item: Item
    incoming: Incoming
    head: bytes
    date: int


class Target:
    """``imported`` is what the record knows of the folder."""

    def __init__(self, account: Account, name: str, folder: Folder, imported: Imported, record: Record) -> None:
        """Makes the mailbox if it is missing. StoreError."""
        self.name = name
        if not account.exists(name):
            account.create(name, alone=True)  # a parent that holds no messages there shall be none here
        self.mailbox: Mailbox = account.mailbox(name)
        self.numbers = False
        self._imported = imported
        self._record = record
        self._folder = folder
        self._candidates: dict[int, list[Message]] = {}  # by size
        self._cut_short = False  # the last import died, maybe while it wrote

    def begin(self, items: Sequence[Item], *, alone: bool) -> None:
        """Take over the folder's numbers if that can be; ``alone``: no other folder comes into this mailbox."""
        self._cut_short = bool(self._imported.begun)
        if self._cut_short:
            self.mailbox.enlist(self._imported.begun)
        folder, snapshot = self._folder, self.mailbox.rescan()
        same = snapshot.uidvalidity == folder.uidvalidity
        if self._imported.numbers:
            self.numbers = same
        elif alone and not snapshot.messages and not self._imported.messages and _can_be_kept(folder, items):
            if not same or self.mailbox.files.format == "mbox":  # an empty mbox has written down none, by itself
                self.mailbox.renumber(folder.uidvalidity)
            self.numbers = True
            self._record.note(folder, folder.uidvalidity, [], numbers=True)
        self._find_candidates()

    def _find_candidates(self) -> None:
        """Messages here of which the record does not know where they are from."""
        snapshot = self.mailbox.snapshot()
        noted = self._imported.uids(int(snapshot.uidvalidity))
        unknown = [m for m in snapshot.messages if m.uid not in noted]
        for m, size in zip(unknown, self.mailbox.sizes(unknown), strict=True):
            self._candidates.setdefault(size, []).append(m)

    # -- messages that are here

    def merge(self, items: Sequence[tuple[Item, Noted]]) -> int:
        """Bring over the flags that changed there since they were noted. How many messages that were. StoreError."""
        here = {int(m.uid) for m in self.mailbox.snapshot().messages}
        validity = int(self.mailbox.snapshot().uidvalidity)
        alike: dict[Change, list[int]] = {}
        moved: list[tuple[Item, int]] = []
        for item, noted in items:
            found = change(noted, item) if noted.uidvalidity == validity and noted.uid in here else None
            if found is not None:
                alike.setdefault(found, []).append(noted.uid)
                moved.append((item, noted.uid))
        for found, uids in alike.items():
            if found.flags or found.words:
                self.mailbox.store_flags(uids, FlagOp.ADD, found.flags, sorted(found.words))
            if found.flags_gone or found.words_gone:
                self.mailbox.store_flags(uids, FlagOp.REMOVE, found.flags_gone, sorted(found.words_gone))
        self.note(moved, settles=False)
        return len(moved)

    def expired(self, present: Collection[str]) -> tuple[list[int], int]:
        """UIDs of messages that are gone there and were left alone here; and how many were changed here."""
        snapshot = self.mailbox.rescan()
        messages = {int(m.uid): m for m in snapshot.messages}
        gone, kept = [], 0
        for key, noted in self._imported.messages.items():
            m = messages.get(noted.uid)
            if key in present or m is None or noted.uidvalidity != snapshot.uidvalidity:
                continue
            if is_untouched(noted, m.flags, m.keywords):
                gone.append(noted.uid)
            else:
                kept += 1
        return gone, kept

    def remove(self, present: Collection[str]) -> tuple[int, int]:
        """Remove messages that are gone there, but none that somebody changed here. How many went, and stayed."""
        gone, kept = self.expired(present)
        return len(self.mailbox.expunge(gone)[1]) if gone else 0, kept

    # -- messages that come

    def twin(self, arrived: Arrived) -> int:
        """The UID of the message here that is this one, 0 when there is none. Each is found once."""
        alike = self._candidates.get(self._size_here(arrived), [])
        dated = [m for m in alike if arrived.item.date is None or m.internaldate == arrived.date]
        for m in dated:
            if self._is_the_same(m, arrived):
                alike.remove(m)
                return int(m.uid)
        return 0

    def _is_the_same(self, m: Message, arrived: Arrived) -> bool:
        if arrived.item.date is None:  # of two that have none, or that was made up, only the octets can tell
            return self.mailbox.read_many([m]) == [self._octets(arrived)]
        (header,) = self.mailbox.headers([m])
        return header is not None and _message_id(header) == _message_id(arrived.head)

    def _octets(self, arrived: Arrived) -> bytes:
        """As they will be here."""
        with open(arrived.incoming.path, "rb") as f:
            data = f.read()
        if self.mailbox.files.format != "mbox":
            return data
        header, body = headers.split(data)
        return visible(header) + data[body:]

    def _size_here(self, arrived: Arrived) -> int:
        """An mbox leaves out the fields in which it keeps its books."""
        size = arrived.incoming.size
        if self.mailbox.files.format != "mbox":
            return size
        header = headers.split(_BARE_LF.sub(b"\r\n", arrived.head))[0]
        return size - len(header) + len(visible(header))

    def append(self, arrived: Sequence[Arrived]) -> list[int]:
        """Put them there; when one's UID was given to another message, all numbers become our own. StoreError."""
        if not arrived:
            return []
        appends = [
            Append(
                *(a.incoming, a.item.flags, a.item.keywords, a.date),
                *(a.item.uid if self.numbers else 0, a.item.uidl, a.item.place),
            )
            for a in arrived
        ]
        if self._cut_short and self.mailbox.files.format == "mbox":
            self._drop_torn(arrived)
        self._cut_short = False
        sources = [Source.of(each) for each in appends]
        self._record.begin(self._folder, {s.base: (s.uid, s.fields) for s in sources})
        try:
            return [int(uid) for uid in self.mailbox.append(appends)[1]]
        except StoreError as error:
            if error.kind is not Kind.CANNOT or not self.numbers:
                raise
        self.give_up_numbers()
        return [int(uid) for uid in self.mailbox.append([replace(a, uid=0) for a in appends])[1]]

    def _drop_torn(self, arrived: Sequence[Arrived]) -> None:
        """Whoever dies while he writes to an mbox leaves the beginning of a message at its end; here the whole one is.

        Only what came after everything that was noted, has the date of one of these, and is how that one begins.
        """
        snapshot = self.mailbox.snapshot()
        last = max(self._imported.uids(int(snapshot.uidvalidity)), default=0)
        for m in [m for m in snapshot.messages if m.uid > last]:
            alike = [each for each in arrived if each.date == m.internaldate]
            (octets,) = self.mailbox.read_many([m]) if alike else [None]
            if octets is not None and any(self._begins(octets, each) for each in alike):
                self.mailbox.expunge([int(m.uid)])

    def _begins(self, octets: bytes, arrived: Arrived) -> bool:
        whole = self._octets(arrived)
        start = octets.removesuffix(b"\n").removesuffix(b"\r")
        return len(octets) < len(whole) and whole.startswith(start)

    def give_up_numbers(self) -> None:
        """The mailbox gets a UIDVALIDITY of its own, for a UID means another message here than there. StoreError."""
        old = int(self.mailbox.snapshot().uidvalidity)
        new = int(self.mailbox.renumber(None).uidvalidity)
        self.numbers = False
        self._record.renumbered(self._folder, old, new)

    def note(self, done: Sequence[tuple[Item, int]], *, settles: bool = True) -> None:
        """These are here now; ``settles``: what was begun is done. OSError."""
        if done:
            validity = int(self.mailbox.snapshot().uidvalidity)
            self._record.note(self._folder, validity, done, numbers=self.numbers, settles=settles)

    def finish(self, folder: Folder) -> None:
        """No UID that the source has given may be given here again."""
        if self.numbers and folder.uidnext > self.mailbox.snapshot().uidnext:
            self.mailbox.renumber(folder.uidvalidity, min(folder.uidnext, MAX_UID))


def _can_be_kept(folder: Folder, items: Sequence[Item]) -> bool:
    uids = [item.uid for item in items if item.uid]
    ascending = all(a < b for a, b in pairwise(uids))
    return 0 < folder.uidvalidity < 2**32 and ascending and all(uid < MAX_UID for uid in uids)


def _message_id(head: bytes) -> bytes:
    for name, value in headers.pairs(headers.split(head)[0]):
        if name == b"message-id":
            return value.strip()
    return b""


def date_of(head: bytes) -> int:
    """When a message arrived, as far as itself tells: its topmost Received, else its Date, else now."""
    fields = headers.pairs(headers.split(head)[0])
    received = next((value for name, value in fields if name == b"received"), b"")
    own = next((value for name, value in fields if name == b"date"), b"")
    for text in (received.rpartition(b";")[2] if b";" in received else b"", own):
        moment = dates.parse(text.strip()) if text.strip() else None
        if moment is not None and moment.timestamp() > 0:
            return int(moment.timestamp())
    return int(time.time())
