"""Reading what an IMAP server says: octets into values. Knows nothing of the product's own code."""

from __future__ import annotations

import re
import socket
from typing import Any

_TOKEN = re.compile(
    rb'\s*(?:(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.)*)"|\x00(?P<literal>\d+)\x00'
    rb"|(?P<atom>(?:BODY|BINARY)(?:\.PEEK)?\[[^\]]*\](?:<\d+>)?|[^\s()\x00]+))"
)
_LITERAL = re.compile(rb"~?\{(\d+)\}\r\n\Z")
_CODE = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: \[([^\]]*)\])?(?: (.*))?\r\n\Z", re.S)


class Closed(Exception):
    """The connection has ended."""


class Wire:
    """A socket and a buffer; one response at a time, its literals put aside."""

    patience = 60.0  # seconds for an answer

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=self.patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.cut_after = -1  # octets after which the connection fails: for clients on a bad line

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Closed from error

    def _receive(self) -> None:
        if self.cut_after == 0:
            self.close()
            raise Closed
        size = 65536 if self.cut_after < 0 else min(65536, self.cut_after)
        try:
            data = self.socket.recv(size)
        except ConnectionError as error:
            raise Closed from error
        if not data:
            raise Closed
        if self.cut_after > 0:
            self.cut_after -= len(data)
        self._buffer += data

    def readable(self, seconds: float) -> bool:
        """Whether something is there to be read."""
        if self._buffer:
            return True
        self.socket.settimeout(max(seconds, 0.0001))
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK)) or True
        except (TimeoutError, BlockingIOError):
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(self.patience)

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._receive()
        line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
        return line

    def response(self) -> tuple[bytes, list[bytes]]:
        """One response; a literal stands as its number between NULs."""
        whole, literals = b"", []
        while True:
            line = self._line()
            m = _LITERAL.search(line)
            if m is None:
                return whole + line, literals
            whole += line[: m.start()] + b"\0%d\0" % len(literals)
            size = int(m[1])
            while len(self._buffer) < size:
                self._receive()
            literals.append(self._buffer[:size])
            self._buffer = self._buffer[size:]

    def close(self) -> None:
        self.socket.close()


def parse(data: bytes, literals: list[bytes]) -> list[Any]:
    """Values of a response: atoms as str, strings as bytes, lists as lists."""
    stack: list[list[Any]] = [[]]
    position = 0
    while position < len(data.rstrip()):
        m = _TOKEN.match(data, position)
        assert m, f"unreadable: {data!r} at {position}"
        position = m.end()
        if m["open"]:
            stack.append([])
        elif m["close"]:
            done = stack.pop()
            stack[-1].append(done)
        elif m["atom"] is not None:
            stack[-1].append(m["atom"].decode("latin-1"))
        elif m["literal"]:
            stack[-1].append(literals[int(m["literal"])])
        else:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", m["quoted"]))
    assert len(stack) == 1, f"parentheses: {data!r}"
    return stack[0]


def status(data: bytes) -> tuple[str, str, str] | None:
    """A status response after its tag: condition, code, text; None when it is none."""
    m = _CODE.match(data)
    return (m[1].decode(), (m[2] or b"").decode(), (m[3] or b"").decode("latin-1")) if m else None


def numbers(text: str) -> list[int]:
    """``1:3,7`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        a, b = int(first), int(last or first)
        found.extend(range(min(a, b), max(a, b) + 1))
    return found


def number_set(found: list[int]) -> str:
    return ",".join(map(str, found))
