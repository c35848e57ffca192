"""The lane: one lock per process around short calls that release the GIL (SQLite, open, stat, rename).

Waiting threads then sleep instead of fighting for the GIL, which costs several times the call itself. A transaction on
a mailbox holds it from its first call to its last, for each gap is a place to fight at. Whatever takes long (fsync,
scanning a big folder) or waits (for another lock, for another process) is done ``aside``. Never hold it across a
socket.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator


class _Lane:
    """Re-entrant; a lock that is new in a forked child."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            self._depth += 1
            return
        self._lock.acquire()
        self._owner = me
        self._depth = 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._lock.release()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the lane for the block, however deep this thread is in it; nothing when it is not."""
        if self._owner != threading.get_ident():
            yield
            return
        depth = self._depth
        self._depth = self._owner = 0
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
            self._owner, self._depth = threading.get_ident(), depth

    def breathe(self) -> None:
        """Let others in, in the middle of something long."""
        with self.aside():
            time.sleep(0)


LANE = _Lane()
