"""Servers to import from that do what real ones do on a bad day. They know what an import asks, and no more."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self


class Lost(Exception):
    """The server hangs up."""


class Peer:
    """A server in threads; ``answer`` of the subclass is what it says to a line."""

    greeting = b""

    def __init__(self) -> None:
        self.said: list[bytes] = []  # by clients
        peer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                peer._talk(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _talk(self, rfile: Any, wfile: Any) -> None:
        wfile.write(self.greeting)
        for line in rfile:
            self.said.append(line.rstrip(b"\r\n"))
            try:
                for piece in self.answer(line.rstrip(b"\r\n")):
                    wfile.write(piece)
            except (Lost, OSError):
                return

    def answer(self, line: bytes) -> Iterator[bytes]:
        """Raises Lost."""
        raise NotImplementedError


class Imap(Peer):
    """One folder, INBOX, with ``messages`` from UID 1 on. ``body`` says what is answered for one of them."""

    greeting = b"* OK hello\r\n"

    def __init__(self, messages: list[bytes], body: Callable[[int, bytes], bytes] | None = None) -> None:
        super().__init__()
        self.messages, self.body = messages, body or self.plain
        self.noise = b""  # is said in the answers to FETCH
        self.largest = 0  # octets of a literal

    def plain(self, uid: int, part: bytes) -> bytes:
        octets, name = self.messages[uid - 1], b"BODY[]"
        if found := re.search(rb"<(\d+)\.(\d+)>", part):
            start, count = int(found[1]), int(found[2])
            octets, name = octets[start : start + count], b"BODY[]<%d>" % start
        self.largest = max(self.largest, len(octets))
        return b"* %d FETCH (UID %d %s {%d}\r\n%s)\r\n" % (uid, uid, name, len(octets), octets)

    def answer(self, line: bytes) -> Iterator[bytes]:
        tag, verb, rest = [*line.split(b" ", 2), b""][:3]
        count = len(self.messages)
        if verb == b"CAPABILITY":
            yield b"* CAPABILITY IMAP4rev1\r\n"
        elif verb == b"LIST":
            yield b'* LIST () "/" INBOX\r\n'
        elif verb == b"STATUS":
            yield b"* STATUS INBOX (MESSAGES %d)\r\n" % count
        elif verb == b"EXAMINE":
            yield b"* %d EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT %d] x\r\n" % (count, count + 1)
        elif rest.startswith(b"FETCH") and b"BODY" in rest:
            found = [self.body(int(uid), rest) for uid in rest.split()[1].split(b",")]
            refused = [each for each in found if each == b"NO"]
            yield from found if not refused else ()
            yield self.noise
            if refused:
                yield tag + b" NO [SERVERBUG] it is broken\r\n"
                return
        elif rest.startswith(b"FETCH"):
            for uid, octets in enumerate(self.messages, 1):
                facts = b'INTERNALDATE " 1-Jan-2020 00:00:0%d +0000" RFC822.SIZE %d' % (uid % 10, len(octets))
                yield b"* %d FETCH (UID %d FLAGS (\\Seen) %s)\r\n" % (uid, uid, facts)
            yield self.noise
        yield tag + b" OK done\r\n"
        if verb == b"LOGOUT":
            raise Lost


class Pop3(Peer):
    """``messages`` by number; ``refused`` ones get -ERR, before ``breaking`` ones the first connections end."""

    greeting = b"+OK hello\r\n"

    def __init__(self, messages: list[bytes], refused: tuple[int, ...] = (), breaking: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.messages, self.refused, self.breaking = messages, refused, list(breaking)

    def answer(self, line: bytes) -> Iterator[bytes]:
        verb, _, word = line.partition(b" ")
        rows: list[bytes] = []
        if verb == b"STAT":
            yield b"+OK %d 1\r\n" % len(self.messages)
            return
        if verb == b"RETR":
            number = int(word)
            if number in self.refused:
                yield b"-ERR it is broken\r\n"
                return
            rows = [b"." + row if row.startswith(b".") else row for row in self.messages[number - 1].splitlines()]
            if number in self.breaking:
                self.breaking.remove(number)
                yield b"+OK\r\n" + rows[0] + b"\r\n"
                raise Lost
        elif verb == b"LIST":
            rows = [b"%d %d" % (n, len(octets)) for n, octets in enumerate(self.messages, 1)]
        elif verb == b"UIDL":
            rows = [b"%d id%d" % (n, hash(octets)) for n, octets in enumerate(self.messages, 1)]
        elif verb == b"CAPA":
            rows = [b"UIDL"]
        yield b"+OK\r\n" + b"".join(row + b"\r\n" for row in rows)
        if verb in (b"RETR", b"LIST", b"UIDL", b"CAPA"):
            yield b".\r\n"
        if verb == b"QUIT":
            raise Lost
