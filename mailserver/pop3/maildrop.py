"""A maildrop: INBOX as it stood at login, numbered from 1, locked for this session.

RFC 1939 section 8: mail that arrives meanwhile is not shown; section 6: deletion happens at QUIT and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.pop3.errors import Refused
from mailserver.store.account import Account
from mailserver.store.content import Content
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message


@dataclass(frozen=True, slots=True)
class Item:
    """One message; ``number`` is its message-number, ``size`` in octets."""

    number: int
    message: Message
    uidl: str
    size: int


class Maildrop:
    """Opened at login, closed at the end of the session whatever that is. Raises StoreError (IN_USE)."""

    def __init__(self, account: Account) -> None:
        self._lock = account.maildrop_lock()
        try:
            self._mailbox = account.mailbox("INBOX")
            entries = self._mailbox.uidls()
            sizes = self._mailbox.sizes([message for message, _ in entries])
        except BaseException:
            self._lock.release()
            raise
        self._items = [
            Item(number, message, uidl, size)
            for number, ((message, uidl), size) in enumerate(zip(entries, sizes, strict=True), 1)
        ]
        self._deleted: set[int] = set()
        self._retrieved: set[int] = set()

    def items(self) -> list[Item]:
        """Return the messages not marked as deleted."""
        if not self._deleted:
            return self._items
        return [item for item in self._items if item.number not in self._deleted]

    def item(self, number: int) -> Item:
        """Return one message; Refused when there is none or it is marked as deleted."""
        if not 1 <= number <= len(self._items):
            raise Refused(f"No such message, only {len(self._items)} messages in maildrop")
        if number in self._deleted:
            raise Refused(f"Message {number} already deleted")
        return self._items[number - 1]

    def open(self, item: Item) -> Content:
        """Open a message's octets; StoreError EXPUNGED when another program removed it."""
        return self._mailbox.open(item.message)

    def delete(self, number: int) -> None:
        """Mark a message as deleted."""
        self._deleted.add(self.item(number).number)

    def retrieve(self, number: int) -> None:
        """Remember that the client has this message: who looks with IMAP sees that it was read, as with Dovecot."""
        self._retrieved.add(number)

    def reset(self) -> None:
        """Unmark all messages."""
        self._deleted.clear()
        self._retrieved.clear()

    def update(self, *, delete: bool = True) -> int:
        """Remove what is marked as deleted; return how many. RFC 1939 section 6: the UPDATE state."""
        if not delete:
            self._deleted.clear()
        read = [self._items[number - 1].message for number in sorted(self._retrieved - self._deleted)]
        if unseen := [message.uid for message in read if not message.flags & Flag.SEEN]:
            self._mailbox.store_flags(unseen, FlagOp.ADD, Flag.SEEN)
        self._retrieved.clear()
        if not self._deleted:
            return 0
        self._mailbox.expunge([self._items[number - 1].message.uid for number in sorted(self._deleted)])
        count = len(self._deleted)
        self._deleted.clear()
        return count

    def close(self) -> None:
        """Give the lock back; nothing is removed."""
        self._lock.release()
