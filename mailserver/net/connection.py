"""One client's connection: octets in and out with deadlines, TLS, and nothing about any protocol.

The connection owns its buffer. (A file made by ``socket.makefile`` is dead after one timeout and keeps octets where
STARTTLS cannot see them.) Deadlines in clear are the kernel's, ``SO_RCVTIMEO`` and ``SO_SNDTIMEO``: a receive is one
system call, where Python's own timeouts make it two. Under TLS they are kept by `mailserver.net.secure`.

One thread uses a connection; only `shut_down` and `abort` may be called by another.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence

from mailserver.net.deflate import DeflateStream
from mailserver.net.secure import SecureStream, Stopping
from mailserver.net.waiter import Waiter, Wake, Waker

RECEIVE = 65536  # octets asked of one system call
FILE_CHUNK = 262144  # octets read from a file at once for TLS
MAX_PARTS = 512  # buffers in one sendmsg; the kernel takes 1024
MAX_SKIPPED = 16 * 1024 * 1024  # octets of one overlong line that are read and thrown away before hanging up
MIN_RATE = 64  # octets per second a client must take to be called slow and not dead

_PREFIX = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(4))
_numbers = itertools.count(1)


class ConnectionLost(Exception):
    """The stream ended, was reset, or a send failed: no answer is possible."""


class ShuttingDown(ConnectionLost):
    """The server stops. Unlike its parent it leaves the way out open: a goodbye can still be sent."""


class TimedOut(Exception):
    """The deadline passed."""


class LineTooLong(Exception):
    """A line exceeded the limit; the rest has been skipped, so the next `Connection.read_line` begins a new line."""


def _new_id() -> str:
    return f"{_PREFIX}{os.getpid() % 1000:03d}-{next(_numbers)}"


def _address(name: object) -> tuple[str, int]:
    if not isinstance(name, tuple):
        return ("unix", 0)
    host, port = str(name[0]), int(name[1])
    return (host.removeprefix("::ffff:") if "." in host else host, port)


class Connection:
    """See the module. ``timeout`` is in seconds and holds for every following receive and send."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        waiter: Waiter | None = None,
        timeout: float = 300.0,
        handshake_timeout: float = 30.0,
    ) -> None:
        self.id = _new_id()
        self._sock = sock
        self._waiter = waiter
        self.peer = _address(_name_of(sock.getpeername))
        self.local = _address(_name_of(sock.getsockname))
        self.is_loopback = self.peer[0] == "unix" or self.peer[0] == "::1" or self.peer[0].startswith("127.")
        self.handshake_timeout = handshake_timeout
        self.tls = False
        self.tls_version: str | None = None
        self.cipher: str | None = None
        self.stopping = False
        self.received = 0  # octets, for the log line at the end
        self.sent = 0
        self.on_authenticated: Callable[[], None] | None = None
        self._data = b""  # received; what stands before _at has been taken
        self._at = 0
        self._login_deadline: float | None = None
        self._lost = False
        self._closed = False
        self._waker: Waker | None = None
        self._secure: SecureStream | None = None
        self._deflate: DeflateStream | None = None
        self._timeout = self._seconds = 0.0
        sock.settimeout(None)
        self.timeout = timeout

    # -- deadlines

    @property
    def timeout(self) -> float:
        """Seconds for every following receive and send."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        if seconds != self._timeout:
            self._timeout = seconds
            self._apply_timeout(seconds)

    def set_login_deadline(self, seconds: float) -> None:
        """From now on the client has ``seconds`` in all to log in, however it spreads its octets; then `TimedOut`."""
        self._login_deadline = time.monotonic() + seconds

    def mark_authenticated(self) -> None:
        """Say that the client has logged in: the deadline of `set_login_deadline` ends, the server's count is told."""
        if self._login_deadline is not None:
            self._login_deadline = None
            self._apply_timeout(self._timeout)
        if self.on_authenticated is not None:
            self.on_authenticated()
            self.on_authenticated = None

    def _apply_timeout(self, seconds: float) -> None:
        self._seconds = seconds = max(seconds, 0.001)
        if self.tls:
            return
        try:
            whole = int(seconds)
            value = struct.pack("ll", whole, int((seconds - whole) * 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        except OSError:  # closed by the other thread: the next receive says so
            pass

    def _before_login(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut
        self._apply_timeout(min(left, self._timeout))

    # -- in

    def receive(self) -> bytes:
        """Return what is buffered, else the octets of one receive (at most 64 KiB).

        Raises `ConnectionLost`, `TimedOut`.
        """
        data, at = self._data, self._at
        if at < len(data):
            self._data, self._at = b"", 0
            return data[at:] if at else data
        return self._receive()

    def read_line(self, limit: int) -> bytes:
        """Return octets up to and including the next LF, as they came.

        Raises `LineTooLong`, `ConnectionLost`, `TimedOut`.
        """
        data, at = self._data, self._at
        end = data.find(b"\n", at) + 1
        if not end:
            if at < len(data):
                return self._read_long_line(limit)
            data, at = self._receive(), 0
            end = data.find(b"\n") + 1
            if not end:
                self._data, self._at = data, 0
                return self._read_long_line(limit)
        if end - at > limit:
            self._data, self._at = data, end
            raise LineTooLong
        if end == len(data):
            self._data, self._at = b"", 0
            return data[at:] if at else data
        self._data, self._at = data, end
        return data[at:end]

    def _read_long_line(self, limit: int) -> bytes:
        """Gather a line that came in pieces; the whole line has one deadline, so that it cannot trickle in for ever."""
        deadline = time.monotonic() + self._timeout
        pieces = [self._data[self._at :]]
        held = skipped = len(pieces[0])
        self._data, self._at = b"", 0
        while True:
            if held > limit:
                pieces.clear()
                held = limit + 1
            if skipped > MAX_SKIPPED:
                raise ConnectionLost("endless line")
            data = self._receive()
            end = data.find(b"\n") + 1
            taken = data[:end] if end else data
            held += len(taken)
            skipped += len(taken)
            if end:
                self._data, self._at = (data, end) if end < len(data) else (b"", 0)
                if held > limit:
                    raise LineTooLong
                pieces.append(taken)
                return b"".join(pieces)
            pieces.append(taken)
            if time.monotonic() > deadline:
                raise TimedOut

    def push_back(self, data: bytes) -> None:
        """Put octets back: the next `receive` or `read_line` gives them again, before all others."""
        if data:
            self._data, self._at = data + self._data[self._at :], 0

    @property
    def buffered(self) -> int:
        """Octets received and not taken yet, those that TLS holds included."""
        held = len(self._data) - self._at
        if self._deflate is not None and self._deflate.pending:
            held += 1  # how many is not known before they are inflated
        return held if self._secure is None else held + self._secure.pending()

    @property
    def has_line(self) -> bool:
        """Whether `read_line` would return without receiving."""
        return self._data.find(b"\n", self._at) >= 0

    def _receive(self) -> bytes:
        return self._receive_raw() if self._deflate is None else self._receive_inflated(self._deflate)

    def _receive_inflated(self, deflate: DeflateStream) -> bytes:
        try:
            while True:
                if not deflate.pending:
                    deflate.feed(self._receive_raw())
                data = deflate.inflate(RECEIVE)
                if data:
                    return data
        except ValueError as error:
            self._lost = True
            raise ConnectionLost(str(error)) from None

    def _receive_raw(self) -> bytes:
        if self.stopping:
            raise ShuttingDown
        if self._login_deadline is not None:
            self._before_login(self._login_deadline)
        try:
            data = self._sock.recv(RECEIVE) if self._secure is None else self._secure.receive(RECEIVE, self._seconds)
        except Stopping:
            raise ShuttingDown from None
        except (BlockingIOError, TimeoutError):  # from the kernel's deadline, from Python's
            if self.stopping:
                raise ShuttingDown from None
            raise TimedOut from None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; ValueError: TLS ended
            if self.stopping:
                raise ShuttingDown from None
            self._lost = True
            raise ConnectionLost(str(error)) from None
        if not data:
            if self.stopping:
                raise ShuttingDown
            self._lost = True
            raise ConnectionLost("end of stream")
        self.received += len(data)
        return data

    def acknowledge(self) -> None:
        """Acknowledge what came at once: a peer that sends small pieces holds the next one back until then."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            pass  # a Unix socket, or the peer is gone: the next receive will tell

    # -- out

    def send(self, data: bytes | bytearray | memoryview, *, more: bool = False) -> None:
        """Send all of ``data``. ``more``: further octets follow at once, they may share a packet."""
        if self._deflate is not None:
            data = self._deflate.deflate(data, more=more)
        size = len(data)
        try:
            if self._secure is not None:
                self._secure.send(data, self._seconds)
            else:
                count = self._sock.send(data, socket.MSG_MORE if more else 0)
                if count != size:
                    self._send_rest(memoryview(data)[count:])
        except (BlockingIOError, TimeoutError):
            self._lost = True
            raise TimedOut from None
        except (OSError, ValueError) as error:
            self._lost = True
            raise ConnectionLost(str(error)) from None
        self.sent += size

    def send_many(self, parts: Sequence[bytes]) -> None:
        """Send all ``parts`` as if joined: one system call where possible."""
        if len(parts) > MAX_PARTS or self.tls or self._deflate is not None:
            self.send(b"".join(parts))
            return
        if not parts:
            return
        size = sum(map(len, parts))
        try:
            count = self._sock.sendmsg(parts)
            if count != size:
                self._send_rest(memoryview(b"".join(parts))[count:])
        except (BlockingIOError, TimeoutError):
            self._lost = True
            raise TimedOut from None
        except OSError as error:
            self._lost = True
            raise ConnectionLost(str(error)) from None
        self.sent += size

    def send_file(self, fd: int, offset: int, count: int) -> None:
        """Send ``count`` octets of an open file from ``offset``.

        A file that is shorter loses the connection: the size was promised.
        """
        if self.tls or self._deflate is not None:
            self._send_file_read(fd, offset, count)
            return
        end = offset + count
        try:
            while offset < end:
                before = time.monotonic()
                sent = os.sendfile(self._sock.fileno(), fd, offset, end - offset)
                if not sent:
                    raise OSError("file is shorter than promised")
                offset += sent
                self.sent += sent
                if offset < end:
                    self._check_pace(sent, before)
        except (BlockingIOError, TimeoutError):
            self._lost = True
            raise TimedOut from None
        except OSError as error:
            self._lost = True
            raise ConnectionLost(str(error)) from None

    def _send_file_read(self, fd: int, offset: int, count: int) -> None:
        end = offset + count
        while offset < end:
            data = os.pread(fd, min(FILE_CHUNK, end - offset), offset)
            if not data:
                self._lost = True
                raise ConnectionLost("file is shorter than promised")
            self.send(data)
            offset += len(data)

    def _send_rest(self, view: memoryview) -> None:
        """Go on after a partial send: the kernel's deadline passed, yet the client had taken something."""
        while view:
            before = time.monotonic()
            count = self._sock.send(view)
            view = view[count:]
            if view:
                self._check_pace(count, before)

    def _check_pace(self, count: int, since: float) -> None:
        seconds = time.monotonic() - since
        if seconds > 1 and count < MIN_RATE * seconds:
            raise TimeoutError

    # -- TLS

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the handshake as server.

        Octets that came in clear behind the command are never obeyed: if there are any, hang up.

        RFC 3207 section 6, RFC 2595 section 2.1, RFC 9051 section 11.1. Raises `ConnectionLost`, `TimedOut`.
        """
        if self.buffered:
            raise ConnectionLost("octets in clear behind STARTTLS")
        limit = self.handshake_timeout
        if self._login_deadline is not None:
            limit = min(limit, max(0.001, self._login_deadline - time.monotonic()))
        try:
            wrapped = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
            self._sock = wrapped
            self.tls = True
            wrapped.settimeout(limit)
            wrapped.do_handshake()
            self._secure = SecureStream(wrapped, lambda: self.stopping)
        except TimeoutError:
            self._lost = True
            raise TimedOut from None
        except (OSError, ValueError) as error:
            self._lost = True
            raise ConnectionLost(f"TLS handshake: {_reason(error)}") from None
        self.tls_version = wrapped.version()
        cipher = wrapped.cipher()
        self.cipher = cipher[0] if cipher else None

    def start_compression(self) -> None:
        """From here on all octets are deflated, both ways; the answer to the command must have been sent.

        RFC 4978 section 3.
        """
        self._deflate = DeflateStream(self._data[self._at :])
        self._data, self._at = b"", 0

    @property
    def compressed(self) -> bool:
        """Whether `start_compression` was called."""
        return self._deflate is not None

    # -- waiting and the end

    def wait(self, seconds: float, waker: Waker) -> Wake:
        """Wait until the client says something (or is gone:

        READABLE too), ``waker`` is woken, or ``seconds`` have passed.
        """
        if self.buffered or self.stopping:
            return Wake.READABLE
        if self._waiter is None:
            raise RuntimeError("this connection was made without a waiter")
        self._waker = waker
        try:
            return self._waiter.wait(self._sock.fileno(), waker, seconds)
        finally:
            self._waker = None

    def shut_down(self) -> None:
        """Called by another thread when the server stops: a blocked or the next receive raises `ShuttingDown`; sending
        goes on.
        """
        self.stopping = True
        self._shut(socket.SHUT_RD)
        waker = self._waker
        if waker is not None:
            waker.mark_readable()

    def abort(self) -> None:
        """Called by another thread: nothing more goes in or out."""
        self.stopping = True
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; what was sent still arrives. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._waiter is not None:
            self._waiter.forget(self._sock.fileno())
        if not self._lost:
            self._say_goodbye()
        self._sock.close()

    def _say_goodbye(self) -> None:
        try:
            self._sock.settimeout(0)
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.unwrap()
        except (OSError, ValueError):  # the client's close_notify is not waited for
            pass
        self._shut(socket.SHUT_WR)
        try:  # unread octets would make the kernel send RST, which takes the last answer away from the client
            for _ in range(8):
                if not socket.socket.recv(self._sock, RECEIVE, socket.MSG_DONTWAIT):
                    break
        except OSError:
            pass

    def _shut(self, how: int) -> None:
        try:
            socket.socket.shutdown(
                self._sock, how
            )  # not SSLSocket's, which would forget its TLS state under the other thread
        except OSError:  # gone already
            pass

    @property
    def lost(self) -> bool:
        """Whether an earlier receive or send found the client gone."""
        return self._lost


def _name_of(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except OSError:  # the client left before we looked
        return ("unknown", 0)


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__
