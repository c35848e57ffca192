"""TLS over a socket of ours, non-blocking underneath: the waiting is done here, with a deadline for each step.

OpenSSL must not see the end of the stream when the server stops: it would then refuse to write the goodbye. So the wait
for the client comes before the read, and its end is looked at by the caller's ``stopping``.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable

CHUNK = 65536  # octets given to OpenSSL at once; the deadline is for each chunk, not for a whole message


class Stopping(Exception):
    """``stopping()`` became true while a receive waited."""


class SecureStream:
    """Receive and send over an `ssl.SSLSocket` whose handshake is done. Raises `TimeoutError` and `OSError`."""

    def __init__(self, sock: ssl.SSLSocket, stopping: Callable[[], bool]) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._stopping = stopping
        self._in = select.poll()
        self._in.register(sock.fileno(), select.POLLIN)
        self._out = select.poll()
        self._out.register(sock.fileno(), select.POLLOUT)
        self.pending = sock.pending

    def receive(self, count: int, seconds: float) -> bytes:
        """Return up to ``count`` octets, b"" at the end of the stream."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._sock.recv(count)
            except ssl.SSLWantReadError:
                self._wait(self._in, deadline)
            except ssl.SSLWantWriteError:
                self._wait(self._out, deadline)
            if self._stopping():
                raise Stopping

    def send(self, data: bytes | bytearray | memoryview, seconds: float) -> None:
        """Send all of ``data``; the client may take ``seconds`` for each chunk."""
        if len(data) <= CHUNK:
            self._send(data, seconds)
            return
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            self._send(view[start : start + CHUNK], seconds)

    def _send(self, data: bytes | bytearray | memoryview, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        sent, size = 0, len(data)
        while sent < size:
            try:
                sent += self._sock.send(memoryview(data)[sent:] if sent else data)
            except ssl.SSLWantWriteError:
                self._wait(self._out, deadline)
            except ssl.SSLWantReadError:
                self._wait(self._in, deadline)

    @staticmethod
    def _wait(poll: select.poll, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
