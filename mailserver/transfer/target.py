"""The mailbox that a folder comes into: its numbers, and which messages are there already."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mailserver.mail import dates, headers
from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.mailbox import Append, Mailbox
from mailserver.store.model.message import Message
from mailserver.store.model.numbers import MAX_UID
from mailserver.transfer.model import Folder, Item
from mailserver.transfer.record import Imported, Record


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
            account.create(name)
        self.mailbox: Mailbox = account.mailbox(name)
        self.numbers = False
        self._imported = imported
        self._record = record
        self._folder = folder
        self._candidates: dict[tuple[int, int], list[Message]] = {}

    def begin(self, items: Sequence[Item], *, alone: bool) -> None:
        """Take over the folder's numbers if that can be; ``alone``: no other folder comes into this mailbox."""
        folder, snapshot = self._folder, self.mailbox.rescan()
        same = snapshot.uidvalidity == folder.uidvalidity
        if self._imported.numbers:
            self.numbers = same
        elif alone and not snapshot.messages and not self._imported.keys and _can_be_kept(folder, items):
            if not same:
                self.mailbox.renumber(folder.uidvalidity)
            self.numbers = True
            self._record.note(folder, folder.uidvalidity, {}, numbers=True)
        self._find_candidates()

    def _find_candidates(self) -> None:
        """Messages here of which the record does not know where they are from."""
        snapshot = self.mailbox.snapshot()
        noted = self._imported.uids.get(int(snapshot.uidvalidity), set())
        unknown = [m for m in snapshot.messages if m.uid not in noted]
        for m, size in zip(unknown, self.mailbox.sizes(unknown), strict=True):
            self._candidates.setdefault((size, m.internaldate), []).append(m)

    def twin(self, arrived: Arrived) -> int:
        """The UID of the message here that is this one, 0 when there is none. Each is found once."""
        alike = self._candidates.get((arrived.incoming.size, arrived.date))
        if not alike:
            return 0
        wanted = _message_id(arrived.head)
        for m, header in zip(alike, self.mailbox.headers(alike), strict=True):
            if header is not None and _message_id(header) == wanted:
                alike.remove(m)
                return int(m.uid)
        return 0

    def uid_for(self, item: Item) -> int:
        """The UID that the message shall have here; 0: any."""
        return item.uid if self.numbers else 0

    def append(self, items: Sequence[Append]) -> list[int]:
        """Put them there; when one's UID was given to another message, all numbers become our own. StoreError."""
        if not items:
            return []
        try:
            return [int(uid) for uid in self.mailbox.append(items)[1]]
        except StoreError as error:
            if error.kind is not Kind.CANNOT or not self.numbers:
                raise
        self.mailbox.renumber(None)
        self.numbers = False
        plain = [Append(i.incoming, i.flags, i.keywords, i.internaldate, 0, i.uidl, i.place) for i in items]
        return [int(uid) for uid in self.mailbox.append(plain)[1]]

    def note(self, folder: Folder, done: Mapping[str, int]) -> None:
        """These are here now. OSError."""
        if done:
            self._record.note(folder, int(self.mailbox.snapshot().uidvalidity), done, numbers=self.numbers)

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
