"""Fills text indexes in the background: one thread per process, a few messages at a time.

Only accounts whose user searches texts have a text index; for the others nothing is read. What has not been indexed
when a search comes is indexed then.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.ops import log as logging
from mailserver.store.errors import StoreError
from mailserver.store.model.message import Message

if TYPE_CHECKING:
    from mailserver.store.reader import Reader

_log = logging.get("store")
_BATCH = 20  # messages read, decoded and written together
_PAUSE_SECONDS = 0.02  # between batches, so that sessions come first


class Indexer:
    """The thread starts with the first mailbox and ends with `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[weakref.ref[Reader] | None] = queue.SimpleQueue()
        self._scheduled: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def schedule(self, mailbox: Reader) -> None:
        """Have the mailbox's messages indexed soon; never blocks."""
        with self._lock:
            if mailbox in self._scheduled or self._stop.is_set():
                return
            self._scheduled.add(mailbox)
            self._waiting.put(weakref.ref(mailbox))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (reference := self._waiting.get()) is not None:
            mailbox = reference()
            if mailbox is None:
                continue
            with self._lock:
                self._scheduled.discard(mailbox)
            try:
                self._fill(mailbox)
            except StoreError:
                continue  # it was deleted meanwhile
            except Exception:  # one odd message must not end the indexing of all others
                _log.exception("indexing")

    def _fill(self, mailbox: Reader) -> None:
        missing = unindexed(mailbox, mailbox.snapshot().messages)
        for start in range(0, len(missing), _BATCH):
            if self._stop.wait(_PAUSE_SECONDS):
                return
            index(mailbox, missing[start : start + _BATCH])

    def close(self) -> None:
        """End the thread; what is unfinished is done on first use."""
        self._stop.set()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()


def unindexed(mailbox: Reader, messages: Sequence[Message]) -> list[Message]:
    """Those of the messages that the text index does not have."""
    texts, key = mailbox.text_index()
    missing = set(texts.missing(key, [m.uid for m in messages]))
    return [m for m in messages if m.uid in missing]


def index(mailbox: Reader, messages: Sequence[Message]) -> None:
    """Read, decode and index these messages; those that are gone are passed over."""
    index_of, key = mailbox.text_index()
    found = {int(m.uid): t for m, t in zip(messages, mailbox.texts(messages), strict=True) if t is not None}
    index_of.add(key, {uid: f"{t.headers}\n{t.body}" for uid, t in found.items()})
