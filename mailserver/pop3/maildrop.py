"""A maildrop: INBOX as it stood at login, numbered from 1, locked for this session.

RFC 1939 section 8: mail that arrives meanwhile is not shown; section 6: deletion happens at QUIT and nowhere else.
"""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from mailserver.mail import surrogate
from mailserver.pop3.context import Pop3Options
from mailserver.pop3.errors import Refused
from mailserver.pop3.uidl import reused, unique_ids
from mailserver.store.account import Account
from mailserver.store.content import Content
from mailserver.store.locks import MaildropLock
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message

_GROWTH = "pop3-surrogate.1"  # the fact of a message: how much longer its surrogate is
_REUSED = "pop3-xuidl.1"  # likewise: the unique-id in its header


class Item(NamedTuple):
    """One message; ``number`` is its message-number, ``size`` in octets."""

    number: int
    message: Message
    uidl: str
    size: int


class Maildrop:
    """Opened at login, closed at the end of the session whatever that is. Raises StoreError (IN_USE), Refused."""

    def __init__(self, account: Account, options: Pop3Options, *, utf8: bool = False) -> None:
        """``utf8``: the client said UTF8, so all is sent to it as it is."""
        self._flagging = options.delete_type == "flag"
        self._deleting = options.delete_on_quit
        self._lock = account.maildrop_lock()
        try:
            _check_delay(self._lock, options.login_delay)
            self._mailbox = account.mailbox("INBOX")
            self._items = self._list(options, surrogates=options.utf8_headers == "surrogate" and not utf8)
            _note_login(self._lock, options.login_delay)
        except BaseException:
            self._lock.release()
            raise
        self._deleted: set[int] = set()
        self._retrieved: set[int] = set()

    def _list(self, options: Pop3Options, *, surrogates: bool) -> list[Item]:
        snapshot, messages = self._mailbox.maildrop()
        if self._flagging:
            messages = [m for m in messages if not m.message.flags & Flag.DELETED]
        plain = [m.message for m in messages]
        if options.reuse_xuidl:
            given = self._mailbox.header_facts(_REUSED, plain, reused)
            messages = [
                m if m.saved else m._replace(saved=(x or b"").decode()) for m, x in zip(messages, given, strict=True)
            ]
        ids = unique_ids(options.uidl_format, snapshot.uidvalidity, messages)
        sizes = self._mailbox.sizes(plain)
        if surrogates:
            more = self._mailbox.header_facts(_GROWTH, plain, _growth)
            sizes = [size + int(octets or 0) for size, octets in zip(sizes, more, strict=True)]
        return list(map(Item, range(1, len(plain) + 1), plain, ids, sizes))

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

    def read(self, item: Item) -> bytes | None:
        """Return a small message's octets, quicker than by `open`; None when that must say what is wrong."""
        return self._mailbox.read_many([item.message])[0]

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

    def update(self) -> int:
        """Remove what is marked as deleted; return how many. RFC 1939 section 6: the UPDATE state."""
        if not self._deleting:
            self._deleted.clear()
        read = [self._items[number - 1].message for number in sorted(self._retrieved - self._deleted)]
        if unseen := [message.uid for message in read if not message.flags & Flag.SEEN]:
            self._mailbox.store_flags(unseen, FlagOp.ADD, Flag.SEEN)
        self._retrieved.clear()
        if not self._deleted:
            return 0
        uids = [self._items[number - 1].message.uid for number in sorted(self._deleted)]
        if self._flagging:
            self._mailbox.store_flags(uids, FlagOp.ADD, Flag.DELETED)
        else:
            self._mailbox.expunge(uids)
        count = len(self._deleted)
        self._deleted.clear()
        return count

    def close(self) -> None:
        """Give the lock back; nothing is removed."""
        self._lock.release()


def _growth(header: bytes) -> bytes:
    return b"%d" % surrogate.growth(header)


# RFC 2449 section 6.5: "the number of seconds after an "+OK" response to a PASS, APOP, or AUTH command before another
# authentication will be accepted". The moment stands in the lock's file: all processes and the next start know it.
def _check_delay(lock: MaildropLock, delay: int) -> None:
    if not delay:
        return
    since = time.time() - lock.noted()
    if 0 <= since < delay:  # below 0: the clock was put back, which shall lock nobody out
        raise Refused("Minimum time between logins not elapsed", "LOGIN-DELAY")


def _note_login(lock: MaildropLock, delay: int) -> None:
    if delay:
        with contextlib.suppress(OSError):  # a full disk must not keep anybody from deleting mail
            lock.note(time.time())
