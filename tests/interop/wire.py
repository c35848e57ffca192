"""An IMAP client that shows the very octets of the answers, for comparing servers."""

from __future__ import annotations

import re
import socket
from types import TracebackType

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class Wire:
    """A connection to an IMAP server, logged in. ``port`` is one of 127.0.0.1."""

    def __init__(self, port: int, user: str, password: str, timeout: float = 60) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._file = self._socket.makefile("rb")
        self._tag = 0
        self.completion = b""  # the tagged answer to the last command, without its tag
        assert self._file.readline().startswith(b"* OK")
        self(f"LOGIN {user} {password}")

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def __call__(self, command: str | bytes, *, fails: bool = False) -> list[bytes]:
        """Send a command; return the untagged lines, literals within them. ``{N+}`` literals may stand in it."""
        octets = command.encode() if isinstance(command, str) else command
        self._tag += 1
        tag = b"t%d " % self._tag
        self._socket.sendall(tag + octets + b"\r\n")
        lines = []
        while True:
            line = self.line()
            if line.startswith(tag):
                self.completion = line[len(tag) :].rstrip()
                assert fails or self.completion.startswith(b"OK"), (octets, line)
                return lines
            lines.append(line)

    def line(self) -> bytes:
        """The next line, with its literals."""
        line: bytes = self._file.readline()
        assert line, "the server hung up"
        while literal := _LITERAL.search(line):
            line += self._file.read(int(literal[1])) + self._file.readline()
        return line

    def numbers(self, command: str | bytes) -> list[int] | None:
        """The numbers that SEARCH or SORT answers with; None when it is refused."""
        lines = self(command, fails=True)
        if not self.completion.startswith(b"OK"):
            return None
        found = [line.split()[2:] for line in lines if line.startswith((b"* SEARCH", b"* SORT"))]
        return [int(word) for words in found for word in words]

    def append(self, mailbox: str, octets: bytes, arguments: str = "") -> bytes:
        """APPEND; return the response code's text."""
        self(
            b"APPEND %s %s{%d+}\r\n%s"
            % (mailbox.encode(), (arguments and arguments + " ").encode(), len(octets), octets)
        )
        return self.completion


def fetched(lines: list[bytes]) -> dict[int, bytes]:
    """Of the FETCH responses: what stands behind the sequence number."""
    found = {}
    for line in lines:
        if match := re.match(rb"\* (\d+) FETCH ", line):
            found[int(match[1])] = line[match.end() :]
    return found
