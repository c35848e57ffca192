"""Locks for threads and processes.

A mailbox is locked in this order: a lock of the process, then ``flock`` on a lock file of its own. ``lockf`` would not
do: it does not exclude two threads of one process, and closing any descriptor of the file drops it. Several mailboxes
are locked in the order of their paths; the order is asserted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator

from mailserver.store.errors import Kind, StoreError
from mailserver.store.lane import LANE

_held = threading.local()
_WAIT_SECONDS = 30.0  # longer than any transaction; past it something hangs, and the client shall hear of it


class FileLock:
    """Exclusive, re-entrant within a thread. ``path`` is made when it is missing (its directory must exist)."""

    def __init__(self, path: str, rank: int = 1) -> None:
        self.path = path
        self._order = (rank, path)  # an account (rank 0) before its mailboxes (rank 1)
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._fd = -1

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it for the block. StoreError IN_USE after half a minute, FileNotFoundError without its directory."""
        if not self._thread_lock.acquire(blocking=False):
            with LANE.aside():  # whoever has the lock may wait for the lane
                if not self._thread_lock.acquire(timeout=_WAIT_SECONDS):
                    raise StoreError(Kind.IN_USE, "the mailbox is locked for too long")
        try:
            if self._depth == 0:
                self._check_order()
                self._acquire()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._release()
        finally:
            self._thread_lock.release()

    def _check_order(self) -> None:
        held: list[tuple[int, str]] = _held.__dict__.setdefault("orders", [])
        assert not held or held[-1] < self._order, f"lock order: {self._order} after {held[-1]}"

    def _acquire(self) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with LANE.aside():
                    _wait_for(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        _held.orders.append(self._order)

    def _release(self) -> None:
        _held.orders.remove(self._order)
        fd, self._fd = self._fd, -1
        os.close(fd)  # gives the flock back


def _wait_for(fd: int) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    pause = 0.0002
    while True:
        time.sleep(pause)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreError(Kind.IN_USE, "the mailbox is locked by another process for too long") from None
            pause = min(pause * 1.5, 0.01)


_NOTE = 32  # octets of the note in a maildrop's lock file


class MaildropLock:
    """The exclusive lock of a POP3 session, held over many commands; free at once when the process dies.

    RFC 1939 section 4: the server acquires an exclusive-access lock on the maildrop.
    """

    def __init__(self, path: str) -> None:
        """Take it; StoreError IN_USE when another session has it."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise StoreError(Kind.IN_USE, "the maildrop is in use by another session") from None

    def noted(self) -> float:
        """The number that was noted last, whoever held the lock then; 0 when there is none."""
        text = os.pread(self._fd, _NOTE, 0)
        try:
            return float(text)
        except ValueError:  # nobody ever noted anything, or a crash came between
            return 0.0

    def note(self, value: float) -> None:
        """Keep a number for who takes the lock next. OSError."""
        os.pwrite(self._fd, f"{value:.6f}".ljust(_NOTE - 1).encode() + b"\n", 0)

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> MaildropLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
