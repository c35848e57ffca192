"""Appends of several threads to one mailbox, made one transaction.

While one thread writes to a mailbox, the others that come for it gather; the first of them then writes for all. Under
load a lock, a line in the list of UIDs, a commit and two fsyncs are so shared by many messages. Nothing waits when
nobody else is there.
"""

from __future__ import annotations

import threading

from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.mailbox import Append, Mailbox

MOST = 100  # messages of one transaction: the first in it shall not wait long


class _Item:
    __slots__ = ("done", "error", "incoming", "leads")

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.done = threading.Event()  # it is written or has failed, or this thread leads now
        self.error: StoreError | None = None
        self.leads: list[_Item] = []  # for whom this thread must write


class Together:
    """See the module. May be used by several threads; one for all mailboxes of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Mailbox, list[_Item]] = {}  # a key for each mailbox that is being written to

    def append(self, mailbox: Mailbox, incoming: Incoming) -> None:
        """Give a received message its name and UID; durable when it returns. Raises `StoreError`."""
        with os_errors():
            incoming.finish()  # each thread syncs its own file
        item = _Item(incoming)
        with self._lock:
            waiting = self._waiting.get(mailbox)
            if waiting is None:
                self._waiting[mailbox] = []
                item.leads = [item]
            else:
                waiting.append(item)
        if not item.leads:
            item.done.wait()
        if item.leads:
            self._lead(mailbox, item.leads)
        if item.error is not None:
            raise item.error

    def _lead(self, mailbox: Mailbox, items: list[_Item]) -> None:
        for item in items:  # whatever happens below, nobody may believe that it is written
            item.error = StoreError(Kind.TEMPORARY, "the message could not be written")
        try:
            _write(mailbox, items)
        finally:
            self._hand_on(mailbox)
            for item in items:
                item.leads = []
                item.done.set()

    def _hand_on(self, mailbox: Mailbox) -> None:
        """Let the first of those who came meanwhile write for them."""
        with self._lock:
            waiting = self._waiting[mailbox]
            if not waiting:
                del self._waiting[mailbox]
                return
            self._waiting[mailbox] = waiting[MOST:]
            next_one = waiting[0]
            next_one.leads = waiting[:MOST]
        next_one.done.set()


def _write(mailbox: Mailbox, items: list[_Item]) -> None:
    try:
        mailbox.append([Append(item.incoming) for item in items])
    except StoreError as error:
        if len(items) == 1:
            items[0].error = error
            return
        for item in items:  # what fails for all together, a quota for one, may be right for each
            _write(mailbox, [item])
    else:
        for item in items:
            item.error = None
