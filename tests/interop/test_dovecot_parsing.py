"""Our ENVELOPE, BODY, BODYSTRUCTURE and sections against Dovecot's, on the corpus and on what a mutator makes of it.

``FUZZ_N`` is how many mutated messages are compared (200).
"""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Iterator

import pytest

from mailserver.imap.responses.bodystructure import body, bodystructure
from mailserver.imap.responses.envelope import envelope
from mailserver.mail import headers, structure
from mailserver.mail.lines import to_crlf
from tests.interop.dovecot import Dovecot
from tests.messages import corpus, mutated

_COUNT = int(os.environ.get("FUZZ_N", "200"))


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot() as running:
        yield running


class _Client:
    """Enough of an IMAP client to see the very octets of a FETCH."""

    def __init__(self, dovecot: Dovecot) -> None:
        self._socket = socket.create_connection(("127.0.0.1", dovecot.imap_port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self._tag = 0
        self.command("LOGIN user1 pass")

    def command(self, text: str) -> list[bytes]:
        self._tag += 1
        tag = b"t%d " % self._tag
        self._socket.sendall(tag + text.encode() + b"\r\n")
        answer = []
        while True:
            line = self._file.readline()
            assert line, answer[-2:]
            while literal := re.search(rb"\{(\d+)\}\r\n\Z", line):
                line += self._file.read(int(literal[1])) + self._file.readline()
            if line.startswith(tag):
                assert line.startswith(tag + b"OK"), (line, text)
                return answer
            answer.append(line)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def client(dovecot: Dovecot) -> Iterator[_Client]:
    connected = _Client(dovecot)
    yield connected
    connected.close()


def _literal(octets: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(octets), octets.replace(b"\0", b"\x80"))


def _paths(part: structure.Part, before: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    if part.is_multipart:
        for number, child in enumerate(part.children[:6], 1):
            yield (*before, number)
            yield from _paths(child, (*before, number))
    elif part.is_message:
        child = part.children[0]
        if not child.is_multipart:
            yield (*before, 1)
            before = (*before, 1)
        yield from _paths(child, before)


def _expected(message: bytes) -> list[tuple[str, bytes]]:
    root = structure.parse(message)
    header = root.header(message)
    items = [
        ("RFC822.SIZE", b"%d" % len(message)),
        ("ENVELOPE", envelope(header)),
        ("BODY", body(message, root)),
        ("BODYSTRUCTURE", bodystructure(message, root)),
        ("BODY[HEADER]", _literal(header)),
        ("BODY[TEXT]", _literal(root.body(message))),
        ("BODY[HEADER.FIELDS.NOT (TO SUBJECT)]", _literal(headers.fields(header, [b"To", b"Subject"], inverse=True))),
    ]
    if header.endswith(b"\r\n"):  # else Dovecot's own answers vary
        items.append(("BODY[HEADER.FIELDS (TO SUBJECT)]", _literal(headers.fields(header, [b"To", b"Subject"]))))
    for path in sorted({(1,), (1, 1), (2,), *_paths(root)})[:40]:
        number = ".".join(map(str, path))
        part = structure.section(root, path)
        inner = part.children[0] if part and part.is_message else None
        items += [
            (f"BODY[{number}]", _literal(part.body(message) if part else b"")),
            (f"BODY[{number}.MIME]", _literal(part.header(message) if part else b"")),
            (f"BODY[{number}.HEADER]", _literal(inner.header(message) if inner else b"")),
            (f"BODY[{number}.TEXT]", _literal(inner.body(message) if inner else b"")),
        ]
    return items


def _compare(dovecot: Dovecot, client: _Client, folder: str, messages: list[bytes]) -> list[str]:
    dovecot.deliver("user1", messages, folder=f".{folder}")
    client.command(f"SELECT {folder}")
    wrong = []
    for seq, octets in enumerate(messages, 1):
        items = _expected(to_crlf(octets))
        names = " ".join(name.replace("BODY[", "BODY.PEEK[") for name, _ in items)
        (line,) = [each for each in client.command(f"FETCH {seq} ({names})") if b" FETCH (" in each[:20]]
        ours = b"* %d FETCH (" % seq + b" ".join(name.encode() + b" " + value for name, value in items) + b")\r\n"
        line = line.replace(b"FLAGS (\\Recent) ", b"", 1)
        if line != ours:
            at = next((i for i, (a, b) in enumerate(zip(line, ours, strict=False)) if a != b), 0)
            start = max(0, at - 80)
            wrong.append(f"{octets[:2000]!r}\n  Dovecot {line[start : at + 80]!r}\n  ours    {ours[start : at + 80]!r}")
    return wrong


def test_corpus(dovecot: Dovecot, client: _Client) -> None:
    wrong = _compare(dovecot, client, "corpus", corpus())
    assert not wrong, "\n".join(wrong[:5])


def test_mutated(dovecot: Dovecot, client: _Client) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    chance = random.Random(seed)
    base = [octets for octets in corpus() if len(octets) < 30_000]
    for start in range(0, _COUNT, 200):
        messages = [mutated(chance, chance.choice(base)) for _ in range(min(200, _COUNT - start))]
        wrong = [each for each in _compare(dovecot, client, f"m{start}", messages) if not _known(each)]
        assert not wrong, f"seed {seed}\n" + "\n".join(wrong[:5])


def _known(difference: str) -> bool:
    """docs/differences-from-dovecot.md: what is deliberately not alike."""
    dovecot, ours = difference.split("\n")[-2:]
    # BODY by Dovecot's short cut: it says "text" "plain" for TEXT/PLAIN, but only there.
    return dovecot.replace("  Dovecot ", "").lower() == ours.replace("  ours    ", "").lower()


def test_stops() -> None:
    with Dovecot() as running:
        assert (running.mail_root).is_dir()
        port = running.imap_port
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)
