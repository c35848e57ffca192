"""Waiting without descriptors: one epoll and one thread per process watch the sockets of all waiting sessions.

A session that waits (IMAP IDLE) blocks on a lock, its `Waker`. The waiter's thread releases the lock when the socket
has something to read; any other thread releases it through `Waker.wake`. So an idle session costs its socket and its
thread and nothing else: no pipe, no epoll of its own. The same thread serves other descriptors, such as the store's
inotify descriptor (`Waiter.watch`).
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from enum import Enum

from mailserver.ops import log as logging

_log = logging.get("net")
_INTEREST = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class Wake(Enum):
    """Why a wait ended."""

    READABLE = "readable"  # octets or the end of the stream
    WOKEN = "woken"  # somebody called Waker.wake
    TIMEOUT = "timeout"


class Waker:
    """Ends the wait of one session.

    A wake that comes while the session works is not lost: its next wait ends at once.
    """

    __slots__ = ("_lock", "_woken")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._woken = False

    def wake(self) -> None:
        """End the wait; may be called by any thread, never blocks."""
        self._woken = True
        self._release()

    def mark_readable(self) -> None:
        """Say that the socket may have something; called by the waiter's thread."""
        self._release()

    def sleep(self, seconds: float) -> Wake:
        """Block until woken, readable or ``seconds`` have passed.

        READABLE may be stale: the caller looks at the socket.
        """
        if not self._woken and not self._lock.acquire(timeout=max(0.0, seconds)) and not self._woken:
            return Wake.TIMEOUT
        if self._woken:
            self._woken = False
            self._lock.acquire(blocking=False)
            return Wake.WOKEN
        return Wake.READABLE

    def _release(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it is free already: the session has not slept since the last wake
            pass


class Waiter:
    """The epoll and its thread; the thread starts with the first wait, so a Waiter may be made before a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._epoll: select.epoll | None = None
        self._stop_fd = -1
        self._wakers: dict[int, Waker] = {}
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._known: set[int] = set()

    def wait(self, fd: int, waker: Waker, seconds: float) -> Wake:
        """Block until ``fd`` is readable or at its end, ``waker`` is woken, or ``seconds`` have passed."""
        deadline = time.monotonic() + seconds
        while True:
            self._arm(fd, waker)
            wake = waker.sleep(deadline - time.monotonic())
            if wake is not Wake.READABLE or is_readable(fd):
                return wake
            if time.monotonic() >= deadline:
                return Wake.TIMEOUT

    def forget(self, fd: int) -> None:
        """Stop watching a socket. Call it before the descriptor is closed: its number will be used again."""
        if fd in self._known:
            with self._lock:
                self._known.discard(fd)
                self._wakers.pop(fd, None)
                self._unregister(fd)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the waiter's thread whenever ``fd`` is readable.

        It must read, must not block, must not raise.
        """
        epoll = self._started()
        with self._lock:
            self._callbacks[fd] = callback
        epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """End a `watch`; after the return the callback may be running for a last time, but is not called again."""
        with self._lock:
            if self._callbacks.pop(fd, None) is not None:
                self._unregister(fd)

    def close(self) -> None:
        """End the thread. Sessions still waiting are woken by their sockets' end, not by this."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            os.eventfd_write(self._stop_fd, 1)
        if thread is not threading.current_thread():
            thread.join()
        with self._lock:
            assert self._epoll is not None
            self._epoll.close()
            self._epoll = None
            os.close(self._stop_fd)
            self._known.clear()
            self._callbacks.clear()
            self._wakers.clear()

    def _arm(self, fd: int, waker: Waker) -> None:
        epoll = self._started()
        with self._lock:
            self._wakers[fd] = waker
            if fd in self._known:
                epoll.modify(fd, _INTEREST)
            else:
                epoll.register(fd, _INTEREST)
                self._known.add(fd)

    def _unregister(self, fd: int) -> None:
        if self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except (OSError, ValueError):  # closed already: the kernel has forgotten it
                pass

    def _started(self) -> select.epoll:
        with self._lock:
            if self._epoll is None or self._thread is None:
                self._epoll = select.epoll()
                self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._epoll.register(self._stop_fd, select.EPOLLIN)
                self._thread = threading.Thread(target=self._run, args=(self._epoll,), name="waiter", daemon=True)
                self._thread.start()
            return self._epoll

    def _run(self, epoll: select.epoll) -> None:
        while True:
            for fd, _ in epoll.poll():
                if fd == self._stop_fd:
                    return
                waker = self._wakers.get(fd)
                if waker is not None:
                    waker.mark_readable()
                    continue
                self._call(fd)

    def _call(self, fd: int) -> None:
        callback = self._callbacks.get(fd)
        if callback is None:
            return
        try:
            callback()
        except Exception:
            _log.exception("watch-failed", fd=fd)


def is_readable(fd: int) -> bool:
    """Say whether ``fd`` has octets or is at its end, without waiting."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))
